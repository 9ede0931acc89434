package schema

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"encoding/hex"
	"math"
	"math/big"
	"math/rand/v2"
	"strings"
	"testing"
)

// State is stored under these forms: a change of one is a change of every stored state.
func TestComparableForms(t *testing.T) {
	for _, c := range []struct{ typ, value, want string }{
		{"ascii", "6162", "0361620000"},
		{"text", "610062", "036100ff620000"},
		{"blob", "00", "0300ff0000"},
		{"blob", "", "02"},
		{"boolean", "00", "0300"},
		{"boolean", "02", "0301"},
		{"tinyint", "80", "0300"},
		{"smallint", "0001", "038001"},
		{"int", "ffffffff", "037fffffff"},
		{"int", "", "02"},
		{"bigint", "0000000000000001", "038000000000000001"},
		{"timestamp", "ffffffffffffffff", "037fffffffffffffff"},
		{"date", "80000001", "0380000001"},
		{"time", "00000000000000ff", "0300000000000000ff"},
		{"float", "3f800000", "03bf800000"},
		{"float", "bf800000", "03407fffff"},
		{"float", "80000000", "037fffffff"},
		{"float", "ffc00001", "03ffc00000"},
		{"double", "3ff0000000000000", "03bff0000000000000"},
		{"double", "fff0000000000000", "03000fffffffffffff"},
		{"double", "7ff0000000000001", "03fff8000000000000"},
		{"inet", "01020304", "030102030400"},
		{"inet", "01020304000000000000000000000005", "030102030401000000000000000000000005"},
		{"timeuuid", "d2177dd0eaa211dea572001b779c76e3", "0391deeaa2d2177dd025f2809bf71cf663"},
		{"uuid", "d2177dd0eaa211dea572001b779c76e3", "030111deeaa2d2177dd0a572001b779c76e3"},
		{"uuid", "6f9619ff8b86d011b42d00c04fc964ff", "030d6f9619ff8b86d011b42d00c04fc964ff"},
		{"varint", "00", "8000"},
		{"varint", "ffff", "7fff"},
		{"varint", "0080", "810080"},
		{"varint", "ff7f", "7eff7f"},
		{"varint", "01" + strings.Repeat("00", 0x5f), "df01" + strings.Repeat("00", 0x5f)},
		{"varint", "01" + strings.Repeat("00", 0x60), "e00000006101" + strings.Repeat("00", 0x60)},
		{"varint", "fe" + strings.Repeat("00", 0x5f), "20fe" + strings.Repeat("00", 0x5f)},
		{"varint", "fe" + strings.Repeat("00", 0x60), "1fffffff9efe" + strings.Repeat("00", 0x60)},
		{"decimal", "0000000000", "05"},
		{"decimal", "00000007", "05"},
		{"decimal", "0000000101", "0680000b00"},   // 0.1 is 0.1 * 10^0
		{"decimal", "000000020a", "0680000b00"},   // 0.10
		{"decimal", "000000017d", "0680020d3300"}, // 12.5 is 0.125 * 10^2
		{"decimal", "0000000183", "047ffdf2ccff"}, // -12.5
		{"decimal", "8000000001", "0684" + "0080000001" + "0b00"},
		{"decimal", "7fffffff01", "067c" + "80000002" + "0b00"},
	} {
		got, err := nativeTypes[c.typ].AppendComparable(nil, unhex(t, c.value), false)
		if err != nil || hex.EncodeToString(got) != c.want {
			t.Errorf("%s %s: %x, %v, expected %s", c.typ, c.value, got, err, c.want)
		}
	}
	got, err := nativeTypes["int"].AppendComparable([]byte{9}, nil, false)
	if err != nil || hex.EncodeToString(got) != "0901" {
		t.Errorf("null: %x, %v", got, err)
	}
	got, err = nativeTypes["int"].AppendComparable([]byte{9}, []byte{0, 0, 0, 1}, true)
	if err != nil || hex.EncodeToString(got) != "09fc7ffffffe" {
		t.Errorf("descending: %x, %v", got, err)
	}
}

