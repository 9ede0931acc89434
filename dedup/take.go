package dedup

import (
	"cmp"
	"slices"

	"cassdelta/commitlog"
	"cassdelta/schema"
)

// take makes r the row that the record writes, with the columns' ids and without what belongs to dropped columns. It
// returns how many cells of such columns there were, and how many cells and livenesses were past their expiry at the
// second now.
func (r *row) take(w *work, written *commitlog.Row, now int64) (dropped, late int64) {
	r.reset()
	r.clustering = append(r.clustering, written.Clustering...)
	r.liveness.Liveness = written.Liveness
	r.deletion, r.shadowable = written.Deletion, written.Shadowable
	if r.shadowable && r.liveness.Timestamp > r.deletion.Timestamp {
		r.delete(commitlog.LiveDeletion) // void in itself: it takes no other deletion with it. Source: BTreeRow.Builder.build
	}
	if r.liveness.expiring() && (r.liveness.ExpiresAt <= now || r.liveness.TTL == commitlog.ExpiredLivenessTTL) {
		r.liveness.expired = true
		late++
	}
	for i := range written.ComplexDeletions {
		from := &written.ComplexDeletions[i]
		id := w.definition.columns[from.Column].id
		if !w.table.columns[id].gone(from.Timestamp) {
			r.elements = append(r.elements, elementsDeletion{id, from.Deletion})
		}
	}
	for i := range written.Cells {
		from := &written.Cells[i]
		id := w.definition.columns[from.Column].id
		if w.table.columns[id].gone(from.Timestamp) {
			dropped++
			continue
		}
		r.multi = r.multi || from.Path != nil
		c := cell{id: id, timestamp: from.Timestamp, ttl: from.TTL, local: from.LocalTime, value: from.Value, path: from.Path}
		switch {
		case from.Deleted:
			c.kind = cellTombstone
		case from.TTL != 0 && from.LocalTime <= now:
			c.kind, c.value = cellExpired, nil
			late++
		case from.TTL != 0:
			c.kind = cellExpiring
		}
		r.cells = append(r.cells, c)
	}
	r.multi = r.multi || len(r.elements) > 0
	r.sort(w.table)
	return dropped, late
}

// sort puts what r has into the order of the state, and leaves of each place the one that wins. Records are ordered by
// the names of their columns, so there is mostly little to do.
func (r *row) sort(t *table) {
	byColumn := func(a, b elementsDeletion) int { return cmp.Compare(a.id, b.id) }
	if !slices.IsSortedFunc(r.elements, byColumn) {
		slices.SortStableFunc(r.elements, byColumn)
	}
	deletions := r.elements[:0]
	for _, d := range r.elements {
		if n := len(deletions); n > 0 && deletions[n-1].id == d.id {
			deletions[n-1].Deletion = strongest(d.Deletion, deletions[n-1].Deletion)
			continue
		}
		deletions = append(deletions, d)
	}
	r.elements = deletions

	ordered := true // strictly
	for i := 1; i < len(r.cells) && ordered; i++ {
		ordered = t.order(&r.cells[i-1], &r.cells[i]) < 0
	}
	if ordered {
		return
	}
	slices.SortStableFunc(r.cells, func(a, b cell) int { return t.order(&a, &b) })
	cells := r.cells[:0]
	for i := range r.cells {
		c := r.cells[i]
		switch n := len(cells); {
		case n == 0 || t.order(&cells[n-1], &c) < 0:
			cells = append(cells, c)
		case cellCompare(&c, &cells[n-1]) > 0:
			cells[n-1] = c
		}
	}
	r.cells = cells
}

// within reports whether all columns of r have ids below n.
func (r *row) within(n int) bool {
	cells, elements := len(r.cells), len(r.elements)
	return (cells == 0 || int(r.cells[cells-1].id) < n) && (elements == 0 || int(r.elements[elements-1].id) < n)
}

// hides reports whether r has cells that are alive, of columns that do not exist for now.
func (r *row) hides(t *table) bool {
	return t.drops && slices.ContainsFunc(r.cells, func(c cell) bool { return c.alive() && !t.shows(&c) })
}

// forget removes what belongs to columns that were dropped after it was written.
func (r *row) forget(t *table) {
	elements := r.elements[:0]
	for _, d := range r.elements {
		if c := &t.columns[d.id]; !c.gone(d.Timestamp) && c.multi() {
			elements = append(elements, d)
		}
	}
	r.elements = elements
	kept := r.cells[:0]
	for i := range r.cells {
		c := &r.cells[i]
		if column := &t.columns[c.id]; !column.gone(c.timestamp) && column.multi() == (c.path != nil) {
			kept = append(kept, *c)
		}
	}
	r.cells = kept
}

// shaped reports whether what r has of elements is of multi-cell columns, and nothing else, and counters are contexts.
func (r *row) shaped(t *table) bool {
	if !r.multi && !t.multi && !t.counters {
		return true
	}
	for _, d := range r.elements {
		if !t.columns[d.id].multi() {
			return false
		}
	}
	for i := range r.cells {
		c := &r.cells[i]
		if t.columns[c.id].multi() != (c.path != nil) {
			return false
		}
		if t.columns[c.id].counter() && c.kind != cellTombstone && (c.kind != cellLive || schema.ValidateCounter(c.value) != nil) {
			return false
		}
	}
	return true
}
