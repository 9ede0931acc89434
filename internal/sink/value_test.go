package sink

import (
	"bytes"
	"encoding/binary"
	"math"
	"math/big"
	"math/rand/v2"
	"net"
	"strings"
	"testing"
	"time"

	gocql "github.com/apache/cassandra-gocql-driver/v2"
	"github.com/linkedin/goavro/v2"
	"gopkg.in/inf.v0"

	"cassdelta/schema"
)

// nativeTypes are those that columns of a table with events can have.
var nativeTypes = map[string]gocql.Type{
	"ascii": gocql.TypeAscii, "bigint": gocql.TypeBigInt, "blob": gocql.TypeBlob, "boolean": gocql.TypeBoolean,
	"date": gocql.TypeDate, "decimal": gocql.TypeDecimal, "double": gocql.TypeDouble, "duration": gocql.TypeDuration,
	"float": gocql.TypeFloat, "inet": gocql.TypeInet, "int": gocql.TypeInt, "smallint": gocql.TypeSmallInt,
	"text": gocql.TypeVarchar, "time": gocql.TypeTime, "timestamp": gocql.TypeTimestamp, "timeuuid": gocql.TypeTimeUUID,
	"tinyint": gocql.TypeTinyInt, "uuid": gocql.TypeUUID, "varint": gocql.TypeVarint,
}

func pick[T any](r *rand.Rand, values ...T) T { return values[r.IntN(len(values))] }

