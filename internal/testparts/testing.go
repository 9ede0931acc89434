package testparts

import (
	"os"
	"strings"
	"testing"
)

// CassandraForTest starts a cluster that lives as long as the test and its subtests. opts.Dir is chosen here. When the
// test fails, the folder with the logs stays and its path is printed.
func CassandraForTest(t testing.TB, opts CassandraOptions) *Cassandra {
	t.Helper()
	opts.Dir = testDir(t, "cassandra")
	c, err := StartCassandra(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// KafkaForTest starts brokers that live as long as the test and its subtests. opts.Dir is chosen here.
func KafkaForTest(t testing.TB, opts KafkaOptions) *Kafka {
	t.Helper()
	opts.Dir = testDir(t, "kafka")
	k, err := StartKafka(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.Close)
	return k
}

// RegistryForTest starts a schema registry that lives as long as the test and its subtests.
func RegistryForTest(t testing.TB) *Registry {
	t.Helper()
	r, err := StartRegistry(t.Context(), RegistryOptions{Dir: testDir(t, "registry")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return r
}

// testDir makes a folder that is removed after the test unless it failed. It must be called before the cleanup that
// ends the part is registered, since cleanups run in reverse.
func testDir(t testing.TB, part string) string {
	t.Helper()
	name := strings.Map(func(r rune) rune {
		if r == '/' || r == os.PathSeparator || r == '*' {
			return '-'
		}
		return r
	}, t.Name())
	dir, err := os.MkdirTemp("", "cassdelta-"+name+"-"+part+"-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the folder of %s is kept: %s", part, dir)
			return
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Errorf("remove the folder of %s: %v", part, err)
		}
	})
	return dir
}
