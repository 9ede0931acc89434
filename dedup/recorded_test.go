package dedup

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"sort"
	"strings"
	"testing"

	"cassdelta/commitlog"
	"cassdelta/internal/rawtopic"
	"cassdelta/internal/recording"
	"cassdelta/internal/testparts"
	"cassdelta/schema"
)

// TestRecorded folds what real nodes wrote, and makes the tables again from nothing but the events: they are what the
// nodes answered in the end. The copies of the nodes come in several orders.
func TestRecorded(t *testing.T) {
	for _, name := range []string{"demo", "types-4.0", "types-4.1", "types-5.0", "types-5.0-v8", "nested-4.0", "nested-4.1", "nested-5.0", "crash-5.0"} {
		t.Run(name, func(t *testing.T) {
			rec, err := testparts.OpenRecording(name)
			if err != nil {
				t.Fatal(err)
			}
			text, err := rec.Schema()
			if err != nil {
				t.Fatal(err)
			}
			parsed, err := schema.ParseCQL("schema.cql", text)
			if err != nil {
				t.Fatal(err)
			}
			var nodes [][][]byte
			for _, node := range rec.Nodes {
				nodes = append(nodes, recordedUpdates(t, rec, node, parsed.Catalog()))
			}
			orders := uint64(1)
			if len(nodes) > 1 {
				orders = 20
			}
			for seed := range orders {
				foldRecorded(t, rec, parsed, nodes, rand.New(rand.NewPCG(seed, 0)))
			}
		})
	}
}

// recordedUpdates are the raw records of a node's updates.
func recordedUpdates(t *testing.T, rec *recording.Recording, node recording.Node, catalog *schema.Catalog) (records [][]byte) {
	t.Helper()
	dir := t.TempDir()
	if err := rec.Unpack(node.Name, recording.FinalMoment, dir); err != nil {
		t.Fatal(err)
	}
	tail, err := commitlog.NewTail(commitlog.TailConfig{Dir: dir, Static: true})
	if err != nil {
		t.Fatal(err)
	}
	defer tail.Close()
	host, err := schema.ParseUUID(node.HostID)
	if err != nil {
		t.Fatal(err)
	}
	decoder := commitlog.NewDecoder(catalog, func(t *schema.Table) bool { return t.CDC })
	var m commitlog.Mutation
	var d rawtopic.Data
	for {
		item, ok, err := tail.Poll()
		if err != nil {
			t.Fatal(err)
		}
		if !ok {
			return records
		}
		if item.Kind != commitlog.Entry {
			continue
		}
		decoder.Decode(item.Version, item.Payload, item.Position, &m) // fails on system tables, which are in no file
		for i := range m.Updates {
			u := &m.Updates[i]
			origin := rawtopic.Origin{Host: host, Position: item.Position, Update: int32(u.Index)}
			if err := rawtopic.FromUpdate(u, origin, &d); err != nil {
				t.Fatal(err)
			}
			records = append(records, rawtopic.Append(nil, dataRecord(&d)))
		}
	}
}

// recordedRow is the image of a row, or of a static row, as the events left it.
type recordedRow struct {
	static     bool
	partition  string
	partitions [][]byte
	clustering [][]byte
	image      [][]byte
}

