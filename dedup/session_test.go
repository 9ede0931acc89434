package dedup

import (
	"cmp"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/twmb/franz-go/pkg/kgo"
)

// startSession gives a session that is driven by hand, with all partitions open.
func (w *rig) startSession() *session { return w.startSessionOn(vfs.NewCrashableMem()) }

func (w *rig) startSessionOn(disk vfs.FS, change ...func(*Worker)) *session {
	t := w.t
	t.Helper()
	worker, err := NewWorker(WorkerConfig{
		ClientOpts: w.opts, RawTopic: rawName, Group: groupName, DeadLetterTopic: letterName, StateDirectory: stateDirectory,
		Emitter: &encoder{}, CommitInterval: time.Millisecond, Log: w.log("hand"),
	})
	if err != nil {
		t.Fatal(err)
	}
	worker.stores.FS = disk
	worker.newFold = func(p int32) folder { return newCounter(p) }
	for _, c := range change {
		c(worker)
	}
	if worker.topic, err = FindRawTopic(w.ctx, w.opts, rawName, worker.cfg.Log); err != nil {
		t.Fatal(err)
	}
	worker.admin = w.client(kgo.RecordPartitioner(kgo.ManualPartitioner()))
	s := newSession(worker, "hand-0")
	if err := s.connect(w.ctx); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.beside.Wait()
		s.fetch.Close()
		s.group.Close()
		if err := s.closeTasks(); err != nil {
			t.Error(err)
		}
	})
	w.open(s)
	return s
}

// open lets the session do what the group tells it until all partitions are open.
func (w *rig) open(s *session) {
	w.t.Helper()
	w.until(w.ctx, "all partitions are open", func() bool {
		if err := s.reconcile(w.ctx); err != nil {
			w.t.Fatal(err)
		}
		return len(s.tasks) == rawParts && s.assigned.valid
	})
}

// await reads until so many records wait.
func (w *rig) await(s *session, records int) {
	w.t.Helper()
	for s.waiting() < records {
		if err := s.poll(w.ctx, time.Second); err != nil {
			w.t.Fatal(err)
		}
	}
}

// drainAfter reads until so many records wait, and runs transactions until none does.
func (w *rig) drainAfter(s *session, records int) {
	w.t.Helper()
	w.await(s, records)
	for s.waiting() > 0 {
		w.transact(s)
	}
}

// transact lets a session that is driven by hand make a transaction. One that the group has moved on without makes none, whatever waits.
func (w *rig) transact(s *session) {
	w.t.Helper()
	if err := cmp.Or(w.ctx.Err(), s.transaction(w.ctx)); err != nil {
		w.t.Fatalf("%v; the session was assigned %+v; %s", err, s.assigned, w.underWay())
	}
}

// TestPositionsOfAnotherGenerationAreNotCommitted is about the moment in which the group has moved on and the session does not
// know it yet: what it owned may have another owner.
func TestPositionsOfAnotherGenerationAreNotCommitted(t *testing.T) {
	for name, upset := range map[string]func(*assignment){
		"another generation": func(a *assignment) { a.generation-- },
		"another member":     func(a *assignment) { a.member = "former" },
	} {
		t.Run(name, func(t *testing.T) {
			w := newRig(t)
			s := w.startSession()
			w.write(0, 3)
			w.await(s, rawParts+1)
			known := s.assigned
			upset(&s.assigned)
			if err := s.transaction(w.ctx); err != nil {
				t.Fatal(err)
			}
			group, err := w.positions()
			if err != nil {
				t.Fatal(err)
			}
			if len(group) > 0 || s.waiting() != rawParts+1 || value(t, s.w.metrics.events) != 0 {
				t.Errorf("the group is at %v, %d records wait, expected that nothing is committed", group, s.waiting())
			}
			s.assigned = known
			w.drainAfter(s, 0)
			w.finished()
		})
	}
}

// TestPartitionThatCameBackIsOpenedAnew: between two ownerships another may have gone on with it.
func TestPartitionThatCameBackIsOpenedAnew(t *testing.T) {
	w := newRig(t)
	s := w.startSession()
	w.write(0, 3)
	w.drainAfter(s, rawParts+1)
	former := s.tasks[0]
	w.write(0, 4)
	w.await(s, 1)
	s.members.mu.Lock()
	s.members.fresh = map[int32]bool{0: true}
	s.members.mu.Unlock()
	if err := s.reconcile(w.ctx); err != nil {
		t.Fatal(err)
	}
	if s.tasks[0] != nil || s.waiting() != 0 {
		t.Fatalf("the partition is still open, and %d records wait", s.waiting())
	}
	w.open(s)
	if s.tasks[0] == former {
		t.Error("the partition was not opened anew")
	}
	w.drainAfter(s, 1)
	w.finished()
}

