// Package foldmodel says which events raw records make, from the contract alone: it is what the tests hold the fold to.
//
// A [Model] remembers every write, and merges nothing. What a row is at a moment it finds by looking through all writes
// that it has seen of it and of its partition: a write is there unless a newer deletion covers it, and of the rest the
// one wins that Cassandra's rules say. An event is the difference between what a row was before a record and what it is
// after. That is slow, and shares nothing with package dedup but the rules; it takes the comparators and the
// definitions of package schema, which have tests against Cassandra of their own.
package foldmodel

import (
	"bytes"
	"fmt"
	"maps"
	"slices"

	"cassdelta/commitlog"
	"cassdelta/internal/rawtopic"
	"cassdelta/schema"
)

// Model is all that was seen.
type Model struct {
	tables     map[schema.UUID]*table
	schemas    map[schema.Hash]*schema.Table
	partitions map[string]*partition
	order      []*partition // by first sight
	pasts      map[schema.UUID]*past
	names      map[string]name
	hosts      map[schema.UUID]bool // that have sent something
	watermark  int64                // up to which time has come, in microseconds
	now        int64                // its second
	parsed     map[schema.Hash]*schema.Table
}

// New is a model that has seen nothing.
func New() *Model {
	return &Model{
		tables: map[schema.UUID]*table{}, schemas: map[schema.Hash]*schema.Table{}, partitions: map[string]*partition{},
		pasts: map[schema.UUID]*past{}, names: map[string]name{}, hosts: map[schema.UUID]bool{}, watermark: -1 << 62, now: -1 << 62,
		parsed: map[schema.Hash]*schema.Table{},
	}
}

// Fresh is a model that has seen nothing, and shares with m what costs time and means nothing: definitions that were
// parsed. Only one of them may be in use at a time.
func (m *Model) Fresh() *Model {
	fresh := New()
	fresh.parsed = m.parsed
	return fresh
}

// partition is all that was seen of one partition of a table.
type partition struct {
	table     *table
	key       []byte
	deletions []commitlog.Deletion
	ranges    []rawtopic.Range
	static    *row
	rows      []*row // by first sight
}

// row is all that was seen of one row.
type row struct {
	clustering [][]byte // as first seen
	static     bool
	writes     []write
	// told says that readers know that it does not exist: by its last event, or because all is known of the table.
	told bool
	// presumed says that it is only because all is known of the table: there was no event, nor a deletion by its key.
	presumed bool
}

// write is what one record says of a row, by names.
type write struct {
	liveness commitlog.Liveness
	deletion commitlog.Deletion
	// shadowable says that a newer liveness makes deletion void.
	shadowable bool
	elements   []elementsDeletion
	cells      []cell
}

// elementsDeletion is a deletion of all elements of a column.
type elementsDeletion struct {
	column string
	commitlog.Deletion
}

type cell struct {
	column string
	commitlog.Cell
	// foreseen says that the tombstone was seen which its expiry makes of the cell: that is what it is to other cells, from now
	// on, though it is there until it expires.
	foreseen bool
}

// Apply takes the next record, and returns the events that it makes, in no order: see [Same]. What rec points to may be
// used again afterwards.
func (m *Model) Apply(rec *rawtopic.Record) ([]*Event, error) {
	switch rec.Kind {
	case rawtopic.KindInit, rawtopic.KindHeartbeat, rawtopic.KindAgentJoined, rawtopic.KindAgentRetired:
		return nil, nil
	case rawtopic.KindSchema:
		return m.define(rec.Schema)
	case rawtopic.KindTick:
		return m.tick(rec.Tick.Watermark), nil
	case rawtopic.KindData:
		return m.data(rec.Data)
	case rawtopic.KindTruncate:
		return m.removal(&rec.Truncate.Origin, rec.Truncate.Table, rec.Truncate.Timestamp, "truncate"), nil
	case rawtopic.KindDrop:
		return m.removal(&rec.Drop.Origin, rec.Drop.Table, rec.Drop.Timestamp, "drop"), nil
	}
	return nil, fmt.Errorf("the model knows no records of kind %d", rec.Kind)
}

// partition finds a partition.
func (m *Model) partition(t *table, key []byte) *partition {
	id := string(t.id[:]) + string(key)
	p := m.partitions[id]
	if p == nil {
		p = &partition{table: t, key: bytes.Clone(key), static: &row{static: true}}
		m.partitions[id] = p
		m.order = append(m.order, p)
	}
	return p
}

// row finds a row, nil if none of this clustering was named.
func (p *partition) row(clustering [][]byte) *row {
	for _, r := range p.rows {
		if p.table.compare(r.clustering, clustering) == 0 {
			return r
		}
	}
	return nil
}

