package dedup

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"cassdelta/internal/rawtopic"
	"cassdelta/state"
)

// LookUpRawTopic is [FindRawTopic] for those who do not wait for an agent: it is an error if the topic is not there.
func LookUpRawTopic(ctx context.Context, cl *kgo.Client, opts []kgo.Opt, name string) (RawTopic, error) {
	if err := connect(ctx, cl, connectTimeout); err != nil {
		return RawTopic{}, err
	}
	topic, err := describeRawTopic(ctx, cl, opts, name)
	if errors.Is(err, kerr.UnknownTopicOrPartition) {
		return RawTopic{}, fmt.Errorf("there is no raw topic %s; name the raw-topic that the agents have", name)
	}
	if err != nil {
		return RawTopic{}, fmt.Errorf("raw topic %s: %w; name the raw-topic that the agents have", name, err)
	}
	return topic, nil
}

// GroupPartition is where a consumer group is in a raw partition.
type GroupPartition struct {
	Partition int32
	// Start and End are the offset of the first record that the partition has, and of the one that is written next.
	Start, End int64
	// Position is up to where events are out; HasPosition is false if the group has none.
	Position    state.Position
	HasPosition bool
	// Parked are the tables whose events are parked, by keyspace.table: since which offset in the same partition of the parked topic.
	Parked map[string]int64
}

// DescribeGroup says where a group is in each raw partition. It waits for transactions that are under way.
func DescribeGroup(ctx context.Context, cl *kgo.Client, group string, topic RawTopic) ([]GroupPartition, error) {
	bounds, err := logBounds(ctx, kadm.NewClient(cl), topic.Name)
	if err != nil {
		return nil, err
	}
	numbers := slices.Sorted(maps.Keys(bounds))
	positions, err := fetchCommitted(ctx, cl, group, topic, numbers...)
	if errors.Is(err, kerr.GroupIDNotFound) {
		return nil, fmt.Errorf("the brokers know no consumer group %s: expected one with positions in the raw topic %s; name the group that the workers have; "+
			"if it is this one, none of them has committed a position yet, or its positions have expired, and cassdelta recover-offsets finds them", group, topic.Name)
	}
	if err != nil {
		return nil, err
	}
	var all []GroupPartition
	for _, p := range numbers {
		c, ok := positions[p]
		all = append(all, GroupPartition{
			Partition: p, Start: bounds[p].start, End: bounds[p].end, Position: c.Position, HasPosition: ok, Parked: c.parkedTables(),
		})
	}
	return all, nil
}

// RequestRelease asks the workers of a group to try the parked tables of raw partitions again. They do so within some seconds.
func RequestRelease(ctx context.Context, cl *kgo.Client, group, rawTopic string, partitions ...int32) error {
	// The offset says nothing, and the text is new each time.
	text := time.Now().UTC().Format(time.RFC3339) + " " + rand.Text()
	var offsets kadm.Offsets
	for _, p := range partitions {
		offsets.Add(kadm.Offset{Topic: rawtopic.ParkedTopic(rawTopic), Partition: p, LeaderEpoch: -1, Metadata: text})
	}
	answer, err := kadm.NewClient(cl).CommitOffsets(ctx, releaseGroup(group), offsets)
	if err == nil {
		err = answer.Error()
	}
	if err != nil {
		return fmt.Errorf("ask for a release by a position of the group %s: %w", releaseGroup(group), err)
	}
	return nil
}
