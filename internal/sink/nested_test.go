package sink

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"cassdelta/schema"
)

const nestedCQL = `
CREATE TYPE shop.place (street text, "Zip Code" int, tags frozen<set<text>>);
CREATE TYPE shop.person (name text, home frozen<place>);
CREATE TABLE shop.nested (
  id frozen<person>, at frozen<map<text, int>>, "n o" frozen<list<int>>, plain int,
  l frozen<list<frozen<place>>>, s frozen<set<decimal>>, m frozen<map<text, frozen<map<int, duration>>>>, u frozen<map<uuid, frozen<person>>>,
  t tuple<int, text, tuple<blob>>, p frozen<person>, f vector<float, 3>, v vector<frozen<list<varint>>, 2>, c frozen<map<ascii, tuple<int, int>>>,
  PRIMARY KEY (id, at, "n o")
) WITH ID = 3d070af0-e7b3-11f1-b54e-310e9af6e4cf AND cdc = true;`

// randomNested makes a value of any type, of which nothing is lost in Avro: with all fields of tuples and user types, keys
// of maps in order, and nothing empty but text.
func randomNested(t testing.TB, r *rand.Rand, typ *schema.Type) []byte {
	t.Helper()
	if typ.Native() {
		for {
			if v := randomValue(t, r, typ.CQL()); len(v) > 0 || typ.Kind == schema.KindText {
				return v
			}
		}
	}
	part := func(dst, v []byte) []byte {
		return append(binary.BigEndian.AppendUint32(dst, uint32(len(v))), v...)
	}
	n := r.IntN(4)
	value := binary.BigEndian.AppendUint32(nil, uint32(n))
	switch typ.Kind {
	case schema.KindList, schema.KindSet:
		for range n {
			value = part(value, randomNested(t, r, typ.Elems[0]))
		}
	case schema.KindMap:
		var keys [][]byte
		for len(keys) < n {
			key := randomNested(t, r, typ.Elems[0])
			if !slices.ContainsFunc(keys, func(k []byte) bool { return bytes.Equal(k, key) }) {
				keys = append(keys, key)
			}
		}
		slices.SortFunc(keys, typ.Elems[0].Compare)
		for _, key := range keys {
			value = part(part(value, key), randomNested(t, r, typ.Elems[1]))
		}
	case schema.KindVector:
		value = nil
		for range typ.Dimension {
			v := randomNested(t, r, typ.Elems[0])
			if typ.Elems[0].FixedLength() < 0 {
				value = appendUVInt(value, uint64(len(v)))
			}
			value = append(value, v...)
		}
	default:
		value = []byte{}
		for _, e := range typ.Elems {
			if r.IntN(4) == 0 {
				value = append(value, 0xff, 0xff, 0xff, 0xff)
			} else {
				value = part(value, randomNested(t, r, e))
			}
		}
	}
	return value
}

// TestNestedValuesComeBack holds that a reader gets the bytes back that Cassandra stored, in keys and images, and the
// fields of user types from nothing but the schema.
func TestNestedValuesComeBack(t *testing.T) {
	table := testTable(t, nestedCQL)
	if reason := table.Unsupported(); reason != "" {
		t.Fatal(reason)
	}
	keyCodec, err := newCodec(schema.AvroKeySchema(table, "p"))
	if err != nil {
		t.Fatal(err)
	}
	codec, err := newCodec(schema.AvroValueSchema(table, "p"))
	if err != nil {
		t.Fatal(err)
	}
	encoder, err := schema.NewAvroEncoder(table)
	if err != nil {
		t.Fatal(err)
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	for range 200 {
		values := make([][]byte, len(table.Columns))
		for i, c := range table.Columns {
			if c.Kind < schema.Static || r.IntN(5) > 0 {
				values[i] = randomNested(t, r, c.Type)
			}
		}
		datum, err := encoder.AppendKey(nil, values[:1], values[1:3], false)
		if err != nil {
			t.Fatal(err)
		}
		record, err := keyCodec.decode(datum)
		if err != nil {
			t.Fatal(err)
		}
		checkFields(t, table, keyCodec, record, values[:3])
		datum, err = encoder.AppendEnvelope(nil, &schema.AvroEnvelope{Partition: values[:1], Clustering: values[1:3], After: values, Op: 'c'})
		if err != nil {
			t.Fatal(err)
		}
		if record, err = codec.decode(datum); err != nil {
			t.Fatal(err)
		}
		checkFields(t, table, codec, inUnion(record["after"]).(map[string]any), values)
	}
}

func checkFields(t *testing.T, table *schema.Table, c *codec, record map[string]any, values [][]byte) {
	t.Helper()
	fields, err := c.image(record)
	if err != nil {
		t.Fatal(err)
	}
	for i, f := range fields {
		column := table.Columns[i]
		want, err := column.Type.AppendJSON(nil, values[i])
		if err != nil {
			t.Fatal(err)
		}
		if f.Name != column.Name || f.Type.CQL() != column.Type.CQL() || !bytes.Equal(f.Value, values[i]) || (f.Value == nil) != (values[i] == nil) {
			t.Fatalf("column %s %s with %x came back as %s %s with %x", column.Name, column.Type.CQL(), values[i], f.Name, f.Type.CQL(), f.Value)
		}
		if f.JSON != string(want) {
			t.Fatalf("column %s prints %s, expected %s", column.Name, f.JSON, want)
		}
	}
}

func TestNestedRefusals(t *testing.T) {
	for _, c := range []struct {
		typ   string
		datum any
		says  string
	}{
		{"list<int>", []any{map[string]any{"int": int64(1)}}, "element 0"},
		{"list<int>", map[string]any{}, "expected the datum"},
		{"map<text, int>", map[string]any{"a": map[string]any{"int": "x"}}, `key "a"`},
		{"map<int, int>", []any{map[string]any{"key": map[string]any{"int": "x"}}}, "key 0"},
		{"map<int, int>", []any{map[string]any{"value": map[string]any{"int": "x"}}}, "value 0"},
		{"tuple<int, int>", map[string]any{"f1": map[string]any{"int": "x"}}, "field f1"},
		{"vector<int, 2>", []any{map[string]any{"int": int32(1)}}, "expected 2 elements"},
		{"vector<int, 1>", []any{nil}, "expected 4 bytes, found 0"},
	} {
		typ, err := schema.ParseType(c.typ, nil)
		if err != nil {
			t.Fatal(err)
		}
		if v, err := cqlValue(typ, c.datum); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s of %v is %x, %v, expected an error with %q", c.typ, c.datum, v, err, c.says)
		}
	}
}
