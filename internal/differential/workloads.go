package differential

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	gocql "github.com/apache/cassandra-gocql-driver/v2"
	"golang.org/x/sync/errgroup"

	"cassdelta/internal/testparts"
	"cassdelta/schema"
)

// WorkloadOptions say what [RunWorkloads] does.
type WorkloadOptions struct {
	// Version is one of [VersionNames].
	Version string
	Seed    uint64
	// Workloads is their number, Statements the least number of statements of each.
	Workloads, Statements int
	// DDL says that more than columns changes: tables are truncated, dropped and created again, and not captured for a while, and
	// a user type gets fields.
	DDL bool
	// Dir gets everything that the run writes. It is removed if there are no differences.
	Dir string
	// Progress is told of the steps.
	Progress func(format string, args ...any)
}

// WorkloadResult is what a run has found.
type WorkloadResult struct {
	// Release is Cassandra's version, such as 5.0.6.
	Release               string
	Workloads, Statements int
	Agreement
	Took time.Duration
}

// RunWorkloads runs random workloads on a cluster of three nodes with three replicas, and holds what agents and fold make
// of the commit logs to what Cassandra answers at the end.
//
// Each workload has a random table or two, which few others have too, and in them few partitions of its own, with few rows
// and values, so that its writes meet. All of them run side by side, in phases: all nodes are there; one is down, and misses what others write,
// with hints and without; it comes back, with reads that repair; after a full repair and an orderly stop another node
// takes its place, and streams its data. In between tables are altered, and with DDL dropped and created again, and not captured
// for a while, and a user type gets fields; while all nodes are there, tables are truncated. At the end of it all, everything is
// repaired, and what has a short TTL has expired.
//
// Of the partitions that were written to while cdc was off, not all can be known. There, what differs must have been written,
// or may have been deleted, in that time. From when another node has taken the place of one, the totals of counters are not
// known, since the agent of the new node was not there when they were counted first: they are counted before that.
func RunWorkloads(ctx context.Context, o WorkloadOptions) (WorkloadResult, error) {
	start := time.Now()
	r := WorkloadResult{Workloads: o.Workloads}
	err := runWorkloads(ctx, o, &r)
	r.Took = time.Since(start)
	if err != nil {
		return r, fmt.Errorf("workloads on %s, seed %d: %w\nthe folder is kept: %s", o.Version, o.Seed, err, o.Dir)
	}
	if r.Differences == 0 {
		err = os.RemoveAll(o.Dir)
	}
	return r, err
}

// The parts of the statements that each phase has, in percent.
const (
	shareTogether = 30
	shareOff      = 5
	shareDown     = 30
	shareBack     = 20
	shareReplaced = 15
)

// shortTTL is the longest TTL in seconds that is over at the end; longTTL the shortest that is not.
const (
	shortTTL = 8
	longTTL  = 86400
)

// workloads is a run.
type workloads struct {
	WorkloadOptions
	version    version
	cluster    *testparts.Cassandra
	follow     *follow
	units      []*unit
	statements atomic.Int64
	// uncaptured is what was written while cdc was off.
	uncaptured uncaptured
	// truncating says that tables are truncated in this phase, counting that there are writes to counters.
	truncating, counting bool
	// lastShort is when the last short TTL is over.
	lastShort time.Time
}

