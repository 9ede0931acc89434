package local

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
)

// broker is a Kafka within this process. It listens on a free port of loopback and keeps its log in a folder.
type broker struct {
	cluster *kfake.Cluster
}

func startBroker(dir string) (*broker, error) {
	c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.Ports(0), kfake.DataDir(dir))
	if err != nil {
		return nil, fmt.Errorf("start the embedded broker: %w", err)
	}
	return &broker{c}, nil
}

// options are those of every client of the broker.
func (b *broker) options() []kgo.Opt { return []kgo.Opt{kgo.SeedBrokers(b.cluster.ListenAddrs()...)} }

func (b *broker) close() { b.cluster.Close() }

// offsets are places in the partitions of topics.
type offsets map[string]map[int32]int64

// ends gives the offsets behind the last record of each partition of the topics that a reader of committed records can
// reach. A topic that is not there has none.
func ends(ctx context.Context, adm *kadm.Client, topics ...string) (offsets, error) {
	listed, err := adm.ListCommittedOffsets(ctx, topics...)
	if err == nil {
		err = listed.Error()
	}
	all := offsets{}
	if errors.Is(err, kerr.UnknownTopicOrPartition) {
		return all, nil
	}
	if err != nil {
		return nil, err
	}
	listed.Each(func(o kadm.ListedOffset) {
		if all[o.Topic] == nil {
			all[o.Topic] = map[int32]int64{}
		}
		all[o.Topic][o.Partition] = o.Offset
	})
	return all, nil
}

// awaitFolded returns when the group has committed a position behind all records of the raw topic.
func awaitFolded(ctx context.Context, adm *kadm.Client) error {
	want, err := ends(ctx, adm, rawTopic)
	if err != nil {
		return err
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		committed, err := adm.FetchOffsets(ctx, group)
		if err != nil && !errors.Is(err, kerr.GroupIDNotFound) { // the group is there once the worker has joined it
			return err
		}
		done := true
		for partition, end := range want[rawTopic] {
			c, ok := committed.Lookup(rawTopic, partition)
			done = done && (end == 0 || ok && c.At >= end)
		}
		if done {
			return nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
}

// trim removes what dedup is done with from the raw topic, from time to time until ctx ends, so that the folder does not
// grow with the age of the process.
func trim(ctx context.Context, adm *kadm.Client) error {
	tick := time.NewTicker(30 * time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		committed, err := adm.FetchOffsets(ctx, group)
		if err != nil {
			continue // the group may not be there yet
		}
		if _, err := adm.DeleteRecords(ctx, committed.Offsets()); err != nil && ctx.Err() == nil {
			return fmt.Errorf("trim the embedded broker: %w", err)
		}
	}
}