// TestPartitionThatLeavesDoesNotHoldUpOthers has a partition that is given away, and a disk that is slow to take what it has in
// memory.
func TestPartitionThatLeavesDoesNotHoldUpOthers(t *testing.T) {
	w := newRig(t)
	slow, written := make(chan struct{}), make(chan struct{})
	var leaving atomic.Bool
	s := w.startSessionOn(errorfs.Wrap(vfs.NewCrashableMem(), errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind == errorfs.OpFileSync && strings.Contains(op.Path, rawName+"/0/") && leaving.CompareAndSwap(true, false) {
			close(slow)
			select {
			case <-written:
			case <-w.ctx.Done():
			}
		}
		return nil
	})))
	w.write(0, 3)
	w.drainAfter(s, rawParts+1)
	leaving.Store(true)
	s.members.mu.Lock()
	s.members.fresh = map[int32]bool{0: true} // it was given away, and came back
	s.members.mu.Unlock()
	if err := s.reconcile(w.ctx); err != nil {
		t.Fatal(err)
	}
	<-slow
	w.write(1, 4)
	w.drainAfter(s, 1)
	if at := s.tasks[1].committed.Offset; at != 2 || s.tasks[0] != nil {
		t.Errorf("partition 1 is at %d, expected 2; partition 0 is open: %v", at, s.tasks[0] != nil)
	}
	close(written)
	w.open(s)
	w.finished()
}

// TestGiantRecordDoesNotHoldUpOthers has a record of many transactions in one partition, with much behind it.
func TestGiantRecordDoesNotHoldUpOthers(t *testing.T) {
	w := newRig(t)
	s := w.startSession()
	s.w.cfg.MaxEventsPerTxn = 100
	w.drainAfter(s, rawParts)
	behind := make([]int64, pauseRecords+10)
	for i := range behind {
		behind[i] = 1
	}
	w.write(0, append([]int64{20_000}, behind...)...)
	w.await(s, pauseRecords)
	if err := s.transaction(w.ctx); err != nil {
		t.Fatal(err)
	}
	giant := s.tasks[0]
	w.write(1, 7)
	// However long that takes: the giant does not end meanwhile.
	w.until(w.ctx, "the record of another partition comes", func() bool {
		if err := s.poll(w.ctx, time.Second); err != nil {
			t.Fatal(err)
		}
		return s.tasks[1].waiting() > 0
	})
	for s.tasks[1].committed.Offset < 2 {
		if err := s.transaction(w.ctx); err != nil {
			t.Fatal(err)
		}
	}
	if giant.committed.Offset != 1 || giant.done == 0 {
		t.Fatalf("partition 0 is at %v, expected to be within the record at offset 1", giant.committed)
	}
	if !giant.paused {
		t.Error("partition 0 is read on while it is held up")
	}
	s.w.cfg.MaxEventsPerTxn = 10_000
	w.drainAfter(s, 0)
	for giant.committed.Offset < int64(2+len(behind)) {
		w.drainAfter(s, 1)
	}
	if giant.paused {
		t.Error("partition 0 is still paused")
	}
	w.finished()
}

// A partition that was opened when the session ends for another reason is closed, so that the next life of the session can open it.
func TestOpenedIsClosedWhenSessionEnds(t *testing.T) {
	w := newRig(t)
	s := w.startSession()
	opened := s.tasks[0]
	s.drop(opened)
	failed := errors.New("a partition that left was not closed")
	s.mu.Lock()
	s.opened = append(s.opened, &opening{partition: 0, cancel: func() {}, task: opened})
	s.closeErr = failed
	s.mu.Unlock()
	if err := s.reconcile(w.ctx); !errors.Is(err, failed) {
		t.Fatalf("error %v", err)
	}
	if err := s.closeTasks(); err != nil {
		t.Fatal(err)
	}
	clear(s.tasks)
	s.opened = nil
	if s.w.leases.taken(0) {
		t.Error("the partition is open still, and can never be opened again")
	}
}
