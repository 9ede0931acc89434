package recording_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"cassdelta/internal/recording"
	"cassdelta/testdata/recordings"
)

func TestDemo(t *testing.T) {
	r, err := recording.Open(recordings.Demo())
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Nodes) != 3 || r.SegmentVersion != 7 || !strings.HasPrefix(r.Cassandra, "5.0.") {
		t.Errorf("%d nodes of Cassandra %s, commit log version %d", len(r.Nodes), r.Cassandra, r.SegmentVersion)
	}
	schema, err := r.Schema()
	if err != nil {
		t.Fatal(err)
	}
	workload, err := r.Workload()
	if err != nil {
		t.Fatal(err)
	}
	for _, table := range r.Tables {
		rows, err := r.FinalRows(table.Keyspace, table.Name)
		if err != nil {
			t.Fatal(err)
		}
		if len(rows) != table.Rows || table.Rows == 0 {
			t.Errorf("%s.%s has %d rows, recording.json says %d", table.Keyspace, table.Name, len(rows), table.Rows)
		}
		if !strings.Contains(schema, "CREATE TABLE "+table.Keyspace+"."+table.Name+" (") {
			t.Errorf("schema.cql does not make %s.%s", table.Keyspace, table.Name)
		}
		if !strings.Contains(workload, table.Keyspace+"."+table.Name) {
			t.Errorf("workload.cql does not mention %s.%s", table.Keyspace, table.Name)
		}
	}
	for _, node := range r.Nodes {
		dir := t.TempDir()
		if err := r.Unpack(node.Name, recording.FinalMoment, dir); err != nil {
			t.Fatal(err)
		}
		logs, _ := filepath.Glob(filepath.Join(dir, "*.log"))
		if len(logs) == 0 {
			t.Errorf("%s has no segments", node.Name)
		}
		for _, log := range logs {
			info, err := os.Stat(log)
			if err != nil {
				t.Fatal(err)
			}
			if info.Size() != 1<<20 {
				t.Errorf("%s is %d bytes long, segments are 1 MiB", log, info.Size())
			}
			idx, err := os.ReadFile(strings.TrimSuffix(log, ".log") + "_cdc.idx")
			if err != nil {
				t.Error(err)
			}
			if !strings.HasSuffix(string(idx), "\nCOMPLETED") {
				t.Errorf("the index of %s is %q", log, idx)
			}
		}
	}
}

func TestUnpackRefuses(t *testing.T) {
	r, err := recording.Open(recordings.Demo())
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ node, moment, want string }{
		{"node9", recording.FinalMoment, "no such node"},
		{"node1", "noon", "no such moment"},
	} {
		if err := r.Unpack(c.node, c.moment, t.TempDir()); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("unpack %s at %s: %v, expected %q", c.node, c.moment, err, c.want)
		}
	}
	if _, err := recording.Open(os.DirFS(t.TempDir())); err == nil {
		t.Error("an empty folder was opened as a recording")
	}
}
