package state

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

// A history of commits, crashes and replays. A crash comes before any operation on a file: when the store is made, in
// the background, when it is closed. After it the store is what it was at its own position, whichever that is, and not
// before what was flushed; the log is replayed from there, as the worker does.
func TestCrash(t *testing.T) {
	crashes, older, none := 0, 0, 0
	for range 16 {
		seed := rand.Uint64()
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			c := &crashTest{
				r: rand.New(rand.NewPCG(seed, 0)), fsRand: rand.New(rand.NewPCG(seed, 1)),
				fs: vfs.NewCrashableMem(), clock: time.Unix(0, 0), model: []map[string]string{{}},
			}
			for range 20 {
				c.round(t)
			}
			crashes, older, none = crashes+c.crashes, older+c.older, none+c.none
		})
	}
	t.Logf("%d crashes, %d of them to an older position, %d to no position", crashes, older, none)
	if older == 0 || none == 0 || older == crashes {
		t.Error("the test tests little")
	}
}

type crashTest struct {
	r     *rand.Rand
	fs    *vfs.MemFS
	clock time.Time
	// model[n] is what is known once the records before n are folded; n is the position.
	model []map[string]string

	crashes, older, none int

	mu      sync.Mutex
	fsRand  *rand.Rand
	left    int        // operations on files until the crash
	clone   *vfs.MemFS // what is on disk after the crash
	durable int        // the position that was flushed, now
	crashed int        // that at the crash
}

const crashDir = "state/3"

// round opens the store, checks it, goes on with the log, and crashes.
func (c *crashTest) round(t *testing.T) {
	c.clone, c.left = nil, 1+c.r.IntN(1+c.r.IntN(700))
	percent := c.r.IntN(101)
	opts := Options{
		FS: errorfs.Wrap(c.fs, errorfs.InjectorFunc(func(op errorfs.Op) error {
			c.operation(op, percent)
			return nil
		})),
		MemTableBytes: 64 << 10, FlushInterval: 20 * time.Second,
		now: func() time.Time { return c.clock },
	}
	s, err := Open(crashDir, testIdentity, opts)
	if err != nil {
		t.Fatal(err)
	}
	at := c.check(t, s)
	c.setDurable(at)
	for end := at + c.r.IntN(100); at < end; at++ {
		c.commit(t, s, at)
		c.clock = c.clock.Add(time.Second)
		if err := s.FlushIfDue(); err != nil {
			t.Fatal(err)
		}
		if c.r.IntN(30) == 0 {
			if err := s.Flush(); err != nil {
				t.Fatal(err)
			}
			c.setDurable(at + 1)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	c.setDurable(at)
	if c.clone == nil {
		c.left = 1
		c.operation(errorfs.Op{Kind: errorfs.OpCreate}, percent)
	}

	c.fs, c.crashes = c.clone, c.crashes+1
	opts.FS = c.fs
	if s, err = Open(crashDir, testIdentity, opts); err != nil {
		t.Fatal(err)
	}
	now := c.check(t, s)
	if now < c.crashed {
		t.Fatalf("flushed at %d; after the crash at %d", c.crashed, now)
	}
	if now < at {
		c.older++
	}
	if now == 0 {
		c.none++
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	c.setDurable(now)
}

// operation is called before each operation on a file, from any goroutine.
func (c *crashTest) operation(op errorfs.Op, percent int) {
	if op.Kind.ReadOrWrite() == errorfs.OpIsRead {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	// Pebble moves the marker of the manifest once the manifest is synced, but not its name. File systems that
	// keep a journal sync the name with the file; this one does not.
	if op.Kind == errorfs.OpCreate && strings.Contains(op.Path, "marker.") {
		syncDirectory(c.fs, crashDir)
	}
	if c.left--; c.left == 0 {
		c.clone = c.fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: percent, RNG: c.fsRand})
		c.crashed = c.durable
	}
}

func syncDirectory(fs vfs.FS, dir string) {
	d, err := fs.OpenDir(dir)
	if err != nil {
		panic(err)
	}
	d.Sync()
	d.Close()
}

func (c *crashTest) setDurable(at int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.durable = at
}

// check compares the store with the model at its position, which it returns.
func (c *crashTest) check(t *testing.T, s *Store) int {
	t.Helper()
	at := 0
	if p, ok := s.Position(); ok {
		at = int(p.Offset)
	}
	if at >= len(c.model) {
		t.Fatalf("reopened at %d; there were commits up to %d", at, len(c.model)-1)
	}
	tx := s.Begin()
	defer tx.Discard()
	if got := contents(t, tx); !maps.Equal(got, c.model[at]) {
		t.Fatalf("reopened at %d with %v\nexpected %v", at, got, c.model[at])
	}
	return at
}

// commit folds the record at position at. The same record does the same each time.
func (c *crashTest) commit(t *testing.T, s *Store, at int) {
	t.Helper()
	r := rand.New(rand.NewPCG(uint64(at), 1))
	after := maps.Clone(c.model[at])
	tx := s.Begin()
	for range r.IntN(40) {
		key := fmt.Sprintf("k%d", r.IntN(100))
		var err error
		if r.IntN(4) == 0 {
			delete(after, key)
			err = tx.Delete([]byte(key))
		} else {
			after[key] = fmt.Sprintf("%d %0*d", at, r.IntN(600), 0)
			err = tx.Set([]byte(key), []byte(after[key]))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	c.model = append(c.model[:at+1], after)
	if err := tx.Commit(Position{Offset: int64(at + 1)}); err != nil {
		t.Fatal(err)
	}
}
