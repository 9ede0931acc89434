package dedup

import (
	"bytes"
	"context"
	"encoding/binary"
	"flag"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"

	"cassdelta/commitlog"
	"cassdelta/internal/rawtopic"
)

var manyRows = flag.Int("rows", 20_000, "rows in the largest partition of TestDeleteManyRows; with 1,000,000 it holds the memory to a bound")

// rowDeletions holds events to what the deletion of many rows gives: in the order of the clustering one for each, with the
// complete row before it.
type rowDeletions struct {
	t                *testing.T
	created, deleted int
	value            []byte
}

func (c *rowDeletions) Encode(_ context.Context, e *Event, dst *kgo.Record, buf []byte) ([]byte, error) {
	switch {
	case e.Op == Create && e.Before == nil:
		c.created++
	case e.Op == Delete && e.After == nil && int(binary.BigEndian.Uint32(e.Clustering[0])) == c.deleted &&
		e.Before != nil && bytes.Equal(e.Before[2], c.value):
		c.deleted++
	default:
		c.t.Errorf("after %d creations and %d deletions: found %s", c.created, c.deleted, eventText(e))
	}
	at := len(buf)
	for _, v := range e.Before {
		buf = append(buf, v...)
	}
	*dst = kgo.Record{Value: buf[at:]}
	return buf, nil
}

func (c *rowDeletions) MaxBatchBytes(string) int32 { return 1 << 20 }

// TestDeleteManyRows deletes partitions of many rows and of fewer, each by one record: as a partition, and by a range. Each row
// gives an event, no transaction has more events than a worker's have, and the greatest resident set of the process during the
// deletion does not grow with the rows:
//
//	go test ./dedup -run TestDeleteManyRows -v -rows 1000000
func TestDeleteManyRows(t *testing.T) {
	const (
		perRecord = 100
		memory    = 256 << 20
		growth    = 40 << 20 // that is left to chance, and to caches that fewer rows do not fill
	)
	counter := &rowDeletions{t: t, value: []byte("forty bytes of a value, as many rows have")}
	d := foldOnDisk(t, counter, memory)
	table := mustTable(t, "events", "k int partition_key", "c int clustering", "v text regular")
	d.fold(initRecord())
	d.fold(schemaRecord(table))
	deletion := commitlog.Deletion{Timestamp: 20, LocalTime: 1_700_000_000}
	key := 0
	var peaks []int64
	for _, rows := range []int{*manyRows, *manyRows / 10, *manyRows / 100} {
		rows = rows / perRecord * perRecord
		for _, what := range []string{"partition", "range"} {
			key++
			counter.created, counter.deleted = 0, 0
			for i := 0; i < rows; i += perRecord {
				data := newData(table, intValue(key))
				for c := range perRecord {
					row := newRow(intValue(i + c))
					row.Liveness.Timestamp = 10
					rowBuilder{table, &row}.cell("v", 10, counter.value)
					data.Rows = append(data.Rows, row)
				}
				d.fold(dataRecord(data))
			}
			d.end()
			before := d.transactions
			d.most = 0
			idle := forgetResident(t)
			data := newData(table, intValue(key))
			if what == "partition" {
				data.Deletion = deletion
			} else {
				data.Ranges = []rawtopic.Range{{Start: rawtopic.Bound{Prefix: [][]byte{intValue(0)}, Inclusive: true}, Deletion: deletion}}
			}
			d.fold(dataRecord(data))
			d.end()
			if counter.created != rows || counter.deleted != rows {
				t.Fatalf("%s: %d rows made %d creations and %d deletions", what, rows, counter.created, counter.deleted)
			}
			if limit := int64(d.w.cfg.MaxEventsPerTxn); d.most > limit {
				t.Errorf("%s: a transaction has %d events, expected at most %d", what, d.most, limit)
			}
			peaks = append(peaks, peakResident(t))
			t.Logf("%-9s of %7d rows: %7d deletions in %3d transactions of at most %5d; the resident set is %3d MiB before, and at most %3d MiB",
				what, rows, counter.deleted, d.transactions-before, d.most, idle>>20, peaks[len(peaks)-1]>>20)
		}
	}
	for i, what := range []string{"partition", "range"} {
		if many, few := peaks[i], peaks[2+i]; (many-few > growth || many > memory) && *manyRows >= 1_000_000 {
			t.Errorf("%s: the greatest resident set is %d MiB of a tenth of the rows, and %d MiB of all, of %d MiB that it may take", what, few>>20, many>>20, memory>>20)
		}
	}
}
