package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/zap"

	"cassdelta/internal/config"
	"cassdelta/internal/inspect"
	"cassdelta/internal/reemit"
	"cassdelta/internal/sink"
)

type stateEmitCmd struct {
	config.File
	repository      `embed:""`
	StateDirectory  string        `placeholder:"DIR" help:"The state directory of the only worker, which does not run."`
	Savepoint       string        `placeholder:"NAME" help:"Of the store of checkpoints, this savepoint. Empty: the newest checkpoint of each raw partition."`
	Kafka           kafkaFlags    `embed:"" prefix:"kafka-"`
	Registry        registryFlags `embed:"" prefix:"registry-"`
	TopicPrefix     string        `required:"" placeholder:"NAME" help:"The rows go to the topic PREFIX.KEYSPACE.TABLE. It must not be that of the workers."`
	CleanPartitions int32         `placeholder:"M" help:"Partitions of the topic if it is created; must divide those of the raw topic. Default: the greatest that does, up to 8."`
	Replication     int16         `default:"-1" placeholder:"COUNT" help:"Replicas of the topic if it is created. Default: as the brokers say."`
	Table           string        `arg:"" help:"KEYSPACE.TABLE."`
}

// Run writes the rows, and prints a line.
func (c *stateEmitCmd) Run(ctx context.Context, log *zap.Logger, stdout io.Writer) error {
	keyspace, table, ok := strings.Cut(c.Table, ".")
	if !ok {
		return fmt.Errorf("expected KEYSPACE.TABLE, found %q", c.Table)
	}
	source, partitions, err := c.source(ctx)
	if err != nil {
		return err
	}
	topic, err := sink.TopicName(c.TopicPrefix, keyspace, table)
	if err != nil {
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
	out, err := sink.New(sink.Config{
		Prefix: c.TopicPrefix, Client: client, Registry: registry, RawPartitions: partitions, Partitions: c.CleanPartitions,
		Replication: c.Replication, Log: log,
	})
	if err != nil {
		return err
	}
	result, err := reemit.Run(ctx, reemit.Config{
		Source: source, Table: c.Table, ClientOpts: c.Kafka.Opts(), Topic: topic, Emitter: out, Log: log,
	})
	if err != nil {
		return err
	}
	return printJSON(stdout, result)
}

// source is where the state is, and how many partitions the raw topic has.
func (c *stateEmitCmd) source(ctx context.Context) (inspect.Source, int32, error) {
	if (c.StateDirectory != "") == (c.Checkpoint.Store != "") {
		return nil, 0, errors.New("expected one of --state-directory, of the only worker, which does not run, and --checkpoint-store; of workers that run give the --checkpoint-store: " +
			"the state does not stay as it is in them while the rows are written")
	}
	if c.StateDirectory == "" {
		repo, err := c.required(ctx)
		if err != nil {
			return nil, 0, err
		}
		return inspect.Checkpoint{Repo: repo, Savepoint: c.Savepoint}, repo.Scope().Partitions, nil
	}
	source := inspect.Directory{Path: c.StateDirectory}
	all, err := source.Partitions(ctx)
	if err != nil {
		return nil, 0, err
	}
	r, closeReader, err := source.Open(ctx, all[0])
	if err != nil {
		return nil, 0, err
	}
	return source, r.Identity().Partitions, closeReader()
}
