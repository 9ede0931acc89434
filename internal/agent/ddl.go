package agent

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/zap"

	"cassdelta/commitlog"
	"cassdelta/internal/rawtopic"
	"cassdelta/schema"
)

// This file finds in a node's log what happens to tables as a whole, and tells the raw topic at its place:
//
//   - DROP TABLE deletes a row of system_schema.tables, DROP KEYSPACE a partition; ALTER TABLE writes the row anew;
//   - TRUNCATE writes system.local.truncated_at, a little behind the place where it takes effect.
//
// A segment in which there is nothing of a captured table is never handed over by Cassandra, and neither are they
// then. What the log does not show within a time (schemaBounds.slack) of its appearing by CQL
// was in such a segment.

// truncatedSource is a source that knows the node's truncations, as system.local has them.
type truncatedSource interface {
	Truncated(ctx context.Context, host schema.UUID) (map[schema.UUID][]byte, error)
}

// unseen is what CQL has shown and the log has not.
type unseen struct {
	gone, off map[schema.UUID]time.Time // since when
	truncated map[schema.UUID]commitlog.Truncation
	at        map[schema.UUID]time.Time // of truncated
}

func newUnseen() unseen {
	return unseen{map[schema.UUID]time.Time{}, map[schema.UUID]time.Time{}, map[schema.UUID]commitlog.Truncation{}, map[schema.UUID]time.Time{}}
}

// wantedOfSystem says which tables of Cassandra's own are decoded.
func wantedOfSystem(t *schema.Table) bool {
	return t.Keyspace == "system_schema" && t.Name == "tables" || t.Keyspace == "system" && t.Name == "local"
}

// isLocal reports whether a table is system.local.
func (t *tables) isLocal(id schema.UUID) bool {
	table := t.catalog.ByID(id)
	return table != nil && table.Keyspace == "system" && table.Name == "local"
}

// system publishes what a mutation of Cassandra's own tables says of captured ones.
func (p *publisher) system(ctx context.Context, item *commitlog.Item) error {
	m := &p.own
	if err := p.tables.system.Decode(item.Version, item.Payload, item.Position, m); err != nil {
		if p.tables.complain("system: " + err.Error()) {
			p.log.Warn("a change of the schema, or a truncation, cannot be read in the log; what CQL shows of it is told later", zap.Error(err))
		}
		p.ledger.skip(item.Position)
		return nil
	}
	begun, n := false, uint64(0)
	begin := func() uint64 {
		if !begun {
			begun, n = true, p.ledger.begin(item.Position)
		}
		return n
	}
	for i := range m.Updates {
		u := &m.Updates[i]
		var err error
		if u.Table.Name == "local" {
			err = p.local(ctx, item, u, begin)
		} else {
			err = p.altered(ctx, item, u, begin)
		}
		if err != nil {
			return err
		}
	}
	if err := p.tables.history.store(); err != nil {
		return err
	}
	if !begun {
		p.ledger.skip(item.Position)
		return nil
	}
	p.ledger.done(n)
	return nil
}

// altered publishes what an update of system_schema.tables says: its partitions are keyspaces, its rows tables.
func (p *publisher) altered(ctx context.Context, item *commitlog.Item, u *commitlog.Update, begin func() uint64) error {
	keyspace := string(u.Key)
	if !u.Deletion.IsLive() {
		if err := p.dropped(ctx, item.Position, keyspace, "", schema.UUID{}, u.Deletion.Timestamp, begin); err != nil {
			return err
		}
	}
	idColumn, _ := u.Table.ColumnIndex("id")
	cdcColumn, _ := u.Table.ColumnIndex("cdc")
	for _, unfiltered := range u.Unfiltereds {
		row := unfiltered.Row
		if row == nil || len(row.Clustering) != 1 {
			continue
		}
		var id schema.UUID
		var written int64
		var on, off bool
		for _, c := range row.Cells {
			switch {
			case c.Column == idColumn && len(c.Value) == len(id):
				copy(id[:], c.Value)
				written = c.Timestamp
			case c.Column == cdcColumn && !c.Deleted:
				on = len(c.Value) == 1 && c.Value[0] != 0
				off = !on
			}
		}
		// CREATE and ALTER TABLE write the row as a whole, and delete what it was a microsecond before: another table of this
		// name, but not the one that it is of.
		if !row.Deletion.IsLive() {
			if err := p.dropped(ctx, item.Position, keyspace, string(row.Clustering[0]), id, row.Deletion.Timestamp, begin); err != nil {
				return err
			}
		}
		switch {
		case on:
			p.tables.captures(id, written)
		case off && p.tables.history.known[id] != nil:
			begin()
			if err := p.turnedOff(ctx, id, written); err != nil {
				return err
			}
		case off:
			p.tables.leaves(id)
		}
	}
	return nil
}

