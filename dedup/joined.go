package dedup

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"math"
	"slices"

	"cassdelta/commitlog"
	"cassdelta/internal/rawtopic"
	"cassdelta/schema"
	"cassdelta/state"
)

// This file keeps the definitions of tables. A definition is stored by its hash: format (1 byte: 1), the greatest
// AlteredAt it came with (varint, microseconds), the text to the end of the value. What joins the definitions of one
// table is stored by the table's id:
//
//	format     1 byte: 1
//	flags      1 byte: 0x01 a partition of the table has a header, 0x02 the field purged follows
//	purged     varint: the second up to which deletions read as absent, whatever gc grace is since it was raised
//	hashes     uvarint number, and for each definition, ordered, 16 bytes
//	columns    uvarint number, and for each static or regular column that any definition has, dropped ones too:
//	           uvarint length, name; 1 byte kind. Its place in this list is its id in the cells of rows, for ever.
//
// The joined table that events refer to is computed from the definitions, whose order of arrival makes no difference to
// it: two agents notice an ALTER TABLE at different times.

const (
	definitionFormat = 1
	joinedFormat     = 1
	joinedHeaders    = 0x01
	joinedPurged     = 0x02
)

// table is what is known of a table.
type table struct {
	// schema is the joined table, past what is known of its past.
	schema *schema.Table
	past   *past
	// unsupported says why no events can be made, "" if they can.
	unsupported string
	// headers is set once a partition has a header; before, none is looked for.
	headers bool
	// purged is a second up to which deletions read as absent; MinInt64 unless gc grace, or least, was raised.
	purged int64
	// least is how long the dead of all tables are kept at least, in seconds.
	least  int64
	hashes []schema.Hash
	// columns are by id.
	columns []column
	// drops is set if cells of some column may be gone, multi if there is a multi-cell column, counters if there is a counter.
	drops, multi, counters bool
}

// column is a static or regular column of a table, past or present.
type column struct {
	name string
	kind schema.ColumnKind
	// index is that in the joined table's Columns, -1 if the column is dropped; typ is the type there, or of the dropped
	// column, nil if there is neither.
	index int
	typ   *schema.Type
	// droppedAt is the write time in microseconds up to which cells do not exist, NoTimestamp if the column was never
	// dropped.
	droppedAt int64
}

// gone reports whether a cell of the column does not exist, because the column was dropped after it was written. What is
// newer than the drop is kept while there is no such column, and seen by nobody: it may have come before the definition
// that adds the column again.
func (c *column) gone(timestamp int64) bool { return c.typ == nil || timestamp <= c.droppedAt }

// shows reports whether a cell is alive, and of a column that exists.
func (t *table) shows(c *cell) bool { return c.alive() && t.columns[c.id].index >= 0 }

// multi reports whether the column has a cell for each element.
func (c *column) multi() bool { return c.typ != nil && c.typ.MultiCell() }

// counter reports whether the column is a counter.
func (c *column) counter() bool { return c.typ != nil && c.typ.Kind == schema.KindCounter }

// whyNot says why no events can be made of what is written to the table, "" if they can.
func (f *Fold) whyNot(t *table) string {
	if t.unsupported == "" && t.counters && !f.pastKnown(t) {
		return "it has counters, and was not captured from its creation on: the totals of counters that were counted before cannot be known"
	}
	return t.unsupported
}

// definition is one definition of a table, as data records refer to it.
type definition struct {
	table *table
	// schema is the definition itself, with the greatest AlteredAt it came with.
	schema *schema.Table
	// columns are by the number that raw records use: those of schema.Columns, then those of schema.Dropped.
	columns []columnRef
}

// columnRef is what a column number of a raw record means.
type columnRef struct {
	name string
	kind schema.ColumnKind
	typ  *schema.Type
	// id is the column's in table.columns; it means nothing for a column of the key.
	id uint32
}

