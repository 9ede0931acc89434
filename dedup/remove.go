package dedup

import (
	"bytes"
	"cmp"
	"encoding/binary"

	"cassdelta/commitlog"
	"cassdelta/internal/rawtopic"
	"cassdelta/schema"
	"cassdelta/state"
)

// This file folds the records that empty tables. Which table has a name is stored as a meta value, "name/" and
// keyspace.table:
//
//	format      1 byte: 1
//	table       16 bytes, its id
//	altered at  varint, the greatest AlteredAt of its definitions in microseconds
//
// A removal is folded in an order that makes it harmless to begin anew: the rows go one by one, each with its event; then
// what is left of the table; then it is stored that it happened.

// applyTruncate folds the truncation of a table on one node.
func (f *Fold) applyTruncate(t *rawtopic.Truncate) error {
	return f.removal(&t.Origin, t.Table, t.Timestamp, ReasonTruncate)
}

// applyDrop folds the drop of a table, as one node has it.
func (f *Fold) applyDrop(d *rawtopic.Drop) error {
	return f.removal(&d.Origin, d.Table, d.Timestamp, ReasonDrop)
}

// removal folds what a host tells of a truncation or a drop.
func (f *Fold) removal(o *rawtopic.Origin, table schema.UUID, time int64, reason Reason) error {
	p, err := f.past(table)
	if err != nil {
		return err
	}
	if p.repeats(o) {
		f.stats.RepeatedRemovals++
		return nil
	}
	if err := f.noteHost(o.Host); err != nil {
		return err
	}
	epoch, begins := p.pass(o.Host, time)
	ends := false // of a drop, also if it is taken for what another node has told of as a truncation
	if reason == ReasonDrop && !begins {
		t, err := f.table(table)
		if err != nil {
			return err
		}
		ends = t != nil && t.schema.AlteredAt <= time
	}
	if begins || ends {
		f.work.origin = *o
		if err := f.removeRows(table, time, reason); err != nil {
			return err
		}
	}
	if begins {
		p.begin(time, f.hosts)
		epoch = p.epoch
	}
	if epoch == 0 { // too late to be told: the node is where it was, and what it wrote up to here is gone
		if h := p.passage(o.Host); h != nil {
			epoch = h.epoch
		}
	}
	p.passed(o, epoch, time)
	if reason == ReasonDrop {
		p.dropped = max(p.dropped, time)
	}
	return f.storePast(table, p)
}

// removeRows makes a deletion of each row of a table, and removes all that the state has of its partitions.
func (f *Fold) removeRows(id schema.UUID, timestamp int64, reason Reason) error {
	t, err := f.table(id)
	if t == nil || err != nil {
		return err
	}
	w := &f.work
	w.from, w.to = state.TableSpan(w.from[:0], w.to[:0], f.group, id)
	first := bytes.Clone(w.from)
	if len(f.cursor.key) > 0 {
		w.from = append(append(w.from[:0], f.cursor.key...), 0)
	}
	for more := true; more; {
		b := &w.batch
		b.reset()
		err := f.call.tx.Scan(w.from, w.to, func(key, value []byte) (bool, error) { return b.add(key, value), nil })
		if err != nil {
			return err
		}
		more = b.full()
		for i := range b.items {
			if err := f.removeRow(t, b.key(i), b.value(i), timestamp, reason); err != nil {
				return err
			}
			f.cursor.key = append(f.cursor.key[:0], b.key(i)...)
			if err := f.lookedAt(); err != nil {
				return err
			}
		}
		w.from = append(append(w.from[:0], f.cursor.key...), 0)
	}
	f.cursor.key = f.cursor.key[:0]
	return f.call.tx.DeleteRange(first, w.to)
}

// removeRow makes the deletion of what a key names, if that is a row that exists, and removes it with its timers. The rest
// is left to the end: there may be any number of rows that are dead. Their purge timers come to nothing.
func (f *Fold) removeRow(t *table, key, value []byte, timestamp int64, reason Reason) error {
	place, err := state.SplitKey(key)
	if err != nil {
		return f.stored(key, err)
	}
	static := place.Kind == state.KindStatic
	if !static && place.Kind != state.KindRow {
		return nil
	}
	w := &f.work
	w.table, w.key = t, place.Partition
	w.horizon = t.horizon(f.now())
	timers, err := f.decodeOld(key, value, static)
	if err != nil {
		return err
	}
	w.merged.reset()
	w.merged.clustering = append(w.merged.clustering, w.old.clustering...)
	ch := compare(t, &w.old, &w.merged, timestamp, w.columns)
	w.columns = ch.columns
	if ch.event() && t.unsupported == "" {
		if w.partition, err = t.schema.SplitPartitionKey(w.partition[:0], w.key); err != nil {
			return f.stored(key, err)
		}
		ch.timestamp, ch.reason = timestamp, reason
		if err := f.emitChange(&ch, static); err != nil {
			return err
		}
	} else if timers.expiry == noExpiry {
		return nil
	}
	w.rowKey = append(w.rowKey[:0], key...)
	if err := f.call.tx.Delete(w.rowKey); err != nil {
		return err
	}
	return f.moveTimers(timers, noTimers)
}

