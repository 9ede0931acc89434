// Package topic makes Kafka topics and asks about them.
package topic

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Ensure creates a topic unless it exists, waits until all its partitions have a leader, at most as long as ctx allows, and
// gives its id, zero if the brokers have none, and the number of its partitions. Replication -1 leaves the number of
// replicas to the brokers; configs are for a topic that it creates.
func Ensure(ctx context.Context, cl *kgo.Client, name string, partitions int32, replication int16, configs map[string]*string) (id [16]byte, found int32, err error) {
	created := false
	for {
		id, found, err := describe(ctx, cl, name)
		switch {
		case err == nil:
			return id, found, nil
		case errors.Is(err, kerr.UnknownTopicOrPartition) && !created:
			made, err := kadm.NewClient(cl).CreateTopic(ctx, partitions, replication, configs, name)
			if err != nil && !errors.Is(err, kerr.TopicAlreadyExists) {
				reason := ""
				if made.ErrMessage != "" {
					reason = " (" + made.ErrMessage + ")"
				}
				return [16]byte{}, 0, fmt.Errorf("create topic %s with %d partitions: %w%s; create it by hand, or allow this user to", name, partitions, err, reason)
			}
			created = true
			continue
		case !kerr.IsRetriable(err):
			return [16]byte{}, 0, fmt.Errorf("describe topic %s: %w", name, err)
		}
		select {
		case <-ctx.Done():
			return [16]byte{}, 0, fmt.Errorf("topic %s did not become ready: %w (%w)", name, err, context.Cause(ctx))
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// Describe gives the id of a topic, zero if the brokers have none, and the number of its partitions. The error wraps
// kerr.UnknownTopicOrPartition if there is no such topic, and is another retriable one of kerr while a partition has no
// leader.
func Describe(ctx context.Context, cl *kgo.Client, name string) (id [16]byte, partitions int32, err error) {
	id, partitions, err = describe(ctx, cl, name)
	if err != nil {
		return [16]byte{}, 0, fmt.Errorf("describe topic %s: %w", name, err)
	}
	return id, partitions, nil
}

// describe asks the brokers every time: the client's cache remembers for seconds that a topic was not there.
func describe(ctx context.Context, cl *kgo.Client, name string) (id [16]byte, partitions int32, err error) {
	req := kmsg.NewPtrMetadataRequest()
	topic := kmsg.NewMetadataRequestTopic()
	topic.Topic = &name
	req.Topics = append(req.Topics, topic)
	resp, err := req.RequestWith(ctx, cl)
	if err != nil {
		return id, 0, err
	}
	if len(resp.Topics) != 1 {
		return id, 0, fmt.Errorf("expected an answer about one topic, found one about %d", len(resp.Topics))
	}
	found := &resp.Topics[0]
	err = kerr.ErrorForCode(found.ErrorCode)
	for _, p := range found.Partitions {
		if err == nil {
			err = kerr.ErrorForCode(p.ErrorCode)
		}
	}
	return found.TopicID, int32(len(found.Partitions)), err
}
