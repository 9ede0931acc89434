package agent

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"cassdelta/commitlog"
	"cassdelta/commitlog/keystore"
	"cassdelta/internal/recording"
	"cassdelta/internal/testparts"
	"cassdelta/schema"
)

// Segments of real nodes, as they stood at the moments of the recording, one moment after the other; the agent runs to
// the end of the directory at each.
func TestRecordings(t *testing.T) {
	for _, name := range []string{"demo", "types-4.0", "types-4.1", "types-5.0", "types-5.0-v8", "crash-5.0", "forms-5.0", "forms-crash-5.0"} {
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
			for _, node := range rec.Nodes {
				t.Run(node.Name, func(t *testing.T) { testRecording(t, rec, node, parsed.Catalog()) })
			}
		})
	}
}

// recordedKeys are those of the keystore that recordings with encrypted segments have.
func recordedKeys(t *testing.T, rec *recording.Recording) commitlog.Keys {
	t.Helper()
	if !strings.HasPrefix(rec.Name, "forms-") {
		return nil
	}
	dir, err := testparts.RecordingsDir()
	if err != nil {
		t.Fatal(err)
	}
	keys, err := keystore.Open(keystore.Config{
		Path: filepath.Join(dir, rec.Name, "keystore.jceks"), Type: "JCEKS", StorePassword: "cassandra-store", KeyPassword: "cassandra-key",
	})
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

func testRecording(t *testing.T, rec *recording.Recording, from recording.Node, catalog *schema.Catalog) {
	n := &node{t: t, dir: t.TempDir()}
	r := newRig(t, n, startKafka(t), catalog.Tables()...)
	registry := prometheus.NewRegistry()
	r.config.Static = true
	r.config.Keys = recordedKeys(t, rec)
	var err error
	if r.config.Host, err = schema.ParseUUID(from.HostID); err != nil {
		t.Fatal(err)
	}
	for i, moment := range rec.Moments {
		if err := rec.Unpack(from.Name, moment.Name, n.dir); err != nil {
			t.Fatal(err)
		}
		if i == len(rec.Moments)-1 {
			r.config.Registerer = registry
			r.config.Copy = true
		}
		r.run()
	}
	want, unsupported := decodeAll(t, rec, from.Name, catalog)
	if repeats := r.checkAtLeastOnce(want); repeats != 0 {
		t.Errorf("%d repeats", repeats)
	}
	t.Logf("%d updates, %d of tables that are not supported", len(want), unsupported)
	if len(want) == 0 {
		t.Error("the recording holds nothing")
	}
	for _, d := range r.kafka.records(deadLetters)[0] {
		t.Errorf("dead letter: %s", header(d, "cassdelta.error"))
	}
	if files := r.files(); len(files) != 0 {
		t.Errorf("left in the directory: %v", files)
	}
	if lag := gather(t, registry, "lag_bytes"); lag != 0 {
		t.Errorf("lag %v at the end", lag)
	}
}

// decodeAll gives what must be published of a node: the updates of all captured and supported tables.
func decodeAll(t *testing.T, rec *recording.Recording, node string, catalog *schema.Catalog) (all []change, unsupported int) {
	t.Helper()
	dir := t.TempDir()
	if err := rec.Unpack(node, recording.FinalMoment, dir); err != nil {
		t.Fatal(err)
	}
	tail, err := commitlog.NewTail(commitlog.TailConfig{Dir: dir, Static: true, Keys: recordedKeys(t, rec)})
	if err != nil {
		t.Fatal(err)
	}
	defer tail.Close()
	decoder := commitlog.NewDecoder(catalog, func(t *schema.Table) bool { return t.CDC })
	var m commitlog.Mutation
	for {
		item, ok, err := tail.Poll()
		if err != nil {
			t.Fatal(err)
		}
		if !ok {
			return all, unsupported
		}
		if item.Kind != commitlog.Entry {
			continue
		}
		decoder.Decode(item.Version, item.Payload, item.Position, &m) // fails on system tables, which are in no file
		for _, u := range m.Updates {
			if u.Table.Unsupported() != "" {
				unsupported++
				continue
			}
			c := change{position: item.Position, update: u.Index, table: u.Table, key: string(u.Key)}
			var rows []*commitlog.Row
			for _, f := range u.Unfiltereds {
				if f.Row != nil {
					rows = append(rows, f.Row)
				}
			}
			if len(rows) == 1 && len(rows[0].Cells) == 1 {
				c.value = string(rows[0].Cells[0].Value)
			}
			all = append(all, c)
		}
	}
}
