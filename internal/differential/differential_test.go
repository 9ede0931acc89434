package differential

import (
	"os"
	"path/filepath"
	"testing"

	"go.yaml.in/yaml/v3"

	"cassdelta/internal/recording"
	"cassdelta/internal/testparts"
)

// seed is that of the runs in tests; "./do differential" draws another each time.
const seed = 20260101

// keptDir makes a folder that stays if the test fails.
func keptDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "cassdelta-differential-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the folder is kept: %s", dir)
			return
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func report(t *testing.T, c Comparison) {
	t.Helper()
	if c.Lines == 0 {
		t.Error("Cassandra's reader found nothing")
	}
	if c.Differences > 0 {
		t.Errorf("%d differences, the first:", c.Differences)
	}
	for _, d := range c.First {
		t.Error(d)
	}
}

func TestAgainstCassandra(t *testing.T) {
	for _, c := range []struct{ version, form string }{
		{"4.0", "plain"}, {"4.1", "zstd"}, {"5.0", "plain"}, {"5.0-v8", "encrypted"},
	} {
		t.Run(c.version+"-"+c.form, func(t *testing.T) {
			variants, err := Variants([]string{c.version}, []string{c.form})
			if err != nil {
				t.Fatal(err)
			}
			r, err := Run(t.Context(), Options{Variant: variants[0], Seed: seed, Mutations: 3000, Dir: keptDir(t)})
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("Cassandra %s, log version %s, seed %d: %d mutations, %d lines, %d bytes, %d differences in %s",
				r.Release, r.LogVersion, seed, r.Mutations, r.Lines, r.Bytes, r.Differences, r.Took)
			report(t, r.Comparison)
			if r.Shadowable > 0 {
				t.Errorf("%d shadowable deletions, which these versions do not write", r.Shadowable)
			}
			t.Logf("while it was written: %d looks at %d segments saw %d mutations", r.Watched.Looks, r.Watched.Segments, r.Watched.Mutations)
			if r.Watched.Looks < 50 || r.Watched.Segments < 2 || r.Watched.Mutations < r.Mutations/2 {
				t.Errorf("not enough was read while the node wrote: %+v", r.Watched)
			}
		})
	}
}

// What a killed node leaves behind ends where Cassandra's reader says that it does, before its restart and after it. How
// a stopped node ends its log is seen in the other test.
func TestKilledNode(t *testing.T) {
	for _, name := range []string{"crash-5.0", "forms-crash-5.0"} {
		rec, err := testparts.OpenRecording(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, moment := range rec.Moments {
			if moment.Name == recording.FinalMoment {
				continue
			}
			t.Run(name+"-"+moment.Name, func(t *testing.T) {
				c, err := compareRecording(t, rec, moment.Name, "cassandra-5.0", nil)
				if err != nil {
					t.Fatal(err)
				}
				t.Logf("%d mutations, %d lines, %d differences", c.Mutations, c.Lines, c.Differences)
				report(t, c)
			})
		}
	}
}

// compareRecording compares the readers on what a recorded node had at a moment. part has Cassandra's reader; prepare, if it is
// not nil, changes the segments first.
func compareRecording(t *testing.T, rec *recording.Recording, moment, part string, prepare func(dir string) error) (Comparison, error) {
	dir := keptDir(t)
	recordings, err := testparts.RecordingsDir()
	if err != nil {
		return Comparison{}, err
	}
	s := segments{
		dir: filepath.Join(dir, "cdc_raw"), keyspace: rec.Tables[0].Keyspace, config: filepath.Join(dir, "cassandra.yaml"),
		schema: filepath.Join(recordings, rec.Name, "schema.cql"),
	}
	if err := rec.Unpack(rec.Nodes[0].Name, moment, s.dir); err != nil {
		return Comparison{}, err
	}
	if prepare != nil {
		if err := prepare(s.dir); err != nil {
			return Comparison{}, err
		}
	}
	var tde map[string]any
	keystore := filepath.Join(recordings, rec.Name, "keystore.jceks")
	if _, err := os.Stat(keystore); err == nil {
		k := &keys{path: keystore, storeType: "JCEKS", alias: "testing:1", chunkKiB: 16, storePassword: "cassandra-store", keyPassword: "cassandra-key"}
		tde = k.yaml()
		if s.keys, err = k.open(); err != nil {
			return Comparison{}, err
		}
	}
	if err := writeToolConfig(s.config, dir, tde); err != nil {
		return Comparison{}, err
	}
	return compareReaders(t.Context(), part, s)
}

// writeToolConfig writes a cassandra.yaml that suffices for Cassandra's classes, with folders in dir, and
// transparent_data_encryption_options unless that is nil.
func writeToolConfig(path, dir string, encryption map[string]any) error {
	config := map[string]any{
		"partitioner":           "org.apache.cassandra.dht.Murmur3Partitioner",
		"endpoint_snitch":       "SimpleSnitch",
		"commitlog_sync":        "periodic",
		"commitlog_sync_period": "10s",
		"seed_provider": []any{map[string]any{
			"class_name": "org.apache.cassandra.locator.SimpleSeedProvider",
			"parameters": []any{map[string]any{"seeds": "127.0.0.1"}},
		}},
		"data_file_directories": []string{filepath.Join(dir, "data")},
	}
	for _, key := range []string{"commitlog_directory", "cdc_raw_directory", "hints_directory", "saved_caches_directory"} {
		config[key] = filepath.Join(dir, key)
	}
	if encryption != nil {
		config["transparent_data_encryption_options"] = encryption
	}
	text, err := yaml.Marshal(config)
	if err != nil {
		return err
	}
	return os.WriteFile(path, text, 0o644)
}

// TestWorkloads is a slice of what "./do workloads" does: see RunWorkloads.
func TestWorkloads(t *testing.T) {
	r, err := RunWorkloads(t.Context(), WorkloadOptions{
		Version: "5.0", Seed: seed, Workloads: 10, Statements: 300, Dir: keptDir(t), Progress: t.Logf,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("Cassandra %s, seed %d: %d workloads, %d statements, %d raw records, %d events, %d rows and %d cells compared, %d differences in %s",
		r.Release, seed, r.Workloads, r.Statements, r.RawRecords, r.Events, r.Rows, r.Cells, r.Differences, r.Took)
	if r.Events == 0 || r.Rows == 0 || r.Cells == 0 {
		t.Error("nothing was compared")
	}
	for _, d := range r.First {
		t.Error(d)
	}
	if r.Differences > len(r.First) {
		t.Errorf("and %d more differences", r.Differences-len(r.First))
	}
}
