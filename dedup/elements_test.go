package dedup

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"cassdelta/commitlog"
	"cassdelta/internal/rawtopic"
	"cassdelta/schema"
)

// element adds a live cell of a multi-cell column.
func (b rowBuilder) element(name string, timestamp int64, path, value []byte) rowBuilder {
	return b.add(name, commitlog.Cell{Path: path, Timestamp: timestamp, LocalTime: commitlog.NoDeletionTime, Value: value})
}

// elements adds a deletion of the elements of a multi-cell column.
func (b rowBuilder) elements(name string, timestamp int64) rowBuilder {
	i, _ := b.table.ColumnIndex(name)
	d := commitlog.Deletion{Timestamp: timestamp, LocalTime: second(timestamp)}
	b.row.ComplexDeletions = append(b.row.ComplexDeletions, commitlog.ComplexDeletion{Column: i, Deletion: d})
	return b
}

// TestElementsRefused: what is wrong with cells of elements leaves no trace either.
func TestElementsRefused(t *testing.T) {
	place := udt(t, "place", "street text", "zip int")
	types := func(string) *schema.Type { return place }
	table := tableOf(t, types, "t", "k int partition_key", "ss set<int> static",
		"f frozen<place> regular", "l list<int> regular", "m map<int,text> regular", "s set<int> regular", "u place regular", "v int regular")
	for _, c := range []struct {
		reason string
		write  func(b rowBuilder)
	}{
		{"column v: it has a path", func(b rowBuilder) { b.element("v", 1, intValue(1), intValue(1)) }},
		{"column f: it has a path", func(b rowBuilder) { b.element("f", 1, []byte{0, 0}, []byte("a")) }},
		{"column m: it has no path", func(b rowBuilder) { b.cell("m", 1, intValue(0)) }},
		{"column l: path of a cell of a list", func(b rowBuilder) { b.element("l", 1, []byte{1, 2}, intValue(1)) }},
		{"column l: path of a cell of a list", func(b rowBuilder) { b.element("l", 1, make([]byte, 16), intValue(1)) }},
		{"column l: cell of a list: a int has 1 bytes", func(b rowBuilder) { b.element("l", 1, listPath(1), []byte{1}) }},
		{"column m: path of a cell of a map: a int has 1 bytes", func(b rowBuilder) { b.element("m", 1, []byte{1}, []byte("a")) }},
		{"column m: cell of a map: a text has", func(b rowBuilder) { b.element("m", 1, intValue(1), []byte{0xff}) }},
		{"column s: cell of a set: a empty has 1 bytes", func(b rowBuilder) { b.element("s", 1, intValue(1), []byte{1}) }},
		{"column s: it has no value", func(b rowBuilder) { b.element("s", 1, intValue(1), nil) }},
		{"column u: a cell of a place has a path of 1 bytes", func(b rowBuilder) { b.element("u", 1, []byte{1}, intValue(1)) }},
		{"column u: a cell of a place is of field 2", func(b rowBuilder) { b.element("u", 1, []byte{0, 2}, intValue(1)) }},
		{"column u: cell of a place: a int has 1 bytes", func(b rowBuilder) { b.element("u", 1, []byte{0, 1}, []byte{1}) }},
		{"column f: 4 bytes stand behind the last part of a place", func(b rowBuilder) {
			b.cell("f", 1, slices.Repeat([]byte{0xff}, 12))
		}},
		{"path of a cell of a set", func(b rowBuilder) {
			b.add("s", commitlog.Cell{Path: []byte{1}, Timestamp: 1, LocalTime: 1, Deleted: true})
		}},
		{"column v has a deletion of its elements", func(b rowBuilder) { b.elements("v", 1) }},
		{"column f has a deletion of its elements", func(b rowBuilder) { b.elements("f", 1) }},
		{"found a deletion of the elements of the static column ss", func(b rowBuilder) { b.elements("ss", 1) }},
		{"column s has a deletion of its elements without a write time", func(b rowBuilder) { b.elements("s", commitlog.NoTimestamp) }},
	} {
		h := newHarness(t)
		h.apply(initRecord())
		h.apply(schemaRecord(table))
		row := newRow()
		c.write(rowBuilder{table, &row}.cell("v", 1, intValue(1)))
		d := newData(table, intValue(1))
		d.Rows = []commitlog.Row{row}
		if reason := h.refused(dataRecord(d)); !strings.Contains(reason, c.reason) {
			t.Errorf("refused because %s, expected %s", reason, c.reason)
		}
		h.store.Close()
	}
}

