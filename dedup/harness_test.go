package dedup

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"cassdelta/commitlog"
	"cassdelta/internal/foldmodel"
	"cassdelta/internal/rawtopic"
	"cassdelta/schema"
	"cassdelta/state"
)

// harness folds records into a store in memory, and keeps the events.
type harness struct {
	t      testing.TB
	fs     *vfs.MemFS
	cache  *state.RowCache // for few rows, so that some are in it and some are not
	store  *state.Store
	fold   *Fold
	tx     *state.Txn
	offset int64
	// partitions is how many the raw topic has.
	partitions int32
	// events are those emitted, and indexes and offsets where.
	events []string
	places []string
	// showChanged adds to the text of an event which columns changed.
	showChanged bool
	// showOrigin adds to it which copy it is of: node and position.
	showOrigin bool
	// model, if not nil, must make the events of each record, which found has.
	model *foldmodel.Model
	found []*foldmodel.Event
}

func newHarness(t testing.TB) *harness { return newHarnessOf(t, 0, 1) }

// newHarnessOf is of one raw partition of several.
func newHarnessOf(t testing.TB, partition, partitions int32) *harness {
	rows, err := state.NewRowCache(16 << 10)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(rows.Close)
	h := &harness{t: t, fs: vfs.NewMem(), cache: rows, fold: NewFold(partition), partitions: partitions}
	h.fold.rowsPerCall = 3 // so that few rows are many
	h.open()
	return h
}

func (h *harness) open() {
	id := state.Identity{Topic: "raw", Partition: h.fold.partition, Partitions: h.partitions}
	store, err := state.Open("state", id, state.Options{FS: h.fs, Rows: h.cache, MemTableBytes: 1 << 20})
	if err != nil {
		h.t.Fatal(err)
	}
	h.store = store
	h.t.Cleanup(func() {
		if h.store == store {
			store.Close()
		}
	})
	h.tx = store.Begin()
}

// apply folds a record to its end in the open transaction.
func (h *harness) apply(rec *rawtopic.Record) {
	h.t.Helper()
	if err := h.try(rec); err != nil {
		h.t.Fatal(err)
	}
}

// applyEncoded is Apply as the worker calls it, of a record with its encoding, and only if it is no copy.
func applyEncoded(f *Fold, tx *state.Txn, offset int64, rec *rawtopic.Record, done, limit int64, emit func(*Event) error) (int64, bool, error) {
	if rec.Kind == rawtopic.KindData {
		value := rawtopic.Append(nil, rec)
		if done == 0 && f.Copy(value) {
			return 0, true, nil
		}
		rec.Data.Content, _, _ = rawtopic.Content(value)
	}
	return applyUnpaused(f, tx, offset, rec, done, limit, emit)
}

// applyUnpaused is Apply, and goes on when that pauses.
func applyUnpaused(f *Fold, tx *state.Txn, offset int64, rec *rawtopic.Record, done, limit int64, emit func(*Event) error) (int64, bool, error) {
	for all := int64(0); ; {
		emitted, finished, err := f.Apply(tx, offset, rec, done+all, limit-all, emit)
		if all += emitted; err != nil || finished || !f.Paused() {
			return all, finished, err
		}
	}
}

// try is apply, and returns the error.
func (h *harness) try(rec *rawtopic.Record) error {
	h.found = h.found[:0]
	_, finished, err := applyEncoded(h.fold, h.tx, h.offset, rec, 0, math.MaxInt64, h.emit)
	if err == nil && !finished {
		h.t.Fatalf("offset %d: not finished without a limit", h.offset)
	}
	if err == nil && h.model != nil {
		expected, err := h.model.Apply(rec)
		if err != nil {
			h.t.Fatal(err)
		}
		if wrong := foldmodel.Same(h.found, expected, rec.Kind == rawtopic.KindTick); wrong != "" {
			h.t.Errorf("offset %d: the events are not those of the model: %s", h.offset, wrong)
		}
	}
	h.offset++
	return err
}

func (h *harness) emit(e *Event) error {
	checkChanged(h.t, e)
	if h.model != nil {
		h.found = append(h.found, modelEvent(e))
	}
	text := eventText(e)
	if h.showChanged {
		var names []string
		for _, i := range e.Changed {
			names = append(names, e.Table.Columns[i].Name)
		}
		text += fmt.Sprintf(" changed %v", names)
	}
	if h.showOrigin && e.Origin == (rawtopic.Origin{}) {
		text += " from no node"
	} else if h.showOrigin {
		text += fmt.Sprintf(" from %s/%d", bytes.TrimRight(e.Origin.Host[:], "\x00"), e.Origin.Position.Offset)
	}
	h.events = append(h.events, text)
	h.places = append(h.places, fmt.Sprintf("%d+%d", e.RawOffset, e.Index))
	return nil
}

