package schema

import (
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"math"
	"math/big"
	"math/rand/v2"
	"net/netip"
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

// valueTypes are the native types that values of tables can have, but for counter.
var valueTypes = []*Type{
	nativeTypes["ascii"], nativeTypes["bigint"], nativeTypes["blob"], nativeTypes["boolean"], nativeTypes["date"],
	nativeTypes["decimal"], nativeTypes["double"], nativeTypes["duration"], nativeTypes["float"], nativeTypes["inet"],
	nativeTypes["int"], nativeTypes["smallint"], nativeTypes["text"], nativeTypes["time"], nativeTypes["timestamp"],
	nativeTypes["timeuuid"], nativeTypes["tinyint"], nativeTypes["uuid"], nativeTypes["varint"],
}

// unsupportedTypes are types whose values have no comparable form.
var unsupportedTypes = []*Type{
	nativeTypes["counter"], {Kind: KindCustom, Name: "x"}, {Kind: KindTuple, Elems: []*Type{{Kind: KindCustom, Name: "x"}}},
}

// recordedValue is a line of values.txt or order.txt.
type recordedValue struct {
	line  string
	typ   *Type
	value []byte // empty, not nil, if it is of no bytes
	rest  string
}

func recordedValues(t testing.TB, name string) []recordedValue {
	t.Helper()
	text, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	var values []recordedValue
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSuffix(line, "\n")
		if strings.HasPrefix(line, "#") {
			continue
		}
		words := strings.SplitN(line, " ", 3)
		v := recordedValue{line: line, typ: nativeTypes[words[0]], value: []byte{}, rest: words[2]}
		if words[1] != "-" {
			v.value = unhex(t, words[1])
		}
		values = append(values, v)
	}
	if len(values) < 1000 {
		t.Fatalf("%s has %d values", name, len(values))
	}
	return values
}

