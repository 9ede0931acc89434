package dedup

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"cassdelta/commitlog"
	"cassdelta/internal/rawtopic"
	"cassdelta/schema"
	"cassdelta/state"
)

// history is a table through some ALTER TABLEs, as agents may send it.
func history(t testing.TB) []*schema.Table {
	first := mustTable(t, "t", "k int partition_key", "c int clustering", "s int static", "a int regular", "b int regular")
	with := func(old *schema.Table, at int64, dropped string, added ...string) *schema.Table {
		spec := schema.Table{
			Keyspace: old.Keyspace, Name: old.Name, ID: old.ID, GCGraceSeconds: old.GCGraceSeconds, CDC: true, Flags: old.Flags,
			AlteredAt: at, Dropped: old.Dropped,
		}
		for _, c := range old.Columns {
			if c.Name == dropped {
				spec.Dropped = append(spec.Dropped[:0:0], spec.Dropped...)
				for i := range spec.Dropped {
					if spec.Dropped[i].Name == dropped {
						spec.Dropped = append(spec.Dropped[:i], spec.Dropped[i+1:]...)
						break
					}
				}
				spec.Dropped = append(spec.Dropped, schema.DroppedColumn{Name: c.Name, Kind: c.Kind, Type: c.Type, DroppedAt: at})
				continue
			}
			spec.Columns = append(spec.Columns, c)
		}
		for _, name := range added {
			i, _ := first.ColumnIndex("a")
			c := first.Columns[i]
			c.Name = name
			spec.Columns = append(spec.Columns, c)
		}
		return rebuild(t, spec)
	}
	added := with(first, 100, "", "d")
	dropped := with(added, 200, "a")
	again := with(dropped, 300, "", "a")
	twice := with(again, 400, "a")
	last := with(twice, 500, "", "e")
	return []*schema.Table{first, added, dropped, again, twice, last}
}

// TestJoinedOrder: whatever the order in which definitions come, the joined table is the same, and so is what is made
// of rows.
func TestJoinedOrder(t *testing.T) {
	tables := history(t)
	r := rand.New(rand.NewPCG(5, 0))
	var first string
	for round := range 60 {
		h := newHarness(t)
		h.apply(initRecord())
		order := r.Perm(len(tables))
		if round == 0 {
			order = []int{0, 1, 2, 3, 4, 5}
		}
		for _, i := range order {
			h.apply(schemaRecord(tables[i]))
			if r.IntN(4) == 0 {
				h.apply(schemaRecord(tables[i])) // another agent's
			}
		}
		if r.IntN(2) == 0 {
			h.commit(state.Position{Offset: h.offset})
			h.fold = NewFold(0) // reads it all again
		}
		var text strings.Builder
		for i, table := range tables {
			d := newData(table, intValue(i))
			row := newRow(intValue(1))
			for n, c := range table.RegularColumns() {
				rowBuilder{table, &row}.cell(c.Name, int64(50+100*i), intValue(n))
			}
			for _, c := range table.Dropped {
				if _, ok := table.ColumnIndex(c.Name); !ok {
					rowBuilder{table, &row}.cell(c.Name, 250, intValue(9))
				}
			}
			d.Rows = []commitlog.Row{row}
			h.apply(dataRecord(d))
		}
		joined := h.fold.tables[tables[0].ID].schema
		fmt.Fprintf(&text, "%s %d\n%s", joined.Definition(), joined.AlteredAt, strings.Join(h.take(), "\n"))
		if first == "" {
			first = text.String()
			if joined.Hash() != tables[5].Hash() {
				t.Errorf("the joined table is %s, expected the newest, %s", joined.Definition(), tables[5].Definition())
			}
			t.Log(first)
		}
		if text.String() != first {
			t.Fatalf("order %v:\n%s\nin the order of time:\n%s", order, text.String(), first)
		}
		h.store.Close()
	}
}

// TestJoinedUnion: a column that the newest definition misses, and that was not dropped, is kept.
func TestJoinedUnion(t *testing.T) {
	h := newHarness(t)
	h.apply(initRecord())
	one := mustTable(t, "t", "k int partition_key", "a int regular", "b int regular")
	other := mustTable(t, "t", "k int partition_key", "b int regular", "c int regular")
	other.AlteredAt = 5
	h.apply(schemaRecord(one))
	h.apply(schemaRecord(other))
	joined := h.fold.tables[one.ID].schema
	names := ""
	for _, c := range joined.Columns {
		names += c.Name + " "
	}
	if names != "k a b c " || joined.AlteredAt != 5 {
		t.Errorf("the joined table has the columns %s, altered at %d", names, joined.AlteredAt)
	}
	// The greatest time of a drop counts, whichever definition says it.
	a := one.Columns[1]
	for i, at := range []int64{20, 90, 40} {
		h.apply(schemaRecord(rebuild(t, schema.Table{
			Keyspace: one.Keyspace, Name: one.Name, ID: one.ID, Flags: one.Flags, AlteredAt: []int64{8, 6, 7}[i], Columns: other.Columns,
			Dropped: []schema.DroppedColumn{{Name: a.Name, Kind: a.Kind, Type: a.Type, DroppedAt: at}},
		})))
	}
	if joined := h.fold.tables[one.ID].schema; len(joined.Columns) != 3 || joined.Dropped[0].DroppedAt != 90 {
		t.Errorf("the joined table has %d columns, and dropped %v", len(joined.Columns), joined.Dropped)
	}
	// A definition that turns out to be newer than it was known to be takes the lead.
	one.AlteredAt = 9
	h.apply(schemaRecord(one))
	if joined := h.fold.tables[one.ID].schema; joined.AlteredAt != 9 {
		t.Errorf("the joined table is of %d", joined.AlteredAt)
	}
}