func (m *Model) data(d *rawtopic.Data) ([]*Event, error) {
	definition := m.schemas[d.Schema]
	if definition == nil {
		return nil, fmt.Errorf("the definition %v is unknown", d.Schema)
	}
	t := m.tables[definition.ID]
	if t.counters() && !t.past.complete() {
		return nil, nil // their totals are not known
	}
	m.heard(d.Origin.Host)
	if d = m.counting(t, d); d == nil {
		return nil, nil
	}
	p := m.partition(t, d.Key)
	// Only rows that it names may change, unless it deletes others.
	wide := !d.Deletion.IsLive() || len(d.Ranges) > 0
	affected := map[*row]bool{}
	before := map[*row]view{}
	affect := func(r *row) {
		if !affected[r] {
			affected[r] = true
			before[r] = p.view(r, m.now)
		}
	}
	for _, r := range p.rows {
		if wide || slices.ContainsFunc(d.Rows, func(w commitlog.Row) bool { return t.compare(w.Clustering, r.clustering) == 0 }) {
			affect(r)
		}
	}
	if wide || d.Static != nil {
		affect(p.static)
	}

	if !d.Deletion.IsLive() {
		p.deletions = append(p.deletions, d.Deletion)
	}
	for _, g := range d.Ranges {
		g.Start.Prefix, g.End.Prefix = clone(g.Start.Prefix), clone(g.End.Prefix)
		p.ranges = append(p.ranges, g)
	}
	add := func(r *row, written *commitlog.Row) {
		w := t.write(definition, written)
		for i, c := range w.cells {
			if expiring := before[r].foresees(c, m.now); expiring != nil {
				w.cells[i] = *expiring
				w.cells[i].foreseen = true
			}
		}
		r.writes = append(r.writes, w)
	}
	if d.Static != nil {
		add(p.static, d.Static)
	}
	named := func(clustering [][]byte) *row {
		r := p.row(clustering)
		if r == nil {
			r = &row{clustering: clone(clustering), told: t.past.complete(), presumed: t.past.complete()}
			p.rows = append(p.rows, r)
			affected[r] = true
		}
		return r
	}
	deletes := map[*row]commitlog.Deletion{} // what the record deletes by its full key
	for i := range d.Rows {
		r := named(d.Rows[i].Clustering)
		void := d.Rows[i].Shadowable && d.Rows[i].Liveness.Timestamp > d.Rows[i].Deletion.Timestamp
		if !d.Rows[i].Deletion.IsLive() && !void {
			deletes[r] = d.Rows[i].Deletion
		}
		add(r, &d.Rows[i])
	}
	if t.clustering == nil && !d.Deletion.IsLive() { // the one row of the partition
		r := named(nil)
		if by, ok := deletes[r]; !ok || d.Deletion.Timestamp > by.Timestamp {
			deletes[r] = d.Deletion
		}
	}

	var events []*Event
	for _, r := range p.all() {
		if !affected[r] {
			continue
		}
		after := p.view(r, m.now)
		if e := p.event(r, before[r], after); e != nil {
			events = append(events, e)
			r.told, r.presumed = e.Op == 'd', false
			continue
		}
		// A row that is not there is deleted by its key. It may have been there before the capture, or had nothing but a column that
		// was dropped.
		if by, deleted := deletes[r]; deleted && !after.exists() {
			told := r.told && (t.past.complete() || !r.presumed)
			if r.told, r.presumed = true, false; told {
				continue
			}
			events = append(events, &Event{
				Table: t.name, Key: p.key, Clustering: r.clustering, Op: 'd', Before: Image{}, Timestamp: by.Timestamp, Reason: "mutation",
			})
		}
	}
	return events, nil
}

// tick lets time come to a watermark in microseconds. What expires at one second makes one event for each row.
func (m *Model) tick(watermark int64) []*Event {
	m.watermark = max(m.watermark, watermark)
	until := floorSecond(watermark)
	if until <= m.now {
		return nil
	}
	var events []*Event
	for _, p := range m.order {
		for _, r := range p.all() {
			moments := map[int64]bool{} // at which something of the row may expire
			for _, w := range r.writes {
				moments[w.liveness.ExpiresAt] = true
				for _, c := range w.cells {
					moments[c.LocalTime] = true
				}
			}
			for _, now := range slices.Sorted(maps.Keys(moments)) {
				if now <= m.now || now > until {
					continue
				}
				if e := p.event(r, p.view(r, now-1), p.view(r, now)); e != nil {
					events = append(events, e)
					r.told = e.Op == 'd'
				}
			}
		}
	}
	m.now = until
	return events
}

// all are the rows, and the static row.
func (p *partition) all() []*row { return append([]*row{p.static}, p.rows...) }

func floorSecond(microseconds int64) int64 {
	s := microseconds / 1_000_000
	if microseconds%1_000_000 < 0 {
		s--
	}
	return s
}

func clone(values [][]byte) [][]byte {
	var c [][]byte
	for _, v := range values {
		c = append(c, bytes.Clone(v))
	}
	return c
}
