package dedup

import (
	"context"
	"sync"
)

// leases sees to it that one session at a time has the store of a partition open: when a partition moves between two
// sessions of a process, the new owner may be told before the former one has closed the store. The zero value is ready.
type leases struct {
	mu   sync.Mutex
	held map[int32]chan struct{} // closed when the lease is given back
}

// acquire waits until the partition is free, or until ctx ends.
func (l *leases) acquire(ctx context.Context, partition int32) (release func(), err error) {
	for {
		release, taken := l.take(partition)
		if release != nil {
			return release, nil
		}
		select {
		case <-taken:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// take takes the partition if it is free. Otherwise release is nil, and taken is closed when it is worth another attempt.
func (l *leases) take(partition int32) (release func(), taken <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if taken, ok := l.held[partition]; ok {
		return nil, taken
	}
	if l.held == nil {
		l.held = map[int32]chan struct{}{}
	}
	free := make(chan struct{})
	l.held[partition] = free
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.held, partition)
		close(free)
	}, nil
}

// taken reports whether the partition is not free.
func (l *leases) taken(partition int32) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, taken := l.held[partition]
	return taken
}
