package dedup

import (
	"bytes"

	"cassdelta/commitlog"
	"cassdelta/state"
)

// batch is some keys and values of a scan, copied: what a scan finds cannot be altered while it goes on.
type batch struct {
	bytes []byte
	items []batchItem
}

type batchItem struct{ key, value place }

// A batch ends with the item that reaches one of these.
const (
	batchItems = 256
	batchBytes = 256 << 10
)

func (b *batch) reset() { b.bytes, b.items = b.bytes[:0], b.items[:0] }

// add copies an item, and reports whether the batch takes more.
func (b *batch) add(key, value []byte) bool {
	at := len(b.bytes)
	b.bytes = append(append(b.bytes, key...), value...)
	b.items = append(b.items, batchItem{place{at, at + len(key)}, place{at + len(key), len(b.bytes)}})
	return !b.full()
}

func (b *batch) full() bool { return len(b.items) >= batchItems || len(b.bytes) >= batchBytes }

func (b *batch) key(i int) []byte   { p := b.items[i].key; return b.bytes[p.from:p.to:p.to] }
func (b *batch) value(i int) []byte { p := b.items[i].value; return b.bytes[p.from:p.to:p.to] }

// deleteCovered takes from the rows in the state what the record's deletions of the partition and of ranges cover.
func (f *Fold) deleteCovered() error {
	w := &f.work
	if w.data.Deletion.Timestamp > w.header.deletion.Timestamp {
		if err := f.scanCovered(0, state.KindStatic, nil, nil); err != nil {
			return err
		}
		return f.scanCovered(1, state.KindRow, nil, nil)
	}
	for i := range w.ranges {
		r := &w.ranges[i]
		if r.deletion.Timestamp <= w.header.deletion.Timestamp {
			continue
		}
		if err := f.scanCovered(i, state.KindRow, w.bytes(r.from), w.bytes(r.to)); err != nil {
			return err
		}
	}
	return nil
}

// scanCovered is scan number n of the record: over the keys of a kind with a clustering at or after from and before to,
// all if to is nil.
func (f *Fold) scanCovered(n int, kind state.Kind, from, to []byte) error {
	w := &f.work
	if f.cursor.scan > n {
		return nil
	}
	w.from = append(append(append(w.from[:0], w.prefix...), byte(kind)), from...)
	if to == nil {
		w.to = append(append(w.to[:0], w.prefix...), byte(kind)+1)
	} else {
		w.to = append(append(append(w.to[:0], w.prefix...), byte(kind)), to...)
	}
	if f.cursor.scan == n && len(f.cursor.key) > 0 {
		w.from = append(append(w.from[:0], f.cursor.key...), 0)
	}
	f.cursor.scan = n
	for more := true; more; {
		b := &w.batch
		b.reset()
		err := f.call.tx.Scan(w.from, w.to, func(key, value []byte) (bool, error) { return b.add(key, value), nil })
		if err != nil {
			return err
		}
		more = b.full()
		for i := range b.items {
			if err := f.cover(b.key(i), b.value(i), kind == state.KindStatic); err != nil {
				return err
			}
			f.cursor.key = append(f.cursor.key[:0], b.key(i)...)
			if err := f.lookedAt(); err != nil {
				return err
			}
		}
		w.from = append(append(w.from[:0], f.cursor.key...), 0)
	}
	f.cursor.scan, f.cursor.key = n+1, f.cursor.key[:0]
	return nil
}

// cover takes from a row in the state what the record's deletions cover. A row that is not alive stays as it is, also
// if a tombstone in it is void now: nothing can be seen of it, and a partition may have any number of such rows. Of a row with
// cells that are not seen for now it takes them without an event.
func (f *Fold) cover(key, value []byte, static bool) error {
	w := &f.work
	deletion := w.data.Deletion
	if !static {
		deletion = strongest(deletion, w.rangeOver(key[len(w.prefix)+1:]))
	}
	timers, err := f.decodeOld(key, value, static)
	if err != nil {
		return err
	}
	w.in.reset()
	active, _ := w.merged.merge(w.table, &w.old, &w.in, deletion, f.now())
	ch := compare(w.table, &w.old, &w.merged, active.Timestamp, w.columns)
	w.columns = ch.columns
	if !ch.event() && !w.old.hides(w.table) {
		return nil
	}
	w.rowKey = append(w.rowKey[:0], key...)
	w.merged.told, w.merged.presumed = w.old.told, w.old.presumed
	if ch.event() {
		if err := f.emitChange(&ch, static); err != nil {
			return err
		}
	}
	w.merged.remember(deletion)
	return f.storeRow(value, timers)
}

// storeDeletions stores the record's deletions of the partition and of ranges, after all that they cover is gone.
func (f *Fold) storeDeletions() error {
	w := &f.work
	h := w.header
	if w.absent(w.data.Deletion) {
		w.beaten = true // all that it covered is gone
	} else if supersedes(w.data.Deletion, h.deletion) {
		h.deletion = w.data.Deletion
	} else if !w.data.Deletion.IsLive() && w.data.Deletion != h.deletion {
		w.beaten = true
	}
	for i := range w.ranges {
		r := &w.ranges[i]
		if w.absent(r.deletion) || !supersedes(r.deletion, h.deletion) {
			w.beaten = true
			continue
		}
		h.ranges = true
		if err := f.insertRange(w.bytes(r.from), w.bytes(r.to), r.deletion); err != nil {
			return err
		}
	}
	if h == w.header {
		return nil
	}
	w.altered = true
	w.key1 = append(append(w.key1[:0], w.prefix...), byte(state.KindHeader))
	w.value = appendHeader(w.value[:0], &h)
	if err := f.call.tx.Set(w.key1, w.value); err != nil {
		return err
	}
	if err := f.movePurge(w.key1, w.header.deletion.LocalTime, h.deletion.LocalTime); err != nil {
		return err
	}
	if w.table.headers {
		return nil
	}
	w.table.headers = true
	return f.storeTable(w.table)
}

