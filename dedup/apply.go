package dedup

import (
	"bytes"
	"slices"

	"cassdelta/commitlog"
	"cassdelta/internal/rawtopic"
	"cassdelta/state"
)

// applyData folds an update of a partition, in an order that makes it harmless to begin anew on top of a part of it:
// the static row and the rows that it writes, each merged as a whole; then what else its deletions cover; at the end
// the deletions themselves. A row that was merged before is not altered again, and one that lost what a deletion covers
// has no more to lose.
func (f *Fold) applyData(d *rawtopic.Data) error {
	folded, err := f.prepare(d)
	if err != nil {
		return err
	}
	if !folded {
		if f.whyNot(f.work.table) != "" {
			f.countUnsupported(f.work.table)
		}
		return nil
	}
	whole := d
	d = f.work.data
	if len(f.work.table.schema.ClusteringColumns()) == 0 {
		err = f.applySingle(d)
	} else {
		err = f.applyPartition(d)
	}
	if err != nil {
		return err
	}
	f.remember(whole)
	switch {
	case f.call.done > 0:
		f.stats.Changed++
	case f.work.altered:
		f.stats.Silent++
	case f.work.beaten:
		f.stats.Shadowed++
	default:
		f.stats.Copies++
	}
	return nil
}

func (f *Fold) countUnsupported(t *table) {
	f.stats.Unsupported++
	name := t.schema.FullName()
	i := slices.IndexFunc(f.stats.UnsupportedTables, func(u UnsupportedTable) bool { return u.Table == name })
	if i < 0 {
		i = len(f.stats.UnsupportedTables)
		f.stats.UnsupportedTables = append(f.stats.UnsupportedTables, UnsupportedTable{Table: name, Reason: f.whyNot(t)})
	}
	f.stats.UnsupportedTables[i].Records++
}

// applySingle folds an update of a table without clustering. A partition has one row there, and its deletion is the
// row's: so there is no header to look for.
func (f *Fold) applySingle(d *rawtopic.Data) error {
	w := &f.work
	if len(d.Rows) == 0 && d.Deletion.IsLive() {
		return nil
	}
	if len(d.Rows) > 0 {
		f.take(&d.Rows[0])
	} else {
		w.in.reset()
	}
	if !supersedes(w.in.deletion, d.Deletion) {
		w.in.delete(d.Deletion)
	}
	w.rowKey = append(append(w.rowKey[:0], w.prefix...), byte(state.KindRow))
	return f.mergeRow(commitlog.LiveDeletion, false)
}

// applyPartition folds an update of a table with clustering.
func (f *Fold) applyPartition(d *rawtopic.Data) error {
	w := &f.work
	if err := f.readHeader(); err != nil {
		return err
	}
	partition := strongest(d.Deletion, w.header.deletion)
	if d.Static != nil && f.cursor.row == 0 {
		f.take(d.Static)
		w.rowKey = append(append(w.rowKey[:0], w.prefix...), byte(state.KindStatic))
		if err := f.mergeRow(partition, true); err != nil {
			return err
		}
	}
	for i := max(f.cursor.row-1, 0); i < len(d.Rows); i++ {
		f.cursor.row = i + 1
		f.take(&d.Rows[i])
		clustering := w.bytes(w.rows[i])
		w.rowKey = append(append(w.rowKey[:0], w.prefix...), byte(state.KindRow))
		w.rowKey = append(w.rowKey, clustering...)
		known, err := f.rangeOver(clustering)
		if err != nil {
			return err
		}
		cover := strongest(strongest(known, partition), w.rangeOver(clustering))
		if err := f.mergeRow(cover, false); err != nil {
			return err
		}
	}
	f.cursor.row = len(d.Rows) + 1
	if err := f.deleteCovered(); err != nil {
		return err
	}
	return f.storeDeletions()
}

// take makes work.in what the record writes to a row.
func (f *Fold) take(written *commitlog.Row) {
	dropped, late := f.work.in.take(&f.work, written, f.now())
	f.stats.DroppedColumn += dropped
	f.stats.Late += late
}

