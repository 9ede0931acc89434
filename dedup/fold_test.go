package dedup

import (
	"bytes"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"cassdelta/commitlog"
	"cassdelta/internal/rawtopic"
	"cassdelta/schema"
	"cassdelta/state"
)

func TestInit(t *testing.T) {
	h := newHarness(t)
	table := mustTable(t, "t", "k int partition_key", "v int regular")
	for _, rec := range []*rawtopic.Record{schemaRecord(table), tickRecord(1), dataRecord(newData(table, intValue(1)))} {
		if reason := h.refused(rec); !strings.Contains(reason, "before the partition's Init") {
			t.Errorf("refused because %s", reason)
		}
	}
	future := initRecord()
	future.Init.Version = 2
	if reason := h.refused(future); !strings.Contains(reason, "version 1 of the raw format, found 2") {
		t.Errorf("refused because %s", reason)
	}
	small := initRecord()
	small.Init.Partitions = 0
	h.refused(small)
	h.apply(initRecord())
	h.apply(initRecord())
	other := initRecord()
	other.Init.Cluster = "other"
	if reason := h.refused(other); !strings.Contains(reason, `expected cluster "test"`) {
		t.Errorf("refused because %s", reason)
	}
	// What was derived from a discarded transaction is forgotten.
	h.tx.Discard()
	h.fold.Reset()
	h.tx = h.store.Begin()
	h.apply(other)
	h.commit(state.Position{Offset: 1})
	h.fold = NewFold(0)
	h.apply(other)
	h.refused(initRecord())
}

