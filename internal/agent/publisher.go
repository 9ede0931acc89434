package agent

import (
	"context"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

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
	// looked is when the schema was last read for want of anything else to do.
	looked time.Time
	// stopped says that records fail because the agent stops, which is no failure.
	stopped atomic.Bool

	// announced holds, for each definition in use, with what the raw topic has it.
	announced map[schema.Hash]announcement
	segment   int64 // of the last item
	// version is that of its segment, read its position, and last that of each table's last update.
	version  commitlog.Version
	read     commitlog.Position
	last     map[schema.UUID]commitlog.Position
	own      commitlog.Mutation // of Cassandra's own tables
	mutation commitlog.Mutation
	data     rawtopic.Data
	record   rawtopic.Record
	idle     sync.Pool
}

func newPublisher(c Config, client *kgo.Client, l *ledger, t *tables, m *metrics, log *zap.Logger, fail func(error)) *publisher {
	p := &publisher{c: c, client: client, ledger: l, tables: t, metrics: m, log: log, fail: fail, announced: map[schema.Hash]announcement{}, last: map[schema.UUID]commitlog.Position{}, looked: time.Now()}
	p.idle.New = func() any {
		o := &outgoing{p: p}
		o.promise = o.acknowledged
		return o
	}
	return p
}

// announcement is what the raw topic has with a definition: the time of the DDL, and whether the table's creation was captured.
type announcement struct {
	alteredAt int64
	created   bool
}

// item publishes what an item of the tail holds. The error is that of ctx, or final for the agent.
func (p *publisher) item(ctx context.Context, item *commitlog.Item) error {
	if item.Segment != p.segment {
		p.segment, p.version = item.Segment, item.Version
		p.tables.expire()
	}
	defer func() { p.read = item.Position }()
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
		return p.lost(ctx)
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
	if err := p.lost(ctx); err != nil {
		return err
	}
	p.ledger.end(s, item.Position, endDamaged)
	return nil
}

// entry publishes the updates of a mutation that are wanted.
func (p *publisher) entry(ctx context.Context, item *commitlog.Item) error {
	// A payload that is too short for a table id begins with none, and is for the decoder to complain about.
	first, _ := commitlog.FirstTable(item.Payload)
	if p.tables.isDDL(first) || p.tables.isLocal(first) {
		return p.system(ctx, item)
	}
	if err := p.freshen(ctx); err != nil {
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
	p.leaveOut(m)
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

// freshen reads the schema again if it may have changed.
func (p *publisher) freshen(ctx context.Context) error {
	if err := p.tables.freshen(ctx); err != nil {
		return err
	}
	if err := p.tables.history.store(); err != nil {
		return err
	}
	return p.due(ctx, p.segment, time.Time{})
}

// caughtUp publishes what the log does not show, when there is nothing more to read in it, and all was read up to a time.
func (p *publisher) caughtUp(ctx context.Context, seen time.Time) error {
	if now := time.Now(); now.Sub(p.looked) >= p.tables.bounds.look {
		p.looked = now
		p.tables.expire()
		if err := p.freshen(ctx); err != nil {
			return err
		}
	}
	return p.due(ctx, 0, seen)
}

// ended publishes what the log does not show, when nothing will ever come behind what was read.
func (p *publisher) ended(ctx context.Context) error {
	return p.due(ctx, math.MaxInt64, time.Now().Add(2*p.tables.bounds.slack))
}

// leaveOut takes the updates of tables that are not supported out of a mutation, and counts them. One that consists of them
// has no place in the ledger: what is in flight is bounded by its records, and it has none.
func (p *publisher) leaveOut(m *commitlog.Mutation) {
	m.Updates = slices.DeleteFunc(m.Updates, func(u commitlog.Update) bool {
		info := p.tables.infos[u.Table.ID]
		if info.unsupported == "" {
			return false
		}
		info.left.Inc()
		return true
	})
}

// update publishes one update.
func (p *publisher) update(ctx context.Context, n uint64, item *commitlog.Item, u *commitlog.Update) error {
	info := p.tables.infos[u.Table.ID]
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
	p.last[u.Table.ID] = item.Position
	p.record = rawtopic.Record{Kind: rawtopic.KindData, Data: &p.data}
	o := p.take(n)
	o.value = rawtopic.Append(o.value[:0], &p.record)
	if len(o.value) <= p.c.MaxRecordBytes {
		o.info = info
		return p.send(ctx, o, p.c.RawTopic, partition)
	}
	parts := rawtopic.Split(o.value, origin, p.c.MaxRecordBytes) // which point into the value: o is not used again
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
	return nil
}

// announce writes a definition to all partitions before its first use, and again if a later DDL came back to it. It waits
// until that is acknowledged, so that no failure can leave data in front of its definition.
func (p *publisher) announce(ctx context.Context, t *schema.Table) error {
	hash := t.Hash()
	now := announcement{t.AlteredAt, p.tables.history.complete(t.ID)}
	if said, ok := p.announced[hash]; ok && said == now {
		return nil
	}
	err := p.broadcast(ctx, &rawtopic.Record{Kind: rawtopic.KindSchema, Schema: &rawtopic.Schema{
		Hash: hash, Definition: t.Definition(), AlteredAt: t.AlteredAt, Host: p.c.Host, Created: now.created,
	}})
	if err != nil {
		return err
	}
	p.announced[hash] = now
	return nil
}
