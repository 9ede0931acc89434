package dedup

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"cassdelta/commitlog"
	"cassdelta/internal/foldmodel"
	"cassdelta/internal/rawtopic"
	"cassdelta/schema"
)

// alterations is a table through DDL of every kind: columns added, dropped and added again, another gc grace, a user type with
// another field, a key column with another name.
func alterations(t testing.TB) []*schema.Table {
	var all []*schema.Table
	fields := []string{"f int"}
	now := func(gcGrace int32, dropped []schema.DroppedColumn, columns ...string) {
		place := udt(t, "place", fields...)
		spec := *tableOf(t, func(string) *schema.Type { return place }, "altered", columns...)
		spec.AlteredAt, spec.GCGraceSeconds, spec.Dropped = int64(worldEpoch+10*len(all))*microseconds, gcGrace, dropped
		all = append(all, rebuild(t, spec))
	}
	drop := func(at int) []schema.DroppedColumn {
		return []schema.DroppedColumn{{Name: "v", Kind: schema.Regular, Type: mustType("int"), DroppedAt: int64(worldEpoch+10*at) * microseconds}}
	}
	const key, named = "k int partition_key", "place int clustering"
	now(864000, nil, key, "c int clustering", "s int static", "u place regular", "v int regular", "w int regular")
	now(864000, nil, key, "c int clustering", "s int static", "u place regular", "v int regular", "w int regular", "x text regular")
	now(864000, drop(2), key, "c int clustering", "s int static", "u place regular", "w int regular", "x text regular")
	fields = append(fields, "g int")
	now(864000, drop(2), key, "c int clustering", "s int static", "u place regular", "w int regular", "x text regular")
	now(864000, drop(2), key, "c int clustering", "s int static", "u place regular", "v int regular", "w int regular", "x text regular")
	now(100, drop(2), key, named, "s int static", "u place regular", "v int regular", "w int regular", "x text regular")
	now(100, drop(6), key, named, "s int static", "u place regular", "w int regular", "x text regular")
	now(100, drop(6), key, named, "s int static", "u place regular", "v int regular", "w int regular", "x text regular")
	return all
}

// written is a statement: what it writes by the names of columns, and when.
type written struct {
	at                  int64 // in microseconds, mostly the time at which it is executed
	definition          int   // the one that it was written by
	key, clustering     int
	static, row, range_ bool
	values              map[string]int // regular columns, "f" and "g" for the fields of u
	ttl                 bool
}

// skewed writes statements, ten seconds of them by each definition. What is written to a column before its drop may have a
// time stamp that is later.
func skewed(r *rand.Rand, definitions []*schema.Table) []written {
	var all []written
	for i, d := range definitions {
		for n := range 6 {
			w := written{
				at: int64(worldEpoch+10*i+n)*microseconds + 1, definition: i, key: r.IntN(2), clustering: r.IntN(3), values: map[string]int{},
				static: r.IntN(5) == 0, row: r.IntN(8) == 0, range_: r.IntN(12) == 0, ttl: r.IntN(8) == 0,
			}
			switch r.IntN(6) {
			case 0:
				w.at -= 25 * microseconds
			case 1:
				w.at += 25 * microseconds
			}
			for _, name := range []string{"v", "w", "x"} {
				if _, ok := d.ColumnIndex(name); ok && r.IntN(2) == 0 {
					w.values[name] = r.IntN(3)
				}
			}
			u, _ := d.ColumnIndex("u")
			for _, field := range d.Columns[u].Type.Fields {
				if r.IntN(3) == 0 {
					w.values[field] = r.IntN(3)
				}
			}
			all = append(all, w)
		}
	}
	return all
}

// record is what an agent makes of the statement by a definition, which knows at least as much as the one that it was written by.
func (w *written) record(d *schema.Table) *rawtopic.Record {
	data := newData(d, intValue(w.key))
	row := newRow(intValue(w.clustering))
	b := rowBuilder{d, &row}
	switch {
	case w.static:
		row = newRow()
		b.cell("s", w.at, intValue(w.clustering))
		data.Static = &row
		return dataRecord(data)
	case w.range_:
		bound := rawtopic.Bound{Prefix: [][]byte{intValue(w.clustering)}, Inclusive: true}
		data.Ranges = []rawtopic.Range{{Start: bound, End: rawtopic.Bound{}, Deletion: commitlog.Deletion{Timestamp: w.at, LocalTime: 500_000}}}
		return dataRecord(data)
	case w.row:
		row.Deletion = commitlog.Deletion{Timestamp: w.at, LocalTime: 500_000}
		data.Rows = []commitlog.Row{row}
		return dataRecord(data)
	}
	row.Liveness.Timestamp = w.at
	for _, name := range slices.Sorted(maps.Keys(w.values)) {
		value := intValue(w.values[name])
		cell := commitlog.Cell{Timestamp: w.at, Value: value, LocalTime: commitlog.NoDeletionTime}
		if w.ttl {
			cell.TTL, cell.LocalTime = 100, second(w.at)+100
		}
		column := name
		if name == "f" || name == "g" {
			column = "u"
			cell.Path = []byte{0, name[0] - 'f'}
		}
		if i, ok := d.ColumnIndex(column); ok {
			cell.Column = i
		} else {
			i, _ := d.DroppedIndex(column)
			cell.Column = len(d.Columns) + i
		}
		row.Cells = append(row.Cells, cell)
	}
	data.Rows = []commitlog.Row{row}
	return dataRecord(data)
}

