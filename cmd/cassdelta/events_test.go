package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"cassdelta/internal/recording"
	"cassdelta/schema"
)

// values are the columns of a key or an image by name, as JSON.
type values map[string]json.RawMessage

// text is the same for the same values.
func (v values) text() string {
	if v == nil {
		return "null"
	}
	text, err := json.Marshal(v) // orders the names and leaves out white space
	if err != nil {
		panic(err) // it was JSON when it was read
	}
	return string(text)
}

// event is a line of --json.
type event struct {
	Topic         string
	Key           values
	Before, After values
	Op            string
	Source        struct {
		Keyspace, Table, Reason string
		Complete                bool
		Micros                  int64 `json:"ts_us"`
	}
	Millis int64 `json:"ts_ms"`
}

// parseEvents reads the lines of --json, each with exactly the fields that are documented.
func parseEvents(t *testing.T, lines string) (events []event) {
	t.Helper()
	for line := range strings.Lines(lines) {
		var fields map[string]json.RawMessage
		var e event
		if err := json.Unmarshal([]byte(line), &fields); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		for _, name := range []string{"topic", "key", "before", "after", "source", "op", "ts_ms"} {
			if _, ok := fields[name]; !ok {
				t.Fatalf("%s: there is no %s", line, name)
			}
			delete(fields, name)
		}
		if len(fields) > 0 {
			t.Fatalf("%s: unexpected fields %v", line, fields)
		}
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		events = append(events, e)
	}
	return events
}

// rows are the images of the rows of one table by key, as the events left them.
type rows map[string]event

// foldEvents makes the tables again from nothing but the events. Each event must begin with what the last one of its key
// left.
func foldEvents(t reporter, prefix string, events []event) map[string]rows {
	t.Helper()
	tables := map[string]rows{}
	for _, e := range events {
		name := e.Source.Keyspace + "." + e.Source.Table
		if e.Topic != prefix+"."+name {
			t.Errorf("an event of %s is in the topic %s", name, e.Topic)
		}
		if tables[name] == nil {
			tables[name] = rows{}
		}
		id, before := e.Key.text(), "null"
		if last, ok := tables[name][id]; ok {
			before = last.After.text()
		}
		// What is deleted without having been seen has only its key.
		unseen := e.Op == "d" && before == "null" && !e.Source.Complete && isBlank(e)
		if found := e.Before.text(); found != before && !unseen {
			t.Errorf("%s %s %s: before is\n%s\nthe last event left\n%s", e.Op, name, id, found, before)
		}
		if ok := map[string]bool{"c": e.Before == nil && e.After != nil, "u": e.Before != nil && e.After != nil, "d": e.Before != nil && e.After == nil}[e.Op]; !ok {
			t.Errorf("%s %s %s has before %s and after %s", e.Op, name, id, e.Before.text(), e.After.text())
		}
		if e.Source.Micros == 0 || e.Millis == 0 {
			t.Errorf("%s %s %s is of the time %d µs, made at %d ms", e.Op, name, id, e.Source.Micros, e.Millis)
		}
		delete(tables[name], id)
		if e.After != nil {
			tables[name][id] = e
		}
	}
	return tables
}

// reporter takes what is wrong, as a [testing.T] does.
type reporter interface {
	Helper()
	Errorf(format string, args ...any)
}

// failures counts what is reported.
type failures int

func (*failures) Helper()                 {}
func (n *failures) Errorf(string, ...any) { *n++ }

// isBlank reports whether before has no value but those of the key.
func isBlank(e event) bool {
	for name, v := range e.Before {
		if _, ok := e.Key[name]; !ok && string(v) != "null" {
			return false
		}
	}
	return true
}

// selected gives the rows as SELECT JSON * prints them, in order: each with the static columns of its partition, and a
// partition of static columns alone as one row.
func selected(table *schema.Table, rows rows) (lines []string) {
	partition := func(e event) string {
		key := values{}
		for _, c := range table.PartitionKeyColumns() {
			key[c.Name] = e.Key[c.Name]
		}
		return key.text()
	}
	isStatic := func(e event) bool {
		return slices.ContainsFunc(table.ClusteringColumns(), func(c schema.Column) bool { return string(e.Key[c.Name]) == "null" })
	}
	statics, alone := map[string]values{}, map[string]bool{}
	for _, e := range rows {
		if isStatic(e) {
			statics[partition(e)], alone[partition(e)] = e.After, true
		}
	}
	for _, e := range rows {
		if isStatic(e) {
			continue
		}
		p := partition(e)
		delete(alone, p)
		for _, c := range table.StaticColumns() {
			e.After[c.Name] = json.RawMessage("null")
			if s := statics[p]; s != nil {
				e.After[c.Name] = s[c.Name]
			}
		}
		lines = append(lines, e.After.text())
	}
	for p := range alone {
		lines = append(lines, statics[p].text())
	}
	slices.Sort(lines)
	return lines
}