// applySchema stores a definition and joins it with those that the table has.
func (f *Fold) applySchema(s *rawtopic.Schema) error {
	parsed, err := schema.ParseDefinition(s.Definition)
	if err != nil {
		return f.refuse("", "%v", err)
	}
	if parsed.Hash() != s.Hash {
		return f.refuse(parsed.FullName(), "its definition has the hash %v, and the record says %v", parsed.Hash(), s.Hash)
	}
	known, err := f.definition(s.Hash)
	if err != nil {
		return err
	}
	parsed.AlteredAt = s.AlteredAt
	t, err := f.table(parsed.ID)
	if err != nil {
		return err
	}
	joined := &table{}
	repeated := known != nil && known.schema.AlteredAt >= s.AlteredAt
	if !repeated {
		if joined, err = f.joined(t, parsed); err != nil {
			return err
		}
	}
	if err := f.applyName(parsed); err != nil {
		return err
	}
	if err := f.applyCreation(s, parsed); err != nil {
		return err
	}
	if repeated {
		return nil
	}
	if joined.past, err = f.past(parsed.ID); err != nil {
		return err
	}
	if t != nil {
		f.raised(joined, t)
	}

	w := &f.work
	w.key1 = state.Schema(w.key1[:0], f.group, s.Hash)
	w.value = binary.AppendVarint(append(w.value[:0], definitionFormat), s.AlteredAt)
	w.value = append(w.value, s.Definition...)
	if err := f.call.tx.Set(w.key1, w.value); err != nil {
		return err
	}
	if t == nil {
		t = &table{}
		f.tables[parsed.ID] = t
	}
	*t = *joined
	f.definitions[s.Hash] = define(t, parsed)
	return f.storeTable(t)
}

// joined is t, which is nil before the first, with another definition.
func (f *Fold) joined(t *table, parsed *schema.Table) (*table, error) {
	joined := &table{purged: math.MinInt64, least: f.settings.Retention}
	var definitions []*schema.Table
	if t != nil {
		joined.headers = t.headers
		joined.columns = slices.Clone(t.columns)
		for _, h := range t.hashes {
			if h == parsed.Hash() {
				continue
			}
			d, err := f.definition(h)
			if err != nil {
				return nil, err
			}
			definitions = append(definitions, d.schema)
		}
	}
	if err := joined.join(append(definitions, parsed)); err != nil {
		return nil, f.refuse(parsed.FullName(), "its definition does not go with those before: %v", err)
	}
	return joined, nil
}

// applyCreation takes note of what an agent says of a table's past. It is complete if an agent has read its creation with
// cdc = true, and no agent is of another mind: one that has not may miss what its node wrote before, and while cdc was
// off nothing was captured.
func (f *Fold) applyCreation(s *rawtopic.Schema, parsed *schema.Table) error {
	if err := f.noteHost(s.Host); err != nil {
		return err
	}
	p, err := f.past(parsed.ID)
	if err != nil {
		return err
	}
	created := s.Created && parsed.CDC
	expected := created && p.expect(s.Host)
	if !expected && (created && p.created || !created && p.missing) {
		return nil
	}
	p.created, p.missing = p.created || created, p.missing || !created
	return f.storePast(parsed.ID, p)
}

// storeTable stores what joins the definitions of t.
func (f *Fold) storeTable(t *table) error {
	w := &f.work
	w.key1 = state.Joined(w.key1[:0], f.group, t.schema.ID)
	w.value = appendJoined(w.value[:0], t)
	return f.call.tx.Set(w.key1, w.value)
}

// definition returns the definition with this hash, nil if there is none.
func (f *Fold) definition(hash schema.Hash) (*definition, error) {
	if d := f.definitions[hash]; d != nil {
		return d, nil
	}
	parsed, err := f.readDefinition(hash)
	if parsed == nil || err != nil {
		return nil, err
	}
	t, err := f.table(parsed.ID)
	if err != nil {
		return nil, err
	}
	if t == nil {
		return nil, fmt.Errorf("raw partition %d, offset %d: the state is damaged: definition %v of %s is stored, and no joined schema",
			f.partition, f.call.offset, hash, parsed.FullName())
	}
	d := define(t, parsed)
	f.definitions[hash] = d
	return d, nil
}

func (f *Fold) readDefinition(hash schema.Hash) (*schema.Table, error) {
	key := state.Schema(nil, f.group, hash)
	value, err := f.call.tx.Get(key)
	if value == nil || err != nil {
		return nil, err
	}
	in := decoder{b: value}
	in.format(definitionFormat)
	alteredAt := in.varint("altered at")
	if in.err != nil {
		return nil, f.stored(key, in.err)
	}
	parsed, err := schema.ParseDefinition(in.b)
	if err != nil {
		return nil, f.stored(key, err)
	}
	parsed.AlteredAt = alteredAt
	return parsed, nil
}

