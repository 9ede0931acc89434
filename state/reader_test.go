package state

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"strings"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// A store of which nothing was written since it was opened has a copy as any other: of what the process before it left.
func TestLinkOfAStoreOpenedAgain(t *testing.T) {
	c := &crashTest{r: rand.New(rand.NewPCG(1, 0)), model: []map[string]string{{}}}
	fs := vfs.NewMem()
	for at := range 3 {
		s, err := Open(crashDir, testIdentity, Options{FS: fs})
		if err != nil {
			t.Fatal(err)
		}
		dir := fmt.Sprintf("links/%d", at)
		if err := s.Link(dir); err != nil {
			t.Fatal(err)
		}
		r, err := OpenReader(dir, Options{FS: fs})
		if err != nil {
			t.Fatalf("opened %d times: %v", at+1, err)
		}
		if got := scanned(t, r); !maps.Equal(got, c.model[at]) {
			t.Errorf("opened %d times: %v\nexpected %v", at+1, got, c.model[at])
		}
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
		c.commit(t, s, at)
		if err := s.Flush(); err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// What is linked beside the commits is the store at one of them, with its position.
func TestLink(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	c := &crashTest{r: rand.New(rand.NewPCG(seed, 0)), model: []map[string]string{{}}}
	fs := vfs.NewMem()
	s, err := Open(crashDir, testIdentity, Options{FS: fs, MemTableBytes: 64 << 10})
	if err != nil {
		t.Fatal(err)
	}
	linked := make(chan error)
	const links = 20
	go func() {
		defer close(linked)
		for i := range links {
			linked <- s.Link(fmt.Sprintf("links/%d", i))
		}
	}()
	at := 0
	for more := true; more; {
		for range 10 {
			c.commit(t, s, at)
			at++
		}
		if c.r.IntN(3) == 0 {
			if err := s.Flush(); err != nil {
				t.Fatal(err)
			}
		}
		if err, more = <-linked; err != nil {
			t.Fatal(err)
		}
	}
	seen := map[int64]bool{}
	for i := range links {
		r, err := OpenReader(fmt.Sprintf("links/%d", i), Options{FS: fs})
		if err != nil {
			t.Fatal(err)
		}
		if r.Identity() != testIdentity {
			t.Errorf("identity %+v", r.Identity())
		}
		p, _ := r.Position()
		seen[p.Offset] = true
		if got := scanned(t, r); !maps.Equal(got, c.model[p.Offset]) {
			t.Errorf("link %d at %v: %v\nexpected %v", i, p, got, c.model[p.Offset])
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}
	if len(seen) < 3 {
		t.Errorf("all links are at %v: the test tests little", seen)
	}
	if err := s.Link("links/0"); err == nil {
		t.Error("linked over a store")
	}

	snapshot, err := s.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	c.commit(t, s, at)
	if got := scanned(t, snapshot); !maps.Equal(got, c.model[at]) {
		t.Errorf("the snapshot at %d is %v\nexpected %v", at, got, c.model[at])
	}
	if _, err := OpenReader(crashDir, Options{FS: fs}); err == nil || !strings.Contains(err.Error(), "running worker") {
		t.Errorf("read beside the one who writes: %v", err)
	}
	closed := make(chan error)
	go func() { closed <- s.Close() }()
	for !s.ending.Load() {
	}
	if err := snapshot.Scan(nil, nil, func([]byte, []byte) (bool, error) { return true, nil }); !errors.Is(err, ErrClosed) {
		t.Errorf("a scan while the store is closed: %v", err)
	}
	if err := errors.Join(snapshot.Close(), <-closed); err != nil {
		t.Error(err)
	}
	if _, err := s.Snapshot(); !errors.Is(err, ErrClosed) {
		t.Errorf("a snapshot of a closed store: %v", err)
	}
	if err := s.Link("links/closed"); !errors.Is(err, ErrClosed) {
		t.Errorf("a link of a closed store: %v", err)
	}
}

func TestOpenReaderRefuses(t *testing.T) {
	fs := vfs.NewMem()
	if _, err := OpenReader("none", Options{FS: fs}); err == nil {
		t.Error("opened a directory that is not there")
	}
	if names, err := fs.List(""); err != nil || len(names) > 0 {
		t.Errorf("made %v, %v", names, err)
	}
	s, err := Open("d", testIdentity, Options{FS: fs})
	if err != nil {
		t.Fatal(err)
	}
	stored := strings.Replace(string(must(testIdentity.encode())), `"format":1`, `"format":2`, 1)
	if err := s.db.Set(Meta(nil, StoreGroup, "identity"), []byte(stored), pebble.NoSync); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for _, open := range []func() error{
		func() error { _, err := OpenReader("d", Options{FS: fs}); return err },
		func() error { _, err := Open("d", testIdentity, Options{FS: fs}); return err },
	} {
		if err := open(); err == nil || !strings.Contains(err.Error(), "format 2") || !strings.Contains(err.Error(), "version of the program that wrote it") {
			t.Errorf("a later format: %v", err)
		}
	}
}

func must(b []byte, err error) []byte {
	if err != nil {
		panic(err)
	}
	return b
}

func scanned(t *testing.T, r *Reader) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := r.Scan([]byte("k"), []byte("l"), func(key, value []byte) (bool, error) {
		all[string(key)] = string(value)
		return true, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for key, value := range all {
		if got, err := r.Get([]byte(key)); err != nil || string(got) != value {
			t.Errorf("%s: %q, %v, expected %q", key, got, err, value)
		}
	}
	return all
}

// What a disk has altered is an error of who reads, and not the end of the process: a copy can be fetched anew, and a verb says what is wrong.
// Who writes cannot go on, and is told what to do.
func TestDamagedTable(t *testing.T) {
	fs := vfs.NewMem()
	s, err := Open(crashDir, testIdentity, Options{FS: fs})
	if err != nil {
		t.Fatal(err)
	}
	tx := s.Begin()
	if err := tx.Set([]byte("k"), []byte("v")); err != nil {
		t.Fatal(err)
	}
	if err := tx.Commit(Position{Offset: 1}); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	names, err := fs.List(crashDir)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if !strings.HasSuffix(name, ".sst") {
			continue
		}
		f, err := fs.OpenReadWrite(fs.PathJoin(crashDir, name), vfs.WriteCategoryUnspecified)
		if err != nil {
			t.Fatal(err)
		}
		var b [1]byte
		if _, err := f.ReadAt(b[:], 20); err != nil {
			t.Fatal(err)
		}
		b[0] ^= 1
		if _, err := f.WriteAt(b[:], 20); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := OpenReader(crashDir, Options{FS: fs}); err == nil || !strings.Contains(err.Error(), "checksum mismatch") {
		t.Errorf("a reader: %v", err)
	}
	if _, _, _, err := PositionOf(crashDir, Options{FS: fs}); err == nil || !strings.Contains(err.Error(), "checksum mismatch") {
		t.Errorf("the position: %v", err)
	}
	type fatal string
	defer func() {
		message, _ := recover().(fatal)
		for _, part := range []string{crashDir, "checksum mismatch", "move the directory away"} {
			if !strings.Contains(string(message), part) || strings.Contains(string(message), "\n") {
				t.Errorf("a writer: %s", message)
			}
		}
	}()
	_, err = Open(crashDir, testIdentity, Options{FS: fs, Fatal: func(message string) { panic(fatal(message)) }})
	t.Errorf("a writer: %v", err)
}

// Who reads a store of which a file is gone is told what to do.
func TestReadWithoutManifest(t *testing.T) {
	for _, gone := range []string{"MANIFEST-", "marker.manifest"} {
		fs := vfs.NewMem()
		s, err := Open(crashDir, testIdentity, Options{FS: fs})
		if err == nil {
			err = s.Close()
		}
		names, listErr := fs.List(crashDir)
		if err = errors.Join(err, listErr); err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			if strings.HasPrefix(name, gone) {
				if err := fs.Remove(fs.PathJoin(crashDir, name)); err != nil {
					t.Fatal(err)
				}
			}
		}
		if _, err := OpenReader(crashDir, Options{FS: fs}); err == nil || !strings.Contains(err.Error(), "move the directory away") {
			t.Errorf("without %s: %v", gone, err)
		}
	}
}

// unlockable lets nobody lock a directory.
type unlockable struct {
	vfs.FS
	err error
}

func (u unlockable) Lock(string) (io.Closer, error) { return nil, u.err }

// TestReaderMayNotLock does not say of a directory that it must not lock that somebody has it open.
func TestReaderMayNotLock(t *testing.T) {
	disk := vfs.NewMem()
	s, err := Open("state/0", Identity{Topic: "raw", Partitions: 1}, Options{FS: disk})
	if err == nil {
		err = s.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	for cause, open := range map[error]bool{fs.ErrPermission: false, syscall.EROFS: false, syscall.EAGAIN: true} {
		if _, err := OpenReader("state/0", Options{FS: unlockable{disk, cause}}); !errors.Is(err, cause) || errors.Is(err, ErrLocked) != open {
			t.Errorf("%v: error %v, expected that it is open elsewhere: %v", cause, err, open)
		}
	}
}
