package schema

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// maxTypeDepth bounds the nesting of types that [ParseType] accepts, not counting frozen<>.
const maxTypeDepth = 64

var nativeTypes = map[string]*Type{
	"ascii": {Kind: KindASCII}, "bigint": {Kind: KindBigint}, "blob": {Kind: KindBlob}, "boolean": {Kind: KindBoolean},
	"counter": {Kind: KindCounter}, "date": {Kind: KindDate}, "decimal": {Kind: KindDecimal}, "double": {Kind: KindDouble},
	"duration": {Kind: KindDuration}, "empty": {Kind: KindEmpty}, "float": {Kind: KindFloat}, "inet": {Kind: KindInet},
	"int": {Kind: KindInt}, "smallint": {Kind: KindSmallint}, "text": {Kind: KindText}, "varchar": {Kind: KindText},
	"time": {Kind: KindTime}, "timestamp": {Kind: KindTimestamp}, "timeuuid": {Kind: KindTimeuuid},
	"tinyint": {Kind: KindTinyint}, "uuid": {Kind: KindUUID}, "varint": {Kind: KindVarint},
}

var nativeNames = func() map[Kind]string {
	names := map[Kind]string{}
	for name, t := range nativeTypes {
		if name != "varchar" {
			names[t.Kind] = name
		}
	}
	return names
}()

// Native reports whether the type is one of CQL's native types, which have no elements.
func (t *Type) Native() bool { return t.Kind > KindCustom && t.Kind < KindList }

// CQL is the type as CQL writes it, and as [ParseType] reads it. Tuples and vectors are written without the frozen<>
// that they always are.
func (t *Type) CQL() string {
	var b strings.Builder
	t.writeCQL(&b)
	return b.String()
}

func (t *Type) writeCQL(b *strings.Builder) {
	if name, ok := nativeNames[t.Kind]; ok {
		b.WriteString(name)
		return
	}
	frozen := t.Frozen && t.Kind != KindTuple && t.Kind != KindVector && t.Kind != KindCustom
	if frozen {
		b.WriteString("frozen<")
	}
	switch t.Kind {
	case KindUDT:
		if _, native := nativeTypes[t.Name]; native {
			b.WriteString(`"` + t.Name + `"`)
			break
		}
		b.WriteString(QuoteIdentifier(t.Name))
	case KindCustom:
		b.WriteString("'" + strings.ReplaceAll(t.Name, "'", "''") + "'")
	default:
		b.WriteString(map[Kind]string{KindList: "list<", KindSet: "set<", KindMap: "map<", KindTuple: "tuple<", KindVector: "vector<"}[t.Kind])
		for i, e := range t.Elems {
			if i > 0 {
				b.WriteString(", ")
			}
			e.writeCQL(b)
		}
		if t.Kind == KindVector {
			b.WriteString(", " + strconv.Itoa(t.Dimension))
		}
		b.WriteString(">")
	}
	if frozen {
		b.WriteString(">")
	}
}

// QuoteIdentifier writes a name as CQL needs it: in double quotes unless it is lower case letters, digits and
// underscores.
func QuoteIdentifier(name string) string {
	for i := 0; i < len(name); i++ {
		c := name[i]
		if !(c >= 'a' && c <= 'z' || i > 0 && (c == '_' || c >= '0' && c <= '9')) {
			return `"` + strings.ReplaceAll(name, `"`, `""`) + `"`
		}
	}
	if name == "" {
		return `""`
	}
	return name
}

// UDTs finds a user type by name in a table's keyspace; nil if there is none. The type it gives is not frozen.
type UDTs func(name string) *Type

// ParseType reads a type as CQL and system_schema write it. A type that is nested in another is frozen, whether the
// text says so or not.
func ParseType(text string, udts UDTs) (*Type, error) {
	p := typeParser{text: text, udts: udts}
	t, err := p.parse(0, false)
	if err == nil && p.skip() < len(text) {
		err = fmt.Errorf("unexpected %q behind it", text[p.at:])
	}
	if err != nil {
		const most = 100
		if len(text) > most {
			text = text[:most] + "..."
		}
		return nil, fmt.Errorf("type %q: %w", text, err)
	}
	return t, nil
}

type typeParser struct {
	text string
	at   int
	udts UDTs
}

func (p *typeParser) skip() int {
	for p.at < len(p.text) && strings.IndexByte(" \t\r\n", p.text[p.at]) >= 0 {
		p.at++
	}
	return p.at
}

func (p *typeParser) accept(c byte) bool {
	if p.skip() < len(p.text) && p.text[p.at] == c {
		p.at++
		return true
	}
	return false
}

func (p *typeParser) expect(c byte) error {
	if !p.accept(c) {
		return fmt.Errorf("expected %q at offset %d", c, p.at)
	}
	return nil
}