// udt makes a user type of the fields "name type".
func udt(t testing.TB, name string, fields ...string) *schema.Type {
	t.Helper()
	var names []string
	var types []*schema.Type
	for _, f := range fields {
		words := strings.Fields(f)
		names, types = append(names, words[0]), append(types, mustType(words[1]))
	}
	typ, err := schema.NewUDT("ks", name, names, types)
	if err != nil {
		t.Fatal(err)
	}
	return typ
}

// TestElementOrder: the elements of a row may come in any order, and one twice; so may the deletions.
func TestElementOrder(t *testing.T) {
	table := mustTable(t, "t", "k int partition_key", "a map<int,int> regular", "b set<int> regular", "c int regular")
	h := newHarness(t)
	h.apply(initRecord())
	h.apply(schemaRecord(table))
	row := newRow()
	rowBuilder{table, &row}.
		element("b", 10, intValue(7), []byte{}).cell("c", 10, intValue(3)).element("a", 10, intValue(2), intValue(2)).
		element("b", 10, intValue(-7), []byte{}).element("a", 10, intValue(1), intValue(1)).
		element("a", 11, intValue(1), intValue(4)).element("a", 9, intValue(2), intValue(9)).element("a", 4, intValue(5), intValue(5)).
		elements("b", 3).elements("a", 2).elements("a", 4).elements("a", 1)
	d := newData(table, intValue(1))
	d.Rows = []commitlog.Row{row}
	h.apply(dataRecord(d))
	h.apply(dataRecord(d))
	if events := h.take(); len(events) != 1 || events[0] != `c t k=1 none -> {a:{"1": 4, "2": 2} b:[-7, 7] c:3} @11` {
		t.Errorf("found the events %v", events)
	}
}

// TestManyElements: a large collection that comes in the wrong order takes no longer than in the right one, and is the same.
func TestManyElements(t *testing.T) {
	const n = 50_000
	table := mustTable(t, "t", "k int partition_key", "s set<int> regular")
	var texts []string
	for _, reversed := range []bool{false, true} {
		h := newHarness(t)
		h.apply(initRecord())
		h.apply(schemaRecord(table))
		row := newRow()
		for i := range n {
			if reversed {
				i = n - 1 - i
			}
			rowBuilder{table, &row}.element("s", 10, intValue(i), []byte{})
		}
		d := newData(table, intValue(1))
		d.Rows = []commitlog.Row{row}
		h.apply(dataRecord(d))
		d.Rows[0].Cells = d.Rows[0].Cells[n/2 : n/2+1]
		d.Rows[0].Cells[0].Timestamp = 11
		h.apply(dataRecord(d))
		events := h.take()
		if len(events) != 2 {
			t.Fatalf("found %d events", len(events))
		}
		texts = append(texts, events[0])
	}
	if texts[0] != texts[1] {
		t.Error("the order of the elements in the record makes a difference")
	}
}

// TestNoAllocationOfElements is TestNoAllocation for columns with elements.
func TestNoAllocationOfElements(t *testing.T) {
	table := mustTable(t, "t", "k int partition_key", "l list<int> regular", "m map<text,int> regular", "s set<bigint> regular")
	h := newHarness(t)
	h.apply(initRecord())
	h.apply(schemaRecord(table))
	row := newRow()
	b := rowBuilder{table, &row}.elements("m", 5)
	for i := range 20 {
		b.element("l", 10, listPath(uint64(i)), intValue(i)).element("m", 10, []byte{byte('a' + i)}, intValue(i)).
			element("s", 10, binary.BigEndian.AppendUint64(nil, uint64(i)), []byte{})
	}
	d := newData(table, intValue(1))
	d.Rows = []commitlog.Row{row}
	rec := dataRecord(d)
	events := 0
	emit := func(*Event) error { events++; return nil }
	apply := func() {
		if _, _, err := h.fold.Apply(h.tx, 5, rec, 0, math.MaxInt64, emit); err != nil {
			t.Fatal(err)
		}
	}
	change := func() { d.Rows[0].Cells[0].Timestamp++; apply() }
	for range 1000 { // the transaction's own memory has grown then
		change()
	}
	if n := testing.AllocsPerRun(1000, apply); n > 0 {
		t.Errorf("a copy allocates %v times", n)
	}
	if n := testing.AllocsPerRun(1000, change); n > 0.1 {
		t.Errorf("a change allocates %v times", n)
	}
	if events != 2001 {
		t.Errorf("found %d events", events)
	}
}