// recorded gives the rows that a table had at the end of a recording, in the form of selected.
func recorded(t *testing.T, r *recording.Recording, table *schema.Table) (lines []string) {
	t.Helper()
	rows, err := r.FinalRows(table.Keyspace, table.Name)
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range rows {
		var quoted values
		if err := json.Unmarshal([]byte(row), &quoted); err != nil {
			t.Fatal(err)
		}
		plain := values{}
		for name, v := range quoted {
			if inner, ok := strings.CutPrefix(name, `"`); ok { // a name that CQL has to quote
				name = strings.ReplaceAll(strings.TrimSuffix(inner, `"`), `""`, `"`)
			}
			if i, ok := table.ColumnIndex(name); ok && bytes.Contains(v, []byte(`""`)) {
				var compact bytes.Buffer
				if err := json.Compact(&compact, v); err != nil {
					t.Fatal(err)
				}
				v = published(t, table.Columns[i].Type, compact.Bytes())
			}
			plain[name] = v
		}
		lines = append(lines, plain.text())
	}
	slices.Sort(lines)
	return lines
}

// published gives a value as events have it: without those of no bytes, also within others, where only null is left of
// them.
func published(t *testing.T, typ *schema.Type, v json.RawMessage) json.RawMessage {
	t.Helper()
	text := func(v any) json.RawMessage {
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	switch {
	case string(v) == `""` && !hasEmpty(typ):
		return json.RawMessage("null")
	case string(v) == "null":
		return v
	}
	switch typ.Kind {
	case schema.KindList, schema.KindSet, schema.KindVector, schema.KindTuple:
		var list []json.RawMessage
		if err := json.Unmarshal(v, &list); err != nil {
			t.Fatal(err)
		}
		for i := range list {
			list[i] = published(t, typ.Elems[i%len(typ.Elems)], list[i])
		}
		return text(list)
	case schema.KindMap, schema.KindUDT:
		var fields, plain map[string]json.RawMessage
		if err := json.Unmarshal(v, &fields); err != nil {
			t.Fatal(err)
		}
		plain = map[string]json.RawMessage{}
		changed := false
		for name, part := range fields {
			of := typ.Elems[len(typ.Elems)-1] // of a map that of its values
			if i := slices.Index(typ.Fields, strings.Trim(name, `"`)); i >= 0 {
				of = typ.Elems[i]
			}
			if typ.Kind == schema.KindMap && name == "" && !hasEmpty(typ.Elems[0]) {
				name = "null"
			}
			plain[name] = published(t, of, part)
			changed = changed || name == "null" || !bytes.Equal(plain[name], part)
		}
		if changed { // what is not keeps its order
			return text(plain)
		}
	}
	return v
}

// hasEmpty reports whether events tell values of no bytes from null. Avro has no empty int.
func hasEmpty(t *schema.Type) bool { return t.Kind == schema.KindText || t.Kind == schema.KindASCII }

// checkRows holds that the events make the rows that the recorded cluster had at the end, in all tables of which there are
// events. It gives the number of the rows and the tables that are not supported.
func checkRows(t *testing.T, r *recording.Recording, tables []*schema.Table, folded map[string]rows) (n int, unsupported []*schema.Table) {
	t.Helper()
	known := map[string]bool{}
	for _, table := range tables {
		if !table.CDC {
			continue
		}
		if table.Unsupported() != "" || hasCounters(table) {
			unsupported = append(unsupported, table)
			continue
		}
		known[table.FullName()] = true
		want := recorded(t, r, table)
		if found := selected(table, folded[table.FullName()]); !slices.Equal(found, want) {
			t.Errorf("%s: the events make\n%s\nCassandra had\n%s", table.FullName(), strings.Join(found, "\n"), strings.Join(want, "\n"))
		}
		n += len(want)
	}
	for name := range folded {
		if !known[name] {
			t.Errorf("there are events of %s, which is not supported or has no CDC", name)
		}
	}
	return n, unsupported
}

// hasCounters reports whether a table has counters, of which there are no events while its past is not known.
func hasCounters(t *schema.Table) bool {
	return slices.ContainsFunc(t.Columns, func(c schema.Column) bool { return c.Type.Kind == schema.KindCounter })
}

// TestFoldEvents holds that what is broken is found: the check of the checks.
func TestFoldEvents(t *testing.T) {
	line := func(op, before, after string) string {
		return fmt.Sprintf(`{"topic":"p.k.t","key":{"a":1},"before":%s,"after":%s,"source":{"keyspace":"k","table":"t","ts_us":1},"op":"%s","ts_ms":1}`+"\n", before, after, op)
	}
	events := parseEvents(t, line("c", "null", `{"a":1,"b":2}`)+line("u", `{"b": 2, "a":1}`, `{"a":1,"b":3}`))
	folded := foldEvents(t, "p", events)
	if got := folded["k.t"][`{"a":1}`].After.text(); got != `{"a":1,"b":3}` {
		t.Errorf("the row is %s", got)
	}
	folded = foldEvents(t, "p", append(events, parseEvents(t, line("d", `{"a":1,"b":3}`, "null"))...))
	if len(folded["k.t"]) != 0 {
		t.Errorf("left are %v", folded)
	}
	for name, broken := range map[string]string{
		"a gap":       line("c", "null", `{"a":1,"b":2}`) + line("u", `{"a":1,"b":9}`, `{"a":1,"b":3}`),
		"made twice":  strings.Repeat(line("c", "null", `{"a":1,"b":2}`), 2),
		"wrong op":    line("u", "null", `{"a":1,"b":2}`),
		"wrong topic": strings.ReplaceAll(line("c", "null", `{"a":1,"b":2}`), "p.k.t", "p.k.u"),
		"never seen":  line("d", `{"a":1,"b":2}`, "null"),
	} {
		var found failures
		foldEvents(&found, "p", parseEvents(t, broken))
		if found == 0 {
			t.Errorf("%s is not found", name)
		}
	}
}
