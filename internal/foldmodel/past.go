package foldmodel

import (
	"slices"

	"cassdelta/commitlog"
	"cassdelta/internal/rawtopic"
	"cassdelta/schema"
)

// This file has what happens to tables as a whole: see docs/merge.md.

// past is what became of a table.
type past struct {
	// created says that an agent has read the table's creation, missing that another has not.
	created, missing bool
	// truncations are the times of its truncations and drops, in the order in which they became known.
	truncations []int64
	// nodes are those that were heard before the last truncation, have told of one, or have read the table's creation.
	nodes map[schema.UUID]*node
	// dropped says that it was, at droppedAt at the latest.
	dropped   bool
	droppedAt int64
}

// node is where a node is among a table's truncations.
type node struct {
	passed int                // that many of them it has told of
	at     commitlog.Position // of the last one in its log
	time   int64              // of that by its own clock
}

// name is the newest table that has a name.
type name struct {
	id        schema.UUID
	alteredAt int64
}

// spread is how far apart in microseconds the nodes' times of one truncation may be.
const spread = 60_000_000

// complete says that all that was ever written to the table is known.
func (p *past) complete() bool { return p.created && !p.missing }

func (m *Model) past(id schema.UUID) *past {
	p := m.pasts[id]
	if p == nil {
		p = &past{nodes: map[schema.UUID]*node{}}
		m.pasts[id] = p
	}
	return p
}

// heard takes note of a node.
func (m *Model) heard(host schema.UUID) {
	if !host.IsZero() {
		m.hosts[host] = true
	}
}

// removal takes what a node tells of a truncation or a drop.
func (m *Model) removal(o *rawtopic.Origin, id schema.UUID, at int64, reason string) []*Event {
	p := m.past(id)
	n := p.nodes[o.Host]
	if n == nil {
		n = &node{}
	}
	if n.passed > 0 && o.Position.Compare(n.at) <= 0 {
		return nil // an agent that was started again
	}
	m.heard(o.Host)
	var events []*Event
	known := slices.IndexFunc(p.truncations[n.passed:], func(t int64) bool { return at >= t-spread && at <= t+spread })
	switch {
	case known >= 0:
		n.passed += known + 1
	case n.passed == len(p.truncations) || at > slices.Max(p.truncations):
		events = m.remove(id, at, reason)
		p.truncations = append(p.truncations, at)
		for host := range m.hosts {
			if p.nodes[host] == nil {
				p.nodes[host] = &node{}
			}
		}
		n.passed = len(p.truncations)
	}
	n.at, n.time = o.Position, at
	p.nodes[o.Host] = n
	if reason == "drop" {
		p.drop(at)
		if t := m.tables[id]; t != nil && t.newest().AlteredAt <= at { // it is not there any more, so neither are its rows
			events = append(events, m.remove(id, at, reason)...)
		}
	}
	return events
}

func (p *past) drop(at int64) {
	if !p.dropped || at > p.droppedAt {
		p.dropped, p.droppedAt = true, at
	}
}

// remove forgets all that was seen of a table.
func (m *Model) remove(id schema.UUID, at int64, reason string) []*Event {
	var events []*Event
	var left []*partition
	for _, p := range m.order {
		if p.table.id != id {
			left = append(left, p)
			continue
		}
		delete(m.partitions, string(id[:])+string(p.key))
		nothing := view{table: p.table, now: m.now, liveness: commitlog.Liveness{Timestamp: commitlog.NoTimestamp}}
		for _, r := range p.all() {
			if e := p.event(r, p.view(r, m.now), nothing); e != nil {
				e.Timestamp, e.Reason = at, reason
				events = append(events, e)
			}
		}
	}
	m.order = left
	return events
}

// named finds out which of the tables of a name is the newest. The others are dropped.
func (m *Model) named(t *schema.Table, alteredAt int64) []*Event {
	now := name{t.ID, alteredAt}
	known, ok := m.names[t.FullName()]
	switch {
	case !ok:
	case known.id == now.id:
		now.alteredAt = max(now.alteredAt, known.alteredAt)
	case known.newer(now):
		return m.superseded(now, known)
	default:
		m.names[t.FullName()] = now
		return m.superseded(known, now)
	}
	m.names[t.FullName()] = now
	return nil
}

