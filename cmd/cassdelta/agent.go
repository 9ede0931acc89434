package main

import (
	"context"

	"go.uber.org/zap"

	"cassdelta/commitlog"
	"cassdelta/internal/agent"
	"cassdelta/internal/config"
	"cassdelta/internal/obs"
	"cassdelta/internal/segment"
)

// topicFlags name the topics that agents and dedup share.
type topicFlags struct {
	RawTopic        string `default:"cassdelta.raw" placeholder:"NAME" help:"Topic between agents and dedup; one for each cluster. Default: ${default}."`
	DeadLetterTopic string `default:"cassdelta.dead-letters" placeholder:"NAME" help:"Topic of what could not be decoded. Default: ${default}."`
	Replication     int16  `default:"-1" placeholder:"N" help:"Replicas of the topics that are created; -1 leaves it to the brokers."`
}

type agentCmd struct {
	config.File

	CDCRawDirectory string `name:"cdc-raw-directory" required:"" placeholder:"DIR" help:"cdc_raw_directory of the node's cassandra.yaml."`
	StateDirectory  string `required:"" placeholder:"DIR" help:"Where the agent remembers how far it has read; a directory of its own."`
	Mode            string `default:"durable" enum:"durable,live" help:"durable: read what the node has flushed to disk. live: read what it has written, at most 100 ms behind; a power failure can then leave events of writes that were lost. Default: ${default}."`

	Kafka         kafkaFlags `embed:"" prefix:"kafka-"`
	topicFlags    `embed:""`
	RawPartitions int32          `default:"32" placeholder:"N" help:"Partitions of the raw topic, if it is created: the greatest number of dedup workers, for good. Default: ${default}."`
	Cassandra     cassandraFlags `embed:"" prefix:"cassandra-"`
	// Encryption is transparent_data_encryption_options of the node.
	Encryption segment.KeystoreFlags `embed:"" prefix:"encryption-"`
	Metrics    obs.MetricsConfig     `embed:"" prefix:"metrics-"`
}

// Run publishes until ctx ends.
func (c *agentCmd) Run(ctx context.Context, log *zap.Logger) error {
	keys, err := c.Encryption.Keys()
	if err != nil {
		return err
	}
	source, err := c.Cassandra.source(log)
	if err != nil {
		return err
	}
	defer source.Close()
	node, err := awaitNode(ctx, &c.Cassandra, log)
	if err != nil {
		return err
	}
	mode := commitlog.Durable
	if c.Mode == "live" {
		mode = commitlog.Live
	}
	registry := obs.NewRegistry()
	a, err := agent.New(agent.Config{
		ClientOpts:      c.Kafka.Opts(),
		RawTopic:        c.RawTopic,
		RawPartitions:   c.RawPartitions,
		Replication:     c.Replication,
		DeadLetterTopic: c.DeadLetterTopic,
		CDCRawDirectory: c.CDCRawDirectory,
		StateDirectory:  c.StateDirectory,
		Mode:            mode,
		Keys:            keys,
		Source:          source,
		Host:            node.host,
		Cluster:         node.cluster,
		Log:             log,
		Registerer:      registry,
	})
	if err != nil {
		return err
	}
	stop, err := obs.Serve(c.Metrics, registry, nil, log)
	if err != nil {
		return err
	}
	defer stop()
	return a.Run(ctx)
}
