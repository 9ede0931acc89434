package schema

import (
	"bufio"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"
)

// writeNested makes TestNestedValues write random values of random types for CassandraValues.java:
//
//	go test ./schema -run TestWriteNested -write-nested /tmp/nested.txt
var writeNested = flag.String("write-nested", "", "write random nested values to this file, and those with vectors to FILE.vectors")

// nestedTypes are the user types in nested.txt and vectors.txt.
const nestedTypes = `udt plain a:int b:text
udt Case Upper:frozen<list<text>> q%22u%5Co%0Ate:text sp+ace:duration z%C3%BCrich:boolean %C3%84:tinyint
udt wide one:frozen<plain> two:frozen<tuple<timestamp,inet>> three:frozen<set<varint>> four:frozen<map<uuid,frozen<plain>>> five:double
`

// defineTypes reads the lines that define user types.
func defineTypes(t testing.TB, text string) UDTs {
	t.Helper()
	types := map[string]*Type{}
	find := func(name string) *Type { return types[name] }
	unescape := func(s string) string {
		s, err := url.QueryUnescape(s)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	for line := range strings.Lines(text) {
		words := strings.Fields(line)
		if len(words) == 0 || words[0] != "udt" {
			continue
		}
		var names []string
		var elems []*Type
		for _, word := range words[2:] {
			name, text, _ := strings.Cut(word, ":")
			typ, err := ParseType(text, find)
			if err != nil {
				t.Fatal(err)
			}
			names, elems = append(names, unescape(name)), append(elems, typ)
		}
		udt, err := NewUDT("k", unescape(words[1]), names, elems)
		if err != nil {
			t.Fatal(err)
		}
		types[udt.Name] = udt
	}
	return find
}

// nestedValue is a line of nested.txt, vectors.txt or nested-order.txt.
type nestedValue struct {
	line  string
	typ   *Type // counter for a context
	value []byte
	rest  string
}

func recordedNested(t testing.TB, name string) []nestedValue {
	t.Helper()
	f, err := os.Open("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	udts := defineTypes(t, nestedTypes)
	types := map[string]*Type{"context": nativeTypes["counter"]}
	var values []nestedValue
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		line := lines.Text()
		if strings.HasPrefix(line, "#") || strings.HasPrefix(line, "udt ") {
			continue
		}
		words := strings.SplitN(line, " ", 3)
		typ := types[words[0]]
		if typ == nil {
			if typ, err = ParseType(words[0], udts); err != nil {
				t.Fatal(err)
			}
			types[words[0]] = typ
		}
		v := nestedValue{line: line, typ: typ, value: []byte{}, rest: words[2]}
		if words[1] != "-" {
			v.value = unhex(t, words[1])
		}
		values = append(values, v)
	}
	if err := lines.Err(); err != nil || len(values) < 300 {
		t.Fatalf("%s: %d values, %v", name, len(values), err)
	}
	return values
}

func TestNestedValuesAsCassandraTakesThem(t *testing.T) {
	for _, name := range []string{"nested.txt", "vectors.txt"} {
		printed, accepted, refused := 0, 0, 0
		for _, v := range recordedNested(t, name) {
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
			if _, err := v.typ.Decode(v.value); err != nil {
				t.Errorf("%s: decode: %v", v.line, err)
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
		t.Logf("%s: %d printed, %d accepted, %d refused", name, printed, accepted, refused)
		if printed < 150 || refused < 50 || accepted-printed < 5 {
			t.Errorf("%s: only %d values are printed, %d accepted, %d refused", name, printed, accepted, refused)
		}
	}
}

func TestNestedOrderIsCassandras(t *testing.T) {
	var last *nestedValue
	equal, less := 0, 0
	for _, v := range recordedNested(t, "nested-order.txt") {
		if last != nil && last.typ == v.typ {
			want := -1
			less++
			if v.rest == "=" {
				want = 0
				equal++
				less--
			}
			if got := last.typ.Compare(last.value, v.value); got != want {
				t.Errorf("%s and %s: %d, expected %d", last.line, v.line, got, want)
			}
			if got := last.typ.Compare(v.value, last.value); got != -want {
				t.Errorf("%s and %s: %d, expected %d", v.line, last.line, got, -want)
			}
		}
		last = &v
	}
	if equal < 20 || less < 200 {
		t.Errorf("%d equal values, %d that are less", equal, less)
	}
}

func TestWriteNested(t *testing.T) {
	if *writeNested == "" {
		t.Skip("-write-nested is not given")
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	udts := defineTypes(t, nestedTypes)
	for _, vectors := range []bool{false, true} {
		var b strings.Builder
		b.WriteString(nestedTypes)
		path, count := *writeNested, 200
		if vectors {
			path, count = path+".vectors", 80
		}
		write := func(name string, value []byte) {
			digits := hex.EncodeToString(value)
			if digits == "" {
				digits = "-"
			}
			fmt.Fprintln(&b, name, digits)
		}
		for range count {
			typ := randomNestedType(r, udts, 1+r.IntN(3), vectors, false)
			name := strings.ReplaceAll(typ.CQL(), " ", "")
			for range 4 {
				value := randomNested(r, typ)
				if len(value) > 150 {
					continue
				}
				write(name, value)
				for range 2 {
					write(name, damage(r, value))
				}
			}
		}
		if !vectors {
			for range 60 {
				value := randomContext(r)
				write("context", value)
				write("context", damage(r, value))
			}
		}
		if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// randomNestedType makes a type that has others in it, up to depth deep. In sets and keys of maps there are no durations,
// which Cassandra does not allow.
func randomNestedType(r *rand.Rand, udts UDTs, depth int, vectors, inKey bool) *Type {
	elem := func(inKey bool) *Type {
		if depth > 1 && r.IntN(2) == 0 {
			return freeze(randomNestedType(r, udts, depth-1, vectors, inKey))
		}
		for {
			typ := valueTypes[r.IntN(len(valueTypes))]
			if !inKey || typ.Kind != KindDuration {
				return typ
			}
		}
	}
	kinds := 5
	if vectors {
		kinds = 7
	}
	switch r.IntN(kinds) {
	case 0:
		return &Type{Kind: KindList, Elems: []*Type{elem(inKey)}}
	case 1:
		return &Type{Kind: KindSet, Elems: []*Type{elem(true)}}
	case 2:
		return &Type{Kind: KindMap, Elems: []*Type{elem(true), elem(inKey)}}
	case 3:
		typ := &Type{Kind: KindTuple, Frozen: true}
		for range 1 + r.IntN(4) {
			typ.Elems = append(typ.Elems, elem(inKey))
		}
		return typ
	case 4:
		if inKey {
			return udts([]string{"plain", "wide"}[r.IntN(2)])
		}
		return udts([]string{"plain", "Case", "wide"}[r.IntN(3)])
	}
	return &Type{Kind: KindVector, Elems: []*Type{elem(inKey)}, Dimension: 1 + r.IntN(4), Frozen: true}
}

// randomNested makes a value of a type that Cassandra accepts: with nulls, missing fields and empty values.
func randomNested(r *rand.Rand, typ *Type) []byte {
	if typ.Native() {
		for {
			value := randomValue(r, typ)
			if r.IntN(12) == 0 {
				value = []byte{}
			}
			if typ.Validate(value) == nil {
				return value
			}
		}
	}
	value := []byte{}
	switch typ.Kind {
	case KindTuple, KindUDT:
		fields := len(typ.Elems)
		if r.IntN(4) == 0 {
			fields = r.IntN(fields + 1)
		}
		for _, e := range typ.Elems[:fields] {
			if r.IntN(5) == 0 {
				value = appendPart(value, nil)
			} else {
				value = appendPart(value, randomNested(r, e))
			}
		}
	case KindVector:
		for range typ.Dimension {
			part := randomNested(r, typ.Elems[0])
			if n := typ.Elems[0].FixedLength(); n < 0 {
				value = appendUvint(value, uint64(len(part)))
			} else {
				for len(part) != n {
					part = randomNested(r, typ.Elems[0])
				}
			}
			value = append(value, part...)
		}
	default:
		n := r.IntN(4)
		value = binary.BigEndian.AppendUint32(value, uint32(n))
		for range n {
			for _, e := range typ.Elems {
				value = appendPart(value, randomNested(r, e))
			}
		}
	}
	return value
}

// appendUvint appends an unsigned variable-length integer of at most 14 bits.
func appendUvint(dst []byte, n uint64) []byte {
	if n < 0x80 {
		return append(dst, byte(n))
	}
	return append(dst, 0x80|byte(n>>8), byte(n))
}

// randomContext makes a counter's context.
func randomContext(r *rand.Rand) []byte {
	entries := r.IntN(4)
	value := binary.BigEndian.AppendUint16(nil, uint16(entries*(1-2*r.IntN(2))))
	for range entries {
		value = binary.BigEndian.AppendUint16(value, uint16(r.IntN(1<<16)))
	}
	for range r.IntN(4) {
		for range 4 {
			value = binary.BigEndian.AppendUint64(value, r.Uint64()>>r.IntN(64))
		}
	}
	return value
}

// damage changes a value a little: often it is no value of its type any more.
func damage(r *rand.Rand, value []byte) []byte {
	value = slices.Clone(value)
	switch r.IntN(5) {
	case 0:
		return value[:r.IntN(len(value)+1)]
	case 1:
		return append(value, make([]byte, 1+r.IntN(5))...)
	case 2:
		if len(value) >= 4 { // a length, perhaps
			i := r.IntN(len(value)-3) &^ 3
			binary.BigEndian.PutUint32(value[i:], uint32(r.IntN(6)-3))
		}
	default:
		if len(value) > 0 {
			value[r.IntN(len(value))] = byte(r.Uint32())
		}
	}
	return value
}
