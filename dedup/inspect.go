package dedup

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"cassdelta/commitlog"
	"cassdelta/schema"
	"cassdelta/state"
)

// Inspector looks into the state of a raw partition. What it finds is as it is stored: what reads as absent because its time is over, and what is of
// dropped columns, is there until it is written anew. It is for one goroutine.
type Inspector struct {
	reader *state.Reader
	fold   *Fold
	tx     *state.Txn
}

// Inspect looks into a store. Close the inspector before the reader.
func Inspect(r *state.Reader) (*Inspector, error) {
	id := r.Identity()
	in, err := parseEpoch(r.Epoch())
	if err == nil {
		err = epochs{in}.foldable()
	}
	if err != nil {
		return nil, fmt.Errorf("the state of raw partition %d: %w", id.Partition, err)
	}
	i := &Inspector{reader: r, fold: NewFold(id.Partition), tx: r.Begin()}
	i.fold.Use(in.settings)
	i.fold.call = call{tx: i.tx}
	if err := i.fold.load(i.tx); err != nil {
		i.Close()
		return nil, err
	}
	return i, nil
}

// Close gives up the inspector.
func (i *Inspector) Close() { i.tx.Discard() }

// Tables returns the joined definitions of all tables, by name.
func (i *Inspector) Tables() ([]*schema.Table, error) {
	var ids []schema.UUID
	from, to := state.SpaceSpan(nil, nil, i.fold.group, state.SpaceJoined)
	err := i.reader.Scan(from, to, func(key, _ []byte) (bool, error) {
		place, err := state.SplitKey(key)
		ids = append(ids, place.Table)
		return true, err
	})
	var tables []*schema.Table
	for _, id := range ids {
		if err != nil {
			return nil, err
		}
		var t *table
		if t, err = i.fold.table(id); err == nil {
			tables = append(tables, t.schema)
		}
	}
	slices.SortFunc(tables, func(a, b *schema.Table) int { return slices.Compare([]byte(a.FullName()), []byte(b.FullName())) })
	return tables, err
}

// Known is what the state knows of a row, of a static row, of the deletion of a partition, or of a range of one. It and all that it points to is
// valid until the function that received it returns.
type Known struct {
	Table *schema.Table
	Kind  state.Kind
	// Key is the partition key as serialized.
	Key []byte
	// Clustering is that of a row.
	Clustering [][]byte
	// Liveness is that of a row, with the Timestamp [commitlog.NoTimestamp] if there is none; Expired says that its time is over.
	Liveness commitlog.Liveness
	Expired  bool
	// Deletion is live if there is none. That of a row may be Shadowable.
	Deletion   commitlog.Deletion
	Shadowable bool
	Cells      []KnownCell
	// From and To are the comparable forms of the bounds of a range.
	From, To []byte
	// KeyBytes and ValueBytes are the sizes in the store, before it compresses them.
	KeyBytes, ValueBytes int
}

// Exists reports whether a row, or static row, exists.
func (k *Known) Exists() bool {
	alive := k.Liveness.Timestamp != commitlog.NoTimestamp && !k.Expired
	return alive || slices.ContainsFunc(k.Cells, func(c KnownCell) bool { return !c.Dropped && !c.Expired && !c.Deleted })
}

// KnownCell is a cell of a row, or the deletion of all elements of a column, which has no Path and is Elements.
type KnownCell struct {
	commitlog.Cell
	Name string
	// Type is nil if the column is Dropped.
	Type *schema.Type
	// Expired says that its time is over; it has no value any more.
	Expired bool
	// Dropped says that it is of a column that was dropped after it was written.
	Dropped  bool
	Elements bool
}

// Partition calls each with all that is known of a partition of a table, in the order of the state's keys.
func (i *Inspector) Partition(t *schema.Table, key []byte, each func(*Known) error) error {
	from, to := state.PartitionSpan(nil, nil, i.fold.group, t.ID, schema.Token(key), key)
	return i.scan(from, to, each)
}

// Table calls each with all that is known of a table.
func (i *Inspector) Table(t *schema.Table, each func(*Known) error) error {
	from, to := state.TableSpan(nil, nil, i.fold.group, t.ID)
	return i.scan(from, to, each)
}

func (i *Inspector) scan(from, to []byte, each func(*Known) error) error {
	return i.reader.Scan(from, to, func(key, value []byte) (bool, error) {
		k, err := i.known(key, value)
		if err != nil {
			return false, err
		}
		return true, each(k)
	})
}

// known decodes a key of the rows.
func (i *Inspector) known(key, value []byte) (*Known, error) {
	f := i.fold
	place, err := state.SplitKey(key)
	if err != nil {
		return nil, f.stored(key, err)
	}
	t, err := f.table(schema.UUID(place.Table))
	if err == nil && t == nil {
		err = f.stored(key, errNoTable)
	}
	if err != nil {
		return nil, err
	}
	k := &Known{
		Table: t.schema, Kind: place.Kind, Key: place.Partition, Liveness: noLiveness.Liveness, Deletion: commitlog.LiveDeletion,
		KeyBytes: len(key), ValueBytes: len(value),
	}
	switch place.Kind {
	case state.KindHeader:
		var h header
		if h, err = decodeHeader(value); err == nil {
			k.Deletion = h.deletion
		}
	case state.KindRange:
		k.Deletion, k.From, err = decodeRange(value)
		k.To = place.Clustering
	default:
		err = i.row(k, t, value)
	}
	if err != nil {
		return nil, f.stored(key, err)
	}
	return k, nil
}