// table returns the table with this id, nil if there is none.
func (f *Fold) table(id schema.UUID) (*table, error) {
	if t := f.tables[id]; t != nil {
		return t, nil
	}
	key := state.Joined(nil, f.group, id)
	value, err := f.call.tx.Get(key)
	if value == nil || err != nil {
		return nil, err
	}
	t := &table{least: f.settings.Retention}
	if err := decodeJoined(value, t); err != nil {
		return nil, f.stored(key, err)
	}
	var definitions []*schema.Table
	for _, hash := range t.hashes {
		d, err := f.readDefinition(hash)
		if err != nil {
			return nil, err
		}
		if d == nil {
			return nil, f.stored(key, fmt.Errorf("definition %v is missing", hash))
		}
		definitions = append(definitions, d)
	}
	if err := t.join(definitions); err != nil {
		return nil, f.stored(key, err)
	}
	if t.past, err = f.past(id); err != nil {
		return nil, err
	}
	f.tables[id] = t
	return t, nil
}

// join makes t the table of all these definitions, at least one; columns that it has keep their ids. Its columns are
// those of the newest definition, and those that only others have, unless they were dropped: an agent that still uses
// an older definition may know a column that the newest one lost sight of. Its user types have all fields that any
// definition knows.
func (t *table) join(definitions []*schema.Table) error {
	// Ids are given in the order of the hashes, as far as the definitions came together.
	slices.SortFunc(definitions, func(a, b *schema.Table) int {
		ah, bh := a.Hash(), b.Hash()
		return bytes.Compare(ah[:], bh[:])
	})
	t.hashes = t.hashes[:0]
	for _, d := range definitions {
		t.hashes = append(t.hashes, d.Hash())
		for _, c := range d.Columns {
			if c.Kind >= schema.Static {
				t.addColumn(c.Name, c.Kind)
			}
		}
		for _, c := range d.Dropped {
			t.addColumn(c.Name, c.Kind)
		}
	}
	if len(t.columns) > maxColumnID {
		return fmt.Errorf("it has had %d columns, expected at most %d", len(t.columns), maxColumnID)
	}
	newestFirst := slices.Clone(definitions)
	slices.SortFunc(newestFirst, func(a, b *schema.Table) int {
		ah, bh := a.Hash(), b.Hash()
		return cmp.Or(cmp.Compare(b.AlteredAt, a.AlteredAt), bytes.Compare(bh[:], ah[:]))
	})
	newest := newestFirst[0]
	for _, d := range newestFirst[1:] {
		if err := sameKey(newest, d); err != nil {
			return err
		}
	}
	spec := joinedSpec(newest, newestFirst[1:])
	newestUserTypes(newestFirst).apply(&spec)
	var err error
	if t.schema, err = schema.NewTable(spec); err != nil {
		return err
	}
	t.unsupported = t.schema.Unsupported()
	t.drops, t.multi, t.counters = len(t.schema.Dropped) > 0, false, false
	for i := range t.columns {
		c := &t.columns[i]
		c.index, c.typ, c.droppedAt = -1, nil, commitlog.NoTimestamp
		if at, ok := t.schema.ColumnIndex(c.name); ok && t.schema.Columns[at].Kind == c.kind {
			c.index, c.typ = at, t.schema.Columns[at].Type
		} else {
			t.drops = true
		}
		if at, ok := t.schema.DroppedIndex(c.name); ok {
			d := &t.schema.Dropped[at]
			c.droppedAt = d.DroppedAt
			if c.index < 0 && d.Kind == c.kind {
				c.typ = d.Type
			}
		}
		t.multi = t.multi || c.multi()
		t.counters = t.counters || c.counter()
	}
	return nil
}

// joinedSpec is the newest definition with the columns and the drops of the others.
func joinedSpec(newest *schema.Table, others []*schema.Table) schema.Table {
	spec := schema.Table{
		Keyspace: newest.Keyspace, Name: newest.Name, ID: newest.ID, GCGraceSeconds: newest.GCGraceSeconds, CDC: newest.CDC,
		Flags: newest.Flags, View: newest.View, AlteredAt: newest.AlteredAt,
		Columns: slices.Clone(newest.Columns), Dropped: slices.Clone(newest.Dropped),
	}
	for _, d := range others {
		for _, c := range d.Dropped {
			i := slices.IndexFunc(spec.Dropped, func(s schema.DroppedColumn) bool { return s.Name == c.Name })
			switch {
			case i < 0:
				spec.Dropped = append(spec.Dropped, c)
			case c.DroppedAt > spec.Dropped[i].DroppedAt:
				spec.Dropped[i] = c
			}
		}
	}
	for _, d := range others {
		for _, c := range d.Columns {
			present := slices.ContainsFunc(spec.Columns, func(s schema.Column) bool { return s.Name == c.Name })
			dropped := slices.ContainsFunc(spec.Dropped, func(s schema.DroppedColumn) bool { return s.Name == c.Name })
			if c.Kind >= schema.Static && !present && !dropped {
				spec.Columns = append(spec.Columns, c)
			}
		}
	}
	return spec
}

