package dedup

import (
	"context"
	"sync"
)

// restoreSlots bound how many partitions are restored at once, and hold up what can wait meanwhile.
type restoreSlots struct {
	slots chan struct{}

	mu     sync.Mutex
	wanted int           // by those that have a slot or wait for one
	none   chan struct{} // closed when it is by none again; nil while it is
}

// begin waits for a slot, or until ctx ends.
func (s *restoreSlots) begin(ctx context.Context) (end func(), err error) {
	s.want(1)
	select {
	case s.slots <- struct{}{}:
		return func() { <-s.slots; s.want(-1) }, nil
	case <-ctx.Done():
		s.want(-1)
		return nil, context.Cause(ctx)
	}
}

func (s *restoreSlots) want(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.wanted += n
	switch {
	case s.wanted == 0:
		close(s.none)
		s.none = nil
	case s.none == nil:
		s.none = make(chan struct{})
	}
}

// idle waits until no partition is restored or waits for that, or until ctx ends.
func (s *restoreSlots) idle(ctx context.Context) error {
	for {
		s.mu.Lock()
		none := s.none
		s.mu.Unlock()
		if none == nil {
			return nil
		}
		select {
		case <-none:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
