package state

import (
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"
)

// FlushIfDue starts to write to disk what was committed, if the flush interval has passed since it last did, and does
// not wait for the end. It bounds by time what is folded again after a crash; the size of the memtable bounds it by
// bytes.
func (s *Store) FlushIfDue() error {
	if err := s.usable(); err != nil {
		return err
	}
	now := s.opts.now()
	if s.opts.Cache != nil && now.Sub(s.looked) >= memTableLook {
		s.looked = now
		m := s.db.Metrics()
		s.opts.Cache.take(s, int64(m.MemTable.Size+m.MemTable.ZombieSize))
	}
	if !s.dirty || s.flushing() || now.Sub(s.flushed) < s.opts.FlushInterval {
		return nil
	}
	done, err := s.db.AsyncFlush()
	if err != nil {
		return s.breakWith("flushing", err)
	}
	s.flushDone, s.flushed, s.dirty = done, now, false
	return nil
}

// flushing says whether the flush that FlushIfDue began last is still under way.
func (s *Store) flushing() bool {
	select {
	case <-s.flushDone:
		s.flushDone = nil
	default:
	}
	return s.flushDone != nil
}

// Flush writes to disk what was committed, and waits for the end.
func (s *Store) Flush() error {
	if err := s.usable(); err != nil {
		return err
	}
	now := s.opts.now()
	done, err := s.db.AsyncFlush()
	if err != nil {
		return s.breakWith("flushing", err)
	}
	select {
	case <-done:
	case <-s.failed: // Pebble tries again for ever; done may never come
		return s.usable()
	}
	s.flushDone, s.flushed, s.dirty = nil, now, false
	return nil
}

// writeManifest sees to it that there is a manifest of this opening of the store. Until the first flush there is none (with DisableWAL
// [pebble.Open] writes nothing), and [pebble.DB.Checkpoint] takes that for an empty one.
func (s *Store) writeManifest() error {
	if s.manifest.Load() {
		return nil
	}
	identity, err := s.id.encode()
	if err != nil {
		return fmt.Errorf("state: %w", err)
	}
	// What is there already: something, so that there is something to flush.
	if err := s.db.Set(Meta(nil, StoreGroup, "identity"), identity, pebble.NoSync); err != nil {
		return s.breakWith("flushing", err)
	}
	done, err := s.db.AsyncFlush()
	if err != nil {
		return s.breakWith("flushing", err)
	}
	select {
	case <-done:
		return nil
	case <-s.failed:
		return s.usable()
	}
}

// listener hears of flushes that failed, and of the first manifest. Pebble calls it with locks held, so it must not call Pebble.
//
// Pebble reports the end of a flush with an error also when there was nothing to write, and background errors also of
// compactions, which it may well try again: only what is reported as both has failed here.
func (s *Store) listener() *pebble.EventListener {
	var ended error // of the last flush; Pebble runs one at a time
	return &pebble.EventListener{
		ManifestCreated: func(info pebble.ManifestCreateInfo) {
			if info.Err == nil {
				s.manifest.Store(true)
			}
		},
		CompactionEnd: func(pebble.CompactionInfo) { s.replaced.Store(true) },
		FlushEnd: func(info pebble.FlushInfo) {
			s.replaced.Store(true)
			s.mu.Lock()
			defer s.mu.Unlock()
			ended = info.Err
		},
		BackgroundError: func(err error) {
			s.log(fmt.Sprintf("state: %s: %v", s.dir, err))
			s.mu.Lock()
			failed := ended != nil && errors.Is(err, ended)
			s.mu.Unlock()
			if failed {
				s.breakWith("flushing", err)
			}
		},
		WriteStallBegin: func(info pebble.WriteStallBeginInfo) {
			s.stalls.Add(1)
			s.log(fmt.Sprintf("state: %s: commits wait: %s", s.dir, info.Reason))
		},
		DataCorruption: func(info pebble.DataCorruptionInfo) {
			// Compactions would meet it again and again, so nothing goes on.
			logger{s.opts.Log, s.opts.Fatal}.Fatalf("the disk has damaged %s: %v; move the directory away, the state is then restored "+
				"from a checkpoint, or built again from the raw topic", info.Path, info.Details)
		},
	}
}
