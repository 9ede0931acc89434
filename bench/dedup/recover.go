package main

import (
	"context"
	"fmt"
	"io"
	"syscall"
	"time"
)

// recovery is what a worker that was killed does when it is started again.
type recovery struct {
	done  float64       // share of the last phase's raw records that was folded when it was killed
	state int64         // on disk then, bytes
	first time.Duration // from the start until new events are committed
	whole time.Duration // until all are
}

const lookEvery = 10 * time.Millisecond

// recover starts the worker, kills it amid the last phase, and starts it again.
func (w *worker) recover(ctx context.Context, phases []phase) (*recovery, error) {
	end, err := w.kafka.ends(ctx, rawTopic)
	if err != nil {
		return nil, err
	}
	last := int64(phases[len(phases)-1].records)
	if err := w.start(ctx); err != nil {
		return nil, err
	}
	if _, err := w.await(ctx, end-last/2); err != nil {
		return nil, err
	}
	if err := w.stop(syscall.SIGKILL); err != nil {
		return nil, err
	}
	at, err := w.settled(ctx)
	if err != nil {
		return nil, err
	}
	r := &recovery{done: float64(last-(end-at)) / float64(last)}
	if r.state, err = sizeOf(w.state); err != nil {
		return nil, err
	}
	started := time.Now()
	if err := w.start(ctx); err != nil {
		return nil, err
	}
	first, err := w.await(ctx, at+1)
	if err != nil {
		return nil, err
	}
	all, err := w.await(ctx, end)
	if err != nil {
		return nil, err
	}
	r.first, r.whole = first.Sub(started), all.Sub(started)
	return r, w.stop(syscall.SIGTERM)
}

// settled is what the group has committed, once the end of the last transaction is there.
func (w *worker) settled(ctx context.Context) (int64, error) {
	for last := int64(-1); ; time.Sleep(time.Second / 2) {
		now, err := w.kafka.committed(ctx, w.group)
		if err != nil || now == last {
			return now, err
		}
		last = now
	}
}

// await waits until the group has committed so much, and returns when it saw that. After an error the worker is dead.
func (w *worker) await(ctx context.Context, records int64) (time.Time, error) {
	for {
		now, err := w.kafka.committed(ctx, w.group)
		if err == nil {
			err = w.alive()
		}
		if err != nil {
			w.stop(syscall.SIGKILL)
			return time.Time{}, err
		}
		if now >= records {
			return time.Now(), nil
		}
		time.Sleep(lookEvery)
	}
}

func (r *recovery) print(out io.Writer) {
	fmt.Fprintf(out, "  killed           after %.0f %% of the updates, with %.0f MB of state on disk\n", 100*r.done, float64(r.state)/1e6)
	fmt.Fprintf(out, "  new events       committed %.2f s after it was started again, all after %.1f s\n", r.first.Seconds(), r.whole.Seconds())
}
