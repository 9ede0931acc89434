package schema

import (
	"errors"
	"fmt"
	"strings"
)

// CQLSchema is what a CQL file says of tables.
type CQLSchema struct {
	// Keyspaces are the names of the keyspaces that the file creates, in its order.
	Keyspaces []string
	// Tables are the tables and materialized views that have an ID in the file, in its order. They are as the file
	// leaves them, with every ALTER TABLE in it.
	Tables []*Table

	missing []error
}

// Catalog is the catalog of the tables.
func (s *CQLSchema) Catalog() *Catalog { return NewCatalog(s.Tables) }

// MissingIDs is an error that names the tables without an ID and where they stand, nil if there are none. Such a table
// is not in Tables: a commit log names tables by id only, and a new table gets a new id.
func (s *CQLSchema) MissingIDs() error { return errors.Join(s.missing...) }

// ParseCQL reads a CQL file: what DESCRIBE KEYSPACE x WITH INTERNALS prints on Cassandra 4.0 to 5.0, and other files
// that define tables. name is the file's name for error messages, which give name:line.
//
// It reads CREATE KEYSPACE, TYPE, TABLE and MATERIALIZED VIEW, USE, and ALTER TABLE with ADD, DROP ... USING TIMESTAMP
// and WITH. It refuses other statements that change types, tables or views. All others are skipped.
func ParseCQL(name, text string) (*CQLSchema, error) {
	tokens, err := lexCQL(name, text)
	if err != nil {
		return nil, err
	}
	p := cqlParser{
		name: name, tokens: tokens,
		tables: map[cqlName]*cqlTable{}, types: map[cqlName]*Type{},
	}
	for p.peek().kind != cqlEnd {
		if err := p.statement(); err != nil {
			return nil, err
		}
	}
	return p.build()
}

// cqlName is the name of a table or type in a keyspace.
type cqlName struct{ keyspace, name string }

func (n cqlName) String() string { return QuoteIdentifier(n.keyspace) + "." + QuoteIdentifier(n.name) }

// cqlParser reads statements. Tables are built when all are read, since ALTER TABLE changes them and views are made of
// other tables.
type cqlParser struct {
	name   string
	tokens []cqlToken // the last one is the end
	at     int

	keyspace  string // of USE
	keyspaces []string
	types     map[cqlName]*Type
	tables    map[cqlName]*cqlTable
	order     []*cqlTable
}

func (p *cqlParser) peek() cqlToken { return p.peekAt(0) }

func (p *cqlParser) peekAt(n int) cqlToken { return p.tokens[min(p.at+n, len(p.tokens)-1)] }

func (p *cqlParser) next() cqlToken {
	t := p.peek()
	if p.at < len(p.tokens)-1 {
		p.at++
	}
	return t
}

// accept steps over these keywords or signs if they come next, all or none.
func (p *cqlParser) accept(words ...string) bool {
	for i, w := range words {
		if !p.peekAt(i).is(w) {
			return false
		}
	}
	p.at += len(words)
	return true
}

func (p *cqlParser) expect(words ...string) error {
	for _, w := range words {
		if !p.accept(w) {
			return p.unexpected(strings.ToUpper(w))
		}
	}
	return nil
}

// fail is an error at a line of the file.
func (p *cqlParser) fail(line int, format string, args ...any) error {
	return fmt.Errorf("%s:%d: %w", p.name, line, fmt.Errorf(format, args...))
}

// unexpected is the error that something else comes next than what was expected.
func (p *cqlParser) unexpected(expected string) error {
	t := p.peek()
	return p.fail(t.line, "expected %s, found %v", expected, t)
}

// identifier reads a name. what says whose, for the error.
func (p *cqlParser) identifier(what string) (string, error) {
	t := p.peek()
	if t.kind == cqlWord && (t.text[0] < '0' || t.text[0] > '9') || t.kind == cqlQuoted && t.text != "" {
		p.next()
		return t.text, nil
	}
	return "", p.unexpected(what)
}

// qualified reads the name of a table or type, with its keyspace or in that of USE.
func (p *cqlParser) qualified(what string) (cqlName, error) {
	line := p.peek().line
	first, err := p.identifier(what)
	if err != nil {
		return cqlName{}, err
	}
	if p.accept(".") {
		second, err := p.identifier(what)
		return cqlName{first, second}, err
	}
	if p.keyspace == "" {
		return cqlName{}, p.fail(line, "expected keyspace.name, found %s and no USE before it", QuoteIdentifier(first))
	}
	return cqlName{p.keyspace, first}, nil
}

// endStatement steps over the end of a statement.
func (p *cqlParser) endStatement() error {
	if p.peek().kind == cqlEnd {
		return nil
	}
	return p.expect(";")
}

