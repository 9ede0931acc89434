package differential

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"cassdelta/schema"
)

func testGenerator(t *testing.T, version string, seed uint64) *generator {
	t.Helper()
	variants, err := Variants([]string{version}, []string{"plain"})
	if err != nil {
		t.Fatal(err)
	}
	g := newGenerator(variants[0], seed)
	g.now = func() int64 { return 1800000000000000 }
	return g
}

// Every value is one that Cassandra takes, by the rules of package schema.
func TestValuesAreValid(t *testing.T) {
	g := testGenerator(t, "5.0", seed)
	g.makeUserTypes()
	kinds := map[schema.Kind]int{}
	for range 5000 {
		typ := g.columnType(inColumn)
		kinds[typ.Kind]++
		if v := g.value(typ); typ.Validate(v) != nil {
			t.Fatalf("seed %d: %s 0x%x: %v", seed, typ.CQL(), v, typ.Validate(v))
		}
	}
	for _, kind := range append(slices.Clone(natives), schema.KindList, schema.KindSet, schema.KindMap, schema.KindTuple, schema.KindUDT, schema.KindVector, schema.KindCustom) {
		if kinds[kind] == 0 {
			t.Errorf("no column of kind %d was drawn", kind)
		}
	}
}

// The same seed gives the same run.
func TestRunsCanBeRepeated(t *testing.T) {
	draw := func() string {
		g := testGenerator(t, "4.1", seed)
		var b strings.Builder
		statements := g.makeSchema()
		for range phases {
			fmt.Fprintln(&b, statements)
			for range 500 {
				w := g.next()
				fmt.Fprintln(&b, w.batch, w.mutations, w.String())
			}
			statements = g.alter()
		}
		return b.String()
	}
	if first, second := draw(), draw(); first != second {
		t.Error("two runs with one seed differ")
	}
}

func TestUvint(t *testing.T) {
	for n, want := range map[uint64]string{
		0: "00", 127: "7f", 128: "8080", 300: "812c", 16383: "bfff", 16384: "c04000", 2097152: "e0200000",
		257120000000000: "fce9d96a43c000", 1<<56 - 1: "feffffffffffffff", 1 << 56: "ff0100000000000000", 1<<64 - 1: "ffffffffffffffffff",
	} {
		if got := fmt.Sprintf("%x", appendUvint(nil, n)); got != want {
			t.Errorf("%d: %s, expected %s", n, got, want)
		}
	}
}

func TestVariants(t *testing.T) {
	all, err := Variants(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, v := range all {
		names = append(names, v.Name())
	}
	for _, want := range []string{"4.0/plain", "4.1/encrypted", "5.0/direct", "5.0-v8/zstd"} {
		if !slices.Contains(names, want) {
			t.Errorf("%s is missing among %v", want, names)
		}
	}
	if slices.Contains(names, "4.0/direct") {
		t.Error("4.0 has no direct commit log")
	}
	for _, bad := range [][2]string{{"3.11", "plain"}, {"5.0", "gzip"}} {
		if _, err := Variants([]string{bad[0]}, []string{bad[1]}); err == nil || !strings.Contains(err.Error(), "is unknown: expected some of") {
			t.Errorf("%v: %v", bad, err)
		}
	}
	if v, err := Variants([]string{"4.0"}, []string{"direct"}); len(v) > 0 || err != nil {
		t.Errorf("%v, %v", v, err)
	}
}

// A key is joined as Cassandra does it, and a type that has got a field has it wherever it is.
func TestKeysAndGrownTypes(t *testing.T) {
	g := testGenerator(t, "5.0", seed)
	for n := 1; n <= 3; n++ {
		u := &unit{g: g, group: g.newGroup(n)}
		key, err := u.joinKey(u.group.keys[0])
		if err != nil {
			t.Fatal(err)
		}
		want := u.group.keys[0][0]
		if n > 1 {
			want = nil
			for _, v := range u.group.keys[0] {
				want = append(append(append(want, byte(len(v)>>8), byte(len(v))), v...), 0)
			}
		}
		if string(key) != string(want) {
			t.Errorf("%d columns: %x, expected %x", n, key, want)
		}
	}
	g.makeGrowing()
	version := *g.grows
	version.Fields, version.Elems = append(version.Fields, "new"), append(version.Elems, version.Elems[0])
	list := grown(&schema.Type{Kind: schema.KindList, Elems: []*schema.Type{g.grows}}, &version)
	if len(list.Elems[0].Fields) != 2 || len(g.grows.Fields) != 1 {
		t.Errorf("the list is of %v, the old type has the fields %v", list.Elems[0].Fields, g.grows.Fields)
	}
}
