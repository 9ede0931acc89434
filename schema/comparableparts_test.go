package schema

import (
	"bytes"
	"encoding/hex"
	"math/rand/v2"
	"strings"
	"testing"
)

// As in [TestComparableForms]: state is stored under these.
func TestComparableFormsOfParts(t *testing.T) {
	place := placeType(t)
	for _, c := range []struct{ typ, value, want string }{
		{"frozen<list<int>>", "00000000", "0300"},
		{"frozen<list<int>>", "00000002 00000004 00000001 00000000", "03" + "0380000001" + "02" + "00"},
		{"frozen<set<text>>", "00000001 00000001 61", "03" + "03610000" + "00"},
		{"frozen<map<int, text>>", "00000001 00000004 00000001 00000001 61", "03" + "0380000001" + "03610000" + "00"},
		{"tuple<int, int>", "ffffffff ffffffff", "0300"},
		{"tuple<int, int>", "ffffffff", "0300"},
		{"tuple<int, int>", "", "02"},
		{"tuple<int, int>", "ffffffff 00000004 00000001", "03" + "01" + "0380000001" + "00"},
		{"tuple<int, int>", "00000004 00000001 ffffffff", "03" + "0380000001" + "00"},
		{"frozen<place>", "00000001 61", "03" + "03610000" + "00"},
		{"vector<int, 2>", "00000001 00000002", "03" + "0380000001" + "0380000002" + "00"},
		{"vector<text, 2>", "0161 00", "03" + "03610000" + "02" + "00"},
		{"frozen<list<frozen<set<int>>>>", "00000001 00000004 00000000", "03" + "0300" + "00"},
	} {
		got, err := mustType(t, c.typ, place).AppendComparable(nil, avroHex(t, c.value), false)
		if err != nil || hex.EncodeToString(got) != c.want {
			t.Errorf("%s %s: %x, %v, expected %s", c.typ, c.value, got, err, c.want)
		}
	}
	for _, c := range []struct{ typ, value string }{
		{"frozen<list<int>>", "00000001"}, {"frozen<list<int>>", "00000001 00000001 00"}, {"vector<int, 2>", "00000001"}, {"frozen<set<int>>", "ffffffff"},
		{"frozen<list<duration>>", "00000001 00000003 000000"},
	} {
		if got, err := mustType(t, c.typ).AppendComparable([]byte("x"), avroHex(t, c.value), true); err == nil || string(got) != "x" {
			t.Errorf("%s %s: %x, %v, expected an error", c.typ, c.value, got, err)
		}
	}
}

// The forms order values as [Type.Compare] does, which looks at the values themselves.
func TestComparableOrderOfParts(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	equal := 0
	for range 400 {
		typ := randomEventType(t, r, 3, true)
		var values, forms [][]byte
		for range 20 {
			value := randomNestedCase(t, r, typ).cql
			if n := len(values); n > 0 && r.IntN(3) == 0 {
				// A value that differs from another by a byte.
				if changed := bytes.Clone(values[r.IntN(n)]); len(changed) > 0 {
					changed[r.IntN(len(changed))] ^= 1 << r.IntN(8)
					if typ.Validate(changed) == nil {
						value = changed
					}
				}
			}
			form, err := typ.AppendComparable(nil, value, false)
			if err != nil && strings.Contains(err.Error(), "has the size -") {
				continue
			}
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
				want := typ.Compare(a, b)
				if want == 0 && !bytes.Equal(a, b) {
					equal++
				}
				if got := bytes.Compare(forms[i], forms[j]); sign(got) != sign(want) {
					t.Fatalf("%s: %x and %x have the forms %x and %x, which compare as %d, expected %d", typ.CQL(), a, b, forms[i], forms[j], got, want)
				}
				if want != 0 && bytes.HasPrefix(forms[i], forms[j]) {
					t.Fatalf("%s: the form %x of %x begins with %x, that of %x", typ.CQL(), forms[i], a, forms[j], b)
				}
			}
		}
	}
	if equal == 0 {
		t.Error("no two values are equal and differ in their bytes")
	}
}

func TestComparableOrderOfPartsIsCassandras(t *testing.T) {
	var last nestedValue
	var before []byte
	compared := 0
	for _, v := range recordedNested(t, "nested-order.txt") {
		form, err := v.typ.AppendComparable(nil, v.value, false)
		if err != nil { // durations, which cannot be part of a key
			before = nil
			continue
		}
		if before != nil && last.typ == v.typ {
			want := -1
			if v.rest == "=" {
				want = 0
			}
			if got := bytes.Compare(before, form); got != want {
				t.Errorf("%s and %s have the forms %x and %x, which compare as %d, expected %d", last.line, v.line, before, form, got, want)
			}
			compared++
		}
		last, before = v, form
	}
	if compared < 200 {
		t.Errorf("%d values were compared", compared)
	}
}

func sign(n int) int {
	switch {
	case n < 0:
		return -1
	case n > 0:
		return 1
	}
	return 0
}
