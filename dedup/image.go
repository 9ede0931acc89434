package dedup

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"cassdelta/schema"
)

var (
	errNoColumn = errors.New("it has a cell of a column that no definition has")
	errShape    = errors.New("it has a cell of an element in a column that has no elements, or the other way round, or of a counter that is no counter")
)

// emitChange emits the event of the change from work.old to work.merged, and says in that what it tells.
func (f *Fold) emitChange(ch *change, static bool) error {
	w := &f.work
	e, err := f.newEvent(static)
	if err != nil {
		return err
	}
	w.merged.told = !ch.after
	w.merged.presumed = false
	e.Op, e.Reason, e.Timestamp = ch.op(), ch.reason, ch.timestamp
	w.changed = w.changed[:0]
	for _, id := range ch.columns {
		if at := w.table.columns[id].index; at >= 0 {
			w.changed = append(w.changed, at)
		}
	}
	slices.Sort(w.changed)
	e.Changed = w.changed
	if ch.before {
		if w.before, err = w.appendImage(w.before[:0], &w.old); err != nil {
			return f.stored(w.rowKey, err)
		}
		e.Before = w.before
	}
	if ch.after {
		if w.after, err = w.appendImage(w.after[:0], &w.merged); err != nil {
			return f.stored(w.rowKey, err)
		}
		e.After = w.after
	}
	return f.emit(e)
}

// emitUnseen emits the deletion of a row that may have been there before the capture, or of which readers know, though nothing is
// left of it: what it had was in a column that was dropped, or expired where that is not told. What it was is not known.
func (f *Fold) emitUnseen(timestamp int64) error {
	w := &f.work
	e, err := f.newEvent(false)
	if err != nil {
		return err
	}
	e.Op, e.Reason, e.Timestamp = Delete, ReasonMutation, timestamp
	e.Complete = false
	// The row is empty: all columns are null.
	if w.before, err = w.appendImage(w.before[:0], &w.merged); err != nil {
		return err
	}
	e.Before = w.before
	f.stats.Unseen++
	return f.emit(e)
}

// newEvent begins the event of a row; errFull says that there must be none.
func (f *Fold) newEvent(static bool) (*Event, error) {
	if f.call.left <= 0 {
		return nil, errFull
	}
	w := &f.work
	w.values = reuse(w.values)
	w.event = Event{
		Table: w.table.schema, Cluster: f.init.Cluster, Key: w.key, Partition: w.partition, Static: static, Origin: w.origin,
		Complete:     w.table.past.complete(),
		RawPartition: f.partition, RawOffset: f.call.offset, Index: f.call.done,
	}
	if !static {
		w.event.Clustering = w.merged.clustering
	}
	return &w.event, nil
}

func (f *Fold) emit(e *Event) error {
	if err := f.call.emit(e); err != nil {
		return err
	}
	f.call.done++
	f.call.left--
	switch e.Op {
	case Create:
		f.stats.Creates++
	case Update:
		f.stats.Updates++
	case Delete:
		f.stats.Deletes++
	}
	if e.Reason == ReasonTTL {
		f.stats.Expired++
	}
	return nil
}

// appendImage appends the image of a row to dst: the value of each column of the table, nil if it has none. That of a
// multi-cell column is put together in work.values, that of a counter is its total.
func (w *work) appendImage(dst [][]byte, r *row) ([][]byte, error) {
	start := len(dst)
	for range w.table.schema.Columns {
		dst = append(dst, nil)
	}
	for i := 0; i < len(r.cells); {
		c := &r.cells[i]
		column := &w.table.columns[c.id]
		next := i + 1
		for c.path != nil && next < len(r.cells) && r.cells[next].id == c.id {
			next++
		}
		switch at := column.index; {
		case at < 0:
		case c.path != nil:
			value, err := w.appendElements(column.typ, r.cells[i:next])
			if err != nil {
				return dst, fmt.Errorf("column %s: %w", column.name, err)
			}
			dst[start+at] = value
		case c.alive() && column.typ.Kind == schema.KindCounter:
			total, err := schema.CounterTotal(c.value)
			if err != nil {
				return dst, fmt.Errorf("column %s: %w", column.name, err)
			}
			from := len(w.values)
			w.values = binary.BigEndian.AppendUint64(w.values, uint64(total))
			dst[start+at] = w.values[from:len(w.values):len(w.values)]
		case c.alive():
			dst[start+at] = c.value
		}
		i = next
	}
	return dst, nil
}

// appendElements makes the value of a multi-cell column in work.values: nil if none of its cells is alive.
func (w *work) appendElements(typ *schema.Type, cells []cell) ([]byte, error) {
	w.cells = reuse(w.cells)
	for i := range cells {
		if c := &cells[i]; c.alive() {
			w.cells = append(w.cells, schema.ElementCell{Path: c.path, Value: c.value})
		}
	}
	if len(w.cells) == 0 {
		return nil, nil
	}
	start := len(w.values)
	var err error
	if w.values, err = typ.AppendCells(w.values, w.cells); err != nil {
		return nil, err
	}
	return w.values[start:len(w.values):len(w.values)], nil
}
