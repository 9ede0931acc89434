package state

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"
)

// Scan calls fn for each key with from <= key < to, in order, with what the transaction itself did to them, until fn
// returns false or an error. Key and value are valid during the call only. fn may read but not write.
func (t *Txn) Scan(from, to []byte, fn func(key, value []byte) (more bool, err error)) error {
	if t.err != nil {
		return t.err
	}
	if bytes.Compare(from, to) >= 0 {
		return nil
	}
	iter, err := t.iterator(from, to)
	if err != nil {
		return fmt.Errorf("state: %s: scanning: %w", t.s.dir, explained(err))
	}
	t.scanning++
	err = t.merge(iter, from, to, fn)
	t.scanning--
	if t.iter != iter {
		return errors.Join(err, iter.Close())
	}
	if iter.Error() != nil {
		t.iter = nil
		iter.Close() // its error was returned already
	}
	return err
}

// merge goes through the keys of the store and those that the transaction wrote side by side.
func (t *Txn) merge(iter *pebble.Iterator, from, to []byte, fn func(key, value []byte) (bool, error)) error {
	order := t.o.sorted()
	order = order[t.o.search(order, from):]
	stored := iter.First() // within its bounds
	for {
		for stored && len(t.ranges) > 0 {
			gone := t.deleted(iter.Key())
			if gone == nil {
				break
			}
			stored = iter.SeekGE(gone.to)
		}
		var e *entry
		if len(order) > 0 {
			if e = &t.o.entries[order[0]]; bytes.Compare(t.o.keyOf(e), to) >= 0 {
				e, order = nil, nil
			}
		}
		side := 1 // -1: the store's key is next, 1: the transaction's, 0: both are the same
		switch {
		case !stored && e == nil:
			return t.scanned(iter)
		case e == nil:
			side = -1
		case stored:
			side = bytes.Compare(iter.Key(), t.o.keyOf(e))
		}
		if side < 0 {
			value, err := iter.ValueAndErr()
			if err != nil {
				return fmt.Errorf("state: %s: scanning: %w", t.s.dir, explained(err))
			}
			if more, err := fn(iter.Key(), value); err != nil || !more {
				return err
			}
		} else {
			order = order[1:]
			if e.present {
				if more, err := fn(t.o.keyOf(e), t.o.valueOf(e)); err != nil || !more {
					return err
				}
			}
		}
		if side <= 0 {
			stored = iter.Next()
		}
	}
}

// scanned returns why the iterator ended before its upper bound, if it did.
func (t *Txn) scanned(iter *pebble.Iterator) error {
	if err := iter.Error(); err != nil {
		return fmt.Errorf("state: %s: scanning: %w", t.s.dir, explained(err))
	}
	return nil
}

// iterator returns the transaction's iterator, or one for this scan alone if it is within another scan. The store does
// not change while the transaction is open, so one iterator serves all its scans.
func (t *Txn) iterator(from, to []byte) (*pebble.Iterator, error) {
	if len(from) == 0 {
		from = nil // an empty bound is no bound to Pebble
	}
	if t.scanning == 0 && t.iter != nil {
		t.iter.SetBounds(from, to)
		return t.iter, nil
	}
	if err := t.pin(); err != nil {
		return nil, err
	}
	iter, err := t.from.NewIter(&pebble.IterOptions{LowerBound: from, UpperBound: to})
	if err != nil {
		return nil, err
	}
	if t.scanning == 0 {
		t.iter = iter
	}
	return iter, nil
}