// TestRefused: what cannot be folded leaves no trace, whatever else is in the record.
func TestRefused(t *testing.T) {
	table := mustTable(t, "t", "k int partition_key", "l text partition_key", "c int clustering", "s int static", "v int regular", "w text regular")
	single := mustTable(t, "one", "k int partition_key", "v int regular")
	h := newHarness(t)
	h.apply(initRecord())
	h.apply(schemaRecord(table))
	h.apply(schemaRecord(single))
	key := table.JoinPartitionKey(nil, [][]byte{intValue(1), []byte("l")})
	good := func() *rawtopic.Data {
		d := newData(table, key)
		a, b := newRow(intValue(1)), newRow(intValue(2))
		rowBuilder{table, &a}.cell("v", 1, intValue(1)).cell("w", 1, []byte("w"))
		rowBuilder{table, &b}.cell("v", 1, intValue(1)).tombstone("w", 1, 1)
		d.Rows = []commitlog.Row{a, b}
		static := newRow()
		rowBuilder{table, &static}.cell("s", 1, intValue(1))
		d.Static = &static
		d.Ranges = []rawtopic.Range{{
			Start: rawtopic.Bound{Prefix: [][]byte{intValue(5)}}, End: rawtopic.Bound{},
			Deletion: commitlog.Deletion{Timestamp: 1, LocalTime: 1},
		}}
		return d
	}
	cases := []struct {
		name, reason string
		spoil        func(d *rawtopic.Data)
	}{
		{"unknown schema", "expected the definition", func(d *rawtopic.Data) { d.Schema[0]++ }},
		{"key cut", "partition key", func(d *rawtopic.Data) { d.Key = d.Key[:3] }},
		{"key value", "partition key column k", func(d *rawtopic.Data) {
			d.Key = table.JoinPartitionKey(nil, [][]byte{{1}, []byte("l")})
		}},
		{"clustering missing", "row 1: expected 1 clustering values", func(d *rawtopic.Data) { d.Rows[1].Clustering = nil }},
		{"clustering null", "row 1: clustering column c is null", func(d *rawtopic.Data) { d.Rows[1].Clustering = [][]byte{nil} }},
		{"clustering value", "row 1: clustering column c", func(d *rawtopic.Data) { d.Rows[1].Clustering = [][]byte{{1, 2}} }},
		{"value", "row 1: column v: a int has 3 bytes", func(d *rawtopic.Data) { d.Rows[1].Cells[0].Value = []byte{1, 2, 3} }},
		{"column number", "expected a column number below 6, found 6", func(d *rawtopic.Data) { d.Rows[1].Cells[0].Column = 6 }},
		{"column of the key", "found the partition_key column k", func(d *rawtopic.Data) { d.Rows[1].Cells[0].Column = 0 }},
		{"static column in a row", "found the static column s", func(d *rawtopic.Data) { d.Rows[1].Cells[0].Column = 3 }},
		{"regular column in the static row", "static row: cell 0", func(d *rawtopic.Data) { d.Static.Cells[0].Column = 4 }},
		{"liveness of the static row", "nothing but cells in the static row", func(d *rawtopic.Data) { d.Static.Liveness.Timestamp = 1 }},
		{"deletion of the static row", "nothing but cells in the static row", func(d *rawtopic.Data) { d.Static.Deletion.Timestamp = 1 }},
		{"path", "it has a path", func(d *rawtopic.Data) { d.Rows[1].Cells[0].Path = []byte{1} }},
		{"no write time", "it has no write time", func(d *rawtopic.Data) { d.Rows[1].Cells[0].Timestamp = commitlog.NoTimestamp }},
		{"no value", "no value and is no tombstone", func(d *rawtopic.Data) { d.Rows[1].Cells[0].Value = nil }},
		{"TTL without expiry", "its TTL is 5", func(d *rawtopic.Data) { d.Rows[1].Cells[0].TTL = 5 }},
		{"negative TTL", "its TTL is -5", func(d *rawtopic.Data) { d.Rows[1].Cells[0].TTL = -5 }},
		{"tombstone with TTL", "its TTL is 5", func(d *rawtopic.Data) { d.Rows[1].Cells[1].TTL = 5 }},
		{"expiry without TTL", "an expiry and no TTL", func(d *rawtopic.Data) { d.Rows[1].Cells[0].LocalTime = 5 }},
		{"liveness with TTL only", "a liveness with a TTL and an expiry", func(d *rawtopic.Data) {
			d.Rows[1].Liveness.Timestamp, d.Rows[1].Liveness.TTL = 1, 5
		}},
		{"TTL of no liveness", "a liveness with a TTL and an expiry", func(d *rawtopic.Data) {
			d.Rows[1].Liveness.TTL, d.Rows[1].Liveness.ExpiresAt = 5, 5
		}},
		{"shadowable", "make its deletion void, and it has none", func(d *rawtopic.Data) { d.Rows[1].Shadowable = true }},
		{"complex deletion", "column v has a deletion of its elements", func(d *rawtopic.Data) {
			d.Rows[1].ComplexDeletions = []commitlog.ComplexDeletion{{Column: 4, Deletion: commitlog.Deletion{Timestamp: 1}}}
		}},
		{"complex deletion of no column", "expected a column number below 6", func(d *rawtopic.Data) {
			d.Rows[1].ComplexDeletions = []commitlog.ComplexDeletion{{Column: 9, Deletion: commitlog.Deletion{Timestamp: 1}}}
		}},
		{"range without deletion", "range 0: it has no deletion", func(d *rawtopic.Data) { d.Ranges[0].Deletion = commitlog.LiveDeletion }},
		{"long bound", "range 0: a bound has 2 values", func(d *rawtopic.Data) { d.Ranges[0].Start.Prefix = [][]byte{intValue(1), intValue(1)} }},
		{"bound value", "range 0: clustering column c", func(d *rawtopic.Data) { d.Ranges[0].Start.Prefix = [][]byte{{1}} }},
		{"ranges overlap", "range 1: it begins before the end", func(d *rawtopic.Data) { d.Ranges = append(d.Ranges, d.Ranges[0]) }},
		{"rows without clustering", "at most one row", func(d *rawtopic.Data) {
			*d = *newData(single, intValue(1))
			d.Rows = []commitlog.Row{newRow(), newRow()}
		}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			h.t = t
			d := good()
			c.spoil(d)
			if reason := h.refused(dataRecord(d)); !strings.Contains(reason, c.reason) {
				t.Errorf("refused because %s, expected %s", reason, c.reason)
			}
			if events := h.take(); len(events) > 0 {
				t.Errorf("a refused record made the events %v", events)
			}
		})
	}
	h.t = t
	h.apply(dataRecord(good()))
	if events := h.take(); len(events) != 3 {
		t.Errorf("the good record made the events %v", events)
	}
}