func TestComparableOrderIsCassandras(t *testing.T) {
	values := recordedValues(t, "order.txt")
	equal := 0
	for i, v := range values {
		form, err := v.typ.AppendComparable(nil, v.value, false)
		if err != nil {
			t.Fatalf("%s: %v", v.line, err)
		}
		if i == 0 || values[i-1].typ != v.typ {
			continue
		}
		before, err := v.typ.AppendComparable(nil, values[i-1].value, false)
		if err != nil {
			t.Fatalf("%s: %v", values[i-1].line, err)
		}
		want := -1
		if v.rest == "=" {
			want = 0
			equal++
		}
		if got := bytes.Compare(before, form); got != want {
			t.Errorf("%s, then %s: the forms %x and %x compare as %d, expected %d", values[i-1].line, v.line, before, form, got, want)
		}
	}
	if equal < 50 {
		t.Errorf("only %d values are equal to another", equal)
	}
}

func TestComparableOrder(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	for _, typ := range valueTypes {
		if typ.Kind == KindDuration {
			continue
		}
		var values, forms [][]byte
		for range 150 {
			value := randomValue(r, typ)
			switch near := len(values); {
			case near == 0:
				value = nil
			case r.IntN(3) == 0:
				// A value that differs from another by a byte.
				if changed := bytes.Clone(values[r.IntN(near)]); len(changed) > 0 {
					changed[r.IntN(len(changed))] ^= 1 << r.IntN(8)
					if typ.Validate(changed) == nil {
						value = changed
					}
				}
			}
			form, err := typ.AppendComparable(nil, value, false)
			if err != nil {
				t.Fatalf("%s %x: %v", typ.CQL(), value, err)
			}
			if form[0] == 0x00 || form[0] == 0xff {
				t.Errorf("%s %x: its form %x leaves no room for a bound", typ.CQL(), value, form)
			}
			values, forms = append(values, value), append(forms, form)
		}
		for i, a := range values {
			for j, b := range values {
				want := compareValues(typ, a, b)
				if got := bytes.Compare(forms[i], forms[j]); got != want {
					t.Fatalf("%s: %x and %x have the forms %x and %x, which compare as %d, expected %d", typ.CQL(), a, b, forms[i], forms[j], got, want)
				}
				if want != 0 && bytes.HasPrefix(forms[i], forms[j]) {
					t.Fatalf("%s: the form %x of %x begins with %x, that of %x", typ.CQL(), forms[i], a, forms[j], b)
				}
			}
		}
	}
}

// Forms one behind another compare as the values do one by one, each column in its own order.
func TestComparableOrderOfLists(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	for range 20_000 {
		var a, b []byte
		want := 0
		for range 1 + r.IntN(3) {
			typ, desc := valueTypes[r.IntN(len(valueTypes))], r.IntN(2) == 0
			if typ.Kind == KindDuration {
				continue
			}
			left := randomValue(r, typ)
			right := left
			if r.IntN(3) == 0 {
				right = randomValue(r, typ)
			}
			var err error
			if a, err = typ.AppendComparable(a, left, desc); err == nil {
				b, err = typ.AppendComparable(b, right, desc)
			}
			if err != nil {
				t.Fatal(err)
			}
			if want == 0 {
				if want = compareValues(typ, left, right); desc {
					want = -want
				}
			}
		}
		if got := bytes.Compare(a, b); got != want {
			t.Fatalf("%x and %x compare as %d, expected %d", a, b, got, want)
		}
	}
}