// alive reports whether a table was not dropped, or has a definition of after that.
func (t *table) alive() bool { return t.past.dropped == noTime || t.schema.AlteredAt > t.past.dropped }

// name is what is stored of a table's name.
type name struct {
	table     schema.UUID
	alteredAt int64
}

// applyName finds out whether there are two tables of the name of t, of which the older one was dropped, and removes that.
func (f *Fold) applyName(t *schema.Table) error {
	key := state.Meta(nil, f.group, "name/"+t.FullName())
	value, err := f.call.tx.Get(key)
	if err != nil {
		return err
	}
	now := name{t.ID, t.AlteredAt}
	if value != nil {
		known, err := decodeName(value)
		switch {
		case err != nil:
			return f.stored(key, err)
		case known.table == now.table:
			if now.alteredAt <= known.alteredAt {
				return nil
			}
		case known.newer(&now):
			return f.supersede(&now, &known)
		default:
			if err := f.supersede(&known, &now); err != nil {
				return err
			}
		}
	}
	f.work.value = appendName(f.work.value[:0], &now)
	return f.call.tx.Set(key, f.work.value)
}

// supersede drops a table because a newer one has its name.
func (f *Fold) supersede(old, by *name) error {
	p, err := f.past(old.table)
	if err != nil {
		return err
	}
	born := by.alteredAt
	if at, ok := by.table.Time(); ok {
		born = at
	}
	if p.dropped == noTime || old.alteredAt > p.dropped { // of a table that was dropped before and given its id again there are rows
		f.work.origin = rawtopic.Origin{}
		if err := f.removeRows(old.table, born, ReasonDrop); err != nil {
			return err
		}
	}
	if dropped := max(born, old.alteredAt); dropped > p.dropped {
		p.dropped = dropped
		return f.storePast(old.table, p)
	}
	return nil
}

// newer reports whether n is a table that was created after m: by the times in their ids, which Cassandra puts there
// unless it is told an id, otherwise by their definitions. If nothing tells, it is not.
func (n *name) newer(m *name) bool {
	a, ok := n.table.Time()
	b, also := m.table.Time()
	if ok && also && a != b {
		return a > b
	}
	return cmp.Compare(n.alteredAt, m.alteredAt) > 0
}

func appendName(dst []byte, n *name) []byte {
	dst = append(append(dst, metaFormat), n.table[:]...)
	return binary.AppendVarint(dst, n.alteredAt)
}

func decodeName(value []byte) (n name, err error) {
	in := decoder{b: value}
	in.format(metaFormat)
	copy(n.table[:], in.bytes(uint64(len(n.table)), "table"))
	n.alteredAt = in.varint("altered at")
	return n, in.end("name of a table")
}

// writtenAfter is d without what was written at or before a time; nil if nothing is left.
func writtenAfter(d *rawtopic.Data, time int64) *rawtopic.Data {
	after := *d
	after.Static, after.Rows, after.Ranges = nil, nil, nil
	if after.Deletion.Timestamp <= time {
		after.Deletion = commitlog.LiveDeletion
	}
	if d.Static != nil {
		if row, ok := rowAfter(d.Static, time); ok {
			after.Static = &row
		}
	}
	for i := range d.Rows {
		if row, ok := rowAfter(&d.Rows[i], time); ok {
			after.Rows = append(after.Rows, row)
		}
	}
	for i := range d.Ranges {
		if d.Ranges[i].Deletion.Timestamp > time {
			after.Ranges = append(after.Ranges, d.Ranges[i])
		}
	}
	if after.Deletion.IsLive() && after.Static == nil && len(after.Rows) == 0 && len(after.Ranges) == 0 {
		return nil
	}
	return &after
}

// rowAfter is r without what was written at or before a time; ok is false if nothing is left.
func rowAfter(r *commitlog.Row, time int64) (after commitlog.Row, ok bool) {
	after = *r
	after.Cells, after.ComplexDeletions = nil, nil
	if after.Liveness.Timestamp <= time {
		after.Liveness = noLiveness.Liveness
	}
	if after.Deletion.Timestamp <= time {
		after.Deletion, after.Shadowable = commitlog.LiveDeletion, false
	}
	for i := range r.Cells {
		if r.Cells[i].Timestamp > time {
			after.Cells = append(after.Cells, r.Cells[i])
		}
	}
	for i := range r.ComplexDeletions {
		if r.ComplexDeletions[i].Timestamp > time {
			after.ComplexDeletions = append(after.ComplexDeletions, r.ComplexDeletions[i])
		}
	}
	return after, after.Liveness.Timestamp != commitlog.NoTimestamp || !after.Deletion.IsLive() || len(after.Cells)+len(after.ComplexDeletions) > 0
}
