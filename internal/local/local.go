// Package local runs the whole in one process: an agent for each directory of segments, an embedded broker, one dedup
// worker, and a reader of the clean topics. It is what cassdelta demo and cassdelta dev are made of; each part is the
// one that runs for real, with settings for a small machine.
package local

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"cassdelta/commitlog"
	"cassdelta/dedup"
	"cassdelta/internal/agent"
	"cassdelta/internal/sink"
	"cassdelta/schema"
)

// The topics, which nobody outside this process sees, and their sizes.
const (
	rawTopic        = "cassdelta.raw"
	rawPartitions   = 4
	deadLetterTopic = "cassdelta.dead-letters"
	group           = "cassdelta-dedup"
)

// commitInterval is the time between transactions: short, so that events are seen as they come.
const commitInterval = 50 * time.Millisecond

// tickInterval is the time between the ticks that let what has a TTL expire, while nodes write.
const tickInterval = 5 * time.Second

// stopGrace is how long dedup may go on with what the agents wrote when the run is stopped.
const stopGrace = 5 * time.Second

// stateMemory is what the worker may use for its state, in bytes.
const stateMemory = 64 << 20

// Node is a directory of segments.
type Node struct {
	// Host is the node's host id.
	Host      schema.UUID
	Directory string
}

// Config says what is run.
type Config struct {
	Nodes []Node
	// Copy says that no node writes to the directories any more. Nothing in them expires then.
	Copy bool
	// Cluster is Cassandra's cluster name.
	Cluster string
	// Prefix begins the names of the clean topics.
	Prefix string
	// Source gives the tables. Static says that it always gives the same.
	Source agent.Source
	Static bool
	Mode   commitlog.Mode
	// UntilEnd ends the run when the directories hold nothing more.
	UntilEnd bool
	// Print is called with each event of the clean topics as it comes, by one goroutine.
	Print func(*sink.Change) error
	Log   *zap.Logger
}

// Summary counts what went through.
type Summary struct {
	// Nodes has the number of updates that each node's agent wrote to the raw topic, in the order of Config.Nodes.
	Nodes []int64
	// Folded counts those that dedup folded by what they did: changed, silent, shadowed, copy, unsupported. Refused are
	// those that it put aside as dead letters. Changes counts the changes of rows that were made. All are the worker's own
	// metrics.
	Folded           map[string]int64
	Refused, Changes int64
	// Events counts what a reader of the clean topics got, by op.
	Events map[string]int64
	// Unsupported counts the updates that the agents left out because of their tables, and Undecoded the mutations and the
	// rests of segments that they could not read.
	Unsupported, Undecoded int64
	// Stopped says that ctx ended the run, maybe before dedup had folded all raw records.
	Stopped bool
}

// Unfolded is the number of raw records that dedup had not come to: 0 unless the run was stopped.
func (s *Summary) Unfolded() int64 {
	n := -s.Refused
	for _, published := range s.Nodes {
		n += published
	}
	for _, folded := range s.Folded {
		n -= folded
	}
	return n
}

// Run runs until ctx ends, or with UntilEnd until everything is printed. Its temporary folder is removed at the end;
// the directories of the nodes are only read.
func Run(ctx context.Context, c Config) (Summary, error) {
	dir, err := os.MkdirTemp("", "cassdelta-")
	if err != nil {
		return Summary{}, err
	}
	summary, err := run(ctx, c, dir)
	return summary, errors.Join(err, os.RemoveAll(dir))
}

func run(ctx context.Context, c Config, dir string) (Summary, error) {
	b, err := startBroker(filepath.Join(dir, "broker"))
	if err != nil {
		return Summary{}, err
	}
	defer b.close()
	client, err := kgo.NewClient(append(b.options(), kgo.RecordPartitioner(kgo.ManualPartitioner()))...)
	if err != nil {
		return Summary{}, fmt.Errorf("kafka client: %w", err)
	}
	defer client.Close()
	p := &pipeline{Config: c, dir: dir, broker: b, client: client, adm: kadm.NewClient(client), published: make([]atomic.Int64, len(c.Nodes)),
		metrics: counters{prometheus.NewRegistry()}}
	for range c.Nodes {
		p.agentMetrics = append(p.agentMetrics, counters{prometheus.NewRegistry()})
	}
	if err := p.run(ctx); err != nil {
		return Summary{}, err
	}
	return p.summary(ctx.Err() != nil)
}

// pipeline is a run.
type pipeline struct {
	Config
	dir          string
	broker       *broker
	client       *kgo.Client
	adm          *kadm.Client
	published    []atomic.Int64
	agentMetrics []counters // by node
	metrics      counters   // of dedup
	events       map[string]int64
}

