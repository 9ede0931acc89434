package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	gocql "github.com/apache/cassandra-gocql-driver/v2"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.yaml.in/yaml/v3"
	"golang.org/x/sync/errgroup"

	"cassdelta/internal/testparts"
)

// Names that the product is configured with; none is a default, so that none can be hard-wired.
const (
	rawTopic      = "e2e.raw"
	deadLetters   = "e2e.dead"
	cleanPrefix   = "e2e.clean"
	group         = "e2e-dedup"
	rawPartitions = 12
)

// cluster is everything that runs: the servers, and the product's processes.
type cluster struct {
	t *testing.T
	// ctx ends with the test, and when a process of the product ends by itself.
	ctx       context.Context
	dir       string // of the product: configuration, logs, state
	cassandra *testparts.Cassandra
	kafka     *testparts.Kafka
	registry  *testparts.Registry
	admin     *kadm.Client
	// hosts are the host ids of the nodes, sessions sessions with each node; agents are beside each node.
	hosts    []string
	sessions []*gocql.Session
	agents   []*program
	dedup    *program
}

// startServers starts three nodes, a broker and a registry, and makes the tables.
func startServers(t *testing.T, version string) *cluster {
	t.Helper()
	c := &cluster{t: t}
	c.dir = makeDir(t)
	c.registry = testparts.RegistryForTest(t)
	c.kafka = testparts.KafkaForTest(t, testparts.KafkaOptions{})
	c.cassandra = testparts.CassandraForTest(t, testparts.CassandraOptions{
		Version: version, Nodes: 3, CDC: true, SyncPeriod: 500 * time.Millisecond,
	})
	client, err := kgo.NewClient(kgo.SeedBrokers(c.kafka.Brokers...))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	c.admin = kadm.NewClient(client)
	ctx, died := context.WithCancelCause(t.Context())
	c.ctx = ctx
	t.Cleanup(func() { died(nil) })

	c.sessions = make([]*gocql.Session, len(c.cassandra.Nodes))
	t.Cleanup(func() {
		for i := range c.sessions {
			c.disconnect(i)
		}
	})
	for i, n := range c.cassandra.Nodes {
		id, err := n.HostID(ctx)
		if err != nil {
			t.Fatal(err)
		}
		c.hosts = append(c.hosts, id)
		c.connect(i)
	}
	c.makeTables()
	c.makePrograms(died)
	return c
}

// makeDir makes a folder that is removed after the test unless it failed.
func makeDir(t *testing.T) string {
	dir, err := os.MkdirTemp("", "cassdelta-"+t.Name()+"-product-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the folder of the product is kept, with its logs and configuration: %s", dir)
			return
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func (c *cluster) connect(i int) {
	c.t.Helper()
	s, err := c.cassandra.Nodes[i].Session()
	if err != nil {
		c.t.Fatal(err)
	}
	c.sessions[i] = s
}

func (c *cluster) disconnect(i int) {
	if c.sessions[i] != nil {
		c.sessions[i].Close()
		c.sessions[i] = nil
	}
}

// connected are the sessions with running nodes.
func (c *cluster) connected() []*gocql.Session {
	return slices.DeleteFunc(slices.Clone(c.sessions), func(s *gocql.Session) bool { return s == nil })
}

func (c *cluster) makeTables() {
	c.t.Helper()
	statements := []string{fmt.Sprintf("CREATE KEYSPACE %s WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 3}", keyspace)}
	for _, t := range tables {
		statements = append(statements, t.ddl())
	}
	statements = append(statements, fmt.Sprintf("%s AND default_time_to_live = %d", fleeting.ddl(), int(fleetingTTL.Seconds())))
	for _, s := range statements {
		if err := c.sessions[0].Query(s).ExecContext(c.ctx); err != nil {
			c.t.Fatalf("%s: %v", s, err)
		}
	}
	err := poll(c.ctx, "the nodes agree on the schema", func() error {
		versions := map[gocql.UUID]bool{}
		for _, s := range c.connected() {
			var v gocql.UUID
			if err := s.Query("SELECT schema_version FROM system.local").ScanContext(c.ctx, &v); err != nil {
				return err
			}
			versions[v] = true
		}
		if len(versions) != 1 {
			return fmt.Errorf("there are %d versions", len(versions))
		}
		return nil
	})
	if err != nil {
		c.t.Fatal(err)
	}
}

// makePrograms builds the product and writes the configuration of each process.
func (c *cluster) makePrograms(died func(error)) {
	c.t.Helper()
	binary, err := buildProduct(c.ctx, c.dir)
	if err != nil {
		c.t.Fatal(err)
	}
	var contacts []string
	for _, n := range c.cassandra.Nodes {
		contacts = append(contacts, n.Addr)
	}
	for i, n := range c.cassandra.Nodes {
		// An agent asks its own node for the schema first, and the others while that one is down.
		own := append([]string{n.Addr}, slices.DeleteFunc(slices.Clone(contacts), func(a string) bool { return a == n.Addr })...)
		c.agents = append(c.agents, c.makeProgram(binary, "agent", fmt.Sprintf("agent%d", i+1), died, map[string]any{
			"raw-topic":         rawTopic,
			"raw-partitions":    rawPartitions,
			"cdc-raw-directory": n.CDCRawDir(),
			"cassandra":         map[string]any{"contact-points": own},
		}))
	}
	c.dedup = c.makeProgram(binary, "dedup", "dedup", died, map[string]any{
		"raw-topic":         rawTopic,
		"group":             group,
		"topic-prefix":      cleanPrefix,
		"dead-letter-topic": deadLetters,
		"registry":          map[string]any{"url": c.registry.URL},
	})
	c.t.Cleanup(func() {
		for _, p := range c.programs() {
			p.close()
		}
	})
}

func (c *cluster) makeProgram(binary, verb, name string, died func(error), config map[string]any) *program {
	c.t.Helper()
	config["kafka"] = map[string]any{"brokers": c.kafka.Brokers}
	config["state-directory"] = filepath.Join(c.dir, name)
	text, err := yaml.Marshal(config)
	if err != nil {
		c.t.Fatal(err)
	}
	file := filepath.Join(c.dir, name+".yaml")
	if err := os.WriteFile(file, text, 0o644); err != nil {
		c.t.Fatal(err)
	}
	return newProgram(name, c.dir, died, binary, verb, "--config", file)
}

func (c *cluster) programs() []*program { return append(slices.Clone(c.agents), c.dedup) }

// startPrograms starts the product.
func (c *cluster) startPrograms() {
	c.t.Helper()
	for _, p := range c.programs() {
		if err := p.start(); err != nil {
			c.t.Fatal(err)
		}
	}
}

// stopPrograms ends the product as an operator does. All its processes must end without an error.
func (c *cluster) stopPrograms() {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.ctx, time.Minute)
	defer cancel()
	for _, p := range c.programs() {
		if err := p.stop(ctx); err != nil {
			c.t.Error(err)
		}
	}
}

