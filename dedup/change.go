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
// difference that consists of nothing but losses to expiry has the reason ReasonTTL.
func compare(t *table, before, after *row, active int64) change {
	ch := change{timestamp: commitlog.NoTimestamp, reason: ReasonMutation}
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
		had, has := old != nil && old.alive(), now != nil && now.alive()
		ch.before, ch.after = ch.before || had, ch.after || has
		switch {
		case has && (!had || old.timestamp != now.timestamp || old.local != now.local || !bytes.Equal(old.value, now.value) ||
			now.path != nil && !bytes.Equal(old.path, now.path)):
			ch.altered = true
			written = max(written, now.timestamp)
		case !had || has:
		case now == nil:
			ch.altered = true
			written = max(written, active, after.elementsDeleted(old.id))
		case now.kind == cellExpired:
			ch.altered = true
			expired = max(expired, now.local)
		case now.isExpiryOf(old):
			ch.altered = true
			expired = max(expired, old.local)
		default: // a tombstone, newer than all deletions
			ch.altered = true
			written = max(written, now.timestamp)
		}
	}
	ch.timestamp = written
	if ch.altered && written == commitlog.NoTimestamp {
		ch.timestamp, ch.reason = expired*microseconds, ReasonTTL
	}
	return ch
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
