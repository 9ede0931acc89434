package dedup

import (
	"bytes"

	"cassdelta/commitlog"
	"cassdelta/schema"
)

// This file is Cassandra's reconciliation, as of 4.0 to 5.0: the merge of what two writes left of one row. It is
// commutative, associative and idempotent, which is what makes copies harmless. With shadowable deletions it
// is not associative, as in Cassandra. docs/merge.md states the rules.

// supersedes reports whether deletion d replaces e. Source: DeletionTime.supersedes.
func supersedes(d, e commitlog.Deletion) bool {
	return d.Timestamp > e.Timestamp || d.Timestamp == e.Timestamp && !d.IsLive() && d.LocalTime > e.LocalTime
}

// strongest is the one of d and e that supersedes the other.
func strongest(d, e commitlog.Deletion) commitlog.Deletion {
	if supersedes(d, e) {
		return d
	}
	return e
}

// strongestOf is the row deletion of a or b that supersedes the other, and whether a newer liveness makes it void. Of two that
// are the same but for that, Cassandra keeps either and this keeps the one that nothing makes void.
func strongestOf(a, b *row) (d commitlog.Deletion, shadowable bool) {
	switch {
	case supersedes(a.deletion, b.deletion):
		return a.deletion, a.shadowable
	case supersedes(b.deletion, a.deletion):
		return b.deletion, b.shadowable
	}
	return a.deletion, a.shadowable && b.shadowable
}

// livenessSupersedes reports whether l replaces m. Source: LivenessInfo.supersedes of 4.1 and 5.0; of two that differ in
// nothing but the TTL, 4.0 keeps either.
func livenessSupersedes(l, m *liveness) bool {
	if l.Timestamp != m.Timestamp {
		return l.Timestamp > m.Timestamp
	}
	if a, b := l.TTL == commitlog.ExpiredLivenessTTL, m.TTL == commitlog.ExpiredLivenessTTL; a != b {
		return a
	}
	if (l.TTL != 0) != (m.TTL != 0) {
		return l.TTL != 0
	}
	if l.ExpiresAt != m.ExpiresAt {
		return l.ExpiresAt > m.ExpiresAt
	}
	return l.TTL < m.TTL
}

// cellCompare orders two cells of one place by what wins: positive if c does, 0 if they are the same. Source:
// Cells.resolveRegular of 4.1 and 5.0; 4.0 does not compare TTLs.
func cellCompare(c, d *cell) int {
	if c.timestamp != d.timestamp {
		return sign(c.timestamp > d.timestamp)
	}
	if c.kind == cellForeseen || d.kind == cellForeseen {
		a, b := c.settled(), d.settled()
		return cellCompare(&a, &b)
	}
	// What is a tombstone or will be one beats what lives for ever, whatever the time is.
	if a, b := c.kind != cellLive, d.kind != cellLive; a != b {
		return sign(a)
	}
	if a, b := c.kind == cellTombstone, d.kind == cellTombstone; a != b {
		return sign(a)
	}
	if c.local != d.local {
		return sign(c.local > d.local)
	}
	if c.ttl != d.ttl {
		return sign(c.ttl < d.ttl)
	}
	if order := bytes.Compare(c.value, d.value); order != 0 {
		return order
	}
	// Of two forms of one element (the decimals 0 and 0.0) Cassandra keeps either, too.
	return bytes.Compare(c.path, d.path)
}

func sign(greater bool) int {
	if greater {
		return 1
	}
	return -1
}

// isExpiryOf reports whether tombstone c is what Cassandra makes of the expiring cell d once it has expired (when it
// compacts or streams it): the same time stamp, and deleted when d was written. Source: BufferCell.purge.
func (c *cell) isExpiryOf(d *cell) bool {
	return c.kind == cellTombstone && (d.expiring() || d.kind == cellExpired) &&
		c.timestamp == d.timestamp && c.local == d.local-int64(d.ttl)
}

