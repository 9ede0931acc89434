package schema

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// randomNames are names of types, fields and columns that need quotes for different reasons, and some that need none.
var randomNames = []string{"a", "b_2", "zip", "Upper", "with space", `quo"te`, "dot.ted", "äpfel", "2nd", "_x", "int", "frozen", "list",
	"<b>&", "'", "東京", "\u2028", ""}

// randomTypes makes types as they stand in a table: what is nested is frozen.
type randomTypes struct {
	*rand.Rand
	udts []*Type // those made so far, none frozen
}

func newRandomTypes(t *testing.T, seed uint64) *randomTypes {
	r := &randomTypes{Rand: rand.New(rand.NewPCG(seed, 0))}
	for i, n := range r.Perm(len(randomNames))[:r.IntN(4)] {
		var fields []string
		var types []*Type
		for _, f := range r.Perm(len(randomNames))[:1+r.IntN(3)] {
			fields, types = append(fields, randomNames[f]), append(types, r.next(2))
		}
		u, err := NewUDT("k", randomNames[n], fields, types)
		if err != nil {
			t.Fatalf("seed %d, user type %d: %v", seed, i, err)
		}
		r.udts = append(r.udts, u)
	}
	return r
}

// find is the user types by name.
func (r *randomTypes) find(name string) *Type {
	for _, u := range r.udts {
		if u.Name == name {
			return u
		}
	}
	return nil
}

func (r *randomTypes) native() *Type {
	return nativeTypes[slices.Sorted(maps.Keys(nativeTypes))[r.IntN(len(nativeTypes))]]
}

// next makes a type nested at most depth deep.
func (r *randomTypes) next(depth int) *Type {
	nested := func() *Type { return freeze(r.next(depth - 1)) }
	if depth == 0 {
		return r.native()
	}
	var t *Type
	switch r.IntN(8) {
	case 0:
		t = &Type{Kind: KindList, Elems: []*Type{nested()}}
	case 1:
		t = &Type{Kind: KindSet, Elems: []*Type{nested()}}
	case 2:
		t = &Type{Kind: KindMap, Elems: []*Type{nested(), nested()}}
	case 3:
		t = &Type{Kind: KindTuple, Frozen: true}
		for range 1 + r.IntN(3) {
			t.Elems = append(t.Elems, nested())
		}
	case 4:
		t = &Type{Kind: KindVector, Frozen: true, Dimension: 1 + r.IntN(5), Elems: []*Type{nested()}}
	case 5:
		return &Type{Kind: KindCustom, Name: "org.example." + randomNames[r.IntN(len(randomNames))]}
	case 6:
		if len(r.udts) > 0 {
			t = r.udts[r.IntN(len(r.udts))]
			break
		}
		fallthrough
	default:
		return r.native()
	}
	if r.IntN(2) == 0 {
		return freeze(t)
	}
	return t
}

func TestParseTypeReadsCQL(t *testing.T) {
	for seed := uint64(0); seed < 2000; seed++ {
		r := newRandomTypes(t, seed)
		want := r.next(4)
		got, err := ParseType(want.CQL(), r.find)
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("seed %d: %s was read as %s", seed, want.CQL(), got.CQL())
		}
	}
}

