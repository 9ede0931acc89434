package schema

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/linkedin/goavro/v2"
)

func mustType(t testing.TB, text string, udts ...*Type) *Type {
	t.Helper()
	typ, err := ParseType(text, func(name string) *Type {
		i := slices.IndexFunc(udts, func(u *Type) bool { return u.Name == name })
		if i < 0 {
			return nil
		}
		return udts[i]
	})
	if err != nil {
		t.Fatal(err)
	}
	return typ
}

// placeType is a user type with a name that Avro does not allow.
func placeType(t testing.TB) *Type {
	t.Helper()
	u, err := NewUDT("shop", "place", []string{"street", "Zip Code"}, []*Type{nativeTypes["text"], nativeTypes["int"]})
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// nestedTable has columns of types that others are nested in, in the key too.
func nestedTable(t testing.TB) *Table {
	t.Helper()
	place := placeType(t)
	return newEventTable(t, "nested",
		Column{Name: "id", Kind: PartitionKey, Type: mustType(t, "frozen<place>", place)},
		Column{Name: "at", Kind: Clustering, Type: mustType(t, "frozen<map<int, text>>")},
		Column{Name: "a", Kind: Regular, Type: mustType(t, "frozen<list<int>>")},
		Column{Name: "b", Kind: Regular, Type: mustType(t, "frozen<map<text, frozen<place>>>", place)},
		Column{Name: "c c", Kind: Regular, Type: mustType(t, "frozen<map<uuid, frozen<place>>>", place)},
		Column{Name: "d", Kind: Regular, Type: mustType(t, "tuple<text, tuple<int>, frozen<place>>", place)},
		Column{Name: "e", Kind: Regular, Type: mustType(t, "vector<float, 2>")})
}

func TestAvroSchemasOfNestedTypes(t *testing.T) {
	place := func(namespace string) string {
		return `{"type":"record","name":"` + namespace + `.place","fields":[` +
			`{"name":"street","type":["null",{"type":"string","cql":"text"}],"default":null},` +
			`{"name":"Zip_X20_Code","type":["null",{"type":"int","cql":"int"}],"default":null,"cql.name":"Zip Code"}],"cql":"frozen<place>"}`
	}
	table := nestedTable(t)
	key := `{"name":"id","type":` + place("cdc.shop.nested.id") + `},` +
		`{"name":"at","type":{"type":"array","items":{"type":"record","name":"cdc.shop.nested.at.entry","fields":[` +
		`{"name":"key","type":["null",{"type":"int","cql":"int"}],"default":null},` +
		`{"name":"value","type":["null",{"type":"string","cql":"text"}],"default":null}],"connect.internal.type":"MapEntry"},` +
		`"cql":"frozen<map<int, text>>"}}`
	if got, want := AvroKeySchema(table, "cdc"), `{"type":"record","name":"Key","namespace":"cdc.shop.nested","fields":[`+key+`]}`; got != want {
		t.Errorf("key:\n%s\nexpected\n%s", got, want)
	}
	want := `{"type":"record","name":"Value","fields":[` + key +
		`,{"name":"a","type":["null",{"type":"array","items":["null",{"type":"int","cql":"int"}],"cql":"frozen<list<int>>"}],"default":null}` +
		`,{"name":"b","type":["null",{"type":"map","values":["null",` + place("cdc.shop.nested.b") + `],"cql":"frozen<map<text, frozen<place>>>"}],"default":null}` +
		`,{"name":"c_X20_c","type":["null",{"type":"array","items":{"type":"record","name":"cdc.shop.nested.c_X20_c.entry","fields":[` +
		`{"name":"key","type":["null",{"type":"string","logicalType":"uuid","cql":"uuid"}],"default":null},` +
		`{"name":"value","type":["null",` + place("cdc.shop.nested.c_X20_c.value") + `],"default":null}],"connect.internal.type":"MapEntry"},` +
		`"cql":"frozen<map<uuid, frozen<place>>>"}],"default":null,"cql.name":"c c"}` +
		`,{"name":"d","type":["null",{"type":"record","name":"cdc.shop.nested.d.tuple","fields":[` +
		`{"name":"f0","type":["null",{"type":"string","cql":"text"}],"default":null},` +
		`{"name":"f1","type":["null",{"type":"record","name":"cdc.shop.nested.d.f1.tuple","fields":[` +
		`{"name":"f0","type":["null",{"type":"int","cql":"int"}],"default":null}],"cql":"tuple<int>"}],"default":null},` +
		`{"name":"f2","type":["null",` + place("cdc.shop.nested.d.f2") + `],"default":null}],"cql":"tuple<text, tuple<int>, frozen<place>>"}],"default":null}` +
		`,{"name":"e","type":["null",{"type":"array","items":["null",{"type":"float","cql":"float"}],"cql":"vector<float, 2>"}],"default":null}]}`
	value := AvroValueSchema(table, "cdc")
	if !strings.Contains(value, want) {
		t.Errorf("value:\n%s\nexpected in it\n%s", value, want)
	}
	avroCodecs(t, table)
	if canonical, err := AvroCanonical(value); err != nil || !strings.Contains(canonical, `["null","cdc.shop.nested.Value"]`) {
		t.Errorf("canonical form %s, %v", canonical, err)
	}
}

// A user type that gets a field: what was written before is read with the new schema, and the other way round. goavro
// does not resolve schemas, so this holds the rules that a registry's BACKWARD goes by.
func TestUserTypesGrow(t *testing.T) {
	place := placeType(t)
	grown, err := NewUDT("shop", "place", append(slices.Clone(place.Fields), "country"), append(slices.Clone(place.Elems), nativeTypes["text"]))
	if err != nil {
		t.Fatal(err)
	}
	schema := func(u *Type) string {
		w := avroWriter{}
		w.value(mustType(t, "list<frozen<place>>", u), "n.c")
		return w.String()
	}
	const field = `,{"name":"country","type":["null",{"type":"string","cql":"text"}],"default":null}`
	if before, after := schema(place), schema(grown); strings.Replace(after, field, "", 1) != before {
		t.Errorf("the schema\n%s\nbecame\n%s\nexpected nothing but another field at the end, null by default", before, after)
	}
	// A value from before has no such field, and is written with a null.
	old := appendPart(appendPart(nil, []byte("Hill")), nil)
	b, err := grown.AppendAvro(nil, old)
	if err != nil {
		t.Fatal(err)
	}
	codec, err := goavro.NewCodec(`{"type":"record","name":"r","fields":[{"name":"a","type":["null","string"]},{"name":"b","type":["null","int"]},{"name":"c","type":["null","string"]}]}`)
	if err != nil {
		t.Fatal(err)
	}
	if got := decodeAvro(t, codec, b); len(got) != 3 || got["b"] != nil || got["c"] != nil || !equalAvro(got["a"], "Hill") {
		t.Errorf("%x reads %v", b, got)
	}
}

// randomEventType is any type that a column with events can have. What is within the key of a map, an element of a set or
// a key is no duration.
func randomEventType(t testing.TB, r *rand.Rand, depth int, inKey bool) *Type {
	t.Helper()
	elem := func(inKey bool) *Type { return freeze(randomEventType(t, r, depth-1, inKey)) }
	if depth == 0 || r.IntN(3) == 0 {
		for {
			if name := eventTypes[r.IntN(len(eventTypes))]; name != "duration" || !inKey {
				return nativeTypes[name]
			}
		}
	}
	typ := &Type{Kind: []Kind{KindList, KindSet, KindMap, KindMap, KindTuple, KindUDT, KindVector}[r.IntN(7)]}
	switch typ.Kind {
	case KindList:
		typ.Elems = []*Type{elem(inKey)}
	case KindVector:
		typ.Elems, typ.Dimension, typ.Frozen = []*Type{elem(inKey)}, 1+r.IntN(4), true
	case KindSet:
		typ.Elems = []*Type{elem(true)}
	case KindMap:
		typ.Elems = []*Type{elem(true), elem(inKey)}
		if r.IntN(2) == 0 {
			typ.Elems[0] = nativeTypes[[]string{"text", "ascii"}[r.IntN(2)]]
		}
	case KindTuple, KindUDT:
		for i := range 1 + r.IntN(3) {
			typ.Elems = append(typ.Elems, elem(inKey))
			if typ.Kind == KindUDT {
				typ.Fields = append(typ.Fields, fmt.Sprint("f ", i)[r.IntN(2)*2:]+"x")
			}
		}
		typ.Frozen = typ.Kind == KindTuple
		if typ.Kind == KindUDT {
			typ.Name = []string{"place", "Größe"}[r.IntN(2)]
			for i := range typ.Fields {
				typ.Fields[i] += fmt.Sprint(i)
			}
		}
	}
	return freeze(typ)
}

// randomNestedCase makes a value of any type. Sets and maps are not in order, and can have equal elements, but as keys
// of maps in Avro.
func randomNestedCase(t testing.TB, r *rand.Rand, typ *Type) avroCase {
	t.Helper()
	if typ.Native() {
		return randomEventValue(t, r, typ.CQL())
	}
	// part is a value in another. Null is nil, and so is what Avro has no form for.
	part := func(typ *Type) avroCase {
		c := randomNestedCase(t, r, typ)
		if len(c.cql) == 0 && !typ.emptyInAvro() {
			c.avro = nil
		}
		return c
	}
	n := r.IntN(4)
	c := avroCase{cql: binary.BigEndian.AppendUint32(nil, uint32(n))}
	switch typ.Kind {
	case KindList, KindSet:
		list := []any{}
		for range n {
			e := part(typ.Elems[0])
			c.cql, list = appendPart(c.cql, e.cql), append(list, e.avro)
		}
		c.avro = list
	case KindMap:
		entries, names := []any{}, map[string]any{}
		for i := range n {
			k, v := part(typ.Elems[0]), part(typ.Elems[1])
			if typ.textKeys() {
				k.cql = append(k.cql, byte('a'+i))
				names[string(k.cql)] = v.avro
			}
			c.cql, entries = appendPart(appendPart(c.cql, k.cql), v.cql), append(entries, map[string]any{"key": k.avro, "value": v.avro})
		}
		c.avro = entries
		if typ.textKeys() {
			c.avro = names
		}
	case KindVector:
		c.cql = nil
		list := []any{}
		for range typ.Dimension {
			e := part(typ.Elems[0])
			if fixed := typ.Elems[0].FixedLength(); fixed > 0 {
				for len(e.cql) != fixed {
					e = part(typ.Elems[0])
				}
			} else {
				c.cql = appendVectorLength(c.cql, len(e.cql))
			}
			c.cql, list = append(c.cql, e.cql...), append(list, e.avro)
		}
		c.avro = list
	default:
		c.cql = []byte{}
		fields := map[string]any{}
		present := len(typ.Elems)
		if r.IntN(3) == 0 {
			present = r.IntN(present + 1)
		}
		for i, e := range typ.Elems {
			name := tupleField(i)
			if typ.Kind == KindUDT {
				name = AvroName(typ.Fields[i])
			}
			fields[name] = nil
			switch {
			case i >= present:
			case r.IntN(4) == 0:
				c.cql = appendPart(c.cql, nil)
			default:
				v := part(e)
				c.cql, fields[name] = appendPart(c.cql, v.cql), v.avro
			}
		}
		c.avro = fields
	}
	return c
}

// appendVectorLength writes an unsigned variable-length integer below 2^14.
func appendVectorLength(dst []byte, n int) []byte {
	if n < 0x80 {
		return append(dst, byte(n))
	}
	return append(dst, 0x80|byte(n>>8), byte(n))
}

// equalNested compares what goavro read of a value with what was expected.
func equalNested(typ *Type, got, want any) bool {
	if typ.Native() {
		return equalAvro(got, want)
	}
	// in takes a value out of its union.
	in := func(typ *Type, got, want any) bool {
		branches, ok := got.(map[string]any)
		if !ok || want == nil || len(branches) != 1 {
			return got == nil && want == nil
		}
		for _, v := range branches {
			got = v
		}
		return equalNested(typ, got, want)
	}
	switch want := want.(type) {
	case []any:
		list, ok := got.([]any)
		if !ok || len(list) != len(want) {
			return false
		}
		for i := range list {
			if typ.Kind != KindMap {
				if !in(typ.Elems[0], list[i], want[i]) {
					return false
				}
				continue
			}
			entry, expected := list[i].(map[string]any), want[i].(map[string]any)
			if len(entry) != 2 || !in(typ.Elems[0], entry["key"], expected["key"]) || !in(typ.Elems[1], entry["value"], expected["value"]) {
				return false
			}
		}
		return true
	case map[string]any:
		fields, ok := got.(map[string]any)
		if !ok || len(fields) != len(want) {
			return false
		}
		for name, w := range want {
			elem := typ.Elems[len(typ.Elems)-1] // of a map the value
			for i := range typ.Fields {
				if AvroName(typ.Fields[i]) == name {
					elem = typ.Elems[i]
				}
			}
			if typ.Kind == KindTuple {
				for i := range typ.Elems {
					if tupleField(i) == name {
						elem = typ.Elems[i]
					}
				}
			}
			if v, ok := fields[name]; !ok || !in(elem, v, w) {
				return false
			}
		}
		return true
	}
	return got == nil && want == nil
}

func TestGoavroReadsNestedValues(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	for range 300 {
		typ := randomEventType(t, r, 4, false)
		w := avroWriter{}
		w.value(typ, "n.c")
		codec, err := goavro.NewCodec(w.String())
		if err != nil {
			t.Fatalf("%s: %s: %v", typ.CQL(), w.String(), err)
		}
		for range 20 {
			c := randomNestedCase(t, r, typ)
			if len(c.cql) == 0 && !typ.emptyInAvro() {
				continue
			}
			b, err := typ.AppendAvro([]byte("head"), c.cql)
			if err != nil {
				t.Fatalf("%s %x: %v", typ.CQL(), c.cql, err)
			}
			got, rest, err := codec.NativeFromBinary(b[4:])
			if err != nil || len(rest) > 0 || string(b[:4]) != "head" {
				t.Fatalf("%s %x gave %x, of which goavro reads %v, %v and leaves %x", typ.CQL(), c.cql, b, got, err, rest)
			}
			if !equalNested(typ, got, c.avro) {
				t.Fatalf("%s %x reads %v, expected %v", typ.CQL(), c.cql, got, c.avro)
			}
		}
	}
}

// A key keeps apart what an image may not: it has no replaced text, and no null for an empty value.
func TestKeysWithNestedValues(t *testing.T) {
	place := placeType(t)
	for _, test := range []struct{ typ, value, want string }{
		{"frozen<list<text>>", "00000001 00000001 c0", "UTF-8"},
		{"frozen<map<ascii, int>>", "00000001 00000001 ff 00000000", "UTF-8"},
		{"frozen<set<int>>", "00000001 00000000", "empty int"},
		{"frozen<place>", "", "empty frozen<place>"},
		{"tuple<int>", "", "empty tuple<int>"},
		{"tuple<int, tuple<int>>", "ffffffff 00000000", "empty tuple<int>"},
		{"frozen<set<int>>", "00000000", ""},
		{"tuple<int, int>", "ffffffff 00000004 00000001", ""},
	} {
		typ := mustType(t, test.typ, place)
		table := newEventTable(t, "keys", Column{Name: "id", Kind: PartitionKey, Type: typ}, Column{Name: "v", Kind: Regular, Type: typ})
		e, err := NewAvroEncoder(table)
		if err != nil {
			t.Fatal(err)
		}
		value := avroHex(t, test.value)
		b, err := e.AppendKey([]byte("head"), [][]byte{value}, nil, false)
		if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want) || string(b) != "head") {
			t.Errorf("%s %s: %q, %v, expected an error with %q", test.typ, test.value, b, err, test.want)
		}
		if b, err := typ.appendAvroNullable(nil, value, avroNesting{}); err != nil {
			t.Errorf("%s %s, in an image: %x, %v", test.typ, test.value, b, err)
		}
	}
}

