package dedup

import (
	"errors"

	"cassdelta/commitlog"
	"cassdelta/schema"
	"cassdelta/state"
)

var errNoTable = errors.New("it has no definition of its table")

// StoredRow is a row, or a static row, of the state that exists: what a comparison with Cassandra needs. It and all that
// it points to is valid until the function that received it returns.
type StoredRow struct {
	// Table is the joined definition that the image and the cells refer to.
	Table *schema.Table
	// Key is the partition key as serialized.
	Key []byte
	// Static marks the static row; Clustering is nil then.
	Static     bool
	Clustering [][]byte
	// Image is that of an event.
	Image [][]byte
	// Liveness has the Timestamp [commitlog.NoTimestamp] if there is none that is alive.
	Liveness commitlog.Liveness
	// Cells are the live ones, with the index of their column in Table.Columns.
	Cells []commitlog.Cell
}

// Rows calls each with all rows that exist in the state, as the transaction sees it, in the order of the state's keys.
func (f *Fold) Rows(tx *state.Txn, each func(*StoredRow) error) error {
	f.call = call{tx: tx}
	if !f.loaded {
		if err := f.load(tx); err != nil {
			return err
		}
	}
	from, to := state.SpaceSpan(nil, nil, f.group, state.SpaceRows)
	return tx.Scan(from, to, func(key, value []byte) (bool, error) {
		place, err := state.SplitKey(key)
		if err != nil {
			return false, f.stored(key, err)
		}
		if place.Kind != state.KindRow && place.Kind != state.KindStatic {
			return true, nil
		}
		t, err := f.table(schema.UUID(place.Table))
		if err != nil {
			return false, err
		}
		if t == nil {
			return false, f.stored(key, errNoTable)
		}
		f.work.table, f.work.horizon = t, t.horizon(f.now())
		if _, err := f.decodeOld(key, value, place.Kind == state.KindStatic); err != nil {
			return false, err
		}
		row, exists, err := f.work.storedRow(place)
		if err != nil {
			return false, f.stored(key, err)
		}
		if !exists {
			return true, nil
		}
		return true, each(row)
	})
}

// storedRow is work.old.
func (w *work) storedRow(place state.Key) (row *StoredRow, exists bool, err error) {
	row = &StoredRow{Table: w.table.schema, Key: place.Partition, Liveness: noLiveness.Liveness}
	if row.Static = place.Kind == state.KindStatic; !row.Static {
		row.Clustering = w.old.clustering
	}
	if w.old.liveness.alive() {
		row.Liveness = w.old.liveness.Liveness
	}
	for i := range w.old.cells {
		c := &w.old.cells[i]
		if at := w.table.columns[c.id].index; at >= 0 && c.alive() {
			row.Cells = append(row.Cells, commitlog.Cell{
				Column: at, Path: c.path, Timestamp: c.timestamp, TTL: c.ttl, LocalTime: c.local, Value: c.value,
			})
		}
	}
	w.values = reuse(w.values)
	row.Image, err = w.appendImage(nil, &w.old)
	return row, len(row.Cells) > 0 || row.Liveness.Timestamp != commitlog.NoTimestamp, err
}