// randomValue makes a value in CQL's binary form by the driver, often one at the edge of its type.
func randomValue(t testing.TB, r *rand.Rand, typ string) []byte {
	t.Helper()
	var v any
	switch typ {
	case "ascii":
		v = pick(r, "", "plain", `quote " backslash \`, "tab\tline\n")
	case "text":
		v = pick(r, "", "naïve café", "日本語 🙂", strings.Repeat("long ", 100), "null", "\x00")
	case "bigint":
		v = pick(r, 0, -1, math.MaxInt64, math.MinInt64, r.Int64())
	case "time":
		v = pick(r, 0, 24*3600*1e9-1, r.Int64N(24*3600*1e9))
	case "int":
		v = pick(r, 0, -1, math.MaxInt32, math.MinInt32, r.Int32())
	case "smallint":
		v = pick(r, 0, -1, math.MaxInt16, math.MinInt16, int16(r.Uint32()))
	case "tinyint":
		v = pick(r, 0, -1, math.MaxInt8, math.MinInt8, int8(r.Uint32()))
	case "blob":
		v = pick(r, []byte{}, []byte{0}, []byte{0xff, 0, 0x80}, bytes.Repeat([]byte{7}, 300))
	case "boolean":
		v = r.IntN(2) == 0
	case "date":
		return pick(r, []byte{0, 0, 0, 0}, []byte{0x80, 0, 0, 0}, []byte{0xff, 0xff, 0xff, 0xff}, []byte{0x80, 0, byte(r.Uint32()), byte(r.Uint32())})
	case "timestamp":
		// The driver takes the first moment of the year 1 for an empty value.
		return binary.BigEndian.AppendUint64(nil, uint64(pick(r, 0, -1, -62135596800000, 253402300799999, math.MinInt64, math.MaxInt64, r.Int64N(2e12))))
	case "decimal":
		v = pick(r, inf.NewDec(0, 0), inf.NewDec(0, 3), inf.NewDec(100, 2), inf.NewDec(10, 1), inf.NewDec(-1, 9), inf.NewDec(7, -3),
			inf.NewDec(-128, 0), inf.NewDec(128, 2147483647), inf.NewDec(255, -2147483647), inf.NewDec(r.Int64(), inf.Scale(r.IntN(30))))
	case "varint":
		v = new(big.Int).Sub(new(big.Int).Lsh(big.NewInt(1), uint(r.IntN(200))), big.NewInt(r.Int64N(3)))
		if r.IntN(2) == 0 {
			v = new(big.Int).Neg(v.(*big.Int))
		}
	case "double":
		v = pick(r, 0, math.Copysign(0, -1), math.Inf(1), math.Inf(-1), math.NaN(), math.MaxFloat64, math.SmallestNonzeroFloat64, r.NormFloat64())
	case "float":
		v = pick(r, 0, float32(math.Inf(-1)), math.MaxFloat32, math.SmallestNonzeroFloat32, float32(r.NormFloat64()))
	case "duration":
		d := pick(r, gocql.Duration{}, gocql.Duration{Months: math.MaxInt32, Days: math.MaxInt32, Nanoseconds: math.MaxInt64},
			gocql.Duration{Months: 14, Days: 3, Nanoseconds: 14706007008009}, gocql.Duration{Nanoseconds: 1<<uint(r.IntN(63)) - 1}, gocql.Duration{Days: r.Int32()})
		if r.IntN(2) == 0 {
			d = gocql.Duration{Months: -d.Months, Days: -d.Days, Nanoseconds: -d.Nanoseconds}
		}
		v = d
	case "inet":
		v = pick(r, net.IP{192, 0, 2, 1}, net.ParseIP("2001:db8::1"), net.ParseIP("::"), net.ParseIP("fe80::1:0:0:1"), net.IP{0, 0, 0, 0})
	case "uuid":
		v = gocql.MustRandomUUID()
	case "timeuuid":
		v = gocql.UUIDFromTime(time.UnixMilli(r.Int64N(2e12)))
	}
	b, err := gocql.Marshal(gocql.NewNativeType(4, nativeTypes[typ], ""), v)
	if err != nil {
		t.Fatalf("%s %v: %v", typ, v, err)
	}
	if b == nil {
		b = []byte{}
	}
	return b
}

// TestValuesComeBack holds that what the encoder writes, goavro reads, and a reader gets the bytes back that Cassandra
// stored.
func TestValuesComeBack(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	for typ := range nativeTypes {
		typ, err := schema.ParseType(typ, nil)
		if err != nil {
			t.Fatal(err)
		}
		table, err := schema.NewTable(schema.Table{Keyspace: "k", Name: "t", ID: schema.UUID{1}, Flags: []string{"compound"}, Columns: []schema.Column{
			{Name: "id", Kind: schema.PartitionKey, Type: &schema.Type{Kind: schema.KindInt}}, {Name: "v", Kind: schema.Regular, Type: typ},
		}})
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
		for range 200 {
			value := randomValue(t, r, typ.CQL())
			image := [][]byte{nil, value}
			datum, err := encoder.AppendEnvelope(nil, &schema.AvroEnvelope{Partition: [][]byte{{0, 0, 0, 1}}, After: image, Op: 'c'})
			if err != nil {
				t.Fatalf("%s %x: %v", typ.CQL(), value, err)
			}
			record, err := codec.decode(datum)
			if err != nil {
				t.Fatalf("%s %x: %v", typ.CQL(), value, err)
			}
			fields, err := codec.image(inUnion(record["after"]).(map[string]any))
			if err != nil {
				t.Fatalf("%s %x: %v", typ.CQL(), value, err)
			}
			want, err := typ.AppendJSON(nil, value)
			if err != nil {
				t.Fatal(err)
			}
			if got := fields[1]; got.Name != "v" || !bytes.Equal(got.Value, value) || got.Value == nil || got.JSON != string(want) {
				t.Errorf("%s %x: came back as %x, %s, expected %s", typ.CQL(), value, got.Value, got.JSON, want)
			}
		}
	}
}

func TestValueRefusals(t *testing.T) {
	for _, c := range []struct {
		typ   string
		datum any
	}{
		{"int", int64(1)}, {"int", "1"}, {"tinyint", int32(128)}, {"smallint", int32(-32769)}, {"text", []byte("a")}, {"boolean", int32(1)},
		{"uuid", "none"}, {"inet", "1.2.3"}, {"inet", "fe80::1%eth0"}, {"varint", "1.5"}, {"varint", ""},
		{"decimal", ""}, {"decimal", "1E"}, {"decimal", "1.2.3"}, {"decimal", "1E+99999999999"}, {"decimal", "E1"},
		{"duration", ""}, {"duration", "1mo2d"}, {"duration", "1mo-2d3ns"}, {"duration", "1mo2d3ns "}, {"double", float32(1)}, {"blob", "0x"},
	} {
		typ, err := schema.ParseType(c.typ, nil)
		if err != nil {
			t.Fatal(err)
		}
		if v, err := cqlValue(typ, c.datum); err == nil {
			t.Errorf("%s of %v is %x, expected an error", c.typ, c.datum, v)
		}
	}
}

func TestCodecRefusals(t *testing.T) {
	for text, says := range map[string]string{
		`{`:        "no JSON",
		`"string"`: "expected a record",
		`{"type":"record","name":"Key","fields":[]}`:                                                                        "expected a record of columns",
		`{"type":"record","name":"Key","fields":[{"name":"a","type":"int"}]}`:                                               "no attribute cql",
		`{"type":"record","name":"Key","fields":[{"name":"a","type":{"type":"int","cql":"int("}}]}`:                         "attribute cql",
		`{"type":"record","name":"Key","fields":[{"name":"a","type":{"type":"number","cql":"int"}}]}`:                       "schema: ",
		`{"type":"record","name":"Envelope","fields":[{"name":"before","type":["null","string"]}]}`:                         "expected a record of columns",
		`{"type":"record","name":"Envelope","fields":[{"name":"before","type":["null",{"type":"record","name":"Value"}]}]}`: "expected a record of columns",
	} {
		if _, err := newCodec(text); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v, expected %q", text, err, says)
		}
	}
}

// TestSchemasAreReadWithLogicalTypes holds that goavro takes the schemas as they are published, too.
func TestSchemasAreReadWithLogicalTypes(t *testing.T) {
	table := testTable(t, nativesCQL)
	for _, text := range []string{schema.AvroKeySchema(table, "p"), schema.AvroValueSchema(table, "p")} {
		if _, err := goavro.NewCodec(text); err != nil {
			t.Error(err)
		}
	}
}