func TestComparableOfWrongValues(t *testing.T) {
	for _, c := range []struct {
		typ    string
		length int
	}{
		{"boolean", 2}, {"tinyint", 2}, {"smallint", 1}, {"int", 3}, {"float", 5}, {"date", 8}, {"bigint", 4}, {"double", 7}, {"time", 9},
		{"timestamp", 1}, {"uuid", 15}, {"timeuuid", 17}, {"inet", 5}, {"decimal", 3}, {"empty", 1},
		{"varint", maxComparableNumber + 1}, {"decimal", maxComparableNumber + 1},
	} {
		if got, err := nativeTypes[c.typ].AppendComparable([]byte("x"), make([]byte, c.length), true); err == nil || string(got) != "x" {
			t.Errorf("%s of %d bytes: %d bytes, %v", c.typ, c.length, len(got), err)
		}
	}
}

// However far a decimal's point is from its digits, only the digits take room.
func TestComparableDecimalsAreBounded(t *testing.T) {
	for _, scale := range []int32{math.MinInt32, math.MaxInt32} {
		value := append(binary.BigEndian.AppendUint32(nil, uint32(scale)), 0x7f)
		allocations := testing.AllocsPerRun(10, func() {
			form, err := nativeTypes["decimal"].AppendComparable(make([]byte, 0, 32), value, false)
			if err != nil || len(form) > 12 {
				t.Errorf("scale %d: %x, %v", scale, form, err)
			}
		})
		if allocations > 1 {
			t.Errorf("scale %d: %v allocations", scale, allocations)
		}
	}
}

func TestComparableAllocatesNothing(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	dst := make([]byte, 0, 2000)
	for _, typ := range valueTypes {
		if typ.Kind == KindDuration {
			continue
		}
		for range 20 {
			value := randomValue(r, typ)
			if typ.Kind == KindDecimal && len(value) > 4+8 {
				continue
			}
			if n := testing.AllocsPerRun(1, func() { dst, _ = typ.AppendComparable(dst[:0], value, true) }); n > 0 {
				t.Errorf("%s %x: %v allocations", typ.CQL(), value, n)
			}
		}
	}
}

func FuzzComparable(f *testing.F) {
	for i, v := range recordedValues(f, "order.txt") {
		for kind, typ := range valueTypes {
			if typ == v.typ && i%10 == 0 {
				f.Add(byte(kind), v.value, v.value)
				f.Add(byte(kind), v.value, append([]byte{0}, v.value...))
			}
		}
	}
	f.Fuzz(func(t *testing.T, kind byte, a, b []byte) {
		typ := valueTypes[int(kind)%len(valueTypes)]
		formA, err := typ.AppendComparable(nil, a, false)
		if err != nil {
			return
		}
		if len(formA) > 2*len(a)+32 {
			t.Errorf("%s %x: %d bytes", typ.CQL(), a, len(formA))
		}
		formB, err := typ.AppendComparable(nil, b, false)
		if err != nil || typ.Validate(a) != nil || typ.Validate(b) != nil {
			return
		}
		if got, want := bytes.Compare(formA, formB), compareValues(typ, a, b); got != want {
			t.Errorf("%s: %x and %x have the forms %x and %x, which compare as %d, expected %d", typ.CQL(), a, b, formA, formB, got, want)
		} else if got != 0 && bytes.HasPrefix(formA, formB) {
			t.Errorf("%s: the form %x of %x begins with %x, that of %x", typ.CQL(), formA, a, formB, b)
		}
	})
}

func BenchmarkAppendComparable(b *testing.B) {
	for _, c := range []struct{ typ, value string }{
		{"int", "00bc614e"}, {"bigint", "0000000000bc614e"}, {"text", "506c61696e2074657874"}, {"uuid", "6f9619ff8b86d011b42d00c04fc964ff"},
		{"timeuuid", "d2177dd0eaa211dea572001b779c76e3"}, {"timestamp", "0000018df4e1a6d5"}, {"varint", "00bc614e"}, {"decimal", "000000023039"},
	} {
		b.Run(c.typ, func(b *testing.B) {
			typ, value := nativeTypes[c.typ], unhex(b, c.value)
			var dst []byte
			b.ReportAllocs()
			for b.Loop() {
				dst, _ = typ.AppendComparable(dst[:0], value, false)
			}
		})
	}
}

