// Package differential holds cassdelta to Cassandra itself, on random writes to real nodes.
//
// [Run] compares two readers of commit logs: package commitlog, and Cassandra's own CommitLogReader. It starts a node,
// makes random tables and writes to them, stops the node, and has both readers print the same segments in the form of
// "cassdelta segment dump --json". Every line must be the same, byte for byte.
//
// [RunWorkloads] compares what agents and fold make of the logs of three nodes with what SELECT gives at ALL.
//
// While the node writes, its segments are read every 20 ms up to the last valid sync marker, each by one reader that goes on
// and now and then by another that begins anew. Nothing may be found that the finished segments do not have at that place.
//
// # Variants
//
// A [Variant] is a version of Cassandra and a form of the commit log's sections. Both readers read what the version
// itself has written; the program that drives Cassandra's reader (folder oracle) is compiled against the version's jars.
//
// # Writes
//
// Schema and writes of [Run] follow from a seed, but for the time of day. The tables have columns of every native type,
// collections frozen and not, nested types, user types, tuples and vectors (5.0), statics, keys of several columns in
// both orders, more than 64 columns, more than 32 clustering columns, counters, COMPACT STORAGE, names that need
// quotes, and materialized views. Columns are dropped and added again on the way. Values are put together as bytes, so
// that empty ones and unusual forms occur. Writes are inserts, updates and deletions of all kinds, with time stamps up
// to the extremes and with TTLs, single, conditional and in batches over several tables; now and then a value takes up
// most of what a segment allows.
package differential

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	gocql "github.com/apache/cassandra-gocql-driver/v2"

	"cassdelta/internal/testparts"
)

// Options say what [Run] does.
type Options struct {
	Variant Variant
	Seed    uint64
	// Mutations is the least number of mutations that are written.
	Mutations int
	// Dir gets everything that the run writes. It is removed if both readers agree.
	Dir string
}

// Result is what a run has found.
type Result struct {
	// Release is Cassandra's version, such as 5.0.6; LogVersion that of the commit log.
	Release    string
	LogVersion string
	Comparison
	// Watched is what was read while the node wrote.
	Watched Watched
	Took    time.Duration
}

// keyspace is that of all tables.
const keyspace = "Differential"

// Run compares the readers on one variant.
func Run(ctx context.Context, o Options) (Result, error) {
	start := time.Now()
	r, err := run(ctx, o)
	r.Took = time.Since(start)
	if err != nil {
		return r, fmt.Errorf("%s, seed %d: %w\nthe folder is kept: %s", o.Variant.Name(), o.Seed, err, o.Dir)
	}
	if r.Differences == 0 {
		err = os.RemoveAll(o.Dir)
	}
	return r, err
}

func run(ctx context.Context, o Options) (Result, error) {
	var r Result
	g := newGenerator(o.Variant, o.Seed)
	var k *keys
	if o.Variant.form.encrypted {
		var err error
		if k, err = makeKeys(ctx, g, filepath.Join(o.Dir, "keystore")); err != nil {
			return r, err
		}
	}
	cluster, err := testparts.StartCassandra(ctx, testparts.CassandraOptions{
		Version: o.Variant.version.cassandra, Dir: o.Dir, CDC: true, ExtraYAML: o.Variant.yamlSettings(g, k),
		// Long and short sections.
		SyncPeriod: pick(g, []time.Duration{100 * time.Millisecond, time.Second, 10 * time.Second}),
	})
	if err != nil {
		return r, err
	}
	defer cluster.Close()
	node := cluster.Nodes[0]
	s := segments{
		dir: node.CDCRawDir(), schema: filepath.Join(o.Dir, "schema.cql"), keyspace: keyspace,
		config: filepath.Join(node.Dir, "conf", "cassandra.yaml"),
	}
	if k != nil {
		if s.keys, err = k.open(); err != nil {
			return r, err
		}
	}
	w := newWatcher(s.dir, s.keys)
	watching, stopWatching := context.WithCancel(ctx)
	defer stopWatching()
	watched := make(chan error, 1)
	go func() { watched <- w.run(watching) }()
	r.Release, err = work(ctx, node, g, o.Mutations, s.schema)
	if err == nil {
		err = node.Stop(ctx)
	}
	stopWatching()
	if err = errors.Join(err, <-watched); err != nil {
		return r, err
	}
	if r.Watched, err = w.finish(); err != nil {
		return r, err
	}
	if r.Comparison, err = compareReaders(ctx, "cassandra-"+o.Variant.version.cassandra, s); err != nil {
		return r, err
	}
	if r.Mutations < o.Mutations*9/10 {
		return r, fmt.Errorf("%d mutations are in the log, expected %d: segments are missing", r.Mutations, o.Mutations)
	}
	files, err := filepath.Glob(filepath.Join(s.dir, "CommitLog-*.log"))
	if err != nil {
		return r, err
	}
	r.LogVersion = strings.Split(filepath.Base(files[0]), "-")[1]
	return r, nil
}

// work writes to the node, and then its schema to a file.
func work(ctx context.Context, node *testparts.Node, g *generator, mutations int, schemaFile string) (release string, err error) {
	s, err := node.Session()
	if err != nil {
		return "", err
	}
	defer s.Close()
	if err := s.Query("SELECT release_version FROM system.local").ScanContext(ctx, &release); err != nil {
		return "", err
	}
	clients := make([]*client, writers)
	prepared := &preparedIDs{byCQL: map[string]*preparedID{}}
	for i := range clients {
		if clients[i], err = dial(ctx, net.JoinHostPort(node.Addr, strconv.Itoa(node.CQLPort)), prepared); err != nil {
			return "", err
		}
		defer clients[i].close()
	}
	statements := g.makeSchema()
	for i := range phases {
		for _, cql := range statements {
			if err := exec(ctx, s, cql); err != nil {
				return "", err
			}
		}
		if err := phase(ctx, clients, g, mutations/phases+1); err != nil {
			return "", err
		}
		if i < phases-1 {
			statements = g.alter()
		}
	}
	return release, describe(ctx, s, keyspace, schemaFile)
}

func newGenerator(v Variant, seed uint64) *generator {
	h := fnv.New64a()
	h.Write([]byte(v.Name()))
	return &generator{
		rng:        rand.New(rand.NewPCG(seed, h.Sum64())),
		keyspace:   keyspace,
		vectors:    v.version.vectors,
		lastExpiry: v.version.lastExpiry,
		maxBlob:    420 << 10, // segments are of 1 MiB, mutations at most half of that
		now:        func() int64 { return time.Now().UnixMicro() },
	}
}

// describe writes the definitions of a keyspace, with ids and dropped columns.
func describe(ctx context.Context, s *gocql.Session, keyspace, file string) error {
	var b strings.Builder
	iter := s.Query(fmt.Sprintf("DESCRIBE KEYSPACE %s WITH INTERNALS", quote(keyspace))).IterContext(ctx)
	var ks, kind, name, statement string
	for iter.Scan(&ks, &kind, &name, &statement) {
		fmt.Fprintf(&b, "%s\n\n", strings.TrimSpace(statement))
	}
	if err := iter.Close(); err != nil {
		return fmt.Errorf("describe the keyspace: %w", err)
	}
	return os.WriteFile(file, []byte(b.String()), 0o644)
}
