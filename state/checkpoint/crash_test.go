package checkpoint

import (
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

// crashAtEach does something on a disk again and again, and calls check with what a crash leaves of the disk before each operation on a
// file, and at the end. It returns how many there were.
func crashAtEach(t *testing.T, do func(disk vfs.FS) error, check func(disk *vfs.MemFS)) (crashes int) {
	t.Helper()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	for at := 1; ; at++ {
		r := rand.New(rand.NewPCG(seed, uint64(at)))
		disk := vfs.NewCrashableMem()
		var (
			mu         sync.Mutex
			operations int
			after      *vfs.MemFS
		)
		err := do(errorfs.Wrap(disk, errorfs.InjectorFunc(func(op errorfs.Op) error {
			mu.Lock()
			defer mu.Unlock()
			if op.Kind.ReadOrWrite() != errorfs.OpIsRead {
				if operations++; operations == at {
					after = disk.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: r.IntN(101), RNG: r})
				}
			}
			return nil
		})))
		if err != nil {
			t.Fatal(err)
		}
		crashes++
		if after == nil {
			check(disk.CrashClone(vfs.CrashCloneCfg{}))
			return crashes
		}
		check(after)
	}
}
