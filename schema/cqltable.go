package schema

import (
	"slices"
	"strconv"
)

// defaultGCGraceSeconds is gc_grace_seconds of a table that does not say: ten days. Source: TableParams.
const defaultGCGraceSeconds = 864000

// cqlTable is a table or materialized view as the statements so far define it.
type cqlTable struct {
	cqlName
	line int
	id   UUID
	// columns are in the file's order, key columns among them; of a view they are set by the build.
	columns               []cqlColumn
	partition, clustering []string
	// order is the columns of CLUSTERING ORDER BY, desc which of them are descending.
	order   []string
	desc    map[string]bool
	compact bool
	gcGrace int32
	cdc     bool
	dropped []DroppedColumn

	// Of a view: the table it is made of, and the columns it selects, nil for all of them.
	base     *cqlTable
	selected []string
}

// cqlColumn is a column as a statement defines it.
type cqlColumn struct {
	name   string
	typ    *Type
	static bool
}

func (t *cqlTable) columnIndex(name string) int {
	return slices.IndexFunc(t.columns, func(c cqlColumn) bool { return c.name == name })
}

// add makes a table or view known. A second one of the same name is an error, unless it is IF NOT EXISTS: then the
// first stays.
func (p *cqlParser) add(t *cqlTable, ifNotExists bool) error {
	if first := p.tables[t.cqlName]; first != nil {
		if ifNotExists {
			return nil
		}
		return p.fail(t.line, "table %v is created twice, first at line %d", t.cqlName, first.line)
	}
	p.tables[t.cqlName] = t
	p.order = append(p.order, t)
	return nil
}

// newTable reads IF NOT EXISTS and the name of a table or view.
func (p *cqlParser) newTable() (t *cqlTable, ifNotExists bool, err error) {
	ifNotExists = p.accept("if", "not", "exists")
	t = &cqlTable{line: p.peek().line, gcGrace: defaultGCGraceSeconds}
	t.cqlName, err = p.qualified("the name of a table")
	return t, ifNotExists, err
}

// createTable reads the rest of CREATE TABLE name (column type, ..., PRIMARY KEY (...)) WITH ...
func (p *cqlParser) createTable() error {
	t, ifNotExists, err := p.newTable()
	if err != nil {
		return err
	}
	if err := p.expect("("); err != nil {
		return err
	}
	seen := map[string]bool{}
	for {
		if p.peek().is("primary") && p.peekAt(1).is("key") {
			err = p.primaryKey(t)
		} else {
			err = p.column(t, seen)
		}
		if err != nil {
			return err
		}
		if p.accept(")") {
			break
		}
		if !p.accept(",") {
			return p.unexpected(`"," or ")"`)
		}
	}
	if t.partition == nil {
		return p.fail(t.line, "table %v: expected a PRIMARY KEY, found none", t.cqlName)
	}
	for _, key := range [][]string{t.partition, t.clustering} {
		for _, name := range key {
			if !seen[name] {
				return p.fail(t.line, "table %v: column %s of the PRIMARY KEY is not defined", t.cqlName, QuoteIdentifier(name))
			}
		}
	}
	if err := p.with(t); err != nil {
		return err
	}
	return p.add(t, ifNotExists)
}

// column reads NAME TYPE [STATIC] [MASKED WITH ...] [PRIMARY KEY] up to the comma or parenthesis behind it. seen are the
// names so far.
func (p *cqlParser) column(t *cqlTable, seen map[string]bool) error {
	line := p.peek().line
	c := cqlColumn{}
	var err error
	if c.name, err = p.identifier("the name of a column"); err != nil {
		return err
	}
	if seen[c.name] {
		return p.fail(line, "two columns of table %v are named %s", t.cqlName, QuoteIdentifier(c.name))
	}
	seen[c.name] = true
	if c.typ, err = p.columnType(t.keyspace); err != nil {
		return err
	}
	c.static = p.accept("static")
	t.columns = append(t.columns, c)
	if p.accept("masked", "with") {
		p.skipMask()
	}
	if line := p.peek().line; p.accept("primary", "key") {
		if t.partition != nil {
			return p.fail(line, "table %v has two PRIMARY KEYs", t.cqlName)
		}
		t.partition = []string{c.name}
	}
	if next := p.peek(); !next.is(",") && !next.is(")") && !next.is(";") && next.kind != cqlEnd {
		return p.unexpected(`"," or ")" behind column ` + QuoteIdentifier(c.name))
	}
	return nil
}