func TestParseType(t *testing.T) {
	place, err := NewUDT("k", "place", []string{"a"}, []*Type{{Kind: KindList, Elems: []*Type{nativeTypes["int"]}}})
	if err != nil {
		t.Fatal(err)
	}
	if place.Frozen || !place.Elems[0].Frozen {
		t.Errorf("a user type and its list are frozen: %v and %v, expected false and true", place.Frozen, place.Elems[0].Frozen)
	}
	udts := func(name string) *Type {
		if name == "place" {
			return place
		}
		return nil
	}
	for text, want := range map[string]string{
		"int":                           "int",
		" VarChar ":                     "text",
		"frozen<int>":                   "int",
		"list<int>":                     "list<int>",
		"frozen<list<list<int>>>":       "frozen<list<frozen<list<int>>>>",
		"frozen<frozen<set<int>>>":      "frozen<set<int>>",
		"Map < text , SET<\nblob > >":   "map<text, frozen<set<blob>>>",
		"frozen<tuple<int, list<int>>>": "tuple<int, frozen<list<int>>>",
		"vector<list<int>, 3>":          "vector<frozen<list<int>>, 3>",
		"place":                         "place",
		`k."place"`:                     "place",
		"list<place>":                   "list<frozen<place>>",
		"'org.example.It''s'":           "'org.example.It''s'",
		"vector<float, 536870911>":      "vector<float, 536870911>",
	} {
		got, err := ParseType(text, udts)
		if err != nil || got.CQL() != want {
			t.Errorf("%s: %v, %v, expected %s", text, got, err, want)
		}
	}
	for text, want := range map[string]string{
		"":                                   `expected a type at its end`,
		"int int":                            `unexpected "int" behind it`,
		"list":                               `unknown type list`,
		"list<int":                           `expected ',' at offset 8`,
		"list<int, int>":                     `list<> holds 2 types, expected 1`,
		"map<int>":                           `map<> holds 1 types, expected 2`,
		"frozen<int, int>":                   `frozen<> holds 2 types, expected 1`,
		"tuple<>":                            `expected a type at offset 6`,
		"bag<int>":                           `unknown type bag<>`,
		"Place2":                             `unknown type place2`,
		`"Int"`:                              `unknown type "Int"`,
		`"int`:                               `the quote at offset 0 has no end`,
		"vector<int>":                        `a vector has no dimension, expected vector<type, number>`,
		"vector<int, 0>":                     `a vector has the dimension "0", expected a number from 1 to 2147483647`,
		"vector<int, x>":                     `a vector has the dimension "x", expected a number from 1 to 2147483647`,
		"vector<int, 2, 3>":                  `expected '>' at offset 13`,
		"vector<int, 536870912>":             `a vector of 536870912 values of 4 bytes each, expected at most 2147483647 bytes`,
		"vector<vector<uuid, 9>, 100000000>": `a vector of 100000000 values of 144 bytes each, expected at most 2147483647 bytes`,
	} {
		_, err := ParseType(text, udts)
		if want := fmt.Sprintf("type %q: %s", text, want); err == nil || err.Error() != want {
			t.Errorf("%s: %v, expected %s", text, err, want)
		}
	}
}

// A type of the greatest depth is read back from its text, although that has frozen<> around each level.
func TestParseTypeBoundsDepth(t *testing.T) {
	nested := func(name string, n int) string { return strings.Repeat(name+"<", n) + "int" + strings.Repeat(">", n) }
	deepest, err := ParseType(nested("list", maxTypeDepth), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ParseType(deepest.CQL(), nil); err != nil {
		t.Error(err)
	}
	for _, text := range []string{nested("list", maxTypeDepth+1), nested("frozen", maxTypeDepth+2), nested("frozen", 1e6)} {
		if _, err := ParseType(text, nil); err == nil || !strings.HasSuffix(err.Error(), "nested more than 64 deep") {
			t.Errorf("%.40s...: %.200v, expected that it is nested too deep", text, err)
		}
	}
}

func FuzzParseType(f *testing.F) {
	for _, text := range []string{"int", "frozen<map<text, list<blob>>>", "vector<float, 3>", `tuple<k."u", 'x.Y'>`, "list<u>", "map<int,"} {
		f.Add(text)
	}
	udt, err := NewUDT("k", "u", []string{"a"}, []*Type{nativeTypes["int"]})
	if err != nil {
		f.Fatal(err)
	}
	udts := func(name string) *Type {
		if name == "u" {
			return udt
		}
		return nil
	}
	f.Fuzz(func(t *testing.T, text string) {
		first, err := ParseType(text, udts)
		if err != nil {
			return
		}
		again, err := ParseType(first.CQL(), udts)
		if err != nil || !reflect.DeepEqual(first, again) {
			t.Errorf("%q was read as %s, and that as %v, %v", text, first.CQL(), again, err)
		}
	})
}
