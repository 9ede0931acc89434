package tail

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	gocql "github.com/apache/cassandra-gocql-driver/v2"
	"gopkg.in/inf.v0"

	"cassdelta/internal/sink"
	"cassdelta/schema"
)

var update = flag.Bool("update", false, "write the expected output in testdata anew")

// field makes a field of a Go value, which the driver encodes; nil is null. Of a type that others are nested in, it is
// CQL's binary form.
func field(t *testing.T, name, typ string, v any) sink.Field {
	t.Helper()
	f := sink.Field{Name: name}
	var err error
	if f.Type, err = schema.ParseType(typ, nil); err != nil {
		t.Fatal(err)
	}
	if value, ok := v.([]byte); ok && !f.Type.Native() {
		f.Value = value
	} else if v != nil {
		info := map[string]gocql.Type{
			"int": gocql.TypeInt, "text": gocql.TypeVarchar, "decimal": gocql.TypeDecimal, "timestamp": gocql.TypeTimestamp, "double": gocql.TypeDouble,
			"float": gocql.TypeFloat, "blob": gocql.TypeBlob, "boolean": gocql.TypeBoolean, "bigint": gocql.TypeBigInt,
		}[typ]
		if f.Value, err = gocql.Marshal(gocql.NewNativeType(4, info, ""), v); err != nil {
			t.Fatal(err)
		}
		if f.Value == nil {
			f.Value = []byte{}
		}
	}
	text, err := f.Type.AppendJSON(nil, f.Value)
	if err != nil {
		t.Fatal(err)
	}
	f.JSON = string(text)
	return f
}

// changes are one of each kind that is printed differently.
func changes(t *testing.T) []*sink.Change {
	t.Helper()
	no, yes := "false", "true"
	number := int64(0)
	change := func(op, reason string, complete bool, key, before, after []sink.Field) *sink.Change {
		number++
		c := &sink.Change{
			Topic: "cassdelta.shop.orders", Partition: 3, Offset: number, Op: op, Key: key, Time: time.UnixMilli(1769938200200 + number).UTC(),
			Source: sink.Source{
				Version: "1.2.3", Connector: "cassandra", Name: "cassdelta", Millis: 1769938200123 + number, Micros: 1769938200123456 + 1000*number,
				Snapshot: &no, DB: "shop", Keyspace: "shop", Table: "orders", Cluster: "Test Cluster", Host: "6f9619ff-8b86-d011-b42d-00c04fc964ff",
				Segment: 1795488838341, Position: 4711 + number, RawPartition: 11, RawOffset: 100 + number, Complete: complete, Reason: reason,
			},
		}
		if op == "r" {
			c.Source.Snapshot = &yes
		}
		withKey := func(image []sink.Field) []sink.Field {
			if image == nil {
				return nil
			}
			return append(key[:len(key):len(key)], image...)
		}
		c.Before, c.After = withKey(before), withKey(after)
		return c
	}
	key := []sink.Field{field(t, "customer", "int", 1), field(t, "number", "int", 1001)}
	image := func(item, note, price, placed any) []sink.Field {
		return []sink.Field{
			field(t, "item", "text", item), field(t, "note", "text", note), field(t, "price", "decimal", price), field(t, "placed", "timestamp", placed),
		}
	}
	at := time.Date(2026, 2, 1, 9, 30, 0, 0, time.UTC)
	plain := image("kettle", nil, inf.NewDec(2990, 2), at)
	noted := image("kettle", "in two parcels", inf.NewDec(2990, 2), at)
	cheaper := image("kettle", nil, inf.NewDec(299, 1), nil)
	empty := image(nil, nil, nil, nil)
	long := strings.Repeat("日本語 ", 30)
	hostile := "\x1b[31mred\u009b\r\n\"quoted\" \u202eback"
	odd := []sink.Field{field(t, "total (net)", "double", 1e10), field(t, "evil\x1b[2J", "float", inf32()), field(t, "raw", "blob", bytes.Repeat([]byte{0xab}, 40))}
	calm := []sink.Field{field(t, "total (net)", "double", 0.1), field(t, "evil\x1b[2J", "float", float32(2)), field(t, "raw", "blob", []byte{})}
	nested := func(tags, scores string) []sink.Field {
		return []sink.Field{field(t, "tags", "set<text>", []byte(tags)), field(t, "scores", "map<text, frozen<list<int>>>", []byte(scores))}
	}
	few := nested("\x00\x00\x00\x01\x00\x00\x00\x03new", "\x00\x00\x00\x00")
	more := nested("\x00\x00\x00\x02\x00\x00\x00\x03new\x00\x00\x00\x08\x1b[31mred", "\x00\x00\x00\x01\x00\x00\x00\x01a\x00\x00\x00\x0c\x00\x00\x00\x01\x00\x00\x00\x04\x00\x00\x00\x07")
	static := []sink.Field{field(t, "customer", "int", 1), field(t, "number", "int", nil)}

	list := []*sink.Change{
		change("c", "mutation", true, key, nil, plain),
		change("u", "mutation", true, key, plain, noted),
		change("u", "mutation", true, key, noted, cheaper),
		change("u", "mutation", true, key, cheaper, cheaper),
		change("u", "ttl", true, key, cheaper, empty),
		change("d", "ttl", true, key, empty, nil),
		change("d", "mutation", true, key, noted, nil),
		change("d", "truncate", true, key, plain, nil),
		change("c", "mutation", false, key, nil, empty),
		change("d", "mutation", false, key, empty, nil),
		change("r", "mutation", false, key, nil, plain),
		change("c", "mutation", true, static, nil, image("static values", nil, nil, nil)),
		change("u", "mutation", true, key, image("", nil, nil, nil), image(long, hostile, inf.NewDec(7, -30), nil)),
		change("u", "mutation", true, []sink.Field{field(t, "id", "text", "a b")}, calm, odd),
		change("u", "mutation", true, key, few, more),
	}
	list[1].Time = time.Time{}
	return list
}

