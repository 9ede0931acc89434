package dedup

import (
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// handRelease is a session driven by hand that releases a table that is parked in all raw partitions.
type handRelease struct {
	*pairRig
	s *session
	// encoded are the events of ks.other that were encoded.
	encoded int
}

// newHandRelease parks so many events in each raw partition.
func newHandRelease(t *testing.T, events int64, change ...func(*Worker)) *handRelease {
	h := &handRelease{pairRig: newPairRig(t)}
	h.s = h.startSessionOn(vfs.NewCrashableMem(), append([]func(*Worker){h.setup}, change...)...)
	h.encoder.breakWith(errNoRight)
	for p := range int32(rawParts) {
		h.put(p, events) // behind the init, so of ks.other
	}
	h.drainAfter(h.s, 2*rawParts)
	if n := h.parkedIn(); n != rawParts {
		t.Fatalf("parked in %d partitions, expected all", n)
	}
	h.encoder.broken.Store(nil)
	h.encoder.fail = func(e *Event) error {
		if e.Table.Name == otherTable.Name {
			h.encoded++
		}
		return nil
	}
	for _, task := range h.s.tasks {
		h.s.startRelease(h.ctx, task)
	}
	return h
}

// next waits for something to release, releases it and returns how many events that were. It is not ok once nothing is parked.
func (h *handRelease) next() (events int, ok bool) {
	h.t.Helper()
	left := 0
	for _, task := range h.s.tasks {
		left += len(task.parked)
	}
	if left == 0 {
		return 0, false
	}
	h.until(h.ctx, "something is read of the parked topic", func() bool {
		h.s.takeChunks(h.ctx)
		return h.s.releasing()
	})
	before := h.encoded
	h.transact(h.s)
	return h.encoded - before, true
}

// ahead is how many partitions have read something that is not written.
func (h *handRelease) ahead() (n int) {
	for _, task := range h.s.tasks {
		if r := task.release; r != nil {
			n += len(r.chunks)
			if r.chunk != nil {
				n++
			}
		}
	}
	return n
}

// TestReleaseIsBoundedOverAllPartitions releases more than a transaction may have, while other events are folded.
func TestReleaseIsBoundedOverAllPartitions(t *testing.T) {
	t.Parallel() // it mostly waits
	const limit = 100
	h := newHandRelease(t, 3*limit, func(w *Worker) { w.cfg.MaxEventsPerTxn, w.cfg.CommitInterval = limit, time.Second })
	for p := range int32(rawParts) {
		h.put(p, limit/2) // of ks.counted
	}
	h.await(h.s, rawParts)
	transactions := 0
	for ; ; transactions++ {
		if n := h.ahead(); n > releaseTurns {
			t.Errorf("%d partitions have read ahead, expected %d at most", n, releaseTurns)
		}
		n, ok := h.next()
		if !ok {
			break
		}
		if n > limit {
			t.Errorf("a transaction released %d events, expected %d at most", n, limit)
		}
		if transactions == rawParts*limit/2/(limit/foldShare) && h.s.waiting() > 0 {
			t.Errorf("after %d transactions that released, %d records wait to be folded", transactions+1, h.s.waiting())
		}
	}
	if least := rawParts * 3 * limit / limit; transactions < least {
		t.Errorf("%d transactions, expected %d at least", transactions, least)
	}
	h.other()
}

// TestSlowReleaseIsCommittedInParts releases events of which one takes longer than a commit interval.
func TestSlowReleaseIsCommittedInParts(t *testing.T) {
	t.Parallel() // it mostly waits
	h := newHandRelease(t, 5)
	count := h.encoder.fail
	h.encoder.fail = func(e *Event) error {
		<-time.After(2 * h.s.w.cfg.CommitInterval)
		return count(e)
	}
	for {
		n, ok := h.next()
		if !ok {
			break
		}
		if n > releaseTurns {
			t.Errorf("a transaction released %d events, expected one of each partition that has something", n)
		}
	}
	h.other()
}