// leaves takes note that the log has a table with cdc = false that was not captured before: what it gets now is not known if it
// is captured later. What is forgotten of that shows by the time of the DDL, unless the table was captured as soon as created.
func (t *tables) leaves(id schema.UUID) {
	if len(t.uncaptured) >= maxUnknown {
		clear(t.uncaptured)
	}
	t.uncaptured[id] = true
}

// captures takes note that the log has a table with cdc = true, with the time at which that was written.
func (t *tables) captures(id schema.UUID, written int64) {
	born, ok := id.Time()
	created := ok && born > t.history.since && near(written, born) && !t.uncaptured[id]
	if k := t.history.known[id]; k != nil {
		if k.off || created && !k.created {
			k.off, k.created = false, k.created || created
			t.history.dirty = true
		}
	} else if created && len(t.born) < maxUnknown {
		t.born[id] = true
	}
}

// dropped publishes the drop of the tables of a name, or of a keyspace if that is empty, by a DDL of a time; not that of the
// table which has the name from then on, whose id is zero if there is none.
func (p *publisher) dropped(ctx context.Context, at commitlog.Position, keyspace, name string, now schema.UUID, time int64, begin func() uint64) error {
	for _, id := range p.tables.history.order {
		k := p.tables.history.known[id]
		if k.dropped || id == now || k.table.Keyspace != keyspace || name != "" && k.table.Name != name || k.definedAt() > time {
			continue
		}
		begin()
		if err := p.drop(ctx, at, k, time); err != nil {
			return err
		}
	}
	return nil
}

// drop publishes the drop of a table.
func (p *publisher) drop(ctx context.Context, at commitlog.Position, k *knownTable, time int64) error {
	k.dropped, p.tables.history.dirty = true, true
	delete(p.tables.unseen.gone, k.table.ID)
	p.log.Info("a table was dropped", zap.String("table", k.table.FullName()), zap.Stringer("table id", k.table.ID))
	return p.broadcast(ctx, &rawtopic.Record{Kind: rawtopic.KindDrop, Drop: &rawtopic.Drop{
		Origin: rawtopic.Origin{Host: p.c.Host, Position: at}, Table: k.table.ID, Timestamp: time,
	}})
}

// turnedOff publishes that a table has cdc = false: from here on its past is not known.
func (p *publisher) turnedOff(ctx context.Context, id schema.UUID, written int64) error {
	k := p.tables.history.known[id]
	k.off, k.offShown, k.missing, p.tables.history.dirty = true, false, true, true
	delete(p.tables.unseen.off, id)
	spec := *k.table
	spec.CDC, spec.AlteredAt = false, max(written, k.table.AlteredAt)
	t, err := schema.NewTable(spec)
	if err != nil {
		return err
	}
	k.table = t
	p.tables.release(t)
	p.log.Info("a table is not captured any more", zap.String("table", t.FullName()))
	return p.announce(ctx, t)
}

// lost publishes that something of the node's log is: of no table all is known any more.
func (p *publisher) lost(ctx context.Context) error {
	h := p.tables.history
	h.since, h.dirty = time.Now().UnixMicro(), true
	for _, id := range h.order {
		k := h.known[id]
		told := h.complete(id)
		k.missing = true
		if told && !k.dropped {
			if err := p.announce(ctx, k.table); err != nil {
				return err
			}
		}
	}
	return h.store()
}

// local publishes the truncations that an update of system.local has.
func (p *publisher) local(ctx context.Context, item *commitlog.Item, u *commitlog.Update, begin func() uint64) error {
	column, ok := u.Table.ColumnIndex("truncated_at")
	if !ok {
		return nil
	}
	for _, unfiltered := range u.Unfiltereds {
		if unfiltered.Row == nil {
			continue
		}
		for _, c := range unfiltered.Row.Cells {
			var id schema.UUID
			if c.Column != column || c.Deleted || copy(id[:], c.Path) != len(id) || p.tables.history.known[id] == nil {
				continue
			}
			truncation, err := commitlog.ParseTruncation(c.Value)
			if err != nil {
				p.log.Error("a truncation cannot be read", zap.Stringer("table id", id), zap.Error(err))
				continue
			}
			if err := p.truncated(ctx, begin(), id, truncation, item.Position); err != nil {
				return err
			}
		}
	}
	return nil
}

