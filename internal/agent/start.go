package agent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/zap"

	"cassdelta/internal/rawtopic"
)

// checkDirectory says what to do if the cdc_raw directory is not there: a node makes it when it starts with CDC on.
func checkDirectory(dir string) error {
	_, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("the cdc_raw directory %s does not exist: set cdc_enabled: true in the node's cassandra.yaml and restart it, "+
			"or correct cdc-raw-directory to the cdc_raw_directory that is set there", dir)
	}
	if err != nil {
		return fmt.Errorf("cdc-raw-directory: %w; set it to cdc_raw_directory of the node's cassandra.yaml, and let this user read it", err)
	}
	return nil
}

// retry calls f until it gives no error, for at most the time within.
func retry(ctx context.Context, within time.Duration, f func(context.Context) error) error {
	deadline := time.Now().Add(within)
	ctx, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	var last error
	for {
		err := f(ctx)
		if err == nil {
			return nil
		}
		if last == nil || time.Now().Before(deadline) {
			last = err // and not that the time is over, which would hide why it was waited for
		}
		select {
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.Canceled) {
				return ctx.Err()
			}
			return last
		case <-time.After(min(within/10, 500*time.Millisecond)):
		}
	}
}

// readTables reads the schema for the first time.
func (a *Agent) readTables(ctx context.Context, h *history) (*tables, error) {
	t := newTables(a.c.Source, a.c.Static, a.c.Host, h, a.bounds.schema, a.metrics, a.log)
	err := retry(ctx, a.bounds.start, func(ctx context.Context) error {
		_, err := t.refresh(ctx)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read the schema: %w", err)
	}
	t.check()
	return t, nil
}

// openKafka connects, and sets the topics up or checks that they are what they should be.
func (a *Agent) openKafka(ctx context.Context) (*kgo.Client, error) {
	client, err := kgo.NewClient(append(a.c.ClientOpts[:len(a.c.ClientOpts):len(a.c.ClientOpts)],
		kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.RequiredAcks(kgo.AllISRAcks()),
		// The ledger bounds what is buffered, in a way that a stop can interrupt.
		kgo.MaxBufferedRecords(a.bounds.flight.records+int(a.c.RawPartitions)+2),
		kgo.ProducerOnDataLossDetected(func(topic string, partition int32) {
			a.log.Error("Kafka has lost acknowledged records (unclean leader election?); the copies of other replicas may make up for them",
				zap.String("topic", topic), zap.Int32("partition", partition))
		}))...)
	if err != nil {
		return nil, fmt.Errorf("kafka client: %w", err)
	}
	if err := a.setUpKafka(ctx, client); err != nil {
		client.Close()
		return nil, err
	}
	return client, nil
}

func (a *Agent) setUpKafka(ctx context.Context, client *kgo.Client) error {
	if err := retry(ctx, a.bounds.start, client.Ping); err != nil {
		brokers, _ := client.OptValue(kgo.SeedBrokers).([]string)
		return fmt.Errorf("no Kafka broker answers at %s: %w; check kafka-brokers, and the brokers", strings.Join(brokers, ", "), err)
	}
	ctx, cancel := context.WithTimeout(ctx, a.bounds.start)
	defer cancel()
	id, err := rawtopic.EnsureTopic(ctx, client, a.c.RawTopic, a.c.RawPartitions, a.c.Replication)
	if err != nil {
		return err
	}
	if !a.c.Copy {
		if err := rawtopic.EnsureHeartbeatTopic(ctx, client, a.c.RawTopic, a.c.Replication); err != nil {
			return err
		}
	}
	if err := rawtopic.EnsureDeadLetterTopic(ctx, client, a.c.DeadLetterTopic, a.c.Replication); err != nil {
		return err
	}
	init := rawtopic.Init{Cluster: a.c.Cluster, TopicID: id, Partitions: a.c.RawPartitions, Version: rawtopic.Version}
	if err := rawtopic.WriteInit(ctx, client, a.c.RawTopic, init); err != nil {
		return err
	}
	_, err = rawtopic.CheckInit(ctx, a.c.ClientOpts, a.c.RawTopic, init)
	return err
}
