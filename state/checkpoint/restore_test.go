package checkpoint

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

// two uploads checkpoints of a store at two positions, and returns them.
func two(t *testing.T, repo *Repository, first, second int) (older, newer *Entry) {
	t.Helper()
	fs := vfs.NewMem()
	s := openSource(t, fs, "state/3")
	defer s.store.Close()
	w := repo.NewWriter(testPartition, "worker", "", fs)
	for _, to := range []int{first, second} {
		s.fold(to)
		if _, err := w.Upload(t.Context(), s.link()); err != nil {
			t.Fatal(err)
		}
		older, newer = newer, find(t, repo, within)
	}
	if older.Position.Offset != int64(first) || newer.Position.Offset != int64(second) {
		t.Fatalf("%v, %v", older, newer)
	}
	return older, newer
}

// A crash at any operation on a file while a checkpoint is put in the place of nothing, or of an older state, leaves no directory, or all of one
// of them.
func TestRestoreEndsAnywhere(t *testing.T) {
	repo := NewRepository(newMemory(), testScope)
	older, newer := two(t, repo, 6, 9)
	copied := func(disk vfs.FS) error {
		c, err := repo.Copy(t.Context(), newer, "state/3", disk, Filling{})
		if err != nil {
			return err
		}
		return errors.Join(c.Swap(), c.Close())
	}
	restored := func(disk vfs.FS) error { return repo.Restore(t.Context(), newer, "state/3", disk, nil) }
	for _, test := range []struct {
		name  string
		first *Entry
		do    func(vfs.FS) error
	}{
		{"restore", nil, restored}, {"restore in the place of an older one", older, restored},
		{"copy", nil, copied}, {"copy in the place of an older one", older, copied},
	} {
		t.Run(test.name, func(t *testing.T) {
			found := map[int]int{}
			crashes := crashAtEach(t, func(disk vfs.FS) error {
				if test.first != nil {
					if err := repo.Restore(t.Context(), test.first, "state/3", disk, nil); err != nil {
						return err
					}
				}
				return test.do(disk)
			}, func(disk *vfs.MemFS) {
				if err := RemoveLeftovers("state", disk); err != nil {
					t.Fatal(err)
				}
				if names, err := disk.List("state"); err == nil && len(names) > 0 {
					if !slices.Equal(names, []string{"3"}) {
						t.Fatalf("%v was left", names)
					}
					found[checkRestored(t, disk, "state/3")]++
				} else {
					found[0]++
				}
				if err := test.do(disk); err != nil {
					t.Fatal(err)
				}
				if at := checkRestored(t, disk, "state/3"); at != 9 {
					t.Fatalf("at %d afterwards", at)
				}
				if names, err := disk.List("state"); err != nil || !slices.Equal(names, []string{"3"}) {
					t.Fatalf("%v, %v is there afterwards", names, err)
				}
			})
			if crashes < 10 || found[9] == 0 || found[0] == 0 || test.first != nil && found[6] == 0 || found[0]+found[6]+found[9] != crashes {
				t.Errorf("of %d crashes so many left a store at each position: %v", crashes, found)
			}
		})
	}
}

// What is there is not fetched: each table that has the right checksum, and no other file.
func TestWhatIsThereIsNotFetched(t *testing.T) {
	store := newMemory()
	repo := NewRepository(store, testScope)
	older, newer := two(t, repo, 60, 80)
	var (
		mu  sync.Mutex
		got []string
	)
	store.before = func(_ context.Context, op, name string) error {
		mu.Lock()
		defer mu.Unlock()
		if op == "get" {
			got = append(got, name[strings.LastIndex(name, "/")+1:])
		}
		return nil
	}
	// expect compares what was fetched with what is to be, of the files in the newer checkpoint, beside those that are no tables.
	expect := func(what string, fetched func(f *File) bool) {
		t.Helper()
		var want []string
		for i := range newer.Manifest.Files {
			if f := &newer.Manifest.Files[i]; f.Object != "" && (fetched(f) || !tableFile.MatchString(f.Name)) {
				want = append(want, f.Object)
			}
		}
		slices.Sort(want)
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("%s: fetched %v, expected %v", what, got, want)
		}
		got = nil
	}
	isNew := func(f *File) bool {
		return !slices.ContainsFunc(older.Manifest.Files, func(o File) bool { return o.Name == f.Name && o.SHA256 == f.SHA256 })
	}
	shared := 0
	for i := range newer.Manifest.Files {
		if f := &newer.Manifest.Files[i]; tableFile.MatchString(f.Name) && !isNew(f) {
			shared++
		}
	}
	if shared < 2 {
		t.Fatalf("the checkpoints share %d tables: the test tests little", shared)
	}
	disk := vfs.NewMem()
	var reads int
	counting := errorfs.Wrap(disk, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if (op.Kind == errorfs.OpFileRead || op.Kind == errorfs.OpFileReadAt) && tableFile.MatchString(op.Path) {
			mu.Lock()
			defer mu.Unlock()
			reads++
		}
		return nil
	}))
	copyOver := func(checked *Checked) (kept int64) {
		t.Helper()
		var done Progress
		reads = 0
		c, err := repo.Copy(t.Context(), newer, "state/3", counting, Filling{Checked: checked, Done: &done, Parallel: 1})
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(c.Swap(), c.Close()); err != nil {
			t.Fatal(err)
		}
		if done.Kept()+done.Fetched() != newer.Manifest.Bytes() {
			t.Errorf("progress ended at %d and %d bytes of %d", done.Kept(), done.Fetched(), newer.Manifest.Bytes())
		}
		tables := reads
		if at := checkRestored(t, disk, "state/3"); at != 80 {
			t.Errorf("at %d", at)
		}
		reads = tables
		return done.Kept()
	}
	again := func() {
		t.Helper()
		if err := disk.RemoveAll("state/3"); err != nil {
			t.Fatal(err)
		}
		if err := repo.Restore(t.Context(), older, "state/3", disk, nil); err != nil {
			t.Fatal(err)
		}
		got = nil
	}

	again()
	if err := repo.Restore(t.Context(), newer, "state/3", disk, nil); err != nil {
		t.Fatal(err)
	}
	expect("restore over an older one", isNew)
	again()
	var checked Checked
	if copyOver(&checked) == 0 || reads == 0 {
		t.Errorf("nothing was kept, or %d reads of tables", reads)
	}
	expect("copy over an older one", isNew)
	copyOver(&checked)
	expect("copy over itself", func(*File) bool { return false })
	if reads != 0 {
		t.Errorf("tables that are known were read %d times", reads)
	}

	// One byte is not what it was, or a file is cut.
	for _, checked := range []*Checked{&checked, nil} {
		for what, damage := range map[string]func(content []byte) []byte{
			"a byte": func(c []byte) []byte { c[len(c)/2] ^= 1; return c },
			"cut":    func(c []byte) []byte { return c[:len(c)-1] },
		} {
			damaged := alterTable(t, disk, "state/3", damage)
			copyOver(checked)
			expect(what, func(f *File) bool { return f.Name == damaged })
		}
	}
}

