package dedup

import (
	"bytes"
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"cassdelta/internal/rawtopic"
	"cassdelta/schema"
	"cassdelta/state"
)

// silence counts events.
type silence int

func (n *silence) Encode(_ context.Context, _ *Event, dst *kgo.Record, buf []byte) ([]byte, error) {
	*n++
	*dst = kgo.Record{}
	return buf, nil
}

func (n *silence) MaxBatchBytes(string) int32 { return 1 << 20 }

// TestLargeTickWithoutEvents has a tick with which values of a dropped column expire: no event, whatever their number, and no transaction
// that grows with it. What was done is done also if the fold forgets everything between two transactions.
func TestLargeTickWithoutEvents(t *testing.T) {
	const rows, perRecord, start, ttl = 5 * rowsPerCall, 64, 1_700_000_000, 60
	before := mustTable(t, "t", "k int partition_key", "c int clustering", "v text regular", "w int regular")
	after := *mustTable(t, "t", "k int partition_key", "c int clustering", "w int regular")
	after.AlteredAt = (start + 1) * microseconds
	at, _ := before.ColumnIndex("v")
	after.Dropped = []schema.DroppedColumn{{Name: "v", Kind: schema.Regular, Type: before.Columns[at].Type, DroppedAt: after.AlteredAt}}
	var states [2][]byte
	for i, forgetful := range []bool{false, true} {
		var events silence
		d := foldOnDisk(t, &events, 0)
		d.fold(initRecord())
		d.fold(schemaRecord(before))
		for k := 0; k < rows; k += perRecord {
			data := newData(before, intValue(k))
			for c := range perRecord {
				row := newRow(intValue(c))
				rowBuilder{before, &row}.expiring("v", start*microseconds, ttl, start+ttl, []byte("gone with its column"))
				rowBuilder{before, &row}.cell("w", start*microseconds, intValue(c))
				data.Rows = append(data.Rows, row)
			}
			d.fold(dataRecord(data))
		}
		d.fold(schemaRecord(rebuild(t, after)))
		created := events
		if err := d.task.take(&kgo.Record{Offset: d.offset, Value: rawtopic.Append(nil, tickRecord(start+ttl))}); err != nil {
			t.Fatal(err)
		}
		transactions := 0
		for d.task.waiting() > 0 {
			if err := d.task.begin(t.Context(), func(*kgo.Record) {}); err != nil {
				t.Fatal(err)
			}
			// A deadline that is over lets each transaction have one call of the fold.
			if err := d.task.advance(allowance{events: 1000, bytes: maxTxnBytes, deadline: time.Now()}); err != nil {
				t.Fatal(err)
			}
			if transactions++; d.task.waiting() > 0 && !d.task.moved {
				t.Fatalf("transaction %d would not be committed", transactions)
			}
			d.end()
			if forgetful {
				d.task.fold.Use(DefaultSettings)
			}
		}
		if events != created || transactions < rows/rowsPerCall {
			t.Errorf("%d events and %d transactions, expected no event and at least %d transactions", events-created, transactions, rows/rowsPerCall)
		}
		if err := d.task.begin(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		for _, space := range []state.Space{state.SpaceRows, state.SpaceTimer} {
			from, to := state.SpaceSpan(nil, nil, 0, space)
			err := d.task.tx.Scan(from, to, func(key, value []byte) (bool, error) {
				states[i] = fmt.Appendf(states[i], "%x %x\n", key, value)
				if space == state.SpaceTimer {
					t.Errorf("a timer is left: %x", key)
				}
				return true, nil
			})
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	if !bytes.Equal(states[0], states[1]) || bytes.Count(states[0], []byte("\n")) < rows {
		t.Errorf("the states have %d and %d bytes, and are not the same, or lack rows", len(states[0]), len(states[1]))
	}
}
