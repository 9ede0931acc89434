package dedup

import (
	"math"

	"cassdelta/commitlog"
	"cassdelta/schema"
	"cassdelta/state"
)

// This file forgets. What is dead (tombstones, deletions, what has expired) is kept for the merge with what comes late, for
// as long as Cassandra would keep it and as long as the settings say at least; after that it reads as absent, whether or not its bytes are
// still there. What reads as absent stays absent, so it makes no difference to any event when the bytes go: that is when
// the value is written again, and for what nobody writes any more when a purge timer fires.
//
// A purge timer is a reminder to look at a key, and nothing else: it is set for what is dead as a whole (a row, the deletion
// of a partition, a range tombstone), and one that comes to nothing is dropped.

const (
	// purgeSlot is what the seconds of purge timers are rounded up to, so that a row that is deleted again and again moves
	// its timer seldom.
	purgeSlot = 3600
	// purgesPerTick bounds the work of a tick that makes no events. What is left over is for the next ticks.
	purgesPerTick = 10_000
	// noDeath is the time of death of what is not dead.
	noDeath = math.MaxInt64
)

// retention is how long the dead of a table are kept, in seconds.
func (t *table) retention() int64 { return t.retentionOf(t.least) }

func (t *table) retentionOf(least int64) int64 { return max(int64(t.schema.GCGraceSeconds), least) }

// horizon is the second up to which the dead of a table read as absent when it is the second now. It never goes back, also
// if gc grace is raised.
func (t *table) horizon(now int64) int64 {
	if now == math.MinInt64 {
		return t.purged
	}
	return max(t.purged, now-t.retention())
}

// absent reports whether a deletion is of a time that reads as absent.
func (w *work) absent(d commitlog.Deletion) bool { return !d.IsLive() && d.LocalTime <= w.horizon }

// purge removes what died at or before the horizon. Of what has expired the death is the expiry.
func (r *row) purge(horizon int64) {
	if !r.deletion.IsLive() && r.deletion.LocalTime <= horizon {
		r.delete(commitlog.LiveDeletion)
	}
	if r.liveness.expired && r.liveness.ExpiresAt <= horizon {
		r.liveness = noLiveness
	}
	elements := r.elements[:0]
	for _, d := range r.elements {
		if d.LocalTime > horizon {
			elements = append(elements, d)
		}
	}
	r.elements = elements
	kept := 0
	for i := range r.cells {
		if c := &r.cells[i]; !c.alive() && c.local <= horizon {
			continue
		}
		if kept != i {
			r.cells[kept] = r.cells[i]
		}
		kept++
	}
	r.cells = r.cells[:kept]
}

// nothing reports whether there is nothing in r that the merge heeds.
func (r *row) nothing() bool {
	return r.liveness.Timestamp == commitlog.NoTimestamp && r.deletion.IsLive() && len(r.elements) == 0 && len(r.cells) == 0
}

// death is the second at which the last of r died, noDeath if something lives or there is nothing.
func (r *row) death() int64 {
	if r.liveness.alive() {
		return noDeath
	}
	last := int64(math.MinInt64)
	if r.liveness.expired {
		last = r.liveness.ExpiresAt
	}
	if !r.deletion.IsLive() {
		last = max(last, r.deletion.LocalTime)
	}
	for i := range r.elements {
		last = max(last, r.elements[i].LocalTime)
	}
	for i := range r.cells {
		if r.cells[i].alive() {
			return noDeath
		}
		last = max(last, r.cells[i].local)
	}
	if last == math.MinInt64 {
		return noDeath
	}
	return last
}

// purgeAt is the second of the purge timer of what died at a second.
func (t *table) purgeAt(death int64) int64 {
	if death > math.MaxInt64-t.retention()-purgeSlot {
		return noExpiry
	}
	due := death + t.retention()
	return due + (purgeSlot-due%purgeSlot)%purgeSlot
}

// movePurge replaces the purge timer of a key. From and to are the times of death that it was and is for.
func (f *Fold) movePurge(key []byte, from, to int64) error {
	w := &f.work
	before, after := w.table.purgeAt(from), w.table.purgeAt(to)
	if before == after {
		return nil
	}
	if before != noExpiry {
		w.purgeKey = state.Purge(w.purgeKey[:0], f.group, before, key)
		if err := f.call.tx.Delete(w.purgeKey); err != nil {
			return err
		}
	}
	if after == noExpiry {
		return nil
	}
	w.purgeKey = state.Purge(w.purgeKey[:0], f.group, after, key)
	return f.call.tx.Set(w.purgeKey, nil)
}