func TestNestedAvroAllocatesNothing(t *testing.T) {
	table := nestedTable(t)
	typ := table.Columns[table.clustering+3].Type // the tuple
	place := appendPart(appendPart(nil, []byte("Hill")), []byte{0, 0, 0, 7})
	value := appendPart(appendPart(appendPart(nil, []byte("text")), appendPart(nil, []byte{0, 0, 0, 1})), place)
	var dst []byte
	allocations := testing.AllocsPerRun(100, func() {
		var err error
		if dst, err = typ.AppendAvro(dst[:0], value); err != nil {
			t.Fatal(err)
		}
	})
	if allocations > 0 {
		t.Errorf("%v allocations", allocations)
	}
}

// Whatever the bytes are, there is an error or a datum that goavro reads to its end; and what Cassandra takes has a datum,
// unless it is empty or too long.
func FuzzAppendAvroNested(f *testing.F) {
	place := placeType(f)
	var types []*Type
	var codecs []*goavro.Codec
	r := rand.New(rand.NewPCG(7, 7))
	for i, text := range []string{
		"frozen<list<int>>", "frozen<set<text>>", "frozen<map<text, int>>", "frozen<map<int, frozen<list<decimal>>>>", "tuple<int, text, tuple<uuid>>",
		"frozen<place>", "vector<float, 2>", "vector<text, 3>", "frozen<list<frozen<place>>>", "frozen<map<ascii, frozen<place>>>", "vector<frozen<set<inet>>, 1>",
	} {
		typ := mustType(f, text, place)
		w := avroWriter{}
		w.value(typ, "n.c")
		codec, err := goavro.NewCodec(w.String())
		if err != nil {
			f.Fatal(err)
		}
		types, codecs = append(types, typ), append(codecs, codec)
		for range 3 {
			f.Add(uint8(i), randomNestedCase(f, r, typ).cql)
		}
	}
	f.Fuzz(func(t *testing.T, which uint8, value []byte) {
		i := int(which) % len(types)
		typ := types[i]
		if len(value) > 10_000 {
			return
		}
		b, err := typ.AppendAvro([]byte{0xaa}, value)
		if err != nil {
			if string(b) != "\xaa" {
				t.Fatalf("%s %x: %v, and dst is %x", typ.CQL(), value, err, b)
			}
			if typ.Validate(value) == nil && len(value) > 0 {
				t.Fatalf("%s %x: %v, and Cassandra takes it", typ.CQL(), value, err)
			}
			return
		}
		got, rest, err := codecs[i].NativeFromBinary(b[1:])
		if err != nil || len(rest) > 0 || b[0] != 0xaa {
			t.Fatalf("%s %x gave %x, of which goavro reads %v, %v and leaves %x", typ.CQL(), value, b, got, err, rest)
		}
	})
}