func inf32() float32 {
	zero := float32(0)
	return -1 / zero
}

// golden compares with a file of testdata.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	gotLines, wantLines := strings.Split(got, "\n"), strings.Split(string(want), "\n")
	for i := range max(len(gotLines), len(wantLines)) {
		g, w := "(no line)", "(no line)"
		if i < len(gotLines) {
			g = gotLines[i]
		}
		if i < len(wantLines) {
			w = wantLines[i]
		}
		if g != w {
			t.Errorf("%s:%d: expected\n%s\nfound\n%s", path, i+1, w, g)
		}
	}
}

func printed(t *testing.T, asJSON, colored bool) string {
	t.Helper()
	var out bytes.Buffer
	p := newPrinter(&out, asJSON, colored)
	for _, c := range changes(t) {
		if err := p.Print(c); err != nil {
			t.Fatal(err)
		}
	}
	return out.String()
}

func TestPrintForPeople(t *testing.T) { golden(t, "changes.txt", printed(t, false, false)) }

func TestPrintJSON(t *testing.T) {
	lines := printed(t, true, true)
	golden(t, "changes.jsonl", lines)
	for line := range strings.Lines(lines) {
		if !json.Valid([]byte(line)) {
			t.Errorf("no JSON: %s", line)
		}
	}
}

// TestPrintColors holds that colours are around the operation and nowhere else.
func TestPrintColors(t *testing.T) {
	t.Setenv("NO_COLOR", "")
	lines := strings.Split(printed(t, false, true), "\n")
	for i, line := range strings.Split(printed(t, false, false), "\n") {
		for op, code := range map[string]string{"c": "32", "u": "33", "d": "31", "r": "32"} {
			line = strings.Replace(line, " "+op+" shop.", " \x1b["+code+"m"+op+"\x1b[0m shop.", 1)
		}
		if lines[i] != line {
			t.Errorf("expected %q, found %q", line, lines[i])
		}
	}
}

// TestNoColorsBesideTerminals holds that what is redirected has none, whatever standard output is.
func TestNoColorsBesideTerminals(t *testing.T) {
	var out bytes.Buffer
	if err := NewPrinter(&out, false).Print(changes(t)[0]); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(out.String(), "\x1b") {
		t.Errorf("%q", out.String())
	}
}
