package agent

import (
	"context"
	"errors"
	"math/rand/v2"
	"testing"
	"time"

	"cassdelta/commitlog"
)

// The ledger against what it stands for: the position is that of the last mutation before the first one with a record
// that is not acknowledged.
func TestLedgerMovesOverContiguousRuns(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 1))
	for range 200 {
		l := newLedger(stored{}, flightBounds{bytes: 1 << 30, records: 1 << 30})
		type read struct {
			position commitlog.Position
			pending  int
			end      bool
		}
		var log []*read
		type flying struct {
			n    uint64
			read *read
		}
		var flight []flying
		ended := map[int64]bool{}
		at := commitlog.Position{Segment: 1}
		for range 300 {
			switch rnd.IntN(10) {
			case 0: // the segment ends
				log = append(log, &read{position: at, end: true})
				l.end(segment{7, at.Segment}, at, endFinished)
				at = commitlog.Position{Segment: at.Segment + 1 + rnd.Int64N(3)}
			case 1, 2: // a mutation of no interest
				at.Offset += 10
				log = append(log, &read{position: at})
				l.skip(at)
			case 3, 4, 5: // a mutation with records, some of which are acknowledged before the last is on its way
				at.Offset += 10
				r := &read{position: at, pending: 1}
				log = append(log, r)
				n := l.begin(at)
				for range rnd.IntN(4) {
					if err := l.acquire(t.Context(), n, 1); err != nil {
						t.Fatal(err)
					}
					if rnd.IntN(3) == 0 {
						l.release(n, 1)
						continue
					}
					r.pending++
					flight = append(flight, flying{n, r})
				}
				r.pending--
				l.done(n)
			default: // an acknowledgement, of any record in flight
				if len(flight) > 0 {
					i := rnd.IntN(len(flight))
					f := flight[i]
					flight[i] = flight[len(flight)-1]
					flight = flight[:len(flight)-1]
					f.read.pending--
					l.release(f.n, 1)
				}
			}
			var want commitlog.Position
			wantEnded := map[int64]bool{}
			for _, r := range log {
				if r.pending > 0 {
					break
				}
				want = r.position
				if r.end {
					wantEnded[r.position.Segment] = true
				}
			}
			got, removable := l.snapshot()
			// A mutation without records can wait for the one with records before it, never the other way round.
			if p := (commitlog.Position{Segment: got.Segment, Offset: got.Offset}); p != want {
				t.Fatalf("position %+v, expected %+v", p, want)
			}
			for _, s := range removable {
				if ended[s.id] {
					t.Fatalf("segment %d is removable twice", s.id)
				}
				ended[s.id] = true
			}
			if len(ended) != len(wantEnded) || len(got.Finished) != len(wantEnded) {
				t.Fatalf("finished %v, removable so far %v, expected %v", got.Finished, ended, wantEnded)
			}
			if records, bytes, _ := l.flight(); records != len(flight) || bytes != len(flight) {
				t.Fatalf("%d records with %d bytes in flight, expected %d", records, bytes, len(flight))
			}
		}
	}
}

func TestLedgerWaitsForRoom(t *testing.T) {
	l := newLedger(stored{}, flightBounds{bytes: 100, records: 2})
	n := l.begin(commitlog.Position{Segment: 1, Offset: 1})
	ctx, cancel := context.WithCancelCause(t.Context())
	acquire := func(bytes int) error { return l.acquire(ctx, n, bytes) }
	if err := acquire(1000); err != nil {
		t.Fatalf("a record above the bound, alone: %v", err)
	}
	l.release(n, 1000)
	if err := errors.Join(acquire(60), acquire(40)); err != nil {
		t.Fatal(err)
	}
	waiting := make(chan error)
	go func() { waiting <- acquire(10) }()
	l.release(n, 40)
	if err := <-waiting; err != nil {
		t.Fatal(err)
	}
	go func() { waiting <- acquire(1) }()
	stopped := errors.New("stopped")
	cancel(stopped)
	if err := <-waiting; err != stopped {
		t.Fatalf("error %v", err)
	}
}

func TestRecentForgetsTheOldest(t *testing.T) {
	var ids []int64
	for i := range int64(keptIDs + 10) {
		ids = append(ids, i, i) // twice is once
	}
	r := newRecent(ids)
	if len(r.ids) != keptIDs || len(r.set) != keptIDs || r.has(9) || !r.has(10) || !r.has(keptIDs+9) {
		t.Errorf("%d ids from %d on", len(r.ids), r.ids[0])
	}
}
