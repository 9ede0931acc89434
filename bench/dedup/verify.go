package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"cassdelta/bench"
	"cassdelta/schema"
)

// compare compares the sum of events with that of those that the mutations of the phases are to give.
func compare(ctx context.Context, phases []phase, found bench.Sum) error {
	var want bench.Sum
	var form []byte
	for _, p := range phases {
		err := bench.Events(p.mutations(), p.n, func(e *bench.Event) error {
			form = bench.AppendEvent(form[:0], e)
			want.Add(form)
			return ctx.Err()
		})
		if err != nil {
			return err
		}
	}
	if found != want {
		return fmt.Errorf("the events are wrong: expected %d with the sum %016x, found %d with the sum %016x", want.N, want.Sum, found.N, found.Sum)
	}
	return nil
}

// readEvents reads the events as one who reads what is committed.
func (k *topics) readEvents(ctx context.Context) (bench.Sum, error) {
	d := newEventDecoder(k.table)
	var form []byte
	return k.read(ctx, k.clean, map[int32]int64{}, func(value []byte) ([]byte, error) {
		err := d.decode(value)
		form = bench.AppendEvent(form[:0], &d.event)
		return form, err
	})
}

// read reads what is committed in a topic and was not seen, of which form gives the form of an event.
func (k *topics) read(ctx context.Context, topic string, seen map[int32]int64, form func(value []byte) ([]byte, error)) (bench.Sum, error) {
	var sum bench.Sum
	ends, err := k.stableEnds(ctx, topic)
	if err != nil {
		return sum, err
	}
	from := map[int32]kgo.Offset{}
	left := map[int32]int64{}
	ends.Each(func(end kadm.ListedOffset) {
		if end.Offset > seen[end.Partition] {
			from[end.Partition] = kgo.NewOffset().At(seen[end.Partition])
			left[end.Partition] = end.Offset
		}
	})
	client, err := kgo.NewClient(append(clientOptions(k.brokers), kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: from}),
		// Control records tell where the end is, which may be behind the last event.
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.KeepControlRecords())...)
	if err != nil {
		return sum, err
	}
	defer client.Close()
	for len(left) > 0 {
		fetches := client.PollFetches(ctx)
		if err := errors.Join(ctx.Err(), fetches.Err()); err != nil {
			return sum, err
		}
		fetches.EachRecord(func(r *kgo.Record) {
			end, reading := left[r.Partition]
			if err != nil || !reading || r.Offset >= end {
				return
			}
			if r.Offset+1 == end {
				delete(left, r.Partition)
				seen[r.Partition] = end
			}
			if r.Attrs.IsControl() {
				return
			}
			f, wrong := form(r.Value)
			if wrong != nil {
				err = fmt.Errorf("topic %s, partition %d, offset %d: %w", r.Topic, r.Partition, r.Offset, wrong)
				return
			}
			sum.Add(f)
		})
		if err != nil {
			return sum, err
		}
	}
	return sum, nil
}

// stableEnds waits until no transaction is open in a topic, and gives its ends: the markers of a transaction's end
// come to some partitions later than to others.
func (k *topics) stableEnds(ctx context.Context, topic string) (kadm.ListedOffsets, error) {
	for {
		stable, err := k.admin.ListCommittedOffsets(ctx, topic)
		if err == nil {
			err = stable.Error()
		}
		ends, errEnds := k.admin.ListEndOffsets(ctx, topic)
		if err := errors.Join(err, errEnds, ctx.Err()); err != nil {
			return nil, err
		}
		open := false
		ends.Each(func(end kadm.ListedOffset) {
			s, ok := stable.Lookup(topic, end.Partition)
			open = open || !ok || s.Offset < end.Offset
		})
		if !open {
			return stable, nil
		}
		time.Sleep(sampleEvery)
	}
}

// eventDecoder decodes events of the table, which all have the schema that it knows.
type eventDecoder struct {
	fingerprint uint64
	b           []byte
	bad         bool
	before      [bench.Columns][]byte
	after       [bench.Columns][]byte
	numbers     []byte
	event       bench.Event
}

func newEventDecoder(t *schema.Table) *eventDecoder {
	return &eventDecoder{fingerprint: schema.AvroFingerprint(schema.AvroValueSchema(t, cleanPrefix))}
}

// decode makes d.event that of a record's value.
func (d *eventDecoder) decode(value []byte) error {
	if len(value) < 10 || binary.LittleEndian.Uint64(value[2:]) != d.fingerprint {
		return errors.New("expected another schema")
	}
	d.b, d.bad, d.numbers = value[10:], false, d.numbers[:0]
	d.event = bench.Event{}
	d.event.Before = d.image(&d.before)
	d.event.After = d.image(&d.after)
	// source: version, connector, name, ts_ms, snapshot, db, sequence, ts_us; op tells nothing more.
	d.text()
	d.text()
	d.text()
	d.long()
	if d.long() == 1 {
		d.text()
	}
	d.text()
	if d.long() == 1 {
		d.text()
	}
	d.event.Timestamp = d.long()
	if d.bad {
		return errors.New("it cannot be decoded")
	}
	return nil
}

func (d *eventDecoder) image(values *[bench.Columns][]byte) bench.Image {
	if d.long() == 0 {
		return nil
	}
	d.event.PK, d.event.CK = d.long(), int32(d.long())
	for i := range values {
		values[i] = nil
		if d.long() == 0 {
			continue
		}
		switch i {
		case 0, 1:
			values[i] = d.text()
		case 3:
			if len(d.b) < 8 {
				d.bad = true
				return nil
			}
			values[i], d.b = d.number(binary.LittleEndian.Uint64(d.b)), d.b[8:]
		default:
			values[i] = d.number(uint64(d.long()))
		}
	}
	return values[:]
}

// number gives the 8 bytes of v, big-endian.
func (d *eventDecoder) number(v uint64) []byte {
	at := len(d.numbers)
	d.numbers = binary.BigEndian.AppendUint64(d.numbers, v)
	return d.numbers[at:]
}

func (d *eventDecoder) long() int64 {
	v, n := binary.Varint(d.b)
	if n <= 0 {
		d.bad = true
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *eventDecoder) text() []byte {
	n := d.long()
	if n < 0 || n > int64(len(d.b)) {
		d.bad = true
		return nil
	}
	text := d.b[:n:n]
	d.b = d.b[n:]
	return text
}
