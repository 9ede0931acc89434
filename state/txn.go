package state

import (
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"
)

// Txn collects what is derived from a run of input, in memory, and sees it itself. Nothing of it is in the store before
// Commit, and all of it is after. It is for one goroutine.
type Txn struct {
	s     *Store
	batch *pebble.Batch
	err   error // why it cannot be used
	arena []byte
}

// Begin begins a transaction. There is one at a time: if the one before has not ended, or if the store is not usable, all
// methods of the transaction return that error.
func (s *Store) Begin() *Txn {
	if err := s.usable(); err != nil {
		return &Txn{err: err}
	}
	if s.txn != nil {
		return &Txn{err: fmt.Errorf("%w: %s", ErrBusy, s.dir)}
	}
	s.txn = &Txn{s: s, batch: s.db.NewIndexedBatch()}
	return s.txn
}

// Get returns the value of key: nil if there is none, not nil if it is empty. It is valid until the next call that
// writes, or the end of the transaction; it must not be altered.
func (t *Txn) Get(key []byte) ([]byte, error) {
	if t.err != nil {
		return nil, t.err
	}
	value, closer, err := t.batch.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("state: %s: reading: %w", t.s.dir, err)
	}
	at := len(t.arena)
	t.arena = append(t.arena, value...)
	value = t.arena[at:len(t.arena):len(t.arena)]
	if value == nil {
		value = []byte{}
	}
	return value, closer.Close()
}

// Set gives key a value. Both are copied.
func (t *Txn) Set(key, value []byte) error {
	if t.err != nil {
		return t.err
	}
	t.arena = t.arena[:0]
	return t.batch.Set(key, value, nil)
}

// Delete removes key, if it is there.
func (t *Txn) Delete(key []byte) error {
	if t.err != nil {
		return t.err
	}
	t.arena = t.arena[:0]
	return t.batch.Delete(key, nil)
}

// Scan calls fn for each key with from <= key < to, in order, with what the transaction itself did to them, until fn
// returns false or an error. Key and value are valid during the call only; fn must not write.
func (t *Txn) Scan(from, to []byte, fn func(key, value []byte) (more bool, err error)) error {
	if t.err != nil {
		return t.err
	}
	it, err := t.batch.NewIter(&pebble.IterOptions{LowerBound: from, UpperBound: to})
	if err != nil {
		return fmt.Errorf("state: %s: scanning: %w", t.s.dir, err)
	}
	for ok := it.First(); ok; ok = it.Next() {
		more, err := fn(it.Key(), it.Value())
		if err != nil || !more {
			return errors.Join(err, it.Close())
		}
	}
	return it.Close()
}

// Bytes is how much memory the transaction holds, about: the caller bounds it by committing in time.
func (t *Txn) Bytes() int {
	if t.err != nil {
		return 0
	}
	return t.batch.Len() + cap(t.arena)
}

// Commit puts what the transaction did into the store, together with the position of the input it was derived from, and
// ends the transaction. A position before that of the store is refused, and nothing is stored. After any other error the store is
// broken: see [ErrBroken].
func (t *Txn) Commit(p Position) error {
	if t.err != nil {
		return t.err
	}
	defer t.Discard()
	s := t.s
	if now, ok := s.Position(); ok && p.Compare(now) < 0 {
		return fmt.Errorf("state: %s: commit at position %v, before the position %v of the store", s.dir, p, now)
	}
	if err := t.batch.Set(s.positionKey, appendPosition(nil, p), nil); err != nil {
		return s.breakWith("committing", err)
	}
	if err := t.batch.Commit(pebble.NoSync); err != nil {
		return s.breakWith("committing", err)
	}
	s.dirty = true
	s.mu.Lock()
	s.position, s.known = p, true
	s.mu.Unlock()
	return nil
}

// Discard ends the transaction; the store is as before it. After Commit it does nothing.
func (t *Txn) Discard() {
	if t.err != nil {
		return
	}
	t.err = fmt.Errorf("%w: the transaction has ended", ErrClosed)
	t.batch.Close()
	t.s.txn = nil
}
