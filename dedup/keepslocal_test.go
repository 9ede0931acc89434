package dedup

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// State on the disk that is far behind, but of use, is there until a checkpoint has taken its place: one that is damaged does not.
func TestDamagedCheckpointLeavesTheDisk(t *testing.T) {
	w := newRig(t)
	store := &watchedStore{Store: objectStore(t), damaged: map[string]bool{}}
	disk := vfs.NewCrashableMem()
	w.writeAll(3)
	w.checkpointed(store, disk)
	w.deleteFolded()
	local := crashClone(disk, 100, rand.New(rand.NewPCG(1, 2)))()
	before := w.names(store)
	w.write(0, 5, 0, 0, 0, 0, 0)
	w.checkpointed(store, disk)
	for _, name := range w.names(store) {
		switch is := slices.Contains(before, name); {
		case is && strings.Contains(name, "/checkpoints/"):
			if err := store.Delete(w.ctx, name); err != nil { // it was kept for its time
				t.Fatal(err)
			}
		case strings.Contains(name, "/files/"):
			store.damaged[name] = true
		}
	}
	w.write(0, 1)
	r := w.start("a", local, withCheckpoints(store, atEnd), withPadding, func(worker *Worker) { worker.restoreGap = 5 })
	w.settle()
	if err := r.end(); err != nil {
		t.Fatal(err)
	}
	w.finished()
}
