package dedup

import (
	"errors"
	"flag"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"cassdelta/commitlog"
	"cassdelta/internal/rawtopic"
	"cassdelta/schema"
)

var update = flag.Bool("update", false, "write what the examples in testdata/fold give into their files")

// TestExamples folds the records in testdata/fold/*.txt, and holds the events to those in the files. A file is read by
// people: each record is a line, and the events that it makes stand indented below it.
//
//	# a comment
//	type NAME FIELD TYPE, ...                 a user type, for the tables after it; again, with more fields
//	table NAME COLUMN TYPE KIND, ...          a table, its definition sent; the kind desc is a descending clustering column
//	alter NAME COLUMN TYPE KIND, ... @TIME    the same table with other columns; those that it had before are dropped then, or renamed
//	                                          if they are of the key
//	insert NAME COLUMN=VALUE ... @TIME        a row with liveness; null is a tombstone
//	update NAME COLUMN=VALUE ... @TIME        a row without; of no clustering column: the static row
//	delete NAME COLUMN=VALUE ... @TIME        a row, or a partition, or a range: COLUMN>=VALUE and so on; with names of
//	                                          columns alone, those of the row, or of the static row
//	shadow NAME COLUMN=VALUE ... @TIME        a row, by a deletion that a newer liveness makes void
//	create NAME COLUMN TYPE KIND, ... @TIME   a new table, from a node whose log has its creation
//	announce NAME                             the definition again, from a node that does not know of the creation
//	cdc NAME off|on @TIME                     the definition with another value of that option
//	truncate NAME @TIME                       the table is truncated on a node, by its clock
//	drop NAME @TIME                           the table is dropped, as a node has it
//	tick SECOND                               time comes up to a second
//	again                                     the record above, another copy of it
//	past unknown                              from here on, what was written before is not known of any table
//	show changed|origin                       from here on, events have the columns that changed, or the node and position that they
//	                                          are of, at their end
//
// A line may begin with a node and a colon, otherwise it is of the node a. Its records have the positions 1, 2, 3 in its log,
// or that behind a stroke: b/7: is position 7 of the node b, and b/5:7: that of its segment 5, not 1. NAME' is the table that had
// the name before.
//
// Values within values are written [a,b] for lists, sets and vectors, {key:value} for maps and user types, (a,b) for tuples.
// A column that is not frozen is written as a whole, which is a deletion a microsecond before and the elements, or by
// COLUMN[PATH]=VALUE, null being a tombstone: the path is the key of a map, the name of a field, the element of a set (VALUE
// is then nothing), and of a list the time within a timeuuid.
//
// A counter is written shard by shard, COLUMN[NODE]=CLOCK:COUNT, as the node's: a record of one shard is what a leader logs.
//
// A TIME is in microseconds, or in seconds with an s. With ttl=SECONDS, what is written expires so long after the second
// of TIME, or with until=SECOND at that one; with local=SECOND, a tombstone has that local deletion time, otherwise that of TIME.
func TestExamples(t *testing.T) {
	files, err := filepath.Glob("testdata/fold/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no examples: %v", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			found := runExample(t, file, string(text))
			compareExample(t, file, found, string(text))
		})
	}
}

// compareExample holds a file to what it should be, or with -update makes it that.
func compareExample(t *testing.T, file, found, expected string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, []byte(found), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if found == expected {
		return
	}
	a, b := strings.Split(found, "\n"), strings.Split(expected, "\n")
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			t.Fatalf("%s:%d: found\n%s\nexpected\n%s", file, i+1, a[i], b[i])
		}
	}
	t.Fatalf("%s: found %d lines, expected %d", file, len(a), len(b))
}

// example is the state of a file under way.
type example struct {
	*harness
	tables map[string]*schema.Table
	// created are the tables whose creation was captured.
	created map[schema.UUID]bool
	types   map[string]*schema.Type
	last    *rawtopic.Record
	at      map[string]int64 // positions of nodes
}

func (x *example) userType(name string) *schema.Type { return x.types[name] }