// checkChanged holds Changed of an event to its images: all columns whose value is another, none that has none in either.
func checkChanged(t testing.TB, e *Event) {
	t.Helper()
	if !slices.IsSorted(e.Changed) {
		t.Errorf("%s: changed %v are not in order", eventText(e), e.Changed)
	}
	for i, c := range e.Table.Columns {
		var before, after []byte
		if e.Before != nil {
			before = e.Before[i]
		}
		if e.After != nil {
			after = e.After[i]
		}
		differs := (before == nil) != (after == nil) || !bytes.Equal(before, after)
		if _, changed := slices.BinarySearch(e.Changed, i); differs && !changed || changed && before == nil && after == nil {
			t.Errorf("%s: changed %v is wrong about column %s", eventText(e), e.Changed, c.Name)
		}
	}
}

// take returns the events since the last call.
func (h *harness) take() []string {
	events := h.events
	h.events, h.places = nil, nil
	return events
}

func (h *harness) commit(p state.Position) {
	h.t.Helper()
	if err := h.tx.Commit(p); err != nil {
		h.t.Fatal(err)
	}
	if _, err := h.store.Warm(3); err != nil {
		h.t.Fatal(err)
	}
	h.tx = h.store.Begin()
}

// refused folds a record that is to be refused, and returns the reason.
func (h *harness) refused(rec *rawtopic.Record) string {
	h.t.Helper()
	before := h.dump()
	err := h.try(rec)
	var refused *RecordError
	if !errors.As(err, &refused) {
		h.t.Fatalf("offset %d: expected a RecordError, found %v", h.offset-1, err)
	}
	if after := h.dump(); after != before {
		h.t.Fatalf("offset %d: a refused record altered the state from\n%s\nto\n%s", h.offset-1, before, after)
	}
	return refused.Error()
}

// dump is the whole state, as the open transaction sees it.
func (h *harness) dump() string { return dump(h.t, h.tx, h.fold.group) }