// stopNode stops a node in order, and waits until the others know it.
func (c *cluster) stopNode(i int) {
	c.t.Helper()
	c.disconnect(i)
	n := c.cassandra.Nodes[i]
	if err := n.Stop(c.ctx); err != nil {
		c.t.Fatal(err)
	}
	if err := c.cassandra.AwaitDown(c.ctx, n); err != nil {
		c.t.Fatal(err)
	}
}

func (c *cluster) startNode(i int) {
	c.t.Helper()
	if err := c.cassandra.Nodes[i].Start(c.ctx); err != nil {
		c.t.Fatal(err)
	}
	if err := c.cassandra.AwaitUp(c.ctx); err != nil {
		c.t.Fatal(err)
	}
	c.connect(i)
}

// converge makes all replicas equal: hints are delivered, logged batches are done, and what no hint was kept for is
// repaired. Afterwards no node has anything to tell another.
func (c *cluster) converge() {
	c.t.Helper()
	for _, host := range c.hosts {
		if err := c.cassandra.AwaitHintsDelivered(c.ctx, host); err != nil {
			c.t.Fatal(err)
		}
	}
	err := poll(c.ctx, "all logged batches are done", func() error {
		for _, s := range c.connected() {
			var n int
			if err := s.Query("SELECT count(*) FROM system.batches").ScanContext(c.ctx, &n); err != nil || n > 0 {
				return errors.Join(err, fmt.Errorf("%d batches are in a batchlog", n))
			}
		}
		return nil
	})
	if err != nil {
		c.t.Fatal(err)
	}
	// With three nodes and three replicas, the ranges of one node are those of all.
	if err := c.cassandra.Nodes[0].Repair(c.ctx, keyspace); err != nil {
		c.t.Fatal(err)
	}
}

// drain ends the writing of all nodes, which finishes their segments.
func (c *cluster) drain() {
	c.t.Helper()
	for i := range c.sessions {
		c.disconnect(i)
	}
	var g errgroup.Group
	for _, n := range c.cassandra.Nodes {
		g.Go(func() error { return n.Drain(c.ctx) })
	}
	if err := g.Wait(); err != nil {
		c.t.Fatal(err)
	}
}

// unread lists what the agents still have to do in any cdc_raw directory.
func (c *cluster) unread(drained bool) error {
	var all []string
	for _, n := range c.cassandra.Nodes {
		list, err := unread(n.CDCRawDir(), drained)
		if err != nil {
			return err
		}
		for _, l := range list {
			all = append(all, n.Name+": "+l)
		}
	}
	if len(all) > 0 {
		return fmt.Errorf("cdc_raw has: %s", strings.Join(all, "; "))
	}
	return nil
}

// caughtUp is an error while dedup has not committed a position behind all raw records. The raw topic is written
// without transactions, so its last record is just before its end.
func (c *cluster) caughtUp() error { return caughtUp(c.ctx, c.admin) }

