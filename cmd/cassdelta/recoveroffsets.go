package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/zap"

	"cassdelta/dedup"
	"cassdelta/internal/config"
	"cassdelta/state/checkpoint"
)

type recoverOffsetsCmd struct {
	config.File

	Kafka            kafkaFlags `embed:"" prefix:"kafka-"`
	topicFlags       `embed:""`
	Group            string     `default:"cassdelta-dedup" placeholder:"NAME" help:"Consumer group whose positions are lost. Default: ${default}."`
	TopicPrefix      string     `default:"cassdelta" placeholder:"NAME" help:"Clean topics are PREFIX.KEYSPACE.TABLE. Default: ${default}."`
	Checkpoint       storeFlags `embed:"" prefix:"checkpoint-"`
	StateDirectories []string   `name:"state-directory" placeholder:"DIR" help:"State directories of the workers, which are stopped: they may know more than the topics."`
}

// Run recovers the positions and prints them.
func (c *recoverOffsetsCmd) Run(ctx context.Context, log *zap.Logger, stdout io.Writer) error {
	client, err := kgo.NewClient(c.Kafka.Opts()...)
	if err != nil {
		return fmt.Errorf("kafka client: %w", err)
	}
	defer client.Close()
	topic, err := dedup.LookUpRawTopic(ctx, client, c.Kafka.Opts(), c.RawTopic)
	if err != nil {
		return err
	}
	clean, err := cleanTopics(ctx, client, c.TopicPrefix)
	if err != nil {
		return err
	}
	store, err := c.Checkpoint.open(true)
	if err != nil {
		return err
	}
	var checkpoints *checkpoint.Repository
	if store != nil {
		checkpoints = checkpoint.NewRepository(store, checkpoint.Scope{Group: c.Group, Topic: topic.Name, TopicID: topic.ID, Partitions: topic.Partitions})
	}
	found, err := dedup.RecoverOffsets(ctx, dedup.RecoverConfig{
		ClientOpts: c.Kafka.Opts(), RawTopic: topic, Group: c.Group, CleanTopics: clean, DeadLetterTopic: c.DeadLetterTopic,
		StateDirectories: c.StateDirectories, Checkpoints: checkpoints, Log: log,
	})
	if err != nil {
		return err
	}
	for _, r := range found {
		fmt.Fprintf(stdout, "raw partition %d: position %v, from %s\n", r.Partition, r.Position, r.From)
	}
	fmt.Fprintf(stdout, "%d positions of group %s recovered, of %d\n", len(found), c.Group, topic.Partitions)
	return nil
}

// cleanTopics lists the topics that workers with this prefix write events to.
func cleanTopics(ctx context.Context, client *kgo.Client, prefix string) (clean []string, err error) {
	topics, err := kadm.NewClient(client).ListTopics(ctx)
	if err != nil {
		return nil, fmt.Errorf("list the topics: %w", err)
	}
	for _, name := range topics.Names() {
		if table, ok := strings.CutPrefix(name, prefix+"."); ok && strings.Count(table, ".") == 1 {
			clean = append(clean, name)
		}
	}
	return clean, nil
}