// dump is all that a transaction sees of a raw partition, but for the position.
func dump(t testing.TB, tx *state.Txn, group uint16) string {
	t.Helper()
	var b strings.Builder
	err := tx.Scan(binary.BigEndian.AppendUint16(nil, group), binary.BigEndian.AppendUint16(nil, group+1), func(key, value []byte) (bool, error) {
		if !bytes.HasSuffix(key, []byte("position")) {
			fmt.Fprintf(&b, "%x %x\n", key, value)
		}
		return true, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// eventText is all that an event says, but for its place in the raw topic.
func eventText(e *Event) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%c %s", e.Op, rowName(e.Table, e.Partition, e.Static, e.Clustering))
	fmt.Fprintf(&b, " %s -> %s @%d", imageText(e.Table, e.Before), imageText(e.Table, e.After), e.Timestamp)
	if e.Reason != ReasonMutation {
		fmt.Fprintf(&b, " %s", e.Reason)
	}
	if e.Complete {
		b.WriteString(" complete")
	}
	return b.String()
}

// rowName names a row by its key.
func rowName(t *schema.Table, partition [][]byte, static bool, clustering [][]byte) string {
	name := t.Name
	for i, v := range partition {
		name += fmt.Sprintf(" %s=%s", t.Columns[i].Name, valueText(t.Columns[i].Type, v))
	}
	if static {
		return name + " static"
	}
	for i, v := range clustering {
		c := t.ClusteringColumns()[i]
		name += fmt.Sprintf(" %s=%s", c.Name, valueText(c.Type, v))
	}
	return name
}

func imageText(t *schema.Table, image [][]byte) string {
	if image == nil {
		return "none"
	}
	if len(image) != len(t.Columns) {
		return fmt.Sprintf("an image of %d columns, expected %d", len(image), len(t.Columns))
	}
	var fields []string
	for i, v := range image {
		if v != nil {
			fields = append(fields, t.Columns[i].Name+":"+valueText(t.Columns[i].Type, v))
		}
	}
	return "{" + strings.Join(fields, " ") + "}"
}

func valueText(t *schema.Type, v []byte) string {
	if t.Kind == schema.KindText {
		return string(v)
	}
	if t.Kind == schema.KindInt && len(v) == 4 {
		return fmt.Sprint(int32(binary.BigEndian.Uint32(v)))
	}
	if !t.Native() || t.Kind == schema.KindCounter {
		if text, err := t.AppendJSON(nil, v); err == nil {
			return string(text)
		}
	}
	return fmt.Sprintf("0x%x", v)
}

func intValue(i int) []byte { return binary.BigEndian.AppendUint32(nil, uint32(i)) }

// mustTable makes a table of the columns "name type kind", where the kind of a clustering column may be "desc".
func mustTable(t testing.TB, name string, columns ...string) *schema.Table {
	t.Helper()
	return tableOf(t, nil, name, columns...)
}

// tableOf is mustTable with user types.
func tableOf(t testing.TB, types schema.UDTs, name string, columns ...string) *schema.Table {
	t.Helper()
	spec := schema.Table{Keyspace: "ks", Name: name, Flags: []string{"compound"}, CDC: true, GCGraceSeconds: 864000, AlteredAt: 1}
	copy(spec.ID[:], "table "+name)
	positions := map[schema.ColumnKind]int{}
	for _, text := range columns {
		f := strings.Fields(text)
		c := schema.Column{Name: f[0]}
		var err error
		if c.Type, err = schema.ParseType(f[1], types); err != nil {
			t.Fatal(err)
		}
		if f[2] == "desc" {
			c.Desc, f[2] = true, "clustering"
		}
		if c.Kind, err = schema.ParseColumnKind(f[2]); err != nil {
			t.Fatal(err)
		}
		if c.Kind < schema.Static {
			c.Position = positions[c.Kind]
			positions[c.Kind]++
		}
		spec.Columns = append(spec.Columns, c)
	}
	return rebuild(t, spec)
}

func rebuild(t testing.TB, spec schema.Table) *schema.Table {
	t.Helper()
	table, err := schema.NewTable(spec)
	if err != nil {
		t.Fatal(err)
	}
	return table
}

func initRecord() *rawtopic.Record {
	return &rawtopic.Record{Kind: rawtopic.KindInit, Init: &rawtopic.Init{Cluster: "test", Partitions: 1, Version: 1}}
}

func schemaRecord(t *schema.Table) *rawtopic.Record {
	return &rawtopic.Record{Kind: rawtopic.KindSchema,
		Schema: &rawtopic.Schema{Hash: t.Hash(), Definition: t.Definition(), AlteredAt: t.AlteredAt}}
}

// timeUUID is a timeuuid of a time in microseconds, made on a node.
func timeUUID(micros int64, node string) (u schema.UUID) {
	ticks := uint64(micros*10 + 122192928000000000)
	binary.BigEndian.PutUint32(u[0:], uint32(ticks))
	binary.BigEndian.PutUint16(u[4:], uint16(ticks>>32))
	binary.BigEndian.PutUint16(u[6:], uint16(ticks>>48)&0x0fff|0x1000)
	u[8] = 0x80
	copy(u[10:], node)
	return u
}

func tickRecord(second int64) *rawtopic.Record {
	return &rawtopic.Record{Kind: rawtopic.KindTick, Tick: &rawtopic.Tick{Watermark: second * microseconds}}
}

func dataRecord(d *rawtopic.Data) *rawtopic.Record {
	return &rawtopic.Record{Kind: rawtopic.KindData, Data: d}
}

// newData is an update of a partition that writes nothing yet.
func newData(t *schema.Table, key []byte) *rawtopic.Data {
	return &rawtopic.Data{Schema: t.Hash(), Key: key, Deletion: commitlog.LiveDeletion}
}

// newRow is a row that writes nothing yet.
func newRow(clustering ...[]byte) commitlog.Row {
	return commitlog.Row{Clustering: clustering, Liveness: noLiveness.Liveness, Deletion: commitlog.LiveDeletion}
}

// rowBuilder adds to a row.
type rowBuilder struct {
	table *schema.Table
	row   *commitlog.Row
}

func (b rowBuilder) cell(name string, timestamp int64, value []byte) rowBuilder {
	return b.add(name, commitlog.Cell{Timestamp: timestamp, LocalTime: commitlog.NoDeletionTime, Value: value})
}

func (b rowBuilder) expiring(name string, timestamp int64, ttl int32, expiry int64, value []byte) rowBuilder {
	return b.add(name, commitlog.Cell{Timestamp: timestamp, TTL: ttl, LocalTime: expiry, Value: value})
}

func (b rowBuilder) tombstone(name string, timestamp, local int64) rowBuilder {
	return b.add(name, commitlog.Cell{Timestamp: timestamp, LocalTime: local, Deleted: true})
}

func (b rowBuilder) add(name string, c commitlog.Cell) rowBuilder {
	i, ok := b.table.ColumnIndex(name)
	if !ok {
		if i, ok = b.table.DroppedIndex(name); !ok {
			panic("no column " + name)
		}
		i += len(b.table.Columns)
	}
	c.Column = i
	b.row.Cells = append(b.row.Cells, c)
	return b
}