// runExample returns the file as it should be.
func runExample(t *testing.T, file, text string) string {
	x := &example{harness: newHarness(t), tables: map[string]*schema.Table{}, created: map[schema.UUID]bool{}, types: map[string]*schema.Type{}, at: map[string]int64{}}
	x.fold.pastKnown = func(*table) bool { return true }
	x.apply(initRecord())
	var out strings.Builder
	for i, line := range strings.SplitAfter(text, "\n") {
		if strings.HasPrefix(line, " ") {
			continue
		}
		out.WriteString(line)
		command, _, _ := strings.Cut(strings.TrimRight(line, "\n"), "#")
		if strings.TrimSpace(command) == "" {
			continue
		}
		rec, err := x.recordOf(command)
		if err != nil {
			t.Fatalf("%s:%d: %v", file, i+1, err)
		}
		if rec == nil {
			continue
		}
		x.last = rec
		err = x.try(rec)
		var refused *RecordError
		if errors.As(err, &refused) {
			fmt.Fprintf(&out, "    refused: %s\n", refused.Reason)
		} else if err != nil {
			t.Fatalf("%s:%d: %v", file, i+1, err)
		}
		for _, e := range x.take() {
			fmt.Fprintf(&out, "    %s\n", e)
		}
	}
	return out.String()
}

// recordOf is the record of a line, with the node that it is of.
func (x *example) recordOf(command string) (*rawtopic.Record, error) {
	node := "a"
	if before, rest, ok := strings.Cut(command, ": "); ok && !strings.Contains(before, " ") {
		node, command = before, rest
	}
	node, position, explicit := strings.Cut(node, "/")
	x.at[node]++
	segment := int64(1)
	if explicit {
		var err error
		if number, offset, ok := strings.Cut(position, ":"); ok {
			if segment, err = strconv.ParseInt(number, 10, 64); err != nil {
				return nil, err
			}
			position = offset
		}
		if x.at[node], err = strconv.ParseInt(position, 10, 64); err != nil {
			return nil, err
		}
	}
	rec, err := x.record(command)
	if rec == nil || err != nil || rec == x.last {
		return rec, err
	}
	origin := rawtopic.Origin{Position: commitlog.Position{Segment: segment, Offset: x.at[node]}}
	copy(origin.Host[:], node)
	switch rec.Kind {
	case rawtopic.KindData:
		rec.Data.Origin = origin
	case rawtopic.KindTruncate:
		rec.Truncate.Origin = origin
	case rawtopic.KindDrop:
		rec.Drop.Origin = origin
	case rawtopic.KindSchema:
		rec.Schema.Host = origin.Host
	}
	return rec, nil
}

