package segment

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"cassdelta/commitlog"
	"cassdelta/schema"
	"cassdelta/schema/cqlsource"
)

// dumpLines dumps to lines.
func dumpLines(t *testing.T, o Options) []string {
	t.Helper()
	var out, notes bytes.Buffer
	o.Out, o.Notes = &out, &notes
	if err := Dump(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	return slices.Collect(strings.Lines(out.String()))
}

// dumped is a line of JSON, as far as filters look at it.
type dumped struct {
	Segment  int64  `json:"seg"`
	Position int64  `json:"pos"`
	Keyspace string `json:"ks"`
	Table    string `json:"table"`
	ID       string `json:"id"`
	Key      string `json:"pk"`
}

// writeTimes are all time stamps anywhere in a line.
func writeTimes(t *testing.T, line string) []int64 {
	t.Helper()
	value, err := parseJSON([]byte(line))
	if err != nil {
		t.Fatal(err)
	}
	var found []int64
	var walk func(any)
	walk = func(v any) {
		switch v := v.(type) {
		case map[string]any:
			for name, e := range v {
				if name == "ts" {
					n, err := e.(json.Number).Int64()
					if err != nil {
						t.Fatal(err)
					}
					found = append(found, n)
				}
				walk(e)
			}
		case []any:
			for _, e := range v {
				walk(e)
			}
		}
	}
	walk(value)
	return found
}

// Filters let through the lines that one would choose from all lines.
func TestFilters(t *testing.T) {
	dir, schemaFile := unpack(t, "types-4.1", "node1")
	all := Options{Paths: []string{dir}, Schema: schemaFile, JSON: true}
	lines := dumpLines(t, all)
	var parsed []dumped
	for _, line := range lines {
		var d dumped
		if err := json.Unmarshal([]byte(line), &d); err != nil {
			t.Fatal(err)
		}
		parsed = append(parsed, d)
	}
	if len(lines) < 100 {
		t.Fatalf("%d lines", len(lines))
	}
	middle := parsed[len(parsed)/2]
	at := func(i int) commitlog.Position {
		return commitlog.Position{Segment: parsed[i].Segment, Offset: parsed[i].Position}
	}
	for name, c := range map[string]struct {
		filter Filter
		wants  func(i int) bool
	}{
		"tables": {Filter{Tables: []string{"types.natives", "types.wide"}},
			func(i int) bool { return parsed[i].Table == "natives" || parsed[i].Table == "wide" }},
		"a table by id": {Filter{Tables: []string{middle.ID}}, func(i int) bool { return parsed[i].ID == middle.ID }},
		"a key in hex":  {Filter{Key: key(t, "0x00000001")}, func(i int) bool { return parsed[i].Key == "00000001" }},
		"a key as text": {Filter{Tables: []string{"types.natives"}, Key: key(t, "3")},
			func(i int) bool { return parsed[i].Table == "natives" && parsed[i].Key == "00000003" }},
		"from": {Filter{From: at(50)}, func(i int) bool { return parsed[i].Position >= parsed[50].Position }},
		"to":   {Filter{To: at(50)}, func(i int) bool { return parsed[i].Position <= parsed[50].Position }},
		"from and to": {Filter{From: at(20), To: at(30)},
			func(i int) bool {
				return parsed[i].Position >= parsed[20].Position && parsed[i].Position <= parsed[30].Position
			}},
		"from behind an entry": {Filter{From: commitlog.Position{Segment: middle.Segment, Offset: middle.Position + 1}},
			func(i int) bool { return parsed[i].Position > middle.Position }},
		"another segment": {Filter{From: commitlog.Position{Segment: middle.Segment + 1}}, func(int) bool { return false }},
		"an older segment": {Filter{To: commitlog.Position{Segment: middle.Segment - 1, Offset: 1 << 40}},
			func(int) bool { return false }},
		"until": {Filter{Until: time.UnixMicro(2000)}, func(i int) bool {
			return slices.ContainsFunc(writeTimes(t, lines[i]), func(n int64) bool { return n <= 2000 })
		}},
		"since and until": {Filter{Since: time.UnixMicro(1000), Until: time.UnixMicro(1400)}, func(i int) bool {
			return slices.ContainsFunc(writeTimes(t, lines[i]), func(n int64) bool { return n >= 1000 && n <= 1400 })
		}},
	} {
		t.Run(name, func(t *testing.T) {
			o := all
			o.Filter = c.filter
			var want []string
			for i := range lines {
				if c.wants(i) {
					want = append(want, lines[i])
				}
			}
			if got := dumpLines(t, o); !slices.Equal(got, want) {
				t.Errorf("%d lines, expected %d", len(got), len(want))
			}
			if (len(want) == 0) != strings.Contains(name, "segment") || len(want) == len(lines) {
				t.Errorf("%d of %d lines are expected", len(want), len(lines))
			}
		})
	}
}

func key(t *testing.T, text string) *Key {
	t.Helper()
	k, err := ParseKey(text)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestKey(t *testing.T) {
	const uuid = "6f9619ff8b86d011b42d00c04fc964ff"
	for _, c := range []struct {
		columns, key string
		match        []string
		no           []string
	}{
		{"p int", "0000002a", []string{"42", "0x0000002a", `{"p": 42}`, " 42 "}, []string{"43", "0x2a", "[42]", `{"q": 42}`, `{"p": 42, "q": 1}`, "4.2e1", "x"}},
		{"p text", "636174", []string{"cat", "'cat'", `"cat"`, "0x636174", `{"p":"cat"}`}, []string{"Cat", "ca", "", "null", `["cat"]`}},
		{"p text", "6974277320", []string{"'it''s '", `"it's "`, "it's "}, []string{"its "}},
		{"p text", "3432", []string{"42", "'42'"}, []string{"042"}},
		{"p uuid", uuid, []string{"6f9619ff-8b86-d011-b42d-00c04fc964ff", "6F9619FF-8B86-D011-B42D-00C04FC964FF", "0x" + uuid}, []string{uuid}},
		{"p blob", "cafe", []string{"0xcafe", "0xCAFE", `{"p": "0xCafe"}`}, []string{"cafe"}},
		{"p inet", "20010db8000000000000000000000001", []string{"2001:db8::1", "'2001:DB8::1'"}, []string{"2001:db8::2", "192.0.2.1"}},
		{"p inet", "c0000201", []string{"192.0.2.1", "::ffff:192.0.2.1"}, []string{"192.0.2.2"}},
		{"p decimal", "000000010f", []string{"1.5"}, []string{"1.50"}},
		{"p double", "7ff8000000000000", []string{"null"}, []string{"NaN"}},
		{"p timestamp", "0000000000000001", []string{"1970-01-01 00:00:00.001Z", "'1970-01-01 00:00:00.001Z'"}, []string{"1"}},
		{"p frozen<list<int>>", "000000010000000400000005", []string{"[5]", `{"p": [5]}`}, []string{"5", "[[5]]"}},
		{"p frozen<map<int, text>>", "0000000100000004000000050000000161", []string{`{"5": "a"}`, `{"p": {"5": "a"}}`}, []string{`{"5": "b"}`}},
		{"p int, q text", "000400000001000001" + "6100", []string{`[1, "a"]`, `{"q": "a", "p": 1}`, "0x0004000000010000016100"},
			[]string{"1", "a", `["a", 1]`, `[1]`, `{"p": 1}`, `[1, "b"]`, `{"p": 1, "x": "a"}`}},
		{"p int, q text", "0004", nil, []string{`[1, "a"]`}}, // no key of that table
	} {
		if strings.HasPrefix(c.columns, "p int, q") && len(c.key) > 4 {
			c.key = "0004" + "00000001" + "00" + "0001" + "61" + "00"
		}
		var names []string
		for column := range strings.SplitSeq(strings.ReplaceAll(c.columns, "<int, ", "<int; "), ", ") {
			names = append(names, column[:1])
		}
		parsed, err := schema.ParseCQL("t.cql", fmt.Sprintf("CREATE TABLE k.t (%s, PRIMARY KEY ((%s))) WITH ID = 6f9619ff-8b86-d011-b42d-00c04fc964ff",
			c.columns, strings.Join(names, ", ")))
		if err != nil {
			t.Fatal(err)
		}
		bytes, err := hex.DecodeString(c.key)
		if err != nil {
			t.Fatal(err)
		}
		for _, text := range c.match {
			if !key(t, text).matches(parsed.Tables[0], bytes) {
				t.Errorf("%s %s: %q is not it", c.columns, c.key, text)
			}
		}
		for _, text := range c.no {
			if key(t, text).matches(parsed.Tables[0], bytes) {
				t.Errorf("%s %s: %q is it", c.columns, c.key, text)
			}
		}
	}
	for _, bad := range []string{"0x1", "0xgg", "[1", `{"p": 1} x`} {
		if k, err := ParseKey(bad); err == nil {
			t.Errorf("%s: %+v", bad, k)
		}
	}
}

func TestFlagValues(t *testing.T) {
	for text, want := range map[string]position{
		"1795414250152:4711": {commitlog.Position{Segment: 1795414250152, Offset: 4711}, true},
		"7":                  {commitlog.Position{Segment: 7}, false},
		"7:0":                {commitlog.Position{Segment: 7}, true},
	} {
		var p position
		if err := p.UnmarshalText([]byte(text)); err != nil || p != want {
			t.Errorf("%s: %+v, %v", text, p, err)
		}
	}
	for _, bad := range []string{"", ":", "1:", "x:1", "1:x", "1:-1", "-1:1", "0:1", "1:2:3"} {
		var p position
		if err := p.UnmarshalText([]byte(bad)); err == nil || !strings.Contains(err.Error(), "SEGMENT:OFFSET") {
			t.Errorf("%q: %+v, %v", bad, p, err)
		}
	}
	for text, want := range map[string]int64{
		"1700000000000001":           1700000000000001,
		"-5":                         -5,
		"2024-02-29T12:34:56Z":       1709210096000000,
		"2024-02-29T13:34:56+01:00":  1709210096000000,
		"2024-02-29T12:34:56.789":    1709210096789000,
		"2024-02-29 12:34:56.789Z":   1709210096789000,
		"2024-02-29 12:34:56.789":    1709210096789000,
		"2024-02-29T12:34:56.000001": 1709210096000001,
		"2024-02-29":                 1709164800000000,
	} {
		var w writeTime
		if err := w.UnmarshalText([]byte(text)); err != nil || w.UnixMicro() != want {
			t.Errorf("%s: %d, %v, expected %d", text, w.UnixMicro(), err, want)
		}
	}
	for _, bad := range []string{"", "now", "2024-02-30", "12:34"} {
		var w writeTime
		if err := w.UnmarshalText([]byte(bad)); err == nil {
			t.Errorf("%q: %v", bad, w)
		}
	}
}

func TestWhatNeedsASchema(t *testing.T) {
	dir, schemaFile := unpack(t, "demo", "node1")
	for want, o := range map[string]Options{
		"expected the tables for values as text":                          {Values: TextValues},
		"expected the tables for a key that is not in hexadecimal":        {Filter: Filter{Key: key(t, "1")}},
		"expected the tables for a range of write times":                  {Filter: Filter{Since: time.UnixMicro(1)}},
		"table shop.nothing: expected KEYSPACE.TABLE or the id of one in": {Schema: schemaFile, Filter: Filter{Tables: []string{"shop.nothing"}}},
		"table shop.orders: expected the id of a table":                   {Filter: Filter{Tables: []string{"shop.orders"}}},
		"no contact point can be read, 1 tried":                           {Cassandra: cqlsource.Config{ContactPoints: []string{"127.0.0.1:1"}}},
		"contact point \"a b\": expected HOST":                            {Cassandra: cqlsource.Config{ContactPoints: []string{"a b"}}},
	} {
		var out bytes.Buffer
		o.Paths, o.Out, o.Notes = []string{dir}, &out, &out
		if err := Dump(t.Context(), o); err == nil || !strings.Contains(err.Error(), want) || out.Len() > 0 {
			t.Errorf("%v, expected %q\n%s", err, want, out.String())
		}
	}
	// Without a schema, raw mutations can be chosen by table and by the bytes of the key.
	raw := dumpLines(t, Options{Paths: []string{dir}, JSON: true})
	var first dumped
	if err := json.Unmarshal([]byte(raw[0]), &first); err != nil {
		t.Fatal(err)
	}
	of := func(f Filter) int { return len(dumpLines(t, Options{Paths: []string{dir}, JSON: true, Filter: f})) }
	if n := of(Filter{Key: key(t, "0x"+first.Key)}); n == 0 || n == len(raw) {
		t.Errorf("%d of %d lines have the first key", n, len(raw))
	}
	if n := of(Filter{Tables: []string{"system.local", "system_schema.tables"}}); n == 0 || n == len(raw) {
		t.Errorf("%d of %d lines are of two tables", n, len(raw))
	}
}

// TestOutputFile runs the command with a file for the output, plain and compressed.
func TestOutputFile(t *testing.T) {
	dir, schemaFile := unpack(t, "demo", "node1")
	var want, notes bytes.Buffer
	if err := Dump(t.Context(), Options{Paths: []string{dir}, Schema: schemaFile, JSON: true, Out: &want, Notes: &notes}); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"out.jsonl", "out.jsonl.gz"} {
		path := filepath.Join(t.TempDir(), name)
		c := DumpCmd{files: files{Paths: []string{dir}, Schema: schemaFile}, JSON: true, Output: path}
		var stdout bytes.Buffer
		if err := c.Run(t.Context(), &stdout); err != nil || stdout.Len() > 0 {
			t.Fatalf("%v, %d bytes", err, stdout.Len())
		}
		if got := readMaybeGzip(t, path); !bytes.Equal(got, want.Bytes()) {
			t.Errorf("%s: %d bytes, expected %d", name, len(got), want.Len())
		}
	}
	c := DumpCmd{files: files{Paths: []string{dir}}, Output: filepath.Join(t.TempDir(), "none", "out")}
	if err := c.Run(t.Context(), &bytes.Buffer{}); err == nil {
		t.Error("a file in no directory was written")
	}
	c = DumpCmd{files: files{Paths: []string{dir}}, Output: "/dev/full"}
	if _, err := os.Stat(c.Output); err == nil {
		if err := c.Run(t.Context(), &bytes.Buffer{}); err == nil || strings.Count(err.Error(), "no space") != 1 {
			t.Errorf("a full disk: %v", err)
		}
	}
}
