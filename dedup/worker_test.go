package dedup

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
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
	if err := r.Ready(); err != nil {
		t.Errorf("all is folded, and it is not ready: %v", err)
	}
	if err := r.end(); err != nil {
		t.Fatal(err)
	}
	if r.Ready() == nil {
		t.Error("it has ended, and is ready")
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

// TestGiantRecord cuts one record into many transactions, and crashes within it again and again.
func TestGiantRecord(t *testing.T) {
	w := newRig(t)
	w.write(0, 2, 3000, 5)
	disk := vfs.NewCrashableMem()
	rnd := rand.New(rand.NewPCG(3, 0))
	for _, at := range []stage{afterFold, afterEnd, afterApply, afterEnd} {
		crash := &ending{stage: at, after: 4, crash: true, disk: crashClone(disk, 50, rnd)}
		if err := w.start("a", disk, crash.arm(w)).wait(); !isCrash(err) {
			t.Fatalf("error %v, expected a crash", err)
		}
		disk = crash.copy
		group, err := w.positions()
		if err != nil {
			t.Fatal(err)
		}
		if c := group[0]; c.Offset != 2 || c.Done == 0 {
			t.Errorf("the group is at %v, expected to be within the record at offset 2", c)
		}
	}
	r := w.start("a", disk)
	w.settle()
	if err := r.end(); err != nil {
		t.Fatal(err)
	}
	w.finished()
}

func TestStateDirectoryLost(t *testing.T) {
	w := newRig(t)
	for p := range int32(rawParts) {
		w.write(p, 5, 150, -1, 7)
	}
	r := w.start("a", vfs.NewCrashableMem())
	w.settle()
	if err := r.end(); err != nil {
		t.Fatal(err)
	}
	for p := range int32(rawParts) {
		w.write(p, 1, 2)
	}
	r = w.start("a", vfs.NewCrashableMem())
	w.settle()
	if err := r.end(); err != nil {
		t.Fatal(err)
	}
	w.finished()
	if n := value(t, r.metrics.replayed); n != 5*rawParts {
		t.Errorf("%v records were folded again, expected 5 of each partition", n)
	}
}

// TestWorkersShare lets workers come and go, with and without records to fold.
func TestWorkersShare(t *testing.T) {
	w := newRig(t)
	write := func() {
		for p := range int32(rawParts) {
			w.write(p, 3, 120, 1)
		}
	}
	write()
	a := w.start("a", vfs.NewCrashableMem())
	b := w.start("b", vfs.NewCrashableMem())
	w.settle()
	w.shared(a, b)
	write()
	w.settle()
	// A rebalance after another, and no transaction between them.
	c := w.start("c", vfs.NewCrashableMem())
	w.shared(a, b, c)
	d := w.start("d", vfs.NewCrashableMem())
	w.shared(a, b, c, d)
	write()
	w.settle()
	write()
	for _, r := range []*running{b, a, d} {
		if err := r.end(); err != nil {
			t.Fatal(err)
		}
	}
	w.settle()
	if err := c.end(); err != nil {
		t.Fatal(err)
	}
	w.finished()
}

func TestSessionsOfOneProcess(t *testing.T) {
	w := newRig(t)
	for p := range int32(rawParts) {
		w.write(p, 3, 120, 1)
	}
	r := w.start("a", vfs.NewCrashableMem(), func(w *Worker) { w.cfg.Sessions = 3 })
	w.settle()
	for p := range int32(rawParts) {
		w.write(p, 3, 120, 1)
	}
	w.settle()
	if err := r.end(); err != nil {
		t.Fatal(err)
	}
	w.finished()
}

// TestZombie stops a worker within a transaction until another has its partitions and has gone on with them.
func TestZombie(t *testing.T) {
	for _, at := range []stage{afterBegin, afterFold} {
		t.Run(string(at), func(t *testing.T) {
			w := newRig(t)
			w.write(0, 50)
			reached, release := make(chan struct{}), make(chan struct{})
			var once sync.Once
			zombie := w.start("a", vfs.NewCrashableMem(), func(worker *Worker) {
				worker.crash = func(now stage) error {
					w.invariant(worker, now)
					if now == at {
						once.Do(func() { close(reached); <-release })
					}
					return nil
				}
			})
			<-reached
			if _, err := w.adm.LeaveGroup(w.ctx, kadm.LeaveGroup(groupName).InstanceIDs(sessionOf("a"))); err != nil {
				t.Fatal(err)
			}
			heir := w.start("b", vfs.NewCrashableMem())
			w.folded(0, 2)
			close(release)
			w.write(0, 5)
			w.settle()
			for _, r := range []*running{zombie, heir} {
				if err := r.end(); err != nil {
					t.Fatal(err)
				}
			}
			w.finished()
		})
	}
}

// TestPositionInOpenTransaction gives a partition to another worker while the end of a transaction is on its way: the
// new owner must not begin at the position before it.
func TestPositionInOpenTransaction(t *testing.T) {
	w := newRig(t)
	former := w.start("a", vfs.NewCrashableMem())
	w.settle()
	arrived, release := make(chan struct{}), make(chan struct{})
	var held atomic.Bool
	w.cluster.ControlKey(int16(kmsg.EndTxn), func(kmsg.Request) (kmsg.Response, error, bool) {
		if held.CompareAndSwap(false, true) {
			w.cluster.SleepControl(func() { close(arrived); <-release })
		}
		return nil, nil, false
	})
	w.write(0, 50)
	<-arrived
	if found, err := tryFetchCommitted(w.ctx, w.writer, groupName, w.topic, []int32{0}); !errors.Is(err, kerr.UnstableOffsetCommit) {
		t.Errorf("the position is said to be %v (%v), and a transaction with another one is open", found, err)
	}
	if _, err := w.adm.LeaveGroup(w.ctx, kadm.LeaveGroup(groupName).InstanceIDs(sessionOf("a"))); err != nil {
		t.Fatal(err)
	}
	asked := w.cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.OffsetFetch}, Count: -1, Observe: true})
	heir := w.start("b", vfs.NewCrashableMem())
	// It asks once for each partition, as its client does for all, and again while the answer is that the position is not
	// stable. If it did not, it would go on.
	w.until(w.ctx, "the new owner waits", func() bool {
		return asked.Hits() >= 3*rawParts || value(t, heir.metrics.records) > 0
	})
	close(release)
	w.write(0, 5)
	w.settle()
	for _, r := range []*running{former, heir} {
		if err := r.end(); err != nil {
			t.Fatal(err)
		}
	}
	w.finished()
}

