package differential

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"cassdelta/internal/agent"
	"cassdelta/internal/testparts"
	"cassdelta/schema"
	"cassdelta/schema/cqlsource"
)

// follow is an agent beside each node, and the raw topic that they write to: one partition, so that all is in one
// order.
type follow struct {
	dir     string
	cluster *testparts.Cassandra
	broker  *kfake.Cluster
	log     *zap.Logger
	failed  context.CancelCauseFunc
	agents  map[*testparts.Node]*following
}

// following is the agent of a node.
type following struct {
	stop context.CancelFunc
	done *errgroup.Group
}

const (
	workloadRawTopic    = "raw"
	workloadDeadLetters = "dead"
)

// startFollowing starts the agents. One that fails ends the run.
func startFollowing(ctx context.Context, cluster *testparts.Cassandra, dir string, failed context.CancelCauseFunc) (*follow, error) {
	config := zap.NewProductionConfig()
	config.OutputPaths = []string{filepath.Join(dir, "agents.log")}
	log, err := config.Build()
	if err != nil {
		return nil, err
	}
	f := &follow{dir: dir, cluster: cluster, log: log, failed: failed, agents: map[*testparts.Node]*following{}}
	if f.broker, err = kfake.NewCluster(kfake.NumBrokers(1), kfake.Ports(0), kfake.DataDir(filepath.Join(dir, "broker"))); err != nil {
		return nil, err
	}
	for _, n := range cluster.Nodes {
		if err := f.begin(ctx, n); err != nil {
			f.close()
			return nil, err
		}
	}
	return f, nil
}

func (f *follow) kafka() []kgo.Opt { return []kgo.Opt{kgo.SeedBrokers(f.broker.ListenAddrs()...)} }

// begin starts the agent of a node.
func (f *follow) begin(ctx context.Context, n *testparts.Node) error {
	id, err := n.HostID(ctx)
	if err != nil {
		return err
	}
	host, err := schema.ParseUUID(id)
	if err != nil {
		return err
	}
	points := []string{n.Addr}
	for _, other := range f.cluster.Nodes {
		if other.Addr != n.Addr {
			points = append(points, other.Addr)
		}
	}
	source, err := cqlsource.New(cqlsource.Config{ContactPoints: points}, f.log)
	if err != nil {
		return err
	}
	a, err := agent.New(agent.Config{
		ClientOpts: f.kafka(), RawTopic: workloadRawTopic, RawPartitions: 1, Replication: 1, DeadLetterTopic: workloadDeadLetters,
		CDCRawDirectory: n.CDCRawDir(), StateDirectory: filepath.Join(f.dir, "agent-"+n.Name), Source: source, Host: host, Cluster: "cassdelta",
		Log: f.log.With(zap.String("agent", n.Name)),
	})
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(context.WithoutCancel(ctx))
	fo := &following{stop: stop, done: &errgroup.Group{}}
	f.agents[n] = fo
	fo.done.Go(func() error {
		err := a.Run(ctx)
		if ctx.Err() == nil {
			err = fmt.Errorf("the agent of %s ended: %w", n.Name, err)
			f.failed(err)
			return err
		}
		return nil
	})
	return nil
}

// end waits until the agent has read all that a node has left, which does not write any more, and stops it.
func (f *follow) end(ctx context.Context, n *testparts.Node) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	for {
		left, err := filepath.Glob(filepath.Join(n.CDCRawDir(), "*_cdc.idx"))
		if err != nil {
			return err
		}
		if len(left) == 0 {
			break
		}
		if err := sleepUntil(ctx, time.Now().Add(100*time.Millisecond)); err != nil {
			return fmt.Errorf("the agent of %s has not read %v: %w", n.Name, left, err)
		}
	}
	fo := f.agents[n]
	delete(f.agents, n)
	fo.stop()
	return fo.done.Wait()
}

func (f *follow) close() {
	for _, fo := range f.agents {
		fo.stop()
		_ = fo.done.Wait() // it was reported
	}
	f.broker.Close()
	_ = f.log.Sync()
}
