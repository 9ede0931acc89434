package dedup

import (
	"math"

	"cassdelta/commitlog"
)

// This file holds a row as the state keeps it; rowencoding.go has how it is written.

// cellKind is what a cell is. Its values are part of the encoding.
type cellKind uint8

const (
	cellLive cellKind = iota
	cellTombstone
	// cellExpiring is alive, and has a TTL.
	cellExpiring
	// cellExpired has outlived its TTL, and has lost its value. It still takes part in the merge as what it was.
	cellExpired
	// cellForeseen is alive as an expiring one, and takes part in the merge as the tombstone that its expiry makes of it, since
	// that has been seen: see foreseen.
	cellForeseen
)

// cell is one cell of a row.
type cell struct {
	// id is that of the column within the table, see table.columns.
	id   uint32
	kind cellKind
	// ttl is in seconds, 0 unless the cell is expiring or expired.
	ttl int32
	// timestamp is in microseconds.
	timestamp int64
	// local is in seconds since 1970: of a tombstone the local deletion time, of an expiring or expired cell the second
	// of expiry, otherwise NoDeletionTime.
	local int64
	// value is nil unless the cell is alive.
	value []byte
	// path is the element of a multi-cell column: see commitlog.Cell. Nil in a simple column. Where two paths are equal by
	// the comparator (of the decimals 0 and 0.0), it is that of the cell that won.
	path []byte
}

func (c *cell) alive() bool { return c.kind == cellLive || c.expiring() }

// expiring reports whether a cell is alive and has a TTL.
func (c *cell) expiring() bool { return c.kind == cellExpiring || c.kind == cellForeseen }

// settled is what a cell takes part in the merge as: one whose expiry was foreseen as the tombstone.
func (c *cell) settled() cell {
	if c.kind != cellForeseen {
		return *c
	}
	return cell{id: c.id, kind: cellTombstone, timestamp: c.timestamp, local: c.local - int64(c.ttl), path: c.path}
}

// liveness is the primary key liveness of a row.
type liveness struct {
	commitlog.Liveness
	// expired is set once it has outlived its TTL.
	expired bool
}

var noLiveness = liveness{Liveness: commitlog.Liveness{Timestamp: commitlog.NoTimestamp, ExpiresAt: commitlog.NoDeletionTime}}

func (l *liveness) alive() bool { return l.Timestamp != commitlog.NoTimestamp && !l.expired }
func (l *liveness) expiring() bool {
	return l.TTL != 0 && !l.expired && l.Timestamp != commitlog.NoTimestamp
}

// elementsDeletion is a deletion of all elements of a multi-cell column.
type elementsDeletion struct {
	id uint32 // of the column
	commitlog.Deletion
}

// row is the merge of all that was seen of a row and is not deleted. The zero value is not a row: see reset.
type row struct {
	// clustering holds the values as first seen; another form of an equal value (decimal 1.0 and 1.00) does not replace
	// them. Empty for a static row.
	clustering [][]byte
	liveness   liveness
	deletion   commitlog.Deletion
	// shadowable marks deletion as void once there is a liveness that is newer.
	shadowable bool
	// told is set once readers know that the row does not exist: the last event of it was a Delete, or there was none and the past of
	// its table is complete. The next event that is none takes it back.
	told bool
	// presumed is set with told while all there is to it is that the past of the table is complete: there was no event, and no deletion
	// by the row's key.
	presumed bool
	// multi is set if there may be something of multi-cell columns: it spares other rows a look.
	multi bool
	// elements are the deletions of elements that supersede all other deletions of the row, by id.
	elements []elementsDeletion
	// merged holds the contexts that the merge of counters made. Cells point into it.
	merged  []byte
	counter cell // the last of them
	// foreseen is the last cell that a merge made one whose expiry is foreseen.
	foreseen cell
	// cells are in the order of table.order, each once: by id, and those of a multi-cell column by path.
	cells []cell
}

// reset makes r the row of which nothing was seen, and keeps its memory.
func (r *row) reset() {
	r.clustering = r.clustering[:0]
	r.liveness = noLiveness
	r.delete(commitlog.LiveDeletion)
	r.told, r.presumed, r.multi = false, false, false
	r.elements = r.elements[:0]
	r.cells = r.cells[:0]
	r.merged = reuse(r.merged)
}

// unseen makes r the row of a table of which nothing was seen.
func (r *row) unseen(t *table) {
	r.reset()
	r.told = t.past.complete()
	r.presumed = r.told
}

// copyFrom makes r the same as s. The values are shared.
func (r *row) copyFrom(s *row) {
	r.clustering = append(r.clustering[:0], s.clustering...)
	r.liveness, r.deletion, r.shadowable, r.multi = s.liveness, s.deletion, s.shadowable, s.multi
	r.told, r.presumed = s.told, s.presumed
	r.elements = append(r.elements[:0], s.elements...)
	r.cells = append(r.cells[:0], s.cells...)
}

// delete makes d the deletion of r, which nothing makes void.
func (r *row) delete(d commitlog.Deletion) { r.deletion, r.shadowable = d, false }

// noExpiry is the expiry of what never expires.
const noExpiry = math.MaxInt64

// expiry is the earliest second at which something of r that is alive expires, noExpiry if nothing does.
func (r *row) expiry() int64 {
	first := int64(noExpiry)
	if r.liveness.expiring() {
		first = r.liveness.ExpiresAt
	}
	for i := range r.cells {
		if c := &r.cells[i]; c.expiring() {
			first = min(first, c.local)
		}
	}
	return first
}

// expire ends the life of what expires at or before the second now.
func (r *row) expire(now int64) {
	if r.liveness.expiring() && r.liveness.ExpiresAt <= now {
		r.liveness.expired = true
	}
	for i := range r.cells {
		switch c := &r.cells[i]; {
		case !c.expiring() || c.local > now:
		case c.kind == cellForeseen:
			*c = c.settled()
		default:
			c.kind, c.value = cellExpired, nil
		}
	}
}

// microsecond of a second, and back.
const microseconds = 1_000_000

// second is the second of a time in microseconds, rounded down.
func second(timestamp int64) int64 {
	s := timestamp / microseconds
	if timestamp%microseconds < 0 {
		s--
	}
	return s
}
