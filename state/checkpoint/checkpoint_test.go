package checkpoint

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"cassdelta/state"
)

var within = Bounds{To: state.Position{Offset: 1 << 40}}

// find is the checkpoint that a worker would take.
func find(t testing.TB, r *Repository, b Bounds) *Entry {
	t.Helper()
	e, err := r.Find(t.Context(), testPartition, b, func(e *Entry) { t.Logf("skipped: %v: %v", e, e.Err) })
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func restore(t testing.TB, r *Repository, e *Entry) int {
	t.Helper()
	fs := vfs.NewMem()
	var done Progress
	if err := r.Restore(t.Context(), e, "state/3", fs, &done); err != nil {
		t.Fatal(err)
	}
	if done.Fetched() != e.Manifest.Bytes() || done.Kept() != 0 {
		t.Errorf("progress ended at %d bytes of %d, and %d that were there", done.Fetched(), e.Manifest.Bytes(), done.Kept())
	}
	return checkRestored(t, fs, "state/3")
}

func TestCheckpoint(t *testing.T) {
	store := newMemory()
	repo := NewRepository(store, testScope)
	fs := vfs.NewMem()
	s := openSource(t, fs, "state/3")
	defer s.store.Close()
	w := repo.NewWriter(testPartition, "worker", "cluster", fs)

	if _, err := w.Upload(t.Context(), s.link()); !errors.Is(err, ErrEmpty) {
		t.Fatalf("a checkpoint of an empty store: %v", err)
	}
	if e := find(t, repo, within); e != nil {
		t.Fatalf("found %v", e)
	}
	s.fold(100)
	first, err := w.Upload(t.Context(), s.link())
	if err != nil {
		t.Fatal(err)
	}
	if first.NewFiles == 0 || first.NewBytes < 1<<20 || first.Position.Offset != 100 {
		t.Errorf("the first checkpoint: %+v", first)
	}
	again, err := w.Upload(t.Context(), s.link())
	if err != nil || !again.Unchanged || again.Name != first.Name {
		t.Errorf("a second one at the same position: %+v, %v", again, err)
	}

	// What is folded goes to a part of the keys. Files that are the same are not put again, not by another worker either.
	s.fold(110)
	puts := store.puts
	second, err := w.Upload(t.Context(), s.link())
	if err != nil {
		t.Fatal(err)
	}
	if second.NewBytes >= first.NewBytes/2 || store.puts-puts != second.NewFiles+1 {
		t.Errorf("the second checkpoint: %+v, in %d puts", second, store.puts-puts)
	}
	heirFS := vfs.NewMem()
	if err := repo.Restore(t.Context(), find(t, repo, within), "state/3", heirFS, nil); err != nil {
		t.Fatal(err)
	}
	heir := openSource(t, heirFS, "state/3")
	defer heir.store.Close()
	heir.fold(111)
	third, err := repo.NewWriter(testPartition, "heir", "cluster", heirFS).Upload(t.Context(), heir.link())
	if err != nil || third.NewBytes >= first.NewBytes/2 {
		t.Errorf("the first of another worker: %+v, %v", third, err)
	}

	for _, c := range []struct {
		from, to int64
		want     int
	}{{0, 99, 0}, {0, 100, 100}, {0, 109, 100}, {0, 110, 110}, {101, 110, 110}, {0, 1 << 30, 111}, {112, 1 << 30, 0}} {
		b := within
		b.From, b.To.Offset = c.from, c.to
		e := find(t, repo, b)
		if e == nil || c.want == 0 {
			if (e == nil) != (c.want == 0) {
				t.Errorf("from %d to %d: found %v, expected %d", c.from, c.to, e, c.want)
			}
			continue
		}
		if got := restore(t, repo, e); got != c.want {
			t.Errorf("from %d to %d: restored at %d, expected %d", c.from, c.to, got, c.want)
		}
		if err := repo.Verify(t.Context(), e, nil); err != nil {
			t.Error(err)
		}
	}
	other := within
	other.Fits = func(m *Manifest) error {
		if m.Epoch != "first" {
			t.Errorf("the epoch is %q", m.Epoch)
		}
		return errors.New("it is of another epoch")
	}
	if e := find(t, repo, other); e != nil {
		t.Errorf("another epoch: found %v", e)
	}
	scope := testScope
	scope.Group = "another"
	if e := find(t, NewRepository(store, scope), within); e != nil {
		t.Errorf("another group: found %v", e)
	}
}

// Each byte of a checkpoint that is altered, and each object that is missing or cut, is noticed: by Restore and Verify, or already when it is
// looked for. An older one is taken then.
func TestDamage(t *testing.T) {
	store := newMemory()
	repo := NewRepository(store, testScope)
	fs := vfs.NewMem()
	s := openSource(t, fs, "state/3")
	defer s.store.Close()
	w := repo.NewWriter(testPartition, "worker", "", fs)
	s.fold(20)
	if _, err := w.Upload(t.Context(), s.link()); err != nil {
		t.Fatal(err)
	}
	older := store.named("")
	s.fold(40)
	if _, err := w.Upload(t.Context(), s.link()); err != nil {
		t.Fatal(err)
	}
	damage := map[string]func(content []byte) []byte{
		"gone":    func([]byte) []byte { return nil },
		"cut":     func(c []byte) []byte { return c[:len(c)-1] },
		"altered": func(c []byte) []byte { c = bytes.Clone(c); c[len(c)/2] ^= 1; return c },
		"start":   func(c []byte) []byte { c = bytes.Clone(c); c[0] ^= 1; return c },
		"end":     func(c []byte) []byte { c = bytes.Clone(c); c[len(c)-2] ^= 1; return c },
	}
	tried := 0
	for _, name := range store.named("") {
		if slices.Contains(older, name) {
			continue
		}
		for what, alter := range damage {
			whole := store.objects[name]
			if content := alter(whole.content); content == nil {
				delete(store.objects, name)
			} else {
				store.objects[name] = object{content, whole.modified}
			}
			tried++
			e := find(t, repo, within)
			if e == nil {
				t.Fatalf("%s of %s: nothing was found", what, name)
			}
			if e.Position.Offset == 40 {
				if err := repo.Verify(t.Context(), e, nil); !errors.Is(err, ErrUnusable) {
					t.Errorf("%s of %s: verified: %v", what, name, err)
				}
				fs := vfs.NewMem()
				if err := repo.Restore(t.Context(), e, "state/3", fs, nil); !errors.Is(err, ErrUnusable) {
					t.Errorf("%s of %s: restored: %v", what, name, err)
				}
				if names, err := fs.List("state"); err == nil && len(names) > 0 {
					t.Errorf("%s of %s: %v was left", what, name, names)
				}
			} else if restore(t, repo, e) != 20 {
				t.Errorf("%s of %s: restored %v", what, name, e)
			}
			store.objects[name] = whole
		}
	}
	if tried < 2*len(damage) {
		t.Errorf("%d cases: the test tests little", tried)
	}
}

// An upload that fails or whose process ends at any operation of the store leaves the checkpoints before it, and none that is
// not whole; the next one succeeds.
func TestUploadEndsAnywhere(t *testing.T) {
	fs := vfs.NewMem()
	s := openSource(t, fs, "state/3")
	defer s.store.Close()
	s.fold(20)
	before := s.link()
	s.fold(60)
	now := s.link()
	lost := errors.New("lost")
	ended, whole := 0, 0
	for _, done := range []bool{false, true} { // whether the operation that fails is done in spite of that
		for _, process := range []bool{false, true} { // whether the process ends
			for at := 1; ; at++ {
				store := newMemory()
				repo := NewRepository(store, testScope)
				w := repo.NewWriter(testPartition, "worker", "", fs)
				if _, err := w.Upload(t.Context(), before); err != nil {
					t.Fatal(err)
				}
				var operations atomic.Int64
				fail := func(context.Context, string, string) error {
					if n := int(operations.Add(1)); n == at || process && n > at {
						return lost
					}
					return nil
				}
				hook := &store.before
				if done {
					hook = &store.after
				}
				none := *hook
				*hook = fail
				_, err := w.Upload(t.Context(), now)
				*hook = none
				if err == nil {
					break
				}
				if !errors.Is(err, lost) {
					t.Fatal(err)
				}
				ended++
				e := find(t, repo, within)
				if got := restore(t, repo, e); got == 60 {
					whole++ // the manifest was put, and the answer was lost
				} else if got != 20 {
					t.Fatalf("restored at %d", got)
				}
				puts := store.puts
				if process {
					w = repo.NewWriter(testPartition, "heir", "", fs)
				}
				result, err := w.Upload(t.Context(), now)
				if err != nil {
					t.Fatal(err)
				}
				if !process && store.puts-puts != result.NewFiles && store.puts-puts != result.NewFiles+1 {
					t.Errorf("%d puts for %+v", store.puts-puts, result)
				}
				if got := restore(t, repo, find(t, repo, within)); got != 60 {
					t.Fatalf("restored at %d", got)
				}
			}
		}
	}
	if ended < 10 || whole == 0 {
		t.Errorf("%d ended, %d of them with a manifest: the test tests little", ended, whole)
	}
}

func TestSavepoints(t *testing.T) {
	store := newMemory()
	repo := NewRepository(store, testScope)
	fs := vfs.NewMem()
	s := openSource(t, fs, "state/3")
	defer s.store.Close()
	w := repo.NewWriter(testPartition, "worker", "", fs)
	if _, _, err := repo.Save(t.Context(), testPartition, "v1"); !errors.Is(err, ErrNoCheckpoint) {
		t.Errorf("a savepoint of nothing: %v", err)
	}
	s.fold(20)
	if _, err := w.Upload(t.Context(), s.link()); err != nil {
		t.Fatal(err)
	}
	for _, there := range []bool{false, true} {
		e, was, err := repo.Save(t.Context(), testPartition, "v1")
		if err != nil || e.Position.Offset != 20 || was != there {
			t.Fatalf("%v, it was there %v, %v", e, was, err)
		}
		s.fold(40)
		if _, err := w.Upload(t.Context(), s.link()); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"", "../v1", "a/b", ".", "a b", strings.Repeat("a", 101)} {
		if _, _, err := repo.Save(t.Context(), testPartition, name); err == nil {
			t.Errorf("a savepoint of the name %q", name)
		}
	}
	// One whose checkpoint is gone is taken as well.
	for _, name := range store.named("checkpoints/") {
		delete(store.objects, name)
	}
	e := find(t, repo, within)
	if e == nil || e.Savepoint != "v1" || restore(t, repo, e) != 20 {
		t.Errorf("found %v", e)
	}
	for _, there := range []bool{true, false} {
		if was, err := repo.Forget(t.Context(), testPartition, "v1"); err != nil || was != there {
			t.Fatalf("it was there: %v, %v, expected %v", was, err, there)
		}
	}
	if e := find(t, repo, within); e != nil {
		t.Errorf("found %v", e)
	}
}

func TestGroupNames(t *testing.T) {
	seen := map[string]string{}
	for _, group := range []string{"a", "a/b", "a=2Fb", "..", ".", "a b", "ä", "", "a-b_c.d"} {
		name := escape(group)
		if was, twice := seen[name]; twice {
			t.Errorf("%q and %q are both %q", was, group, name)
		}
		seen[name] = group
		if strings.ContainsAny(name, "/ ") || name == "." || name == ".." {
			t.Errorf("%q is %q", group, name)
		}
	}
	if got := fmt.Sprint(NewRepository(newMemory(), testScope)); !strings.Contains(got, "the=20group/raw-01") {
		t.Error(got)
	}
}
