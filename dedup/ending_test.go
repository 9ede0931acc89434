package dedup

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// ending ends a worker when it comes to a stage for the nth time: as if its process had died, with a copy of the disk at that
// moment for its successor, or by telling it to stop.
type ending struct {
	stage stage
	after int
	crash bool
	disk  func() *vfs.MemFS
	stop  func()

	mu   sync.Mutex
	seen int
	copy *vfs.MemFS // of a crash
}

func (e *ending) arm(w *rig) func(*Worker) {
	return func(worker *Worker) {
		worker.crash = func(at stage) error {
			w.invariant(worker, at)
			e.mu.Lock()
			defer e.mu.Unlock()
			if e.copy != nil {
				return fmt.Errorf("%w: it is dead", errCrash)
			}
			if at != e.stage {
				return nil
			}
			if e.seen++; e.seen != e.after {
				return nil
			}
			if !e.crash {
				go e.stop()
				return nil
			}
			e.copy = e.disk()
			return fmt.Errorf("%w: %s", errCrash, at)
		}
	}
}

func isCrash(err error) bool { return errors.Is(err, errCrash) }

// crashClone is a copy of a disk on which so many of 100 unsynced writes are.
func crashClone(disk *vfs.MemFS, unsynced int, rnd *rand.Rand) func() *vfs.MemFS {
	return func() *vfs.MemFS {
		cloning.Lock()
		defer cloning.Unlock()
		return disk.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: unsynced, RNG: rnd})
	}
}

// cloning is held alone by who clones a disk, and shared by the operations of a MemFS that take its lock against clones twice: with a
// clone that begins between the two they wait for each other for good.
var cloning sync.RWMutex

// cloneableFS is a file system whose operations and clones keep out of each other's way.
type cloneableFS struct{ vfs.FS }

func (f cloneableFS) Link(oldname, newname string) error {
	cloning.RLock()
	defer cloning.RUnlock()
	return f.FS.Link(oldname, newname)
}

func (f cloneableFS) Lock(name string) (io.Closer, error) {
	cloning.RLock()
	defer cloning.RUnlock()
	return f.FS.Lock(name)
}

func (f cloneableFS) ReuseForWrite(oldname, newname string, category vfs.DiskWriteCategory) (vfs.File, error) {
	cloning.RLock()
	defer cloning.RUnlock()
	return f.FS.ReuseForWrite(oldname, newname, category)
}
