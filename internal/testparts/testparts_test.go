package testparts

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// waitFor polls a condition that takes at most a minute to become true.
func waitFor(t *testing.T, f func() error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := poll(ctx, 50*time.Millisecond, f); err != nil {
		t.Fatal(err)
	}
}

func TestCassandra(t *testing.T) {
	t.Parallel()
	c := CassandraForTest(t, CassandraOptions{CDC: true, SyncPeriod: 200 * time.Millisecond})
	n := c.Nodes[0]
	hostID, err := n.HostID(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s, err := n.Session()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for _, q := range []string{
		`CREATE KEYSPACE k WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 1}`,
		`CREATE TABLE k.t (id int PRIMARY KEY, v text) WITH cdc = true`,
		`INSERT INTO k.t (id, v) VALUES (1, 'cassandra')`,
	} {
		if err := s.Query(q).ExecContext(t.Context()); err != nil {
			t.Fatalf("%s: %v", q, err)
		}
	}
	// The row was written to a cdc table, so a segment gets an idx.
	var index string
	waitFor(t, func() error {
		found, _ := filepath.Glob(filepath.Join(n.CDCRawDir(), "*_cdc.idx"))
		if len(found) == 0 {
			return fmt.Errorf("no _cdc.idx in %s", n.CDCRawDir())
		}
		index = found[0]
		return nil
	})
	if _, err := os.Stat(strings.TrimSuffix(index, "_cdc.idx") + ".log"); err != nil {
		t.Error(err)
	}

	n.Kill()
	if n.Running() {
		t.Fatal("the node runs after Kill")
	}
	if err := n.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	again, err := n.HostID(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if again != hostID {
		t.Errorf("host id after the restart is %s, was %s", again, hostID)
	}
	s2, err := n.Session()
	if err != nil {
		t.Fatal(err)
	}
	defer s2.Close()
	var v string
	if err := s2.Query(`SELECT v FROM k.t WHERE id = 1`).ScanContext(t.Context(), &v); err != nil {
		t.Fatal(err)
	}
	if v != "cassandra" {
		t.Errorf("v = %q", v)
	}
	if err := n.Flush(t.Context(), "k"); err != nil {
		t.Error(err)
	}
	if err := n.Stop(t.Context()); err != nil {
		t.Error(err)
	}
	indexes, _ := filepath.Glob(filepath.Join(n.CDCRawDir(), "*_cdc.idx"))
	for _, index := range indexes {
		content, err := os.ReadFile(index)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasSuffix(string(content), "\nCOMPLETED") {
			t.Errorf("%s after a stop: %q", filepath.Base(index), content)
		}
	}
}

func TestKafka(t *testing.T) {
	t.Parallel()
	k := KafkaForTest(t, KafkaOptions{})
	client, err := kgo.NewClient(kgo.SeedBrokers(k.Brokers...), kgo.AllowAutoTopicCreation(), kgo.ConsumeTopics("t"), kgo.DefaultProduceTopic("t"))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	produce := func(value string) {
		t.Helper()
		if err := client.ProduceSync(ctx, kgo.StringRecord(value)).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	consume := func(value string) {
		t.Helper()
		fetches := client.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			t.Fatal(err)
		}
		if r := fetches.Records(); len(r) != 1 || string(r[0].Value) != value {
			t.Fatalf("read %d records, expected the one with %q", len(r), value)
		}
	}
	produce("before")
	consume("before")
	k.Kill()
	if err := k.Start(ctx); err != nil {
		t.Fatal(err)
	}
	produce("after")
	consume("after")
	if err := k.Stop(ctx); err != nil {
		t.Error(err)
	}
}

func TestRegistry(t *testing.T) {
	t.Parallel()
	r := RegistryForTest(t)
	request := func(method, path, body string) (int, string) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), method, r.URL+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/vnd.schemaregistry.v1+json")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		answer, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(answer)
	}
	const stringSchema, intSchema = `{"schema":"\"string\""}`, `{"schema":"\"int\""}`
	status, answer := request(http.MethodPost, "/subjects/s-value/versions", stringSchema)
	var registered struct{ ID int }
	if err := json.Unmarshal([]byte(answer), &registered); status != http.StatusOK || err != nil || registered.ID == 0 {
		t.Fatalf("register: %d %s", status, answer)
	}
	if status, answer := request(http.MethodGet, fmt.Sprintf("/schemas/ids/%d", registered.ID), ""); status != http.StatusOK || !strings.Contains(answer, "string") {
		t.Errorf("schema %d: %d %s", registered.ID, status, answer)
	}
	if status, answer := request(http.MethodPost, "/subjects/s-value/versions", intSchema); status != http.StatusConflict {
		t.Errorf("an incompatible schema: %d %s, expected a conflict", status, answer)
	}
}

func TestFailedStartQuotesTheLog(t *testing.T) {
	t.Parallel()
	_, err := StartCassandra(t.Context(), CassandraOptions{Dir: t.TempDir(), ExtraYAML: map[string]any{"no_such_key": 1}})
	if err == nil {
		t.Fatal("a node with a wrong configuration started")
	}
	for _, want := range []string{"node1 ended before it was ready", "cassandra.log ends:", "no_such_key"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error does not contain %q:\n%v", want, err)
		}
	}
}

func TestMissingTools(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	t.Setenv("JAVA_HOME", "")
	t.Setenv("CASSDELTA_PARTS_CACHE", t.TempDir())
	if _, err := StartKafka(t.Context(), KafkaOptions{Dir: t.TempDir()}); err == nil || !strings.Contains(err.Error(), "java is not installed") {
		t.Errorf("without java: %v", err)
	}
	if _, err := Fetch(t.Context(), "kafka"); err == nil || !strings.Contains(err.Error(), "mvn is not installed") {
		t.Errorf("without mvn: %v", err)
	}
}

func TestNetworksDiffer(t *testing.T) {
	t.Parallel()
	a, err := reserveNetwork(3, cqlPort)
	if err != nil {
		t.Fatal(err)
	}
	defer a.release()
	b, err := reserveNetwork(3, cqlPort)
	if err != nil {
		t.Fatal(err)
	}
	defer b.release()
	if a.n == b.n {
		t.Errorf("two owners of 127.0.%d.0", a.n)
	}
}

func TestStopKillsWhatDoesNotEnd(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	p, err := startProcess("stubborn", dir, filepath.Join(dir, "log"), []string{"sh", "-c", "trap '' TERM; echo started; while :; do sleep 1; done"})
	if err != nil {
		t.Fatal(err)
	}
	waitFor(t, func() error {
		if log, _ := os.ReadFile(p.log); !strings.Contains(string(log), "started") {
			return fmt.Errorf("log is %q", log)
		}
		return nil
	})
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := p.stop(ctx); err == nil || !strings.Contains(err.Error(), "still running, killed") {
		t.Errorf("stop: %v", err)
	}
	if p.running() {
		t.Error("it runs after stop")
	}
	// The shell's own child was killed with it; it is gone as soon as the system has reaped it.
	waitFor(t, func() error {
		if err := syscall.Kill(-p.pid, 0); err != syscall.ESRCH {
			return fmt.Errorf("process group %d still exists: %v", p.pid, err)
		}
		return nil
	})
}
