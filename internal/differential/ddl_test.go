package differential

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"

	"cassdelta/commitlog"
	"cassdelta/dedup"
	"cassdelta/internal/agent"
	"cassdelta/internal/rawtopic"
	"cassdelta/internal/recording"
	"cassdelta/internal/testparts"
	"cassdelta/schema"
	"cassdelta/schema/cqlsource"
)

var writeEvents = flag.Bool("write-events", false, "write the files of events anew")

// TestRecordedDDL lets an agent read what each node of a recording logged while tables were truncated, dropped, created
// again, altered, captured and not, and folds the records of the agents in many orders. The events are those of
// testdata/ddl-VERSION.txt, whichever agent came first, and leave what Cassandra had in the end. Where agents read only
// later, and know what was altered before they read what was written before, the events leave the same.
func TestRecordedDDL(t *testing.T) {
	for _, version := range []string{"4.0", "4.1", "5.0"} {
		t.Run(version, func(t *testing.T) {
			rec, err := testparts.OpenRecording("ddl-" + version)
			if err != nil {
				t.Fatal(err)
			}
			var timely, late [][][]byte
			for _, n := range rec.Nodes {
				timely, late = append(timely, agentRecords(t, rec, n, true)), append(late, agentRecords(t, rec, n, false))
			}
			file := filepath.Join("testdata", "ddl-"+version+".txt")
			if *writeEvents {
				if err := os.WriteFile(file, []byte(foldDDL(t, rec, timely, rand.New(rand.NewPCG(0, 0)))), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			orders := uint64(1)
			if len(rec.Nodes) > 1 {
				orders = 12
			}
			for seed := range orders {
				r := rand.New(rand.NewPCG(seed, 0))
				if got := foldDDL(t, rec, timely, r); got != string(want) {
					t.Fatalf("seed %d: the events are\n%s\nexpected\n%s", seed, got, want)
				}
				mixed := slices.Clone(late)
				for i := range mixed {
					if r.IntN(2) == 0 {
						mixed[i] = timely[i]
					}
				}
				foldDDL(t, rec, mixed, r)
				if t.Failed() {
					t.Fatalf("seed %d", seed)
				}
			}
		})
	}
}

// recordedSchema is the schema as an agent sees it: that of the time before the DDL, and once it was read and is behind, that
// of the end.
type recordedSchema struct {
	first, last *schema.Catalog
	behind      bool
}

func (s *recordedSchema) Read(context.Context) (*schema.Catalog, error) {
	now := s.first
	if s.behind {
		s.first = s.last
	}
	return now, nil
}

// openSchema reads what the recording has of system_schema. It does not tell when tables were altered: those that were,
// right after their creation. Of the tables of Cassandra's own in a node's segments it has few: the others get stand-ins.
func openSchema(t *testing.T, rec *recording.Recording, node recording.Node) *recordedSchema {
	t.Helper()
	dir := t.TempDir()
	if err := rec.Unpack(node.Name, recording.FinalMoment, dir); err != nil {
		t.Fatal(err)
	}
	var catalogs [2]*schema.Catalog
	seen := map[schema.UUID]bool{}
	for i, name := range []string{"first", "last"} {
		text, err := rec.SchemaRows(name)
		if err != nil {
			t.Fatal(err)
		}
		tables, refused, err := cqlsource.ParseRows(name, text)
		if err != nil || len(refused) > 0 {
			t.Fatalf("%v %v", err, refused)
		}
		for _, table := range tables {
			seen[table.ID] = true
			if table.AlteredAt, _ = table.ID.Time(); i == 1 {
				if old := catalogs[0].ByID(table.ID); old != nil && old.Hash() != table.Hash() {
					table.AlteredAt++
				}
			}
		}
		catalogs[i] = schema.NewCatalog(tables)
	}
	tail, err := commitlog.NewTail(commitlog.TailConfig{Dir: dir, Static: true})
	if err != nil {
		t.Fatal(err)
	}
	defer tail.Close()
	var others []*schema.Table
	for {
		item, ok, err := tail.Poll()
		if err != nil {
			t.Fatal(err)
		}
		if !ok {
			break
		}
		first, err := commitlog.FirstTable(item.Payload)
		if item.Kind != commitlog.Entry || err != nil || seen[first] {
			continue
		}
		seen[first] = true
		parsed, err := schema.ParseCQL("system.cql", fmt.Sprintf("CREATE TABLE system.t%d (id int PRIMARY KEY) WITH ID = %s;", len(others), first))
		if err != nil {
			t.Fatal(err)
		}
		others = append(others, parsed.Tables...)
	}
	for i, c := range catalogs {
		catalogs[i] = schema.NewCatalog(append(c.Tables()[:len(c.Tables()):len(c.Tables())], others...))
	}
	return &recordedSchema{first: catalogs[0], last: catalogs[1]}
}

// agentRecords are the raw records that an agent makes of a node's log, which it has read from its beginning. A timely one
// has read all that was written before the DDL, knowing nothing of that, when it is started again; one that is late has not.
func agentRecords(t *testing.T, rec *recording.Recording, node recording.Node, timely bool) (records [][]byte) {
	t.Helper()
	dir, stateDir := t.TempDir(), t.TempDir()
	host, err := schema.ParseUUID(node.HostID)
	if err != nil {
		t.Fatal(err)
	}
	history := fmt.Sprintf(`{"version": 1, "host_id": %q, "since": 1, "tables": []}`, host)
	if err := os.WriteFile(filepath.Join(stateDir, "tables.json"), []byte(history), 0o644); err != nil {
		t.Fatal(err)
	}
	broker, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.Ports(0))
	if err != nil {
		t.Fatal(err)
	}
	defer broker.Close()
	kafka := []kgo.Opt{kgo.SeedBrokers(broker.ListenAddrs()...)}
	source := openSchema(t, rec, node)
	for i, moment := range rec.Moments {
		last := i == len(rec.Moments)-1
		if !timely && !last {
			continue
		}
		if err := rec.Unpack(node.Name, moment.Name, dir); err != nil {
			t.Fatal(err)
		}
		source.behind = last
		a, err := agent.New(agent.Config{
			ClientOpts: kafka, RawTopic: workloadRawTopic, RawPartitions: 1, Replication: 1, DeadLetterTopic: workloadDeadLetters,
			CDCRawDirectory: dir, Copy: last, UntilEnd: true, StateDirectory: stateDir, Source: source, Host: host, Cluster: "cassdelta",
			Log: zaptest.NewLogger(t, zaptest.Level(zap.WarnLevel)),
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := a.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	end := func(r *rawtopic.Record, _ time.Time) error {
		records = append(records, rawtopic.Append(nil, r))
		return nil
	}
	if err := readRaw(t.Context(), kafka, workloadRawTopic, workloadDeadLetters, end); err != nil {
		t.Fatal(err)
	}
	return records
}

// foldDDL folds the records of the nodes, each node's in their order between those of the others, of which one may be far
// behind, holds them to the model, and gives the events: those of each row in their order.
func foldDDL(t *testing.T, rec *recording.Recording, nodes [][][]byte, r *rand.Rand) string {
	t.Helper()
	f, err := newFolding(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer f.close()
	rows := map[string]*toldRow{}
	f.told = func(e *dedup.Event) {
		name := fmt.Sprintf("%s %s", e.Table.FullName(), keyJSON(t, e))
		row := rows[name]
		if row == nil {
			row = &toldRow{}
			rows[name] = row
		}
		row.tell(t, e, name)
	}
	var decoder rawtopic.Decoder
	var record rawtopic.Record
	next := make([]int, len(nodes))
	slow := r.IntN(len(nodes) + 1)
	for left := 1; left > 0; {
		left = 0
		for n := range nodes {
			for next[n] < len(nodes[n]) && r.IntN(3) > 0 && (n != slow || r.IntN(50) == 0) {
				next[n]++
				if err := decoder.Decode(nodes[n][next[n]-1], &record); err != nil {
					t.Fatal(err)
				}
				if record.Kind == rawtopic.KindInit && f.offset > 0 {
					continue // each node's own topic begins with one
				}
				if err := f.apply(&record); err != nil {
					t.Fatal(err)
				}
			}
			left += len(nodes[n]) - next[n]
		}
	}
	for _, d := range f.First {
		t.Error(d)
	}
	var text strings.Builder
	for _, name := range slices.Sorted(maps.Keys(rows)) {
		text.WriteString(rows[name].text)
	}
	checkFinal(t, rec, rows)
	return text.String()
}

// toldRow is what was told of a row.
type toldRow struct {
	text   string
	table  *schema.Table
	static bool
	key    string                     // the partition key
	fields map[string]json.RawMessage // after the last event, with the key; nil if the row does not exist
}

func (r *toldRow) tell(t *testing.T, e *dedup.Event, name string) {
	complete := ""
	if e.Complete {
		complete = " complete"
	}
	r.text += fmt.Sprintf("%c %s %s -> %s %s%s\n", e.Op, name, imageJSON(t, e.Table, e.Before), imageJSON(t, e.Table, e.After), e.Reason, complete)
	r.table, r.static, r.key, r.fields = e.Table, e.Static, string(e.Key), nil
	if e.After == nil {
		return
	}
	r.fields = map[string]json.RawMessage{}
	for i, c := range e.Table.Columns {
		switch v := e.After[i]; {
		case c.Kind == schema.PartitionKey:
			v = e.Partition[i]
			r.fields[c.Name] = valueJSON(t, c.Type, v)
		case c.Kind == schema.Clustering && !e.Static:
			r.fields[c.Name] = valueJSON(t, c.Type, e.Clustering[i-len(e.Partition)])
		case (c.Kind == schema.Static) == e.Static && c.Kind >= schema.Static:
			r.fields[c.Name] = valueJSON(t, c.Type, v)
		}
	}
}

func valueJSON(t *testing.T, typ *schema.Type, v []byte) json.RawMessage {
	t.Helper()
	if v == nil {
		return json.RawMessage("null")
	}
	text, err := typ.AppendJSON(nil, v)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// keyJSON is the key of an event's row.
func keyJSON(t *testing.T, e *dedup.Event) string {
	var parts []string
	for i, v := range e.Partition {
		parts = append(parts, string(valueJSON(t, e.Table.Columns[i].Type, v)))
	}
	if e.Static {
		parts = append(parts, "static")
	}
	for i, v := range e.Clustering {
		parts = append(parts, string(valueJSON(t, e.Table.Columns[len(e.Partition)+i].Type, v)))
	}
	return strings.Join(parts, ",")
}

// imageJSON is the values of an image that are not null.
func imageJSON(t *testing.T, table *schema.Table, image [][]byte) string {
	if image == nil {
		return "none"
	}
	var b bytes.Buffer
	for i, c := range table.Columns {
		if image[i] != nil {
			fmt.Fprintf(&b, " %s: %s", c.Name, valueJSON(t, c.Type, image[i]))
		}
	}
	return "{" + strings.TrimSpace(b.String()) + "}"
}

// checkFinal holds what the events left to what Cassandra answered in the end.
func checkFinal(t *testing.T, rec *recording.Recording, rows map[string]*toldRow) {
	t.Helper()
	found := map[string][]string{}
	for _, row := range rows {
		if row.fields == nil || row.static {
			continue
		}
		fields := maps.Clone(row.fields)
		for _, c := range row.table.StaticColumns() {
			fields[c.Name] = json.RawMessage("null")
		}
		for _, s := range rows {
			if s.static && s.table.ID == row.table.ID && s.key == row.key && s.fields != nil {
				maps.Copy(fields, s.fields)
			}
		}
		name := row.table.FullName()
		found[name] = append(found[name], canonical(t, fields))
	}
	for _, table := range rec.Tables {
		lines, err := rec.FinalRows(table.Keyspace, table.Name)
		if err != nil {
			t.Fatal(err)
		}
		var want []string
		for _, line := range lines {
			want = append(want, canonical(t, json.RawMessage(line)))
		}
		name := table.Keyspace + "." + table.Name
		slices.Sort(want)
		slices.Sort(found[name])
		if !slices.Equal(found[name], want) {
			t.Errorf("the events leave of %s\n%s\nCassandra has\n%s", name, strings.Join(found[name], "\n"), strings.Join(want, "\n"))
		}
	}
}

// canonical is v as JSON, with the fields in the order of their names.
func canonical(t *testing.T, v any) string {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	var fields any
	if err := json.Unmarshal(text, &fields); err != nil {
		t.Fatal(err)
	}
	if text, err = json.Marshal(fields); err != nil {
		t.Fatal(err)
	}
	return string(text)
}