func (x *example) record(command string) (*rawtopic.Record, error) {
	verb, rest, _ := strings.Cut(strings.TrimSpace(command), " ")
	switch verb {
	case "past":
		x.fold.pastKnown = func(*table) bool { return rest != "unknown" }
		return nil, nil
	case "show":
		x.showChanged, x.showOrigin = x.showChanged || rest == "changed", x.showOrigin || rest == "origin"
		return nil, nil
	case "again":
		return x.last, nil
	case "tick":
		at, err := strconv.ParseInt(strings.TrimSpace(rest), 10, 64)
		return tickRecord(at), err
	case "type":
		return nil, x.defineType(rest)
	case "table", "alter":
		name, columns, _ := strings.Cut(rest, " ")
		columns, at, _ := strings.Cut(columns, "@")
		spec := *tableOf(x.t, x.userType, name, splitOutside(columns, ',')...)
		if old := x.tables[name]; old != nil {
			altered, err := exampleTime(at)
			if err != nil {
				return nil, err
			}
			spec.ID, spec.AlteredAt, spec.Dropped = old.ID, altered, slices.Clone(old.Dropped)
			for _, c := range old.Columns {
				if _, ok := spec.ColumnIndex(c.Name); !ok && c.Kind >= schema.Static {
					spec.Dropped = slices.DeleteFunc(spec.Dropped, func(d schema.DroppedColumn) bool { return d.Name == c.Name })
					spec.Dropped = append(spec.Dropped, schema.DroppedColumn{Name: c.Name, Kind: c.Kind, Type: c.Type, DroppedAt: altered})
				}
			}
		}
		x.tables[name] = rebuild(x.t, spec)
		rec := schemaRecord(x.tables[name])
		rec.Schema.Created = x.created[spec.ID]
		return rec, nil
	case "create":
		name, columns, _ := strings.Cut(rest, " ")
		columns, at, _ := strings.Cut(columns, "@")
		created, err := exampleTime(at)
		if err != nil {
			return nil, err
		}
		spec := *tableOf(x.t, x.userType, name, splitOutside(columns, ',')...)
		spec.AlteredAt, spec.ID = created, timeUUID(created, name)
		x.tables[name+"'"], x.tables[name] = x.tables[name], rebuild(x.t, spec)
		rec := schemaRecord(x.tables[name])
		rec.Schema.Created, x.created[spec.ID] = true, true
		return rec, nil
	case "announce", "cdc", "truncate", "drop":
		fields := strings.Fields(rest)
		t := x.tables[fields[0]]
		if t == nil {
			return nil, fmt.Errorf("no table %s", fields[0])
		}
		if verb == "announce" {
			return schemaRecord(t), nil
		}
		at, err := exampleTime(strings.TrimPrefix(fields[len(fields)-1], "@"))
		if err != nil {
			return nil, err
		}
		switch verb {
		case "truncate":
			return &rawtopic.Record{Kind: rawtopic.KindTruncate, Truncate: &rawtopic.Truncate{Table: t.ID, Timestamp: at}}, nil
		case "drop":
			return &rawtopic.Record{Kind: rawtopic.KindDrop, Drop: &rawtopic.Drop{Table: t.ID, Timestamp: at}}, nil
		}
		spec := *t
		spec.AlteredAt, spec.CDC = at, fields[1] == "on"
		x.tables[fields[0]] = rebuild(x.t, spec)
		rec := schemaRecord(x.tables[fields[0]])
		rec.Schema.Created = spec.CDC
		return rec, nil
	case "insert", "update", "delete", "shadow":
		w := exampleWrite{local: math.MinInt64}
		if err := w.parse(rest); err != nil {
			return nil, err
		}
		if w.table = x.tables[w.name]; w.table == nil {
			return nil, fmt.Errorf("no table %s", w.name)
		}
		return w.record(verb)
	}
	return nil, fmt.Errorf("no verb %q", verb)
}

func exampleTime(text string) (int64, error) {
	text, seconds := strings.CutSuffix(strings.TrimSpace(text), "s")
	at, err := strconv.ParseInt(text, 10, 64)
	if seconds {
		at *= microseconds
	}
	return at, err
}

// exampleWrite is a line that writes something.
type exampleWrite struct {
	name  string
	table *schema.Table
	terms []exampleTerm
	at    int64
	ttl   int32
	until int64 // 0 is so long after at as the TTL says
	local int64
}

func (w *exampleWrite) expiry() int64 {
	if w.until != 0 {
		return w.until
	}
	return second(w.at) + int64(w.ttl)
}

type exampleTerm struct{ column, operator, value string }

func (w *exampleWrite) parse(text string) (err error) {
	fields := strings.Fields(text)
	if len(fields) == 0 {
		return errors.New("no table")
	}
	w.name = fields[0]
	for _, f := range fields[1:] {
		if at, ok := strings.CutPrefix(f, "@"); ok {
			if w.at, err = exampleTime(at); err != nil {
				return err
			}
			continue
		}
		i := strings.IndexAny(f, "<>=")
		if i < 0 {
			w.terms = append(w.terms, exampleTerm{column: f})
			continue
		}
		j := i + 1
		if f[i] != '=' && j < len(f) && f[j] == '=' {
			j++
		}
		term := exampleTerm{f[:i], f[i:j], f[j:]}
		n, _ := strconv.ParseInt(term.value, 10, 64)
		switch term.column {
		case "ttl":
			w.ttl = int32(n)
		case "until":
			w.until = n
		case "local":
			w.local = n
		default:
			w.terms = append(w.terms, term)
		}
	}
	if w.local == math.MinInt64 {
		w.local = second(w.at)
	}
	return nil
}

