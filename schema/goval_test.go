package schema

import (
	"encoding/json"
	"math/big"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"gopkg.in/inf.v0"
)

func TestDecode(t *testing.T) {
	for _, c := range []struct {
		typ, value string
		want       any
	}{
		{"ascii", "61", "a"},
		{"text", "", ""},
		{"text", "c3a4ff", "ä\xff"},
		{"blob", "", []byte{}},
		{"blob", "00ff", []byte{0, 0xff}},
		{"boolean", "02", true},
		{"boolean", "", Empty{}},
		{"tinyint", "80", int8(-128)},
		{"smallint", "8000", int16(-32768)},
		{"int", "80000000", int32(-1 << 31)},
		{"int", "", Empty{}},
		{"bigint", "7fffffffffffffff", int64(1<<63 - 1)},
		{"counter", "fffffffffffffffe", int64(-2)},
		{"counter", "00010000000102030405060708090a0b0c0d0e0f00000000000000090000000000000007", int64(7)},
		{"varint", "ffff", big.NewInt(-1)},
		{"decimal", "fffffffe0c", inf.NewDec(12, -2)},
		{"float", "3f800000", float32(1)},
		{"double", "bff0000000000000", float64(-1)},
		{"date", "80000001", time.Date(1970, 1, 2, 0, 0, 0, 0, time.UTC)},
		{"date", "7fffffff", time.Date(1969, 12, 31, 0, 0, 0, 0, time.UTC)},
		{"timestamp", "ffffffffffffffff", time.Date(1969, 12, 31, 23, 59, 59, 999e6, time.UTC)},
		{"time", "0000000000000001", time.Duration(1)},
		{"duration", "010307", Duration{-1, -2, -4}},
		{"inet", "c0000201", netip.MustParseAddr("192.0.2.1")},
		{"inet", "00000000000000000000ffffc0000201", netip.MustParseAddr("::ffff:192.0.2.1")},
		{"uuid", "000102030405060708090a0b0c0d0e0f", UUID{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}},
		{"'some.Type'", "0102", []byte{1, 2}},
		{"'org.apache.cassandra.db.marshal.LexicalUUIDType'", "000102030405060708090a0b0c0d0e0f", UUID{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}},
		{"'org.apache.cassandra.db.marshal.LexicalUUIDType'", "", Empty{}},
		{"list<int>", "00000000", []any{}},
		{"list<int>", "", Empty{}},
		{"set<int>", "000000020000000400000001" + "00000000", []any{int32(1), Empty{}}},
		{"map<text, int>", "00000002" + "00000001620000000400000001" + "0000000161ffffffff", []Pair{{"b", int32(1)}, {"a", nil}}},
		{"tuple<int, text>", "", []any{nil, nil}},
		{"tuple<int, text>", "ffffffff0000000161", []any{nil, "a"}},
		{"plain", "0000000400000001", []Field{{"a", int32(1)}, {"b", nil}}},
		{"vector<int, 2>", "0000000100000002", []any{int32(1), int32(2)}},
		{"vector<text, 2>", "016100", []any{"a", ""}},
		{"list<frozen<map<int, frozen<plain>>>>", "000000010000000c" + "0000000100000000" + "00000000",
			[]any{[]Pair{{Empty{}, []Field{{"a", nil}, {"b", nil}}}}}},
	} {
		typ := cellType(t, c.typ)
		got, err := typ.Decode(unhex(t, c.value))
		if err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s %s: %#v, %v, expected %#v", c.typ, c.value, got, err, c.want)
		}
		if got, err := typ.Decode(nil); got != nil || err != nil {
			t.Errorf("%s null: %#v, %v", c.typ, got, err)
		}
	}
}

