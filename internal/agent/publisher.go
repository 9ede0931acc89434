package agent

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/zap"

	"cassdelta/commitlog"
	"cassdelta/internal/rawtopic"
	"cassdelta/schema"
)

// publisher makes records of what the tail finds and produces them. Its methods are for the reader's goroutine.
type publisher struct {
	c       Config
	client  *kgo.Client
	ledger  *ledger
	tables  *tables
	metrics *metrics
	log     *zap.Logger
	// fail ends the agent.
	fail func(error)
	// stopped says that records fail because the agent stops, which is no failure.
	stopped atomic.Bool

	// announced holds, for each definition in use, the DDL time with which the raw topic has it.
	announced map[schema.Hash]int64
	segment   int64 // of the last item
	mutation  commitlog.Mutation
	data      rawtopic.Data
	record    rawtopic.Record
	whole     []byte // the encoding of a record that is cut into parts
	idle      sync.Pool
}

func newPublisher(c Config, client *kgo.Client, l *ledger, t *tables, m *metrics, log *zap.Logger, fail func(error)) *publisher {
	p := &publisher{c: c, client: client, ledger: l, tables: t, metrics: m, log: log, fail: fail, announced: map[schema.Hash]int64{}}
	p.idle.New = func() any {
		o := &outgoing{p: p}
		o.promise = o.acknowledged
		return o
	}
	return p
}

// item publishes what an item of the tail holds. The error is that of ctx, or final for the agent.
func (p *publisher) item(ctx context.Context, item *commitlog.Item) error {
	if item.Segment != p.segment {
		p.segment = item.Segment
		p.tables.expire()
	}
	switch item.Kind {
	case commitlog.Entry:
		p.metrics.mutations.Inc()
		return p.entry(ctx, item)
	case commitlog.BadEntry:
		n := p.ledger.begin(item.Position)
		if err := p.deadLetter(ctx, n, item, reasonDamaged, schema.UUID{}, item.Err); err != nil {
			return err
		}
		p.ledger.done(n)
	case commitlog.SegmentEnd:
		return p.segmentEnd(ctx, item)
	case commitlog.Gap:
		p.metrics.gaps.Inc()
		p.log.Error("changes of this node are missing: "+item.Err.Error(), zap.Int64("segment", item.Segment))
	}
	return nil
}

// segmentEnd takes note that a segment was read. One that could be read in part only stays where it is.
func (p *publisher) segmentEnd(ctx context.Context, item *commitlog.Item) error {
	s := segment{version: item.Version, id: item.Segment}
	if item.Err == nil {
		if !p.ledger.isDamaged(s.id) {
			p.ledger.end(s, item.Position, endFinished)
		}
		return nil
	}
	p.metrics.damaged.Inc()
	p.log.Error("a segment is damaged: what is in it behind the damage is not published, and the file is left in place", zap.Error(item.Err))
	n := p.ledger.begin(item.Position)
	if err := p.deadLetter(ctx, n, item, reasonDamagedSegment, schema.UUID{}, item.Err); err != nil {
		return err
	}
	p.ledger.done(n)
	p.ledger.end(s, item.Position, endDamaged)
	return nil
}

// entry publishes the updates of a mutation that are wanted.
func (p *publisher) entry(ctx context.Context, item *commitlog.Item) error {
	// A payload that is too short for a table id begins with none, and is for the decoder to complain about.
	first, _ := commitlog.FirstTable(item.Payload)
	if p.tables.isDDL(first) {
		p.ledger.skip(item.Position)
		return nil
	}
	if err := p.tables.freshen(ctx); err != nil {
		return err
	}
	if p.tables.passes(first) {
		p.ledger.skip(item.Position)
		return nil
	}
	m := &p.mutation
	err := p.tables.decode(ctx, item.Version, item.Payload, item.Position, m)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err == nil && len(m.Updates) == 0 {
		p.ledger.skip(item.Position)
		return nil
	}
	n := p.ledger.begin(item.Position)
	if err != nil {
		if err := p.undecodable(ctx, n, item, err); err != nil {
			return err
		}
	}
	for i := range m.Updates {
		if err := p.update(ctx, n, item, &m.Updates[i]); err != nil {
			return err
		}
	}
	p.ledger.done(n)
	return nil
}

// undecodable sets a mutation aside that could be decoded in part only, and adds to it what is found behind the update
// that failed.
func (p *publisher) undecodable(ctx context.Context, n uint64, item *commitlog.Item, failure error) error {
	var table *commitlog.UnknownTableError
	var column *commitlog.UnknownColumnError
	var decode *commitlog.DecodeError
	reason, id, after := reasonUndecodable, schema.UUID{}, -1
	switch {
	case errors.As(failure, &table):
		reason, id, after = reasonUnknownTable, table.ID, table.Offset
		p.metrics.unknown.Inc()
	case errors.As(failure, &column):
		reason, after = reasonUnknownColumn, column.Offset
	case errors.As(failure, &decode):
		after = decode.Offset
	}
	p.tables.decoder.Resync(item.Version, item.Payload, after, &p.mutation)
	if reason == reasonUnknownTable && p.c.Static {
		if p.tables.complain(id.String()) {
			p.log.Info("leaving out the mutations of a table that is not in the schema file", zap.Stringer("table id", id))
		}
		return nil
	}
	return p.deadLetter(ctx, n, item, reason, id, failure)
}

