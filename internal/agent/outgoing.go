package agent

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/zap"
)

// outgoing is a record on its way. It is used again after it was acknowledged.
type outgoing struct {
	p       *publisher
	promise func(*kgo.Record, error) // acknowledged, bound once
	record  kgo.Record
	value   []byte
	entry   uint64
	size    int
	// info is set on the record that completes an update.
	info *tableInfo
}

// keptValue is the capacity in bytes above which the memory of a value is not used again.
const keptValue = 64 << 10

func (p *publisher) take(entry uint64) *outgoing {
	o := p.idle.Get().(*outgoing)
	o.entry = entry
	return o
}

// send produces a record, after waiting for room.
func (p *publisher) send(ctx context.Context, o *outgoing, topic string, partition int32, headers ...kgo.RecordHeader) error {
	o.size = len(o.value)
	if err := p.ledger.acquire(ctx, o.entry, o.size); err != nil {
		return err
	}
	o.record = kgo.Record{Topic: topic, Partition: partition, Value: o.value, Headers: headers}
	// Not ctx: what is in flight when the agent stops is waited for.
	p.client.Produce(context.Background(), &o.record, o.promise)
	return nil
}

// acknowledged is called by the client.
func (o *outgoing) acknowledged(r *kgo.Record, err error) {
	p := o.p
	if err != nil {
		if !p.stopped.Load() {
			p.fail(produceError(r.Topic, o.size, err))
		}
		return
	}
	p.metrics.bytes.Add(float64(o.size))
	if o.info != nil {
		o.info.published.Inc()
		if p.c.Observe != nil {
			p.c.Observe(1)
		}
	}
	entry, size := o.entry, o.size
	o.info, o.record = nil, kgo.Record{}
	if cap(o.value) > keptValue {
		o.value = nil
	}
	p.idle.Put(o)
	p.ledger.release(entry, size)
}

func produceError(topic string, size int, err error) error {
	if errors.Is(err, kerr.MessageTooLarge) {
		return fmt.Errorf("produce to topic %s: %w: a record of %d bytes; raise max.message.bytes of the topic to 1048588", topic, err, size)
	}
	return fmt.Errorf("produce to topic %s: %w", topic, err)
}

// flush waits until all is acknowledged. The error is that of ctx: what fails ends ctx.
func (p *publisher) flush(ctx context.Context) error {
	p.client.Flush(ctx)
	return context.Cause(ctx)
}

// stop waits for what is in flight, at most so long, and gives up the rest. No promise is called after it.
func (p *publisher) stop(within time.Duration) {
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	if p.client.Flush(ctx) == nil {
		return
	}
	p.stopped.Store(true)
	records, _, _ := p.ledger.flight()
	p.log.Warn("Kafka did not acknowledge in time; these records are sent again after the next start", zap.Int("records", records))
	p.client.UnsafeAbortBufferedRecords()
	p.client.Flush(context.Background()) // returns once the promises were called, which the abort does at once
}
