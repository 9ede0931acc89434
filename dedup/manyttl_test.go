package dedup

import (
	"context"
	"flag"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"cassdelta/commitlog"
	"cassdelta/state"
)

var ttlRows = flag.Int("ttl-rows", 100_000, "rows of TestManyTTLs; 5,000,000 hold that so many timers run within 512 MiB")

// ttlCounter counts events, and holds them to what a row with a TTL gives.
type ttlCounter struct {
	t                *testing.T
	created, expired int
	last             int64 // the second of the last expiry
}

func (c *ttlCounter) Encode(_ context.Context, e *Event, dst *kgo.Record, buf []byte) ([]byte, error) {
	switch {
	case e.Op == Create:
		c.created++
	case e.Op == Delete && e.Reason == ReasonTTL && second(e.Timestamp) >= c.last:
		c.expired++
		c.last = second(e.Timestamp)
	default:
		c.t.Errorf("found %c %s at %d, after %d", e.Op, e.Reason, e.Timestamp, c.last)
	}
	*dst = kgo.Record{}
	return buf, nil
}

func (c *ttlCounter) MaxBatchBytes(string) int32 { return 1 << 20 }

// TestManyTTLs lets many rows with a TTL live at once in one partition's state on disk, expire in steps, and leave after the
// retention, in transactions as a worker makes them and with `memory: 512MiB`. With 5,000,000 rows the peak of the whole process
// is below that:
//
//	go test ./dedup -run TestManyTTLs -v -ttl-rows 5000000
func TestManyTTLs(t *testing.T) {
	const (
		perRecord = 100
		start     = 1_700_000_000
		ttl       = 86_400
		spread    = 3600 // seconds over which the rows are written
		steps     = 24
		memory    = 512 << 20
	)
	rows := *ttlRows / perRecord * perRecord
	counter := &ttlCounter{t: t}
	d := foldOnDisk(t, counter, memory)
	fold := d.fold

	table := mustTable(t, "sessions", "k int partition_key", "c int clustering", "v text regular")
	fold(initRecord())
	fold(schemaRecord(table))
	value := []byte("forty bytes of a value, as sessions have")
	began := time.Now()
	for i := 0; i < rows; i += perRecord {
		at := int64(start + i*spread/rows)
		data := newData(table, intValue(i/perRecord))
		for c := range perRecord {
			row := newRow(intValue(c))
			row.Liveness = commitlog.Liveness{Timestamp: at * microseconds, TTL: ttl, ExpiresAt: at + ttl}
			rowBuilder{table, &row}.expiring("v", at*microseconds, ttl, at+ttl, value)
			data.Rows = append(data.Rows, row)
		}
		fold(dataRecord(data))
	}
	fold(tickRecord(start + ttl - 1))
	if counter.created != rows || counter.expired != 0 {
		t.Fatalf("%d rows made %d creations and %d expiries", rows, counter.created, counter.expired)
	}
	t.Logf("%d rows with a TTL are alive after %v; the peak is %d MiB", rows, time.Since(began).Round(time.Second), maxResident(t)>>20)

	for step := range steps {
		fold(tickRecord(start + ttl + int64(spread*(step+1)/steps) - 1))
		expected := 0
		for i := 0; i < rows; i += perRecord {
			if i*spread/rows <= spread*(step+1)/steps-1 {
				expected += perRecord
			}
		}
		if counter.expired != expected {
			t.Fatalf("after step %d: %d expiries, expected %d", step, counter.expired, expected)
		}
	}
	if counter.expired != rows {
		t.Errorf("%d of %d rows have expired", counter.expired, rows)
	}
	t.Logf("they have expired after %v; the peak is %d MiB", time.Since(began).Round(time.Second), maxResident(t)>>20)

	at := int64(start + ttl + spread + leastRetention + purgeSlot)
	for range rows/purgesPerTick + 1 {
		fold(tickRecord(at))
		at++
	}
	d.task.begin(t.Context(), nil)
	for _, space := range []state.Space{state.SpaceRows, state.SpaceTimer, state.SpacePurge} {
		from, to := state.SpaceSpan(nil, nil, 0, space)
		if err := d.task.tx.Scan(from, to, func(key, _ []byte) (bool, error) {
			t.Errorf("after the retention, the state still has %x", key)
			return false, nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("they are forgotten after %v; the peak is %d MiB", time.Since(began).Round(time.Second), maxResident(t)>>20)
	// In a run of all tests the peak is that of another one.
	if found := maxResident(t); found > memory && *ttlRows >= 1_000_000 {
		t.Errorf("the peak of the resident set is %d MiB, expected at most %d", found>>20, memory>>20)
	}
}