// mergeRow merges work.in into the row at work.rowKey. Cover is the strongest deletion of the partition and of ranges
// over the row.
func (f *Fold) mergeRow(cover commitlog.Deletion, static bool) error {
	w := &f.work
	value, err := f.call.tx.Get(w.rowKey)
	if err != nil {
		return err
	}
	timers, err := f.decodeOld(w.rowKey, value, static)
	if err != nil {
		return err
	}
	active, beaten := w.merged.merge(w.table, &w.old, &w.in, cover, f.now())
	w.beaten = w.beaten || beaten
	ch := compare(w.table, &w.old, &w.merged, active.Timestamp, w.columns)
	w.columns = ch.columns
	w.merged.told, w.merged.presumed = w.old.told, w.old.presumed
	switch {
	case ch.event():
		err = f.emitChange(&ch, static)
	case !ch.after && !static && !w.in.deletion.IsLive() && !w.absent(w.in.deletion):
		// A deletion that is absent is left out: nobody could say whether it was told before.
		w.merged.told, w.merged.presumed = true, false
		if !w.old.told {
			err = f.emitUnseen(w.in.deletion.Timestamp)
		}
	}
	if err != nil {
		return err
	}
	w.merged.remember(cover)
	return f.storeRow(value, timers)
}

// remember lets a row of which nothing is left have the deletion that covers it, so that it is remembered for as long as
// that is.
func (r *row) remember(cover commitlog.Deletion) {
	if r.nothing() {
		r.delete(cover)
	}
}

// timers are the times that the timers of a row are for: the earliest expiry in it, its death.
type timers struct{ expiry, death int64 }

var noTimers = timers{noExpiry, noDeath}

// decodeOld makes work.old the row with this value, without what reads as absent, or the row of which nothing was seen if
// there is no value, or nothing is left of it for that. It returns the times that the value's timers are for.
func (f *Fold) decodeOld(key, value []byte, static bool) (timers, error) {
	w := &f.work
	if value == nil {
		w.old.unseen(w.table)
		return noTimers, nil
	}
	clustering := 0
	if !static {
		clustering = len(w.table.schema.ClusteringColumns())
	}
	if err := decodeRow(value, clustering, &w.old); err != nil {
		return noTimers, f.stored(key, err)
	}
	if !w.old.within(len(w.table.columns)) {
		return noTimers, f.stored(key, errNoColumn)
	}
	if w.old.presumed && !w.table.past.complete() {
		w.old.told, w.old.presumed = false, false
	}
	found := timers{w.old.expiry(), w.old.death()}
	if !w.old.nothing() {
		if w.old.purge(w.horizon); w.old.nothing() {
			w.old.unseen(w.table)
		}
	}
	if w.table.drops {
		w.old.forget(w.table)
	}
	if !w.old.shaped(w.table) {
		return noTimers, f.stored(key, errShape)
	}
	return found, nil
}

// storeRow writes work.merged to work.rowKey, where value is, without what reads as absent, and moves the row's timers, which
// are for the times from. A row of which nothing is left for that goes.
func (f *Fold) storeRow(value []byte, from timers) error {
	w := &f.work
	empty := w.merged.nothing() // named, and nothing more: UPDATE t SET s = s + {}
	if w.merged.purge(w.horizon); w.merged.nothing() && !empty {
		if value == nil {
			return nil
		}
		w.altered = true
		if err := f.call.tx.Delete(w.rowKey); err != nil {
			return err
		}
		return f.moveTimers(from, noTimers)
	}
	w.value = appendRow(w.value[:0], &w.merged)
	if value != nil && bytes.Equal(value, w.value) {
		return nil
	}
	w.altered = true
	if err := f.call.tx.Set(w.rowKey, w.value); err != nil {
		return err
	}
	return f.moveTimers(from, timers{w.merged.expiry(), w.merged.death()})
}

// moveTimers replaces the timers of the row at work.rowKey.
func (f *Fold) moveTimers(from, to timers) error {
	if err := f.movePurge(f.work.rowKey, from.death, to.death); err != nil {
		return err
	}
	return f.moveTimer(from.expiry, to.expiry)
}

// moveTimer replaces the timer that lets the row at work.rowKey expire.
func (f *Fold) moveTimer(from, to int64) error {
	if from == to {
		return nil
	}
	w := &f.work
	if from != noExpiry {
		w.key1 = state.Timer(w.key1[:0], f.group, from, w.rowKey)
		if err := f.call.tx.Delete(w.key1); err != nil {
			return err
		}
	}
	if to == noExpiry {
		return nil
	}
	w.key1 = state.Timer(w.key1[:0], f.group, to, w.rowKey)
	return f.call.tx.Set(w.key1, nil)
}