func (w *exampleWrite) record(verb string) (*rawtopic.Record, error) {
	d := newData(w.table, nil)
	deletion := commitlog.Deletion{Timestamp: w.at, LocalTime: w.local}
	row := newRow()
	g := rawtopic.Range{Start: rawtopic.Bound{Inclusive: true}, End: rawtopic.Bound{Inclusive: true}, Deletion: deletion}
	ranged := false
	columns := 0 // that are deleted
	var key [][]byte
	for _, term := range w.terms {
		name, path, _ := strings.Cut(strings.TrimSuffix(term.column, "]"), "[")
		i, ok := w.table.ColumnIndex(name)
		if !ok {
			return nil, fmt.Errorf("no column %s", name)
		}
		c := w.table.Columns[i]
		switch {
		case term.operator == "" && c.Type.MultiCell():
			row.ComplexDeletions = append(row.ComplexDeletions, commitlog.ComplexDeletion{Column: i, Deletion: deletion})
			columns++
			continue
		case term.operator == "":
			rowBuilder{w.table, &row}.tombstone(c.Name, w.at, w.local)
			columns++
			continue
		case c.Type.Kind == schema.KindCounter && path != "":
			if err := w.shard(&row, i, path[0], term.value); err != nil {
				return nil, err
			}
			continue
		case c.Type.MultiCell() && path != "":
			if err := w.element(&row, &c, path, term.value); err != nil {
				return nil, err
			}
			continue
		case c.Type.MultiCell():
			if err := w.whole(&row, &c, term.value); err != nil {
				return nil, err
			}
			continue
		}
		v, err := exampleValue(c.Type, term.value)
		if err != nil {
			return nil, err
		}
		switch {
		case c.Kind == schema.PartitionKey:
			key = append(key, v)
		case c.Kind == schema.Clustering && term.operator == "=":
			row.Clustering = append(row.Clustering, v)
			g.Start.Prefix, g.End.Prefix = append(g.Start.Prefix, v), append(g.End.Prefix, v)
		case c.Kind == schema.Clustering:
			// In descending order the bound of the greater values comes first.
			b := &g.Start
			if (term.operator[0] == '<') != c.Desc {
				b = &g.End
			}
			ranged = true
			b.Prefix, b.Inclusive = append(b.Prefix, v), len(term.operator) == 2
		case term.value == "null":
			rowBuilder{w.table, &row}.tombstone(c.Name, w.at, w.local)
		case w.ttl != 0:
			rowBuilder{w.table, &row}.expiring(c.Name, w.at, w.ttl, w.expiry(), v)
		default:
			rowBuilder{w.table, &row}.cell(c.Name, w.at, v)
		}
	}
	d.Key = w.table.JoinPartitionKey(nil, key)
	full := len(row.Clustering) == len(w.table.ClusteringColumns())
	switch {
	case verb == "insert":
		row.Liveness.Timestamp = w.at
		if w.ttl != 0 {
			row.Liveness.TTL, row.Liveness.ExpiresAt = w.ttl, w.expiry()
		}
		d.Rows = append(d.Rows, row)
	case verb == "update" && !full && len(row.Clustering) == 0:
		d.Static = &row
	case verb == "update":
		d.Rows = append(d.Rows, row)
	case ranged || !full && len(row.Clustering) > 0:
		d.Ranges = append(d.Ranges, g)
	case columns > 0 && !full:
		d.Static = &row
	case columns > 0:
		d.Rows = append(d.Rows, row)
	case full && len(row.Clustering) > 0:
		row.Deletion, row.Shadowable = deletion, verb == "shadow"
		d.Rows = append(d.Rows, row)
	default:
		d.Deletion = deletion
	}
	return dataRecord(d), nil
}

func exampleValue(t *schema.Type, text string) ([]byte, error) {
	if text == "null" {
		return nil, nil
	}
	switch t.Kind {
	case schema.KindText:
		return []byte(text), nil
	case schema.KindInt:
		n, err := strconv.Atoi(text)
		return intValue(n), err
	case schema.KindDecimal:
		// The scale is the number of digits behind the point; then come all digits.
		whole, fraction, _ := strings.Cut(text, ".")
		n, err := strconv.Atoi(whole + fraction)
		return append(intValue(len(fraction)), intValue(n)...), err
	}
	return exampleNested(t, text)
}