func runWorkloads(ctx context.Context, o WorkloadOptions, r *WorkloadResult) error {
	chosen, err := choose("version", versions, []string{o.Version})
	if err != nil {
		return err
	}
	w := &workloads{WorkloadOptions: o, version: chosen[0]}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	yaml := Variant{version: w.version, form: forms[0]}.yamlSettings(w.generator(0), nil)
	yaml["auto_snapshot"] = false
	if w.cluster, err = testparts.StartCassandra(ctx, testparts.CassandraOptions{
		Version: w.version.cassandra, Nodes: 3, Dir: o.Dir, CDC: true, ExtraYAML: yaml, SegmentSizeMiB: 2, SyncPeriod: time.Second,
	}); err != nil {
		return err
	}
	defer w.cluster.Close()
	w.Progress("three nodes of %s are up", o.Version)
	if w.follow, err = startFollowing(ctx, w.cluster, o.Dir, cancel); err != nil {
		return err
	}
	defer w.follow.close()
	if r.Release, err = w.makeTables(ctx); err != nil {
		return err
	}
	if err := w.phases(ctx); err != nil {
		if cause := context.Cause(ctx); cause != nil && !errors.Is(err, cause) {
			err = errors.Join(cause, err)
		}
		return err
	}
	r.Statements = int(w.statements.Load())
	w.Progress("reading %d workloads at ALL", len(w.units))
	selected, err := w.selectAll(ctx)
	if err != nil {
		return err
	}
	if err := w.drain(ctx); err != nil {
		return err
	}
	w.Progress("folding")
	r.Agreement, err = w.follow.compare(ctx, selected)
	return err
}

// phases runs the workloads.
func (w *workloads) phases(ctx context.Context) error {
	down := w.cluster.Nodes[2]
	host, err := down.HostID(ctx)
	if err != nil {
		return err
	}
	// What node 2 coordinates leaves no hints.
	if _, err := w.cluster.Nodes[1].Nodetool(ctx, "disablehandoff"); err != nil {
		return err
	}
	w.truncating, w.counting = w.DDL, true
	if err := w.phase(ctx, "all nodes are up", shareTogether); err != nil {
		return err
	}
	if err := w.define(ctx, "altering tables"); err != nil {
		return err
	}
	w.truncating = false
	if err := w.switchOff(ctx); err != nil {
		return err
	}
	if err := down.Stop(ctx); err != nil {
		return err
	}
	if err := w.cluster.AwaitDown(ctx, down); err != nil {
		return err
	}
	if err := w.phase(ctx, "one node is down", shareDown); err != nil {
		return err
	}
	if w.DDL {
		if err := w.define(ctx, "altering, dropping and creating tables while it is down"); err != nil {
			return err
		}
	}
	if err := down.Start(ctx); err != nil {
		return err
	}
	if err := w.cluster.AwaitUp(ctx); err != nil {
		return err
	}
	if err := w.awaitSchema(ctx); err != nil {
		return err
	}
	w.truncating = w.DDL
	if err := w.phase(ctx, "it is back", shareBack); err != nil {
		return err
	}
	if err := w.cluster.AwaitHintsDelivered(ctx, host); err != nil {
		return err
	}
	w.Progress("repair")
	if err := w.cluster.Nodes[0].Repair(ctx, workloadKeyspace); err != nil {
		return err
	}
	w.truncating, w.counting = false, false
	if err := w.replace(ctx, 2); err != nil {
		return err
	}
	if err := w.phase(ctx, "it was replaced", shareReplaced); err != nil {
		return err
	}
	return w.converge(ctx)
}

// replace puts another node in the place of one.
func (w *workloads) replace(ctx context.Context, i int) error {
	w.Progress("another node takes the place of node %d", i+1)
	old := w.cluster.Nodes[i]
	if err := old.Stop(ctx); err != nil {
		return err
	}
	if err := w.cluster.AwaitDown(ctx, old); err != nil {
		return err
	}
	if err := w.follow.end(ctx, old); err != nil {
		return err
	}
	if err := w.cluster.Replace(ctx, i); err != nil {
		return err
	}
	if err := w.cluster.AwaitUp(ctx); err != nil {
		return err
	}
	if err := w.awaitSchema(ctx); err != nil {
		return err
	}
	return w.follow.begin(ctx, w.cluster.Nodes[i])
}

