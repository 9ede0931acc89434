package schema

import (
	"slices"
	"strings"
	"testing"
)

func TestUnsupported(t *testing.T) {
	regular := func(typ *Type) []Column { return []Column{{Name: "The Value", Kind: Regular, Type: typ}} }
	compound := []string{"compound"}
	type unsupported struct {
		columns []Column
		flags   []string
		view    bool
		want    []string // what the reason must name
	}
	cases := []unsupported{
		{nil, nil, false, []string{"COMPACT STORAGE"}},
		{nil, []string{"dense"}, false, []string{"COMPACT STORAGE"}},
		{nil, []string{"compound", "dense"}, false, []string{"COMPACT STORAGE"}},
		{nil, []string{"compound", "super"}, false, []string{"COMPACT STORAGE"}},
		{nil, compound, true, []string{"materialized view"}},
	}
	for _, typ := range append(unsupportedTypes[1:], nativeTypes["empty"], mustType(t, "list<counter>"), mustType(t, "vector<frozen<tuple<'x'>>, 2>"),
		mustType(t, "frozen<map<int, counter>>")) {
		cases = append(cases, unsupported{regular(typ), compound, false, []string{`"The Value"`, typ.CQL()}})
	}
	// User types that have the one before twice.
	deep := &Type{Kind: KindInt}
	for range 60 {
		deep = &Type{Kind: KindUDT, Name: "deep", Frozen: true, Fields: []string{"a", "b"}, Elems: []*Type{deep, deep}}
	}
	cases = append(cases, unsupported{regular(deep), compound, false, []string{`"The Value"`, "too long"}})
	for _, c := range cases {
		table := *keyTable(t, 1, c.columns...)
		table.Flags, table.View = c.flags, c.view
		reason := table.Unsupported()
		if reason == "" || slices.ContainsFunc(c.want, func(word string) bool { return !strings.Contains(reason, word) }) {
			t.Errorf("flags %v, view %v, columns %v: %q does not name %q", c.flags, c.view, c.columns, reason, c.want)
		}
	}
	for _, typ := range append(valueTypes, nativeTypes["counter"], mustType(t, "frozen<map<int, list<text>>>"), mustType(t, "map<int, frozen<list<text>>>"), mustType(t, "list<int>"),
		mustType(t, "set<frozen<set<int>>>"), mustType(t, "tuple<int, frozen<set<uuid>>>"),
		mustType(t, "vector<float, 3>"), &Type{Kind: KindUDT, Name: "place", Frozen: true, Fields: []string{"a"}, Elems: []*Type{{Kind: KindInt}}}) {
		if reason := keyTable(t, 1, regular(typ)...).Unsupported(); reason != "" {
			t.Errorf("%s: %s", typ.CQL(), reason)
		}
	}
}
