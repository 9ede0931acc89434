package main

import (
	"context"
	"fmt"
	"math"
	"runtime"
	"runtime/debug"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/zap"

	"cassdelta/dedup"
	"cassdelta/internal/config"
	"cassdelta/internal/inspect"
	"cassdelta/internal/obs"
	"cassdelta/internal/sink"
	"cassdelta/state"
)

type dedupCmd struct {
	config.File

	StateDirectory string `required:"" placeholder:"DIR" help:"Where the copies of the rows are; a directory of its own, on a local disk."`

	Kafka              kafkaFlags `embed:"" prefix:"kafka-"`
	topicFlags         `embed:""`
	Group              string                              `default:"cassdelta-dedup" placeholder:"NAME" help:"Consumer group of all workers of a raw topic. Default: ${default}."`
	TopicPrefix        string                              `default:"cassdelta" placeholder:"NAME" help:"Clean topics are PREFIX.KEYSPACE.TABLE. Default: ${default}."`
	CleanPartitions    int32                               `placeholder:"M" help:"Partitions of the clean topics that are created; must divide those of the raw topic. Default: the greatest that does, up to 8."`
	Memory             config.Bytes                        `default:"1GiB" placeholder:"SIZE" help:"Memory that the process takes: caches, what is not on disk yet, buffers. Default: ${default}."`
	Cores              int32                               `placeholder:"N" help:"Processors that are used at a time. Default: all, or GOMAXPROCS."`
	CommitInterval     time.Duration                       `default:"100ms" placeholder:"DURATION" help:"Time between transactions, hence the delay of events. Default: ${default}."`
	SilentAfter        time.Duration                       `default:"10m" placeholder:"DURATION" help:"An agent that is silent for so long no longer holds up what has a TTL. Default: ${default}."`
	TombstoneRetention time.Duration                       `default:"720h" placeholder:"DURATION" help:"What is deleted is remembered for so long, to hold off what comes late, or for gc_grace_seconds of the table if that is longer. Default: ${default}."`
	Checkpoint         checkpointFlags                     `embed:"" prefix:"checkpoint-"`
	Standby            bool                                `help:"Keep local copies of the newest checkpoints of all raw partitions that other workers fold, to take one over without fetching its state. Needs checkpoint-store, and disk space for the state of all partitions."`
	WithoutState       bool                                `help:"Let a group without offsets begin where the raw topic begins now, though there are events of it, which are then written again, or though its first records have expired: rows whose past was in them are reported as not complete."`
	Tables             config.PerTable[dedup.TableOptions] `placeholder:"TABLES" help:"Which events of single tables are emitted, as YAML: {KEYSPACE.TABLE: {emit: changes}, ...}. With emit: changes those are left out that change neither a value nor whether the row exists, with expiry: false those that the end of a TTL makes."`
	Registry           registryFlags                       `embed:"" prefix:"registry-"`
	Metrics            obs.MetricsConfig                   `embed:"" prefix:"metrics-"`
	MetricsState       bool                                `help:"Answer cassdelta state --workers of other machines too. There is no login: who reaches metrics-listen can then read all rows."`
}

// tickInterval is the time between ticks: how exactly what has a TTL expires.
const tickInterval = 10 * time.Second

// leastMemory is the least in which a worker can work: with less there is no room for the Bloom filters of its tables.
const leastMemory = 256 << 20

// Run folds until ctx ends.
func (c *dedupCmd) Run(ctx context.Context, log *zap.Logger) error {
	if c.Memory < leastMemory {
		return fmt.Errorf("memory: expected at least %d MiB, found %d bytes", leastMemory>>20, c.Memory)
	}
	if c.Cores < 0 {
		return fmt.Errorf("cores: expected at least 1, found %d", c.Cores)
	}
	checkpoints, err := c.Checkpoint.config()
	if err != nil {
		return err
	}
	checkpoints.Standby = c.Standby
	if err := checkpoints.Check(); err != nil {
		return err
	}
	registry, err := c.Registry.client(ctx)
	if err != nil {
		return err
	}
	client, err := kgo.NewClient(append(c.Kafka.Opts(), kgo.RecordPartitioner(kgo.ManualPartitioner()))...)
	if err != nil {
		return fmt.Errorf("kafka client: %w", err)
	}
	defer client.Close()
	topic, err := dedup.FindRawTopic(ctx, c.Kafka.Opts(), c.RawTopic, log)
	if err != nil {
		return err
	}
	out, err := sink.New(sink.Config{
		Prefix:        c.TopicPrefix,
		Client:        client,
		Registry:      registry,
		RawPartitions: topic.Partitions,
		Partitions:    c.CleanPartitions,
		Replication:   c.Replication,
		Log:           log,
	})
	if err != nil {
		return err
	}
	if c.Cores > 0 {
		runtime.GOMAXPROCS(int(c.Cores))
	}
	if debug.SetMemoryLimit(-1) == math.MaxInt64 { // GOMEMLIMIT is not set
		debug.SetMemoryLimit(dedup.HeapLimit(int64(c.Memory)))
	}
	state.AdviseHeap(int(dedup.HeapLimit(int64(c.Memory))))
	metrics := obs.NewRegistry()
	w, err := dedup.NewWorker(dedup.WorkerConfig{
		ClientOpts:            c.Kafka.Opts(),
		RawTopic:              topic.Name,
		Group:                 c.Group,
		DeadLetterTopic:       c.DeadLetterTopic,
		DeadLetterReplication: c.Replication,
		StateDirectory:        c.StateDirectory,
		Emitter:               out,
		Tables:                c.Tables.ByName,
		MemoryBytes:           int64(c.Memory),
		Checkpoints:           checkpoints,
		CleanTopics:           func(ctx context.Context) ([]string, error) { return cleanTopics(ctx, client, c.TopicPrefix) },
		WithoutState:          c.WithoutState,
		CommitInterval:        c.CommitInterval,
		TickInterval:          tickInterval,
		SilentAfter:           c.SilentAfter,
		Retention:             c.TombstoneRetention,
		Log:                   log,
		Registry:              metrics,
	})
	if err != nil {
		return err
	}
	stop, err := obs.Serve(c.Metrics, metrics, w.Ready, log, obs.Page{Path: inspect.Path, Handler: inspect.Handler(w, c.MetricsState)})
	if err != nil {
		return err
	}
	defer stop()
	return w.Run(ctx)
}
