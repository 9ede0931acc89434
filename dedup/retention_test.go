package dedup

import (
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"cassdelta/commitlog"
	"cassdelta/internal/rawtopic"
	"cassdelta/schema"
	"cassdelta/state"
)

const leastRetention = 30 * 24 * 3600

// rowsOf makes records of single rows of a table whose key is an int.
func rowsOf(table *schema.Table) func(k int, build func(rowBuilder)) *rawtopic.Record {
	return func(k int, build func(rowBuilder)) *rawtopic.Record {
		d := newData(table, intValue(k))
		row := newRow()
		build(rowBuilder{table, &row})
		d.Rows = []commitlog.Row{row}
		return dataRecord(d)
	}
}

// TestEpochsOfRetention: what was absent stays absent when the retention is raised, and more is absent when it is lowered.
func TestEpochsOfRetention(t *testing.T) {
	table := mustTable(t, "t", "k int partition_key", "v int regular")
	h := newHarness(t)
	h.apply(initRecord())
	h.apply(schemaRecord(table))
	row := rowsOf(table)
	enter := func(retention int64) {
		if err := h.fold.Enter(h.tx, Settings{Fold: FoldVersion, Retention: retention}); err != nil {
			t.Fatal(err)
		}
		h.commit(state.Position{Offset: h.offset})
		h.fold = NewFold(0)
		h.fold.Use(Settings{Fold: FoldVersion, Retention: retention})
	}
	late := func(expected ...int) {
		t.Helper()
		h.take()
		var found []int
		for k := range 3 {
			h.apply(row(k, func(b rowBuilder) { b.cell("v", 40, intValue(k)) }))
			if len(h.take()) > 0 {
				found = append(found, k)
			}
		}
		if !slices.Equal(found, expected) {
			t.Errorf("late writes show in the rows %v, expected %v", found, expected)
		}
	}
	for k, local := range []int64{100, 200, 300} {
		h.apply(row(k, func(b rowBuilder) { b.row.Deletion = commitlog.Deletion{Timestamp: 50, LocalTime: local} }))
	}
	h.apply(tickRecord(100 + leastRetention))
	enter(2 * leastRetention)
	h.apply(tickRecord(200 + leastRetention))
	late(0) // and is written with that
	enter(leastRetention)
	late(1)
	enter(leastRetention - 100)
	late(2)
	enter(2 * leastRetention)
	late()
}

// agingRun is a run whose ticks come to all the times at which something of it expires or is forgotten: expiries, deletions
// (mutations.local) and the retention after both. In some runs gc grace is raised, and lowered, on the way.
func (w *world) agingRun(r *rand.Rand) []*rawtopic.Record {
	records := w.start()
	start := len(records)
	for range 3 {
		m := w.mutations(r)
		m.ttl = true
		var set []*rawtopic.Data
		for range 8 {
			set = append(set, m.data())
		}
		observed := m.observed(set)
		m.ttl = false // the ticks are those below
		records = append(records, m.run(observed)...)
	}
	var ticks []int64
	var positions []int
	for range 20 {
		at := worldEpoch + r.Int64N(8)
		switch r.IntN(3) {
		case 0:
			at += leastRetention
		case 1:
			at = 499_999 + r.Int64N(4) + leastRetention
		}
		ticks, positions = append(ticks, at), append(positions, start+r.IntN(len(records)-start+1))
	}
	slices.Sort(ticks)
	slices.Sort(positions)
	for i := len(ticks) - 1; i >= 0; i-- {
		records = slices.Insert(records, positions[i], tickRecord(ticks[i]))
	}
	if r.IntN(2) == 0 {
		at := start
		for i, grace := range []int32{leastRetention + 100_000, 10} {
			spec := *w.tables[0].definitions[0]
			spec.GCGraceSeconds, spec.AlteredAt = grace, int64(2+i)
			table, err := schema.NewTable(spec)
			if err != nil {
				panic(err)
			}
			at += r.IntN(len(records) - at + 1)
			records = slices.Insert(records, at, schemaRecord(table))
		}
	}
	return records
}

// sweep removes all that reads as absent now, of every row, header and range.
func (h *harness) sweep() {
	h.t.Helper()
	if !h.fold.initialized || h.fold.watermark == noWatermark {
		return
	}
	var keys [][]byte
	from, to := state.SpaceSpan(nil, nil, 0, state.SpaceRows)
	err := h.tx.Scan(from, to, func(key, _ []byte) (bool, error) { keys = append(keys, slices.Clone(key)); return true, nil })
	if err != nil {
		h.t.Fatal(err)
	}
	f := h.fold
	f.call.tx = h.tx
	for _, key := range keys {
		if err := f.purgeOne(state.Purge(nil, 0, 0, key), f.now()); err != nil {
			h.t.Fatal(err)
		}
		k, err := state.SplitKey(key)
		if err != nil {
			h.t.Fatal(err)
		}
		value, err := h.tx.Get(key)
		if err != nil {
			h.t.Fatal(err)
		}
		if value == nil || k.Kind != state.KindRow && k.Kind != state.KindStatic {
			continue
		}
		table, n := f.tables[k.Table], 0
		if k.Kind == state.KindRow {
			n = len(table.schema.ClusteringColumns())
		}
		var r row
		if err := decodeRow(slices.Clone(value), n, &r); err != nil {
			h.t.Fatal(err)
		}
		if r.nothing() {
			continue // it was named, and nothing more
		}
		if r.purge(table.horizon(f.now())); r.nothing() {
			err = h.tx.Delete(key)
		} else {
			err = h.tx.Set(key, appendRow(nil, &r))
		}
		if err != nil {
			h.t.Fatal(err)
		}
	}
}