func caughtUp(ctx context.Context, admin *kadm.Client) error {
	ends, err := admin.ListEndOffsets(ctx, rawTopic)
	if err == nil {
		err = ends.Error()
	}
	if err != nil {
		return err
	}
	committed, err := admin.FetchOffsets(ctx, group)
	if err != nil {
		return err
	}
	var lag []string
	ends.Each(func(end kadm.ListedOffset) {
		at := int64(0)
		if o, ok := committed.Lookup(rawTopic, end.Partition); ok {
			at = o.At
		}
		if at < end.Offset {
			lag = append(lag, fmt.Sprintf("partition %d: %d of %d", end.Partition, at, end.Offset))
		}
	})
	if len(lag) > 0 {
		return fmt.Errorf("dedup has committed %s", strings.Join(lag, ", "))
	}
	return nil
}

// selectAll reads all rows, and static rows, of all tables that are followed, at ALL; and the token of each partition.
func (c *cluster) selectAll() (map[rowID]image, map[partitionID]int64, error) {
	rows, tokens := map[rowID]image{}, map[partitionID]int64{}
	for _, t := range tracked() {
		if err := c.selectTable(t, rows, tokens); err != nil {
			return nil, nil, fmt.Errorf("SELECT from %s at ALL: %w", t.name, err)
		}
	}
	return rows, tokens, nil
}

func (c *cluster) selectTable(t *table, rows map[rowID]image, tokens map[partitionID]int64) error {
	columns := t.columns()
	query := fmt.Sprintf("SELECT token(%s), %s FROM %s", strings.Join(names(t.partition), ", "), strings.Join(names(columns), ", "), t.fullName())
	iter := c.connected()[0].Query(query).Consistency(gocql.All).PageSize(500).IterContext(c.ctx)
	for {
		var token int64
		values := make([]cqlValue, len(columns))
		dest := []any{&token}
		for i := range values {
			dest = append(dest, &values[i])
		}
		if !iter.Scan(dest...) {
			return iter.Close()
		}
		if err := addRow(t, values, rows, tokens, token); err != nil {
			return errors.Join(err, iter.Close())
		}
	}
}

// addRow takes a row of SELECT apart: into the row, and the static row of its partition. A partition that has nothing
// but a static row is shown as a row with null clustering.
func addRow(t *table, values []cqlValue, rows map[rowID]image, tokens map[partitionID]int64, token int64) error {
	partition, err := keyText(t.partition, values[:len(t.partition)])
	if err != nil {
		return err
	}
	tokens[partitionID{t.name, partition}] = token
	rest := values[len(t.partition):]
	clustering, rest := rest[:len(t.clustering)], rest[len(t.clustering):]
	imageOf := func(columns []column, values []cqlValue) (image, error) {
		im := image{}
		for i, c := range columns {
			if values[i] == nil {
				continue
			}
			s, err := text(c.typ, values[i])
			if err != nil {
				return nil, fmt.Errorf("column %s: %w", c.name, err)
			}
			im[c.name] = s
		}
		return im, nil
	}
	statics, err := imageOf(t.statics, rest)
	if err != nil {
		return err
	}
	if len(statics) > 0 {
		rows[rowID{table: t.name, partition: partition, static: true}] = statics
	}
	if len(clustering) > 0 && clustering[0] == nil {
		return nil
	}
	id := rowID{table: t.name, partition: partition}
	if id.clustering, err = keyText(t.clustering, clustering); err != nil {
		return err
	}
	rows[id], err = imageOf(t.regular, rest[len(t.statics):])
	return err
}

func TestAddRow(t *testing.T) {
	orders := tableByName("orders")
	rows, tokens := map[rowID]image{}, map[partitionID]int64{}
	customer := partitionKey(orders, 1)[0]
	credit := encode("varint", 7)
	seq := encode("bigint", 9)
	for _, values := range [][]cqlValue{
		{customer, encode("int", 1), credit, nil, nil, seq, nil},
		{customer, encode("int", 2), credit, nil, nil, nil, nil},
		{partitionKey(orders, 2)[0], nil, credit, nil, nil, nil, nil},
	} {
		if err := addRow(orders, values, rows, tokens, 5); err != nil {
			t.Fatal(err)
		}
	}
	first, second := mustText("uuid", customer), mustText("uuid", partitionKey(orders, 2)[0])
	want := map[rowID]image{
		{table: "orders", partition: first, static: true}:    {"credit": "7"},
		{table: "orders", partition: first, clustering: "1"}: {"seq": "9"},
		{table: "orders", partition: first, clustering: "2"}: {},
		{table: "orders", partition: second, static: true}:   {"credit": "7"},
	}
	if f := checkRows("rows", rows, want); f != nil {
		t.Error(f)
	}
	if len(tokens) != 2 {
		t.Errorf("%d tokens", len(tokens))
	}
}
