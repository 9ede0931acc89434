package dedup

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"cassdelta/commitlog"
	"cassdelta/internal/rawtopic"
	"cassdelta/schema"
)

// counterShard is the context of one global shard, as a leader writes it.
func counterShard(node byte, clock, count int64) []byte {
	context := append([]byte{0, 1, 0x80, 0}, bytes.Repeat([]byte{node}, 16)...)
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(context, uint64(clock)), uint64(count))
}

// TestCounters lets three leaders count, in rows of one partition, and folds what they log, three copies of each, now and
// then some merged into one as a repair does, in any order but the same for every leader or in any at all. The totals
// are those of the newest shards that were seen; each record that brings a newer one is an event, and no other.
func TestCounters(t *testing.T) {
	definition := mustTable(t, "t", "k int partition_key", "c int clustering", "n counter regular")
	type write struct {
		row          int
		node         byte
		clock, count int64
	}
	events := 0
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 5))
		h := newHarness(t)
		h.fold.pastKnown = func(*table) bool { return true }
		h.apply(initRecord())
		h.apply(schemaRecord(definition))
		var writes []write
		last := map[string]write{}
		for range 30 {
			w := write{row: r.IntN(2), node: byte('a' + r.IntN(3))}
			id := fmt.Sprint(w.row, w.node)
			w.clock, w.count = last[id].clock+1, last[id].count+r.Int64N(9)-4
			last[id] = w
			writes = append(writes, w)
		}
		copies := slices.Concat(writes, writes, writes)
		r.Shuffle(len(copies), func(i, j int) { copies[i], copies[j] = copies[j], copies[i] })
		if seed%2 == 0 {
			slices.SortStableFunc(copies, func(a, b write) int { return int(a.clock - b.clock) })
		}
		known := map[string]write{}
		chain := map[string]string{}
		for len(copies) > 0 {
			n := 1
			if r.IntN(5) == 0 {
				n = min(len(copies), 3)
			}
			row := newRow(intValue(copies[0].row))
			var context []byte
			changed := false
			timestamp := int64(0)
			for i, w := range copies[:n] {
				if w.row != copies[0].row {
					n = i // a record of one row
					break
				}
				shard := counterShard(w.node, w.clock, w.count)
				if context == nil {
					context = shard
				} else {
					context, _ = schema.AppendMergedCounter(nil, context, shard)
				}
				timestamp = max(timestamp, 1000+w.clock)
				id := fmt.Sprint(w.row, w.node)
				if w.clock > known[id].clock {
					changed = true
					known[id] = w
				}
			}
			rowBuilder{definition, &row}.cell("n", timestamp, context)
			d := newData(definition, intValue(1))
			d.Rows = append(d.Rows, row)
			h.apply(dataRecord(d))
			found := h.take()
			events += len(found)
			total := int64(0)
			for id, w := range known {
				if strings.HasPrefix(id, fmt.Sprint(copies[0].row)) {
					total += w.count
				}
			}
			if changed != (len(found) == 1) || changed && !strings.Contains(found[0], fmt.Sprintf("-> {n:%d}", total)) {
				t.Fatalf("seed %d: events %v, expected one: %v, with the total %d", seed, found, changed, total)
			}
			for _, e := range found {
				checkChain(t, chain, e)
			}
			copies = copies[n:]
		}
		h.store.Close()
		if t.Failed() {
			return
		}
	}
	t.Logf("%d events", events)
}

// TestCountersOfUnknownPast holds that counters make no event unless everything that was counted is known, and that this is
// told once for a table.
func TestCountersOfUnknownPast(t *testing.T) {
	definition := mustTable(t, "t", "k int partition_key", "n counter regular")
	h := newHarness(t)
	h.apply(initRecord())
	h.apply(schemaRecord(definition))
	for i := range int64(3) {
		row := newRow()
		rowBuilder{definition, &row}.cell("n", 10, counterShard('a', i+1, 5))
		d := newData(definition, intValue(1))
		d.Rows = append(d.Rows, row)
		h.apply(dataRecord(d))
	}
	stats := h.fold.Stats()
	if events := h.take(); len(events) > 0 || stats.Unsupported != 3 {
		t.Errorf("events %v, %d records are counted as unsupported", events, stats.Unsupported)
	}
	if len(stats.UnsupportedTables) != 1 || stats.UnsupportedTables[0].Records != 3 || !strings.Contains(stats.UnsupportedTables[0].Reason, "counters") {
		t.Errorf("found %+v", stats.UnsupportedTables)
	}
}

// TestWrongCounters holds that a counter that is none is refused.
func TestWrongCounters(t *testing.T) {
	definition := mustTable(t, "t", "k int partition_key", "n counter regular")
	h := newHarness(t)
	h.fold.pastKnown = func(*table) bool { return true }
	h.apply(initRecord())
	h.apply(schemaRecord(definition))
	shard := counterShard('a', 1, 5)
	for name, c := range map[string]commitlog.Cell{
		"empty":    {Value: []byte{}},
		"a number": {Value: make([]byte, 8)},
		"cut":      {Value: shard[:len(shard)-1]},
		"order":    {Value: append(append([]byte{0, 0}, counterShard('b', 1, 1)[4:]...), shard[4:]...)},
		"expiring": {Value: shard, TTL: 10},
	} {
		row := newRow()
		c.Timestamp, c.LocalTime = 10, commitlog.NoDeletionTime
		if c.TTL != 0 {
			c.LocalTime = 20
		}
		rowBuilder{definition, &row}.add("n", c)
		d := newData(definition, intValue(1))
		d.Rows = append(d.Rows, row)
		if reason := h.refused(&rawtopic.Record{Kind: rawtopic.KindData, Data: d}); !strings.Contains(reason, "counter") {
			t.Errorf("%s: %s", name, reason)
		}
	}
}

// TestCounterDeletedInOneRecord: a deletion and what was counted after it may come in one record, as a repair sends them. What
// was counted before is left out first, and no shard of it comes back.
func TestCounterDeletedInOneRecord(t *testing.T) {
	definition := mustTable(t, "t", "k int partition_key", "c int clustering", "n counter regular")
	h := newHarness(t)
	h.fold.pastKnown = func(*table) bool { return true }
	h.apply(initRecord())
	h.apply(schemaRecord(definition))
	count := func(node byte, at, count int64, deletion commitlog.Deletion) {
		row := newRow(intValue(1))
		row.Deletion = deletion
		rowBuilder{definition, &row}.cell("n", at, counterShard(node, 1, count))
		d := newData(definition, intValue(1))
		d.Rows = []commitlog.Row{row}
		h.apply(dataRecord(d))
	}
	count('a', 10, 5, commitlog.LiveDeletion)
	count('b', 30, 1, commitlog.Deletion{Timestamp: 20, LocalTime: 20})
	count('a', 10, 5, commitlog.LiveDeletion)
	want := []string{"c t k=1 c=1 none -> {n:5} @10", "u t k=1 c=1 {n:5} -> {n:1} @30"}
	if events := h.take(); !slices.Equal(events, want) {
		t.Errorf("found\n%s\nexpected\n%s", strings.Join(events, "\n"), strings.Join(want, "\n"))
	}
}
