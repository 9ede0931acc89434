package schema

import (
	"strconv"
	"strings"
)

// properties reads NAME = VALUE AND ..., CLUSTERING ORDER BY and COMPACT STORAGE, up to the end of the statement.
func (p *cqlParser) properties(t *cqlTable) error {
	for {
		var err error
		switch {
		case p.accept("compact", "storage"):
			t.compact = true
		case p.accept("clustering", "order", "by"):
			err = p.clusteringOrder(t)
		default:
			err = p.property(t)
		}
		if err != nil {
			return err
		}
		if !p.accept("and") {
			if p.peek().kind == cqlEnd || p.accept(";") {
				return nil
			}
			return p.unexpected(`AND or ";"`)
		}
	}
}

// property reads NAME = VALUE.
func (p *cqlParser) property(t *cqlTable) error {
	name, err := p.identifier("a table option")
	if err != nil {
		return err
	}
	if err := p.expect("="); err != nil {
		return err
	}
	value := p.peek()
	switch strings.ToLower(name) {
	case "id":
		if value.kind != cqlUUID && value.kind != cqlString {
			return p.unexpected("the table's id, a UUID")
		}
		if t.id, err = ParseUUID(value.text); err != nil {
			return p.fail(value.line, "table id: %w", err)
		}
	case "gc_grace_seconds":
		n, err := strconv.ParseInt(value.text, 10, 32)
		if err != nil || n < 0 {
			return p.unexpected("gc_grace_seconds, a number from 0 to 2147483647")
		}
		t.gcGrace = int32(n)
	case "cdc":
		switch strings.ToLower(value.text) { // as PropertyDefinitions.parseBoolean
		case "true", "1", "yes":
			t.cdc = true
		case "false", "0", "no":
			t.cdc = false
		default:
			return p.unexpected("cdc, true or false")
		}
	}
	return p.skipValue()
}

// skipValue steps over the value of an option: a map, or one token behind an optional sign.
func (p *cqlParser) skipValue() error {
	if p.accept("{") {
		for depth := 1; depth > 0; {
			switch t := p.next(); {
			case t.kind == cqlEnd, t.is(";"):
				return p.fail(t.line, "expected \"}\", found %v", t)
			case t.is("{"):
				depth++
			case t.is("}"):
				depth--
			}
		}
		return nil
	}
	if !p.accept("-") {
		p.accept("+")
	}
	if t := p.peek(); t.kind == cqlEnd || t.kind == cqlSign {
		return p.unexpected("the value of the option")
	}
	p.next()
	return nil
}