func TestErrorsNameThePart(t *testing.T) {
	for _, c := range []struct{ typ, value, want string }{
		{"list<int>", "000000", "a list has 3 bytes, expected its size in 4"},
		{"list<int>", "7fffffff00000004", "a list of 2147483647 elements has 4 bytes behind its size"},
		{"map<int, int>", "0000000100000004", "a map of 1 elements has 4 bytes behind its size"},
		{"list<int>", "0000000100000004000000", "element 0 of a list: it is cut off"},
		{"list<int>", "000000010000000300000000", "element 0 of a list: a int has 3 bytes, expected 4"},
		{"set<int>", "00000000ff", "1 bytes stand behind the last part of a set"},
		{"map<int, text>", "00000001" + "00000000" + "00000005" + "61", "value 0 of a map: it is cut off"},
		{"map<int, text>", "00000001" + "00000001" + "ff" + "00000000", "key 0 of a map: a int has 1 bytes"},
		{"tuple<int, int>", "ffffffff00", "field 1 of a tuple: it is cut off"},
		{`"Case"`, "0000000800000001" + "0000000f", "field \"Upper\" of a \"Case\": element 0 of a list: it is cut off"},
		{"vector<int, 2>", "00000001", "a vector has 4 bytes, expected 8"},
		{"vector<text, 3>", "0000", "a vector of 3 elements has 2 bytes"},
		{"vector<text, 2>", "0161f0ffffffff", "element 1 of a vector: it is cut off"},
		{"vector<empty, 2147483647>", "00", "a vector has elements of no bytes"},
	} {
		typ, value := cellType(t, c.typ), unhex(t, c.value)
		_, decodeErr := typ.Decode(value)
		out, jsonErr := typ.AppendJSON([]byte("x"), value)
		for what, err := range map[string]error{"validate": typ.Validate(value), "decode": decodeErr, "JSON": jsonErr} {
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s %s: %s: %v, expected %q", c.typ, c.value, what, err, c.want)
			}
		}
		if string(out) != "x" {
			t.Errorf("%s %s: %q", c.typ, c.value, out)
		}
	}
	null := unhex(t, "00000001ffffffff")
	if err := cellType(t, "list<int>").Validate(null); err == nil || !strings.Contains(err.Error(), "element 0 of a list: it is null") {
		t.Error(err)
	}
}

func TestDepthIsBounded(t *testing.T) {
	// Chains of user types have no bound of their own.
	typ := nativeTypes["int"]
	value := []byte{0, 0, 0, 7}
	for depth := range maxValueDepth + 10 {
		udt, err := NewUDT("k", "deep", []string{"f"}, []*Type{typ})
		if err != nil {
			t.Fatal(err)
		}
		typ, value = freeze(udt), appendPart(nil, value)
		_, decodeErr := typ.Decode(value)
		_, jsonErr := typ.AppendJSON(nil, value)
		for what, err := range map[string]error{"validate": typ.Validate(value), "decode": decodeErr, "JSON": jsonErr} {
			if (err != nil) != (depth >= maxValueDepth) {
				t.Fatalf("%s at depth %d: %v", what, depth+1, err)
			}
		}
		if typ.Compare(value, value) != 0 {
			t.Fatalf("a value of depth %d is not equal to itself", depth+1)
		}
	}

	// Each map in a key of a map doubles the backslashes.
	typ, value = nativeTypes["text"], []byte{'"'}
	for keys := 1; keys <= maxQuotedMaps+1; keys++ {
		typ = &Type{Kind: KindMap, Elems: []*Type{typ, nativeTypes["int"]}, Frozen: true}
		value = appendPart(appendPart([]byte{0, 0, 0, 1}, value), []byte{0, 0, 0, 1})
		out, err := typ.AppendJSON(nil, value)
		if (err != nil) != (keys > maxQuotedMaps) {
			t.Fatalf("%d keys: %v", keys, err)
		}
		if err == nil && !json.Valid(out) {
			t.Fatalf("%d keys: %s is not JSON", keys, out)
		}
	}
}

