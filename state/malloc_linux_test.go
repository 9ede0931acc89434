//go:build cgo

package state

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"unsafe"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// arenaBytes is what glibc maps for an arena other than the first (HEAP_MAX_SIZE), at a multiple of it; a part of it can be accessed.
const arenaBytes = 64 << 20

// goHeap: Go's heap, which looks alike, has addresses that differ in the lower bits.
const goHeap = 36

// TestOneArena holds that threads that allocate do so from the same arena: memory that is freed in one is of no use in another, and a cache
// of blocks would take twice what it is told.
func TestOneArena(t *testing.T) {
	const threads = 8
	var started, wg sync.WaitGroup
	started.Add(threads)
	for range threads {
		wg.Go(func() {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			started.Done()
			started.Wait()
			s, err := Open("s", testIdentity, Options{FS: vfs.NewMem(), MemTableBytes: 64 << 10})
			if err != nil {
				t.Error(err)
				return
			}
			tx := s.Begin()
			for n := range 2000 {
				if err := tx.Set(fmt.Appendf(nil, "k%05d", n), make([]byte, 100)); err != nil {
					t.Error(err)
				}
			}
			if err := tx.Commit(Position{Offset: 1}); err != nil {
				t.Error(err)
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		t.Fatal(err)
	}
	own := uint64(uintptr(unsafe.Pointer(&maps[0]))) >> goHeap
	var from, until uint64
	for line := range strings.Lines(string(maps)) {
		var begin, end uint64
		var access string
		if _, err := fmt.Sscanf(line, "%x-%x %s", &begin, &end, &access); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		if access == "rw-p" {
			from, until = begin, end
		} else if access == "---p" && begin == until && from%arenaBytes == 0 && end-from == arenaBytes && from>>goHeap != own {
			t.Errorf("an arena of its own at %x", from)
		}
	}
}