// compareValues compares as Cassandra's comparators do, in plain steps: null, then the empty value, then the others.
func compareValues(typ *Type, a, b []byte) int {
	if len(a) == 0 || len(b) == 0 {
		rank := func(v []byte) int {
			switch {
			case v == nil:
				return 0
			case len(v) == 0:
				return 1
			}
			return 2
		}
		return cmp.Compare(rank(a), rank(b))
	}
	switch typ.Kind {
	case KindBoolean:
		return cmp.Compare(min(a[0], 1), min(b[0], 1))
	case KindTinyint, KindSmallint, KindInt, KindBigint, KindTimestamp, KindVarint:
		return twosComplement(a).Cmp(twosComplement(b))
	case KindDecimal:
		return compareDecimals(a, b)
	case KindFloat:
		return compareFloats(float64(math.Float32frombits(binary.BigEndian.Uint32(a))), float64(math.Float32frombits(binary.BigEndian.Uint32(b))))
	case KindDouble:
		return compareFloats(math.Float64frombits(binary.BigEndian.Uint64(a)), math.Float64frombits(binary.BigEndian.Uint64(b)))
	case KindUUID:
		if c := cmp.Compare(a[6]>>4, b[6]>>4); c != 0 {
			return c
		}
		if a[6]>>4 == 1 {
			if c := cmp.Compare(uuidTime(a), uuidTime(b)); c != 0 {
				return c
			}
		}
	case KindTimeuuid:
		if c := cmp.Compare(uuidTime(a), uuidTime(b)); c != 0 {
			return c
		}
		for i := 8; i < 16; i++ {
			if c := cmp.Compare(int8(a[i]), int8(b[i])); c != 0 {
				return c
			}
		}
		return 0
	}
	return bytes.Compare(a, b)
}

// compareFloats is Double.compare.
func compareFloats(a, b float64) int {
	switch {
	case a != a || b != b:
		return cmp.Compare(btoi(a != a), btoi(b != b))
	case a == b:
		return cmp.Compare(btoi(!math.Signbit(a)), btoi(!math.Signbit(b)))
	}
	return cmp.Compare(a, b)
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// uuidTime is the time stamp of a version 1 UUID, in units of 100 ns since 1582.
func uuidTime(v []byte) uint64 {
	low, mid, high := binary.BigEndian.Uint32(v), binary.BigEndian.Uint16(v[4:]), binary.BigEndian.Uint16(v[6:])
	return uint64(high&0x0fff)<<48 | uint64(mid)<<32 | uint64(low)
}

// compareDecimals compares by sign, then by how many digits there are before the point, and then, as the scales cannot
// differ by more than the numbers of digits, the numbers that the two are with the same scale.
func compareDecimals(a, b []byte) int {
	unscaledA, unscaledB := twosComplement(a[4:]), twosComplement(b[4:])
	scaleA, scaleB := int64(int32(binary.BigEndian.Uint32(a))), int64(int32(binary.BigEndian.Uint32(b)))
	if signs := cmp.Compare(unscaledA.Sign(), unscaledB.Sign()); signs != 0 || unscaledA.Sign() == 0 {
		return signs
	}
	before := func(unscaled *big.Int, scale int64) int64 {
		return int64(len(new(big.Int).Abs(unscaled).String())) - scale
	}
	if c := cmp.Compare(before(unscaledA, scaleA), before(unscaledB, scaleB)); c != 0 {
		return c * unscaledA.Sign()
	}
	scale := max(scaleA, scaleB)
	unscaledA.Mul(unscaledA, new(big.Int).Exp(big.NewInt(10), big.NewInt(scale-scaleA), nil))
	unscaledB.Mul(unscaledB, new(big.Int).Exp(big.NewInt(10), big.NewInt(scale-scaleB), nil))
	return unscaledA.Cmp(unscaledB)
}
