package dedup

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
)

// TestReplaySlots: of the replays that wait, the one with the least left is next, and has one with more left give way.
func TestReplaySlots(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newReplaySlots(1)
		if err := s.acquire(t.Context(), 100); err != nil {
			t.Fatal(err)
		}
		var order []int64
		for _, left := range []int64{50, 10, 70} {
			go func() {
				if err := s.acquire(t.Context(), left); err != nil {
					t.Error(err)
				}
				order = append(order, left)
				s.release()
			}()
		}
		gone, cancel := context.WithCancelCause(t.Context())
		enough := errors.New("enough")
		ended := make(chan error)
		go func() { ended <- s.acquire(gone, 1) }()
		synctest.Wait()
		if !s.overtaken(2) || s.overtaken(1) {
			t.Error("one with 1 left overtakes those with more, and no other")
		}
		cancel(enough)
		if err := <-ended; !errors.Is(err, enough) {
			t.Errorf("given up: %v", err)
		}
		if !s.overtaken(11) || s.overtaken(10) {
			t.Error("one with 10 left overtakes those with more, and no other")
		}
		s.release()
		synctest.Wait()
		if want := []int64{10, 50, 70}; !slices.Equal(order, want) {
			t.Errorf("slots went to those with %v left, expected %v", order, want)
		}
		if s.free != 1 || len(s.waiting) != 0 {
			t.Errorf("at the end %d slots are free and %d wait", s.free, len(s.waiting))
		}
	})
}