// TestAnyTimeOfRemoval: when the bytes of what reads as absent go makes no difference to any event or live row. One fold
// removes them as it does, another at random moments all of them.
func TestAnyTimeOfRemoval(t *testing.T) {
	runs := 300
	if testing.Short() {
		runs = 40
	}
	removed := 0
	for seed := range uint64(runs) {
		r := rand.New(rand.NewPCG(seed, 1))
		records := newWorld(t).agingRun(r)
		lazy, eager := newHarness(t), newHarness(t)
		for i, rec := range records {
			lazy.apply(rec)
			eager.apply(rec)
			if r.IntN(3) == 0 {
				before := len(eager.dump())
				eager.sweep()
				if len(eager.dump()) < before {
					removed++
				}
			}
			if a, b := lazy.take(), eager.take(); !slices.Equal(a, b) {
				t.Fatalf("seed %d: record %d of %d, %+v: found\n%s\nand where the absent was removed\n%s", seed, i, len(records), rec,
					strings.Join(a, "\n"), strings.Join(b, "\n"))
			}
		}
		if a, b := lazy.rows(), eager.rows(); !maps.Equal(a, b) {
			t.Fatalf("seed %d: the rows at the end are\n%v\nand where the absent was removed\n%v", seed, a, b)
		}
		lazy.store.Close()
		eager.store.Close()
	}
	if removed < runs {
		t.Errorf("in %d runs %d sweeps removed something", runs, removed)
	}
}

// TestSpacingOfTicks: whether time comes in one tick or in many small ones, and wherever transactions are cut, makes no
// difference to the events.
func TestSpacingOfTicks(t *testing.T) {
	runs := 120
	if testing.Short() {
		runs = 20
	}
	expired := 0
	for seed := range uint64(runs) {
		r := rand.New(rand.NewPCG(seed, 1))
		records := newWorld(t).agingRun(r)
		records = append(records, tickRecord(499_999+leastRetention+10+100_000))
		var fine []*rawtopic.Record
		last := int64(worldEpoch)
		for _, rec := range records {
			if rec.Kind == rawtopic.KindTick {
				until := second(rec.Tick.Watermark)
				var between []int64
				for range r.IntN(6) {
					if until > last {
						between = append(between, last+r.Int64N(min(until-last, 12)), until-r.Int64N(min(until-last, 12)))
					}
				}
				slices.Sort(between)
				for _, at := range between {
					fine = append(fine, tickRecord(at))
				}
				last = max(last, until)
			}
			fine = append(fine, rec)
		}
		one, many := newHarness(t), newHarness(t)
		for _, rec := range records {
			one.apply(rec)
		}
		many.foldInPieces(r, fine)
		if !slices.Equal(one.events, many.events) {
			t.Fatalf("seed %d: in %d records the events are\n%s\nin %d\n%s", seed, len(records), strings.Join(one.events, "\n"),
				len(fine), strings.Join(many.events, "\n"))
		}
		if a, b := one.rows(), many.rows(); !maps.Equal(a, b) {
			t.Fatalf("seed %d: the rows at the end are\n%v\nin small ticks\n%v", seed, a, b)
		}
		expired += int(one.fold.Stats().Expired)
		one.store.Close()
		many.store.Close()
	}
	if expired == 0 {
		t.Error("nothing expired")
	}
}

