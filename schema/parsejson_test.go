package schema

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"
)

// What AppendJSON prints of a value is parsed to that value; where values have no text of their own, to one of the same text.
func TestParseJSON(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	for _, name := range []string{"ascii", "text", "blob", "boolean", "tinyint", "smallint", "int", "bigint", "varint", "decimal", "float", "double", "uuid", "timeuuid",
		"inet", "date", "time", "timestamp"} {
		typ, err := ParseType(name, nil)
		if err != nil {
			t.Fatal(err)
		}
		parsed := 0
		for range 2000 {
			value := make([]byte, r.IntN(20))
			if n := typ.FixedLength(); n > 0 {
				value = make([]byte, n)
			} else if n := map[string]int{"tinyint": 1, "smallint": 2, "date": 4, "time": 8}[name]; n > 0 {
				value = make([]byte, n)
			}
			for i := range value {
				value[i] = byte(r.Uint32())
			}
			switch name {
			case "ascii", "text":
				for i := range value {
					value[i] &= 0x7f
				}
			case "inet":
				value = append(value, make([]byte, 16)...)[:[]int{4, 16}[r.IntN(2)]]
			case "boolean":
				value[0] &= 1
			case "decimal":
				if len(value) >= 4 {
					copy(value, []byte{0, 0, 0, byte(r.IntN(10))})
				}
			case "date":
				copy(value, []byte{0x80, 0})
			case "time":
				copy(value, []byte{0, 0, byte(r.IntN(0x40))})
			case "timestamp":
				copy(value, []byte{0, 0, byte(r.IntN(4))})
			}
			text, err := typ.AppendJSON(nil, value)
			if err != nil || string(text) == "null" || string(text) == `""` || bytes.Contains(text, []byte(`�`)) {
				continue // no value, or one that has no text
			}
			parsed++
			got, err := typ.ParseJSON(string(text))
			if err != nil {
				t.Fatalf("%s %x: %s: %v", name, value, text, err)
			}
			again, err := typ.AppendJSON(nil, got)
			if err != nil || !bytes.Equal(again, text) {
				t.Fatalf("%s %x: %s is parsed to %x, which is %s (%v)", name, value, text, got, again, err)
			}
			if typ.Compare(got, value) != 0 && name != "inet" {
				t.Fatalf("%s %x: %s is parsed to %x, which is not equal", name, value, text, got)
			}
		}
		if parsed < 100 {
			t.Errorf("%s: %d values only", name, parsed)
		}
	}
}

func TestParseKeyJSON(t *testing.T) {
	column := func(name, typ string) Column {
		parsed, err := ParseType(typ, nil)
		if err != nil {
			t.Fatal(err)
		}
		return Column{Name: name, Type: parsed}
	}
	one, two := []Column{column("a", "int")}, []Column{column("a", "int"), column("b", "text")}
	for _, c := range []struct {
		columns []Column
		text    string
		want    string // "" is an error
	}{
		{one, "7", "[00000007]"}, {one, `"7"`, "[00000007]"}, {one, `'7'`, "[00000007]"}, {one, "[7]", "[00000007]"}, {one, `{"a":7}`, "[00000007]"},
		{two, `[7,"x"]`, "[00000007 78]"}, {two, `{"b":"x","a":-1}`, "[ffffffff 78]"}, {[]Column{two[1]}, "it's", "[69742773]"}, {[]Column{two[1]}, "'it''s'", "[69742773]"},
		{one, "x", ""}, {one, "99999999999", ""}, {two, "7", ""}, {two, `{"a":7}`, ""}, {two, `{"a":7,"b":"x","c":1}`, ""}, {two, `[7]`, ""},
	} {
		values, err := ParseKeyJSON(c.columns, c.text)
		if got := fmt.Sprintf("%x", values); (err != nil) != (c.want == "") || err == nil && got != c.want {
			t.Errorf("%s: %s, %v, expected %s", c.text, got, err, c.want)
		}
	}
}
