package schema

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"github.com/linkedin/goavro/v2"
)

// columnCodec is goavro's codec of a column's type.
func columnCodec(t testing.TB, typ *Type) *goavro.Codec {
	t.Helper()
	avro, logical := avroType(typ.Kind)
	codec, err := goavro.NewCodec(fmt.Sprintf(`{"type":%q,"logicalType":%q,"cql":%q}`, avro, logical, typ.CQL()))
	if err != nil {
		t.Fatal(err)
	}
	return codec
}

func TestGoavroReadsEveryType(t *testing.T) {
	const seed = 1
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, seed))
	for _, name := range eventTypes {
		codec := columnCodec(t, nativeTypes[name])
		for range 300 {
			v := randomEventValue(t, r, name)
			if len(v.cql) == 0 && !nativeTypes[name].emptyInAvro() {
				continue
			}
			b, err := nativeTypes[name].AppendAvro([]byte("head"), v.cql)
			if err != nil {
				t.Fatalf("%s %x: %v", name, v.cql, err)
			}
			got, rest, err := codec.NativeFromBinary(b[4:])
			if err != nil || len(rest) > 0 || string(b[:4]) != "head" {
				t.Fatalf("%s %x gave %x, of which goavro reads %v, %v and leaves %x", name, v.cql, b, got, err, rest)
			}
			if !equalAvro(got, v.avro) {
				t.Fatalf("%s %x reads %v, expected %v", name, v.cql, got, v.avro)
			}
		}
	}
}

// The texts of decimals are those of the documentation of java.math.BigDecimal.toString, and of zeros.
func TestTexts(t *testing.T) {
	long := strings.Repeat("ff", 40)
	for _, test := range []struct{ typ, value, text string }{
		{"decimal", "00000000 7b", "123"},
		{"decimal", "00000000 85", "-123"},
		{"decimal", "ffffffff 7b", "1.23E+3"},
		{"decimal", "fffffffd 7b", "1.23E+5"},
		{"decimal", "00000001 7b", "12.3"},
		{"decimal", "00000005 7b", "0.00123"},
		{"decimal", "0000000a 7b", "1.23E-8"},
		{"decimal", "0000000c 85", "-1.23E-10"},
		{"decimal", "00000003 85", "-0.123"},
		{"decimal", "00000008 7b", "0.00000123"},
		{"decimal", "00000009 7b", "1.23E-7"},
		{"decimal", "00000002 00", "0.00"},
		{"decimal", "00000006 00", "0.000000"},
		{"decimal", "00000007 00", "0E-7"},
		{"decimal", "fffffffd 00", "0E+3"},
		{"decimal", "80000000 01", "1E+2147483648"},
		{"decimal", "7fffffff 0000ff", "2.55E-2147483645"},
		{"decimal", "00000001", "0.0"},
		{"varint", "00", "0"},
		{"varint", "ffff", "-1"},
		{"varint", "008000000000000000", "9223372036854775808"},
		{"varint", "8000000000000000", "-9223372036854775808"},
		{"varint", "00" + long, "2135987035920910082395021706169552114602704522356652769947041607822219725780640550022962086936575"},
		{"duration", "02 04 06", "1mo2d3ns"},
		{"duration", "01 03 05", "-1mo2d3ns"},
		{"duration", "00 00 00", "0mo0d0ns"},
		{"duration", "f0ffffffff 00 00", "-2147483648mo0d0ns"},
		{"duration", "00 00 ffffffffffffffffff", "-0mo0d9223372036854775808ns"},
		{"inet", "7f000001", "127.0.0.1"},
		{"inet", "20010db8000000000000000000000001", "2001:db8::1"},
		{"inet", "00000000000000000000ffff01020304", "::ffff:1.2.3.4"},
		{"uuid", "0123456789abcdef0123456789abcdef", "01234567-89ab-cdef-0123-456789abcdef"},
	} {
		typ := nativeTypes[test.typ]
		b, err := typ.AppendAvro(nil, avroHex(t, test.value))
		if err != nil {
			t.Errorf("%s %s: %v", test.typ, test.value, err)
			continue
		}
		got, _, err := columnCodec(t, typ).NativeFromBinary(b)
		if got != test.text || err != nil {
			t.Errorf("%s %s reads %v, %v; expected %s", test.typ, test.value, got, err, test.text)
		}
	}
}

func TestAppendAvroRefuses(t *testing.T) {
	for _, test := range []struct{ typ, value, want string }{
		{"int", "010203", "a int has 3 bytes, expected 4"},
		{"int", "", "an empty int has no form"},
		{"uuid", "", "an empty uuid has no form"},
		{"counter", "00", "expected 8"},
		{"decimal", "000000", "at least 4"},
		{"inet", "0102030405", "4 or 16"},
		{"duration", "02 04", "duration"},
		{"duration", "02 03 06", "one sign"},
		{"duration", "f200000000 00 00", "32 bits"},
		{"duration", "ff 00 00", "duration"},
		{"varint", strings.Repeat("01", 256<<10+1), "at most 262144"},
		{"empty", "00", "expected none"},
		{"list<int>", "00", "expected its size"},
		{"list<int>", "00000001 00000004 0000", "element 0 of a list"},
		{"map<int, text>", "00000001 00000003 010203 00000000", "key 0 of a map: a int has 3 bytes"},
		{"map<text, int>", "00000001 ffffffff 00000000", "key 0 of a map: it is null"},
		{"tuple<int, uuid>", "00000004 00000001 00000001 00", "field 1 of a tuple"},
		{"vector<int, 2>", "00000001", "expected 8"},
		{"frozen<list<counter>>", "00000001 00000001 00", "expected 8"},
	} {
		typ, err := ParseType(test.typ, nil)
		if err != nil {
			t.Fatal(err)
		}
		b, err := typ.AppendAvro([]byte("head"), avroHex(t, test.value))
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s %.20s: error %v, expected one with %q", test.typ, test.value, err, test.want)
		}
		if string(b) != "head" {
			t.Errorf("%s %.20s: after the error %q stands in dst", test.typ, test.value, b)
		}
	}
}

var fuzzCodecs sync.Map // of *goavro.Codec by Kind

// Whatever the bytes are, there is an error or a datum that goavro reads to its end.
func FuzzAppendAvro(f *testing.F) {
	r := rand.New(rand.NewPCG(7, 7))
	for _, name := range eventTypes {
		for range 3 {
			f.Add(uint8(nativeTypes[name].Kind), randomEventValue(f, r, name).cql)
		}
	}
	f.Fuzz(func(t *testing.T, kind uint8, value []byte) {
		typ := &Type{Kind: Kind(kind)}
		if !typ.Native() || len(value) > 10_000 {
			return
		}
		b, err := typ.AppendAvro([]byte{0xaa}, value)
		if err != nil {
			if !bytes.Equal(b, []byte{0xaa}) {
				t.Fatalf("%s %x: %v, and dst is %x", typ.CQL(), value, err, b)
			}
			return
		}
		codec, ok := fuzzCodecs.Load(typ.Kind)
		if !ok {
			codec, _ = fuzzCodecs.LoadOrStore(typ.Kind, columnCodec(t, typ))
		}
		got, rest, err := codec.(*goavro.Codec).NativeFromBinary(b[1:])
		if err != nil || len(rest) > 0 || b[0] != 0xaa {
			t.Fatalf("%s %x gave %x, of which goavro reads %v, %v and leaves %x", typ.CQL(), value, b, got, err, rest)
		}
	})
}
