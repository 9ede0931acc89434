package differential

import (
	"fmt"

	"cassdelta/schema"
)

// natives are the native types, but for counter, which tables of its own have.
var natives = []schema.Kind{
	schema.KindASCII, schema.KindBigint, schema.KindBlob, schema.KindBoolean, schema.KindDate, schema.KindDecimal,
	schema.KindDouble, schema.KindDuration, schema.KindFloat, schema.KindInet, schema.KindInt, schema.KindSmallint,
	schema.KindText, schema.KindTime, schema.KindTimestamp, schema.KindTimeuuid, schema.KindTinyint, schema.KindUUID,
	schema.KindVarint,
}

// customs are types that CQL names by their class only: one with values of a fixed length, and two without.
var customs = []string{
	marshal + "LexicalUUIDType",
	marshal + "CompositeType(" + marshal + "UTF8Type," + marshal + "Int32Type)",
	marshal + "DynamicCompositeType(a=>" + marshal + "BytesType)",
}

const marshal = "org.apache.cassandra.db.marshal."

// place is where a type stands, which limits what it may be.
type place int

const (
	// inKey is the partition key, the clustering, an element of a set and the key of a map: Cassandra takes no
	// duration there.
	inKey place = iota
	// inValue is within another type, or in frozen<>.
	inValue
	// inColumn is a static or regular column, which may be multi-cell.
	inColumn
)

// maxDepth bounds the nesting of types.
const maxDepth = 3

// native draws a native type. Each is drawn about as often as the others, so that a schema of some size has them all.
func (g *generator) native(p place) *schema.Type {
	for {
		if len(g.deck) == 0 {
			g.deck = append(g.deck, natives...)
			g.rng.Shuffle(len(g.deck), func(i, j int) { g.deck[i], g.deck[j] = g.deck[j], g.deck[i] })
		}
		kind := g.deck[len(g.deck)-1]
		g.deck = g.deck[:len(g.deck)-1]
		if kind != schema.KindDuration || p != inKey {
			return &schema.Type{Kind: kind}
		}
	}
}

// columnType draws the type of a column: native ones in about half of all cases.
func (g *generator) columnType(p place) *schema.Type {
	if g.chance(0.5) {
		return g.native(p)
	}
	return g.nested(p, 0)
}

// typ draws a type within another.
func (g *generator) typ(p place, depth int) *schema.Type {
	if depth >= maxDepth || g.chance(0.6) {
		return g.native(p)
	}
	return g.nested(p, depth)
}

// nested draws a type that holds others.
func (g *generator) nested(p place, depth int) *schema.Type {
	t := &schema.Type{Frozen: p != inColumn || g.chance(0.3)}
	within := min(p, inValue)
	kinds := []schema.Kind{schema.KindList, schema.KindSet, schema.KindMap, schema.KindTuple, schema.KindUDT}
	if g.few == 0 { // of those that are known by their class only there are no events
		kinds = append(kinds, schema.KindCustom)
	}
	if g.vectors {
		kinds = append(kinds, schema.KindVector)
	}
	t.Kind = pick(g, kinds)
	switch t.Kind {
	case schema.KindList:
		t.Elems = []*schema.Type{g.typ(within, depth+1)}
	case schema.KindSet:
		t.Elems = []*schema.Type{g.typ(inKey, depth+1)}
	case schema.KindMap:
		t.Elems = []*schema.Type{g.typ(inKey, depth+1), g.typ(within, depth+1)}
	case schema.KindTuple:
		t.Frozen = true
		for range 1 + g.rng.IntN(4) {
			t.Elems = append(t.Elems, g.typ(within, depth+1))
		}
	case schema.KindVector:
		t.Frozen = true
		t.Elems = []*schema.Type{g.typ(within, depth+1)}
		t.Dimension = 1 + g.rng.IntN(5)
	case schema.KindCustom:
		return &schema.Type{Kind: schema.KindCustom, Name: pick(g, customs)}
	case schema.KindUDT:
		udt := *pick(g, g.udts)
		if g.grows != nil && p != inKey && g.chance(0.5) {
			udt = *g.grows
		}
		udt.Frozen = t.Frozen
		return &udt
	}
	return t
}

// makeUserTypes draws the user types of the keyspace. Their fields are fit for keys; a later one may have an earlier one
// as a field.
func (g *generator) makeUserTypes() {
	for i, name := range []string{"small", "Quoted", "deep"} {
		t := &schema.Type{Kind: schema.KindUDT, Keyspace: g.keyspace, Name: name}
		for f := range 2 + g.rng.IntN(3) {
			t.Fields = append(t.Fields, fmt.Sprintf("Field %d", f))
			if i == 0 {
				t.Elems = append(t.Elems, g.native(inKey))
			} else {
				t.Elems = append(t.Elems, g.typ(inKey, 1))
			}
		}
		g.udts = append(g.udts, t)
	}
}

// createType is the CQL of a user type.
func createType(t *schema.Type) string {
	s := fmt.Sprintf("CREATE TYPE %s.%s (", quote(t.Keyspace), quote(t.Name))
	for i, field := range t.Fields {
		if i > 0 {
			s += ", "
		}
		s += quote(field) + " " + t.Elems[i].CQL()
	}
	return s + ")"
}
