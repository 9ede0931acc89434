package dedup

import (
	"math/rand/v2"
	"path"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

// simDisk is the disk of one process. What was not synced is lost, or not, when the process dies.
type simDisk struct {
	mem *vfs.MemFS

	mu        sync.Mutex
	rnd       *rand.Rand
	left      int    // operations until crash is called; 0: it is not
	crash     func() // may be called from any goroutine
	full      bool   // nothing can be written
	failSyncs int    // how many syncs fail
	failed    int    // operations that did
	released  bool   // its process is dead: nothing more happens to it
}

func (d *simDisk) fs() vfs.FS {
	return errorfs.Wrap(cloneableFS{d.mem}, errorfs.InjectorFunc(func(op errorfs.Op) error { return d.operation(op) }))
}

func (d *simDisk) operation(op errorfs.Op) error {
	if op.Kind.ReadOrWrite() == errorfs.OpIsRead {
		return nil
	}
	// Pebble moves the marker of the manifest once the manifest is synced, but not its name. File systems that keep a
	// journal sync the name with the file; this one does not.
	if op.Kind == errorfs.OpCreate && strings.Contains(op.Path, "marker.") {
		if dir, err := d.mem.OpenDir(path.Dir(op.Path)); err == nil {
			dir.Sync()
			dir.Close()
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.released {
		return nil
	}
	if d.left > 0 {
		if d.left--; d.left == 0 && d.crash != nil {
			crash := d.crash
			d.mu.Unlock()
			crash()
			d.mu.Lock()
			return nil
		}
	}
	switch op.Kind {
	case errorfs.OpCreate, errorfs.OpFileWrite, errorfs.OpFileWriteAt, errorfs.OpFilePreallocate, errorfs.OpMkdirAll:
		if d.full {
			return d.refuse(syscall.ENOSPC)
		}
	case errorfs.OpFileSync, errorfs.OpFileSyncData, errorfs.OpFileSyncTo:
		if d.failSyncs > 0 {
			d.failSyncs--
			return d.refuse(syscall.EIO)
		}
	}
	return nil
}

// refuse makes an operation fail, after a while: what is tried again at once, for ever, would let no time pass. The mutex is held.
func (d *simDisk) refuse(err error) error {
	d.failed++
	d.mu.Unlock()
	time.Sleep(100 * time.Millisecond)
	d.mu.Lock()
	return err
}

// after is the disk as its next process finds it: with so many of 100 unsynced writes.
func (d *simDisk) after(unsynced int) *simDisk {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.released = true
	cloning.Lock()
	defer cloning.Unlock()
	return &simDisk{mem: d.mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: unsynced, RNG: d.rnd}), rnd: d.rnd}
}

// heal ends all faults.
func (d *simDisk) heal() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.left, d.full, d.failSyncs = 0, false, 0
}

// faults is how many operations failed.
func (d *simDisk) faults() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.failed
}
