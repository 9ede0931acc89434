package state

import (
	"fmt"

	"github.com/cockroachdb/pebble/v2"
)

// forgetRows forgets what the row cache has of the store. It can be warmed again.
func (s *Store) forgetRows() {
	if s.owner != nil {
		s.opts.Rows.forget(s.owner)
	}
	s.owner, s.warmed = &owner{}, false
	s.warm, _ = SpaceSpan(nil, nil, uint16(s.id.Partition), SpaceRows)
}

// allCached reports whether the row cache has all rows of the store: it was warmed up to the last one, and lost none since.
func (s *Store) allCached() bool { return s.warmed && !s.owner.lost.Load() }

// Warm reads up to so many rows into the row cache, in the order of their keys and from where it was before, until it came
// to the last one or the cache is full. It reports whether it is done with that. If all rows are in the cache, it also answers
// for those that do not exist. What it reads is what is committed, so no
// transaction may be open that holds its own.
func (s *Store) Warm(rows int) (done bool, err error) {
	if err := s.usable(); err != nil || s.warm == nil {
		return true, err
	}
	if s.txn != nil {
		return false, fmt.Errorf("%w: %s", ErrBusy, s.dir)
	}
	if s.opts.Rows.Full() {
		s.warm = nil
		return true, nil
	}
	_, to := SpaceSpan(nil, nil, uint16(s.id.Partition), SpaceRows)
	iter, err := s.db.NewIter(&pebble.IterOptions{LowerBound: s.warm, UpperBound: to})
	if err != nil {
		return false, fmt.Errorf("state: %s: warming: %w", s.dir, explained(err))
	}
	err = s.warmWith(iter, rows)
	if closeErr := iter.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return false, fmt.Errorf("state: %s: warming: %w", s.dir, explained(err))
	}
	return s.warm == nil, nil
}

func (s *Store) warmWith(iter *pebble.Iterator, rows int) error {
	more := iter.First()
	for ; more && rows > 0; rows-- {
		value, err := iter.ValueAndErr()
		if err != nil {
			return err
		}
		if value == nil {
			value = []byte{}
		}
		if s.cacheable(iter.Key()) {
			s.cacheRow(s.overlay.hash(iter.Key()), iter.Key(), value)
		}
		more = iter.Next()
	}
	if err := iter.Error(); err != nil {
		return err
	}
	if more {
		s.warm = append(s.warm[:0], iter.Key()...)
	} else {
		s.warm, s.warmed = nil, true
	}
	return nil
}