// skipMask steps over DEFAULT or FUNCTION(ARGUMENTS) of MASKED WITH.
func (p *cqlParser) skipMask() {
	for depth := 0; ; p.next() {
		switch t := p.peek(); {
		case t.kind == cqlEnd, t.is(";"):
			return
		case depth == 0 && (t.is(",") || t.is(")") || t.is("primary")):
			return
		case t.is("("):
			depth++
		case t.is(")"):
			depth--
		}
	}
}

// primaryKey reads PRIMARY KEY (a, b, ...) or PRIMARY KEY ((a, b), c, ...).
func (p *cqlParser) primaryKey(t *cqlTable) error {
	line := p.peek().line
	if t.partition != nil {
		return p.fail(line, "table %v has two PRIMARY KEYs", t.cqlName)
	}
	if err := p.expect("primary", "key", "("); err != nil {
		return err
	}
	var err error
	if p.accept("(") {
		if t.partition, err = p.names(); err != nil {
			return err
		}
	} else {
		name, err := p.identifier("the name of a column")
		if err != nil {
			return err
		}
		t.partition = []string{name}
	}
	if p.accept(",") {
		if t.clustering, err = p.names(); err != nil {
			return err
		}
	} else if err := p.expect(")"); err != nil {
		return err
	}
	seen := map[string]bool{}
	for _, key := range [][]string{t.partition, t.clustering} {
		for _, name := range key {
			if seen[name] {
				return p.fail(line, "table %v: column %s stands twice in the PRIMARY KEY", t.cqlName, QuoteIdentifier(name))
			}
			seen[name] = true
		}
	}
	return nil
}

// names reads a, b, ...) with at least one name.
func (p *cqlParser) names() ([]string, error) {
	var names []string
	for {
		name, err := p.identifier("the name of a column")
		if err != nil {
			return nil, err
		}
		names = append(names, name)
		if p.accept(")") {
			return names, nil
		}
		if !p.accept(",") {
			return nil, p.unexpected(`"," or ")"`)
		}
	}
}

// clusteringOrder reads (a DESC, b ASC, ...).
func (p *cqlParser) clusteringOrder(t *cqlTable) error {
	if err := p.expect("("); err != nil {
		return err
	}
	t.order, t.desc = nil, map[string]bool{}
	for {
		name, err := p.identifier("the name of a clustering column")
		if err != nil {
			return err
		}
		t.order = append(t.order, name)
		if p.accept("desc") {
			t.desc[name] = true
		} else if !p.accept("asc") {
			return p.unexpected("ASC or DESC")
		}
		if p.accept(")") {
			return nil
		}
		if !p.accept(",") {
			return p.unexpected(`"," or ")"`)
		}
	}
}

// with reads the rest of a statement: nothing, or WITH and what follows.
func (p *cqlParser) with(t *cqlTable) error {
	if p.accept("with") {
		return p.properties(t)
	}
	return p.endStatement()
}

