package cqlsource

import (
	"os"
	"strings"
	"testing"

	"cassdelta/schema"
)

// recordedRows are the rows of a node, and the tables that its DESCRIBE printed.
func recordedRows(t testing.TB) (rows string, want []*schema.Table) {
	t.Helper()
	text, err := os.ReadFile("testdata/rows.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	described, err := os.ReadFile("testdata/describe.cql")
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := schema.ParseCQL("describe.cql", string(described))
	if err != nil {
		t.Fatal(err)
	}
	if len(parsed.Tables) < 15 {
		t.Fatalf("%d tables", len(parsed.Tables))
	}
	return string(text), parsed.Tables
}

func TestParseRows(t *testing.T) {
	rows, want := recordedRows(t)
	// As cqlsh prints them.
	cqlsh := "\nWARNING: cqlsh was built against 5.0.0\n\n [json]\n--------\n " + strings.ReplaceAll(strings.TrimSpace(rows), "\n", "   \n ") + "\n\n(7 rows)\n"
	for name, text := range map[string]string{"rows": rows, "cqlsh": cqlsh} {
		if !LooksLikeRows(text) {
			t.Errorf("%s: does not look like rows", name)
		}
		tables, refused, err := ParseRows(name, text)
		if err != nil || len(refused) > 0 || len(tables) != len(want) {
			t.Fatalf("%s: %d tables, expected %d, %v %v", name, len(tables), len(want), refused, err)
		}
		catalog := schema.NewCatalog(tables)
		for _, w := range want {
			if got := catalog.ByID(w.ID); got == nil || got.Hash() != w.Hash() {
				t.Errorf("%s: %s is not as DESCRIBE has it", name, w.FullName())
			}
		}
	}
	if LooksLikeRows("CREATE TABLE x (a int PRIMARY KEY)") {
		t.Error("CQL looks like rows")
	}
}

func TestParseRowsRefuses(t *testing.T) {
	const (
		table  = `{"keyspace_name": "k", "table_name": "t", "id": "6f9619ff-8b86-d011-b42d-00c04fc964ff", "flags": ["compound"], "cdc": null}` + "\n"
		column = `{"keyspace_name": "k", "table_name": "t", "column_name": "a", "kind": "partition_key", "position": 0, "clustering_order": "none", "type": "int"}` + "\n"
	)
	if tables, refused, err := ParseRows("f", column+table); err != nil || len(refused) > 0 || len(tables) != 1 {
		t.Fatal(tables, refused, err)
	}
	for want, text := range map[string]string{
		`f:1: expected a row of system_schema as SELECT JSON prints it, found "CREATE`: "CREATE TABLE",
		"f:2: expected a row of system_schema as JSON":                                 table + `{"keyspace_name": }`,
		"f:1: expected a row of system_schema, found none: it has no keyspace_name":    `{"table_name": "t"}`,
		"f:1: expected a row of tables, views":                                         `{"keyspace_name": "k"}`,
		"f:1: id of k.t: uuid":                                                         `{"keyspace_name": "k", "table_name": "t", "id": "x"}`,
		"f:1: dropped_time of a: expected a time":                                      `{"keyspace_name": "k", "table_name": "t", "column_name": "a", "dropped_time": "now"}`,
		"f: expected rows of system_schema.tables, found none":                         column,
	} {
		if tables, _, err := ParseRows("f", text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, %v, expected %q", text, tables, err, want)
		}
	}
	// Tables that are no tables by these rows.
	for want, text := range map[string]string{
		"f: k.t: table k.t: it has no partition key": table,
		"f: k.t: column a: type \"frozen<x>\"":       table + strings.Replace(column, `"int"`, `"frozen<x>"`, 1),
	} {
		if tables, refused, err := ParseRows("f", text); err != nil || len(tables) != 0 || len(refused) != 1 || !strings.Contains(refused[0].Error(), want) {
			t.Errorf("%s: %v, %v, %v, expected %q", text, tables, refused, err, want)
		}
	}
}

func TestParseTimestamp(t *testing.T) {
	for text, want := range map[string]int64{
		"1970-01-01 00:00:00.001Z":    1,
		"2024-02-29 12:34:56.789Z":    1709210096789,
		"+294247-01-10 04:00:54.775Z": 9223372036854775,
	} {
		if at, err := parseTimestamp(text); err != nil || at.UnixMilli() != want {
			t.Errorf("%s: %d, %v, expected %d", text, at.UnixMilli(), err, want)
		}
	}
}

func FuzzParseRows(f *testing.F) {
	rows, _ := recordedRows(f)
	f.Add(rows)
	f.Fuzz(func(t *testing.T, text string) {
		tables, refused, err := ParseRows("f", text)
		if err == nil && len(tables)+len(refused) == 0 {
			t.Error("no tables and no error")
		}
	})
}
