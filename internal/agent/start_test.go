package agent

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"cassdelta/schema"
)

func TestStartRefusals(t *testing.T) {
	a := newTable(t, "shop", "a", 1)
	k := startKafka(t)
	rig := func(t *testing.T) *rig {
		n := newNode(t, 4096)
		n.write(update{table: a, key: "k"})
		n.finish()
		return newRig(t, n, k, a)
	}
	t.Run("no cdc_raw directory", func(t *testing.T) {
		r := rig(t)
		r.config.CDCRawDirectory = filepath.Join(t.TempDir(), "cdc_raw")
		r.fail("cdc_raw does not exist", "cdc_enabled: true", "cassandra.yaml", "cdc-raw-directory")
	})
	t.Run("a file as cdc_raw directory", func(t *testing.T) {
		r := rig(t)
		r.config.CDCRawDirectory = r.node.path()
		r.fail("not a directory", "cdc_raw_directory")
	})
	t.Run("no broker", func(t *testing.T) {
		r := rig(t)
		r.config.ClientOpts = []kgo.Opt{kgo.SeedBrokers("127.0.0.1:1")}
		r.bounds.start = 300 * time.Millisecond
		r.fail("no Kafka broker answers at 127.0.0.1:1", "refused", "kafka-brokers")
	})
	t.Run("no schema", func(t *testing.T) {
		r := rig(t)
		r.source.err = errSource
		r.bounds.start = 100 * time.Millisecond
		r.fail("read the schema", errSource.Error())
	})
	t.Run("another number of partitions", func(t *testing.T) {
		r := rig(t)
		r.config.RawTopic = "seven"
		if err := k.cluster.CreateTopic("seven", 7, nil); err != nil {
			t.Fatal(err)
		}
		r.fail("expected 5 partitions, found 7")
	})
	t.Run("a raw topic of another cluster", func(t *testing.T) {
		r := rig(t)
		r.run()
		r.config.Cluster = "other"
		r.fail(`belongs to the Cassandra cluster "test"`)
	})
	t.Run("a second agent", func(t *testing.T) {
		r := rig(t)
		s, err := openState(r.config.StateDirectory, host)
		if err != nil {
			t.Fatal(err)
		}
		r.fail("another agent is running with the state directory " + r.config.StateDirectory)
		s.close()
		r.run()
	})
	t.Run("position of another node", func(t *testing.T) {
		r := rig(t)
		r.run()
		r.config.Host = schema.UUID{15: 2}
		r.fail("is the position of the node with host id "+host.String(), "this node is "+r.config.Host.String(), "remove the file")
	})
	for name, content := range map[string]string{
		"empty position file":   "",
		"cut position file":     `{"version":1,"host_id":"d8`,
		"newer position file":   `{"version":2}`,
		"position without file": `{"version":1,"host_id":"` + host.String() + `","segment":0,"offset":7}`,
	} {
		t.Run(name, func(t *testing.T) {
			r := rig(t)
			path := filepath.Join(r.config.StateDirectory, positionFile)
			if err := os.MkdirAll(r.config.StateDirectory, 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
				t.Fatal(err)
			}
			r.fail(path, "remove it")
			if files := r.files(); len(files) != 2 {
				t.Errorf("files %v", files)
			}
		})
	}
	t.Run("missing settings", func(t *testing.T) {
		for _, edit := range []func(*Config){
			func(c *Config) { c.RawTopic = "" },
			func(c *Config) { c.DeadLetterTopic = "" },
			func(c *Config) { c.CDCRawDirectory = "" },
			func(c *Config) { c.StateDirectory = "" },
			func(c *Config) { c.Source = nil },
			func(c *Config) { c.Host = schema.UUID{} },
			func(c *Config) { c.RawPartitions = -1 },
		} {
			c := rig(t).config
			edit(&c)
			if _, err := New(c); err == nil {
				t.Errorf("accepted: %+v", c)
			}
		}
	})
}

func TestStopsWhileWaitingForKafka(t *testing.T) {
	a := newTable(t, "shop", "a", 1)
	r := newRig(t, newNode(t, 4096), startKafka(t), a)
	r.config.ClientOpts = []kgo.Opt{kgo.SeedBrokers("127.0.0.1:1")}
	stop := r.start()
	if err := stop(); err != nil {
		t.Errorf("a stop at the start gives %v", err)
	}
}