// TestCommitThatLooksAborted commits a transaction and answers with an error for which the client reports an abort.
func TestCommitThatLooksAborted(t *testing.T) {
	w := newRig(t)
	r := w.start("a", vfs.NewCrashableMem())
	w.settle()
	var done atomic.Bool
	w.cluster.ControlKey(int16(kmsg.EndTxn), func(req kmsg.Request) (kmsg.Response, error, bool) {
		end := *req.(*kmsg.EndTxnRequest)
		if !end.Commit || !done.CompareAndSwap(false, true) {
			return nil, nil, false
		}
		w.cluster.SleepControl(func() {
			resp, err := end.RequestWith(w.ctx, w.writer)
			if err == nil {
				err = kerr.ErrorForCode(resp.ErrorCode)
			}
			if err != nil {
				t.Error(err)
			}
		})
		resp := end.ResponseKind().(*kmsg.EndTxnResponse)
		resp.ErrorCode = kerr.UnknownServerError.Code
		return resp, nil, true
	})
	w.write(0, 50)
	w.settle()
	w.write(0, 5)
	w.settle()
	if err := r.end(); err != nil {
		t.Fatal(err)
	}
	w.finished()
	if n := value(t, r.metrics.replayed); n != 1 {
		t.Errorf("%v records were folded again, expected the one of that transaction", n)
	}
}
