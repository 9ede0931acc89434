package schema

import "sort"

// Catalog is an immutable set of tables, as read at one moment. The zero value is empty.
type Catalog struct {
	tables []*Table
	byID   map[UUID]*Table
}

// NewCatalog makes a catalog. Of two tables with one id the later wins.
func NewCatalog(tables []*Table) *Catalog {
	c := &Catalog{byID: make(map[UUID]*Table, len(tables))}
	for _, t := range tables {
		c.byID[t.ID] = t
	}
	for _, t := range c.byID {
		c.tables = append(c.tables, t)
	}
	sort.Slice(c.tables, func(i, j int) bool {
		a, b := c.tables[i], c.tables[j]
		if a.Keyspace != b.Keyspace {
			return a.Keyspace < b.Keyspace
		}
		if a.Name != b.Name {
			return a.Name < b.Name
		}
		return a.ID.String() < b.ID.String()
	})
	return c
}

// ByID finds a table; nil if there is none.
func (c *Catalog) ByID(id UUID) *Table {
	if c == nil {
		return nil
	}
	return c.byID[id]
}

// Tables lists all tables by keyspace and name. The caller must not change it.
func (c *Catalog) Tables() []*Table {
	if c == nil {
		return nil
	}
	return c.tables
}
