package segment

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"cassdelta/internal/recording"
)

var update = flag.Bool("update", false, "write the files in testdata anew")

const recordings = "../../testdata/recordings/"

// unpack gives the directory of a recorded node's segments, and the path of the schema.
func unpack(t *testing.T, name, node string) (dir, schema string) {
	t.Helper()
	r, err := recording.Open(os.DirFS(recordings + name))
	if err != nil {
		t.Fatal(err)
	}
	dir = filepath.Join(t.TempDir(), node)
	if err := r.Unpack(node, recording.FinalMoment, dir); err != nil {
		t.Fatal(err)
	}
	return dir, recordings + name + "/schema.cql"
}

// golden compares with a file in testdata.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	gotLines, wantLines := strings.Split(string(got), "\n"), strings.Split(string(want), "\n")
	for i := range max(len(gotLines), len(wantLines)) {
		line := func(lines []string) string {
			if i < len(lines) {
				return lines[i]
			}
			return "(nothing)"
		}
		if g, w := line(gotLines), line(wantLines); g != w {
			t.Fatalf("%s:%d: expected\n%s\nfound\n%s\n(-update writes the file anew)", path, i+1, w, g)
		}
	}
}

func TestOutput(t *testing.T) {
	for _, c := range []struct {
		file, recording string
		json, schema    bool
		run             func(context.Context, Options) error
	}{
		{"info-demo.txt", "demo", false, true, Info},
		{"dump-demo.txt", "demo", false, true, Dump},
		{"dump-demo.jsonl", "demo", true, true, Dump},
		{"dump-types-4.0.jsonl", "types-4.0", true, true, Dump},
		{"dump-types-5.0-v8.jsonl", "types-5.0-v8", true, true, Dump},
		{"info-crash-no-schema.txt", "crash-5.0", false, false, Info},
	} {
		t.Run(c.file, func(t *testing.T) {
			dir, schema := unpack(t, c.recording, "node1")
			if !c.schema {
				schema = ""
			}
			var out, notes bytes.Buffer
			if err := c.run(t.Context(), Options{Paths: []string{dir}, Schema: schema, JSON: c.json, Out: &out, Notes: &notes}); err != nil {
				t.Fatal(err)
			}
			golden(t, c.file, out.Bytes())
			if c.json {
				for line := range bytes.Lines(out.Bytes()) {
					if !json.Valid(line) {
						t.Errorf("not JSON: %s", line)
					}
				}
			}
		})
	}
}

// TestNestedOutput: collections, tuples, user types, vectors and counters, as JSON lines and for people.
func TestNestedOutput(t *testing.T) {
	dir, schema := unpack(t, "nested-5.0", "node1")
	tables := []string{"nested.udts", "nested.deep", "nested.changes", "nested.keys", "nested.counters", "nested.vectors_deep"}
	for file, values := range map[string]ValueForm{"dump-nested-5.0.jsonl": TextValues, "dump-nested-5.0.txt": HexValues} {
		var out, notes bytes.Buffer
		o := Options{Paths: []string{dir}, Schema: schema, Values: values, Filter: Filter{Tables: tables}, Out: &out, Notes: &notes}
		if err := Dump(t.Context(), o); err != nil || notes.Len() > 0 {
			t.Fatal(err, notes.String())
		}
		golden(t, file, out.Bytes())
	}
	// All tables have nothing but JSON, and no bytes that are no value.
	for _, name := range []string{"nested-4.0", "nested-5.0", "types-4.0", "types-5.0-v8"} {
		dir, schema := unpack(t, name, "node1")
		for _, line := range dumpLines(t, Options{Paths: []string{dir}, Schema: schema, Values: TextValues}) {
			if !json.Valid([]byte(line)) || strings.Contains(line, `{"hex":`) {
				t.Errorf("%s: %s", name, line)
			}
		}
	}
}

// TestForms: what compressed and encrypted segments hold, with their keys and without.
func TestForms(t *testing.T) {
	dir, schema := unpack(t, "forms-5.0", "node1")
	flags := KeystoreFlags{Keystore: recordings + "forms-5.0/keystore.jceks", KeystoreType: "JCEKS", KeystorePassword: "cassandra-store", KeyPassword: "cassandra-key"}
	keys, err := flags.Keys()
	if err != nil {
		t.Fatal(err)
	}
	var out, notes bytes.Buffer
	if err := Info(t.Context(), Options{Paths: []string{dir}, Schema: schema, Keyspace: "forms", Keys: keys, Out: &out, Notes: &notes}); err != nil {
		t.Fatal(err)
	}
	golden(t, "info-forms-5.0.txt", out.Bytes())

	// The same key as it is.
	want := out.String()
	out.Reset()
	raw := KeystoreFlags{RawKey: []string{"testing:1=6f1c7587cced1a3d118caf10f1cfb832"}}
	if keys, err = raw.Keys(); err != nil {
		t.Fatal(err)
	}
	if err := Info(t.Context(), Options{Paths: []string{dir}, Schema: schema, Keyspace: "forms", Keys: keys, Out: &out, Notes: &notes}); err != nil || out.String() != want {
		t.Errorf("with a raw key: %v\n%s", err, out.String())
	}

	flags.Keystore = ""
	if keys, err = flags.Keys(); keys != nil || err != nil {
		t.Fatalf("without a keystore: %v, %v", keys, err)
	}
	out.Reset()
	err = Info(t.Context(), Options{Paths: []string{dir}, Schema: schema, Out: &out, Notes: &notes})
	if err == nil || !strings.Contains(err.Error(), "no keystore is configured") || !strings.Contains(out.String(), `encrypted by AES/CBC/PKCS5Padding with the key "testing:1"`) {
		t.Errorf("without keys: %v\n%s", err, out.String())
	}
	flags = KeystoreFlags{Keystore: recordings + "forms-5.0/keystore.jceks", KeystorePassword: "no password"}
	if _, err := flags.Keys(); err == nil || strings.Contains(err.Error(), flags.KeystorePassword) {
		t.Errorf("with a wrong password: %v", err)
	}
}