// TestUserTypesOfDefinitions: whichever definition of a user type comes first, is the newest or has no time, a value of
// any of them has its place.
func TestUserTypesOfDefinitions(t *testing.T) {
	short, long := udt(t, "place", "street text", "zip int"), udt(t, "place", "street text", "zip int", "country text")
	person := func(place *schema.Type) *schema.Type {
		frozen := *place
		frozen.Frozen = true
		typ, err := schema.NewUDT("ks", "person", []string{"home"}, []*schema.Type{&frozen})
		if err != nil {
			t.Fatal(err)
		}
		return typ
	}
	define := func(place *schema.Type, at int64, columns ...string) *schema.Table {
		types := func(name string) *schema.Type {
			if name == "person" {
				return person(place)
			}
			return place
		}
		columns = append(columns, "k int partition_key", "p person regular", "s set<frozen<place>> regular", "u place regular")
		table := tableOf(t, types, "t", columns...)
		table.AlteredAt = at
		return table
	}
	part := func(dst, v []byte) []byte { return append(append(dst, intValue(len(v))...), v...) }
	two := part(part(nil, []byte("a")), intValue(1))
	three := part(two, []byte("CH"))
	for _, at := range []int64{0, 1, 2} {
		for _, order := range [][]int{{0, 1}, {1, 0}} {
			// The first has a column that the second does not know.
			tables := []*schema.Table{define(short, 1, "old frozen<place> regular"), define(long, at)}
			h := newHarness(t)
			h.apply(initRecord())
			for _, i := range order {
				h.apply(schemaRecord(tables[i]))
			}
			write := func(i int, timestamp int64, value []byte, field int) {
				row := newRow()
				rowBuilder{tables[i], &row}.element("p", timestamp, []byte{0, 0}, value).element("s", timestamp, value, []byte{}).
					element("u", timestamp, []byte{0, byte(field)}, []byte("a"))
				d := newData(tables[i], intValue(1))
				d.Rows = []commitlog.Row{row}
				h.apply(dataRecord(d))
			}
			write(0, 10, two, 0)
			write(1, 11, three, 2)
			write(0, 12, two, 0)
			// With a null at its end it is the same element.
			write(1, 13, append(slices.Clone(two), 0xff, 0xff, 0xff, 0xff), 0)
			events := h.take()
			const image = `{p:{"home": {"street": "a", "zip": 1, "country": null}} ` +
				`s:[{"street": "a", "zip": 1, "country": null}, {"street": "a", "zip": 1, "country": "CH"}] u:{"street": "a", "zip": null, "country": "a"}}`
			if want := fmt.Sprintf("u t k=1 %s -> %s @13", image, image); len(events) != 4 || events[3] != want {
				t.Errorf("times 1 and %d, order %v: found the events\n%s\nexpected at the end\n%s", at, order, strings.Join(events, "\n"), want)
			}
			joined := h.fold.tables[tables[0].ID].schema
			if i, ok := joined.ColumnIndex("old"); ok && len(joined.Columns[i].Type.Elems) != 3 {
				t.Errorf("times 1 and %d, order %v: column old has the type %v", at, order, joined.Columns[i].Type)
			}
			h.store.Close()
		}
	}
}

// TestElementsOfRandomTypes folds random elements of random types in two orders: the images are the same, whatever the
// comparator of the type does.
func TestElementsOfRandomTypes(t *testing.T) {
	for seed := range uint64(100) {
		r := rand.New(rand.NewPCG(seed, 2))
		typ := []string{"set<decimal>", "set<varint>", "set<timeuuid>", "set<uuid>", "set<frozen<list<int>>>", "set<text>", "set<double>",
			"set<inet>", "set<boolean>", "set<tuple<int,text>>"}[seed%10]
		table := mustTable(t, "t", "k int partition_key", "s "+typ+" regular")
		elem := table.Columns[1].Type.Elems[0]
		var paths [][]byte
		for len(paths) < 30 {
			path := make([]byte, []int{0, 1, 4, 5, 8, 9, 12, 16}[r.IntN(8)])
			for i := range path {
				path[i] = []byte{0, 0, 0, 1, 2, 0x11, 0x80}[r.IntN(7)]
			}
			if elem.Validate(path) == nil && len(path) > 0 {
				paths = append(paths, path)
			}
		}
		var images []string
		for range 3 {
			r.Shuffle(len(paths), func(i, j int) { paths[i], paths[j] = paths[j], paths[i] })
			h := newHarness(t)
			h.apply(initRecord())
			h.apply(schemaRecord(table))
			for i := 0; i < len(paths); i += 10 {
				row := newRow()
				for _, p := range paths[i : i+10] {
					rowBuilder{table, &row}.element("s", 10, p, []byte{})
				}
				d := newData(table, intValue(1))
				d.Rows = []commitlog.Row{row}
				h.apply(dataRecord(d))
			}
			for _, image := range h.rows() {
				images = append(images, image)
			}
			h.store.Close()
		}
		if len(images) != 3 || images[0] != images[1] || images[1] != images[2] {
			t.Fatalf("seed %d, %s: in some orders the images are\n%s", seed, typ, strings.Join(images, "\n"))
		}
	}
}

