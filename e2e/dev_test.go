package e2e

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"cassdelta/internal/testparts"
)

// TestCassandraDev shows the changes of one real node while it writes, with nothing else: no Kafka, no registry, the
// schema from the node. An event is there within two seconds, though the node flushes its log every ten only; that of a row
// whose time is over when the heartbeats of the agent say so.
func TestCassandraDev(t *testing.T) {
	node := testparts.CassandraForTest(t, testparts.CassandraOptions{Nodes: 1, CDC: true, SyncPeriod: 10 * time.Second}).Nodes[0]
	session, err := node.Session()
	if err != nil {
		t.Fatal(err)
	}
	defer session.Close()
	run := func(statement string) {
		t.Helper()
		if err := session.Query(statement).ExecContext(t.Context()); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
	run("CREATE KEYSPACE shop WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 1}")
	run("CREATE TABLE shop.orders (id int PRIMARY KEY, item text, price decimal) WITH cdc = true")
	run("CREATE TABLE shop.notes (id int PRIMARY KEY, note text)")
	run("INSERT INTO shop.orders (id, item) VALUES (0, 'before the start')")

	dir := t.TempDir()
	binary, err := buildProduct(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	died := make(chan error, 1)
	dev := newProgram("dev", dir, func(err error) { died <- err }, binary, "dev", node.CDCRawDir(), "--cassandra-contact-points", node.Addr)
	if err := dev.start(); err != nil {
		t.Fatal(err)
	}
	defer dev.close()
	// awaitFor waits until a line of the output matches, and gives how long that took.
	awaitFor := func(line string, most time.Duration) time.Duration {
		t.Helper()
		begin := time.Now()
		pattern := regexp.MustCompile(`(?m)^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} ` + line + `$`)
		for !pattern.MatchString(output(t, dev)) {
			select {
			case err := <-died:
				t.Fatal(err)
			case <-time.After(10 * time.Millisecond):
			}
			if time.Since(begin) > most {
				t.Fatal(dev.explain("there is no line " + line))
			}
		}
		return time.Since(begin)
	}
	await := func(line string) time.Duration {
		t.Helper()
		return awaitFor(line, time.Minute)
	}
	await(`c shop\.orders id=0 item: "before the start"`)
	run("INSERT INTO shop.orders (id, item) VALUES (9, 'of ten seconds') USING TTL 10")
	await(`c shop\.orders id=9 item: "of ten seconds"`)
	for _, c := range []struct{ statement, line string }{
		{"INSERT INTO shop.orders (id, item, price) VALUES (1, 'kettle', 29.90)", `c shop\.orders id=1 item: "kettle", price: 29\.90`},
		{"UPDATE shop.orders SET price = 27.50 WHERE id = 1", `u shop\.orders id=1 price: 29\.90 -> 27\.50`},
		{"DELETE FROM shop.orders WHERE id = 1", `d shop\.orders id=1 item: "kettle", price: 27\.50`},
		{"DELETE item FROM shop.orders WHERE id = 0", `u shop\.orders id=0 item: "before the start" -> null`},
	} {
		run(c.statement)
		took := await(c.line)
		t.Logf("%s: %v", c.statement, took)
		if took > 2*time.Second {
			t.Errorf("%s: its event took %v", c.statement, took)
		}
	}
	run("INSERT INTO shop.notes (id, note) VALUES (1, 'a table without CDC')")
	run("CREATE TABLE shop.carts (id int PRIMARY KEY, items int) WITH cdc = true")
	run("INSERT INTO shop.carts (id, items) VALUES (1, 3)")
	t.Logf("of a new table: %v", await(`c shop\.carts id=1 items: 3`))
	// Nothing from here on is a matter of seconds.
	t.Parallel()
	t.Logf("of a row whose time is over: %v", awaitFor(`d shop\.orders id=9 item: "of ten seconds" \(ttl\)`, 3*time.Minute))

	segments := listSegments(t, node.CDCRawDir())
	dev.expected.Store(true)
	if err := syscall.Kill(dev.pid, syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	<-dev.ended
	if !dev.state.Success() {
		t.Fatal(dev.explain("after Ctrl-C it ended with " + dev.state.String()))
	}
	text := output(t, dev)
	for _, line := range []string{
		"7  raw records: the log of each node has its own copy of a write",
		"   7  from " + node.CDCRawDir(),
		"   7  changed rows",
		"8  events: one for each row that the 7 records changed",
		"   4  rows created",
		"   2  rows updated",
		"   2  rows deleted",
	} {
		if !strings.Contains(text, "\n"+line+"\n") {
			t.Errorf("the summary does not say %q:\n%s", line, text)
		}
	}
	if after := listSegments(t, node.CDCRawDir()); after < segments {
		t.Errorf("the node had %d segments in cdc_raw, has %d", segments, after)
	}
}

// output is all that a program wrote.
func output(t *testing.T, p *program) string {
	t.Helper()
	text, err := os.ReadFile(p.log)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// listSegments counts the segments in a directory.
func listSegments(t *testing.T, dir string) int {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "CommitLog-*.log"))
	if err != nil {
		t.Fatal(err)
	}
	return len(files)
}
