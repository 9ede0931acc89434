package e2e

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math"
	"math/big"
	"math/rand/v2"
	"net"
	"sort"
	"strconv"
	"strings"
	"testing"
	"time"

	gocql "github.com/apache/cassandra-gocql-driver/v2"
	"gopkg.in/inf.v0"
)

// nativeTypes are the types that the table natives has a column of.
var nativeTypes = []string{
	"ascii", "bigint", "blob", "boolean", "date", "decimal", "double", "duration", "float", "inet", "int", "smallint",
	"text", "time", "timestamp", "timeuuid", "tinyint", "uuid", "varint",
}

// driverTypes are the driver's names of the native types.
var driverTypes = map[string]gocql.Type{
	"ascii": gocql.TypeAscii, "bigint": gocql.TypeBigInt, "blob": gocql.TypeBlob, "boolean": gocql.TypeBoolean,
	"date": gocql.TypeDate, "decimal": gocql.TypeDecimal, "double": gocql.TypeDouble, "duration": gocql.TypeDuration,
	"float": gocql.TypeFloat, "inet": gocql.TypeInet, "int": gocql.TypeInt, "smallint": gocql.TypeSmallInt,
	"text": gocql.TypeVarchar, "time": gocql.TypeTime, "timestamp": gocql.TypeTimestamp, "timeuuid": gocql.TypeTimeUUID,
	"tinyint": gocql.TypeTinyInt, "uuid": gocql.TypeUUID, "varint": gocql.TypeVarint,
}

// cqlValue is a value in CQL's binary form, nil for null. It is bound and scanned as it is.
type cqlValue []byte

// MarshalCQL gives the driver the bytes.
func (v cqlValue) MarshalCQL(gocql.TypeInfo) ([]byte, error) { return v, nil }

// UnmarshalCQL takes the bytes of the driver.
func (v *cqlValue) UnmarshalCQL(_ gocql.TypeInfo, data []byte) error {
	*v = nil
	if data != nil {
		*v = append(cqlValue{}, data...)
	}
	return nil
}

// encode gives the binary form of a Go value, which the driver knows how to encode.
func encode(typ string, v any) cqlValue {
	b, err := gocql.Marshal(gocql.NewNativeType(4, driverTypes[typ], ""), v)
	if err != nil {
		panic(fmt.Sprintf("encode %v as %s: %v", v, typ, err)) // a mistake in this package
	}
	if b == nil {
		b = []byte{}
	}
	return b
}

// text is the form in which values from all sources are compared: of equal text are values that CQL tells not apart.
// Null has none.
func text(typ string, v cqlValue) (string, error) {
	info := gocql.NewNativeType(4, driverTypes[typ], "")
	dest := newOf(typ)
	if dest == nil {
		return "", fmt.Errorf("type %s is none of the workload's", typ)
	}
	if err := gocql.Unmarshal(info, v, dest); err != nil {
		return "", fmt.Errorf("%s from %x: %w", typ, []byte(v), err)
	}
	return textOf(typ, dest)
}

// mustText is text for values that this package made.
func mustText(typ string, v cqlValue) string {
	s, err := text(typ, v)
	if err != nil {
		panic(err)
	}
	return s
}

func newOf(typ string) any {
	switch typ {
	case "ascii", "text":
		return new(string)
	case "bigint", "time":
		return new(int64)
	case "blob":
		return new([]byte)
	case "boolean":
		return new(bool)
	case "date", "timestamp":
		return new(time.Time)
	case "decimal":
		return new(inf.Dec)
	case "double":
		return new(float64)
	case "duration":
		return new(gocql.Duration)
	case "float":
		return new(float32)
	case "inet":
		return new(net.IP)
	case "int":
		return new(int32)
	case "smallint":
		return new(int16)
	case "tinyint":
		return new(int8)
	case "timeuuid", "uuid":
		return new(gocql.UUID)
	case "varint":
		return new(big.Int)
	}
	return nil
}

func textOf(typ string, v any) (string, error) {
	switch v := v.(type) {
	case *string:
		return strconv.Quote(*v), nil
	case *int64:
		return strconv.FormatInt(*v, 10), nil
	case *int32:
		return strconv.FormatInt(int64(*v), 10), nil
	case *int16:
		return strconv.FormatInt(int64(*v), 10), nil
	case *int8:
		return strconv.FormatInt(int64(*v), 10), nil
	case *[]byte:
		return "0x" + hex.EncodeToString(*v), nil
	case *bool:
		return strconv.FormatBool(*v), nil
	case *time.Time:
		if typ == "date" {
			return v.UTC().Format(time.DateOnly), nil
		}
		return strconv.FormatInt(v.UnixMilli(), 10) + "ms", nil
	case *inf.Dec:
		return decimalText(v.UnscaledBig(), int64(v.Scale())), nil
	case *float64:
		return floatText(*v, 64), nil
	case *float32:
		return floatText(float64(*v), 32), nil
	case *gocql.Duration:
		return durationText(int64(v.Months), int64(v.Days), v.Nanoseconds), nil
	case *net.IP:
		return v.String(), nil
	case *gocql.UUID:
		return v.String(), nil
	case *big.Int:
		return v.String(), nil
	}
	return "", fmt.Errorf("no text for a %T of type %s", v, typ)
}

