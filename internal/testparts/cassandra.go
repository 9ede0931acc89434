package testparts

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"time"

	gocql "github.com/apache/cassandra-gocql-driver/v2"
	"golang.org/x/sync/errgroup"
)

// Ports of every Cassandra node.
const (
	cqlPort     = 9042
	storagePort = 7000
)

// cassandraVersions are the versions of [CassandraOptions], the default last.
var cassandraVersions = []string{"4.0", "4.1", "5.0"}

// startTimeout bounds the start of any part, whatever the caller's context says: on a busy machine of two cores a
// cluster of three nodes needs well under a minute.
const startTimeout = 4 * time.Minute

// CassandraOptions describe a cluster. Only Dir is required.
type CassandraOptions struct {
	// Version is "4.0", "4.1" or "5.0"; empty is "5.0". artifacts.json says which patch release that is.
	Version string
	// Nodes is the size of the cluster, 1 to 3; 0 is 1.
	Nodes int
	// Dir holds the folders node1, node2, ...; it is created.
	Dir string
	// CDC turns cdc_enabled on. Tables still need WITH cdc = true.
	CDC bool
	// SegmentSizeMiB is the size of commit log segments; 0 is 1 MiB.
	SegmentSizeMiB int
	// SyncPeriod is commitlog_sync_period, the time between two rewrites of _cdc.idx; 0 is Cassandra's default, 10 s.
	SyncPeriod time.Duration
	// ExtraYAML are keys of cassandra.yaml that are added or replaced; the value nil removes a key.
	ExtraYAML map[string]any
}

func (o *CassandraOptions) setDefaults() error {
	if o.Version == "" {
		o.Version = cassandraVersions[len(cassandraVersions)-1]
	}
	if o.Nodes == 0 {
		o.Nodes = 1
	}
	if o.SegmentSizeMiB == 0 {
		o.SegmentSizeMiB = 1
	}
	if o.SyncPeriod == 0 {
		o.SyncPeriod = 10 * time.Second
	}
	switch {
	case !slices.Contains(cassandraVersions, o.Version):
		return fmt.Errorf("cassandra version %q: expected one of %v", o.Version, cassandraVersions)
	case o.Nodes < 1 || o.Nodes > 3:
		return fmt.Errorf("cluster of %d nodes: expected 1 to 3", o.Nodes)
	case o.SegmentSizeMiB < 1:
		return fmt.Errorf("segment size of %d MiB: expected at least 1", o.SegmentSizeMiB)
	case o.SyncPeriod < time.Millisecond:
		return fmt.Errorf("sync period of %s: expected at least 1ms", o.SyncPeriod)
	case o.Dir == "":
		return errors.New("no folder is given for the cluster")
	}
	var err error
	o.Dir, err = filepath.Abs(o.Dir)
	return err
}

// Cassandra is a cluster.
type Cassandra struct {
	Version string
	Nodes   []*Node

	net         *network
	releaseOnce sync.Once
}

// Node is one node of a cluster. Its methods may be called from several goroutines, but those that start and stop it
// only one at a time.
type Node struct {
	// Name is node1, node2, ...
	Name string
	// Addr is the loopback address for CQL and for the other nodes.
	Addr string
	// CQLPort is always 9042.
	CQLPort int
	// JMXPort listens on 127.0.0.1.
	JMXPort int
	// Dir holds everything that the node writes.
	Dir string
	// LogPath is the node's output.
	LogPath string

	java    string
	partDir string
	peers   int
	// properties are those of the runtime that only this node has, such as -Dname=value.
	properties []string
	proc       *process
}

// CDCRawDir is cdc_raw_directory.
func (n *Node) CDCRawDir() string { return filepath.Join(n.Dir, "cdc_raw") }

// CommitLogDir is commitlog_directory.
func (n *Node) CommitLogDir() string { return filepath.Join(n.Dir, "commitlog") }

// HintsDir is hints_directory.
func (n *Node) HintsDir() string { return filepath.Join(n.Dir, "hints") }

