package dedup

import (
	"cmp"
	"context"
	"slices"
	"sync"
)

// replaySlots bound how many partitions are replayed at once, as there is a processor for each of them. Those with the least left
// go first, so that after a crash the first ones go on soon, and most of them before the longest.
type replaySlots struct {
	mu      sync.Mutex
	free    int
	waiting []*replayWaiter
}

type replayWaiter struct {
	left    int64 // records to fold
	granted chan struct{}
}

func newReplaySlots(slots int) *replaySlots { return &replaySlots{free: slots} }

// acquire waits for a slot for a replay with so many records left, or until ctx ends.
func (s *replaySlots) acquire(ctx context.Context, left int64) error {
	s.mu.Lock()
	if s.free > 0 {
		s.free--
		s.mu.Unlock()
		return nil
	}
	w := &replayWaiter{left: left, granted: make(chan struct{})}
	s.waiting = append(s.waiting, w)
	s.mu.Unlock()
	select {
	case <-w.granted:
		return nil
	case <-ctx.Done():
	}
	s.mu.Lock()
	at := slices.Index(s.waiting, w)
	if at >= 0 {
		s.waiting = slices.Delete(s.waiting, at, at+1)
	}
	s.mu.Unlock()
	if at < 0 { // it was granted at the same time
		s.release()
	}
	return context.Cause(ctx)
}

// release hands a slot on.
func (s *replaySlots) release() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.waiting) == 0 {
		s.free++
		return
	}
	next := slices.MinFunc(s.waiting, func(a, b *replayWaiter) int { return cmp.Compare(a.left, b.left) })
	s.waiting = slices.DeleteFunc(s.waiting, func(w *replayWaiter) bool { return w == next })
	close(next.granted)
}

// overtaken reports whether one waits that has less left than so many records, and is to have the slot.
func (s *replaySlots) overtaken(left int64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.ContainsFunc(s.waiting, func(w *replayWaiter) bool { return w.left < left })
}
