// Command testparts runs the servers that cassdelta is tested with, for people and for scripts: a Cassandra cluster
// with CDC on, Kafka, a schema registry. It is a tool of this repository, not of the product.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/alecthomas/kong"

	"cassdelta/internal/differential"
	"cassdelta/internal/testparts"
	"cassdelta/internal/testparts/recorder"
)

type cli struct {
	Cluster      clusterCmd      `cmd:"" help:"Run a Cassandra cluster with CDC on until Ctrl-C."`
	Kafka        kafkaCmd        `cmd:"" help:"Run a Kafka broker until Ctrl-C."`
	ObjectStore  objectStoreCmd  `cmd:"" name:"objectstore" help:"Run a server with the API of S3, and a command beside it."`
	Registry     registryCmd     `cmd:"" help:"Run a schema registry until Ctrl-C."`
	Record       recordCmd       `cmd:"" help:"Run a workload on a cluster and record its commit log segments."`
	Differential differentialCmd `cmd:"" help:"Compare the commit log reader with Cassandra's own on random writes to real nodes."`
	Workloads    workloadsCmd    `cmd:"" help:"Compare what agents and fold make of random workloads on real clusters with SELECT."`
	Mutants      mutantsCmd      `cmd:"" help:"Break each rule of the merge once, and print which test fails."`
	Simulate     simulateCmd     `cmd:"" help:"Run whole dedup workers against brokers in one process, in virtual time, while everything happens to them that can."`
	Fetch        fetchCmd        `cmd:"" help:"Download the servers that are not yet in the cache."`
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	k := kong.Parse(&cli{},
		kong.Name("testparts"),
		kong.Description("Servers for tests of cassdelta, from Maven Central, on loopback addresses."),
		kong.UsageOnError(),
		kong.Vars{
			"recordings": recordingNames(),
			"versions":   strings.Join(differential.VersionNames(), ", "),
			"forms":      strings.Join(differential.FormNames(), ", "),
		},
		kong.BindTo(ctx, (*context.Context)(nil)))
	k.FatalIfErrorf(k.Run())
}

// partDir is the folder of a part: the given one, which stays, or a temporary one, which cleanup removes.
func partDir(dir, part string) (path string, cleanup func(), err error) {
	if dir != "" {
		path, err = filepath.Abs(dir)
		return path, func() {}, err
	}
	path, err = os.MkdirTemp("", "cassdelta-"+part+"-")
	return path, func() { os.RemoveAll(path) }, err
}

// stopContext limits a stop that begins when the main context is done already.
func stopContext() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), time.Minute)
}

type clusterCmd struct {
	Version    string        `help:"Cassandra version: ${enum}." enum:"4.0,4.1,5.0" default:"5.0"`
	Nodes      int           `help:"Number of nodes." default:"3"`
	Dir        string        `help:"Folder for everything that the nodes write; kept at the end. Default: a temporary one." placeholder:"DIR"`
	SyncPeriod time.Duration `help:"commitlog_sync_period: how often _cdc.idx follows." default:"1s"`
	Segment    int           `help:"Size of commit log segments in MiB." default:"1"`
}

func (c *clusterCmd) Run(ctx context.Context) error {
	dir, cleanup, err := partDir(c.Dir, "cluster")
	if err != nil {
		return err
	}
	defer cleanup()
	fmt.Printf("starting %d node(s) of Cassandra %s in %s\n", c.Nodes, c.Version, dir)
	cluster, err := testparts.StartCassandra(ctx, testparts.CassandraOptions{
		Version: c.Version, Nodes: c.Nodes, Dir: dir, CDC: true, SegmentSizeMiB: c.Segment, SyncPeriod: c.SyncPeriod,
	})
	if err != nil {
		return err
	}
	defer cluster.Close()
	for _, n := range cluster.Nodes {
		fmt.Printf("%s  CQL %s:%d  JMX 127.0.0.1:%d  log %s\n       cdc_raw %s\n", n.Name, n.Addr, n.CQLPort, n.JMXPort, n.LogPath, n.CDCRawDir())
	}
	fmt.Printf(`
ready. To play with it (cqlsh: pip install cqlsh):

  cqlsh %s
  CREATE KEYSPACE k WITH replication = {'class': 'SimpleStrategy', 'replication_factor': %d};
  CREATE TABLE k.t (id int PRIMARY KEY, v text) WITH cdc = true;

Ctrl-C stops the cluster.
`, cluster.Nodes[0].Addr, len(cluster.Nodes))
	<-ctx.Done()
	fmt.Println("stopping")
	stopCtx, cancel := stopContext()
	defer cancel()
	return cluster.Stop(stopCtx)
}

