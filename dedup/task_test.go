package dedup

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/zap"

	"cassdelta/internal/rawtopic"
	"cassdelta/state"
)

// TestSlabKeepsRecordsApart fills slabs with records of any size, and looks at them before they are released.
func TestSlabKeepsRecordsApart(t *testing.T) {
	rnd := rand.New(rand.NewPCG(4, 0))
	pool := &slabPool{}
	for range 20 {
		s := slab{pool: pool}
		var records []*kgo.Record
		var want [][]byte
		for i := range rnd.IntN(3 * slabRecords) {
			rec, buf := s.next()
			if rec.Value != nil || len(rec.Headers) != 0 || rec.Context != nil {
				t.Fatalf("record %d is not empty: %+v", i, rec)
			}
			size := []int{0, 10, 1000, slabRoom, 3 * slabBytes / 2}[rnd.IntN(5)]
			value := bytes.Repeat([]byte{byte(i)}, size)
			start := len(buf)
			buf = append(buf, value...)
			rec.Value, rec.Context = buf[start:], context.Background()
			rec.Headers = append(rec.Headers, kgo.RecordHeader{Key: fmt.Sprint(i)})
			if rnd.IntN(8) == 0 {
				continue // the record is not taken: the next one is written over it
			}
			s.keep(buf)
			records, want = append(records, rec), append(want, value)
		}
		for i, rec := range records {
			if !bytes.Equal(rec.Value, want[i]) {
				t.Fatalf("record %d of %d bytes was written over", i, len(want[i]))
			}
		}
		s.release()
	}
}

// benchmarkTask is a task whose records go nowhere.
func benchmarkTask(t testing.TB) (*task, func(*kgo.Record)) {
	w, err := NewWorker(WorkerConfig{RawTopic: rawName, Group: groupName, DeadLetterTopic: letterName, StateDirectory: "s", Emitter: &encoder{}, Log: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	w.newFold = func(p int32) folder { return newCounter(p) }
	store, err := state.Open("s", state.Identity{Topic: rawName, Partitions: 1}, state.Options{FS: vfs.NewMem()})
	if err != nil {
		t.Fatal(err)
	}
	task := newTask(w, 0, store, func() {}, &slabPool{})
	t.Cleanup(func() { task.close() })
	return task, func(*kgo.Record) {}
}

// TestTaskDoesNotAllocatePerRecord folds and emits a transaction at a time, in the steady state.
func TestTaskDoesNotAllocatePerRecord(t *testing.T) {
	task, produce := benchmarkTask(t)
	const perRun = 2000
	value := rawtopic.Append(nil, &rawtopic.Record{Kind: rawtopic.KindTick, Tick: &rawtopic.Tick{Watermark: 2}})
	records := make([]kgo.Record, perRun)
	offset := int64(0)
	fold := func() {
		for i := range records {
			records[i] = kgo.Record{Value: value, Offset: offset}
			offset++
			if err := task.take(&records[i]); err != nil {
				t.Fatal(err)
			}
		}
		task.begin(context.Background(), produce)
		if err := task.advance(allowance{events: 1 << 30, bytes: 1 << 30, deadline: time.Now().Add(time.Hour)}); err != nil {
			t.Fatal(err)
		}
		if task.waiting() > 0 || task.spent != 2*perRun {
			t.Fatalf("%d records wait, %d events", task.waiting(), task.spent)
		}
		task.rewind()
		task.records, task.read, task.bytes = task.records[:0], 0, 0
	}
	fold()
	if n := testing.AllocsPerRun(10, fold); n > perRun/100 {
		t.Errorf("%.0f allocations for %d records", n, perRun)
	}
}

// TestCutsMakeNoDifference folds the same records with any cuts, and with discarded transactions in between, and compares state and
// events.
func TestCutsMakeNoDifference(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 1))
	for range 20 {
		task, _ := benchmarkTask(t)
		var events, total int64
		var pending int64
		for i := range int64(30) {
			n := int64(rnd.IntN(40))
			total += n
			value := rawtopic.Append(nil, &rawtopic.Record{Kind: rawtopic.KindTick, Tick: &rawtopic.Tick{Watermark: n}})
			if err := task.take(&kgo.Record{Value: value, Offset: i}); err != nil {
				t.Fatal(err)
			}
		}
		for task.waiting() > 0 {
			pending = 0
			task.begin(context.Background(), func(r *kgo.Record) {
				if e := decodeCounted(r.Value); e.before != events+pending {
					t.Fatalf("an event from %d after %d", e.before, events+pending)
				}
				pending++
			})
			for range 1 + rnd.IntN(3) {
				if err := task.advance(allowance{events: 1 + rnd.Int64N(50), bytes: 1 + rnd.IntN(4000), deadline: time.Now().Add(time.Hour)}); err != nil {
					t.Fatal(err)
				}
			}
			if rnd.IntN(3) == 0 {
				task.rewind()
				continue
			}
			if err := task.apply(committed{Position: task.at(), epoch: task.epoch()}); err != nil {
				t.Fatal(err)
			}
			events += pending
		}
		tx := task.store.Begin()
		stored, err := tx.Get(state.Meta(nil, 0, "count"))
		if err != nil {
			t.Fatal(err)
		}
		if n := int64(binary.BigEndian.Uint64(stored)); n != total || events != total {
			t.Errorf("%d events, the state counts %d, expected %d", events, n, total)
		}
		tx.Discard()
	}
}