// run starts every part, and stops them one after the other along the flow: the agents when they have read all, or when
// ctx ends; dedup when it has folded what they wrote; the reader when it has printed what that made. The failure of one
// stops all.
func (p *pipeline) run(ctx context.Context) error {
	reader, err := newReader(p.broker.options(), p.Prefix)
	if err != nil {
		return err
	}
	defer reader.close()
	p.events = reader.counts

	all, failed := errgroup.WithContext(context.WithoutCancel(ctx))
	folding, stopFolding := context.WithCancel(failed)
	defer stopFolding()
	agentsEnded := make(chan struct{})
	all.Go(func() error {
		defer close(agentsEnded)
		return p.agents(ctx, failed)
	})
	all.Go(func() error { return p.dedup(folding) })
	all.Go(func() error { return trim(folding, p.adm) })
	all.Go(func() error { return reader.run(failed, p.Print) })
	all.Go(func() error {
		select {
		case <-failed.Done():
			return nil
		case <-agentsEnded:
		}
		if err := p.awaitFolded(ctx, failed); err != nil {
			return err
		}
		stopFolding()
		return reader.stopAtEnd(failed, p.adm)
	})
	return all.Wait()
}

// dedup runs the worker until ctx ends.
func (p *pipeline) dedup(ctx context.Context) error {
	topic, err := dedup.FindRawTopic(ctx, p.broker.options(), rawTopic, p.Log)
	if ctx.Err() != nil {
		return nil
	}
	if err != nil {
		return err
	}
	// The topic is trimmed as it is folded, and has no other end.
	if _, err := p.adm.AlterTopicConfigs(ctx, []kadm.AlterConfig{{Name: "retention.ms", Value: kadm.StringPtr("-1")}}, rawTopic); ctx.Err() != nil {
		return nil
	} else if err != nil {
		return fmt.Errorf("set the retention of topic %s: %w", rawTopic, err)
	}
	out, err := sink.New(sink.Config{
		Prefix: p.Prefix, Client: p.client, RawPartitions: topic.Partitions, Replication: 1, Log: p.Log,
	})
	if err != nil {
		return err
	}
	ticks := tickInterval
	if p.Copy {
		ticks = 0 // nobody knows what time it was
	}
	w, err := dedup.NewWorker(dedup.WorkerConfig{
		ClientOpts: p.broker.options(), RawTopic: rawTopic, Group: group, DeadLetterTopic: deadLetterTopic,
		StateDirectory: filepath.Join(p.dir, "state"), MemoryBytes: stateMemory, Emitter: out, CommitInterval: commitInterval,
		TickInterval: ticks, Log: p.Log, Registry: p.metrics,
	})
	if err != nil {
		return err
	}
	return w.Run(ctx)
}

// agents runs one for each node until they have read all, stop ends or another part fails.
func (p *pipeline) agents(stop, failed context.Context) error {
	ctx, cancel := context.WithCancel(failed)
	defer cancel()
	defer context.AfterFunc(stop, cancel)()
	g, ctx := errgroup.WithContext(ctx)
	for i, n := range p.Nodes {
		a, err := agent.New(agent.Config{
			ClientOpts: p.broker.options(), RawTopic: rawTopic, RawPartitions: rawPartitions, Replication: 1,
			DeadLetterTopic: deadLetterTopic, CDCRawDirectory: n.Directory, Copy: p.Copy, Mode: p.Mode,
			StateDirectory: filepath.Join(p.dir, fmt.Sprintf("agent-%d", i)),
			Source:         p.Source, Static: p.Static, Host: n.Host, Cluster: p.Cluster,
			KeepSegments: true, UntilEnd: p.UntilEnd,
			Observe: func(n int) { p.published[i].Add(int64(n)) },
			Log:     p.Log, Registerer: p.agentMetrics[i],
		})
		if err != nil {
			return err
		}
		g.Go(func() error { return a.Run(ctx) })
	}
	return g.Wait()
}

// awaitFolded returns when dedup has folded what the agents wrote, or does not come to its end in time after ctx ended.
func (p *pipeline) awaitFolded(ctx, failed context.Context) error {
	bounded, cancel := context.WithCancel(failed)
	defer cancel()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(stopGrace, cancel) })()
	err := awaitFolded(bounded, p.adm)
	if bounded.Err() != nil && failed.Err() == nil {
		return nil
	}
	return err
}

// summary counts, after the run.
func (p *pipeline) summary(stopped bool) (Summary, error) {
	s := Summary{Events: p.events, Folded: map[string]int64{}, Stopped: stopped}
	var errs []error
	for i, metrics := range p.agentMetrics {
		s.Nodes = append(s.Nodes, p.published[i].Load())
		errs = append(errs,
			metrics.each("cassdelta_agent_updates_unsupported_total", func(_ map[string]string, n int64) { s.Unsupported += n }),
			metrics.each("cassdelta_agent_dead_letters_total", func(_ map[string]string, n int64) { s.Undecoded += n }))
	}
	errs = append(errs,
		p.metrics.each("cassdelta_dedup_data_records_total", func(labels map[string]string, n int64) { s.Folded[labels["result"]] += n }),
		p.metrics.each("cassdelta_dedup_dead_letters_total", func(_ map[string]string, n int64) { s.Refused += n }),
		p.metrics.each("cassdelta_dedup_events_total", func(_ map[string]string, n int64) { s.Changes += n }))
	return s, errors.Join(errs...)
}
