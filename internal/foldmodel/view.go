package foldmodel

import (
	"bytes"
	"encoding/binary"
	"slices"

	"cassdelta/commitlog"
	"cassdelta/schema"
)

// covered is the newest write time at which the partition, or a range with the row in it, was deleted.
func (p *partition) covered(r *row) int64 {
	newest := int64(commitlog.NoTimestamp)
	for _, d := range p.deletions {
		newest = max(newest, d.Timestamp)
	}
	for i := range p.ranges {
		if g := &p.ranges[i]; !r.static && p.table.holds(g, r.clustering) {
			newest = max(newest, g.Deletion.Timestamp)
		}
	}
	return newest
}

// deleted is the newest write time at which the row was deleted.
func (p *partition) deleted(r *row) int64 {
	newest, liveness := p.covered(r), int64(commitlog.NoTimestamp)
	for i := range r.writes {
		liveness = max(liveness, r.writes[i].liveness.Timestamp)
	}
	for i := range r.writes {
		if w := &r.writes[i]; !w.shadowable || w.deletion.Timestamp >= liveness {
			newest = max(newest, w.deletion.Timestamp)
		}
	}
	return newest
}

// deletedColumn is the newest write time at which what is in a column was deleted together with others.
func (p *partition) deletedColumn(r *row, column string) int64 {
	newest := p.deleted(r)
	for i := range r.writes {
		for _, d := range r.writes[i].elements {
			if d.column == column && !p.table.gone(column, r.kind(), d.Timestamp) {
				newest = max(newest, d.Timestamp)
			}
		}
	}
	return newest
}

func (r *row) kind() schema.ColumnKind {
	if r.static {
		return schema.Static
	}
	return schema.Regular
}

// view is what has won of a row at a second. What has won may be dead.
type view struct {
	table    *table
	now      int64
	liveness commitlog.Liveness // its Timestamp is NoTimestamp if there is none
	cells    []cell
}

// view looks at a row at the second now.
func (p *partition) view(r *row, now int64) view {
	v := view{table: p.table, now: now, liveness: commitlog.Liveness{Timestamp: commitlog.NoTimestamp}}
	deleted := p.deleted(r)
	columns := map[string]int64{}
	for i := range r.writes {
		w := &r.writes[i]
		if l := w.liveness; l.Timestamp > deleted && livenessWins(l, v.liveness) {
			v.liveness = l
		}
		for _, c := range w.cells {
			if p.table.gone(c.column, r.kind(), c.Timestamp) {
				continue
			}
			by, ok := columns[c.column]
			if !ok {
				by = p.deletedColumn(r, c.column)
				columns[c.column] = by
			}
			if c.Timestamp <= by {
				continue
			}
			switch at := v.find(&c); {
			case at < 0:
				v.cells = append(v.cells, c)
			case p.table.columns[c.column].Type.Kind == schema.KindCounter:
				v.cells[at] = counted(c, v.cells[at])
			case cellWins(&c, &v.cells[at]):
				v.cells[at] = c
			}
		}
	}
	return v
}

// counted is what two cells of a counter are together: a tombstone wins, whatever the times.
func counted(c, d cell) cell {
	switch {
	case c.Deleted && d.Deleted && cellWins(&c, &d), c.Deleted && !d.Deleted:
		return c
	case d.Deleted:
		return d
	}
	d.Value, _ = schema.AppendMergedCounter(nil, d.Value, c.Value)
	d.Timestamp = max(d.Timestamp, c.Timestamp)
	return d
}

// find finds the cell of the same place, -1 if there is none.
func (v *view) find(c *cell) int {
	return slices.IndexFunc(v.cells, func(d cell) bool { return v.table.samePlace(c, &d) })
}

// livenessWins: the newer one, then the one that is expired for good, then one that expires, then the later expiry, then the
// shorter TTL.
func livenessWins(l, m commitlog.Liveness) bool {
	expired := func(l commitlog.Liveness) int64 { return flag(l.TTL == commitlog.ExpiredLivenessTTL) }
	return slices.Compare(
		[]int64{l.Timestamp, expired(l), flag(l.TTL != 0), l.ExpiresAt, -int64(l.TTL)},
		[]int64{m.Timestamp, expired(m), flag(m.TTL != 0), m.ExpiresAt, -int64(m.TTL)}) > 0
}