func foldRecorded(t *testing.T, rec *recording.Recording, parsed *schema.CQLSchema, nodes [][][]byte, r *rand.Rand) {
	t.Helper()
	h := newHarness(t)
	h.fold.pastKnown = func(*table) bool { return true } // the recordings begin before the tables do
	defer h.store.Close()
	h.apply(initRecord())
	for _, table := range parsed.Tables {
		h.apply(schemaRecord(table))
	}
	rows := map[string]map[string]*recordedRow{}
	events := 0
	emit := func(e *Event) error {
		events++
		if e.Reason == ReasonTTL {
			t.Errorf("an event of a TTL, and time has not come: %s", eventText(e))
		}
		table := rows[e.Table.FullName()]
		if table == nil {
			table = map[string]*recordedRow{}
			rows[e.Table.FullName()] = table
		}
		id := fmt.Sprintf("%x %v %x", e.Key, e.Static, e.Clustering)
		before := "none"
		if old := table[id]; old != nil {
			before = imageText(e.Table, old.image)
		}
		if found := imageText(e.Table, e.Before); found != before && !(found == "{}" && e.Op == Delete && before == "none") {
			t.Errorf("%s: the event before it left %s", eventText(e), before)
		}
		delete(table, id)
		if e.After != nil {
			clone := func(values [][]byte) (c [][]byte) {
				for _, v := range values {
					c = append(c, slices.Clone(v))
				}
				return c
			}
			table[id] = &recordedRow{
				static: e.Static, partition: string(e.Key), partitions: clone(e.Partition), clustering: clone(e.Clustering), image: clone(e.After),
			}
		}
		return nil
	}
	// Each node's records in their order, between those of the others; one node may be far behind.
	var decoder rawtopic.Decoder
	var record rawtopic.Record
	next := make([]int, len(nodes))
	slow := r.IntN(len(nodes) + 1)
	for left := 1; left > 0; {
		left = 0
		for n := range nodes {
			for next[n] < len(nodes[n]) && r.IntN(3) > 0 && (n != slow || r.IntN(50) == 0) {
				if err := decoder.Decode(nodes[n][next[n]], &record); err != nil {
					t.Fatal(err)
				}
				if _, _, err := applyUnpaused(h.fold, h.tx, h.offset, &record, 0, math.MaxInt64, emit); err != nil {
					t.Fatal(err)
				}
				h.offset++
				next[n]++
			}
			left += len(nodes[n]) - next[n]
		}
	}
	checked := 0
	for _, table := range parsed.Tables {
		if !table.CDC || table.Unsupported() != "" {
			continue
		}
		expected, err := rec.FinalRows(table.Keyspace, table.Name)
		if err != nil {
			t.Fatal(err)
		}
		if found := recordedJSON(t, table, rows[table.FullName()]); !slices.Equal(found, canonicalJSON(t, expected)) {
			t.Errorf("%s: the events make\n%s\nCassandra has\n%s", table.FullName(), strings.Join(found, "\n"), strings.Join(expected, "\n"))
		}
		checked += len(expected)
	}
	if checked == 0 || events == 0 {
		t.Errorf("%d events, %d rows at the end", events, checked)
	}
	t.Logf("%d events, %d rows at the end", events, checked)
}

// recordedJSON gives the rows as SELECT JSON does, ordered as texts: each with the static row of its partition, and a
// static row without others alone.
func recordedJSON(t *testing.T, table *schema.Table, rows map[string]*recordedRow) []string {
	statics, alone := map[string]*recordedRow{}, map[string]*recordedRow{}
	for _, row := range rows {
		if row.static {
			statics[row.partition], alone[row.partition] = row, row
		}
	}
	var lines []string
	line := func(row, static *recordedRow) {
		fields := map[string]json.RawMessage{}
		for i, c := range table.Columns {
			var v []byte
			switch c.Kind {
			case schema.PartitionKey:
				v = row.partitions[c.Position]
			case schema.Clustering:
				if !row.static {
					v = row.clustering[c.Position]
				}
			case schema.Static:
				if static != nil {
					v = static.image[i]
				}
			case schema.Regular:
				if !row.static {
					v = row.image[i]
				}
			}
			text, err := c.Type.AppendJSON(nil, v)
			if err != nil {
				t.Fatal(err)
			}
			name := c.Name
			if strings.ToLower(name) != name {
				name = `"` + name + `"` // as SELECT JSON has it
			}
			fields[name] = text
		}
		text, err := json.Marshal(fields)
		if err != nil {
			t.Fatal(err)
		}
		lines = append(lines, string(text))
	}
	for _, row := range rows {
		if !row.static {
			delete(alone, row.partition)
			line(row, statics[row.partition])
		}
	}
	for _, row := range alone {
		line(row, row)
	}
	sort.Strings(lines)
	return lines
}

// canonicalJSON brings lines of SELECT JSON into the form of recordedJSON.
func canonicalJSON(t *testing.T, lines []string) (canonical []string) {
	for _, l := range lines {
		var fields map[string]json.RawMessage
		if err := json.Unmarshal([]byte(l), &fields); err != nil {
			t.Fatal(err)
		}
		text, err := json.Marshal(fields)
		if err != nil {
			t.Fatal(err)
		}
		canonical = append(canonical, string(text))
	}
	sort.Strings(canonical)
	return canonical
}