func unhex(t testing.TB, digits string) []byte {
	t.Helper()
	b, err := hex.DecodeString(digits)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestValuesAsCassandraTakesThem(t *testing.T) {
	printed, accepted, refused := 0, 0, 0
	for _, v := range recordedValues(t, "values.txt") {
		err := v.typ.Validate(v.value)
		if v.rest == "refused" {
			refused++
			if err == nil {
				t.Errorf("%s: accepted", v.line)
			}
			continue
		}
		accepted++
		if err != nil {
			t.Errorf("%s: %v", v.line, err)
			continue
		}
		got, err := v.typ.AppendJSON([]byte("before "), v.value)
		got = got[len("before "):]
		switch text := strings.TrimPrefix(v.rest, "ok "); {
		case err != nil:
			t.Errorf("%s: %v", v.line, err)
		case text == "!":
			if !json.Valid(got) {
				t.Errorf("%s: %s is not JSON", v.line, got)
			}
		default:
			printed++
			if string(got) != text {
				t.Errorf("%s: found %s", v.line, got)
			}
		}
	}
	if printed < 1500 || refused < 300 || accepted-printed < 5 {
		t.Errorf("only %d values are printed, %d accepted, %d refused", printed, accepted, refused)
	}
}

// Values that Cassandra accepts, but fails to print or prints as something else.
func TestJSONOfWhatCassandraCannotPrint(t *testing.T) {
	for _, c := range []struct{ typ, value, want string }{
		{"boolean", "", `""`},
		{"decimal", "00000002", `0.00`},
		{"text", "61c08062", `"a` + "\ufffd\ufffd" + `b"`},
		{"text", "eda080", `"` + "\ufffd\ufffd\ufffd" + `"`},
		{"time", "ffffffffffffffff", `"-00:00:00.000000001"`},
		{"time", "00004e94914f0000", `"24:00:00.000000000"`},
		{"time", "7fffffffffffffff", `"2562047:47:16.854775807"`},
		{"time", "8000000000000000", `"-2562047:47:16.854775808"`},
		{"duration", "f0ffffffff0000", `"-178956970y8mo"`},
		{"duration", "0000ffffffffffffffffff", `"-2562047h47m16s854ms775us808ns"`},
	} {
		typ, value := nativeTypes[c.typ], unhex(t, c.value)
		if err := typ.Validate(value); err != nil {
			t.Errorf("%s %s: %v", c.typ, c.value, err)
		}
		if got, err := typ.AppendJSON(nil, value); err != nil || string(got) != c.want {
			t.Errorf("%s %s: %s, %v, expected %s", c.typ, c.value, got, err, c.want)
		}
	}
}

func TestJSONOfLongNumbers(t *testing.T) {
	for _, name := range []string{"varint", "decimal"} {
		typ, value := nativeTypes[name], make([]byte, maxAvroNumber+1)
		value[5] = 0x7f
		if got, err := typ.AppendJSON(nil, value); err == nil || len(got) > 0 {
			t.Errorf("%s of %d bytes: %d bytes, %v", name, len(value), len(got), err)
		}
		if got, err := typ.AppendJSON(nil, value[:maxAvroNumber]); err != nil || len(got) < 2*maxAvroNumber {
			t.Errorf("%s of %d bytes: %d bytes, %v", name, maxAvroNumber, len(got), err)
		}
	}
}

func TestNullValues(t *testing.T) {
	for _, typ := range valueTypes {
		if err := typ.Validate(nil); err != nil {
			t.Errorf("%s: %v", typ.CQL(), err)
		}
		if got, err := typ.AppendJSON(nil, nil); err != nil || string(got) != "null" {
			t.Errorf("%s: %s, %v", typ.CQL(), got, err)
		}
	}
}

func TestValuesWithoutAComparableForm(t *testing.T) {
	for _, typ := range unsupportedTypes {
		if got, err := typ.AppendComparable([]byte("x"), []byte{0, 0, 0, 0}, true); err == nil || string(got) != "x" {
			t.Errorf("%s: %q, %v", typ.CQL(), got, err)
		}
	}
	if got, err := nativeTypes["duration"].AppendComparable(nil, []byte{2, 2, 2}, false); err == nil {
		t.Errorf("duration: %x", got)
	}
	empty := nativeTypes["empty"]
	if empty.Validate([]byte{}) != nil || empty.Validate([]byte{1}) == nil {
		t.Errorf("empty: it has a value of no bytes, and no others")
	}
}

// What is printed says what the value was: another reader finds the same number and the same text in it.
func TestJSONRoundTrip(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	for range 20_000 {
		typ := valueTypes[r.IntN(len(valueTypes))]
		value := randomValue(r, typ)
		if len(value) == 0 {
			continue
		}
		out, err := typ.AppendJSON(nil, value)
		if err != nil || !json.Valid(out) {
			t.Fatalf("%s %x: %s, %v", typ.CQL(), value, out, err)
		}
		same := true
		switch typ.Kind {
		case KindFloat:
			f := math.Float32frombits(binary.BigEndian.Uint32(value))
			read, err := strconv.ParseFloat(string(out), 32)
			same = string(out) == "null" || err == nil && math.Float32bits(float32(read)) == math.Float32bits(f)
		case KindDouble:
			f := math.Float64frombits(binary.BigEndian.Uint64(value))
			read, err := strconv.ParseFloat(string(out), 64)
			same = string(out) == "null" || err == nil && math.Float64bits(read) == math.Float64bits(f)
		case KindVarint:
			read, ok := new(big.Int).SetString(string(out), 10)
			same = ok && read.Cmp(twosComplement(value)) == 0
		case KindDecimal:
			if scale := int32(binary.BigEndian.Uint32(value)); scale > -1000 && scale < 1000 {
				read, ok := new(big.Rat).SetString(string(out))
				same = ok && read.Cmp(rational(value)) == 0
			}
		case KindASCII, KindText:
			var read string
			same = json.Unmarshal(out, &read) == nil && read == strings.ToValidUTF8(string(value), "\ufffd") || !utf8.Valid(value)
		case KindDate:
			day := time.Unix((int64(binary.BigEndian.Uint32(value))-1<<31)*86400, 0).UTC()
			same = day.Year() < 0 || day.Year() > 9999 || string(out) == day.Format(`"2006-01-02"`)
		case KindTime:
			nanos := int64(binary.BigEndian.Uint64(value))
			same = nanos < 0 || nanos >= 24*hourNanos || string(out) == time.Unix(0, nanos).UTC().Format(`"15:04:05.000000000"`)
		case KindTimestamp:
			at := time.UnixMilli(int64(binary.BigEndian.Uint64(value))).UTC()
			same = at.Year() < 1 || at.Year() > 9999 || string(out) == at.Format(`"2006-01-02 15:04:05.000Z"`)
		case KindInet:
			address, _ := netip.AddrFromSlice(value)
			read, err := netip.ParseAddr(strings.Trim(string(out), `"`))
			same = err == nil && read == address.Unmap()
		case KindDuration:
			same = readDuration(string(out)) == [3]int64{longestVint(value), longestVint(value[9:]), longestVint(value[18:])}
		}
		if !same {
			t.Errorf("%s %x: %s", typ.CQL(), value, out)
		}
	}
}

func FuzzValidate(f *testing.F) {
	seedValues(f)
	f.Fuzz(func(t *testing.T, kind byte, value []byte) {
		typ := valueTypes[int(kind)%len(valueTypes)]
		valid := typ.Validate(value) == nil
		var decoded any
		var decodeErr, jsonErr error
		taken := memoryTaken(func() {
			decoded, decodeErr = typ.Decode(value)
			_, jsonErr = typ.AppendJSON(nil, value)
		})
		if taken > 256*uint64(len(value))+1<<16 {
			t.Errorf("%s: %d bytes took %d bytes of memory", typ.CQL(), len(value), taken)
		}
		if decodeErr == nil && decoded == nil {
			t.Errorf("%s %x is decoded to null", typ.CQL(), value)
		}
		if !valid {
			return
		}
		if decodeErr != nil {
			t.Errorf("%s %x is valid but cannot be decoded: %v", typ.CQL(), value, decodeErr)
		}
		if jsonErr != nil && len(value) <= maxAvroNumber {
			t.Errorf("%s %x is valid but has no JSON text: %v", typ.CQL(), value, jsonErr)
		}
		if _, err := typ.AppendComparable(nil, value, false); err != nil && typ.Kind != KindDuration && len(value) <= maxComparableNumber {
			t.Errorf("%s %x is valid but has no comparable form: %v", typ.CQL(), value, err)
		}
	})
}

// memoryTaken is the memory in bytes that do takes, what it gives back included.
func memoryTaken(do func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	do()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

func FuzzJSON(f *testing.F) {
	seedValues(f)
	f.Fuzz(func(t *testing.T, kind byte, value []byte) {
		typ := valueTypes[int(kind)%len(valueTypes)]
		out, err := typ.AppendJSON([]byte("["), value)
		if err != nil {
			if string(out) != "[" {
				t.Errorf("%s %x: %q is left of it", typ.CQL(), value, out)
			}
			return
		}
		if !json.Valid(append(out, ']')) {
			t.Errorf("%s %x: %s is not JSON", typ.CQL(), value, out)
		}
		if len(out) > 6*len(value)+80 {
			t.Errorf("%s %x: %d bytes", typ.CQL(), value, len(out))
		}
	})
}

func seedValues(f *testing.F) {
	for _, v := range recordedValues(f, "values.txt") {
		for kind, typ := range valueTypes {
			if typ == v.typ {
				f.Add(byte(kind), v.value)
			}
		}
	}
}

func BenchmarkAppendJSON(b *testing.B) {
	for _, c := range []struct{ typ, value string }{
		{"int", "00bc614e"}, {"text", "506c61696e2074657874"}, {"uuid", "6f9619ff8b86d011b42d00c04fc964ff"}, {"timestamp", "0000018df4e1a6d5"},
		{"double", "400921fb54442d18"}, {"decimal", "000000023039"},
	} {
		b.Run(c.typ, func(b *testing.B) {
			typ, value := nativeTypes[c.typ], unhex(b, c.value)
			var dst []byte
			b.ReportAllocs()
			for b.Loop() {
				dst, _ = typ.AppendJSON(dst[:0], value)
			}
		})
	}
}

// twosComplement reads a number byte by byte.
func twosComplement(value []byte) *big.Int {
	n := new(big.Int)
	for i, b := range value {
		digit := int64(b)
		if i == 0 {
			digit = int64(int8(b))
		}
		n.Lsh(n, 8).Add(n, big.NewInt(digit))
	}
	return n
}

// readDuration reads months, days and nanoseconds from a text in quotes.
func readDuration(text string) [3]int64 {
	var d [3]int64
	text, negative := strings.CutPrefix(strings.Trim(text, `"`), "-")
	for text != "" {
		digits := strings.TrimLeft(text, "0123456789")
		n, _ := strconv.ParseInt(text[:len(text)-len(digits)], 10, 64)
		unit := digits[:len(digits)-len(strings.TrimLeft(digits, "ymodhsun"))]
		text = digits[len(unit):]
		switch unit {
		case "y":
			d[0] += 12 * n
		case "mo":
			d[0] += n
		case "d":
			d[1] += n
		default:
			length, _ := time.ParseDuration("1" + unit)
			d[2] += n * int64(length)
		}
	}
	if negative {
		return [3]int64{-d[0], -d[1], -d[2]}
	}
	return d
}

// longestVint reads a variable-length integer of 9 bytes.
func longestVint(value []byte) int64 {
	u := binary.BigEndian.Uint64(value[1:])
	if u%2 == 1 {
		return -int64(u/2) - 1
	}
	return int64(u / 2)
}

// rational is a decimal's value.
func rational(value []byte) *big.Rat {
	scale := int64(int32(binary.BigEndian.Uint32(value)))
	power := new(big.Int).Exp(big.NewInt(10), big.NewInt(max(scale, -scale)), nil)
	n := new(big.Rat).SetInt(twosComplement(value[4:]))
	if scale < 0 {
		return n.Mul(n, new(big.Rat).SetInt(power))
	}
	return n.Quo(n, new(big.Rat).SetInt(power))
}

// randomValue makes a value that the type's validate accepts, often one at an edge, and now and then the empty one.
func randomValue(r *rand.Rand, typ *Type) []byte {
	edges := []byte{0x00, 0x01, 0x7f, 0x80, 0xff}
	some := func(n int) []byte {
		b := make([]byte, n)
		for i := range b {
			if b[i] = edges[r.IntN(len(edges))]; r.IntN(2) == 0 {
				b[i] = byte(r.Uint32())
			}
		}
		return b
	}
	if r.IntN(50) == 0 && typ.Validate([]byte{}) == nil {
		return []byte{}
	}
	switch typ.Kind {
	case KindASCII:
		b := some(r.IntN(6))
		for i := range b {
			b[i] &= 0x7f
		}
		return b
	case KindText:
		b := []byte{}
		for range r.IntN(5) {
			b = utf8.AppendRune(b, [...]rune{0, 1, 'a', '"', 0x7f, 0x80, 0x7ff, 0x800, 0xfffd, 0x10000, utf8.MaxRune, r.Int32N(0x3000)}[r.IntN(12)])
		}
		return b
	case KindBlob:
		return some(r.IntN(6))
	case KindVarint:
		return randomInteger(r)
	case KindDecimal:
		scales := [...]int32{0, 1, 2, -1, r.Int32N(20) - 10, r.Int32N(20) - 10, math.MaxInt32, math.MinInt32}
		return append(binary.BigEndian.AppendUint32(nil, uint32(scales[r.IntN(len(scales))])), randomInteger(r)...)
	case KindDouble:
		switch r.IntN(4) {
		case 0:
			return binary.BigEndian.AppendUint64(nil, math.Float64bits(float64(r.IntN(2000)-1000)/100))
		case 1:
			special := [...]float64{0, math.Copysign(0, -1), math.Inf(1), math.Inf(-1), math.NaN(), math.MaxFloat64, math.SmallestNonzeroFloat64}
			return binary.BigEndian.AppendUint64(nil, math.Float64bits(special[r.IntN(len(special))]))
		}
	case KindFloat:
		switch r.IntN(4) {
		case 0:
			return binary.BigEndian.AppendUint32(nil, math.Float32bits(float32(r.IntN(2000)-1000)/100))
		case 1:
			special := [...]float32{0, float32(math.Copysign(0, -1)), float32(math.Inf(1)), float32(math.Inf(-1)), float32(math.NaN()), math.MaxFloat32, math.SmallestNonzeroFloat32}
			return binary.BigEndian.AppendUint32(nil, math.Float32bits(special[r.IntN(len(special))]))
		}
	case KindInet:
		return some([...]int{4, 16}[r.IntN(2)])
	case KindTimeuuid, KindUUID:
		b := some(16)
		if typ.Kind == KindTimeuuid || r.IntN(2) == 0 {
			b[6] = b[6]&0x0f | 0x10
		}
		return b
	case KindDuration:
		b := []byte{}
		negative := uint64(r.IntN(2))
		for _, bits := range [...]int{31, 31, 63} {
			n := r.Uint64N(1 << r.IntN(bits+1))
			zigzag := n<<1 - min(n, 1)*negative
			b = append(b, 0xff) // the longest form, which readers take as well
			b = binary.BigEndian.AppendUint64(b, zigzag)
		}
		return b
	}
	lengths := map[Kind]int{
		KindBoolean: 1, KindTinyint: 1, KindSmallint: 2, KindInt: 4, KindFloat: 4, KindDate: 4,
		KindBigint: 8, KindDouble: 8, KindTime: 8, KindTimestamp: 8,
	}
	return some(lengths[typ.Kind])
}

// randomInteger makes a two's complement number, often with bytes that only repeat the sign.
func randomInteger(r *rand.Rand) []byte {
	n := big.NewInt(r.Int64N(400) - 200)
	if r.IntN(2) == 0 {
		n.Lsh(big.NewInt(1), uint(r.IntN(800)))
		n.Add(n, big.NewInt(r.Int64N(3)-1))
		if r.IntN(2) == 0 {
			n.Neg(n)
		}
	}
	length := n.BitLen()/8 + 1 + r.IntN(2)*r.IntN(4)
	b := make([]byte, length)
	if n.Sign() < 0 {
		n.Add(n, new(big.Int).Lsh(big.NewInt(1), uint(8*length)))
	}
	return n.FillBytes(b)
}
