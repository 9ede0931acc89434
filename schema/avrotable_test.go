package schema

import (
	"encoding/hex"
	"fmt"
	"math"
	"math/big"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	gocql "github.com/apache/cassandra-gocql-driver/v2"
	"gopkg.in/inf.v0"
)

// eventTypes are the types that columns of a table with events can have.
var eventTypes = []string{
	"ascii", "bigint", "blob", "boolean", "date", "decimal", "double", "duration", "float", "inet", "int", "smallint",
	"text", "time", "timestamp", "timeuuid", "tinyint", "uuid", "varint",
}

var gocqlTypes = map[string]gocql.Type{
	"ascii": gocql.TypeAscii, "bigint": gocql.TypeBigInt, "blob": gocql.TypeBlob, "boolean": gocql.TypeBoolean,
	"date": gocql.TypeDate, "decimal": gocql.TypeDecimal, "double": gocql.TypeDouble, "duration": gocql.TypeDuration,
	"float": gocql.TypeFloat, "inet": gocql.TypeInet, "int": gocql.TypeInt, "smallint": gocql.TypeSmallInt,
	"text": gocql.TypeVarchar, "time": gocql.TypeTime, "timestamp": gocql.TypeTimestamp, "timeuuid": gocql.TypeTimeUUID,
	"tinyint": gocql.TypeTinyInt, "uuid": gocql.TypeUUID, "varint": gocql.TypeVarint,
}

// newEventTable makes a table. A column is written as in CQL, with its kind behind it unless it is a regular one.
func newEventTable(t testing.TB, name string, columns ...Column) *Table {
	t.Helper()
	positions := map[ColumnKind]int{}
	for i, c := range columns {
		if c.Kind < Static {
			columns[i].Position = positions[c.Kind]
			positions[c.Kind]++
		}
	}
	table, err := NewTable(Table{Keyspace: "shop", Name: name, ID: UUID{1}, Columns: columns, Flags: []string{"compound"}, CDC: true})
	if err != nil {
		t.Fatal(err)
	}
	if reason := table.Unsupported(); reason != "" {
		t.Fatal(reason)
	}
	return table
}

func eventColumn(name, cql string, kind ColumnKind) Column {
	return Column{Name: name, Type: nativeTypes[cql], Kind: kind}
}

// ordersTable has static columns and a name that Avro does not allow.
func ordersTable(t testing.TB) *Table {
	return newEventTable(t, "orders",
		eventColumn("customer", "uuid", PartitionKey), eventColumn("number", "int", Clustering), eventColumn("tier", "text", Static),
		eventColumn("placed", "timestamp", Regular), eventColumn("total (net)", "decimal", Regular))
}

// nativesTable has a column of each type, and a key of two partition key columns.
func nativesTable(t testing.TB) *Table {
	columns := []Column{eventColumn("id", "bigint", PartitionKey), eventColumn("kind", "ascii", PartitionKey), eventColumn("version", "timeuuid", Clustering)}
	for _, name := range eventTypes {
		columns = append(columns, eventColumn("c_"+name, name, Regular))
	}
	return newEventTable(t, "natives", columns...)
}

// randomEventTable has a random shape. Durations cannot be part of a key.
func randomEventTable(t testing.TB, r *rand.Rand) *Table {
	var columns []Column
	add := func(kind ColumnKind, n int) {
		for range n {
			typ := eventTypes[r.IntN(len(eventTypes))]
			for kind < Static && typ == "duration" {
				typ = eventTypes[r.IntN(len(eventTypes))]
			}
			name := fmt.Sprintf("%s%d", []string{"c", "Größe ", "_X", "9."}[r.IntN(4)], len(columns))
			columns = append(columns, eventColumn(name, typ, kind))
		}
	}
	add(PartitionKey, 1+r.IntN(3))
	clustering := r.IntN(4)
	add(Clustering, clustering)
	if clustering > 0 {
		add(Static, r.IntN(3))
	}
	add(Regular, r.IntN(8))
	return newEventTable(t, "random", columns...)
}

// avroCase is a value in CQL's binary form, encoded by the driver, and what goavro is expected to read of it.
type avroCase struct {
	cql  []byte
	avro any
}

func newAvroCase(t testing.TB, typ string, v, avro any) avroCase {
	t.Helper()
	b, err := gocql.Marshal(gocql.NewNativeType(4, gocqlTypes[typ], ""), v)
	if err != nil {
		t.Fatalf("%v as %s: %v", v, typ, err)
	}
	if b == nil {
		b = []byte{}
	}
	return avroCase{b, avro}
}

