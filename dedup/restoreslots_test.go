package dedup

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
)

// What can wait waits as long as a partition is restored or waits for a slot.
func TestRestoreSlots(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := restoreSlots{slots: make(chan struct{}, 1)}
		if err := s.idle(t.Context()); err != nil {
			t.Fatal(err)
		}
		end, err := s.begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		second := make(chan func())
		go func() {
			end, err := s.begin(t.Context())
			if err != nil {
				t.Error(err)
			}
			second <- end
		}()
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() {
			_, err := s.begin(ctx)
			ended <- err
		}()
		synctest.Wait()
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("error %v", err)
		}
		idle := make(chan error, 1)
		go func() { idle <- s.idle(t.Context()) }()
		waits := func() {
			t.Helper()
			synctest.Wait()
			select {
			case err := <-idle:
				t.Fatalf("it did not wait: %v", err)
			default:
			}
		}
		waits()
		end()
		end = <-second
		waits()
		end()
		if err := <-idle; err != nil {
			t.Error(err)
		}
		if end, err = s.begin(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := s.idle(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("error %v", err)
		}
		end()
	})
}

func TestLeases(t *testing.T) {
	var l leases
	release, err := l.acquire(t.Context(), 3)
	if err != nil || !l.taken(3) || l.taken(4) {
		t.Fatalf("%v, taken %v", err, l.held)
	}
	if again, _ := l.take(3); again != nil {
		t.Error("taken twice")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := l.acquire(ctx, 3); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	next := make(chan func())
	go func() {
		release, err := l.acquire(t.Context(), 3)
		if err != nil {
			t.Error(err)
		}
		next <- release
	}()
	release()
	release = <-next
	if !l.taken(3) {
		t.Error("it is free")
	}
	release()
	if l.taken(3) {
		t.Error("it is not free")
	}
}