// merge makes m the merge of old and in, rows of t, of which what cover deletes is gone. Cover is the strongest deletion
// of the partition and of ranges over the row. Now is the second up to which time has come. m shares the values of old
// and in, and must be neither of them. It returns the strongest deletion over the row, and whether something of in was
// beaten: it lost against something else, or is deleted. Source: Row.Merger.
func (m *row) merge(t *table, old, in *row, cover commitlog.Deletion, now int64) (active commitlog.Deletion, beaten bool) {
	m.reset()
	m.clustering = append(m.clustering, old.clustering...)
	if len(old.clustering) == 0 {
		m.clustering = append(m.clustering, in.clustering...)
	}

	live := old.liveness
	if livenessSupersedes(&in.liveness, &live) {
		live = in.liveness
	} else if in.liveness.Timestamp != commitlog.NoTimestamp && in.liveness != live {
		beaten = true
	}

	active = cover
	if deletion, shadowable := strongestOf(old, in); shadowable && live.Timestamp > deletion.Timestamp {
		beaten = beaten || !in.deletion.IsLive()
	} else if supersedes(deletion, cover) {
		m.deletion, m.shadowable, active = deletion, shadowable, deletion
		beaten = beaten || !in.deletion.IsLive() && in.deletion != deletion
	} else {
		beaten = beaten || !in.deletion.IsLive() && in.deletion != cover
	}
	if live.Timestamp > active.Timestamp {
		m.liveness = live
	} else if in.liveness.Timestamp != commitlog.NoTimestamp {
		beaten = true
	}

	m.multi = old.multi || in.multi
	if m.multi && m.mergeElements(old.elements, in.elements, active) {
		beaten = true
	}
	deletions := m.elements
	a, b := old.cells, in.cells
	for len(a) > 0 || len(b) > 0 {
		var c, written *cell // what is kept, and what in has of it
		switch order := t.first(a, b); {
		case order < 0:
			c, a = &a[0], a[1:]
		case order > 0:
			c, written, b = &b[0], &b[0], b[1:]
		case t.counters && t.columns[a[0].id].counter():
			c, written = &a[0], &b[0]
			var lost bool
			c, lost = m.mergeCounter(c, written, active.Timestamp)
			beaten = beaten || lost
			a, b = a[1:], b[1:]
		default:
			c, written = &a[0], &b[0]
			switch order := cellCompare(written, c); {
			case order < 0:
				beaten = true
			case order > 0 && foreseen(written, c, now):
				m.foreseen = *c
				m.foreseen.kind = cellForeseen
				c = &m.foreseen
			case order > 0:
				c = written
			}
			a, b = a[1:], b[1:]
		}
		deleted := active.Timestamp
		for len(deletions) > 0 && deletions[0].id < c.id {
			deletions = deletions[1:]
		}
		if len(deletions) > 0 && deletions[0].id == c.id {
			deleted = deletions[0].Timestamp // it supersedes active
		}
		beaten = beaten || written != nil && written.timestamp <= deleted
		if c.timestamp > deleted {
			m.cells = append(m.cells, *c)
		}
	}
	return active, beaten
}

// mergeCounter merges two cells of a counter. What was written at deleted or before is deleted, and left out first. A
// tombstone beats a counter whatever the write times; two counters are merged shard by shard. It reports whether something
// of d was beaten. Source: Cells.resolveCounter, and Row.Merger, which leaves out what is deleted before it merges.
func (m *row) mergeCounter(c, d *cell, deleted int64) (merged *cell, beaten bool) {
	switch {
	case c.timestamp <= deleted:
		return d, false
	case d.timestamp <= deleted:
		return c, true
	case c.kind == cellTombstone && d.kind == cellTombstone:
		if order := cellCompare(d, c); order > 0 {
			return d, false
		} else {
			return c, order < 0
		}
	case c.kind == cellTombstone:
		return c, true
	case d.kind == cellTombstone:
		return d, false
	}
	at := len(m.merged)
	m.merged, beaten = schema.AppendMergedCounter(m.merged, c.value, d.value)
	m.counter = *c
	m.counter.value = m.merged[at:len(m.merged):len(m.merged)]
	m.counter.timestamp = max(c.timestamp, d.timestamp)
	return &m.counter, beaten
}

// mergeElements makes the deletions of elements of m the merge of old and in: of each column the strongest, unless what
// is active on the whole row is as strong. It reports whether one of in was beaten.
func (m *row) mergeElements(old, in []elementsDeletion, active commitlog.Deletion) (beaten bool) {
	for len(old) > 0 || len(in) > 0 {
		var d elementsDeletion
		written := len(in) > 0 && (len(old) == 0 || in[0].id <= old[0].id)
		if written {
			d = in[0]
		}
		if !written || len(old) > 0 && old[0].id == d.id {
			if written && supersedes(old[0].Deletion, d.Deletion) {
				beaten = true
			}
			if !written || !supersedes(d.Deletion, old[0].Deletion) {
				d = old[0]
			}
			old = old[1:]
		}
		if written {
			in = in[1:]
		}
		if supersedes(d.Deletion, active) {
			m.elements = append(m.elements, d)
		} else if written && d.Deletion != active {
			beaten = true
		}
	}
	return beaten
}

// first says which of two lists of cells the next cell is in: the first (negative), the second (positive) or both. At
// least one has a cell.
func (t *table) first(a, b []cell) int {
	if len(a) > 0 && len(b) > 0 {
		return t.order(&a[0], &b[0])
	}
	return len(b) - len(a)
}

// order orders two cells by their place in a row: 0 if they are of one column, and one element of it.
func (t *table) order(a, b *cell) int {
	if a.id == b.id && a.path != nil {
		return t.orderPaths(a, b)
	}
	return int(a.id) - int(b.id)
}

// orderPaths orders two cells of a multi-cell column.
func (t *table) orderPaths(a, b *cell) int {
	if bytes.Equal(a.path, b.path) {
		return 0
	}
	return t.columns[a.id].typ.ComparePaths(a.path, b.path)
}

// foreseen reports whether tombstone c is the expiry of cell d, which is alive, come early: from a node that has
// compacted what we have not yet seen expire. The cell is then left to the tick, so that all that expires in a row at one
// second goes at once and makes one event, and is the tombstone to whatever else is written. The same tombstone also comes of a deletion in the second of the write that
// has the write's very time stamp; that one takes effect at once. The two are told apart by the time: a deletion comes
// soon after the write, an expiry late in the cell's life.
func foreseen(c, d *cell, now int64) bool {
	return d.expiring() && c.isExpiryOf(d) && bytes.Equal(c.path, d.path) && now >= d.local-int64(d.ttl)/2
}
