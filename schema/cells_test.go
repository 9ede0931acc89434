package schema

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// cellType parses a type with the user types of nestedTypes.
func cellType(t testing.TB, text string) *Type {
	t.Helper()
	typ, err := ParseType(text, defineTypes(t, nestedTypes))
	if err != nil {
		t.Fatal(err)
	}
	return typ
}

func TestCellsJSON(t *testing.T) {
	const (
		early = "000000001000100080808080808080aa"
		late  = "00000000200010008080808080808080"
	)
	for _, c := range []struct{ typ, cells, want string }{
		{"list<int>", "", `null`},
		{"list<int>", late + ":00000002 " + early + ":00000001", `[1, 2]`},
		{"list<int>", early + ":-", `[""]`},
		{"list<frozen<list<int>>>", early + ":00000000", `[[]]`},
		{"set<int>", "00000007:- ffffffff:-", `[-1, 7]`},
		{"set<decimal>", "0000000165:- 000000000a:- 0000000209:-", `[0.09, 10, 10.1]`},
		{"set<text>", "-:- 61:-", `["", "a"]`},
		{"map<int, text>", "00000007:62 ffffffff:61", `{"-1": "a", "7": "b"}`},
		{"map<frozen<list<text>>, boolean>", "000000010000000161:01 00000000:00", `{"[]": false, "[\"a\"]": true}`},
		{"plain", "", `null`},
		{"plain", "0001:62", `{"a": null, "b": "b"}`},
		{"plain", "0001:62 0000:00000001", `{"a": 1, "b": "b"}`},
		{`"Case"`, "0002:020202", `{"\"Upper\"": null, "\"q\"u\\o\nte\"": null, "sp ace": "1mo1d1ns", "zürich": null, "\"Ä\"": null}`},
	} {
		if c.typ == `"Case"` {
			// The name of the second field has no capitals.
			c.want = strings.Replace(c.want, `"\"q\"u\\o\nte\""`, `"q\"u\\o\nte"`, 1)
		}
		typ := cellType(t, c.typ)
		var cells []ElementCell
		for cell := range strings.FieldsSeq(c.cells) {
			path, value, _ := strings.Cut(cell, ":")
			cells = append(cells, ElementCell{unhex(t, strings.Trim(path, "-")), unhex(t, strings.Trim(value, "-"))})
		}
		before := slices.Clone(cells)
		got, err := typ.AppendCellsJSON([]byte("x"), cells)
		if err != nil || string(got) != "x"+c.want {
			t.Errorf("%s %s: %s, %v, expected %s", c.typ, c.cells, got, err, c.want)
		}
		for i := range cells {
			if !bytes.Equal(cells[i].Path, before[i].Path) {
				t.Errorf("%s %s: the cells were changed", c.typ, c.cells)
			}
			if err := typ.ValidateCell(cells[i].Path, cells[i].Value); err != nil {
				t.Errorf("%s %s: %v", c.typ, c.cells, err)
			}
		}
	}
}

func TestCellsThatCannotBe(t *testing.T) {
	const uuid = "00000000100010008080808080808080"
	for _, c := range []struct{ typ, path, value, join, validate string }{
		{"list<int>", uuid, "0001", "", "a int has 2 bytes"},
		{"list<int>", "0001", "00000001", "", "path of a cell of a list: a timeuuid has 2 bytes"},
		{"set<int>", "00000001", "01", "", "cell of a set: a empty has 1 bytes"},
		{"set<int>", "000001", "", "", "path of a cell of a set"},
		{"map<int, int>", "000001", "00000001", "", "path of a cell of a map"},
		{"map<int, int>", "00000001", "000001", "", "cell of a map"},
		{"plain", "0002", "61", "of field 2, which the type does not have: it has 2", "of field 2"},
		{"plain", "ffff", "61", "of field -1", "of field -1"},
		{"plain", "000001", "61", "a path of 3 bytes", "a path of 3 bytes"},
		{"plain", "0000", "61", "", "cell of a plain: a int has 1 bytes"},
		{"frozen<plain>", "0000", "00000001", "has no cells", "has no cells"},
		{"int", "0000", "00000001", "has no cells", "has no cells"},
	} {
		typ := cellType(t, c.typ)
		path, value := unhex(t, c.path), unhex(t, c.value)
		if err := typ.ValidateCell(path, value); err == nil || !strings.Contains(err.Error(), c.validate) {
			t.Errorf("%s %s: %v, expected %q", c.typ, c.path, err, c.validate)
		}
		_, err := typ.JoinCells([]ElementCell{{path, value}})
		if (err != nil) != (c.join != "") || err != nil && !strings.Contains(err.Error(), c.join) {
			t.Errorf("%s %s: %v, expected %q", c.typ, c.path, err, c.join)
		}
	}
	typ := cellType(t, "set<decimal>")
	equal := []ElementCell{{Path: unhex(t, "0000000164")}, {Path: unhex(t, "000000000a")}}
	if _, err := typ.JoinCells(equal); err == nil || !strings.Contains(err.Error(), "two cells") {
		t.Errorf("10.0 and 10 in a set: %v", err)
	}
}