// cellWins: the newer one, then what is or will be a tombstone, then the tombstone, then the later local deletion time or
// expiry, then the shorter TTL, then the greater value. Cassandra leaves the rest open: the greater form of the path.
func cellWins(c, d *cell) bool {
	c, d = c.settled(), d.settled()
	first := slices.Compare(
		[]int64{c.Timestamp, flag(c.Deleted || c.TTL != 0), flag(c.Deleted), c.LocalTime, -int64(c.TTL)},
		[]int64{d.Timestamp, flag(d.Deleted || d.TTL != 0), flag(d.Deleted), d.LocalTime, -int64(d.TTL)})
	if first != 0 {
		return first > 0
	}
	cv, dv := c.Value, d.Value
	if value := bytes.Compare(cv, dv); value != 0 {
		return value > 0
	}
	return bytes.Compare(c.Path, d.Path) > 0
}

// settled is what a cell is to others.
func (c *cell) settled() *cell {
	if !c.foreseen {
		return c
	}
	tombstone := commitlog.Cell{Column: c.Column, Path: c.Path, Timestamp: c.Timestamp, LocalTime: c.LocalTime - int64(c.TTL), Deleted: true}
	return &cell{column: c.column, Cell: tombstone}
}

func flag(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

// alive says whether a cell is, at the second of the view.
func (v *view) alive(c *cell) bool { return !c.Deleted && (c.TTL == 0 || c.LocalTime > v.now) }

// present says whether the liveness is alive; expired that it was, before its expiry.
func (v *view) present() bool {
	l := v.liveness
	return l.Timestamp != commitlog.NoTimestamp && !v.expired()
}

func (v *view) expired() bool {
	l := v.liveness
	return l.Timestamp != commitlog.NoTimestamp && (l.TTL == commitlog.ExpiredLivenessTTL || l.TTL != 0 && l.ExpiresAt <= v.now)
}

func (v *view) exists() bool {
	return v.present() || slices.ContainsFunc(v.cells, func(c cell) bool { return v.alive(&c) })
}

// foresees returns the cell of the view of which tombstone c is nothing but the expiry, if there is one which is still alive
// and in the second half of its life: what Cassandra makes of a cell once it has expired, by a clock that is ahead of ours.
// It has the cell's time stamp, and was deleted when the cell was written.
func (v view) foresees(c cell, now int64) *cell {
	if v.table == nil || !c.Deleted {
		return nil
	}
	at := v.find(&c)
	if at < 0 || !v.alive(&v.cells[at]) || !isExpiry(&c, &v.cells[at]) || !bytes.Equal(c.Path, v.cells[at].Path) || now < v.cells[at].LocalTime-int64(v.cells[at].TTL)/2 {
		return nil
	}
	return &v.cells[at]
}

func isExpiry(tombstone, c *cell) bool {
	return tombstone.Deleted && c.TTL != 0 && tombstone.Timestamp == c.Timestamp && tombstone.LocalTime == c.LocalTime-int64(c.TTL)
}

// image is the values that can be seen.
func (v *view) image() Image {
	if !v.exists() {
		return nil
	}
	image := Image{}
	elements := map[string][]cell{}
	for _, c := range v.cells {
		switch {
		case !v.alive(&c):
		case c.Path != nil:
			elements[c.column] = append(elements[c.column], c)
		case v.table.columns[c.column].Type.Kind == schema.KindCounter:
			total, _ := schema.CounterTotal(c.Value)
			image[c.column] = string(binary.BigEndian.AppendUint64(nil, uint64(total)))
		default:
			image[c.column] = string(c.Value)
		}
	}
	for column, cells := range elements {
		image[column] = string(value(v.table.columns[column].Type, cells))
	}
	return image
}
