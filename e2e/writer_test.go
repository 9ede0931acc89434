package e2e

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	gocql "github.com/apache/cassandra-gocql-driver/v2"
	"golang.org/x/sync/errgroup"
)

// inFlight is how many operations are sent at once.
const inFlight = 48

// writer runs phases of the workload against the cluster.
type writer struct {
	// sessions are those with the nodes that run; operations go to them in turn.
	sessions []*gocql.Session
	// done counts the operations that are acknowledged; retries the attempts beyond the first.
	done, retries atomic.Int64
}

// gate holds a phase back: no operation from the given one on is sent before opened is closed. So what is to happen in the
// middle of a phase does.
type gate struct {
	operation int
	opened    <-chan struct{}
}

// run sends all operations of a phase and returns when they are acknowledged.
func (w *writer) run(ctx context.Context, p *phase, gates ...gate) error {
	return schedule(ctx, p, gates, func(ctx context.Context, i int, op *operation) error {
		err := w.send(ctx, w.sessions[i%len(w.sessions)], p, op)
		if err != nil {
			return fmt.Errorf("phase %s, operation %d, %s at %s: %w", p.name, i, op.statements[0], op.consistency, err)
		}
		w.done.Add(1)
		return nil
	})
}

// schedule calls send for each operation of a phase, several at once. In an ordered phase an operation waits for those
// before it on its partitions.
func schedule(ctx context.Context, p *phase, gates []gate, send func(ctx context.Context, i int, op *operation) error) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(inFlight)
	last := map[string]chan struct{}{} // of each partition key: closed when the last operation on it is acknowledged
	for i, op := range p.operations {
		for _, gate := range gates {
			if i != gate.operation {
				continue
			}
			select {
			case <-gate.opened:
			case <-ctx.Done():
				return errors.Join(g.Wait(), context.Cause(ctx))
			}
		}
		acknowledged := make(chan struct{})
		var before []chan struct{}
		if p.ordered {
			for _, s := range op.statements {
				key := s.keyOfPartition()
				if c := last[key]; c != nil && c != acknowledged {
					before = append(before, c)
				}
				last[key] = acknowledged
			}
		}
		// Operations start in their order and wait for earlier ones only, so the limit cannot lock them up.
		g.Go(func() error {
			defer close(acknowledged)
			for _, c := range before {
				select {
				case <-c:
				case <-ctx.Done():
					return context.Cause(ctx)
				}
			}
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			return send(ctx, i, op)
		})
	}
	return g.Wait()
}

// send sends an operation. In a free phase it is sent again after an error: with its own write time a second attempt does no
// harm. In an ordered phase it would: the first attempt could reach a replica's log behind later operations.
func (w *writer) send(ctx context.Context, s *gocql.Session, p *phase, op *operation) error {
	attempts := 5
	if p.ordered {
		attempts = 1
	}
	var err error
	for n := range attempts {
		if n > 0 {
			w.retries.Add(1)
		}
		if err = execute(ctx, s, op); err == nil || ctx.Err() != nil {
			return err
		}
	}
	return err
}

func execute(ctx context.Context, s *gocql.Session, op *operation) error {
	if len(op.statements) == 1 {
		query, args := op.statements[0].cql()
		return s.Query(query, args...).Consistency(op.consistency).ExecContext(ctx)
	}
	kind := gocql.UnloggedBatch
	if op.logged {
		kind = gocql.LoggedBatch
	}
	b := s.Batch(kind).Consistency(op.consistency)
	for _, statement := range op.statements {
		query, args := statement.cql()
		b.Query(query, args...)
	}
	return b.ExecContext(ctx)
}

func TestScheduleKeepsTheOrderOfAPartition(t *testing.T) {
	g := newGenerator(3, 0)
	p := g.ordered("ordered", 1000)
	opened := make(chan struct{})
	var (
		mu     sync.Mutex
		begun  = map[string][]int{} // operations of each partition in the order in which they were sent
		closed bool
		busy   = map[string]bool{}
	)
	err := schedule(t.Context(), p, []gate{{500, opened}}, func(_ context.Context, i int, op *operation) error {
		keys := map[string]bool{}
		for _, s := range op.statements {
			keys[s.keyOfPartition()] = true
		}
		mu.Lock()
		if i >= 500 && !closed {
			t.Errorf("operation %d was sent before the gate was opened", i)
		}
		if i == 499 {
			closed = true
			close(opened)
		}
		for key := range keys {
			if busy[key] {
				t.Errorf("operation %d was sent while another on %s was not acknowledged", i, key)
			}
			busy[key] = true
			begun[key] = append(begun[key], i)
		}
		mu.Unlock()
		runtime.Gosched()
		mu.Lock()
		defer mu.Unlock()
		for key := range keys {
			delete(busy, key)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	total := 0
	for key, list := range begun {
		total += len(list)
		if !slices.IsSorted(list) {
			t.Errorf("operations on %s were sent in the order %v", key, list)
		}
	}
	if total < len(p.operations) {
		t.Errorf("%d of %d operations were sent", total, len(p.operations))
	}
	failure := errors.New("no")
	if err := schedule(t.Context(), p, []gate{{500, make(chan struct{})}}, func(_ context.Context, i int, _ *operation) error {
		if i == 100 {
			return failure
		}
		return nil
	}); !errors.Is(err, failure) {
		t.Errorf("after an error of one operation: %v", err)
	}
}