// update publishes one update.
func (p *publisher) update(ctx context.Context, n uint64, item *commitlog.Item, u *commitlog.Update) error {
	info := p.tables.infos[u.Table.ID]
	if info.unsupported != "" {
		info.left.Inc()
		return nil
	}
	if u.Suspects > 0 {
		p.metrics.suspects.Add(float64(u.Suspects))
	}
	origin := rawtopic.Origin{Host: p.c.Host, Position: item.Position, Update: int32(u.Index)}
	if err := rawtopic.FromUpdate(u, origin, &p.data); err != nil {
		return p.deadLetter(ctx, n, item, reasonUndecodable, u.Table.ID, err)
	}
	if err := p.announce(ctx, u.Table); err != nil {
		return err
	}
	partition := rawtopic.Partition(schema.Token(u.Key), p.c.RawPartitions)
	p.record = rawtopic.Record{Kind: rawtopic.KindData, Data: &p.data}
	o := p.take(n)
	o.value = rawtopic.Append(o.value[:0], &p.record)
	if len(o.value) <= p.c.MaxRecordBytes {
		o.info = info
		return p.send(ctx, o, p.c.RawTopic, partition)
	}
	p.whole, o.value = o.value, nil
	p.idle.Put(o)
	parts := rawtopic.Split(p.whole, origin, p.c.MaxRecordBytes)
	for i := range parts {
		o := p.take(n)
		p.record = rawtopic.Record{Kind: rawtopic.KindPart, Part: &parts[i]}
		o.value = rawtopic.Append(o.value[:0], &p.record)
		if i == len(parts)-1 {
			o.info = info
		}
		if err := p.send(ctx, o, p.c.RawTopic, partition); err != nil {
			return err
		}
	}
	p.whole = nil
	return nil
}

// announce writes a definition to all partitions before its first use, and again if a later DDL came back to it. It waits
// until that is acknowledged, so that no failure can leave data in front of its definition.
func (p *publisher) announce(ctx context.Context, t *schema.Table) error {
	hash := t.Hash()
	if at, ok := p.announced[hash]; ok && at == t.AlteredAt {
		return nil
	}
	value := rawtopic.Append(nil, &rawtopic.Record{Kind: rawtopic.KindSchema, Schema: &rawtopic.Schema{
		Hash: hash, Definition: t.Definition(), AlteredAt: t.AlteredAt,
	}})
	records := make([]*kgo.Record, p.c.RawPartitions)
	for i := range records {
		records[i] = &kgo.Record{Topic: p.c.RawTopic, Partition: int32(i), Value: value}
	}
	if err := p.client.ProduceSync(ctx, records...).FirstErr(); err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return produceError(p.c.RawTopic, len(value), err)
	}
	p.announced[hash] = t.AlteredAt
	return nil
}

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

// Why something is a dead letter; the label of a metric.
const (
	reasonUnknownTable   = "unknown-table"
	reasonUnknownColumn  = "unknown-column"
	reasonUndecodable    = "undecodable"
	reasonDamaged        = "damaged-entry"
	reasonDamagedSegment = "damaged-segment"
)

// deadLetter writes the payload of an item to the dead-letter topic, in several records if it is too long for one.
func (p *publisher) deadLetter(ctx context.Context, n uint64, item *commitlog.Item, reason string, table schema.UUID, failure error) error {
	p.metrics.deadLetters.WithLabelValues(reason).Inc()
	if p.tables.complain(reason + table.String()) {
		p.log.Error("written to the dead-letter topic; more of the kind are only counted", zap.String("reason", reason), zap.Error(failure))
	}
	headers := []kgo.RecordHeader{
		{Key: "cassdelta.error", Value: []byte(failure.Error())},
		{Key: "cassdelta.reason", Value: []byte(reason)},
		{Key: "cassdelta.host", Value: []byte(p.c.Host.String())},
		{Key: "cassdelta.segment", Value: strconv.AppendInt(nil, item.Segment, 10)},
		{Key: "cassdelta.segment-version", Value: strconv.AppendInt(nil, int64(item.Version), 10)},
		{Key: "cassdelta.position", Value: strconv.AppendInt(nil, item.Position.Offset, 10)},
	}
	if !table.IsZero() {
		headers = append(headers, kgo.RecordHeader{Key: "cassdelta.table-id", Value: []byte(table.String())})
	}
	parts := max(1, (len(item.Payload)+p.c.MaxRecordBytes-1)/p.c.MaxRecordBytes)
	for i := range parts {
		from := i * p.c.MaxRecordBytes
		o := p.take(n)
		o.value = append(o.value[:0], item.Payload[from:min(len(item.Payload), from+p.c.MaxRecordBytes)]...)
		h := headers[:len(headers):len(headers)]
		if parts > 1 {
			h = append(h, kgo.RecordHeader{Key: "cassdelta.part", Value: fmt.Appendf(nil, "%d/%d", i+1, parts)})
		}
		if err := p.send(ctx, o, p.c.DeadLetterTopic, 0, h...); err != nil {
			return err
		}
	}
	return nil
}