func TestKindsNotHandled(t *testing.T) {
	h := newHarness(t)
	h.apply(initRecord())
	for kind := range rawtopic.KindAgentRetired + 2 {
		switch kind {
		case rawtopic.KindHeartbeat:
			h.apply(&rawtopic.Record{Kind: kind, Heartbeat: &rawtopic.Heartbeat{}})
		case rawtopic.KindSeedBegin, rawtopic.KindSeedEnd,
			rawtopic.KindAgentJoined, rawtopic.KindAgentRetired, rawtopic.KindAgentRetired + 1:
			reason := h.refused(&rawtopic.Record{Kind: kind})
			if !strings.Contains(reason, kindName(kind)) || !strings.Contains(reason, "does not handle") {
				t.Errorf("refused because %s", reason)
			}
		}
	}
}

func TestWrongPartition(t *testing.T) {
	table := mustTable(t, "t", "k int partition_key", "v int regular")
	h := newHarness(t)
	two := initRecord()
	two.Init.Partitions = 2
	h.apply(two)
	h.apply(schemaRecord(table))
	refused := 0
	for k := range 20 {
		d := newData(table, intValue(k))
		if p := rawtopic.Partition(schema.Token(d.Key), 2); p == 0 {
			h.apply(dataRecord(d))
			continue
		}
		refused++
		if reason := h.refused(dataRecord(d)); !strings.Contains(reason, "belongs into raw partition 1 of 2") {
			t.Errorf("refused because %s", reason)
		}
	}
	if refused == 0 {
		t.Error("all keys were in partition 0")
	}
}

// TestUnsupported: a table that cannot be told of is counted, and the others are folded.
func TestUnsupported(t *testing.T) {
	h := newHarness(t)
	h.apply(initRecord())
	table := mustTable(t, "t", "k int partition_key", "v int regular")
	with := mustTable(t, "list", "k int partition_key", "l 'some.Class' regular", "v int regular")
	h.apply(schemaRecord(table))
	h.apply(schemaRecord(with))
	for i := range 3 {
		for _, x := range []*schema.Table{table, with} {
			d := newData(x, intValue(1))
			row := newRow()
			rowBuilder{x, &row}.cell("v", int64(10+i), intValue(i))
			d.Rows = []commitlog.Row{row}
			h.apply(dataRecord(d))
		}
		h.fold.Reset() // a table is reported once all the same
	}
	if events := h.take(); len(events) != 3 {
		t.Errorf("found the events %v", events)
	}
	s := h.fold.Stats()
	if len(s.UnsupportedTables) != 1 || s.Unsupported != 3 || s.UnsupportedTables[0].Records != 3 ||
		s.UnsupportedTables[0].Table != "ks.list" || !strings.Contains(s.UnsupportedTables[0].Reason, "column l") {
		t.Errorf("found %+v", s)
	}
}

