package dedup

import (
	"context"
	"encoding/binary"
	"strconv"

	"github.com/twmb/franz-go/pkg/kgo"

	"cassdelta/internal/rawtopic"
	"cassdelta/schema"
	"cassdelta/state"
)

// counter is a fold that counts: a Tick record with the watermark n makes n events, each of which says the count
// before and after it. So the events of a raw partition must be 0 to 1, 1 to 2, and so on, each once: one that is lost,
// repeated, or made from a state that is ahead or behind breaks the chain. A negative watermark is refused.
type counter struct {
	partition int32
	table     *schema.Table
	stats     Stats
	loaded    bool
	count     int64
	settings  Settings
	// weighted has it count in hours of the retention instead of ones: what it counts tells which epoch a record was folded in.
	weighted bool

	event         Event
	before, after [8]byte
	images        [2][]byte
	key           []byte
}

func newCounter(partition int32) *counter {
	return &counter{partition: partition, table: counterTable, key: state.Meta(nil, uint16(partition), "count")}
}

var counterTable = func() *schema.Table {
	t, err := schema.NewTable(schema.Table{
		Keyspace: "ks", Name: "counted", ID: schema.UUID{1},
		Columns: []schema.Column{{Name: "k", Kind: schema.PartitionKey, Type: mustType("int")}},
	})
	if err != nil {
		panic(err)
	}
	return t
}()

func mustType(name string) *schema.Type {
	t, err := schema.ParseType(name, nil)
	if err != nil {
		panic(err)
	}
	return t
}

func (c *counter) Copy([]byte) bool { return false }
func (c *counter) Paused() bool     { return false }

func (c *counter) Use(s Settings) {
	c.settings = s
	c.Reset()
}

func (c *counter) Enter(_ *state.Txn, s Settings) error {
	c.Use(s)
	return nil
}

// step is what an event counts.
func (c *counter) step() int64 {
	if c.weighted {
		return c.settings.Retention / 3600
	}
	return 1
}

func (c *counter) Apply(tx *state.Txn, offset int64, rec *rawtopic.Record, done, limit int64, emit func(*Event) error) (int64, bool, error) {
	if rec.Kind != rawtopic.KindTick {
		return 0, true, nil
	}
	total := rec.Tick.Watermark
	if total < 0 {
		return 0, false, &RecordError{Partition: c.partition, Offset: offset, Kind: rec.Kind, Reason: "it counts backwards"}
	}
	if !c.loaded {
		value, err := tx.Get(c.key)
		if err != nil {
			return 0, false, err
		}
		c.count, c.loaded = 0, true
		if value != nil {
			c.count = int64(binary.BigEndian.Uint64(value))
		}
	}
	var emitted int64
	for ; done+emitted < total && emitted < limit; emitted++ {
		binary.BigEndian.PutUint64(c.before[:], uint64(c.count))
		c.count += c.step()
		binary.BigEndian.PutUint64(c.after[:], uint64(c.count))
		c.images = [2][]byte{c.before[:], c.after[:]}
		c.event = Event{
			Table: c.table, Op: Create, RawPartition: c.partition, RawOffset: offset, Index: done + emitted,
			Before: c.images[:1], After: c.images[1:], Partition: c.images[:1],
		}
		if err := emit(&c.event); err != nil {
			return emitted, false, err
		}
	}
	binary.BigEndian.PutUint64(c.after[:], uint64(c.count))
	if err := tx.Set(c.key, c.after[:]); err != nil {
		return emitted, false, err
	}
	finished := done+emitted == total
	if finished {
		c.stats.Changed++
	}
	return emitted, finished, nil
}

func (c *counter) Reset()       { c.loaded = false }
func (c *counter) Stats() Stats { return c.stats }

// counted is one event of a counter, as it stands in the clean topic.
type counted struct {
	partition     int32
	offset, index int64
	before, after int64
}

// encoder writes the events of counters. It fails while fail says so.
type encoder struct {
	fail func(e *Event) error
	// padding is as many bytes more in each record.
	padding int
}

func (e *encoder) Encode(_ context.Context, ev *Event, dst *kgo.Record, buf []byte) ([]byte, error) {
	if e.fail != nil {
		if err := e.fail(ev); err != nil {
			return buf, err
		}
	}
	start := len(buf)
	buf = binary.BigEndian.AppendUint32(buf, uint32(ev.RawPartition))
	buf = binary.BigEndian.AppendUint64(buf, uint64(ev.RawOffset))
	buf = binary.BigEndian.AppendUint64(buf, uint64(ev.Index))
	buf = append(buf, ev.Before[0]...)
	buf = append(buf, ev.After[0]...)
	buf = append(buf, make([]byte, e.padding)...)
	end := len(buf)
	buf = strconv.AppendInt(buf, int64(ev.RawPartition), 10)
	offset := len(buf)
	buf = strconv.AppendInt(buf, ev.RawOffset, 10)
	index := len(buf)
	buf = strconv.AppendInt(buf, ev.Index, 10)
	headers := append(dst.Headers[:0],
		kgo.RecordHeader{Key: HeaderRawPartition, Value: buf[end:offset]}, kgo.RecordHeader{Key: HeaderRawOffset, Value: buf[offset:index]},
		kgo.RecordHeader{Key: HeaderIndex, Value: buf[index:]})
	*dst = kgo.Record{Topic: cleanName, Partition: ev.RawPartition % cleanParts, Value: buf[start:end], Headers: headers}
	return buf, nil
}

func (e *encoder) MaxBatchBytes(string) int32 { return 1<<20 + int32(e.padding) }

func decodeCounted(v []byte) counted {
	n := func(from int) int64 { return int64(binary.BigEndian.Uint64(v[from:])) }
	return counted{partition: int32(binary.BigEndian.Uint32(v)), offset: n(4), index: n(12), before: n(20), after: n(28)}
}