func TestSchemaRefused(t *testing.T) {
	table := mustTable(t, "t", "k int partition_key", "c int clustering", "v int regular")
	h := newHarness(t)
	h.apply(initRecord())
	h.apply(schemaRecord(table))
	cases := []struct {
		name, reason string
		rec          *rawtopic.Record
	}{
		{"no definition", "table definition", &rawtopic.Record{Kind: rawtopic.KindSchema, Schema: &rawtopic.Schema{Definition: []byte("{")}}},
		{"another hash", "has the hash", &rawtopic.Record{Kind: rawtopic.KindSchema, Schema: &rawtopic.Schema{Definition: table.Definition()}}},
		{"another clustering", "expected 0 clustering columns, found 1", schemaRecord(mustTable(t, "t", "k int partition_key", "v int regular"))},
		{"another order", "descending order", schemaRecord(mustTable(t, "t", "k int partition_key", "c int desc", "v int regular"))},
		{"another partition key", "partition key columns", schemaRecord(mustTable(t, "t", "k int partition_key", "l int partition_key", "c int clustering"))},
	}
	for _, c := range cases {
		if reason := h.refused(c.rec); !strings.Contains(reason, c.reason) && !strings.Contains(reason, "expected 1 clustering columns, found 0") {
			t.Errorf("%s: refused because %s", c.name, reason)
		}
	}
	// The table is as it was.
	d := newData(table, intValue(1))
	row := newRow(intValue(1))
	rowBuilder{table, &row}.cell("v", 1, intValue(1))
	d.Rows = []commitlog.Row{row}
	h.apply(dataRecord(d))
	if events := h.take(); len(events) != 1 {
		t.Errorf("found the events %v", events)
	}
}

// TestDroppedTimer: what expires in a dropped column makes no event, and its timer goes.
func TestDroppedTimer(t *testing.T) {
	before := mustTable(t, "t", "k int partition_key", "v int regular", "w int regular")
	after := rebuild(t, schema.Table{
		Keyspace: before.Keyspace, Name: before.Name, ID: before.ID, Flags: before.Flags, AlteredAt: 200 * microseconds,
		Columns: []schema.Column{before.Columns[0], before.Columns[2]},
		Dropped: []schema.DroppedColumn{{Name: "v", Kind: schema.Regular, Type: before.Columns[1].Type, DroppedAt: 200 * microseconds}},
	})
	h := newHarness(t)
	h.apply(initRecord())
	h.apply(schemaRecord(before))
	d := newData(before, intValue(1))
	row := newRow()
	rowBuilder{before, &row}.expiring("v", 100, 5, 105, intValue(1)).expiring("w", 100, 9, 109, intValue(2))
	d.Rows = []commitlog.Row{row}
	h.apply(dataRecord(d))
	h.apply(schemaRecord(after))
	h.take()
	h.apply(tickRecord(300))
	if events := h.take(); len(events) != 1 || events[0] != "d t k=1 {w:2} -> none @109000000 ttl" {
		t.Errorf("found the events %v", events)
	}
	if n := h.fold.Stats().Expired; n != 1 {
		t.Errorf("%d expired", n)
	}
}

// TestUnsupportedTimer: what expires in a table that is not supported any more makes no event.
func TestUnsupportedTimer(t *testing.T) {
	before := mustTable(t, "t", "k int partition_key", "v int regular")
	after := mustTable(t, "t", "k int partition_key", "v int regular", "l 'some.Class' regular")
	after.AlteredAt = 2
	h := newHarness(t)
	h.apply(initRecord())
	h.apply(schemaRecord(before))
	d := newData(before, intValue(1))
	row := newRow()
	rowBuilder{before, &row}.expiring("v", 100, 5, 105, intValue(1))
	d.Rows = []commitlog.Row{row}
	h.apply(dataRecord(d))
	h.take()
	h.apply(schemaRecord(after))
	h.apply(tickRecord(300))
	if events := h.take(); len(events) > 0 {
		t.Errorf("found the events %v", events)
	}
}
