package dedup

import (
	"math"

	"cassdelta/commitlog"
	"cassdelta/schema"
	"cassdelta/state"
)

// Reads calls each with an event of op r for each row and static row of a table that exists, in the order of the state's keys, which is the same
// each time. RawOffset is the offset of the state's position: the events are of what was before it. Index counts the rows of the table. Timestamp is the newest write time of
// what the row has.
func (i *Inspector) Reads(t *schema.Table, each func(*Event) error) error {
	f, w := i.fold, &i.fold.work
	at, _ := i.reader.Position()
	f.call = call{tx: i.tx, offset: at.Offset, left: math.MaxInt64, emit: func(e *Event) error {
		e.Op = Read
		return each(e)
	}}
	from, to := state.TableSpan(nil, nil, f.group, t.ID)
	return i.reader.Scan(from, to, func(key, value []byte) (bool, error) {
		place, err := state.SplitKey(key)
		if err != nil {
			return false, f.stored(key, err)
		}
		if place.Kind != state.KindRow && place.Kind != state.KindStatic {
			return true, nil
		}
		if w.table, err = f.table(t.ID); err != nil {
			return false, err
		}
		w.horizon = w.table.horizon(f.now())
		static := place.Kind == state.KindStatic
		if _, err := f.decodeOld(key, value, static); err != nil {
			return false, err
		}
		w.key, w.rowKey = place.Partition, append(w.rowKey[:0], key...)
		if w.partition, err = w.table.schema.SplitPartitionKey(w.partition[:0], w.key); err != nil {
			return false, f.stored(key, err)
		}
		w.old, w.merged = w.merged, w.old
		w.old.reset()
		ch := compare(w.table, &w.old, &w.merged, commitlog.NoTimestamp, w.columns)
		if w.columns = ch.columns; !ch.event() {
			return true, nil
		}
		return true, f.emitChange(&ch, static)
	})
}
