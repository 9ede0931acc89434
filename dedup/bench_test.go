package dedup

import (
	"fmt"
	"math"
	"testing"

	"cassdelta/commitlog"
	"cassdelta/internal/rawtopic"
	"cassdelta/state"
)

// BenchmarkCopies folds updates of rows of five columns, each update of one column and from three hosts. The rows are
// few, so that it measures the fold and hardly the store. An operation is one record.
func BenchmarkCopies(b *testing.B) {
	for _, clustered := range []bool{false, true} {
		b.Run(fmt.Sprintf("clustered=%v", clustered), func(b *testing.B) { benchmarkCopies(b, clustered) })
	}
}

func benchmarkCopies(b *testing.B, clustered bool) {
	columns := []string{"k int partition_key", "a bigint regular", "b text regular", "c text regular", "d int regular", "e timestamp regular"}
	if clustered {
		columns = append(columns, "ck int clustering")
	}
	table := mustTable(b, "bench", columns...)
	h := newHarness(b)
	h.apply(initRecord())
	h.apply(schemaRecord(table))

	const rows = 1000
	row := newRow()
	if clustered {
		row.Clustering = [][]byte{intValue(7)}
	}
	data := newData(table, make([]byte, 4))
	rec := dataRecord(data)
	events := 0
	emit := func(*Event) error { events++; return nil }
	apply := func(key int) {
		copy(data.Key, intValue(key))
		if _, _, err := h.fold.Apply(h.tx, h.offset, rec, 0, math.MaxInt64, emit); err != nil {
			b.Fatal(err)
		}
		if h.offset++; h.offset%50_000 == 0 {
			h.commit(state.Position{Offset: h.offset})
		}
	}
	long := make([]byte, 8)
	text := []byte("some text of thirty-two bytes...")
	at := int64(1_700_000_000_000_000)
	row.Liveness = commitlog.Liveness{Timestamp: at, ExpiresAt: commitlog.NoDeletionTime}
	rowBuilder{table, &row}.cell("a", at, long).cell("b", at, text).cell("c", at, text).cell("d", at, intValue(1)).cell("e", at, long)
	data.Rows = []commitlog.Row{row}
	for key := range rows {
		apply(key)
	}
	update := newRow(row.Clustering...)
	rowBuilder{table, &update}.cell("b", at, text)
	data.Rows = []commitlog.Row{update}
	data.Origin = rawtopic.Origin{}
	events = 0
	b.ReportAllocs()
	b.ResetTimer()
	for i := range b.N {
		update.Cells[0].Timestamp = at + 1 + int64(i/3)
		apply(int(uint32(i/3) * 2654435761 % rows))
	}
	b.ReportMetric(float64(events)/float64(b.N), "events/op")
}