// newer goes by the times in the ids, or else by those of the definitions.
func (n name) newer(o name) bool {
	a, ok := n.id.Time()
	b, also := o.id.Time()
	if ok && also && a != b {
		return a > b
	}
	return n.alteredAt > o.alteredAt
}

func (m *Model) superseded(old, by name) []*Event {
	p := m.past(old.id)
	born, ok := by.id.Time()
	if !ok {
		born = by.alteredAt
	}
	var events []*Event
	if !p.dropped || old.alteredAt > p.droppedAt {
		events = m.remove(old.id, born, "drop")
	}
	p.drop(max(born, old.alteredAt))
	return events
}

// counting is what counts of an update, nil if nothing does.
func (m *Model) counting(t *table, d *rawtopic.Data) *rawtopic.Data {
	p := t.past
	if p.dropped && t.newest().AlteredAt <= p.droppedAt {
		return nil
	}
	if len(p.truncations) == 0 {
		return d
	}
	last := slices.Max(p.truncations)
	n := p.nodes[d.Origin.Host]
	switch {
	case n == nil && d.Origin.Position.Segment*1000 > last+spread: // Cassandra was started on it after that: it was not there, or its own is in an older segment
		return d
	case n == nil: // first heard of after all of them: it may have its own of the last one still to tell
		return after(d, last+spread)
	case n.passed > 0 && d.Origin.Position.Compare(n.at) <= 0:
		return nil
	case n.passed == len(p.truncations):
		return d
	case m.watermark < last+spread && !p.doubtful(n):
		return nil // the node is before the last one
	}
	return after(d, last)
}

// doubtful says that the node's last truncation is nearer to the latest of all than to the one that it was taken for, and those between.
func (p *past) doubtful(n *node) bool {
	if n.passed == 0 {
		return false
	}
	away := func(t int64) int64 { return max(t-n.time, n.time-t) }
	others, latest := p.truncations[n.passed-1:len(p.truncations)-1], p.truncations[len(p.truncations)-1]
	return !slices.ContainsFunc(others, func(t int64) bool { return away(t) <= away(latest) })
}

// after is what an update has that was written after a time, nil if it has nothing.
func after(d *rawtopic.Data, time int64) *rawtopic.Data {
	left := &rawtopic.Data{Origin: d.Origin, Schema: d.Schema, Key: d.Key, Deletion: commitlog.LiveDeletion}
	something := false
	deletion := func(e commitlog.Deletion) commitlog.Deletion {
		if e.Timestamp <= time {
			return commitlog.LiveDeletion
		}
		something = true
		return e
	}
	row := func(r commitlog.Row) *commitlog.Row {
		outside := something
		something = false
		kept := &commitlog.Row{Clustering: r.Clustering, Liveness: r.Liveness, Deletion: deletion(r.Deletion)}
		if r.Liveness.Timestamp <= time {
			kept.Liveness = commitlog.Liveness{Timestamp: commitlog.NoTimestamp, ExpiresAt: commitlog.NoDeletionTime}
		}
		for _, c := range r.Cells {
			if c.Timestamp > time {
				kept.Cells = append(kept.Cells, c)
			}
		}
		for _, c := range r.ComplexDeletions {
			if c.Timestamp > time {
				kept.ComplexDeletions = append(kept.ComplexDeletions, c)
			}
		}
		if !something && kept.Liveness.Timestamp == commitlog.NoTimestamp && len(kept.Cells)+len(kept.ComplexDeletions) == 0 {
			kept = nil
		}
		something = outside || kept != nil
		return kept
	}
	left.Deletion = deletion(d.Deletion)
	if d.Static != nil {
		left.Static = row(*d.Static)
	}
	for _, r := range d.Rows {
		if kept := row(r); kept != nil {
			left.Rows = append(left.Rows, *kept)
		}
	}
	for _, g := range d.Ranges {
		if g.Deletion = deletion(g.Deletion); !g.Deletion.IsLive() {
			left.Ranges = append(left.Ranges, g)
		}
	}
	if !something {
		return nil
	}
	return left
}
