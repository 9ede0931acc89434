package dedup

import (
	"errors"
	"math"

	"cassdelta/internal/rawtopic"
	"cassdelta/schema"
	"cassdelta/state"
)

var errNoTimer = errors.New("it is no timer of a row that expires then")

// applyTick lets time come to a watermark: what expires by then does, in the order of the seconds. Each row that has
// something that expires has one timer, at its earliest expiry, so one that loses something at several seconds makes an
// event for each. What is done is gone from the timers: begun anew, a tick goes on.
func (f *Fold) applyTick(t *rawtopic.Tick) error {
	if t.Watermark <= f.watermark {
		return nil
	}
	w := &f.work
	w.from, w.to = state.TimersSpan(w.from[:0], w.to[:0], f.group, second(t.Watermark))
	if len(f.cursor.key) > 0 {
		w.from = append(append(w.from[:0], f.cursor.key...), 0)
	}
	w.origin = rawtopic.Origin{}
	for more := true; more; {
		b := &w.batch
		b.reset()
		err := f.call.tx.Scan(w.from, w.to, func(key, _ []byte) (bool, error) { return b.add(key, nil), nil })
		if err != nil {
			return err
		}
		more = b.full()
		for i := range b.items {
			key := b.key(i)
			next, err := f.fire(key)
			if err != nil {
				return err
			}
			f.cursor.key = append(f.cursor.key[:0], key...)
			if err := f.lookedAt(); err != nil {
				return err
			}
			// A new timer may belong before those that follow: look again.
			if next <= second(t.Watermark) {
				more = true
				break
			}
		}
		w.from = append(append(w.from[:0], f.cursor.key...), 0)
	}
	if err := f.purge(second(t.Watermark)); err != nil {
		return err
	}
	return f.setWatermark(t.Watermark)
}

// fire lets expire what a timer is for, and returns the row's next expiry.
func (f *Fold) fire(key []byte) (next int64, err error) {
	w := &f.work
	var at int64
	var ok bool
	if w.rowKey, at, ok = state.TimerRow(w.rowKey[:0], key); !ok {
		return 0, f.stored(key, errNoTimer)
	}
	place, err := state.SplitKey(w.rowKey)
	if err != nil {
		return 0, f.stored(key, err)
	}
	t, err := f.table(schema.UUID(place.Table))
	if err != nil {
		return 0, err
	}
	value, err := f.call.tx.Get(w.rowKey)
	if err != nil {
		return 0, err
	}
	if t == nil || value == nil {
		return 0, f.stored(key, errNoTimer)
	}
	w.table, w.key = t, place.Partition
	if w.partition, err = t.schema.SplitPartitionKey(w.partition[:0], w.key); err != nil {
		return 0, f.stored(key, err)
	}
	static := place.Kind == state.KindStatic
	w.horizon = t.horizon(at)
	timers, err := f.decodeOld(w.rowKey, value, static)
	if err != nil {
		return 0, err
	}
	if timers.expiry != at {
		return 0, f.stored(key, errNoTimer)
	}
	w.merged.copyFrom(&w.old)
	w.merged.expire(at)
	// A table that is not supported any more has no events; its rows are kept for the merge.
	ch := compare(t, &w.old, &w.merged, math.MinInt64, w.columns)
	w.columns = ch.columns
	if ch.event() && t.unsupported == "" {
		if err := f.emitChange(&ch, static); err != nil {
			return 0, err
		}
	}
	if err := f.storeRow(value, timers); err != nil {
		return 0, err
	}
	return w.merged.expiry(), nil
}
