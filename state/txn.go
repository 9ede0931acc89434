package state

import (
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"
)

// Errors of a [Txn].
var (
	// ErrBusy is returned by a transaction that was begun before the one before it had ended.
	ErrBusy = errors.New("state: another transaction is open")
	// ErrTooLarge is returned once a transaction holds a GiB. It can only be discarded then.
	ErrTooLarge = errors.New("state: the transaction is too large")

	errEnded    = errors.New("state: the transaction has ended")
	errScanning = errors.New("state: a write during a scan; collect the keys and write them after it")
)

// Txn collects what is derived from a run of input, in memory, and sees it itself. Nothing of it is in the store before
// Commit, and all of it is after. It is for one goroutine.
type Txn struct {
	s   *Store
	o   *overlay
	err error // why it cannot be used

	from pebble.Reader // what it reads: the store, or a reader

	ranges []keySpan // of DeleteRange
	epoch  string    // of SetEpoch

	iter     *pebble.Iterator // made by the first scan, used again by the next
	scanning int              // scans under way
	probe    *pebble.Iterator // made by the first key that is probably not there
	pinned   *pebble.Iterator // see pin
}

// Begin begins a transaction. There is one at a time: if the one before has not ended, or if the store is not usable,
// all methods of the transaction return that error.
func (s *Store) Begin() *Txn {
	if err := s.usable(); err != nil {
		return &Txn{err: err}
	}
	if s.txn != nil {
		return &Txn{err: fmt.Errorf("%w: %s", ErrBusy, s.dir)}
	}
	s.txn = &Txn{s: s, o: s.overlay, from: s.db}
	return s.txn
}

// Get returns the value of key: nil if there is none, not nil if it is empty. It is valid until the transaction ends,
// also when the key is written meanwhile, and must not be altered.
func (t *Txn) Get(key []byte) ([]byte, error) {
	if t.err != nil {
		return nil, t.err
	}
	hash := t.o.hash(key)
	index := t.o.find(hash, key)
	if index < 0 {
		var err error
		if index, err = t.load(hash, key); err != nil {
			return nil, err
		}
	} else {
		t.s.counts.getsFromTxn++
	}
	e := &t.o.entries[index]
	if !e.present {
		return nil, nil
	}
	return t.o.valueOf(e), nil
}

// load reads a key from the store into the overlay.
func (t *Txn) load(hash uint64, key []byte) (int, error) {
	if len(t.ranges) > 0 && t.deleted(key) != nil {
		if !t.o.fits(key, nil) {
			t.err = fmt.Errorf("%w: %s", ErrTooLarge, t.s.dir)
			return 0, t.err
		}
		index := t.o.add(hash, key)
		t.o.entries[index].absentBelow = true
		return index, nil
	}
	if index, known := t.loadCached(hash, key); known {
		return index, nil
	}
	t.s.counts.gets++
	var index int
	var absent bool
	err := t.pin()
	switch {
	case err != nil:
	case t.s.missing.probably():
		index, absent, err = t.look(hash, key)
	default:
		index, absent, err = t.read(hash, key)
	}
	if err != nil && !errors.Is(err, ErrTooLarge) {
		return 0, fmt.Errorf("state: %s: reading: %w", t.s.dir, explained(err))
	}
	t.s.missing.note(absent)
	return index, err
}

// read reads a key that is probably there, level by level until it is found. Pebble does not ask the Bloom filters of the last level
// then, so that a key that is not there costs a block of a table.
func (t *Txn) read(hash uint64, key []byte) (index int, absent bool, err error) {
	value, closer, err := t.from.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		index, err = t.found(hash, key, nil)
		return index, true, err
	}
	if err != nil {
		return 0, false, err
	}
	if value == nil {
		value = []byte{}
	}
	index, err = t.found(hash, key, value)
	if closeErr := closer.Close(); err == nil {
		err = closeErr
	}
	return index, false, err
}