// StartCassandra fetches what is needed, starts all nodes of a new cluster at once and returns when each of them sees
// all others. After an error nothing is left running.
func StartCassandra(ctx context.Context, opts CassandraOptions) (*Cassandra, error) {
	if err := opts.setDefaults(); err != nil {
		return nil, err
	}
	java, err := javaPath()
	if err != nil {
		return nil, err
	}
	partDir, err := Fetch(ctx, "cassandra-"+opts.Version)
	if err != nil {
		return nil, err
	}
	nw, err := reserveNetwork(opts.Nodes, cqlPort, storagePort)
	if err != nil {
		return nil, err
	}
	c := &Cassandra{Version: opts.Version, net: nw}
	for i := 1; i <= opts.Nodes; i++ {
		n := &Node{
			Name:    "node" + strconv.Itoa(i),
			Addr:    nw.host(i),
			CQLPort: cqlPort,
			JMXPort: nw.jmxPort(i),
			Dir:     filepath.Join(opts.Dir, "node"+strconv.Itoa(i)),
			java:    java,
			partDir: partDir,
			peers:   opts.Nodes - 1,
		}
		n.LogPath = filepath.Join(n.Dir, "logs", "cassandra.log")
		c.Nodes = append(c.Nodes, n)
	}
	if err := c.configureAndStart(ctx, opts); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

func (c *Cassandra) configureAndStart(ctx context.Context, opts CassandraOptions) error {
	for i, n := range c.Nodes {
		if err := n.writeConfig(opts, i, c.Nodes); err != nil {
			return fmt.Errorf("configure %s: %w", n.Name, err)
		}
		if err := n.launch(); err != nil {
			return err
		}
	}
	g, ctx := errgroup.WithContext(ctx)
	for _, n := range c.Nodes {
		g.Go(func() error { return n.awaitReady(ctx) })
	}
	return g.Wait()
}

// Replace starts a new node with an empty folder in the place of node i, which is down: as one does after the loss of a
// machine. It has the address of the old one and takes over its tokens, has a host id of its own, and streams its data
// from the others. It stands in Nodes then; the old one's folder stays as it is.
func (c *Cassandra) Replace(ctx context.Context, i int) error {
	old := c.Nodes[i]
	if old.Running() {
		return fmt.Errorf("replace %s: it is running", old.Name)
	}
	n := *old
	n.Name += "-replaced"
	n.Dir = filepath.Join(filepath.Dir(old.Dir), n.Name)
	n.LogPath = filepath.Join(n.Dir, "logs", "cassandra.log")
	n.properties = []string{"-Dcassandra.replace_address_first_boot=" + n.Addr}
	n.proc = nil
	if err := os.CopyFS(filepath.Join(n.Dir, "conf"), os.DirFS(filepath.Join(old.Dir, "conf"))); err != nil {
		return fmt.Errorf("replace %s: %w", old.Name, err)
	}
	var seeds []string
	for j, other := range c.Nodes {
		if j != i {
			seeds = append(seeds, other.Addr)
		}
	}
	changes := map[string]any{"auto_bootstrap": true, "initial_token": nil, "seed_provider": seedProvider(seeds)}
	for _, d := range [][2]string{{"data_file_directories", "data"}, {"saved_caches_directory", "saved_caches"},
		{"commitlog_directory", "commitlog"}, {"cdc_raw_directory", "cdc_raw"}, {"hints_directory", "hints"}} {
		changes[d[0]] = filepath.Join(n.Dir, d[1])
	}
	changes["data_file_directories"] = []string{filepath.Join(n.Dir, "data")}
	if err := n.Configure(changes); err != nil {
		return err
	}
	c.Nodes[i] = &n
	if err := n.launch(); err != nil {
		return err
	}
	return n.awaitReady(ctx)
}

// Stop stops all nodes at once, each after a drain of its own.
func (c *Cassandra) Stop(ctx context.Context) error {
	var g errgroup.Group
	for _, n := range c.Nodes {
		g.Go(func() error { return n.Stop(ctx) })
	}
	return g.Wait()
}

// Close kills all nodes that are running and gives the cluster's addresses up.
func (c *Cassandra) Close() {
	var g errgroup.Group
	for _, n := range c.Nodes {
		g.Go(func() error { n.Kill(); return nil })
	}
	_ = g.Wait()
	c.releaseOnce.Do(c.net.release)
}

// Start starts the node again after [Node.Stop] or [Node.Kill], on what it has in its folder, and returns when it
// answers and sees the other nodes that it knows.
func (n *Node) Start(ctx context.Context) error {
	if n.proc.running() {
		return fmt.Errorf("start %s: it is running", n.Name)
	}
	if err := n.launch(); err != nil {
		return err
	}
	return n.awaitReady(ctx)
}

// Stop ends the node by SIGTERM: Cassandra drains itself, which completes the segments in cdc_raw. A node that is
// down stays down.
func (n *Node) Stop(ctx context.Context) error { return n.proc.stop(ctx) }

// Kill ends the node by SIGKILL.
func (n *Node) Kill() { n.proc.kill() }

// Running tells whether the node's process lives.
func (n *Node) Running() bool { return n.proc.running() }

// Session opens a session with this node alone as coordinator. Its default consistency is ONE. The caller closes it.
func (n *Node) Session() (*gocql.Session, error) {
	cfg := gocql.NewCluster(n.Addr)
	cfg.Port = n.CQLPort
	cfg.ProtoVersion = 4
	cfg.Consistency = gocql.One
	cfg.Timeout = 30 * time.Second
	cfg.WriteTimeout = 30 * time.Second
	cfg.ConnectTimeout = 10 * time.Second
	cfg.NumConns = 1
	// A node that is down never agrees on a schema: who needs that all have one waits for it.
	cfg.MaxWaitSchemaAgreement = time.Second
	cfg.DisableInitialHostLookup = true
	cfg.Events.DisableNodeStatusEvents = true
	cfg.Events.DisableTopologyEvents = true
	cfg.Events.DisableSchemaEvents = true
	cfg.Logger = gocql.NewLogger(gocql.LogLevelNone)
	s, err := cfg.CreateSession()
	if err != nil {
		return nil, fmt.Errorf("connect to %s at %s:%d: %w", n.Name, n.Addr, n.CQLPort, err)
	}
	return s, nil
}

// HostID is the node's identity, which outlives its addresses.
func (n *Node) HostID(ctx context.Context) (string, error) {
	s, err := n.Session()
	if err != nil {
		return "", err
	}
	defer s.Close()
	var id gocql.UUID
	if err := s.Query("SELECT host_id FROM system.local").ScanContext(ctx, &id); err != nil {
		return "", fmt.Errorf("host id of %s: %w", n.Name, err)
	}
	return id.String(), nil
}

func (n *Node) launch() error {
	argv, err := n.command()
	if err != nil {
		return fmt.Errorf("start %s: %w", n.Name, err)
	}
	n.proc, err = startProcess(n.Name, n.Dir, n.LogPath, argv)
	return err
}

// awaitReady waits until the node answers a query and sees all other nodes alive.
func (n *Node) awaitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	return n.proc.await(ctx, "ready", func(ctx context.Context) error {
		if canListen(n.Addr, n.CQLPort) {
			return fmt.Errorf("nothing listens at %s:%d", n.Addr, n.CQLPort)
		}
		s, err := n.Session()
		if err != nil {
			return err
		}
		defer s.Close()
		return n.seesPeers(ctx, s)
	})
}