// converge makes all replicas equal, and waits until what expires soon has.
func (w *workloads) converge(ctx context.Context) error {
	for _, n := range w.cluster.Nodes {
		host, err := n.HostID(ctx)
		if err != nil {
			return err
		}
		if err := w.cluster.AwaitHintsDelivered(ctx, host); err != nil {
			return err
		}
		s, err := n.Session()
		if err != nil {
			return err
		}
		err = awaitNoBatches(ctx, s)
		s.Close()
		if err != nil {
			return err
		}
	}
	w.Progress("repair")
	if err := w.cluster.Nodes[0].Repair(ctx, workloadKeyspace); err != nil {
		return err
	}
	return sleepUntil(ctx, w.lastShort)
}

// awaitNoBatches waits until all logged batches are done.
func awaitNoBatches(ctx context.Context, s *gocql.Session) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	for {
		var n int
		if err := s.Query("SELECT count(*) FROM system.batches").ScanContext(ctx, &n); err != nil || n == 0 {
			return err
		}
		if err := sleepUntil(ctx, time.Now().Add(200*time.Millisecond)); err != nil {
			return err
		}
	}
}

func sleepUntil(ctx context.Context, t time.Time) error {
	timer := time.NewTimer(time.Until(t))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// drain ends the writing of all nodes, and waits until the agents have read all.
func (w *workloads) drain(ctx context.Context) error {
	var g errgroup.Group
	for _, n := range w.cluster.Nodes {
		g.Go(func() error { return n.Drain(ctx) })
	}
	if err := g.Wait(); err != nil {
		return err
	}
	for _, n := range w.cluster.Nodes {
		if err := w.follow.end(ctx, n); err != nil {
			return err
		}
	}
	return nil
}

// workers is the number of workloads that run at one time.
const workers = 8

// phase runs a part of each workload on the nodes that are up.
func (w *workloads) phase(ctx context.Context, name string, share int) error {
	w.Progress("%s", name)
	base := time.Now().UnixMicro()
	units := make(chan *unit, len(w.units))
	for _, u := range w.units {
		u.g.base = base
		u.truncating, u.counting = w.truncating, w.counting
		units <- u
	}
	close(units)
	prepared := map[string]*preparedIDs{}
	for _, n := range w.cluster.Nodes {
		prepared[n.Addr] = &preparedIDs{byCQL: map[string]*preparedID{}}
	}
	g, ctx := errgroup.WithContext(ctx)
	for range workers {
		g.Go(func() error {
			var clients []*client
			defer func() {
				for _, c := range clients {
					c.close()
				}
			}()
			for _, n := range w.cluster.Nodes {
				if !n.Running() {
					continue
				}
				c, err := dial(ctx, net.JoinHostPort(n.Addr, strconv.Itoa(n.CQLPort)), prepared[n.Addr])
				if err != nil {
					return err
				}
				clients = append(clients, c)
			}
			for u := range units {
				if err := u.run(ctx, clients, (w.Statements*share+99)/100, &w.statements); err != nil {
					return fmt.Errorf("workload %d: %w", u.number, err)
				}
			}
			return nil
		})
	}
	err := g.Wait()
	w.lastShort = time.Now().Add((shortTTL + 2) * time.Second)
	return err
}

// makeTables makes the tables of all workloads, and returns Cassandra's version.
func (w *workloads) makeTables(ctx context.Context) (release string, err error) {
	s, err := w.cluster.Nodes[0].Session()
	if err != nil {
		return "", err
	}
	defer s.Close()
	if err := s.Query("SELECT release_version FROM system.local").ScanContext(ctx, &release); err != nil {
		return "", err
	}
	types := w.generator(0)
	types.makeUserTypes()
	types.makeGrowing()
	statements := []string{fmt.Sprintf(
		"CREATE KEYSPACE %s WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 3}", quote(workloadKeyspace))}
	for _, t := range append(slices.Clone(types.udts), types.grows) {
		statements = append(statements, createType(t))
	}
	for i := range w.Workloads {
		u := &unit{number: i, g: w.generator(i + 1)}
		u.g.udts, u.g.grows = types.udts, types.grows
		if of := i % sharing; of > 0 {
			u.share(w.units[i-of])
		} else {
			u.makeTables()
			for _, t := range u.tables {
				statements = append(statements, u.g.createTable(t))
			}
		}
		w.units = append(w.units, u)
	}
	for i, cql := range statements {
		if err := exec(ctx, s, cql); err != nil {
			return "", err
		}
		if i%50 == 49 {
			w.Progress("%d of %d definitions", i+1, len(statements))
		}
	}
	return release, nil
}

// workloadKeyspace is that of the tables of workloads.
const workloadKeyspace = "Workloads"

// generator makes the generator with a number.
func (w *workloads) generator(number int) *generator {
	h := fnv.New64a()
	fmt.Fprint(h, "workload ", w.version.name, " ", number)
	return &generator{
		rng: rand.New(rand.NewPCG(w.Seed, h.Sum64())), keyspace: workloadKeyspace, vectors: w.version.vectors, lastExpiry: w.version.lastExpiry,
		now: func() int64 { return time.Now().UnixMicro() }, few: 3,
	}
}

// unit is one workload.
type unit struct {
	number int
	g      *generator
	group  *group
	tables []*table
	// keys are the partitions that are written to now.
	keys [][][]byte
	// switches says that the first table is not captured for a while.
	switches             bool
	truncating, counting bool
}

// sharing is how many workloads have the same tables: to make one takes about as long as hundreds of statements.
const sharing = 5

// makeTables draws the tables.
func (u *unit) makeTables() {
	g := u.g
	u.group = &group{partition: g.columns(map[string]bool{}, 1+g.rng.IntN(2), "p", inKey)}
	for i := range 1 + g.rng.IntN(2) {
		used := u.group.used()
		t := &table{name: fmt.Sprintf("w%d_%d", u.number, i), group: u.group, templates: map[writeKind][]*template{}}
		t.clustering = g.columns(used, g.rng.IntN(4), "c", inKey)
		if len(t.clustering) > 0 {
			t.statics = g.columns(used, g.rng.IntN(3), "s", inColumn)
		}
		t.regulars = g.columns(used, 1+g.rng.IntN(4), "r", inColumn)
		t.conditional = g.chance(0.3)
		t.alters = g.chance(0.3)
		t.options = pick(g, []string{"", "", "", fmt.Sprintf("default_time_to_live = %d", longTTL)})
		if i == 1 && g.chance(0.1) {
			t.options = "cdc = false"
		}
		for _, c := range t.clustering {
			t.desc = append(t.desc, g.chance(0.5))
			var values [][]byte
			for range 3 {
				values = append(values, g.value(c.typ))
			}
			t.values = append(t.values, values)
		}
		u.tables = append(u.tables, t)
	}
	if g.chance(0.4) {
		u.tables = append(u.tables, u.counters())
	}
	u.switches = g.chance(0.3)
	u.makeKeys()
}

// counters draws a table of counters.
func (u *unit) counters() *table {
	g := u.g
	counter := &schema.Type{Kind: schema.KindCounter}
	t := &table{name: fmt.Sprintf("w%d_counters", u.number), group: u.group, counter: true, templates: map[writeKind][]*template{}}
	t.regulars = []column{{"n", counter}, {"m", counter}}
	if g.chance(0.7) {
		c := column{"c", g.native(inKey)}
		t.clustering, t.desc = []column{c}, []bool{g.chance(0.5)}
		t.values = [][][]byte{{g.value(c.typ), g.value(c.typ), g.value(c.typ)}}
		t.statics = []column{{"s", counter}}
	}
	return t
}

// share gives the workload the tables of another, as they are now.
func (u *unit) share(other *unit) {
	if u.group == nil {
		u.group = &group{partition: other.group.partition}
		u.makeKeys()
	}
	u.tables, u.switches = nil, other.switches
	for _, t := range other.tables {
		same := *t
		same.group, same.templates = u.group, map[writeKind][]*template{}
		same.regulars, same.statics = slices.Clone(t.regulars), slices.Clone(t.statics)
		u.tables = append(u.tables, &same)
	}
}

// makeKeys draws the partitions.
func (u *unit) makeKeys() {
	for len(u.group.keys) < 3 {
		var key [][]byte
		for _, c := range u.group.partition {
			v := u.g.fresh(c.typ)
			for len(v) == 0 { // a key of one column must not be empty
				v = u.g.fresh(c.typ)
			}
			key = append(key, v)
		}
		u.group.keys = append(u.group.keys, key)
	}
	u.keys = u.group.keys
}

// run runs statements of the workload, one after the other, each by any of the nodes.
func (u *unit) run(ctx context.Context, clients []*client, statements int, count *atomic.Int64) error {
	for done := 0; done < statements; {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		wr := u.next()
		if len(wr.statements) == 0 {
			continue
		}
		if err := pick(u.g, clients).run(&wr); err != nil {
			return err
		}
		done += len(wr.statements)
		count.Add(int64(len(wr.statements)))
	}
	return nil
}

// next draws a write, or a read that may repair.
func (u *unit) next() write {
	g := u.g
	t, key := pick(g, u.tables), pick(g, u.keys)
	if t.counter && !u.counting {
		t = u.tables[0]
	}
	plain := slices.DeleteFunc(slices.Clone(u.tables), func(t *table) bool { return t.counter })
	w := write{batch: unloggedBatch, consistency: pick(g, []uint16{consistencyOne, consistencyOne, consistencyQuorum})}
	switch {
	case u.truncating && g.chance(0.002):
		return write{statements: []statement{{cql: "TRUNCATE " + t.cql(g)}}}
	case t.counter:
		w.batch, w.consistency = counterBatch, consistencyOne
		for range pick(g, []int{1, 1, 1, 3}) {
			w.statements = append(w.statements, g.statement(t, key, false))
		}
	case g.chance(0.08):
		w.read, w.consistency = true, pick(g, []uint16{consistencyQuorum, consistencyQuorum, consistencyTwo})
		b := &builder{g: g, t: t}
		b.add("SELECT * FROM %s", t.cql(g))
		if g.chance(0.7) {
			b.where(0)
		}
		s := statement{cql: b.b.String()}
		for _, bind := range b.binds {
			s.values = append(s.values, bind(key))
		}
		w.statements = []statement{s}
	case t.conditional && g.chance(0.05):
		w.statements = []statement{g.statement(t, key, true)}
	case g.chance(0.2): // one mutation, or with several partitions
		if g.chance(0.3) {
			w.batch = loggedBatch
		}
		for range 2 + g.rng.IntN(4) {
			if w.batch == loggedBatch {
				key = pick(g, u.keys)
			}
			w.statements = append(w.statements, g.statement(pick(g, plain), key, false))
		}
	default:
		w.statements = []statement{g.statement(t, key, false)}
	}
	return w
}

// alter drops a column, adds what was dropped before again, and adds a new one.
func (u *unit) alter() []string {
	var statements []string
	for _, t := range u.tables {
		if !t.alters {
			continue
		}
		t.templates = map[writeKind][]*template{}
		if len(t.regulars) > 1 {
			i := u.g.rng.IntN(len(t.regulars))
			if c := t.regulars[i]; !hasUDT(c.typ) {
				t.regulars = slices.Delete(t.regulars, i, i+1)
				statements = append(statements, fmt.Sprintf("ALTER TABLE %s DROP %s", t.cql(u.g), quote(c.name)))
				if u.g.chance(0.5) {
					statements = append(statements, u.g.addColumn(t, droppedColumn{column: c}))
				}
			}
		}
		t.added++
		added := droppedColumn{column{fmt.Sprintf("added %d", t.added), u.g.columnType(inColumn)}, len(t.clustering) > 0 && u.g.chance(0.3)}
		statements = append(statements, u.g.addColumn(t, added))
	}
	return statements
}