func (i *Inspector) row(k *Known, t *table, value []byte) error {
	r := &i.fold.work.old
	clustering := 0
	if k.Kind == state.KindRow {
		clustering = len(t.schema.ClusteringColumns())
	}
	if err := decodeRow(value, clustering, r); err != nil {
		return err
	}
	if !r.within(len(t.columns)) {
		return errNoColumn
	}
	k.Clustering, k.Liveness, k.Expired = r.clustering, r.liveness.Liveness, r.liveness.expired
	k.Deletion, k.Shadowable = r.deletion, r.shadowable
	add := func(id uint32, c commitlog.Cell) *KnownCell {
		column := &t.columns[id]
		c.Column = column.index
		k.Cells = append(k.Cells, KnownCell{Cell: c, Name: column.name, Type: column.typ, Dropped: column.gone(c.Timestamp)})
		return &k.Cells[len(k.Cells)-1]
	}
	for _, d := range r.elements {
		add(d.id, commitlog.Cell{Timestamp: d.Timestamp, LocalTime: d.LocalTime, Deleted: true}).Elements = true
	}
	for n := range r.cells {
		c := &r.cells[n]
		add(c.id, commitlog.Cell{
			Path: c.path, Timestamp: c.timestamp, TTL: c.ttl, LocalTime: c.local, Value: c.value, Deleted: c.kind == cellTombstone,
		}).Expired = c.kind == cellExpired
	}
	return nil
}

// Usage is what a table, or something else of the state, takes: before Pebble compresses it.
type Usage struct {
	Rows, StaticRows, Ranges, Partitions int64 // Partitions are those of which a deletion is known
	Bytes                                int64
}

// Verify reads the whole state and holds it to what it should be: each key and each value can be read, each row that has something that expires
// has a timer, and each timer is of such a row. It ends with ctx. It returns what tables take, and what all else does.
func (i *Inspector) Verify(ctx context.Context) (tables map[*schema.Table]*Usage, others map[state.Space]*Usage, err error) {
	tables, others = map[*schema.Table]*Usage{}, map[state.Space]*Usage{}
	from, to := state.Meta(nil, i.fold.group, ""), state.Purge(nil, i.fold.group, 1<<62, nil)
	_, to = state.SpaceSpan(nil, to[:0], i.fold.group, state.SpacePurge)
	err = i.reader.Scan(from, to, func(key, value []byte) (bool, error) {
		if ctx.Err() != nil {
			return false, context.Cause(ctx)
		}
		place, err := state.SplitKey(key)
		if err != nil {
			return false, err
		}
		if place.Space != state.SpaceRows {
			u := others[place.Space]
			if u == nil {
				u = &Usage{}
				others[place.Space] = u
			}
			u.Rows++
			u.Bytes += int64(len(key) + len(value))
			if place.Space == state.SpaceTimer {
				return true, i.timed(key)
			}
			return true, nil
		}
		k, err := i.known(key, value)
		if err != nil {
			return false, err
		}
		u := tables[k.Table]
		if u == nil {
			u = &Usage{}
			tables[k.Table] = u
		}
		u.Bytes += int64(len(key) + len(value))
		switch k.Kind {
		case state.KindHeader:
			u.Partitions++
		case state.KindRange:
			u.Ranges++
		case state.KindStatic:
			u.StaticRows++
		case state.KindRow:
			u.Rows++
		}
		if k.Kind != state.KindRow && k.Kind != state.KindStatic {
			return true, nil
		}
		expiry := i.fold.work.old.expiry()
		if expiry == noExpiry {
			return true, nil
		}
		timer, err := i.reader.Get(state.Timer(nil, i.fold.group, expiry, key))
		if err == nil && timer == nil {
			err = i.fold.stored(key, fmt.Errorf("something of it expires at %d, and there is no timer", expiry))
		}
		return err == nil, err
	})
	return tables, others, err
}

// timed is an error if the timer is not that of a row that expires then.
func (i *Inspector) timed(key []byte) error {
	row, at, _ := state.TimerRow(nil, key)
	value, err := i.reader.Get(row)
	if err != nil {
		return err
	}
	if value == nil {
		return i.fold.stored(key, errNoTimer)
	}
	k, err := i.known(row, value)
	if err == nil && (k.Kind != state.KindRow && k.Kind != state.KindStatic || i.fold.work.old.expiry() != at) {
		err = i.fold.stored(key, errNoTimer)
	}
	return err
}

// Partitions lists the raw partitions that the worker folds now, in order.
func (w *Worker) Partitions() []int32 { return w.metrics.stores.partitions() }

// ErrNotHere says that a worker does not fold a raw partition now.
var ErrNotHere = errors.New("this worker does not fold that raw partition now")

// Snapshot reads what is committed of a raw partition. The reader is to be closed soon: the partition cannot move to another worker before.
func (w *Worker) Snapshot(partition int32) (*state.Reader, error) {
	w.metrics.stores.mu.Lock()
	store := w.metrics.stores.open[partition]
	w.metrics.stores.mu.Unlock()
	if store == nil {
		return nil, ErrNotHere
	}
	r, err := store.Snapshot()
	if errors.Is(err, state.ErrClosed) {
		err = ErrNotHere
	}
	return r, err
}