// look reads a key that is probably not there: it asks the Bloom filters of all levels first, and then reads each level that may have it.
func (t *Txn) look(hash uint64, key []byte) (index int, absent bool, err error) {
	if t.probe == nil {
		t.probe, err = t.from.NewIter(&pebble.IterOptions{UseL6Filters: true})
		if err != nil {
			return 0, false, err
		}
	}
	if !t.probe.SeekPrefixGE(key) {
		if err := t.probe.Error(); err != nil {
			return 0, false, err
		}
		index, err = t.found(hash, key, nil)
		return index, true, err
	}
	value, err := t.probe.ValueAndErr()
	if err != nil {
		return 0, false, err
	}
	if value == nil {
		value = []byte{}
	}
	index, err = t.found(hash, key, value)
	return index, false, err
}

// found puts what the store has of a key into the overlay; value is nil if it has nothing.
func (t *Txn) found(hash uint64, key, value []byte) (int, error) {
	if !t.o.fits(key, value) {
		t.err = fmt.Errorf("%w: %s", ErrTooLarge, t.s.dir)
		return 0, t.err
	}
	index := t.o.add(hash, key)
	if e := &t.o.entries[index]; value == nil {
		e.absentBelow = true
	} else {
		t.o.setValue(e, value)
	}
	return index, nil
}

// missing counts, of what was read of late, what was not there against what was.
type missing int

const mostMissing = 64

// probably reports whether the next key that is read is probably not there.
func (m missing) probably() bool { return m > mostMissing/2 }

func (m *missing) note(absent bool) {
	if absent {
		*m = min(*m+1, mostMissing)
	} else {
		*m = max(*m-1, 0)
	}
}

// loadCached reads a key from the row cache into the overlay, if that knows it.
func (t *Txn) loadCached(hash uint64, key []byte) (index int, known bool) {
	rows := t.s.opts.Rows
	if !t.s.cacheable(key) || !t.o.hasRoom(len(key)+rows.largest()) {
		return 0, false
	}
	at := len(t.o.arena)
	arena, known, present := rows.get(hash, rows.number(t.s.owner, key), key[partitionAt:], t.o.arena)
	if !known {
		if !t.s.allCached() {
			return 0, false
		}
		index = t.o.add(hash, key)
		t.o.entries[index].absentBelow = true
		t.s.counts.getsFromCache++
		return index, true
	}
	t.s.counts.getsFromCache++
	t.o.arena = arena
	length := len(arena) - at
	index = t.o.add(hash, key)
	e := &t.o.entries[index]
	e.cached, e.present, e.absentBelow = true, present, !present
	e.value, e.valueLen = uint32(at), uint32(length)
	return index, true
}

// cacheable reports whether the row cache takes a key.
func (s *Store) cacheable(key []byte) bool {
	return s.opts.Rows != nil && len(key) > partitionAt && Space(key[spaceAt]) == SpaceRows
}

// cacheRow puts a row into the row cache.
func (s *Store) cacheRow(hash uint64, key, value []byte) {
	s.opts.Rows.put(hash, s.opts.Rows.number(s.owner, key), key[partitionAt:], value)
}

// cache puts into the row cache what the transaction, which is committed, knows.
func (t *Txn) cache() {
	s := t.s
	if s.opts.Rows == nil {
		return
	}
	if len(t.ranges) > 0 {
		s.forgetRows() // the cache does not find what is within a range
	}
	for i := range t.o.entries {
		e := &t.o.entries[i]
		key := t.o.keyOf(e)
		if !s.cacheable(key) || e.cached && !e.written && len(t.ranges) == 0 {
			continue
		}
		var value []byte
		if e.present {
			value = t.o.valueOf(e)
		}
		s.cacheRow(e.hash, key, value)
	}
}