// alterTable alters the first table of a store, and returns its name.
func alterTable(t *testing.T, disk vfs.FS, dir string, alter func(content []byte) []byte) string {
	t.Helper()
	names, err := disk.List(dir)
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(names)
	for _, name := range names {
		if !tableFile.MatchString(name) {
			continue
		}
		path := disk.PathJoin(dir, name)
		f, err := disk.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(f)
		if err := errors.Join(err, f.Close()); err != nil {
			t.Fatal(err)
		}
		if f, err = disk.Create(path, vfs.WriteCategoryUnspecified); err != nil {
			t.Fatal(err)
		}
		_, err = f.Write(alter(bytes.Clone(content)))
		if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
			t.Fatal(err)
		}
		return name
	}
	t.Fatalf("no table in %v", names)
	return ""
}

// A copy that cannot be made, for want of room or of the store, leaves all as it was.
func TestCopyFails(t *testing.T) {
	repo := NewRepository(newMemory(), testScope)
	older, newer := two(t, repo, 60, 80)
	disk := vfs.NewMem()
	if err := repo.Restore(t.Context(), older, "state/3", disk, nil); err != nil {
		t.Fatal(err)
	}
	full := errors.New("there is no room")
	var asked int64
	_, err := repo.Copy(t.Context(), newer, "state/3", disk, Filling{Room: func(bytes int64) error { asked = bytes; return full }})
	if !errors.Is(err, full) || asked <= 0 || asked >= newer.Manifest.Bytes() {
		t.Errorf("asked for %d bytes: %v", asked, err)
	}
	down := errors.New("the store is down")
	_, err = repo.Copy(t.Context(), newer, "state/3", disk, Filling{Before: func(context.Context) error { return down }})
	if !errors.Is(err, down) {
		t.Error(err)
	}
	if names, err := disk.List("state"); err != nil || !slices.Equal(names, []string{"3"}) {
		t.Errorf("%v, %v is left", names, err)
	}
	if at := checkRestored(t, disk, "state/3"); at != 60 {
		t.Errorf("at %d", at)
	}
}

// A copy that is given up while another one of the same directory is made, by who has become its owner, leaves the other alone.
func TestCopiesAtOnce(t *testing.T) {
	repo := NewRepository(newMemory(), testScope)
	older, newer := two(t, repo, 60, 80)
	disk := vfs.NewMem()
	if err := repo.Restore(t.Context(), older, "state/3", disk, nil); err != nil {
		t.Fatal(err)
	}
	taken := errors.New("another one has the partition")
	var other *Copy
	_, err := repo.Copy(t.Context(), newer, "state/3", disk, Filling{Before: func(ctx context.Context) (err error) {
		if other == nil {
			if other, err = repo.Copy(ctx, newer, "state/3", disk, Filling{}); err != nil {
				t.Error(err)
			}
		}
		return taken
	}})
	if !errors.Is(err, taken) {
		t.Fatal(err)
	}
	if err := other.Swap(); err != nil {
		t.Fatal(err)
	}
	if err := other.Close(); err != nil {
		t.Fatal(err)
	}
	if at := checkRestored(t, disk, "state/3"); at != 80 {
		t.Errorf("at %d", at)
	}
}