func TestStats(t *testing.T) {
	h := newHarness(t)
	table := mustTable(t, "t", "k int partition_key", "v int regular", "w int regular")
	h.apply(initRecord())
	h.apply(schemaRecord(table))
	write := func(build func(b rowBuilder)) {
		d := newData(table, intValue(1))
		row := newRow()
		build(rowBuilder{table, &row})
		d.Rows = []commitlog.Row{row}
		h.apply(dataRecord(d))
	}
	for range 3 {
		write(func(b rowBuilder) { b.cell("v", 10, intValue(1)) }) // a change, two copies
	}
	write(func(b rowBuilder) { b.cell("v", 5, intValue(1)) })                             // shadowed
	write(func(b rowBuilder) { b.tombstone("w", 5, 5) })                                  // silent
	write(func(b rowBuilder) { b.expiring("v", 20, 5, 25, intValue(1)) })                 // a change
	h.apply(tickRecord(25))                                                               // an expiry
	write(func(b rowBuilder) { b.expiring("v", 20, 5, 25, intValue(1)) })                 // a copy, late
	write(func(b rowBuilder) { b.row.Deletion = commitlog.Deletion{Timestamp: 30} })      // silent
	write(func(b rowBuilder) { b.cell("v", 30, intValue(1)).cell("w", 31, intValue(1)) }) // a change
	expected := Stats{Creates: 2, Updates: 1, Deletes: 1, Expired: 1, Changed: 3, Silent: 2, Shadowed: 1, Copies: 3, Late: 1}
	if found := h.fold.Stats(); fmt.Sprint(found) != fmt.Sprint(expected) {
		t.Errorf("found    %+v\nexpected %+v", found, expected)
	}
}

// TestNoAllocation: in the steady state a record costs no memory, copy or change.
func TestNoAllocation(t *testing.T) {
	table := mustTable(t, "t", "k int partition_key", "c text clustering", "v int regular", "w text regular")
	h := newHarness(t)
	h.apply(initRecord())
	h.apply(schemaRecord(table))
	d := newData(table, intValue(1))
	row := newRow([]byte("clustering"))
	rowBuilder{table, &row}.cell("v", 10, intValue(1)).cell("w", 10, []byte("a text"))
	d.Rows = []commitlog.Row{row}
	rec := dataRecord(d)
	events := 0
	emit := func(*Event) error { events++; return nil }
	apply := func() {
		if _, _, err := h.fold.Apply(h.tx, 5, rec, 0, math.MaxInt64, emit); err != nil {
			t.Fatal(err)
		}
	}
	for range 1000 { // the transaction's own memory has grown then
		d.Rows[0].Cells[0].Timestamp++
		apply()
	}
	if n := testing.AllocsPerRun(1000, apply); n > 0 {
		t.Errorf("a copy allocates %v times", n)
	}
	if n := testing.AllocsPerRun(1000, func() { d.Rows[0].Cells[0].Timestamp++; apply() }); n > 0.1 {
		t.Errorf("a change allocates %v times", n)
	}
	if events != 2001 {
		t.Errorf("found %d events", events)
	}
}

// fill writes so many rows into a partition of a table with the clustering column c and the regular column v.
func (h *harness) fill(table *schema.Table, rows int, ttl int32) {
	d := newData(table, intValue(1))
	for c := range rows {
		row := newRow(intValue(c))
		row.Liveness.Timestamp = 10
		if ttl > 0 {
			row.Liveness.TTL, row.Liveness.ExpiresAt = ttl, 10+int64(ttl)
		}
		rowBuilder{table, &row}.cell("v", 10, intValue(c))
		d.Rows = append(d.Rows, row)
	}
	h.apply(dataRecord(d))
	if n := len(h.take()); n != rows {
		h.t.Fatalf("%d rows made %d events", rows, n)
	}
}