// decimalText tells 1.0 from 1.00, as SELECT does.
func decimalText(unscaled *big.Int, scale int64) string {
	return unscaled.String() + "e" + strconv.FormatInt(-scale, 10)
}

// parseDecimal reads the plain and the scientific form, keeping the scale.
func parseDecimal(s string) (string, error) {
	mantissa, exponent := s, int64(0)
	if i := strings.IndexAny(s, "eE"); i >= 0 {
		var err error
		if exponent, err = strconv.ParseInt(s[i+1:], 10, 64); err != nil {
			return "", fmt.Errorf("decimal %q: %w", s, err)
		}
		mantissa = s[:i]
	}
	scale := int64(0)
	if i := strings.IndexByte(mantissa, '.'); i >= 0 {
		scale = int64(len(mantissa) - i - 1)
		mantissa = mantissa[:i] + mantissa[i+1:]
	}
	unscaled, ok := new(big.Int).SetString(mantissa, 10)
	if !ok {
		return "", fmt.Errorf("decimal %q: expected digits", s)
	}
	return decimalText(unscaled, scale-exponent), nil
}

// floatText tells -0 from 0 and takes all NaNs as one.
func floatText(f float64, bits int) string { return strconv.FormatFloat(f, 'g', -1, bits) }

// durationText writes all three parts, and the sign that they have in common once.
func durationText(months, days, nanos int64) string {
	sign := ""
	if months < 0 || days < 0 || nanos < 0 {
		sign, months, days, nanos = "-", -months, -days, -nanos
	}
	return fmt.Sprintf("%s%dmo%dd%dns", sign, months, days, nanos)
}

// randomValue makes a value of a type, the corners of its range among them.
func randomValue(r *rand.Rand, typ string) cqlValue {
	corner := r.IntN(8) == 0
	switch typ {
	case "ascii":
		return encode(typ, randomWord(r))
	case "text":
		if corner {
			return encode(typ, pick(r, "", "naïve café", "日本語", "tab\tquote\"'", "🙂", strings.Repeat("long ", 200)))
		}
		return encode(typ, randomWord(r)+" "+randomWord(r))
	case "bigint":
		if corner {
			return encode(typ, pick[int64](r, 0, -1, math.MaxInt64, math.MinInt64))
		}
		return encode(typ, r.Int64())
	case "int":
		if corner {
			return encode(typ, pick[int32](r, 0, -1, math.MaxInt32, math.MinInt32))
		}
		return encode(typ, r.Int32())
	case "smallint":
		return encode(typ, int16(r.Uint32()))
	case "tinyint":
		return encode(typ, int8(r.Uint32()))
	case "blob":
		b := make([]byte, r.IntN(60))
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		return b
	case "boolean":
		return encode(typ, r.IntN(2) == 0)
	case "date":
		return encode(typ, time.Date(1900+r.IntN(200), time.Month(1+r.IntN(12)), 1+r.IntN(28), 0, 0, 0, 0, time.UTC))
	case "timestamp":
		// Not as a time.Time, since gocql writes the first of year 1, which is Go's zero, as an empty value.
		if corner {
			return encode(typ, pick[int64](r, 0, -1, -62135596800000, 253402300799999))
		}
		return encode(typ, r.Int64N(2_000_000_000_000))
	case "time":
		return encode(typ, r.Int64N(24*3600*1e9))
	case "decimal":
		if corner {
			return encode(typ, pick(r, inf.NewDec(0, 0), inf.NewDec(100, 2), inf.NewDec(10, 1), inf.NewDec(-1, 9), inf.NewDec(7, -3)))
		}
		return encode(typ, inf.NewDec(r.Int64()-math.MaxInt64/2, inf.Scale(r.IntN(12))))
	case "varint":
		v := new(big.Int).Lsh(big.NewInt(r.Int64()), uint(r.IntN(120)))
		if r.IntN(2) == 0 {
			v.Neg(v)
		}
		return encode(typ, v)
	case "double":
		if corner {
			return encode(typ, pick(r, 0, math.Copysign(0, -1), math.Inf(1), math.Inf(-1), math.NaN(), math.MaxFloat64, math.SmallestNonzeroFloat64))
		}
		return encode(typ, r.NormFloat64())
	case "float":
		return encode(typ, float32(r.NormFloat64()))
	case "duration":
		// The parts of a duration have one sign.
		d := gocql.Duration{Months: r.Int32N(100), Days: r.Int32N(1000), Nanoseconds: r.Int64N(1e15)}
		if r.IntN(2) == 0 {
			d.Months, d.Days, d.Nanoseconds = -d.Months, -d.Days, -d.Nanoseconds
		}
		return encode(typ, d)
	case "inet":
		b := make(net.IP, pick(r, 4, 16))
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		if len(b) == 16 {
			b[0] = 0x20 // no IPv4 address in IPv6 clothes
		}
		return cqlValue(b)
	case "uuid":
		return randomUUID(r, 4)
	case "timeuuid":
		return randomUUID(r, 1)
	}
	panic("no random value for " + typ)
}