// sameKey checks that two definitions of a table have the same primary key, but for names.
func sameKey(a, b *schema.Table) error {
	if x, y := len(a.PartitionKeyColumns()), len(b.PartitionKeyColumns()); x != y {
		return fmt.Errorf("expected %d partition key columns, found %d", x, y)
	}
	x, y := a.ClusteringColumns(), b.ClusteringColumns()
	if len(x) != len(y) {
		return fmt.Errorf("expected %d clustering columns, found %d", len(x), len(y))
	}
	for i := range x {
		if x[i].Desc != y[i].Desc {
			return fmt.Errorf("clustering column %s is in descending order in one and not in the other", x[i].Name)
		}
	}
	return nil
}

// addColumn gives a column an id unless it has one, and returns it.
func (t *table) addColumn(name string, kind schema.ColumnKind) uint32 {
	i := slices.IndexFunc(t.columns, func(c column) bool { return c.name == name && c.kind == kind })
	if i < 0 {
		i = len(t.columns)
		t.columns = append(t.columns, column{name: name, kind: kind})
	}
	return uint32(i)
}

// define makes the definition of parsed, which is one of those that t joins.
func define(t *table, parsed *schema.Table) *definition {
	d := &definition{table: t, schema: parsed}
	for _, c := range parsed.Columns {
		ref := columnRef{name: c.Name, kind: c.Kind, typ: c.Type}
		if c.Kind >= schema.Static {
			ref.id = t.addColumn(c.Name, c.Kind)
		}
		d.columns = append(d.columns, ref)
	}
	for _, c := range parsed.Dropped {
		d.columns = append(d.columns, columnRef{name: c.Name, kind: c.Kind, typ: c.Type, id: t.addColumn(c.Name, c.Kind)})
	}
	return d
}

func appendJoined(dst []byte, t *table) []byte {
	var flags byte
	if t.headers {
		flags |= joinedHeaders
	}
	if t.purged != math.MinInt64 {
		flags |= joinedPurged
	}
	dst = append(dst, joinedFormat, flags)
	if t.purged != math.MinInt64 {
		dst = binary.AppendVarint(dst, t.purged)
	}
	dst = binary.AppendUvarint(dst, uint64(len(t.hashes)))
	for _, h := range t.hashes {
		dst = append(dst, h[:]...)
	}
	dst = binary.AppendUvarint(dst, uint64(len(t.columns)))
	for _, c := range t.columns {
		dst = binary.AppendUvarint(dst, uint64(len(c.name)))
		dst = append(dst, c.name...)
		dst = append(dst, byte(c.kind))
	}
	return dst
}

// decodeJoined reads what appendJoined wrote; join computes the rest.
func decodeJoined(value []byte, t *table) error {
	in := decoder{b: value}
	in.format(joinedFormat)
	flags := in.byte("flags")
	if flags&^(joinedHeaders|joinedPurged) != 0 {
		in.fail(fmt.Sprintf("flags: found %#02x", flags))
	}
	if t.purged = math.MinInt64; flags&joinedPurged != 0 {
		t.purged = in.varint("purged")
	}
	t.headers = flags&joinedHeaders != 0
	for n := in.uvarint("hashes"); n > 0 && in.err == nil; n-- {
		var h schema.Hash
		copy(h[:], in.bytes(uint64(len(h)), "hash"))
		t.hashes = append(t.hashes, h)
	}
	if len(t.hashes) == 0 {
		in.fail("expected a definition, found none")
	}
	for n := in.uvarint("columns"); n > 0 && in.err == nil; n-- {
		c := column{name: string(in.bytes(in.uvarint("column"), "column"))}
		c.kind = schema.ColumnKind(in.byte("kind"))
		if c.kind != schema.Static && c.kind != schema.Regular {
			in.fail(fmt.Sprintf("column %s: kind %d is neither static nor regular", c.name, c.kind))
		}
		t.columns = append(t.columns, c)
	}
	return in.end("joined schema")
}