// TestLargeDeletion deletes more rows than a batch of a scan takes, a few at a time. Each is told once, also if what was
// folded in between is lost, or all that the fold remembers.
func TestLargeDeletion(t *testing.T) {
	const rows, limit = 1000, 37
	table := mustTable(t, "t", "k int partition_key", "c int clustering", "v int regular")
	deletions := map[string]*rawtopic.Data{"partition": newData(table, intValue(1)), "range": newData(table, intValue(1))}
	deletions["partition"].Deletion = commitlog.Deletion{Timestamp: 20, LocalTime: 20}
	deletions["range"].Ranges = []rawtopic.Range{{
		Start: rawtopic.Bound{}, End: rawtopic.Bound{Prefix: [][]byte{intValue(rows - 1)}, Inclusive: true},
		Deletion: commitlog.Deletion{Timestamp: 20, LocalTime: 20},
	}}
	for name, deletion := range deletions {
		t.Run(name, func(t *testing.T) {
			h := newHarness(t)
			h.apply(initRecord())
			h.apply(schemaRecord(table))
			h.fill(table, rows, 0)
			h.commit(state.Position{Offset: h.offset})
			rec := dataRecord(deletion)
			var kept []string
			done := int64(0)
			for round := 0; ; round++ {
				n, finished, err := h.fold.Apply(h.tx, h.offset, rec, done, limit, h.emit)
				if err != nil {
					t.Fatal(err)
				}
				if n > limit || !finished && n != limit && !h.fold.Paused() {
					t.Fatalf("round %d: %d events of at most %d", round, n, limit)
				}
				switch {
				case round%5 == 3: // discarded
					h.tx.Discard()
					h.fold.Reset()
					h.tx = h.store.Begin()
					h.take()
					continue
				case round%7 == 6: // in another process from here on
					h.fold = NewFold(0)
				}
				kept = append(kept, h.take()...)
				done += n
				if finished {
					break
				}
				h.commit(state.Position{Offset: h.offset, Done: done})
			}
			if len(kept) != rows {
				t.Fatalf("%d rows were deleted by %d events", rows, len(kept))
			}
			for c, e := range kept {
				if expected := fmt.Sprintf("d t k=1 c=%d {v:%d} -> none @20", c, c); e != expected {
					t.Fatalf("event %d is %s, expected %s", c, e, expected)
				}
			}
			h.apply(rec)
			if events := h.take(); len(events) > 0 {
				t.Fatalf("a copy of the deletion made %v", events)
			}
		})
	}
}

