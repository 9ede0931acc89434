package commitlog

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"cassdelta/internal/recording"
	"cassdelta/schema"
)

// The tests of this file read what two nodes of Cassandra 5.0 logged while one of them was down now and then: see
// testdata/recordings/cluster-5.0/workload.cql.

// logged is a mutation of one update in the log of a node.
type logged struct {
	payload []byte
	update  Update
}

// eachLogged gives the mutations of a table in the log of a node, in order. What it gives is valid during the call.
func eachLogged(t *testing.T, r *recording.Recording, node, table string, f func(logged)) {
	t.Helper()
	text, err := r.Schema()
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := schema.ParseCQL("schema.cql", text)
	if err != nil {
		t.Fatal(err)
	}
	d := NewDecoder(parsed.Catalog(), func(def *schema.Table) bool { return def.Name == table })
	dir := t.TempDir()
	if err := r.Unpack(node, recording.FinalMoment, dir); err != nil {
		t.Fatal(err)
	}
	paths, err := filepath.Glob(filepath.Join(dir, "*.log"))
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(paths) // the ids have as many digits
	for _, path := range paths {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		reader := NewBytesReader(filepath.Base(path), b)
		for {
			payload, pos, err := reader.Next()
			if err == ErrFinished {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			var m Mutation
			if d.Decode(Version40, payload, pos, &m) == nil && len(m.Updates) == 1 {
				f(logged{payload, m.Updates[0]})
			}
		}
	}
}

// TestHintsAreWhatWasWritten: what a node missed and got by a hint stands in its log byte for byte as in that of a node that
// was up, with the write time that it had, and nothing marks it.
func TestHintsAreWhatWasWritten(t *testing.T) {
	r := openRecording(t, "cluster-5.0")
	byNode := map[string]map[string][]byte{}
	for _, node := range []string{"node1", "node2"} {
		byNode[node] = map[string][]byte{}
		eachLogged(t, r, node, "hinted", func(l logged) {
			key := fmt.Sprintf("%x", l.update.Key)
			if byNode[node][key] != nil && !bytes.Equal(byNode[node][key], l.payload) {
				t.Errorf("%s has two mutations of %s", node, key)
			}
			byNode[node][key] = bytes.Clone(l.payload)
			if at := l.update.Unfiltereds[0].Row.Liveness.Timestamp; at != 1700000000000000 {
				t.Errorf("%s, key %s: the write time is %d", node, key, at)
			}
		})
	}
	if len(byNode["node1"]) != 5 {
		t.Fatalf("%d keys were written", len(byNode["node1"]))
	}
	for key, want := range byNode["node1"] {
		if !bytes.Equal(byNode["node2"][key], want) {
			t.Errorf("key %s is %x on node1, %x on node2", key, want, byNode["node2"][key])
		}
	}
}

// TestRepairsSendPartitions: what a node gets by a repair stands in its log as mutations that nobody wrote, each of many writes
// to a partition, with the write times that these had.
func TestRepairsSendPartitions(t *testing.T) {
	r := openRecording(t, "cluster-5.0")
	written := map[string]bool{}
	writes := 0
	eachLogged(t, r, "node1", "repaired", func(l logged) {
		written[string(l.payload)] = true
		if l.update.Unfiltereds[0].Row != nil && len(l.update.Unfiltereds) == 1 {
			writes++
		}
	})
	if writes != 9 {
		t.Fatalf("node1 logged %d writes, expected 9", writes)
	}
	repaired, rows := 0, map[string]string{}
	eachLogged(t, r, "node2", "repaired", func(l logged) {
		if written[string(l.payload)] {
			t.Errorf("node2 has a mutation as it was written, %x; it was down, and there were no hints", l.payload)
		}
		repaired++
		for _, x := range l.update.Unfiltereds {
			text := fmt.Sprint(x.Row.Liveness.Timestamp, x.Row.Deletion.Timestamp)
			for _, c := range x.Row.Cells {
				text += fmt.Sprintf(" %s@%d", l.update.Table.Columns[c.Column].Name, c.Timestamp)
			}
			rows[fmt.Sprintf("%x", x.Row.Clustering[0])] = text
		}
	})
	if repaired == 0 || repaired >= writes {
		t.Errorf("node2 logged %d mutations for %d writes", repaired, writes)
	}
	live := fmt.Sprint(1700000000000100, " ", int64(NoTimestamp), " v@1700000000000100 w@1700000000000200")
	want := map[string]string{"00000001": live, "00000003": live, "00000004": live, "00000002": fmt.Sprint(int64(NoTimestamp), " ", 1700000000000300)}
	for key, text := range want {
		if rows[key] != text {
			t.Errorf("row %s is %q on node2, expected %q", key, rows[key], text)
		}
	}
}

// counterShardOf is a shard of a counter's context.
type counterShardOf struct{ clock, count int64 }

// TestCounterContextsOfSeveralNodes: a write logs one shard, the leader's own with its running total; only a repair, at the
// end, logs the shards of several leaders together, on both nodes. So hardly any mutation has the counter's value: all logs together have it, taking of each
// shard the one with the highest clock.
func TestCounterContextsOfSeveralNodes(t *testing.T) {
	r := openRecording(t, "cluster-5.0")
	merged := map[string]map[string]counterShardOf{} // by cell, by counter id
	single, several := 0, 0
	for _, node := range r.Nodes {
		eachLogged(t, r, node.Name, "counters", func(l logged) {
			key, err := l.update.Table.PartitionKeyColumns()[0].Type.AppendJSON(nil, l.update.Key)
			if err != nil {
				t.Fatal(err)
			}
			add := func(row *Row, place string) {
				for _, c := range row.Cells {
					shards := contextShards(t, c.Value)
					if len(shards) == 1 {
						single++
					} else {
						several++
					}
					cell := fmt.Sprintf("%s/%s/%s", key, place, l.update.Table.Columns[c.Column].Name)
					if merged[cell] == nil {
						merged[cell] = map[string]counterShardOf{}
					}
					sum := int64(0)
					for id, s := range shards {
						sum += s.count
						if last, ok := merged[cell][id]; !ok || s.clock > last.clock {
							merged[cell][id] = s
						}
					}
					if total, err := schema.CounterTotal(c.Value); err != nil || total != sum {
						t.Errorf("%s: the total is %d, %v, of the shards %d", cell, total, err, sum)
					}
				}
			}
			if l.update.Static != nil {
				add(l.update.Static, "static")
			}
			for _, x := range l.update.Unfiltereds {
				k, err := l.update.Table.ClusteringColumns()[0].Type.AppendJSON(nil, x.Row.Clustering[0])
				if err != nil {
					t.Fatal(err)
				}
				add(x.Row, string(k))
			}
		})
	}
	if single < 20 || several == 0 || several > 10 {
		t.Errorf("%d contexts have one shard, %d several", single, several)
	}
	checked, leaders := 0, 0
	lines, err := r.FinalRows("cluster", "counters")
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range lines {
		var row map[string]*int64
		if err := json.Unmarshal([]byte(line), &row); err != nil {
			t.Fatal(err)
		}
		for _, column := range []string{"s", "n", "m"} {
			place := fmt.Sprint(*row["k"])
			if column == "s" {
				place = "static"
			}
			shards := merged[fmt.Sprintf("%d/%s/%s", *row["id"], place, column)]
			if row[column] == nil {
				if len(shards) > 0 {
					t.Errorf("%s: column %s is null", line, column)
				}
				continue
			}
			checked++
			leaders = max(leaders, len(shards))
			total := int64(0)
			for _, s := range shards {
				total += s.count
			}
			if total != *row[column] {
				t.Errorf("%s: column %s is %d by the logs", line, column, total)
			}
		}
	}
	if checked < 4 || leaders != 2 {
		t.Errorf("%d counters were checked, one with %d leaders", checked, leaders)
	}
}

// contextShards takes a context apart, by counter id. All shards must be global ones, as nodes since 2.1 write.
func contextShards(t *testing.T, context []byte) map[string]counterShardOf {
	t.Helper()
	header := int(binary.BigEndian.Uint16(context))
	b := context[2+2*header:]
	if len(b) != 32*header {
		t.Fatalf("%x has %d entries in its header and %d bytes of shards", context, header, len(b))
	}
	shards := map[string]counterShardOf{}
	for i := range header {
		if entry := int16(binary.BigEndian.Uint16(context[2+2*i:])); int(entry)-math.MinInt16 != i {
			t.Errorf("entry %d of the header is %d, expected that shard %d is global", i, entry, i)
		}
		shards[string(b[:16])] = counterShardOf{int64(binary.BigEndian.Uint64(b[16:])), int64(binary.BigEndian.Uint64(b[24:]))}
		b = b[32:]
	}
	return shards
}

// TestTypesByClass: columns whose types CQL names by their class are found behind one another, and their values are those that
// SELECT JSON prints. (It does not print a CompositeType; the differential tests have those.)
func TestTypesByClass(t *testing.T) {
	r := openRecording(t, "cluster-5.0")
	found := map[string]map[string]string{} // by clustering, by column
	eachLogged(t, r, "node2", "classes", func(l logged) {
		table := l.update.Table
		for _, x := range l.update.Unfiltereds {
			key, err := table.ClusteringColumns()[0].Type.AppendJSON(nil, x.Row.Clustering[0])
			if err != nil {
				t.Fatal(err)
			}
			row, many := map[string]string{}, map[int][]schema.ElementCell{}
			for _, c := range x.Row.Cells {
				column := table.Columns[c.Column]
				if column.Type.MultiCell() {
					many[c.Column] = append(many[c.Column], schema.ElementCell{Path: c.Path, Value: c.Value})
					continue
				}
				if err := column.Type.Validate(c.Value); err != nil {
					t.Errorf("column %s: %v", column.Name, err)
				}
				text, err := column.Type.AppendJSON(nil, c.Value)
				if err != nil {
					t.Error(err)
				}
				row[column.Name] = string(text)
			}
			for column, cells := range many {
				text, err := table.Columns[column].Type.AppendCellsJSON(nil, cells)
				if err != nil {
					t.Error(err)
				}
				row[table.Columns[column].Name] = string(text)
			}
			found[string(key)] = row
		}
	})
	lines, err := r.FinalRows("cluster", "classes")
	if err != nil || len(lines) != 3 {
		t.Fatalf("%d rows, %v", len(lines), err)
	}
	for _, line := range lines {
		var printed map[string]json.RawMessage
		if err := json.Unmarshal([]byte(line), &printed); err != nil {
			t.Fatal(err)
		}
		row := found[string(printed["c"])]
		if row == nil {
			t.Errorf("no row has the clustering %s", printed["c"])
			continue
		}
		for _, column := range []string{"named", "lexical", "many", "whole", "last"} {
			text := row[column]
			if text == "" {
				text = "null"
			}
			if text != string(printed[column]) {
				t.Errorf("column %s is %s in the log: %s", column, text, line)
			}
		}
	}
}
