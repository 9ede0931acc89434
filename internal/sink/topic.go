package sink

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

// ensureTopic creates a topic unless it exists, waits until all its partitions have a leader, at most as long as ctx
// allows, and gives their number. configs are for a topic that it creates.
func ensureTopic(ctx context.Context, cl *kgo.Client, name string, partitions int32, replication int16, configs map[string]*string) (int32, error) {
	created := false
	for {
		n, err := describeTopic(ctx, cl, name)
		switch {
		case err == nil:
			return n, nil
		case errors.Is(err, kerr.UnknownTopicOrPartition) && !created:
			made, err := kadm.NewClient(cl).CreateTopic(ctx, partitions, replication, configs, name)
			if err != nil && !errors.Is(err, kerr.TopicAlreadyExists) {
				return 0, fmt.Errorf("create topic %s with %d partitions: %w (%s); create it by hand, or allow this user to", name, partitions, err, made.ErrMessage)
			}
			created = true
			continue
		case !kerr.IsRetriable(err):
			return 0, fmt.Errorf("describe topic %s: %w", name, err)
		}
		select {
		case <-ctx.Done():
			return 0, fmt.Errorf("topic %s did not become ready: %w (%w)", name, err, context.Cause(ctx))
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// describeTopic gives the number of partitions of a topic of which all have a leader. It asks the brokers every time: the
// client's cache remembers for seconds that a topic was not there.
func describeTopic(ctx context.Context, cl *kgo.Client, name string) (int32, error) {
	req := kmsg.NewPtrMetadataRequest()
	topic := kmsg.NewMetadataRequestTopic()
	topic.Topic = &name
	req.Topics = append(req.Topics, topic)
	resp, err := req.RequestWith(ctx, cl)
	if err != nil {
		return 0, err
	}
	if len(resp.Topics) != 1 {
		return 0, fmt.Errorf("expected an answer about one topic, found one about %d", len(resp.Topics))
	}
	err = kerr.ErrorForCode(resp.Topics[0].ErrorCode)
	for _, p := range resp.Topics[0].Partitions {
		if err == nil {
			err = kerr.ErrorForCode(p.ErrorCode)
		}
	}
	return int32(len(resp.Topics[0].Partitions)), err
}
