package dedup

import (
	"math"
	"testing"

	"cassdelta/commitlog"
	"cassdelta/internal/rawtopic"
	"cassdelta/schema"
)

// TestCopy holds when a record is a copy that need not be folded. That none is spared that would do something is held by the
// tests of the fold, which fold records as [applyEncoded] does.
func TestCopy(t *testing.T) {
	table := mustTable(t, "copied", "k int partition_key", "c int clustering", "v text regular")
	const at = 1_700_000_000_000_000
	record := func(host byte, key, c int, change func(d *rawtopic.Data, r *commitlog.Row)) *rawtopic.Record {
		row := newRow(intValue(c))
		rowBuilder{table, &row}.cell("v", at, []byte("some"))
		d := newData(table, intValue(key))
		d.Origin = rawtopic.Origin{Host: schema.UUID{host}, Position: commitlog.Position{Segment: int64(host) * 7, Offset: 9}}
		if change != nil {
			change(d, &row)
		}
		d.Rows = append(d.Rows, row)
		return dataRecord(d)
	}
	newer := func(_ *rawtopic.Data, r *commitlog.Row) { r.Cells[0].Timestamp = at + 1 }
	tombstone := func(_ *rawtopic.Data, r *commitlog.Row) {
		r.Cells[0] = commitlog.Cell{Column: r.Cells[0].Column, Timestamp: at + 2, Deleted: true, LocalTime: 1_700_000_000}
	}
	partition := func(d *rawtopic.Data, _ *commitlog.Row) {
		d.Deletion = commitlog.Deletion{Timestamp: at - 1, LocalTime: 1_700_000_000}
	}
	shadowable := func(_ *rawtopic.Data, r *commitlog.Row) {
		r.Deletion, r.Shadowable = commitlog.Deletion{Timestamp: at - 1, LocalTime: 1_700_000_000}, true
	}
	truncate := &rawtopic.Record{Kind: rawtopic.KindTruncate, Truncate: &rawtopic.Truncate{
		Origin: rawtopic.Origin{Host: schema.UUID{1}, Position: commitlog.Position{Segment: 1}}, Table: table.ID, Timestamp: at - 10,
	}}
	for name, c := range map[string]struct {
		first, between, last *rawtopic.Record
		copy                 bool
	}{
		"another replica's":        {record(1, 1, 1, nil), nil, record(2, 1, 1, nil), true},
		"the same replica's":       {record(1, 1, 1, nil), nil, record(1, 1, 1, nil), true},
		"of a host that is new":    {record(1, 1, 1, nil), nil, record(3, 1, 1, nil), false},
		"of another row":           {record(1, 1, 1, nil), nil, record(2, 1, 2, nil), false},
		"of another time":          {record(1, 1, 1, nil), nil, record(2, 1, 1, newer), false},
		"behind what beat it":      {record(1, 1, 1, nil), record(1, 1, 1, newer), record(2, 1, 1, nil), true},
		"behind a tombstone":       {record(1, 1, 1, nil), record(1, 1, 1, tombstone), record(2, 1, 1, nil), true},
		"of a tombstone":           {record(1, 1, 1, tombstone), nil, record(2, 1, 1, tombstone), false},
		"behind a partition's end": {record(1, 1, 1, nil), record(1, 1, 1, partition), record(2, 1, 1, nil), false},
		"behind a shadowable one":  {record(1, 1, 1, nil), record(1, 1, 2, shadowable), record(2, 1, 1, nil), false},
		"of a truncated table":     {truncate, record(1, 1, 1, nil), record(1, 1, 1, nil), false},
		"behind a tick":            {record(1, 1, 1, nil), tickRecord(1_700_000_000), record(2, 1, 1, nil), false},
		"behind a definition":      {record(1, 1, 1, nil), schemaRecord(table), record(2, 1, 1, nil), false},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHarness(t)
			h.apply(initRecord())
			h.apply(schemaRecord(table))
			for host := byte(1); host <= 2; host++ {
				h.apply(record(host, 9, 9, nil))
			}
			h.apply(c.first)
			if c.between != nil {
				h.apply(c.between)
			}
			value := rawtopic.Append(nil, c.last)
			before := h.fold.Stats().Copies
			if found := h.fold.Copy(value); found != c.copy {
				t.Errorf("expected a copy %v, found %v", c.copy, found)
			}
			if counted := h.fold.Stats().Copies - before; (counted == 1) != c.copy {
				t.Errorf("counted %d copies", counted)
			}
			h.fold.Reset()
			if h.fold.Copy(value) {
				t.Error("a copy of what was discarded")
			}
		})
	}
}

func TestCopyDoesNotAllocate(t *testing.T) {
	table := mustTable(t, "copied", "k int partition_key", "v text regular")
	h := newHarness(t)
	h.apply(initRecord())
	h.apply(schemaRecord(table))
	row := newRow()
	rowBuilder{table, &row}.cell("v", 1, []byte("some"))
	d := newData(table, intValue(1))
	d.Rows = []commitlog.Row{row}
	d.Origin.Host = schema.UUID{1}
	h.apply(dataRecord(d))
	value := rawtopic.Append(nil, dataRecord(d))
	if n := testing.AllocsPerRun(1000, func() {
		if !h.fold.Copy(value) {
			t.Fatal("no copy")
		}
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

// However many are remembered, the last ones are known.
func TestCopiesKeepTheLast(t *testing.T) {
	var c copies
	content := make([]byte, 8)
	hash := func(i int) copyHash {
		putInt64(content, int64(i))
		return c.hash(content)
	}
	known := 0
	for i := range 200_000 {
		c.add(hash(i))
		if i > 100_000 && c.has(hash(i-5000)) {
			known++
		}
		if c.has(hash(math.MaxInt - i)) {
			t.Fatalf("%d was never added", math.MaxInt-i)
		}
	}
	if known < 99_000 {
		t.Errorf("of 99999 that were added 5000 before, %d are known", known)
	}
	c.forget()
	if c.has(hash(199_999)) || c.some {
		t.Error("it was forgotten, and is known")
	}
}

func putInt64(dst []byte, v int64) {
	for i := range dst {
		dst[i] = byte(v >> (8 * i))
	}
}

// TestCopyInPieces: a record of which something was beaten is not remembered, also if it was folded in two calls and that was in the
// first.
func TestCopyInPieces(t *testing.T) {
	table := mustTable(t, "copied", "k int partition_key", "c int clustering", "v text regular")
	record := func(at int64, rows int) *rawtopic.Record {
		d := newData(table, intValue(1))
		d.Origin.Host = schema.UUID{1}
		for c := range rows {
			row := newRow(intValue(c))
			rowBuilder{table, &row}.cell("v", at, []byte("some"))
			d.Rows = append(d.Rows, row)
		}
		return dataRecord(d)
	}
	h := newHarness(t)
	h.apply(initRecord())
	h.apply(schemaRecord(table))
	h.apply(record(20, 1))
	both := record(10, 2)
	for _, limit := range []int64{0, 1} {
		emitted, finished, err := applyEncoded(h.fold, h.tx, h.offset, both, 0, limit, h.emit)
		if emitted != limit || finished != (limit == 1) || err != nil {
			t.Fatalf("with a limit of %d: %d events, finished %v, %v", limit, emitted, finished, err)
		}
	}
	if h.fold.Copy(rawtopic.Append(nil, both)) {
		t.Error("it is taken for a copy")
	}
}
