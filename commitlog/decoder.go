package commitlog

import (
	"bytes"
	"fmt"

	"cassdelta/schema"
)

// Tables finds table definitions; [*schema.Catalog] is one.
type Tables interface {
	// ByID returns nil for an unknown table.
	ByID(id schema.UUID) *schema.Table
}

// Decoder decodes mutations into memory of its own that it uses again, without allocating in the steady state.
// It is for one goroutine.
//
// A payload is a uvint count and that many partition updates; see [Mutation] for what they hold. Timestamps,
// deletion times and TTLs are uvint distances from minima that stand in front of each update, which in turn are
// distances from the epochs below, modulo 2^64 and 2^32. Updates have no length, so one that cannot be decoded hides
// those behind it. Source: Mutation.MutationSerializer, PartitionUpdate.PartitionUpdateSerializer,
// UnfilteredRowIteratorSerializer.
type Decoder struct {
	tables Tables
	wanted func(*schema.Table) bool
	known  map[schema.UUID]*tableInfo
	last   *tableInfo

	// The memory that mutations are made of. A slice that grows leaves the older parts of a mutation in the old array,
	// where they stay as they are.
	rows        []Row
	markers     []Marker
	unfiltereds []Unfiltered
	values      [][]byte
	cells       []Cell
	deletions   []ComplexDeletion
	present     []bool

	parser parser
	failed int // number of the update that the last Decode failed at
}

// keepCells is the number of cells above which memory is not kept for the next mutation.
const keepCells = 1 << 16

// The epochs of encoded minima: 2015-09-22T00:00:00Z. Source: EncodingStats.
const (
	timestampEpoch    = 1442880000000000
	deletionTimeEpoch = 1442880000
)

// minUpdate is the size of the least update: table id, empty key, flags.
const minUpdate = 16 + 1 + 1

// tableInfo is what the decoder keeps about a table.
type tableInfo struct {
	table      *schema.Table
	wanted     bool
	clustering []int // fixed length of each value, or -1
	statics    columnLists
	regulars   columnLists
}

// NewDecoder makes a decoder for the tables given. Updates of tables for which wanted is false are left out of the
// mutations; nil wants all. After a change of the schema, make a new decoder.
func NewDecoder(tables Tables, wanted func(*schema.Table) bool) *Decoder {
	return &Decoder{tables: tables, wanted: wanted, known: map[schema.UUID]*tableInfo{}}
}

// FirstTable reads the table id of the first update of a payload, without any check of the rest: the cheap way to pass
// over the entries of system tables, since all updates of a mutation are of one keyspace.
func FirstTable(payload []byte) (schema.UUID, error) {
	c := cursor{b: payload}
	c.count(minUpdate, "number of updates")
	var id schema.UUID
	copy(id[:], c.bytes(len(id), "table id"))
	if c.failed() {
		return schema.UUID{}, &DecodeError{Offset: c.err.off, Field: c.err.field, Reason: c.err.reason}
	}
	return id, nil
}

// Decode decodes one payload into m. What m holds points into payload and into the decoder, until the next call of
// Decode. An error is one of [*UnknownTableError], [*UnknownColumnError] and [*DecodeError]; m then holds the updates
// before the one that failed.
func (d *Decoder) Decode(v Version, payload []byte, pos Position, m *Mutation) error {
	d.reset()
	m.Position, m.Size, m.Count, m.Updates, m.Leftover = pos, len(payload), 0, m.Updates[:0], 0
	p := &d.parser
	p.begin(d, v, payload, 0)
	if !v.Supported() {
		p.fail(0, "version", fmt.Sprintf("expected commit log version 6, 7 or 8, found %d", v))
		return p.decodeError(pos)
	}
	m.Count = p.count(minUpdate, "number of updates")
	if m.Count == 0 && !p.failed() {
		p.fail(0, "number of updates", "expected at least 1, found 0")
	}
	for i := 0; i < m.Count; i++ {
		d.failed = i
		if err := p.update(pos, i, m); err != nil {
			return err
		}
		if p.stopped {
			return nil
		}
	}
	if p.failed() {
		return p.decodeError(pos)
	}
	m.Leftover = p.left()
	return nil
}

// Resync goes on behind an update of an unknown table, or one that cannot be decoded, after Decode has failed on this
// payload: it looks for the next place behind the offset after that holds the id of a known table and from which the
// updates end exactly with the payload. It appends what it finds to m, and returns the offset where it went on, or -1
// if there is no such place.
func (d *Decoder) Resync(v Version, payload []byte, after int, m *Mutation) int {
	most := m.Count - d.failed - 1
	if after < 0 || most < 1 || !v.Supported() {
		return -1
	}
	for at := after + 1; at+minUpdate <= len(payload); at++ {
		if d.info(schema.UUID(payload[at:at+16])) == nil {
			continue
		}
		if n := d.chain(v, payload, at, most, nil, 0, m.Position); n > 0 {
			d.chain(v, payload, at, n, m, m.Count-n, m.Position)
			return at
		}
	}
	return -1
}

