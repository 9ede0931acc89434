package segment

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"cassdelta/schema"
)

// readMaybeGzip reads a file, and unpacks it if its name ends with .gz.
func readMaybeGzip(t *testing.T, path string) []byte {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var r io.Reader = f
	if strings.HasSuffix(path, ".gz") {
		if r, err = gzip.NewReader(f); err != nil {
			t.Fatal(err)
		}
	}
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// rowsOf writes the rows of system_schema of tables, the last first.
func rowsOf(t *testing.T, tables []*schema.Table) string {
	t.Helper()
	var lines []string
	line := func(row map[string]any) {
		b, err := json.Marshal(row)
		if err != nil {
			t.Fatal(err)
		}
		lines = append(lines, string(b)+"\n")
	}
	seen := map[string]bool{}
	var types func(*schema.Type)
	types = func(typ *schema.Type) {
		for _, e := range typ.Elems {
			types(e)
		}
		if typ.Kind != schema.KindUDT || seen[typ.Name] {
			return
		}
		seen[typ.Name] = true
		var fields []string
		for _, e := range typ.Elems {
			fields = append(fields, e.CQL())
		}
		line(map[string]any{"keyspace_name": typ.Keyspace, "type_name": typ.Name, "field_names": typ.Fields, "field_types": fields})
	}
	for _, table := range tables {
		line(map[string]any{"keyspace_name": table.Keyspace, "table_name": table.Name, "id": table.ID.String(), "flags": table.Flags,
			"cdc": table.CDC, "gc_grace_seconds": table.GCGraceSeconds, "comment": ""})
		for _, c := range table.Columns {
			types(c.Type)
			order := "none"
			if c.Kind == schema.Clustering {
				order = map[bool]string{false: "asc", true: "desc"}[c.Desc]
			}
			position := c.Position
			if c.Kind >= schema.Static {
				position = -1
			}
			line(map[string]any{"keyspace_name": table.Keyspace, "table_name": table.Name, "column_name": c.Name, "kind": c.Kind.String(),
				"position": position, "clustering_order": order, "type": c.Type.CQL()})
		}
	}
	slices.Reverse(lines)
	return strings.Join(lines, "")
}

// Tables read from rows of system_schema make the same dump as those from CQL.
func TestSchemaOfRows(t *testing.T) {
	dir, schemaFile := unpack(t, "nested-4.1", "node1")
	text, err := os.ReadFile(schemaFile)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := schema.ParseCQL("schema.cql", string(text))
	if err != nil {
		t.Fatal(err)
	}
	rows := rowsOf(t, parsed.Tables)
	path := filepath.Join(t.TempDir(), "rows.jsonl")
	write := func(text string) {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write(rows)
	want := dumpLines(t, Options{Paths: []string{dir}, Schema: schemaFile, Values: TextValues})
	got := dumpLines(t, Options{Paths: []string{dir}, Schema: path, Values: TextValues})
	if len(got) < 50 || !slices.Equal(got, want) {
		t.Errorf("%d lines, expected %d", len(got), len(want))
	}

	// A table that is none is left out, and said to be.
	var kept strings.Builder
	for line := range strings.Lines(rows) {
		if !strings.Contains(line, `"table_name":"lists"`) || !strings.Contains(line, `"kind":"partition_key"`) {
			kept.WriteString(line)
		}
	}
	write(kept.String())
	var out, notes bytes.Buffer
	if err := Dump(t.Context(), Options{Paths: []string{dir}, Schema: path, Values: TextValues, Out: &out, Notes: &notes}); err != nil {
		t.Fatal(err)
	}
	if n := bytes.Count(out.Bytes(), []byte("\n")); n == 0 || n >= len(want) || !strings.Contains(notes.String(), "nested.lists: table nested.lists: it has no partition key") {
		t.Errorf("%d lines of %d, %s", n, len(want), notes.String())
	}
	write(`{"x": 1}`)
	err = Dump(t.Context(), Options{Paths: []string{dir}, Schema: path, Out: &out, Notes: &notes})
	if err == nil || !strings.Contains(err.Error(), "rows.jsonl:1: expected a row of system_schema") {
		t.Errorf("rows that are none: %v", err)
	}
}

func TestProgress(t *testing.T) {
	var out bytes.Buffer
	if p := newProgress(&out, &out, 1<<40); p != nil {
		t.Error("a bar is shown where there is no terminal")
	}
	var none *progress // everything can be told to none
	none.begin("x")
	none.at(1)
	none.done(1)
	none.clear()

	p := &progress{bar: newBar(&out, 3<<20)}
	p.begin("/somewhere/CommitLog-7-1.log")
	p.at(progressStep - 1)
	if out.Len() > 0 {
		p.clear()
		out.Reset()
	}
	p.done(1 << 20)
	p.at(1 << 20)
	if got := p.told; got != 2<<20 {
		t.Errorf("it was told %d bytes", got)
	}
	if state := p.bar.State(); state.CurrentNum != 2<<20 || state.Max != 3<<20 {
		t.Errorf("%d of %d bytes", state.CurrentNum, state.Max)
	}
	p.clear()
	p.done(2 << 20)
	if !p.bar.IsFinished() {
		t.Error("it is not finished")
	}
}