// TestDamagedElements: elements in a column that has none, or the other way round, are an error and no panic.
func TestDamagedElements(t *testing.T) {
	table := mustTable(t, "t", "k int partition_key", "s set<int> regular", "v int regular")
	for _, damage := range []func(r *row){
		func(r *row) { r.cells[0].path = nil },
		func(r *row) { r.cells[1].path, r.multi = []byte{1}, true },
		func(r *row) { r.elements = []elementsDeletion{{1, commitlog.Deletion{Timestamp: 1, LocalTime: 1}}} },
		func(r *row) { r.elements = []elementsDeletion{{7, commitlog.Deletion{Timestamp: 1, LocalTime: 1}}} },
	} {
		h := newHarness(t)
		h.apply(initRecord())
		h.apply(schemaRecord(table))
		row := newRow()
		rowBuilder{table, &row}.element("s", 10, intValue(1), []byte{}).cell("v", 10, intValue(1))
		d := newData(table, intValue(1))
		d.Rows = []commitlog.Row{row}
		h.apply(dataRecord(d))
		var key []byte
		var stored = h.fold.work.merged
		stored.cells = slices.Clone(stored.cells)
		damage(&stored)
		stored.multi = true
		key = append(key, h.fold.work.rowKey...)
		if err := h.tx.Set(key, appendRow(nil, &stored)); err != nil {
			t.Fatal(err)
		}
		d.Rows[0].Cells[0].Timestamp++
		if err := h.try(&rawtopic.Record{Kind: rawtopic.KindData, Data: d}); err == nil || !strings.Contains(err.Error(), "the state is damaged") {
			t.Errorf("%+v: %v", stored, err)
		}
		h.store.Close()
	}
}

// TestStatsOfElements: what becomes of records that write elements is counted as of others.
func TestStatsOfElements(t *testing.T) {
	h := newHarness(t)
	table := mustTable(t, "t", "k int partition_key", "s set<int> regular", "v int regular")
	h.apply(initRecord())
	h.apply(schemaRecord(table))
	write := func(build func(b rowBuilder)) {
		row := newRow()
		build(rowBuilder{table, &row})
		d := newData(table, intValue(1))
		d.Rows = []commitlog.Row{row}
		h.apply(dataRecord(d))
	}
	for _, c := range []struct {
		write func(b rowBuilder)
		count *int64
	}{
		{func(b rowBuilder) { b.elements("s", 9).element("s", 10, intValue(1), []byte{}) }, &h.fold.stats.Changed},
		{func(b rowBuilder) { b.elements("s", 9).element("s", 10, intValue(1), []byte{}) }, &h.fold.stats.Copies},
		{func(b rowBuilder) { b.elements("s", 8) }, &h.fold.stats.Shadowed},
		{func(b rowBuilder) { b.element("s", 9, intValue(2), []byte{}) }, &h.fold.stats.Shadowed},
		{func(b rowBuilder) { b.element("s", 10, intValue(1), []byte{}) }, &h.fold.stats.Copies},
		{func(b rowBuilder) { b.elements("s", 12) }, &h.fold.stats.Changed},
		{func(b rowBuilder) { b.elements("s", 13) }, &h.fold.stats.Silent},
		{func(b rowBuilder) { b.row.Deletion = commitlog.Deletion{Timestamp: 20} }, &h.fold.stats.Silent},
		{func(b rowBuilder) { b.elements("s", 14) }, &h.fold.stats.Shadowed},
	} {
		before := *c.count
		stats := h.fold.stats
		if write(c.write); *c.count != before+1 {
			t.Errorf("expected another count; before\n%+v\nnow\n%+v", stats, h.fold.stats)
		}
	}
}