// createView reads the rest of CREATE MATERIALIZED VIEW name AS SELECT columns FROM table WHERE ... PRIMARY KEY (...)
// WITH ...
func (p *cqlParser) createView() error {
	if err := p.expect("view"); err != nil {
		return err
	}
	t, ifNotExists, err := p.newTable()
	if err != nil {
		return err
	}
	if err := p.expect("as", "select"); err != nil {
		return err
	}
	if !p.accept("*") {
		for {
			name, err := p.identifier("the name of a column")
			if err != nil {
				return err
			}
			t.selected = append(t.selected, name)
			if !p.accept(",") {
				break
			}
		}
	}
	if err := p.expect("from"); err != nil {
		return err
	}
	line := p.peek().line
	base, err := p.qualified("the name of a table")
	if err != nil {
		return err
	}
	if t.base = p.tables[base]; t.base == nil || t.base.base != nil {
		return p.fail(line, "materialized view %v: its table %v is not defined before it", t.cqlName, base)
	}
	for !(p.peek().is("primary") && p.peekAt(1).is("key")) {
		if end := p.peek(); end.kind == cqlEnd || end.is(";") {
			return p.unexpected("the PRIMARY KEY of the view")
		}
		p.next()
	}
	if err := p.primaryKey(t); err != nil {
		return err
	}
	if err := p.with(t); err != nil {
		return err
	}
	return p.add(t, ifNotExists)
}

// alterTable reads the rest of ALTER TABLE name ADD, DROP or WITH.
func (p *cqlParser) alterTable() error {
	p.accept("if", "exists")
	line := p.peek().line
	name, err := p.qualified("the name of a table")
	if err != nil {
		return err
	}
	t := p.tables[name]
	if t == nil || t.base != nil {
		return p.fail(line, "ALTER TABLE %v: no table of this name is created before it", name)
	}
	switch {
	case p.accept("with"):
		return p.properties(t)
	case p.accept("add"):
		return p.alterAdd(t)
	case p.accept("drop"):
		return p.alterDrop(t)
	}
	return p.unexpected("ADD, DROP or WITH")
}

// alterAdd reads the rest of ADD column type, ... or ADD (column type, ...).
func (p *cqlParser) alterAdd(t *cqlTable) error {
	p.accept("if", "not", "exists")
	list := p.accept("(")
	seen := make(map[string]bool, len(t.columns))
	for _, c := range t.columns {
		seen[c.name] = true
	}
	for {
		if err := p.column(t, seen); err != nil {
			return err
		}
		if !p.accept(",") {
			break
		}
	}
	if list {
		if err := p.expect(")"); err != nil {
			return err
		}
	}
	return p.endStatement()
}

// alterDrop reads the rest of DROP column, ... USING TIMESTAMP n.
func (p *cqlParser) alterDrop(t *cqlTable) error {
	p.accept("if", "exists")
	line := p.peek().line
	var names []string
	var err error
	if p.accept("(") {
		if names, err = p.names(); err != nil {
			return err
		}
	} else {
		name, err := p.identifier("the name of a column")
		if err != nil {
			return err
		}
		names = []string{name}
	}
	if err := p.expect("using", "timestamp"); err != nil {
		return err
	}
	negative := p.accept("-")
	at, err := strconv.ParseInt(p.peek().text, 10, 64)
	if err != nil {
		return p.unexpected("the time of the drop in microseconds")
	}
	p.next()
	if negative {
		at = -at
	}
	// system_schema keeps whole milliseconds; the node that dropped the column prints more until it restarts.
	at -= at % 1000
	for _, name := range names {
		i := t.columnIndex(name)
		if i < 0 || slices.Contains(t.partition, name) || slices.Contains(t.clustering, name) {
			return p.fail(line, "ALTER TABLE %v DROP %s: no static or regular column of this name is defined before it", t.cqlName, QuoteIdentifier(name))
		}
		c := t.columns[i]
		t.columns = slices.Delete(t.columns, i, i+1)
		d := DroppedColumn{Name: name, Kind: Regular, Type: c.typ, DroppedAt: at}
		if c.static {
			d.Kind = Static
		}
		t.dropped = slices.DeleteFunc(t.dropped, func(d DroppedColumn) bool { return d.Name == name })
		t.dropped = append(t.dropped, d)
	}
	return p.endStatement()
}
