package checkpoint

import (
	"slices"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// age makes all objects older.
func (m *memory) age(by time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for name, o := range m.objects {
		o.modified = o.modified.Add(-by)
		m.objects[name] = o
	}
}

// A group is set back to a savepoint. Checkpoints made before with greater positions neither take the place of those made after, nor are they
// what the next is built on, nor the newest. Once the group has come past them they are removed.
func TestSweepAfterSetBack(t *testing.T) {
	const keep = 2
	store := newMemory()
	repo := NewRepository(store, testScope)
	var (
		s *source
		w *Writer
	)
	restart := func(from *Entry) {
		fs := vfs.NewMem()
		if from != nil {
			if err := repo.Restore(t.Context(), from, "state/3", fs, nil); err != nil {
				t.Fatal(err)
			}
		}
		s = openSource(t, fs, "state/3")
		w = repo.NewWriter(testPartition, "worker", "", fs)
	}
	upload := func(to int) Result {
		t.Helper()
		s.fold(to)
		result, err := w.Upload(t.Context(), s.link())
		if err != nil {
			t.Fatal(err)
		}
		store.age(time.Minute)
		if _, err := repo.Sweep(t.Context(), testPartition, keep); err != nil {
			t.Fatal(err)
		}
		return result
	}
	expect := func(positions ...int64) {
		t.Helper()
		all, err := repo.List(t.Context(), testPartition)
		if err != nil {
			t.Fatal(err)
		}
		var found []int64
		for _, e := range all {
			if e.Savepoint == "" && e.Err == nil {
				found = append(found, e.Position.Offset)
			}
		}
		if !slices.Equal(found, positions) {
			t.Fatalf("there are checkpoints at %v, expected %v", found, positions)
		}
	}
	restart(nil)
	whole := upload(100)
	before, _, err := repo.Save(t.Context(), testPartition, "before")
	if err != nil {
		t.Fatal(err)
	}
	for _, to := range []int{200, 210, 220} {
		upload(to)
		store.age(2 * grace)
	}
	expect(220, 210)
	s.store.Close()

	restart(before)
	first := upload(101)
	if r := upload(102); r.NewBytes >= whole.NewBytes/2 {
		t.Errorf("the second uploaded %d bytes, and the first %d; it shares nothing with that before it", r.NewBytes, first.NewBytes)
	}
	// With some more tables Pebble may compact all, so that all is uploaded.
	upload(103)
	upload(104)
	expect(220, 210, 104, 103, 102, 101)
	all, err := repo.List(t.Context(), testPartition)
	if err != nil {
		t.Fatal(err)
	}
	if e := Newest(all); e == nil || e.Position.Offset != 104 {
		t.Errorf("the newest is %v", e)
	}
	current := Current(all)
	if len(current) != 2 || current[0].Position.Offset != 104 || current[1].Savepoint != "before" {
		t.Errorf("current are %v, expected the newest and the savepoint", current)
	}
	if e, _, err := repo.Save(t.Context(), testPartition, "after"); err != nil || e.Position.Offset != 104 {
		t.Errorf("the savepoint is %v, %v", e, err)
	}
	for _, e := range all {
		if e.Position.Offset == 104 || e.Position.Offset == 220 {
			if err := repo.Delete(t.Context(), testPartition, e.Name); err == nil {
				t.Errorf("%v is deleted", e)
			}
		}
	}

	upload(230)
	upload(240)
	store.age(2 * grace)
	upload(250)
	expect(250, 240)
	s.store.Close()
}
