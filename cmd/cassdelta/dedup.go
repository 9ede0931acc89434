package main

import (
	"context"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/zap"

	"cassdelta/dedup"
	"cassdelta/internal/config"
	"cassdelta/internal/obs"
	"cassdelta/internal/sink"
)

type dedupCmd struct {
	config.File

	StateDirectory string `required:"" placeholder:"DIR" help:"Where the copies of the rows are; a directory of its own, on a local disk."`

	Kafka           kafkaFlags `embed:"" prefix:"kafka-"`
	topicFlags      `embed:""`
	Group           string                              `default:"cassdelta-dedup" placeholder:"NAME" help:"Consumer group of all workers of a raw topic. Default: ${default}."`
	TopicPrefix     string                              `default:"cassdelta" placeholder:"NAME" help:"Clean topics are PREFIX.KEYSPACE.TABLE. Default: ${default}."`
	CleanPartitions int32                               `placeholder:"M" help:"Partitions of the clean topics that are created; must divide those of the raw topic. Default: the greatest that does, up to 8."`
	CommitInterval  time.Duration                       `default:"100ms" placeholder:"DURATION" help:"Time between transactions, hence the delay of events. Default: ${default}."`
	SilentAfter     time.Duration                       `default:"10m" placeholder:"DURATION" help:"An agent that is silent for so long no longer holds up what has a TTL. Default: ${default}."`
	Tables          config.PerTable[dedup.TableOptions] `placeholder:"TABLES" help:"Which events of single tables are emitted, as YAML: {KEYSPACE.TABLE: {emit: changes}, ...}. With emit: changes those are left out that change neither a value nor whether the row exists, with expiry: false those that the end of a TTL makes."`
	Registry        registryFlags                       `embed:"" prefix:"registry-"`
	Metrics         obs.MetricsConfig                   `embed:"" prefix:"metrics-"`
}

// tickInterval is the time between ticks: how exactly what has a TTL expires.
const tickInterval = 10 * time.Second

// Run folds until ctx ends.
func (c *dedupCmd) Run(ctx context.Context, log *zap.Logger) error {
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
		CommitInterval:        c.CommitInterval,
		TickInterval:          tickInterval,
		SilentAfter:           c.SilentAfter,
		Log:                   log,
		Registry:              metrics,
	})
	if err != nil {
		return err
	}
	stop, err := obs.Serve(c.Metrics, metrics, log)
	if err != nil {
		return err
	}
	defer stop()
	return w.Run(ctx)
}
