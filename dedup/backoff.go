package dedup

import (
	"context"
	"time"
)

// The waits between attempts at what failed.
const (
	firstWait   = 100 * time.Millisecond
	longestWait = 10 * time.Second
)

// backoff waits between attempts, each time twice as long. The zero value is ready.
type backoff struct{ next time.Duration }

// wait returns when it is time for another attempt, or when ctx ends.
func (b *backoff) wait(ctx context.Context) {
	b.next = max(b.next, firstWait)
	timer := time.NewTimer(b.next)
	defer timer.Stop()
	b.next = min(2*b.next, longestWait)
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// reset is called after a success.
func (b *backoff) reset() { b.next = 0 }
