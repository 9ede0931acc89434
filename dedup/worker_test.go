package dedup

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

func TestEventsOfAllPartitionsOnce(t *testing.T) {
	w := newRig(t)
	for p := range int32(rawParts) {
		w.write(p, 1, 0, 3, int64(p))
	}
	disk := vfs.NewCrashableMem()
	r := w.start("a", disk)
	w.settle()
	w.write(2, 1, 1, 1)
	w.settle()
	if err := r.end(); err != nil {
		t.Fatal(err)
	}
	w.finished()

	// Another run goes on where it ended.
	w.write(1, 2)
	r = w.start("a", disk)
	w.settle()
	if err := r.end(); err != nil {
		t.Fatal(err)
	}
	w.finished()
}

func TestCrashes(t *testing.T) {
	for _, at := range []stage{afterBegin, afterFold, afterEnd, afterApply} {
		for _, unsynced := range []int{0, 50, 100} {
			t.Run(fmt.Sprintf("%s, %d%% of unsynced data kept", at, unsynced), func(t *testing.T) {
				w := newRig(t)
				for p := range int32(rawParts) {
					w.write(p, 5, 250, 1, 0, 7)
				}
				disk := vfs.NewCrashableMem()
				rnd := rand.New(rand.NewPCG(1, uint64(unsynced)))
				crash := &ending{stage: at, after: 3, crash: true, disk: crashClone(disk, unsynced, rnd)}
				if err := w.start("a", disk, crash.arm(w)).wait(); !isCrash(err) {
					t.Fatalf("error %v, expected a crash", err)
				}
				w.write(0, 3)
				r := w.start("a", crash.copy)
				w.settle()
				if err := r.end(); err != nil {
					t.Fatal(err)
				}
				w.finished()
			})
		}
	}
}
