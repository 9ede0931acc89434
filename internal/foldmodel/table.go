package foldmodel

import (
	"bytes"
	"fmt"
	"slices"

	"cassdelta/commitlog"
	"cassdelta/internal/rawtopic"
	"cassdelta/schema"
)

// table is what all definitions of a table say together.
type table struct {
	id          schema.UUID
	name        string // keyspace.table
	definitions []*schema.Table
	clustering  []schema.Column // nil if there is none
	// columns are those that exist, dropped the times in microseconds at which a column was dropped.
	columns map[string]schema.Column
	dropped map[string]int64
	past    *past
}

// define takes a definition.
func (m *Model) define(s *rawtopic.Schema) ([]*Event, error) {
	parsed := m.parsed[s.Hash]
	if parsed == nil {
		var err error
		if parsed, err = schema.ParseDefinition(bytes.Clone(s.Definition)); err != nil {
			return nil, err
		}
		m.parsed[s.Hash] = parsed
	}
	copied := *parsed
	definition := &copied
	definition.AlteredAt = s.AlteredAt
	t := m.tables[definition.ID]
	if t == nil {
		t = &table{id: definition.ID, name: definition.FullName(), clustering: definition.ClusteringColumns(), past: m.past(definition.ID)}
		m.tables[t.id] = t
		if len(t.clustering) == 0 {
			t.clustering = nil
		}
	}
	events := m.named(definition, s.AlteredAt)
	created := s.Created && definition.CDC
	t.past.created, t.past.missing = t.past.created || created, t.past.missing || !created
	m.heard(s.Host)
	if created && len(t.past.truncations) > 0 && t.past.nodes[s.Host] == nil {
		t.past.nodes[s.Host] = &node{} // it has read all, so it will tell of all of them
	}
	if known := m.schemas[s.Hash]; known != nil && known.AlteredAt >= s.AlteredAt {
		return events, nil
	}
	m.schemas[s.Hash] = definition
	t.definitions = slices.DeleteFunc(t.definitions, func(d *schema.Table) bool { return d.Hash() == s.Hash })
	t.definitions = append(t.definitions, definition)
	t.join()
	return events, nil
}

// newest is the definition of the latest DDL.
func (t *table) newest() *schema.Table {
	return slices.MaxFunc(t.definitions, func(a, b *schema.Table) int {
		if a.AlteredAt != b.AlteredAt {
			return int(a.AlteredAt - b.AlteredAt)
		}
		x, y := a.Hash(), b.Hash()
		return bytes.Compare(x[:], y[:])
	})
}

// counters reports whether it is a table of counters.
func (t *table) counters() bool {
	for _, c := range t.columns {
		if c.Type.Kind == schema.KindCounter {
			return true
		}
	}
	return false
}

// join finds the columns: those of the newest definition, and those that only others have, unless they were dropped.
func (t *table) join() {
	t.columns, t.dropped = map[string]schema.Column{}, map[string]int64{}
	newest := t.newest()
	for _, d := range t.definitions {
		for _, c := range d.Dropped {
			if at, ok := t.dropped[c.Name]; !ok || c.DroppedAt > at {
				t.dropped[c.Name] = c.DroppedAt
			}
		}
	}
	for _, d := range t.definitions {
		for _, c := range d.Columns {
			if _, dropped := t.dropped[c.Name]; d != newest && dropped {
				continue
			}
			if old, ok := t.columns[c.Name]; !ok || d == newest || longer(c.Type, old.Type) {
				t.columns[c.Name] = c
			}
		}
	}
	for name, c := range t.columns {
		for _, d := range t.definitions {
			// A user type keeps the fields that it ever had.
			if i, ok := d.ColumnIndex(name); ok && longer(d.Columns[i].Type, c.Type) {
				t.columns[name] = d.Columns[i]
			}
		}
	}
}

func longer(a, b *schema.Type) bool {
	return a.Kind == schema.KindUDT && b.Kind == schema.KindUDT && len(a.Elems) > len(b.Elems)
}

// gone reports whether what was written to a column at a time does not exist any more, since the column was dropped.
func (t *table) gone(column string, kind schema.ColumnKind, timestamp int64) bool {
	c, ok := t.columns[column]
	at, dropped := t.dropped[column]
	return !ok || c.Kind != kind || dropped && timestamp <= at
}

// compare orders clusterings as far as both go.
func (t *table) compare(a, b [][]byte) int {
	for i := range min(len(a), len(b)) {
		order := t.clustering[i].Type.Compare(a[i], b[i])
		if t.clustering[i].Desc {
			order = -order
		}
		if order != 0 {
			return order
		}
	}
	return 0
}

// holds reports whether a range holds a row.
func (t *table) holds(g *rawtopic.Range, clustering [][]byte) bool {
	a, b := t.compare(clustering, g.Start.Prefix), t.compare(clustering, g.End.Prefix)
	return (a > 0 || a == 0 && (g.Start.Inclusive || len(g.Start.Prefix) == 0)) &&
		(b < 0 || b == 0 && (g.End.Inclusive || len(g.End.Prefix) == 0))
}

// write copies what a record says of a row, with the names of columns.
func (t *table) write(definition *schema.Table, r *commitlog.Row) write {
	name := func(i int) string {
		if n := len(definition.Columns); i >= n {
			return definition.Dropped[i-n].Name
		}
		return definition.Columns[i].Name
	}
	w := write{liveness: r.Liveness, deletion: r.Deletion, shadowable: r.Shadowable}
	for _, d := range r.ComplexDeletions {
		w.elements = append(w.elements, elementsDeletion{name(d.Column), d.Deletion})
	}
	for _, c := range r.Cells {
		c.Path, c.Value = bytes.Clone(c.Path), bytes.Clone(c.Value)
		w.cells = append(w.cells, cell{column: name(c.Column), Cell: c})
	}
	return w
}

// samePlace reports whether two cells are of one column, and one element of it.
func (t *table) samePlace(a, b *cell) bool {
	if a.column != b.column {
		return false
	}
	if a.Path == nil || b.Path == nil {
		return a.Path == nil && b.Path == nil
	}
	return t.columns[a.column].Type.ComparePaths(a.Path, b.Path) == 0
}

// value puts the value of a column together that has a cell for each element.
func value(typ *schema.Type, cells []cell) []byte {
	slices.SortFunc(cells, func(a, b cell) int { return typ.ComparePaths(a.Path, b.Path) })
	var out []byte
	number := func(n int) { out = append(out, byte(n>>24), byte(n>>16), byte(n>>8), byte(n)) }
	part := func(v []byte) {
		if v == nil {
			number(-1)
			return
		}
		number(len(v))
		out = append(out, v...)
	}
	switch typ.Kind {
	case schema.KindUDT:
		fields := make([][]byte, len(typ.Elems))
		for _, c := range cells {
			fields[int(c.Path[0])<<8|int(c.Path[1])] = c.Value
		}
		for _, f := range fields {
			part(f)
		}
		return out
	case schema.KindList, schema.KindSet, schema.KindMap:
		number(len(cells))
		for _, c := range cells {
			if typ.Kind != schema.KindList {
				part(c.Path)
			}
			if typ.Kind != schema.KindSet {
				part(c.Value)
			}
		}
		return out
	}
	panic(fmt.Sprintf("a %s has no elements", typ.CQL()))
}