// TestManyRanges puts a range tombstone over more others than a batch takes: the weaker ones are swallowed, the stronger
// ones cut it into pieces.
func TestManyRanges(t *testing.T) {
	const n = 700
	table := mustTable(t, "t", "k int partition_key", "c int clustering", "v int regular")
	deleteRange := func(from, to int, timestamp int64) *rawtopic.Record {
		d := newData(table, intValue(1))
		d.Ranges = []rawtopic.Range{{
			Start:    rawtopic.Bound{Prefix: [][]byte{intValue(from)}, Inclusive: true},
			End:      rawtopic.Bound{Prefix: [][]byte{intValue(to)}},
			Deletion: commitlog.Deletion{Timestamp: timestamp, LocalTime: 1},
		}}
		return dataRecord(d)
	}
	for _, c := range []struct {
		timestamp        int64 // of the others: 10 or, every third, 30
		stored, pieces   int
		alive, deadBelow int64
	}{
		{timestamp: 40, pieces: 1},
		{timestamp: 20, pieces: 2*((n+2)/3) + 1},
		{timestamp: 5, pieces: 2*n + 1},
	} {
		h := newHarness(t)
		h.apply(initRecord())
		h.apply(schemaRecord(table))
		for i := range n {
			at := int64(10)
			if i%3 == 0 {
				at = 30
			}
			h.apply(deleteRange(10*i, 10*i+5, at))
		}
		h.apply(deleteRange(-5, 10*n, c.timestamp))
		found, last := 0, []byte(nil)
		from, to := state.SpaceSpan(nil, nil, 0, state.SpaceRows)
		err := h.tx.Scan(from, to, func(key, value []byte) (bool, error) {
			if kind, _ := state.KindOf(key); kind == state.KindRange {
				_, start, err := decodeRange(value)
				if err != nil {
					return false, err
				}
				end := state.Clustering(key)
				if bytes.Compare(start, last) < 0 || bytes.Compare(start, end) >= 0 {
					t.Errorf("range %x to %x behind one that ends at %x", start, end, last)
				}
				last = append(last[:0], end...)
				found++
			}
			return true, nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if found != c.pieces {
			t.Errorf("a range tombstone of %d over the others left %d, expected %d", c.timestamp, found, c.pieces)
		}
		// Each clustering has the deletion that is the newest over it.
		d := newData(table, intValue(1))
		for at := range 10 * n {
			newest := c.timestamp
			if at%10 < 5 {
				if newest = max(newest, 10); at/10%3 == 0 {
					newest = max(newest, 30)
				}
			}
			dead, alive := newRow(intValue(at)), newRow(intValue(at))
			rowBuilder{table, &dead}.cell("v", newest, intValue(at))
			rowBuilder{table, &alive}.cell("v", newest+1, intValue(at))
			d.Rows = append(d.Rows[:0], dead)
			h.apply(dataRecord(d))
			if events := h.take(); len(events) > 0 {
				t.Fatalf("%d: deleted at %d, and a write of then makes %v", at, newest, events)
			}
			d.Rows = append(d.Rows[:0], alive)
			h.apply(dataRecord(d))
			if events := h.take(); len(events) != 1 {
				t.Fatalf("%d: deleted at %d, and a write after that makes %v", at, newest, events)
			}
		}
		h.store.Close()
	}
}

// TestLargeTick lets more rows expire than a batch of a scan takes, a few at a time; with some that keep a cell for a
// second more, so that their second timer is among those to come, and without.
func TestLargeTick(t *testing.T) {
	for _, longer := range []bool{false, true} {
		for _, limit := range []int64{41, math.MaxInt64} {
			t.Run(fmt.Sprintf("longer=%v/limit=%d", longer, limit), func(t *testing.T) { testLargeTick(t, longer, limit) })
		}
	}
}

func testLargeTick(t *testing.T, longer bool, limit int64) {
	const rows = 900
	table := mustTable(t, "t", "k int partition_key", "c int clustering", "v int regular")
	h := newHarness(t)
	h.apply(initRecord())
	h.apply(schemaRecord(table))
	d := newData(table, intValue(1))
	var expected, second []string
	for c := range rows {
		row := newRow(intValue(c))
		row.Liveness = commitlog.Liveness{Timestamp: 10, TTL: 5, ExpiresAt: 100}
		expiry := int64(100)
		if longer && c%3 == 0 {
			expiry = 101
			expected = append(expected, fmt.Sprintf("u t k=1 c=%d {v:%d} -> {v:%d} @100000000 ttl", c, c, c))
			second = append(second, fmt.Sprintf("d t k=1 c=%d {v:%d} -> none @101000000 ttl", c, c))
		} else {
			expected = append(expected, fmt.Sprintf("d t k=1 c=%d {v:%d} -> none @100000000 ttl", c, c))
		}
		rowBuilder{table, &row}.expiring("v", 10, 5, expiry, intValue(c))
		d.Rows = append(d.Rows, row)
	}
	expected = append(expected, second...)
	h.apply(dataRecord(d))
	h.take()
	h.commit(state.Position{Offset: h.offset})
	tick := tickRecord(200)
	var events []string
	for done := int64(0); ; {
		n, finished, err := h.fold.Apply(h.tx, h.offset, tick, done, limit, h.emit)
		if err != nil {
			t.Fatal(err)
		}
		if done%5 == 2 {
			h.tx.Discard()
			h.fold.Reset()
			h.tx = h.store.Begin()
			h.take()
			if n, finished, err = h.fold.Apply(h.tx, h.offset, tick, done, limit, h.emit); err != nil {
				t.Fatal(err)
			}
		}
		events = append(events, h.take()...)
		if done += n; finished {
			break
		}
		h.commit(state.Position{Offset: h.offset, Done: done})
	}
	if !slices.Equal(events, expected) {
		t.Fatalf("found %d events\n%s\nexpected %d\n%s", len(events), strings.Join(events, "\n"), len(expected), strings.Join(expected, "\n"))
	}
	from, to := state.SpaceSpan(nil, nil, 0, state.SpaceTimer)
	err := h.tx.Scan(from, to, func(key, _ []byte) (bool, error) { return false, fmt.Errorf("timer %x is left", key) })
	if err != nil {
		t.Fatal(err)
	}
}

// TestCellOrder: the cells of a row may come in any order, and a column twice.
func TestCellOrder(t *testing.T) {
	table := mustTable(t, "t", "k int partition_key", "a int regular", "b int regular", "c int regular")
	h := newHarness(t)
	h.apply(initRecord())
	h.apply(schemaRecord(table))
	d := newData(table, intValue(1))
	row := newRow()
	rowBuilder{table, &row}.cell("c", 10, intValue(3)).cell("a", 10, intValue(1)).cell("b", 10, intValue(2)).
		cell("a", 11, intValue(4)).cell("c", 9, intValue(5))
	d.Rows = []commitlog.Row{row}
	h.apply(dataRecord(d))
	h.apply(dataRecord(d))
	if events := h.take(); len(events) != 1 || events[0] != "c t k=1 none -> {a:4 b:2 c:3} @11" {
		t.Errorf("found the events %v", events)
	}
}

// TestLivenessOrder: which of two livenesses of one write time wins, in either order; the last is that of a row of a view that
// was deleted.
func TestLivenessOrder(t *testing.T) {
	order := []commitlog.Liveness{
		{Timestamp: 9, TTL: 100, ExpiresAt: 200},
		{Timestamp: 10, ExpiresAt: commitlog.NoDeletionTime},
		{Timestamp: 10, TTL: 8, ExpiresAt: 100},
		{Timestamp: 10, TTL: 7, ExpiresAt: 100},
		{Timestamp: 10, TTL: 5, ExpiresAt: 101},
		{Timestamp: 10, TTL: commitlog.ExpiredLivenessTTL, ExpiresAt: 50},
	}
	for i := range order {
		for j := range order {
			if found := livenessSupersedes(&liveness{Liveness: order[i]}, &liveness{Liveness: order[j]}); found != (i > j) {
				t.Errorf("%+v supersedes %+v: %v", order[i], order[j], found)
			}
		}
	}
}

// TestDamagedState: what is wrong with a stored value is an error of the transaction, and says where.
func TestDamagedState(t *testing.T) {
	table := mustTable(t, "t", "k int partition_key", "c int clustering", "v int regular")
	h := newHarness(t)
	h.apply(initRecord())
	h.apply(schemaRecord(table))
	h.fill(table, 1, 50)
	deletion := newData(table, intValue(1))
	deletion.Deletion = commitlog.Deletion{Timestamp: 5, LocalTime: 5}
	deletion.Ranges = []rawtopic.Range{{Start: rawtopic.Bound{}, End: rawtopic.Bound{}, Deletion: commitlog.Deletion{Timestamp: 6, LocalTime: 5}}}
	h.apply(dataRecord(deletion))
	h.apply(tickRecord(1))
	h.commit(state.Position{Offset: h.offset})

	var keys [][]byte
	err := h.tx.Scan([]byte{0, 0}, []byte{0, 1}, func(key, _ []byte) (bool, error) {
		if !bytes.HasSuffix(key, []byte("position")) {
			keys = append(keys, bytes.Clone(key))
		}
		return true, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	damaged := 0
	for _, key := range keys {
		if space := state.Space(key[2]); space == state.SpaceTimer || space == state.SpacePurge {
			continue // they have no value
		}
		for _, value := range [][]byte{{}, {9}, {1, 0xff, 0xff}} {
			h.tx.Discard()
			h.fold.Reset()
			h.tx = h.store.Begin()
			if err := h.tx.Set(key, value); err != nil {
				t.Fatal(err)
			}
			row := newRow(intValue(0))
			rowBuilder{table, &row}.cell("v", 100, intValue(7))
			d := newData(table, intValue(1))
			d.Rows = []commitlog.Row{row}
			err := h.try(dataRecord(d))
			if err == nil {
				err = h.try(tickRecord(1000))
			}
			if err == nil {
				err = h.try(schemaRecord(table))
			}
			if err == nil || !strings.Contains(err.Error(), "the state is damaged") {
				t.Errorf("key %x with the value %x: %v", key, value, err)
			}
			damaged++
		}
	}
	if damaged < 3*7 {
		t.Errorf("only %d values were damaged", damaged)
	}
}
