package schema

import (
	"fmt"
	"slices"
	"strconv"
)

// build makes the schema of all that was read.
func (p *cqlParser) build() (*CQLSchema, error) {
	s := &CQLSchema{Keyspaces: p.keyspaces}
	byID := map[UUID]*cqlTable{}
	for _, t := range p.order {
		spec, err := t.spec()
		if err != nil {
			return nil, p.fail(t.line, "table %v: %w", t.cqlName, err)
		}
		if t.id.IsZero() {
			s.missing = append(s.missing, p.fail(t.line,
				"table %v: expected WITH ID = ..., found none: take the file from DESCRIBE KEYSPACE %s WITH INTERNALS", t.cqlName, QuoteIdentifier(t.keyspace)))
			continue
		}
		if other := byID[t.id]; other != nil {
			return nil, p.fail(t.line, "table %v has the ID %v, which table %v at line %d has too", t.cqlName, t.id, other.cqlName, other.line)
		}
		byID[t.id] = t
		table, err := NewTable(spec)
		if err != nil {
			return nil, p.fail(t.line, "%w", err)
		}
		s.Tables = append(s.Tables, table)
	}
	return s, nil
}

// spec is the table for NewTable.
func (t *cqlTable) spec() (Table, error) {
	columns := t.columns
	if t.base != nil {
		var err error
		if columns, err = t.viewColumns(); err != nil {
			return Table{}, err
		}
	}
	spec := Table{
		Keyspace: t.keyspace, Name: t.name, ID: t.id, GCGraceSeconds: t.gcGrace, CDC: t.cdc, View: t.base != nil,
		Dropped: t.dropped,
	}
	for i, name := range t.order {
		if i >= len(t.clustering) || t.clustering[i] != name {
			// A compact table without clustering has a hidden clustering column, which DESCRIBE names here.
			if t.compact && len(t.clustering) == 0 {
				break
			}
			return Table{}, fmt.Errorf("CLUSTERING ORDER BY has %s as column %d, expected the clustering columns in their order", QuoteIdentifier(name), i+1)
		}
	}
	partition, clustering := positions(t.partition), positions(t.clustering)
	counter := false
	for _, c := range columns {
		column := Column{Name: c.name, Type: c.typ, Kind: Regular}
		if c.static {
			column.Kind = Static
		}
		counter = counter || c.typ.Kind == KindCounter
		if i, ok := partition[c.name]; ok {
			column.Kind, column.Position = PartitionKey, i
		} else if i, ok := clustering[c.name]; ok {
			column.Kind, column.Position, column.Desc = Clustering, i, t.desc[c.name]
		}
		if column.Kind < Static && c.static {
			return Table{}, fmt.Errorf("column %s is static and part of the PRIMARY KEY", QuoteIdentifier(c.name))
		}
		spec.Columns = append(spec.Columns, column)
	}
	if t.compact {
		t.addHidden(&spec, counter)
	} else {
		spec.Flags = append(spec.Flags, "compound")
	}
	if counter {
		spec.Flags = append(spec.Flags, "counter")
	}
	return spec, nil
}

func positions(names []string) map[string]int {
	m := make(map[string]int, len(names))
	for i, name := range names {
		m[name] = i
	}
	return m
}

// viewColumns are the columns of a view: those it selects, with the types of its table. The key is among them.
func (t *cqlTable) viewColumns() ([]cqlColumn, error) {
	columns := t.base.columns
	if t.selected != nil {
		columns = nil
		for _, name := range t.selected {
			i := t.base.columnIndex(name)
			if i < 0 {
				return nil, fmt.Errorf("column %s is not one of %v", QuoteIdentifier(name), t.base.cqlName)
			}
			columns = append(columns, t.base.columns[i])
		}
	}
	for _, name := range slices.Concat(t.partition, t.clustering) {
		if !slices.ContainsFunc(columns, func(c cqlColumn) bool { return c.name == name }) {
			return nil, fmt.Errorf("column %s of the PRIMARY KEY is not selected", QuoteIdentifier(name))
		}
	}
	return columns, nil
}

// addHidden gives a table with COMPACT STORAGE the flags and the columns that CQL does not show. Without a clustering its
// regular columns are static in truth, and it has a clustering and a value of its own; with one it has a regular column,
// of no value if none was defined. Source: CreateTableStatement.fixupCompactTable.
func (t *cqlTable) addHidden(spec *Table, counter bool) {
	used := make(map[string]bool, len(spec.Columns))
	regular := false
	for i := range spec.Columns {
		c := &spec.Columns[i]
		used[c.Name] = true
		if c.Kind == Regular && len(t.clustering) == 0 {
			c.Kind = Static
		}
		regular = regular || c.Kind == Regular
	}
	value := func(typ *Type) {
		name := "value"
		for i := 1; used[name]; i++ {
			name = "value" + strconv.Itoa(i)
		}
		spec.Columns = append(spec.Columns, Column{Name: name, Kind: Regular, Type: typ})
	}
	switch {
	case len(t.clustering) > 1:
		spec.Flags = append(spec.Flags, "compound", "dense")
	case len(t.clustering) == 1:
		spec.Flags = append(spec.Flags, "dense")
	default:
		name := "column1"
		for i := 2; used[name]; i++ {
			name = "column" + strconv.Itoa(i)
		}
		used[name] = true
		spec.Columns = append(spec.Columns, Column{Name: name, Kind: Clustering, Type: nativeTypes["text"]})
		if counter {
			value(nativeTypes["counter"])
		} else {
			value(nativeTypes["blob"])
		}
		return
	}
	if !regular {
		value(nativeTypes["empty"])
	}
}