// TestSkewedDefinitions lets three agents tell of the same statements, of which each knows the DDL at a time of its own, early
// or late but never before it has happened, as agents do that look at the schema now and then. In whatever order their
// records meet, the state is the same in the end, and the same events were made, but for the column that was dropped, whose
// values leave the images when that becomes known.
func TestSkewedDefinitions(t *testing.T) {
	definitions := alterations(t)
	runs := uint64(25)
	if testing.Short() {
		runs = 8
	}
	events, dropped := 0, int64(0)
	for seed := range runs {
		r := rand.New(rand.NewPCG(seed, 4))
		statements := skewed(r, definitions)
		var first string
		for round := range 4 {
			var logs [3][]*rawtopic.Record
			for host := range logs {
				known := -1
				ahead := r.IntN(len(definitions))
				for i := range statements {
					w := &statements[i]
					if now := max(known, min(len(definitions)-1, w.definition+r.IntN(ahead+1))); now != known {
						for known < now { // it may have seen all, or missed some
							if known++; known == now || r.IntN(2) == 0 {
								logs[host] = append(logs[host], schemaFrom(definitions[known], host))
							}
						}
					}
					logs[host] = append(logs[host], w.record(definitions[known]))
				}
				logs[host] = append(logs[host], schemaFrom(definitions[len(definitions)-1], host))
			}
			h := newHarness(t)
			h.model = foldmodel.New()
			told := map[string][]string{}
			tell := func(found []*foldmodel.Event) {
				events += len(found)
				for _, e := range found {
					if text, ok := withoutDropped(t, h, e); ok {
						told[e.Row()] = append(told[e.Row()], text)
					}
				}
			}
			h.apply(initRecord())
			for _, rec := range interleaved(r, logs) {
				h.apply(rec)
				tell(h.found)
			}
			h.apply(tickRecord(100_000))
			tell(h.found)
			var text strings.Builder
			for _, row := range slices.Sorted(maps.Keys(told)) {
				fmt.Fprintf(&text, "%s\n  %s\n", row, strings.Join(told[row], "\n  "))
			}
			fmt.Fprintf(&text, "%s\n%v\n", h.known(), h.rows())
			if t.Failed() {
				t.Fatalf("seed %d, round %d", seed, round)
			}
			if round == 0 {
				first = text.String()
			} else if text.String() != first {
				t.Fatalf("seed %d, round %d: found\n%s\nexpected\n%s", seed, round, &text, first)
			}
			dropped += h.fold.Stats().DroppedColumn
			h.store.Close()
		}
	}
	if t.Logf("%d events, %d cells of dropped columns", events, dropped); events == 0 || dropped == 0 {
		t.Error("something did not occur")
	}
}

func schemaFrom(t *schema.Table, host int) *rawtopic.Record {
	rec := schemaRecord(t)
	rec.Schema.Host, rec.Schema.Created = schema.UUID{byte(host + 1)}, true
	return rec
}

// interleaved is the records of all logs, those of each in their order.
func interleaved(r *rand.Rand, logs [3][]*rawtopic.Record) []*rawtopic.Record {
	var all []*rawtopic.Record
	pace := [3]int{1 + r.IntN(20), 1 + r.IntN(20), 1 + r.IntN(20)}
	for left := true; left; {
		left = false
		for i := range logs {
			n := min(r.IntN(pace[i]+1), len(logs[i]))
			all = append(all, logs[i][:n]...)
			logs[i] = logs[i][n:]
			left = left || len(logs[i]) > 0
		}
	}
	return all
}

// withoutDropped is an event without the column that was dropped, and without the fields of a user type that are null. It is
// not ok if nothing else may have changed.
func withoutDropped(t *testing.T, h *harness, e *foldmodel.Event) (told string, ok bool) {
	t.Helper()
	var table *schema.Table
	for _, known := range h.fold.tables {
		table = known.schema
	}
	text := func(image foldmodel.Image) string {
		if image == nil {
			return "none"
		}
		var parts []string
		for _, name := range slices.Sorted(maps.Keys(image)) {
			i, ok := table.ColumnIndex(name)
			if !ok || name == "v" {
				continue
			}
			value := valueText(table.Columns[i].Type, []byte(image[name]))
			if name == "u" {
				fields := map[string]any{}
				if err := json.Unmarshal([]byte(value), &fields); err != nil {
					t.Fatal(err)
				}
				maps.DeleteFunc(fields, func(_ string, v any) bool { return v == nil })
				value = fmt.Sprint(fields)
			}
			parts = append(parts, name+":"+value)
		}
		return strings.Join(parts, " ")
	}
	others := maps.Clone(e.Changed)
	delete(others, "v")
	return fmt.Sprintf("%c {%s} -> {%s} @%d %s complete %v", e.Op, text(e.Before), text(e.After), e.Timestamp, e.Reason, e.Complete),
		e.Op != 'u' || len(others) > 0
}

// TestCoveredWhileDropped deletes a partition while a column is dropped of which a row has a cell that is newer than the drop,
// hence seen by nobody: once the column is added again nothing of the row is there.
func TestCoveredWhileDropped(t *testing.T) {
	definitions := alterations(t)
	h := newHarness(t)
	h.model = foldmodel.New()
	h.apply(initRecord())
	h.apply(schemaFrom(definitions[0], 0))
	first := written{at: int64(worldEpoch+100) * microseconds, values: map[string]int{"v": 1}}
	update := first.record(definitions[0])
	update.Data.Rows[0].Liveness.Timestamp = commitlog.NoTimestamp
	h.apply(update)
	h.apply(schemaFrom(definitions[2], 0))
	deletion := newData(definitions[2], intValue(first.key))
	deletion.Deletion = commitlog.Deletion{Timestamp: first.at + 1, LocalTime: 500_000}
	h.apply(dataRecord(deletion))
	h.apply(schemaFrom(definitions[4], 0))
	if rows := h.rows(); len(rows) > 0 {
		t.Errorf("expected no row, found %v", rows)
	}
}