type kafkaCmd struct {
	Dir string `help:"Folder for everything that the broker writes; kept at the end. Default: a temporary one." placeholder:"DIR"`
}

func (c *kafkaCmd) Run(ctx context.Context) error {
	dir, cleanup, err := partDir(c.Dir, "kafka")
	if err != nil {
		return err
	}
	defer cleanup()
	fmt.Printf("starting Kafka in %s\n", dir)
	k, err := testparts.StartKafka(ctx, testparts.KafkaOptions{Dir: dir})
	if err != nil {
		return err
	}
	defer k.Close()
	fmt.Printf("ready: bootstrap server %s, log %s. Ctrl-C stops it.\n", k.Brokers[0], k.LogPath(0))
	<-ctx.Done()
	fmt.Println("stopping")
	stopCtx, cancel := stopContext()
	defer cancel()
	return k.Stop(stopCtx)
}

type registryCmd struct {
	Dir string `help:"Folder for everything that the registry writes; kept at the end. Default: a temporary one." placeholder:"DIR"`
}

func (c *registryCmd) Run(ctx context.Context) error {
	dir, cleanup, err := partDir(c.Dir, "registry")
	if err != nil {
		return err
	}
	defer cleanup()
	fmt.Printf("starting a schema registry in %s\n", dir)
	r, err := testparts.StartRegistry(ctx, testparts.RegistryOptions{Dir: dir})
	if err != nil {
		return err
	}
	defer r.Close()
	fmt.Printf("ready: %s, log %s. Ctrl-C stops it.\n", r.URL, r.LogPath)
	<-ctx.Done()
	fmt.Println("stopping")
	stopCtx, cancel := stopContext()
	defer cancel()
	return r.Stop(stopCtx)
}

type fetchCmd struct {
	Parts []string `arg:"" optional:"" help:"Parts to fetch. Default: all."`
}

func (c *fetchCmd) Run(ctx context.Context) error {
	if len(c.Parts) == 0 {
		names, err := testparts.PartNames()
		if err != nil {
			return err
		}
		c.Parts = names
	}
	for _, name := range c.Parts {
		dir, err := testparts.Fetch(ctx, name)
		if err != nil {
			return err
		}
		fmt.Printf("%-14s %s\n", name, dir)
	}
	return nil
}

type recordCmd struct {
	Names []string `arg:"" help:"Recordings to make: ${recordings}."`
	Out   string   `help:"Folder that gets a folder for each recording." default:"testdata/recordings"`
}

func (c *recordCmd) Run(ctx context.Context) error {
	for _, name := range c.Names {
		i := slices.IndexFunc(recorder.Recordings(), func(s recorder.Spec) bool { return s.Name == name })
		if i < 0 {
			return fmt.Errorf("recording %q is unknown: expected one of %s", name, recordingNames())
		}
		if err := recorder.Record(ctx, recorder.Recordings()[i], filepath.Join(c.Out, name), os.Stdout); err != nil {
			return err
		}
	}
	return nil
}

func recordingNames() string {
	var names []string
	for _, s := range recorder.Recordings() {
		names = append(names, s.Name)
	}
	return strings.Join(names, ", ")
}