func TestPathAndCellJSON(t *testing.T) {
	for _, c := range []struct{ typ, path, value, wantPath, wantValue string }{
		{"list<text>", "d2177dd0eaa211dea572001b779c76e3", "61", `"d2177dd0-eaa2-11de-a572-001b779c76e3"`, `"a"`},
		{"set<frozen<plain>>", "0000000400000001", "", `{"a": 1, "b": null}`, `""`},
		{"map<int, frozen<list<int>>>", "00000005", "00000000", `5`, `[]`},
		{`"Case"`, "0003", "01", `"zürich"`, `true`},
		{`"Case"`, "0000", "00000000", `"\"Upper\""`, `[]`},
	} {
		typ := cellType(t, c.typ)
		path, err := typ.AppendPathJSON(nil, unhex(t, c.path))
		if err != nil || string(path) != c.wantPath {
			t.Errorf("%s: path %s, %v, expected %s", c.typ, path, err, c.wantPath)
		}
		value, err := typ.AppendCellJSON(nil, unhex(t, c.path), unhex(t, c.value))
		if err != nil || string(value) != c.wantValue {
			t.Errorf("%s: value %s, %v, expected %s", c.typ, value, err, c.wantValue)
		}
	}
	for _, typ := range []string{"int", "plain"} {
		if got, err := cellType(t, typ).AppendPathJSON([]byte("x"), []byte{9}); err == nil || string(got) != "x" {
			t.Errorf("%s: path %s, %v", typ, got, err)
		}
		if got, err := cellType(t, typ).AppendCellJSON([]byte("x"), []byte{9}, nil); err == nil || string(got) != "x" {
			t.Errorf("%s: value %s, %v", typ, got, err)
		}
	}
}

// Cells in any order make the value that they were taken from.
func TestJoinCellsRoundTrip(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	udts := defineTypes(t, nestedTypes)
	joined := 0
	for range 2000 {
		typ := randomNestedType(r, udts, 2, true, false)
		if !typ.MultiCell() {
			continue
		}
		value := randomNested(r, typ)
		p, err := typ.parts(value)
		if err != nil {
			t.Fatal(err)
		}
		var cells []ElementCell
		for i := 0; ; i++ {
			partType, part, err := p.next()
			if err != nil {
				t.Fatal(err)
			}
			if partType == nil {
				break
			}
			switch typ.Kind {
			case KindList:
				path := make([]byte, 16)
				path[6] = 0x10
				binary.BigEndian.PutUint32(path, uint32(i))
				cells = append(cells, ElementCell{path, part})
			case KindSet:
				cells = append(cells, ElementCell{Path: part})
			case KindMap:
				if i%2 == 0 {
					cells = append(cells, ElementCell{Path: part})
				} else {
					cells[len(cells)-1].Value = part
				}
			case KindUDT:
				if part != nil {
					cells = append(cells, ElementCell{binary.BigEndian.AppendUint16(nil, uint16(i)), part})
				}
			}
		}
		if len(cells) == 0 {
			continue
		}
		want := value
		if typ.Kind == KindSet || typ.Kind == KindMap {
			// A random value is not in order, and can have an element twice.
			byPath := func(a, b ElementCell) int { return typ.ComparePaths(a.Path, b.Path) }
			slices.SortStableFunc(cells, byPath)
			cells = slices.CompactFunc(cells, func(a, b ElementCell) bool { return byPath(a, b) == 0 })
			want = binary.BigEndian.AppendUint32(nil, uint32(len(cells)))
			for _, c := range cells {
				want = appendPart(want, c.Path)
				if typ.Kind == KindMap {
					want = appendPart(want, c.Value)
				}
			}
		}
		r.Shuffle(len(cells), func(i, j int) { cells[i], cells[j] = cells[j], cells[i] })
		got, err := typ.JoinCells(cells)
		if err != nil {
			t.Fatalf("%s %x: %v", typ.CQL(), value, err)
		}
		if typ.Kind == KindUDT { // fields that were missing are null now
			if len(got) < len(want) || typ.Compare(got, want) != 0 {
				t.Fatalf("%s: %x, expected %x", typ.CQL(), got, want)
			}
		} else if !bytes.Equal(got, want) {
			t.Fatalf("%s: %x, expected %x", typ.CQL(), got, want)
		}
		joined++
	}
	if joined < 500 {
		t.Errorf("only %d values were joined", joined)
	}
}