// writable returns why a key and a value cannot be written.
func (t *Txn) writable(key, value []byte) error {
	if t.err != nil {
		return t.err
	}
	if t.scanning > 0 {
		return errScanning
	}
	if !t.o.fits(key, value) {
		t.err = fmt.Errorf("%w: %s", ErrTooLarge, t.s.dir)
	}
	return t.err
}

// Set gives key a value. Both are copied.
func (t *Txn) Set(key, value []byte) error {
	if err := t.writable(key, value); err != nil {
		return err
	}
	t.o.setValue(t.o.write(key), value)
	return nil
}

// Delete removes key, if it is there.
func (t *Txn) Delete(key []byte) error {
	if err := t.writable(key, nil); err != nil {
		return err
	}
	t.o.write(key).present = false
	return nil
}

// SetEpoch makes text that of [Store.Epoch], once the transaction is committed.
func (t *Txn) SetEpoch(text string) { t.epoch = text }

// Bytes is how much memory the transaction holds, about, for what it wrote and for what it read. The caller bounds it
// by committing in time. A commit of more than half a memtable is written to disk at once, as tables of its own, so it
// is to stay well below that.
func (t *Txn) Bytes() int {
	if t.o == nil {
		return 0
	}
	return t.o.bytes()
}

// Commit puts what the transaction did into the store, together with the position of the input it was derived from,
// and ends the transaction, whatever it returns. A position before that of the store is refused, and nothing is stored;
// after an error of the disk the store is broken, see [ErrBroken].
func (t *Txn) Commit(p Position) error {
	if t.err != nil {
		err := t.err
		t.Discard()
		return err
	}
	defer t.Discard()
	s := t.s
	if t.scanning > 0 {
		return errScanning
	}
	// A flush may have failed since Begin.
	if err := s.usable(); err != nil {
		return err
	}
	if now, ok := s.Position(); p.Offset < 0 || p.Done < 0 || ok && p.Compare(now) < 0 {
		return fmt.Errorf("state: %s: commit at position %v, expected one at or after that of the store, %v; "+
			"nothing was stored", s.dir, p, now)
	}
	s.batch.Reset()
	if err := t.fill(s.batch, p); err != nil {
		return s.breakWith("committing", err)
	}
	size := s.batch.Len() // Pebble takes a large one away
	if err := s.db.Apply(s.batch, pebble.NoSync); err != nil {
		return s.breakWith("committing", err)
	}
	s.committed(p, size)
	if t.epoch != "" {
		s.epoch = t.epoch
	}
	t.cache()
	return nil
}

// fill puts the written keys into the batch, behind the ranges that were removed, and sorted: that makes the memtable's
// inserts cheaper, and makes the batch the same for the same transaction.
func (t *Txn) fill(batch *pebble.Batch, p Position) error {
	for i := range t.ranges {
		if err := batch.DeleteRange(t.ranges[i].from, t.ranges[i].to, nil); err != nil {
			return err
		}
	}
	for _, index := range t.o.sorted() {
		e := &t.o.entries[index]
		var err error
		switch {
		case e.present:
			err = batch.Set(t.o.keyOf(e), t.o.valueOf(e), nil)
		case !e.absentBelow:
			err = batch.Delete(t.o.keyOf(e), nil)
		}
		if err != nil {
			return err
		}
	}
	if t.epoch != "" {
		if err := batch.Set(epochKey, []byte(t.epoch), nil); err != nil {
			return err
		}
	}
	var value [positionLen]byte
	return batch.Set(t.s.positionKey, appendPosition(value[:0], p), nil)
}

// Discard ends the transaction; the store is as before it. After Commit it does nothing.
func (t *Txn) Discard() {
	if t.o == nil {
		return
	}
	if t.iter != nil || t.probe != nil || t.pinned != nil {
		t.unpin(t.iter, t.probe, t.pinned)
		t.iter, t.probe, t.pinned = nil, nil, nil
	}
	t.o.reset()
	t.o, t.err = nil, errEnded
	t.s.txn = nil
	t.s.publish()
}