// randomEventValue makes a value of a type, the corners of its range among them.
func randomEventValue(t testing.TB, r *rand.Rand, typ string) avroCase {
	t.Helper()
	integer := func(bits int) int64 {
		v := int64(r.Uint64()) >> (64 - bits)
		switch r.IntN(8) {
		case 0:
			return math.MinInt64 >> (64 - bits)
		case 1:
			return math.MaxInt64 >> (64 - bits)
		case 2:
			return int64(r.IntN(3) - 1)
		}
		return v
	}
	switch typ {
	case "ascii":
		s := string(avroBytes(r, 20, 'a', 26))
		return newAvroCase(t, typ, s, s)
	case "text":
		s := []string{"", "naïve", "日本語 🙂", "tab\t\"\x00", string(avroBytes(r, 300, 'a', 26))}[r.IntN(5)]
		return newAvroCase(t, typ, s, s)
	case "blob":
		b := avroBytes(r, 200, 0, 256)
		return newAvroCase(t, typ, b, b)
	case "bigint", "time":
		v := integer(64)
		if typ == "time" {
			v = r.Int64N(24 * 3600 * 1e9)
		}
		return newAvroCase(t, typ, v, v)
	case "int":
		v := int32(integer(32))
		return newAvroCase(t, typ, v, v)
	case "smallint":
		v := int16(integer(16))
		return newAvroCase(t, typ, v, int32(v))
	case "tinyint":
		v := int8(integer(8))
		return newAvroCase(t, typ, v, int32(v))
	case "boolean":
		v := r.IntN(2) == 0
		return newAvroCase(t, typ, v, v)
	case "float":
		v := []float32{0, float32(math.Copysign(0, -1)), float32(math.Inf(-1)), math.MaxFloat32, float32(r.NormFloat64())}[r.IntN(5)]
		return newAvroCase(t, typ, v, v)
	case "double":
		v := []float64{0, math.Copysign(0, -1), math.Inf(1), math.SmallestNonzeroFloat64, r.NormFloat64()}[r.IntN(5)]
		return newAvroCase(t, typ, v, v)
	case "date":
		v := time.Date(1+r.IntN(9999), time.Month(1+r.IntN(12)), 1+r.IntN(28), 0, 0, 0, 0, time.UTC)
		return newAvroCase(t, typ, v, v)
	case "timestamp":
		v := time.UnixMilli([]int64{0, -1, -62135596800000, 253402300799999, r.Int64N(2e12)}[r.IntN(5)]).UTC()
		return newAvroCase(t, typ, v, v)
	case "uuid", "timeuuid":
		u := gocql.UUID(avroBytes(r, 0, 0, 256, 16))
		return newAvroCase(t, typ, u, u.String())
	case "inet":
		address, _ := netip.AddrFromSlice(avroBytes(r, 0, 0, 256, 4+12*r.IntN(2)))
		return newAvroCase(t, typ, net.IP(address.AsSlice()), address.String())
	case "varint":
		n := avroInteger(r)
		return newAvroCase(t, typ, n, n.String())
	case "decimal":
		d := inf.NewDecBig(avroInteger(r), inf.Scale(int32(integer(32))>>r.IntN(32)))
		return newAvroCase(t, typ, d, avroDecimal{d})
	case "duration":
		d := gocql.Duration{Months: r.Int32(), Days: r.Int32(), Nanoseconds: r.Int64() >> r.IntN(63)}
		text := fmt.Sprintf("%dmo%dd%dns", d.Months, d.Days, d.Nanoseconds)
		if r.IntN(2) == 0 && (d != gocql.Duration{}) {
			d, text = gocql.Duration{Months: -d.Months, Days: -d.Days, Nanoseconds: -d.Nanoseconds}, "-"+text
		}
		return newAvroCase(t, typ, d, text)
	}
	t.Fatalf("no value of type %s", typ)
	return avroCase{}
}

// avroDecimal stands for the text of a decimal.
type avroDecimal struct{ *inf.Dec }

// equalAvro compares what goavro read with what was expected, within a union or not.
func equalAvro(got, want any) bool {
	if branches, ok := got.(map[string]any); ok && len(branches) == 1 {
		for _, v := range branches {
			got = v
		}
	}
	switch want := want.(type) {
	case []byte:
		b, ok := got.([]byte)
		return ok && slices.Equal(b, want)
	case float32:
		f, ok := got.(float32)
		return ok && math.Float32bits(f) == math.Float32bits(want)
	case float64:
		f, ok := got.(float64)
		return ok && math.Float64bits(f) == math.Float64bits(want)
	case time.Time:
		v, ok := got.(time.Time)
		return ok && v.Equal(want)
	case avroDecimal:
		text, ok := got.(string)
		unscaled, scale, err := parseDecimalText(text)
		return ok && err == nil && unscaled.Cmp(want.UnscaledBig()) == 0 && scale == int64(want.Scale())
	}
	return got == want
}

// parseDecimalText reads the text of a decimal as java.math.BigDecimal's constructor does.
func parseDecimalText(text string) (unscaled *big.Int, scale int64, err error) {
	digits, exponent := text, int64(0)
	for i, c := range text {
		if c == 'E' {
			digits = text[:i]
			if _, err := fmt.Sscanf(text[i+1:], "%d", &exponent); err != nil {
				return nil, 0, err
			}
		}
	}
	for i, c := range digits {
		if c == '.' {
			scale = int64(len(digits) - i - 1)
			digits = digits[:i] + digits[i+1:]
			break
		}
	}
	unscaled, ok := new(big.Int).SetString(digits, 10)
	if !ok {
		return nil, 0, fmt.Errorf("decimal %q", text)
	}
	return unscaled, scale - exponent, nil
}

// avroBytes makes up to limit bytes, or exactly n, from first on.
func avroBytes(r *rand.Rand, limit int, first byte, span int, n ...int) []byte {
	length := 0
	if len(n) > 0 {
		length = n[0]
	} else {
		length = r.IntN(limit + 1)
	}
	b := make([]byte, length)
	for i := range b {
		b[i] = first + byte(r.IntN(span))
	}
	return b
}

func avroInteger(r *rand.Rand) *big.Int {
	n := new(big.Int).Rsh(new(big.Int).SetBytes(avroBytes(r, 30, 0, 256)), uint(r.IntN(200)))
	if r.IntN(2) == 0 {
		n.Neg(n)
	}
	return n
}

// avroHex reads hexadecimal digits, with spaces between them.
func avroHex(t testing.TB, digits string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(digits, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}