func randomUUID(r *rand.Rand, version byte) cqlValue {
	b := make([]byte, 16)
	binary.BigEndian.PutUint64(b, r.Uint64())
	binary.BigEndian.PutUint64(b[8:], r.Uint64())
	b[6] = b[6]&0x0f | version<<4
	b[8] = b[8]&0x3f | 0x80
	return b
}

func randomWord(r *rand.Rand) string {
	b := make([]byte, 1+r.IntN(9))
	for i := range b {
		b[i] = byte('a' + r.IntN(26))
	}
	return string(b)
}

func pick[T any](r *rand.Rand, values ...T) T { return values[r.IntN(len(values))] }

// image is what a row holds: the text of each column that is not null, by name, without the primary key. A nil image
// is a row that does not exist; an empty one is a row with its key alone.
type image map[string]string

func (im image) equal(other image) bool {
	if (im == nil) != (other == nil) || len(im) != len(other) {
		return false
	}
	for name, v := range im {
		if w, ok := other[name]; !ok || v != w {
			return false
		}
	}
	return true
}

func (im image) String() string {
	if im == nil {
		return "-"
	}
	list := make([]string, 0, len(im))
	for name, v := range im {
		list = append(list, name+"="+shorten(v))
	}
	sort.Strings(list)
	return "{" + strings.Join(list, " ") + "}"
}

func shorten(s string) string {
	if len(s) > 60 {
		return s[:50] + fmt.Sprintf("...(%d)", len(s))
	}
	return s
}

// rowID names a row, or the static row of a partition. The values are in the form of text.
type rowID struct {
	table      string
	partition  string
	clustering string
	static     bool
}

func (id rowID) String() string {
	switch {
	case id.static:
		return fmt.Sprintf("%s(%s static)", id.table, id.partition)
	case id.clustering == "":
		return fmt.Sprintf("%s(%s)", id.table, id.partition)
	}
	return fmt.Sprintf("%s(%s / %s)", id.table, id.partition, id.clustering)
}

// keyText joins the text of key values.
func keyText(columns []column, values []cqlValue) (string, error) {
	if len(columns) != len(values) {
		return "", fmt.Errorf("%d key values for the columns %v", len(values), names(columns))
	}
	list := make([]string, len(values))
	for i, v := range values {
		s, err := text(columns[i].typ, v)
		if err != nil {
			return "", fmt.Errorf("key column %s: %w", columns[i].name, err)
		}
		list[i] = s
	}
	return strings.Join(list, ", "), nil
}

func TestTextTellsValuesApart(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, typ := range nativeTypes {
		seen := map[string]cqlValue{}
		for range 200 {
			v := randomValue(r, typ)
			s := mustText(typ, v)
			if before, ok := seen[s]; ok && string(before) != string(v) && typ != "double" {
				t.Errorf("%s: %x and %x both read %s", typ, []byte(before), []byte(v), s)
			}
			seen[s] = v
		}
		if len(seen) < 2 {
			t.Errorf("%s: all values read the same", typ)
		}
	}
}

func TestParseDecimalKeepsTheScale(t *testing.T) {
	for s, want := range map[string]string{"1": "1e0", "1.0": "10e-1", "1.00": "100e-2", "-0.05": "-5e-2", "7E+3": "7e3", "1.5E-10": "15e-11"} {
		if got, err := parseDecimal(s); got != want || err != nil {
			t.Errorf("%s: %s, %v; expected %s", s, got, err, want)
		}
	}
	if _, err := parseDecimal("x"); err == nil {
		t.Error("x is a decimal")
	}
}