// skipStatement steps over the rest of a statement.
func (p *cqlParser) skipStatement() error {
	for p.peek().kind != cqlEnd {
		if p.next().is(";") {
			break
		}
	}
	return nil
}

// statement reads one statement.
func (p *cqlParser) statement() error {
	first := p.next()
	if first.is(";") {
		return nil
	}
	keyword := ""
	if first.kind == cqlWord {
		keyword = first.text
	}
	switch keyword {
	case "create":
		return p.create()
	case "alter":
		if p.accept("table") {
			return p.alterTable()
		}
		if p.peek().is("type") || p.peek().is("materialized") {
			return p.refuse(first)
		}
		return p.skipStatement()
	case "drop":
		for _, what := range []string{"table", "columnfamily", "type", "keyspace", "schema", "materialized"} {
			if p.peek().is(what) {
				return p.refuse(first)
			}
		}
		return p.skipStatement()
	case "use":
		var err error
		if p.keyspace, err = p.identifier("the name of a keyspace"); err != nil {
			return err
		}
		return p.endStatement()
	case "add", "apply", "begin", "comment", "consistency", "delete", "desc", "describe", "grant", "insert", "list", "revoke", "security",
		"select", "truncate", "update":
		return p.skipStatement()
	}
	return p.fail(first.line, "expected a CQL statement such as CREATE TABLE, found %v", first)
}

// refuse is the error that a statement changes what the file defined in a way that is not read.
func (p *cqlParser) refuse(first cqlToken) error {
	return p.fail(first.line, "expected definitions only, found %s %s: take what DESCRIBE KEYSPACE ... WITH INTERNALS prints",
		strings.ToUpper(first.text), strings.ToUpper(p.peek().text))
}

func (p *cqlParser) create() error {
	switch {
	case p.accept("keyspace"), p.accept("schema"):
		p.accept("if", "not", "exists")
		name, err := p.identifier("the name of a keyspace")
		if err != nil {
			return err
		}
		p.keyspaces = append(p.keyspaces, name)
		return p.skipStatement()
	case p.accept("type"):
		return p.createType()
	case p.accept("table"), p.accept("columnfamily"):
		return p.createTable()
	case p.accept("materialized"):
		return p.createView()
	}
	return p.skipStatement()
}

// createType reads the rest of CREATE TYPE name (field type, ...).
func (p *cqlParser) createType() error {
	exists := p.accept("if", "not", "exists")
	line := p.peek().line
	name, err := p.qualified("the name of a type")
	if err != nil {
		return err
	}
	if err := p.expect("("); err != nil {
		return err
	}
	var fields []string
	var types []*Type
	seen := map[string]bool{}
	for {
		line := p.peek().line
		field, err := p.identifier("the name of a field")
		if err != nil {
			return err
		}
		if seen[field] {
			return p.fail(line, "two fields of type %v are named %s", name, QuoteIdentifier(field))
		}
		seen[field] = true
		t, err := p.columnType(name.keyspace)
		if err != nil {
			return err
		}
		fields, types = append(fields, field), append(types, t)
		if p.accept(")") {
			break
		}
		if !p.accept(",") {
			return p.unexpected(`"," or ")"`)
		}
	}
	if p.types[name] != nil {
		if exists {
			return p.endStatement()
		}
		return p.fail(line, "type %v is created twice", name)
	}
	t, err := NewUDT(name.keyspace, name.name, fields, types)
	if err != nil {
		return p.fail(line, "%w", err)
	}
	p.types[name] = t
	return p.endStatement()
}

// columnType reads a type.
func (p *cqlParser) columnType(keyspace string) (*Type, error) {
	first := p.peek()
	if first.kind != cqlWord && first.kind != cqlQuoted && first.kind != cqlString {
		return nil, p.unexpected("a type")
	}
	var text strings.Builder
	take := func() {
		text.WriteString(p.next().raw)
	}
	take()
	if p.peek().is(".") {
		take()
		if k := p.peek().kind; k != cqlWord && k != cqlQuoted {
			return nil, p.unexpected("the name of a type")
		}
		take()
	}
	if p.peek().is("<") {
		for depth := 0; ; {
			switch t := p.peek(); {
			case t.kind == cqlEnd, t.is(";"):
				return nil, p.unexpected(`">"`)
			case t.is("<"):
				depth++
			case t.is(">"):
				depth--
			}
			if p.peek().kind == cqlWord {
				text.WriteByte(' ')
			}
			take()
			if depth == 0 {
				break
			}
		}
	}
	t, err := ParseType(text.String(), func(name string) *Type { return p.types[cqlName{keyspace, name}] })
	if err != nil {
		return nil, p.fail(first.line, "%w", err)
	}
	return t, nil
}