// chain parses updates from at on, at most so many, and reports how many end exactly with the payload, 0 if none do.
// If m is nil it only walks over them; else it appends them to m, numbered from first.
func (d *Decoder) chain(v Version, payload []byte, at, most int, m *Mutation, first int, pos Position) int {
	p := &d.parser
	p.begin(d, v, payload, at)
	p.whole, p.dry = true, m == nil
	if m == nil {
		m = &Mutation{}
	}
	for i := range most {
		if p.update(pos, first+i, m) != nil {
			return 0
		}
		if p.left() == 0 {
			return i + 1
		}
	}
	return 0
}

// reset takes back the memory of the last mutation.
func (d *Decoder) reset() {
	if cap(d.cells) > keepCells {
		d.cells = nil
	}
	if cap(d.rows) > keepCells {
		d.rows, d.unfiltereds = nil, nil
	}
	if cap(d.values) > keepCells {
		d.values = nil
	}
	if cap(d.markers) > keepCells {
		d.markers = nil
	}
	if cap(d.deletions) > keepCells {
		d.deletions = nil
	}
	d.rows, d.markers, d.unfiltereds = d.rows[:0], d.markers[:0], d.unfiltereds[:0]
	d.values, d.cells, d.deletions = d.values[:0], d.cells[:0], d.deletions[:0]
}

// info finds a table, nil if it is unknown.
func (d *Decoder) info(id schema.UUID) *tableInfo {
	if d.last != nil && d.last.table.ID == id {
		return d.last
	}
	t := d.known[id]
	if t == nil {
		def := d.tables.ByID(id)
		if def == nil {
			return nil
		}
		t = &tableInfo{table: def, wanted: d.wanted == nil || d.wanted(def)}
		for _, c := range def.ClusteringColumns() {
			t.clustering = append(t.clustering, c.Type.FixedLength())
		}
		d.known[id] = t
	}
	d.last = t
	return t
}

// columnRef is a column of an update's column list.
type columnRef struct {
	index int // as in Cell.Column
	multi bool
	fixed int // length of a value, -1 if it stands in front of each, as always in a multi-cell column
	// dropped says that a column of this name was dropped: what was written at droppedAt, in microseconds, or before
	// is left out.
	dropped   bool
	droppedAt int64
}

// leavesOut reports whether what was written at timestamp is of a column that was dropped then or later.
// Source: DeserializationHelper.isDropped.
func (r *columnRef) leavesOut(timestamp int64) bool { return r.dropped && timestamp <= r.droppedAt }

// columnList is a column list as serialized, with what its names stand for.
type columnList struct {
	bytes []byte
	refs  []columnRef // not nil
}

// columnLists resolves column lists by their bytes: a table has few different ones, one for each set of columns that some
// statement writes.
type columnLists struct {
	all map[string][]columnRef
	// recent holds, of the lists with the same hash, the last one; last is the last of all of them.
	recent [32]columnList
	last   *columnList
}

// keepLists bounds the number of column lists remembered for a table.
const keepLists = 1024

// next reports whether b begins with the list that came last. A list says itself where it ends.
func (l *columnLists) next(b []byte) bool {
	return l.last != nil && bytes.HasPrefix(b, l.last.bytes)
}

// find makes a list the last; hash is anything that depends on nothing but its bytes. ok is false for an unknown list.
func (l *columnLists) find(list []byte, hash uint) (refs []columnRef, ok bool) {
	r := &l.recent[hash%uint(len(l.recent))]
	if r.refs == nil || !bytes.Equal(r.bytes, list) {
		refs, ok := l.all[string(list)]
		if !ok {
			return nil, false
		}
		r.bytes, r.refs = append(r.bytes[:0], list...), refs
	}
	l.last = r
	return r.refs, true
}

func (l *columnLists) keep(list []byte, refs []columnRef) {
	if l.all == nil || len(l.all) >= keepLists {
		l.all = map[string][]columnRef{}
	}
	l.all[string(list)] = refs
}

// column resolves a name as Cassandra does: among the columns, then among the dropped ones. ok is false for neither.
func (t *tableInfo) column(name string) (ref columnRef, kind schema.ColumnKind, ok bool) {
	di, dropped := t.table.DroppedIndex(name)
	if dropped {
		ref.dropped, ref.droppedAt = true, t.table.Dropped[di].DroppedAt
	}
	var typ *schema.Type
	if i, found := t.table.ColumnIndex(name); found {
		c := t.table.Columns[i]
		ref.index, kind, typ = i, c.Kind, c.Type
	} else if dropped {
		c := t.table.Dropped[di]
		ref.index, kind, typ = len(t.table.Columns)+di, c.Kind, c.Type
	} else {
		return columnRef{}, 0, false
	}
	ref.multi, ref.fixed = typ.MultiCell(), typ.FixedLength()
	return ref, kind, true
}