// TestRawKeys: the form of keys that are given, and errors that do not hold them.
func TestRawKeys(t *testing.T) {
	const key = "000102030405060708090a0b0c0d0e0f"
	f := KeystoreFlags{RawKey: []string{"a=b=" + key, "c=" + key + key}}
	keys, err := f.Keys()
	if err != nil {
		t.Fatal(err)
	}
	for alias, want := range map[string]string{"a=b": key, "c": key + key} {
		if found, err := keys.Key(alias); err != nil || hex.EncodeToString(found) != want {
			t.Errorf("%s: found %x, %v", alias, found, err)
		}
	}
	for _, c := range []struct {
		flags KeystoreFlags
		want  string
	}{
		{KeystoreFlags{RawKey: []string{key}}, "raw key 1: expected the form ALIAS=HEX"},
		{KeystoreFlags{RawKey: []string{"=" + key}}, "expected the form ALIAS=HEX"},
		{KeystoreFlags{RawKey: []string{"a=" + key[1:]}}, `raw key "a": expected hexadecimal digits`},
		{KeystoreFlags{RawKey: []string{"a=" + key[2:]}}, `raw key "a": expected 16, 24 or 32 bytes, found 15`},
		{KeystoreFlags{RawKey: []string{"a=" + key, "a=" + key}}, `raw key "a" is given twice`},
		{KeystoreFlags{RawKey: []string{"a=" + key}, Keystore: "x"}, "expected a keystore or raw keys, found both"},
	} {
		if _, err := c.flags.Keys(); err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), key[4:]) {
			t.Errorf("%v: expected %q, found %v", c.flags.RawKey, c.want, err)
		}
	}
}

func TestDumpWithoutASchema(t *testing.T) {
	dir, _ := unpack(t, "demo", "node1")
	var out bytes.Buffer
	if err := Dump(t.Context(), Options{Paths: []string{dir}, Keyspace: "system_schema", JSON: true, Out: &out, Notes: &out}); err != nil {
		t.Fatal(err)
	}
	var first struct {
		Raw string
		N   int
	}
	line, _, _ := bytes.Cut(out.Bytes(), []byte("\n"))
	if err := json.Unmarshal(line, &first); err != nil || first.N == 0 || len(first.Raw) == 0 {
		t.Errorf("%v: %s", err, line)
	}
}

func TestBadInput(t *testing.T) {
	dir, schema := unpack(t, "demo", "node1")
	segments, err := filepath.Glob(filepath.Join(dir, "*.log"))
	if err != nil || len(segments) == 0 {
		t.Fatal(err, segments)
	}
	segment, err := os.ReadFile(segments[0])
	if err != nil {
		t.Fatal(err)
	}
	write := func(content []byte) string {
		path := filepath.Join(t.TempDir(), filepath.Base(segments[0]))
		if err := os.WriteFile(path, content, 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	index, err := os.ReadFile(strings.TrimSuffix(segments[0], ".log") + "_cdc.idx")
	if err != nil {
		t.Fatal(err)
	}
	cutCompleted := write(segment[:100000])
	if err := os.WriteFile(strings.TrimSuffix(cutCompleted, ".log")+"_cdc.idx", index, 0o644); err != nil {
		t.Fatal(err)
	}
	flipped := bytes.Clone(segment)
	flipped[1000] ^= 1 // in the first mutations
	for _, c := range []struct {
		name, path, schema, want string
	}{
		{"no directory", filepath.Join(dir, "none"), schema, "none: no such file"},
		{"a directory without segments", t.TempDir(), schema, "no commit log segment"},
		{"a file of something else", "segment_test.go", schema, "damaged at byte 0"},
		{"an empty file", write(nil), schema, "has no header yet"},
		{"a cut header", write(segment[:10]), schema, "has no header yet"},
		{"swapped halves", write(append(bytes.Clone(segment[len(segment)/2:]), segment[:len(segment)/2]...)), schema, "checksum of the header"},
		{"a cut segment", write(segment[:100000]), schema, "(the file was cut)"},
		{"a cut segment whose index file says that it is complete", cutCompleted, schema, "(the file was cut)"},
		{"a flipped bit", write(flipped), schema, "damaged at byte"},
		{"no schema file", segments[0], "none.cql", "none.cql"},
		{"a schema without ids", segments[0], recordings + "demo/workload.cql", "WITH INTERNALS"},
	} {
		t.Run(c.name, func(t *testing.T) {
			for name, run := range map[string]func(context.Context, Options) error{"info": Info, "dump": Dump} {
				var out bytes.Buffer
				err := run(t.Context(), Options{Paths: []string{c.path}, Schema: c.schema, Out: &out, Notes: &out})
				if err == nil || !strings.Contains(err.Error(), c.want) {
					t.Errorf("%s: %v, expected an error with %q\n%s", name, err, c.want, out.String())
				}
			}
		})
	}
}

func TestSystemTableID(t *testing.T) {
	// As system_schema.tables of any node has it.
	if id := systemTableID("system", "local").String(); id != "7ad54392-bcdd-35a6-8417-4e047860b377" {
		t.Error(id)
	}
}