// piece is a range tombstone.
type piece struct {
	start, end []byte
	deletion   commitlog.Deletion
}

// insertRange puts the range tombstone over from to to into those of the partition: where it overlaps another the
// stronger of the two holds.
func (f *Fold) insertRange(from, to []byte, d commitlog.Deletion) error {
	w := &f.work
	for bytes.Compare(from, to) < 0 {
		// Those that overlap or adjoin it, as many as a batch takes; then up to the end of the last of them, and on
		// from there. At least two, whatever a batch takes: the first may end at from, and one alone would not lead on.
		b := &w.batch
		b.reset()
		more := false
		w.from = append(append(append(w.from[:0], w.prefix...), byte(state.KindRange)), from...)
		w.to = append(append(w.to[:0], w.prefix...), byte(state.KindRange)+1)
		err := f.call.tx.Scan(w.from, w.to, func(key, value []byte) (bool, error) {
			_, start, err := decodeRange(value)
			if err != nil {
				return false, f.stored(key, err)
			}
			if bytes.Compare(start, to) > 0 {
				return false, nil
			}
			if more = b.full() && len(b.items) > 1; !more {
				b.add(key, value)
			}
			return !more, nil
		})
		if err != nil {
			return err
		}
		stop := to
		if more {
			if last := b.key(len(b.items) - 1)[len(w.prefix)+1:]; bytes.Compare(last, to) < 0 {
				stop = last
			}
		}
		if err := f.replaceRanges(from, stop, d); err != nil {
			return err
		}
		w.key2 = append(w.key2[:0], stop...) // the batch is about to be filled again
		from = w.key2
	}
	return nil
}

// replaceRanges puts the range tombstone over from to stop into those in work.batch, which are all that overlap or
// adjoin it.
func (f *Fold) replaceRanges(from, stop []byte, d commitlog.Deletion) error {
	w := &f.work
	w.pieces = w.pieces[:0]
	at := from
	for i := range w.batch.items {
		old := w.piece(i)
		if w.absent(old.deletion) {
			continue
		}
		if bytes.Compare(old.start, from) < 0 {
			w.addPiece(old.start, from, old.deletion)
		}
		low, high := greater(old.start, from), less(old.end, stop)
		if bytes.Compare(at, low) < 0 {
			w.addPiece(at, low, d)
			at = low
		}
		if bytes.Compare(low, high) < 0 {
			w.addPiece(low, high, strongest(d, old.deletion))
			at = high
		}
		if bytes.Compare(old.end, stop) > 0 {
			w.addPiece(greater(old.start, stop), old.end, old.deletion)
		}
	}
	if bytes.Compare(at, stop) < 0 {
		w.addPiece(at, stop, d)
	}

	// Write the difference: both are ordered by their ends.
	i, j := 0, 0
	for i < len(w.batch.items) || j < len(w.pieces) {
		order := 0
		switch {
		case j == len(w.pieces):
			order = -1
		case i == len(w.batch.items):
			order = 1
		default:
			order = bytes.Compare(w.piece(i).end, w.pieces[j].end)
		}
		if order < 0 {
			w.altered = true
			if err := f.call.tx.Delete(w.batch.key(i)); err != nil {
				return err
			}
			if err := f.movePurge(w.batch.key(i), w.piece(i).deletion.LocalTime, noDeath); err != nil {
				return err
			}
			i++
			continue
		}
		p := &w.pieces[j]
		w.value = appendRange(w.value[:0], p.deletion, p.start)
		if order > 0 || !bytes.Equal(w.value, w.batch.value(i)) {
			w.altered = true
			w.key1 = append(append(append(w.key1[:0], w.prefix...), byte(state.KindRange)), p.end...)
			if err := f.call.tx.Set(w.key1, w.value); err != nil {
				return err
			}
			before := int64(noDeath)
			if order == 0 {
				before = w.piece(i).deletion.LocalTime
			}
			if err := f.movePurge(w.key1, before, p.deletion.LocalTime); err != nil {
				return err
			}
		}
		if order == 0 {
			i++
		}
		j++
	}
	return nil
}

// piece is item i of the batch, whose value was decoded before.
func (w *work) piece(i int) piece {
	d, start, _ := decodeRange(w.batch.value(i))
	return piece{start: start, end: w.batch.key(i)[len(w.prefix)+1:], deletion: d}
}

// addPiece puts a piece behind the others, and joins it with the last if they adjoin and are the same.
func (w *work) addPiece(start, end []byte, d commitlog.Deletion) {
	if n := len(w.pieces); n > 0 && w.pieces[n-1].deletion == d && bytes.Equal(w.pieces[n-1].end, start) {
		w.pieces[n-1].end = end
		return
	}
	w.pieces = append(w.pieces, piece{start, end, d})
}

func greater(a, b []byte) []byte {
	if bytes.Compare(a, b) > 0 {
		return a
	}
	return b
}

func less(a, b []byte) []byte {
	if bytes.Compare(a, b) < 0 {
		return a
	}
	return b
}
