package cqlsource

import (
	"strings"
	"testing"
	"time"

	"cassdelta/schema"
)

// Rows as a node has them; the real thing is in cassandra_test.go.
func rows() *schemaRows {
	t := name{"k", "t"}
	return &schemaRows{
		tables: []tableRow{{name: t, id: schema.UUID{1}, flags: []string{"compound"}, cdc: true, gcGrace: 5, written: 100}},
		columns: map[name][]columnRow{t: {
			{name: "v", kind: "regular", typ: "frozen<a>", order: "none", position: -1, written: 90},
			{name: "p", kind: "partition_key", typ: "int", order: "none", position: 0, written: 90},
			{name: "c", kind: "clustering", typ: "text", order: "desc", position: 0, written: 90},
		}},
		dropped: map[name][]droppedRow{t: {{name: "gone", typ: "int", at: time.UnixMilli(7), written: 80}}},
		types: map[name]typeRow{
			{"k", "a"}: {fields: []string{"x"}, types: []string{"frozen<list<frozen<b>>>"}, written: 70},
			{"k", "b"}: {fields: []string{"y"}, types: []string{"int"}, written: 200},
		},
	}
}

func TestBuild(t *testing.T) {
	tables, refused := rows().build()
	if len(refused) != 0 || len(tables) != 1 {
		t.Fatalf("%d tables, refused %v", len(tables), refused)
	}
	got := tables[0]
	if got.AlteredAt != 200 {
		t.Errorf("altered at %d, expected 200, the time of the type in the type of its column", got.AlteredAt)
	}
	want, err := schema.ParseCQL("want.cql", `USE k; CREATE TYPE b (y int); CREATE TYPE a (x frozen<list<frozen<b>>>);
		CREATE TABLE t (p int, c text, v frozen<a>, gone int, PRIMARY KEY (p, c)) WITH ID = 01000000-0000-0000-0000-000000000000
		AND CLUSTERING ORDER BY (c DESC) AND cdc = true AND gc_grace_seconds = 5; ALTER TABLE t DROP gone USING TIMESTAMP 7000`)
	if err != nil {
		t.Fatal(err)
	}
	if got.Hash() != want.Tables[0].Hash() {
		t.Errorf("%s, expected\n%s", got.Definition(), want.Tables[0].Definition())
	}
}

func TestBuildRefusesOneTableOnly(t *testing.T) {
	for want, change := range map[string]func(*schemaRows){
		"contains itself": func(r *schemaRows) {
			r.types[name{"k", "b"}] = typeRow{fields: []string{"y"}, types: []string{"frozen<a>"}}
		},
		"unknown type b": func(r *schemaRows) { delete(r.types, name{"k", "b"}) },
		"1 field names for 2": func(r *schemaRows) {
			r.types[name{"k", "b"}] = typeRow{fields: []string{"y"}, types: []string{"int", "int"}}
		},
		`column kind "odd"`:       func(r *schemaRows) { r.columns[name{"k", "t"}][0].kind = "odd" },
		"it has no partition key": func(r *schemaRows) { r.columns[name{"k", "t"}] = nil },
		"dropped column gone":     func(r *schemaRows) { r.dropped[name{"k", "t"}][0].typ = "odd" },
	} {
		r := rows()
		r.tables = append(r.tables, tableRow{name: name{"k", "u"}, id: schema.UUID{2}})
		r.columns[name{"k", "u"}] = []columnRow{{name: "p", kind: "partition_key", typ: "int"}}
		change(r)
		tables, refused := r.build()
		if len(tables) != 1 || tables[0].Name != "u" || len(refused) != 1 || !strings.Contains(refused[0].err.Error(), want) {
			t.Errorf("%d tables, refused %+v, expected %q", len(tables), refused, want)
		}
	}
}

func TestHalfWritten(t *testing.T) {
	if got := rows().halfWritten(); got != 0 {
		t.Errorf("%d, expected 0", got)
	}
	r := rows()
	r.columns[name{"k", "t"}][1].written = 101
	if got := r.halfWritten(); got != 101 {
		t.Errorf("a column newer than its table: %d, expected 101", got)
	}
	r = rows()
	r.tables = nil
	if got := r.halfWritten(); got != 90 {
		t.Errorf("columns without a table: %d, expected 90", got)
	}
}