// purge removes what the purge timers up to the second now are for, as many as a tick does. It makes no events.
func (f *Fold) purge(now int64) error {
	w := &f.work
	w.from, w.to = state.PurgesSpan(w.from[:0], w.to[:0], f.group, now)
	for left := purgesPerTick; left > 0; {
		b := &w.batch
		b.reset()
		err := f.call.tx.Scan(w.from, w.to, func(key, _ []byte) (bool, error) {
			left--
			return b.add(key, nil) && left > 0, nil
		})
		if err != nil || len(b.items) == 0 {
			return err
		}
		for i := range b.items {
			if err := f.call.tx.Delete(b.key(i)); err != nil {
				return err
			}
			if err := f.purgeOne(b.key(i), now); err != nil {
				return err
			}
		}
		w.from = append(append(w.from[:0], b.key(len(b.items)-1)...), 0)
	}
	return nil
}

// purgeOne looks at what a purge timer is for.
func (f *Fold) purgeOne(timer []byte, now int64) error {
	w := &f.work
	var ok bool
	if w.rowKey, _, ok = state.TimerRow(w.rowKey[:0], timer); !ok {
		return f.stored(timer, errNoTimer)
	}
	place, err := state.SplitKey(w.rowKey)
	if err != nil {
		return f.stored(timer, err)
	}
	value, err := f.call.tx.Get(w.rowKey)
	if err != nil || value == nil {
		return err
	}
	if w.table, err = f.table(schema.UUID(place.Table)); err != nil {
		return err
	}
	if w.table == nil {
		return f.stored(timer, errNoTimer)
	}
	w.horizon = w.table.horizon(now)
	w.prefix = append(w.prefix[:0], w.rowKey[:len(w.rowKey)-1-len(place.Clustering)]...)
	switch place.Kind {
	case state.KindHeader:
		return f.purgeHeader()
	case state.KindRange:
		d, _, err := decodeRange(value)
		if err != nil {
			return f.stored(w.rowKey, err)
		}
		if !w.absent(d) {
			return f.movePurge(w.rowKey, noDeath, d.LocalTime)
		}
		if err := f.call.tx.Delete(w.rowKey); err != nil {
			return err
		}
		return f.purgeHeader()
	}
	clustering := 0
	if place.Kind == state.KindRow {
		clustering = len(w.table.schema.ClusteringColumns())
	}
	if err := decodeRow(value, clustering, &w.old); err != nil {
		return f.stored(w.rowKey, err)
	}
	death := w.old.death()
	switch w.old.purge(w.horizon); {
	case death == noDeath:
		return nil
	case !w.old.nothing():
		return f.movePurge(w.rowKey, noDeath, death)
	}
	return f.call.tx.Delete(w.rowKey)
}

// purgeHeader removes what is of no use in the header of the partition at work.prefix: a deletion that is absent, the note
// that there are range tombstones where there are none.
func (f *Fold) purgeHeader() error {
	w := &f.work
	w.key1 = append(append(w.key1[:0], w.prefix...), byte(state.KindHeader))
	value, err := f.call.tx.Get(w.key1)
	if err != nil || value == nil {
		return err
	}
	h, err := decodeHeader(value)
	if err != nil {
		return f.stored(w.key1, err)
	}
	old := h
	if w.absent(h.deletion) {
		h.deletion = commitlog.LiveDeletion
	}
	if h.ranges {
		h.ranges = false
		from := append(append([]byte(nil), w.prefix...), byte(state.KindRange))
		to := append(append([]byte(nil), w.prefix...), byte(state.KindRange)+1)
		if err := f.call.tx.Scan(from, to, func(_, _ []byte) (bool, error) { h.ranges = true; return false, nil }); err != nil {
			return err
		}
	}
	switch {
	case h == old && h.deletion.IsLive():
		return nil
	case h == old:
		return f.movePurge(w.key1, noDeath, h.deletion.LocalTime)
	case h.deletion.IsLive() && !h.ranges:
		return f.call.tx.Delete(w.key1)
	}
	return f.call.tx.Set(w.key1, appendHeader(nil, &h))
}

// raiseRetention remembers, before all tables are kept for so long at least, up to when their dead read as absent by then.
func (f *Fold) raiseRetention(least int64) error {
	if least <= f.settings.Retention {
		return nil
	}
	var ids []schema.UUID
	from, to := state.SpaceSpan(nil, nil, f.group, state.SpaceJoined)
	err := f.call.tx.Scan(from, to, func(key, _ []byte) (bool, error) {
		place, err := state.SplitKey(key)
		ids = append(ids, place.Table)
		return true, err
	})
	for _, id := range ids {
		if err != nil {
			return err
		}
		var t *table
		if t, err = f.table(id); err != nil {
			return err
		}
		if now := t.horizon(f.now()); t.retentionOf(least) > t.retention() && now != t.purged {
			t.purged = now
			err = f.storeTable(t)
		}
	}
	return err
}

// raised remembers up to when the dead of a table read as absent before its retention was raised.
func (f *Fold) raised(joined, before *table) {
	joined.purged = before.purged
	if joined.retention() > before.retention() {
		joined.purged = before.horizon(f.now())
	}
}