// TestDeadLeave: what is dead leaves the state after the retention, as a whole and with its timers, and what lives stays.
func TestDeadLeave(t *testing.T) {
	for seed := range uint64(30) {
		h := newHarness(t)
		for _, rec := range newWorld(t).agingRun(rand.New(rand.NewPCG(seed, 1))) {
			h.apply(rec)
		}
		live := h.rows()
		h.apply(tickRecord(600_000 + 2*leastRetention))
		for _, space := range []state.Space{state.SpaceTimer, state.SpacePurge, state.SpaceRows} {
			from, to := state.SpaceSpan(nil, nil, 0, space)
			err := h.tx.Scan(from, to, func(key, _ []byte) (bool, error) {
				k, err := state.SplitKey(key)
				if err == nil && (space != state.SpaceRows || k.Kind == state.KindHeader || k.Kind == state.KindRange) {
					t.Errorf("seed %d: %v is still there", seed, k)
				}
				return true, err
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		h.eachRow(func(k state.Key, table *table, r *row) {
			if r.death() != noDeath && !table.drops {
				t.Errorf("seed %d: %v is dead, and still there: %+v", seed, k, r)
			}
		})
		if after := h.rows(); !maps.Equal(live, after) || len(live) == 0 && seed == 0 {
			t.Errorf("seed %d: the rows are\n%v\nand were\n%v", seed, after, live)
		}
		h.store.Close()
	}
}

// TestPurgesAreBounded: a tick removes so many and no more, and the next ones go on.
func TestPurgesAreBounded(t *testing.T) {
	const rows = 2*purgesPerTick + 100
	table := mustTable(t, "t", "k int partition_key", "c int clustering", "v int regular")
	h := newHarness(t)
	h.apply(initRecord())
	h.apply(schemaRecord(table))
	d := newData(table, intValue(1))
	for c := range rows {
		row := newRow(intValue(c))
		row.Liveness = commitlog.Liveness{Timestamp: 10, TTL: 5, ExpiresAt: 15}
		d.Rows = append(d.Rows, row)
	}
	h.apply(dataRecord(d))
	h.take()
	h.commit(state.Position{Offset: h.offset})
	count := func(space state.Space) (n int) {
		from, to := state.SpaceSpan(nil, nil, 0, space)
		if err := h.tx.Scan(from, to, func(_, _ []byte) (bool, error) { n++; return true, nil }); err != nil {
			t.Fatal(err)
		}
		return n
	}
	due := bareTable(table).purgeAt(15)
	h.apply(tickRecord(due - 1))
	if n := len(h.take()); n != rows || count(state.SpaceRows) != rows || count(state.SpacePurge) != rows {
		t.Fatalf("%d events, %d rows, %d purge timers", n, count(state.SpaceRows), count(state.SpacePurge))
	}
	for i, left := range []int{rows - purgesPerTick, rows - 2*purgesPerTick, 0} {
		h.apply(tickRecord(due + int64(i)))
		if count(state.SpaceRows) != left || count(state.SpacePurge) != left {
			t.Errorf("after %d ticks: %d rows, %d purge timers, expected %d", i+1, count(state.SpaceRows), count(state.SpacePurge), left)
		}
	}
	if events := h.take(); len(events) > 0 {
		t.Errorf("forgetting made the events %v", events)
	}
}

func bareTable(s *schema.Table) *table {
	return &table{schema: s, purged: math.MinInt64, least: leastRetention}
}

func TestPurgeAt(t *testing.T) {
	table := bareTable(mustTable(t, "t", "k int partition_key"))
	r := rand.New(rand.NewPCG(1, 1))
	for range 1000 {
		death := r.Int64N(5_000_000_000) - 1_000_000_000
		at := table.purgeAt(death)
		if at%purgeSlot != 0 || at < death+leastRetention || at >= death+leastRetention+purgeSlot || table.horizon(at) < death {
			t.Fatalf("death %d, timer %d, horizon then %d", death, at, table.horizon(at))
		}
	}
	for _, never := range []int64{noDeath, commitlog.NoDeletionTime, math.MaxInt64 - 10} {
		if table.purgeAt(never) != noExpiry {
			t.Errorf("what dies at %d has a timer", never)
		}
	}
}

// TestRaisedGrace: what read as absent stays absent when gc grace is raised, in another process too; what did not is kept
// for longer.
func TestRaisedGrace(t *testing.T) {
	table := mustTable(t, "t", "k int partition_key", "v int regular")
	h := newHarness(t)
	h.apply(initRecord())
	h.apply(schemaRecord(table))
	row := rowsOf(table)
	for k, local := range []int64{100, 200} {
		h.apply(row(k, func(b rowBuilder) { b.row.Deletion = commitlog.Deletion{Timestamp: 50, LocalTime: local} }))
	}
	h.apply(tickRecord(100 + leastRetention))
	spec := *table
	spec.GCGraceSeconds, spec.AlteredAt = 2*leastRetention, 2
	raised, err := schema.NewTable(spec)
	if err != nil {
		t.Fatal(err)
	}
	h.apply(schemaRecord(raised))
	h.apply(tickRecord(200 + leastRetention))
	h.commit(state.Position{Offset: h.offset})
	h.fold = NewFold(0)
	h.take()
	for k := range 2 {
		h.apply(row(k, func(b rowBuilder) { b.cell("v", 40, intValue(1)) }))
	}
	if events := h.take(); len(events) != 1 || !strings.Contains(events[0], "k=0") {
		t.Errorf("found the events %v, expected one of the row whose deletion was absent", events)
	}
	h.apply(tickRecord(200 + 2*leastRetention))
	h.apply(row(1, func(b rowBuilder) { b.cell("v", 41, intValue(1)) }))
	if events := h.take(); len(events) != 1 {
		t.Errorf("found the events %v, expected one when the longer time is over", events)
	}
}