// FuzzNested takes values of random types: nothing may panic, and what comes out is no longer than what goes in, but
// for a factor that the type decides.
func FuzzNested(f *testing.F) {
	for seed := range uint64(64) {
		r := rand.New(rand.NewPCG(seed, 0))
		f.Add(seed, randomNested(r, fuzzType(f, r)))
	}
	for i, v := range recordedNested(f, "nested.txt") {
		if len(v.value) < 500 && i%20 == 0 {
			f.Add(uint64(i), v.value)
		}
	}
	f.Fuzz(func(t *testing.T, seed uint64, value []byte) {
		typ := fuzzType(t, rand.New(rand.NewPCG(seed, 0)))
		valid := typ.Validate(value) == nil
		var out []byte
		var decoded any
		var jsonErr, decodeErr error
		taken := memoryTaken(func() {
			out, jsonErr = typ.AppendJSON([]byte("["), value)
			decoded, decodeErr = typ.Decode(value)
		})
		if taken > 100_000*uint64(len(value)+1) {
			t.Errorf("%s: %d bytes took %d bytes of memory", typ.CQL(), len(value), taken)
		}
		if valid && (jsonErr != nil || decodeErr != nil) && len(value) <= maxAvroNumber {
			t.Errorf("%s %x is valid, but: %v, %v", typ.CQL(), value, jsonErr, decodeErr)
		}
		if (jsonErr != nil || decodeErr != nil) && (jsonErr == nil || decodeErr == nil) && len(value) <= maxAvroNumber {
			t.Errorf("%s %x: JSON %v, decode %v", typ.CQL(), value, jsonErr, decodeErr)
		}
		if jsonErr != nil && string(out) != "[" {
			t.Errorf("%s %x: %q is left of it", typ.CQL(), value, out)
		}
		if jsonErr == nil && !json.Valid(append(out, ']')) {
			t.Errorf("%s %x: %s is not JSON", typ.CQL(), value, out)
		}
		// The names of fields and the nulls of all fields stand for one part of no bytes, of 4 bytes or 1.
		const perByte = 6 << maxQuotedMaps
		if len(out) > perByte*(len(value)+1)+1000*(len(value)+1) {
			t.Errorf("%s %x: %d bytes", typ.CQL(), value, len(out))
		}
		if n := countValues(decoded); n > 100*(len(value)+1) {
			t.Errorf("%s %x: %d values", typ.CQL(), value, n)
		}
		if typ.Compare(value, value) != 0 {
			t.Errorf("%s %x is not equal to itself", typ.CQL(), value)
		}
	})
}

// FuzzCells takes cells of random multi-cell columns.
func FuzzCells(f *testing.F) {
	for seed := range uint64(32) {
		f.Add(seed, []byte{0, 1}, []byte("a"), []byte{0, 0}, []byte{})
	}
	f.Fuzz(func(t *testing.T, seed uint64, path1, value1, path2, value2 []byte) {
		r := rand.New(rand.NewPCG(seed, 0))
		typ := fuzzType(t, r)
		for !typ.MultiCell() {
			typ = fuzzType(t, r)
		}
		cells := []ElementCell{{path1, value1}, {path2, value2}}
		valid := typ.ComparePaths(path1, path2) != 0
		for _, c := range cells {
			valid = valid && typ.ValidateCell(c.Path, c.Value) == nil
			path, pathErr := typ.AppendPathJSON(nil, c.Path)
			value, valueErr := typ.AppendCellJSON(nil, c.Path, c.Value)
			if valid && (pathErr != nil || valueErr != nil || !json.Valid(path) || !json.Valid(value)) {
				t.Errorf("%s %x %x: %s %v, %s %v", typ.CQL(), c.Path, c.Value, path, pathErr, value, valueErr)
			}
		}
		out, err := typ.AppendCellsJSON(nil, cells)
		if valid && err != nil || err == nil && !json.Valid(out) {
			t.Errorf("%s %x: %s, %v", typ.CQL(), cells, out, err)
		}
	})
}

func FuzzCounterTotal(f *testing.F) {
	r := rand.New(rand.NewPCG(1, 1))
	for range 20 {
		f.Add(randomContext(r))
	}
	f.Fuzz(func(t *testing.T, value []byte) {
		total, err := CounterTotal(value)
		if shards := len(value) / counterShard; err == nil && shards == 0 && len(value) != 8 && total != 0 {
			t.Errorf("%x: %d of no shard", value, total)
		}
	})
}

// fuzzType makes a type that has others in it, up to 4 deep.
func fuzzType(t testing.TB, r *rand.Rand) *Type {
	return randomNestedType(r, defineTypes(t, nestedTypes), 1+r.IntN(4), true, false)
}

// countValues counts the Go values in a decoded one.
func countValues(v any) int {
	n := 1
	switch v := v.(type) {
	case []any:
		for _, e := range v {
			n += countValues(e)
		}
	case []Pair:
		for _, p := range v {
			n += countValues(p.Key) + countValues(p.Value)
		}
	case []Field:
		for _, f := range v {
			n += countValues(f.Value)
		}
	}
	return n
}

func BenchmarkAppendNestedJSON(b *testing.B) {
	typ := cellType(b, "map<frozen<plain>, frozen<list<int>>>")
	value := unhex(b, "00000001"+"0000000d"+"0000000400000001"+"0000000161"+"00000014"+"00000002"+"0000000400000001"+"0000000400000002")
	var dst []byte
	b.ReportAllocs()
	for b.Loop() {
		var err error
		if dst, err = typ.AppendJSON(dst[:0], value); err != nil {
			b.Fatal(err)
		}
	}
}
