package dedup

import "errors"

var errNoColumn = errors.New("it has a cell of a column that no definition has")

// emitChange emits the event of the change from work.old to work.merged.
func (f *Fold) emitChange(ch *change, static bool) error {
	w := &f.work
	e, err := f.newEvent(static)
	if err != nil {
		return err
	}
	e.Op, e.Reason, e.Timestamp = ch.op(), ch.reason, ch.timestamp
	if ch.before {
		w.before = appendImage(w.before[:0], w.table, &w.old)
		e.Before = w.before
	}
	if ch.after {
		w.after = appendImage(w.after[:0], w.table, &w.merged)
		e.After = w.after
	}
	return f.emit(e)
}

// emitUnseen emits the deletion of a row of which nothing was seen. What it was is not known.
func (f *Fold) emitUnseen(timestamp int64) error {
	w := &f.work
	e, err := f.newEvent(false)
	if err != nil {
		return err
	}
	e.Op, e.Reason, e.Timestamp = Delete, ReasonMutation, timestamp
	// The row is empty: all columns are null.
	w.before = appendImage(w.before[:0], w.table, &w.merged)
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
	w.event = Event{
		Table: w.table.schema, Cluster: f.init.Cluster, Key: w.key, Partition: w.partition, Static: static, Origin: w.origin,
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

// appendImage appends the image of a row to dst: the value of each column of the table, nil if it has none.
func appendImage(dst [][]byte, t *table, r *row) [][]byte {
	start := len(dst)
	for range t.schema.Columns {
		dst = append(dst, nil)
	}
	for i := range r.cells {
		c := &r.cells[i]
		if at := t.columns[c.id].index; at >= 0 && c.alive() {
			dst[start+at] = c.value
		}
	}
	return dst
}
