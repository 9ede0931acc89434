package state

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

var testIdentity = Identity{Topic: "raw", TopicID: [16]byte{1, 2}, Partition: 3, Partitions: 32}

func TestReopen(t *testing.T) {
	fs := vfs.NewMem()
	s, err := Open("dir", testIdentity, Options{FS: fs})
	if err != nil {
		t.Fatal(err)
	}
	if p, ok := s.Position(); ok {
		t.Fatalf("a new store is at %v", p)
	}
	tx := s.Begin()
	if err := tx.Set([]byte("key"), []byte("value")); err != nil {
		t.Fatal(err)
	}
	if v, err := tx.Get([]byte("key")); err != nil || string(v) != "value" {
		t.Fatalf("got %q, %v", v, err)
	}
	if err := tx.Commit(Position{Offset: 7, Done: 2}); err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Get([]byte("key")); !errors.Is(err, errEnded) {
		t.Fatalf("get after the end: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if s, err = Open("dir", testIdentity, Options{FS: fs}); err != nil {
		t.Fatal(err)
	}
	if p, ok := s.Position(); !ok || p != (Position{7, 2}) {
		t.Fatalf("reopened at %v, %v", p, ok)
	}
	if v, err := s.Begin().Get([]byte("key")); err != nil || string(v) != "value" {
		t.Fatalf("got %q, %v", v, err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// wantError fails unless err holds all the words: errors say where, what was found, what was expected, and what to do.
func wantError(t *testing.T, err error, words ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, expected one of %q", words)
	}
	for _, word := range words {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("%v\ndoes not say %q", err, word)
		}
	}
}

func TestIdentity(t *testing.T) {
	fs := vfs.NewMem()
	openAs := func(id Identity) error {
		s, err := Open("dir", id, Options{FS: fs})
		if err != nil {
			return err
		}
		return s.Close()
	}
	if err := openAs(testIdentity); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		alter func(*Identity)
		words []string
	}{
		{func(id *Identity) { id.Topic = "other" }, []string{"topic raw", "topic other"}},
		{func(id *Identity) { id.TopicID[0] = 9 }, []string{"id 0102", "id 0902", "made again"}},
		{func(id *Identity) { id.Partition = 4 }, []string{"partition 3 of 32", "partition 4 of 32"}},
		{func(id *Identity) { id.Partitions = 64 }, []string{"of 32", "of 64"}},
	} {
		id := testIdentity
		test.alter(&id)
		wantError(t, openAs(id), append(test.words, "dir holds", "expected", "away")...)
	}
	for _, id := range []Identity{
		{Partitions: 1},
		{Topic: "raw"},
		{Topic: "raw", Partitions: StoreGroup + 1},
		{Topic: "raw", Partitions: 2, Partition: 2},
		{Topic: "raw", Partitions: 2, Partition: -1},
	} {
		wantError(t, openAs(id))
	}
	if err := openAs(testIdentity); err != nil {
		t.Fatal("after the refusals:", err)
	}
}

func TestLocked(t *testing.T) {
	dir := t.TempDir()
	s, err := Open(dir, testIdentity, Options{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = Open(dir, testIdentity, Options{})
	wantError(t, err, dir, "has it open", "stop it")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal("the second close:", err)
	}
	if s, err = Open(dir, testIdentity, Options{}); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestForeignDirectories(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "notes.txt")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	_, err := Open(dir, testIdentity, Options{})
	wantError(t, err, dir, "notes.txt", "expected an empty directory", "a directory of its own")
	_, err = Open(file, testIdentity, Options{})
	wantError(t, err, "notes.txt")
	if names, err := os.ReadDir(dir); err != nil || len(names) != 1 {
		t.Fatalf("a refused directory holds %v, %v", names, err)
	}

	fs := vfs.NewMem()
	db, err := pebble.Open("pebble", &pebble.Options{FS: fs, Logger: logger{}})
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Set([]byte("a"), []byte("b"), nil); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	_, err = Open("pebble", testIdentity, Options{FS: fs})
	wantError(t, err, "something else", "no identity", "a directory of its own")
}

func TestDamagedMeta(t *testing.T) {
	for name, words := range map[string][]string{
		"identity": {"dir", "identity", "move the directory away"},
		"position": {"dir", "position", "expected 16", "move the directory away"},
	} {
		fs := vfs.NewMem()
		s := openTest(t, Options{FS: fs})
		group := uint16(StoreGroup)
		if name == "position" {
			group = uint16(testIdentity.Partition)
		}
		if err := s.db.Set(Meta(nil, group, name), []byte("damaged"), pebble.NoSync); err != nil {
			t.Fatal(err)
		}
		s.dirty = true
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		_, err := Open("dir", testIdentity, Options{FS: fs})
		wantError(t, err, words...)
	}
}

func TestClosed(t *testing.T) {
	s := openTest(t, Options{})
	tx := s.Begin()
	if err := tx.Set([]byte("k"), nil); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := tx.Commit(Position{}); err == nil {
		t.Fatal("committed after the close")
	}
	for name, err := range map[string]error{
		"commit": s.Begin().Commit(Position{}), "flush": s.Flush(), "flush if due": s.FlushIfDue(),
	} {
		if !errors.Is(err, ErrClosed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if m := s.Metrics(); m != (Metrics{}) {
		t.Errorf("metrics %+v", m)
	}
}

// diskAt returns the position on the disk if the machine stopped now.
func diskAt(t *testing.T, fs *vfs.MemFS) int64 {
	t.Helper()
	s, err := Open("dir", testIdentity, Options{FS: fs.CrashClone(vfs.CrashCloneCfg{})})
	if err != nil {
		t.Fatal(err)
	}
	p, ok := s.Position()
	if !ok {
		p.Offset = -1
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return p.Offset
}

func TestFlushIfDue(t *testing.T) {
	fs := vfs.NewCrashableMem()
	clock := time.Unix(1_000_000, 0)
	s := openTest(t, Options{FS: fs, now: func() time.Time { return clock }})
	want := int64(-1)
	step := func(offset int64, pass time.Duration, due bool) {
		t.Helper()
		if offset >= 0 {
			if err := s.Begin().Commit(Position{Offset: offset}); err != nil {
				t.Fatal(err)
			}
		}
		clock = clock.Add(pass)
		if err := s.FlushIfDue(); err != nil {
			t.Fatal(err)
		}
		if s.flushDone != nil {
			<-s.flushDone
		}
		if due {
			want = offset
		}
		if at := diskAt(t, fs); at != want {
			t.Fatalf("on disk at %d, expected %d", at, want)
		}
	}
	// Partition 3 begins three eighths of the interval early.
	step(1, 6*time.Second, false)
	step(2, time.Second, true)
	step(3, 9*time.Second, false)
	step(4, 9*time.Second, true)
	flushes := s.Metrics().Flushes
	step(-1, time.Hour, false) // nothing was committed
	if now := s.Metrics().Flushes; now != flushes {
		t.Fatalf("%d flushes, then %d, and nothing to write", flushes, now)
	}
	step(5, 0, true) // the time passed before
	if err := s.Begin().Commit(Position{Offset: 6}); err != nil {
		t.Fatal(err)
	}
	if err := s.Flush(); err != nil {
		t.Fatal(err)
	}
	if at := diskAt(t, fs); at != 6 {
		t.Fatalf("on disk at %d after a flush", at)
	}
}

// While a flush is under way no other is begun: it would only add to the memtables that wait.
func TestFlushIfDueIsPatient(t *testing.T) {
	clock := time.Unix(1_000_000, 0)
	slow := make(chan struct{})
	blocked := make(chan struct{}, 1)
	injector := errorfs.InjectorFunc(func(op errorfs.Op) error {
		if strings.HasSuffix(op.Path, ".sst") && op.Kind == errorfs.OpCreate {
			select {
			case blocked <- struct{}{}:
			default:
			}
			<-slow
		}
		return nil
	})
	fs := vfs.NewMem()
	openTest(t, Options{FS: fs}).Close() // made
	s := openTest(t, Options{FS: errorfs.Wrap(fs, injector), now: func() time.Time { return clock }})
	for offset := range int64(5) {
		if err := s.Begin().Commit(Position{Offset: offset}); err != nil {
			t.Fatal(err)
		}
		clock = clock.Add(time.Minute)
		if err := s.FlushIfDue(); err != nil {
			t.Fatal(err)
		}
		if offset == 0 {
			<-blocked
		}
	}
	if tables := s.db.Metrics().MemTable.Count; tables != 2 {
		t.Errorf("%d memtables, expected one being written and one being filled", tables)
	}
	first := s.flushDone
	close(slow)
	<-first
	if err := s.FlushIfDue(); err != nil {
		t.Fatal(err)
	}
	if s.flushDone == nil || s.flushDone == first {
		t.Error("no flush was begun after the first had ended")
	}
}

// A store whose disk fails says so, does not hang, and is fine when it is opened again.
func TestBroken(t *testing.T) {
	fs := vfs.NewMem()
	full := errors.New("no space left on this disk")
	var failing sync.Mutex
	fails := false
	setFails := func(f bool) {
		failing.Lock()
		defer failing.Unlock()
		fails = f
	}
	injector := errorfs.InjectorFunc(func(op errorfs.Op) error {
		failing.Lock()
		defer failing.Unlock()
		if fails && strings.HasSuffix(op.Path, ".sst") && op.Kind.ReadOrWrite() == errorfs.OpIsWrite {
			return full
		}
		return nil
	})
	var logged sync.Map
	opts := Options{FS: errorfs.Wrap(fs, injector), Log: func(line string) { logged.Store(line, true) }}
	s := openTest(t, opts)
	commit := func(offset int64) error {
		tx := s.Begin()
		if err := tx.Set([]byte("k"), fmt.Append(nil, offset)); err != nil {
			return err
		}
		return tx.Commit(Position{Offset: offset})
	}
	if err := errors.Join(commit(1), s.Flush(), commit(2)); err != nil {
		t.Fatal(err)
	}
	tx := s.Begin()
	setFails(true)
	err := s.Flush()
	wantError(t, err, "dir", "flushing", full.Error(), "open it again")
	for name, err := range map[string]error{
		"flush": err, "commit": tx.Commit(Position{Offset: 3}), "begin": commit(4),
		"flush again": s.Flush(), "flush if due": s.FlushIfDue(),
	} {
		if !errors.Is(err, ErrBroken) || !errors.Is(err, full) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	told := false
	logged.Range(func(line, _ any) bool {
		told = told || strings.Contains(line.(string), full.Error())
		return true
	})
	if !told {
		t.Error("nothing was logged")
	}
	setFails(false)
	if s, err = Open("dir", testIdentity, opts); err != nil {
		t.Fatal(err)
	}
	if p, _ := s.Position(); p.Offset != 1 {
		t.Fatalf("reopened at %v, expected what was flushed", p)
	}
	if err := errors.Join(commit(2), s.Close()); err != nil {
		t.Fatal(err)
	}
}

// Blocks leave the memtables their room, though these begin small, and take none of it themselves.
func TestRoomForBlocks(t *testing.T) {
	const room, memTables = 1 << 20, 8 << 20
	cache := NewCache(room, memTables)
	defer cache.Close()
	now := time.Unix(1, 0)
	s, err := Open("dir", testIdentity, Options{FS: vfs.NewMem(), Cache: cache, MemTableBytes: memTables / 2, now: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	written := 0
	write := func(rows int) {
		tx := s.Begin()
		for range rows {
			value := make([]byte, 1000)
			for at := 0; at < len(value); at += 8 {
				binary.LittleEndian.PutUint64(value[at:], rand.Uint64())
			}
			if err := tx.Set(fmt.Appendf(nil, "row %08d", written), value); err != nil {
				t.Fatal(err)
			}
			written++
		}
		if err := tx.Commit(Position{Offset: int64(written)}); err != nil {
			t.Fatal(err)
		}
		now = now.Add(memTableLook)
		if err := s.FlushIfDue(); err != nil {
			t.Fatal(err)
		}
	}
	read := func() int64 {
		tx := s.Begin()
		defer tx.Discard()
		rows := 0
		err := tx.Scan([]byte("row"), []byte("rox"), func(_, _ []byte) (bool, error) { rows++; return true, nil })
		if err != nil || rows != written {
			t.Fatalf("%d rows, %v; expected %d", rows, err, written)
		}
		return cache.blocks.Size()
	}
	write(4000)
	if err := s.Flush(); err != nil {
		t.Fatal(err)
	}
	taken := int64(0)
	for taken < memTables/2 {
		if size := read(); size > room*11/10 || size < room/2 {
			t.Fatalf("%d bytes of blocks with %d of memtables, expected up to %d", size, taken, room)
		}
		write(500)
		taken = cache.taken[s]
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if len(cache.taken) > 0 {
		t.Error("a store that is closed has memtables")
	}
}

// Stores of one process share a cache, and may be watched while they work.
func TestSharedCache(t *testing.T) {
	cache := NewCache(4<<20, 4<<20)
	defer cache.Close()
	fs := vfs.NewMem()
	var stores []*Store
	for partition := range int32(3) {
		id := testIdentity
		id.Partition = partition
		s, err := Open(fmt.Sprint("dir/", partition), id, Options{FS: fs, Cache: cache, MemTableBytes: 256 << 10})
		if err != nil {
			t.Fatal(err)
		}
		stores = append(stores, s)
	}
	var wg sync.WaitGroup
	done := make(chan struct{})
	wg.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
				for _, s := range stores {
					s.Metrics()
					s.Position()
				}
			}
		}
	})
	for offset := range int64(50) {
		for _, s := range stores {
			tx := s.Begin()
			if err := tx.Set(fmt.Append(nil, "k", offset), make([]byte, 1000)); err != nil {
				t.Fatal(err)
			}
			if err := tx.Commit(Position{Offset: offset}); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, s := range stores {
		if err := s.Flush(); err != nil {
			t.Fatal(err)
		}
		tx := s.Begin()
		for range 2 {
			if v, err := tx.Get([]byte("k7")); err != nil || len(v) != 1000 {
				t.Fatalf("%d bytes, %v", len(v), err)
			}
		}
	}
	for _, s := range stores {
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	close(done)
	wg.Wait()
	if m := cache.Metrics(); m.Hits+m.Misses == 0 {
		t.Errorf("%+v", m)
	}
}

func TestMemTableBytes(t *testing.T) {
	for _, test := range []struct{ budget, stores, want int }{
		{1 << 30, 1, 64 << 20},
		{768 << 20, 8, 48 << 20},
		{1 << 30, 1000, 4 << 20},
		{0, 0, 4 << 20},
	} {
		if got := MemTableBytes(test.budget, test.stores); got != test.want {
			t.Errorf("%d for %d stores: %d, expected %d", test.budget, test.stores, got, test.want)
		}
	}
}
