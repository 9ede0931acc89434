package dedup

import (
	"testing"

	"cassdelta/commitlog"
	"cassdelta/internal/rawtopic"
)

// TestRangeFillsBatch: a range tombstone whose bounds alone fill a batch, with another that begins where it ends.
func TestRangeFillsBatch(t *testing.T) {
	table := mustTable(t, "t", "k int partition_key", "c blob clustering", "v int regular")
	h := newHarness(t)
	h.apply(initRecord())
	h.apply(schemaRecord(table))
	key := table.JoinPartitionKey(nil, [][]byte{intValue(1)})
	low, high := make([]byte, 65530), make([]byte, 65535) // the comparable form of a zero has two bytes
	low = append(low, 1)
	write := func(at int64, c []byte) {
		d, r := newData(table, key), newRow(c)
		rowBuilder{table, &r}.cell("v", at, intValue(1))
		d.Rows = []commitlog.Row{r}
		h.apply(dataRecord(d))
	}
	erase := func(at int64, start, end rawtopic.Bound) {
		d := newData(table, key)
		d.Ranges = []rawtopic.Range{{Start: start, End: end, Deletion: commitlog.Deletion{Timestamp: at, LocalTime: 1}}}
		h.apply(dataRecord(d))
	}
	bound := func(c []byte, inclusive bool) rawtopic.Bound {
		return rawtopic.Bound{Prefix: [][]byte{c}, Inclusive: inclusive}
	}
	erase(20, bound(high, true), bound(low, false))
	erase(30, bound(low, true), rawtopic.Bound{})
	for _, at := range []int64{20, 21, 30, 31} {
		write(at, high)
		write(at, low)
	}
	if events := h.take(); len(events) != 4 {
		t.Errorf("found %d events, expected those of the writes of one row at 21, 30 and 31, and of the other at 31", len(events))
	}
}