// word reads an identifier: quoted says that it was in the given quotes.
func (p *typeParser) word() (word string, quote byte, err error) {
	if p.skip() == len(p.text) {
		return "", 0, fmt.Errorf("expected a type at its end")
	}
	if q := p.text[p.at]; q == '"' || q == '\'' {
		var b strings.Builder
		for i := p.at + 1; i < len(p.text); i++ {
			if p.text[i] != q {
				b.WriteByte(p.text[i])
				continue
			}
			if i+1 < len(p.text) && p.text[i+1] == q {
				b.WriteByte(q)
				i++
				continue
			}
			p.at = i + 1
			return b.String(), q, nil
		}
		return "", 0, fmt.Errorf("the quote at offset %d has no end", p.at)
	}
	start := p.at
	for p.at < len(p.text) {
		c := p.text[p.at]
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_') {
			break
		}
		p.at++
	}
	if p.at == start {
		return "", 0, fmt.Errorf("expected a type at offset %d", start)
	}
	return p.text[start:p.at], 0, nil
}

// parse reads a type that is nested depth deep; inFrozen says that it stands right in frozen<>.
func (p *typeParser) parse(depth int, inFrozen bool) (*Type, error) {
	if depth > maxTypeDepth {
		return nil, fmt.Errorf("nested more than %d deep", maxTypeDepth)
	}
	name, quote, err := p.word()
	if err != nil {
		return nil, err
	}
	if quote == '\'' {
		return &Type{Kind: KindCustom, Name: name}, nil
	}
	if quote == 0 {
		name = strings.ToLower(name)
		if p.accept('<') {
			return p.generic(name, depth, inFrozen)
		}
	}
	if p.accept('.') { // keyspace.type
		if name, quote, err = p.word(); err != nil {
			return nil, err
		}
		if quote == 0 {
			name = strings.ToLower(name)
		}
	} else if t := nativeTypes[name]; t != nil && quote == 0 {
		return t, nil
	}
	if p.udts != nil {
		if t := p.udts(name); t != nil {
			return t, nil
		}
	}
	return nil, fmt.Errorf("unknown type %s", QuoteIdentifier(name))
}

// generic reads the rest of name<...>.
func (p *typeParser) generic(name string, depth int, inFrozen bool) (*Type, error) {
	frozen := name == "frozen"
	if !frozen || inFrozen {
		depth++
	}
	var elems []*Type
	dimension := 0
	for first := true; ; first = false {
		if !first {
			if p.accept('>') {
				break
			}
			if err := p.expect(','); err != nil {
				return nil, err
			}
		}
		if name == "vector" && len(elems) == 1 {
			word, _, err := p.word()
			if err != nil {
				return nil, err
			}
			if dimension, err = strconv.Atoi(word); err != nil || dimension < 1 || dimension > math.MaxInt32 {
				return nil, fmt.Errorf("a vector has the dimension %q, expected a number from 1 to %d", word, math.MaxInt32)
			}
			if err := p.expect('>'); err != nil {
				return nil, err
			}
			break
		}
		e, err := p.parse(depth, frozen)
		if err != nil {
			return nil, err
		}
		elems = append(elems, e)
	}
	if frozen {
		if len(elems) != 1 {
			return nil, fmt.Errorf("frozen<> holds %d types, expected 1", len(elems))
		}
		return freeze(elems[0]), nil
	}
	shapes := map[string]struct {
		kind  Kind
		elems int
	}{"list": {KindList, 1}, "set": {KindSet, 1}, "map": {KindMap, 2}, "tuple": {KindTuple, len(elems)}, "vector": {KindVector, 1}}
	shape, ok := shapes[name]
	if !ok {
		return nil, fmt.Errorf("unknown type %s<>", name)
	}
	if name == "vector" && dimension == 0 {
		return nil, fmt.Errorf("a vector has no dimension, expected vector<type, number>")
	}
	if len(elems) != shape.elems {
		return nil, fmt.Errorf("%s<> holds %d types, expected %d", name, len(elems), shape.elems)
	}
	if name == "vector" {
		if n := elems[0].FixedLength(); n > 0 && dimension > math.MaxInt32/n {
			return nil, fmt.Errorf("a vector of %d values of %d bytes each, expected at most %d bytes", dimension, n, math.MaxInt32)
		}
	}
	for i, e := range elems {
		elems[i] = freeze(e)
	}
	return &Type{Kind: shape.kind, Elems: elems, Dimension: dimension, Frozen: shape.kind == KindTuple || shape.kind == KindVector}, nil
}

// freeze gives the frozen form of a type. What is nested in t is frozen already.
func freeze(t *Type) *Type {
	if t.Frozen || t.Native() || t.Kind == KindCustom {
		return t
	}
	frozen := *t
	frozen.Frozen = true
	return &frozen
}

// NewUDT makes a user type, not frozen.
func NewUDT(keyspace, name string, fields []string, types []*Type) (*Type, error) {
	if len(fields) != len(types) {
		return nil, fmt.Errorf("type %s.%s: %d field names for %d field types", keyspace, name, len(fields), len(types))
	}
	t := &Type{Kind: KindUDT, Keyspace: keyspace, Name: name, Fields: append([]string(nil), fields...)}
	for _, e := range types {
		t.Elems = append(t.Elems, freeze(e))
	}
	return t, nil
}
