package dedup

import (
	"bytes"

	"cassdelta/commitlog"
)

// change is the difference between the live views of a row before and after a merge.
type change struct {
	// altered: a live cell or the liveness is there, or gone, or has another value, write time or expiry.
	altered bool
	// before and after: the row exists.
	before, after bool
	// timestamp is the newest write time in microseconds among what made the difference; if reason is ReasonTTL, the
	// time of the expiry.
	timestamp int64
	reason    Reason
	// columns are the ids of the columns with a cell in the difference, in their order.
	columns []uint32
}

// event reports whether the change makes an event.
func (c *change) event() bool { return c.altered && (c.before || c.after) }

func (c *change) op() Op {
	switch {
	case !c.before:
		return Create
	case !c.after:
		return Delete
	}
	return Update
}

// compare finds the change from the row before to the row after, rows of t. Active is the newest deletion over the row:
// what is gone without a tombstone of its own was deleted by it, or by a deletion of the elements of its column. A
// difference that consists of nothing but losses to expiry has the reason ReasonTTL. The change's columns use the array of
// columns.
func compare(t *table, before, after *row, active int64, columns []uint32) change {
	ch := change{timestamp: commitlog.NoTimestamp, reason: ReasonMutation, columns: columns[:0]}
	written := int64(commitlog.NoTimestamp) // the newest write time of what was not lost to expiry
	expired := int64(commitlog.NoTimestamp) // the newest second of expiry
	had, has := before.liveness.alive(), after.liveness.alive()
	ch.before, ch.after = had, has
	switch {
	case has && (!had || before.liveness.Timestamp != after.liveness.Timestamp || before.liveness.ExpiresAt != after.liveness.ExpiresAt):
		ch.altered = true
		written = after.liveness.Timestamp
	case had && !has && after.liveness.expired:
		ch.altered = true
		expired = after.liveness.ExpiresAt
	case had && !has:
		ch.altered = true
		written = active
	}
	a, b := before.cells, after.cells
	for len(a) > 0 || len(b) > 0 {
		var old, now *cell
		order := t.first(a, b)
		if order <= 0 {
			old, a = &a[0], a[1:]
		}
		if order >= 0 {
			now, b = &b[0], b[1:]
		}
		had, has := old != nil && t.shows(old), now != nil && t.shows(now)
		ch.before, ch.after = ch.before || had, ch.after || has
		if !had && !has || had && has && old.same(now) {
			continue
		}
		ch.altered = true
		place := now
		if !has {
			place = old
		}
		if n := len(ch.columns); n == 0 || ch.columns[n-1] != place.id {
			ch.columns = append(ch.columns, place.id)
		}
		switch {
		case has:
			written = max(written, now.timestamp)
		case now == nil:
			written = max(written, active, after.elementsDeleted(old.id))
		case now.kind == cellExpired:
			expired = max(expired, now.local)
		case now.isExpiryOf(old):
			expired = max(expired, old.local)
		default: // a tombstone, newer than all deletions
			written = max(written, now.timestamp)
		}
	}
	ch.timestamp = written
	if ch.altered && written == commitlog.NoTimestamp {
		ch.timestamp, ch.reason = expired*microseconds, ReasonTTL
	}
	return ch
}

// same reports whether two live cells of one place are the same to a reader.
func (c *cell) same(d *cell) bool {
	return c.timestamp == d.timestamp && c.local == d.local && bytes.Equal(c.value, d.value) && (c.path == nil || bytes.Equal(c.path, d.path))
}

// elementsDeleted is the write time of the deletion of a column's elements, NoTimestamp if there is none.
func (r *row) elementsDeleted(id uint32) int64 {
	for i := range r.elements {
		if r.elements[i].id == id {
			return r.elements[i].Timestamp
		}
	}
	return commitlog.NoTimestamp
}