// truncated publishes a truncation, and again what the node wrote between where it took effect and a place up to which
// the log was read: that came out before it.
func (p *publisher) truncated(ctx context.Context, n uint64, id schema.UUID, t commitlog.Truncation, read commitlog.Position) error {
	k := p.tables.history.known[id]
	k.truncated, p.tables.history.dirty = t.Position, true
	delete(p.tables.unseen.truncated, id)
	p.log.Info("a table was truncated", zap.String("table", k.table.FullName()), zap.Time("at", time.UnixMicro(t.Time)))
	err := p.broadcast(ctx, &rawtopic.Record{Kind: rawtopic.KindTruncate, Truncate: &rawtopic.Truncate{
		Origin: rawtopic.Origin{Host: p.c.Host, Position: t.Position}, Table: id, Timestamp: t.Time,
	}})
	if last := p.last[id]; err != nil || last.Compare(t.Position) <= 0 {
		return err
	}
	return p.again(ctx, n, id, t.Position, read)
}

// again publishes what the log has of a table behind one place and up to another, which was read before.
func (p *publisher) again(ctx context.Context, n uint64, id schema.UUID, after, upTo commitlog.Position) error {
	tail, err := commitlog.NewTail(commitlog.TailConfig{
		Dir: p.c.CDCRawDirectory, After: after, Mode: p.c.Mode, Keys: p.c.Keys, Static: p.c.Copy,
		Finished: func(int64) bool { return false },
		Notice:   func(err error) { p.log.Warn(err.Error()) },
	})
	if err != nil {
		return err
	}
	defer tail.Close()
	if _, err := os.Stat(filepath.Join(p.c.CDCRawDirectory, commitlog.SegmentName(p.version, after.Segment))); errors.Is(err, os.ErrNotExist) && after.Segment < upTo.Segment {
		p.metrics.gaps.Inc()
		p.log.Error("a table was truncated in a segment that is not there any more: what the node wrote to it in that segment after that is missing",
			zap.Int64("segment", after.Segment), zap.Stringer("table id", id))
	}
	for {
		item, ok, err := tail.Poll()
		if err != nil {
			return err
		}
		if !ok || item.Segment > upTo.Segment {
			return nil
		}
		if item.Kind != commitlog.Entry || item.Position.Compare(after) <= 0 {
			continue
		}
		if item.Position.Compare(upTo) > 0 {
			return nil
		}
		m := &p.mutation
		if p.tables.decoder.Decode(item.Version, item.Payload, item.Position, m) != nil {
			continue // it is a dead letter already
		}
		for i := range m.Updates {
			if m.Updates[i].Table.ID != id {
				continue
			}
			if err := p.update(ctx, n, &item, &m.Updates[i]); err != nil {
				return err
			}
		}
	}
}

// broadcast writes a record to all partitions, after all before it is acknowledged, and waits until it is.
func (p *publisher) broadcast(ctx context.Context, record *rawtopic.Record) error {
	if err := p.flush(ctx); err != nil {
		return err
	}
	value := rawtopic.Append(nil, record)
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
	return nil
}

// due publishes what CQL has shown and the log can show no more: truncations before the segment that is begun, and what
// was there for slack when the log was read up to a time.
func (p *publisher) due(ctx context.Context, segment int64, seen time.Time) error {
	u := &p.tables.unseen
	if len(u.gone)+len(u.off)+len(u.truncated) == 0 {
		return nil
	}
	read := p.read
	for _, id := range p.tables.history.order {
		k := p.tables.history.known[id]
		if t, ok := u.truncated[id]; ok && (t.Position.Segment < segment || seen.Sub(u.at[id]) > p.tables.bounds.slack) {
			n := p.ledger.begin(read)
			if err := p.truncated(ctx, n, id, t, read); err != nil {
				return err
			}
			p.ledger.done(n)
		}
		if since, ok := u.off[id]; ok && seen.Sub(since) > p.tables.bounds.slack {
			if err := p.turnedOff(ctx, id, 0); err != nil {
				return err
			}
		}
		if since, ok := u.gone[id]; ok && seen.Sub(since) > p.tables.bounds.slack {
			if err := p.drop(ctx, read, k, since.UnixMicro()); err != nil {
				return err
			}
		}
	}
	return p.tables.history.store()
}
