package rawtopic

import (
	"context"
	"fmt"
	"strconv"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"cassdelta/internal/topic"
	"cassdelta/schema"
)

// Version is that of the format, as [Init] carries it.
const Version = 1

// TopicError says that a topic is not the raw topic that it should be. Nothing was changed.
type TopicError struct {
	Topic string
	// Partition is the one that showed it, -1 if it is the topic as a whole.
	Partition int32
	// Reason says what was expected and found, and what to do.
	Reason string
}

func (e *TopicError) Error() string {
	if e.Partition < 0 {
		return fmt.Sprintf("raw topic %s: %s", e.Topic, e.Reason)
	}
	return fmt.Sprintf("raw topic %s, partition %d: %s", e.Topic, e.Partition, e.Reason)
}

// EnsureTopic creates the raw topic unless it exists, and gives its id: zero if the brokers have none. It waits until
// all partitions have a leader, at most as long as ctx allows. Replication -1 leaves the number of replicas to the
// brokers. A topic that exists with another number of partitions is a [*TopicError].
//
// The brokers set the time of records (LogAppendTime), so that the clocks of the nodes do not decide when records expire.
func EnsureTopic(ctx context.Context, cl *kgo.Client, name string, partitions int32, replication int16) (schema.UUID, error) {
	configs := map[string]*string{
		"cleanup.policy":         kadm.StringPtr("delete"),
		"message.timestamp.type": kadm.StringPtr("LogAppendTime"),
	}
	id, n, err := topic.Ensure(ctx, cl, name, partitions, replication, configs)
	if err != nil {
		return schema.UUID{}, err
	}
	if n != partitions {
		return schema.UUID{}, &TopicError{Topic: name, Partition: -1, Reason: fmt.Sprintf(
			"expected %d partitions, found %d; the number is fixed when the topic is made: set raw-partitions to %d, or name another raw-topic", partitions, n, n)}
	}
	return schema.UUID(id), nil
}

// HeartbeatTopic is the name of the topic with the heartbeats of the agents that write to a raw topic. It is none that a
// clean topic may have, PREFIX.KEYSPACE.TABLE, if that of the raw topic is none.
func HeartbeatTopic(rawTopic string) string { return rawTopic + "-heartbeats" }

// EnsureHeartbeatTopic creates the topic of the heartbeats unless it exists: one partition, of which Kafka keeps the last
// record of each host, and for a week at most. The brokers set the time of records. Segments are small, so that it is read
// from its start in no time.
func EnsureHeartbeatTopic(ctx context.Context, cl *kgo.Client, rawTopic string, replication int16) error {
	name := HeartbeatTopic(rawTopic)
	_, n, err := topic.Ensure(ctx, cl, name, 1, replication, map[string]*string{
		"cleanup.policy":         kadm.StringPtr("compact,delete"),
		"retention.ms":           kadm.StringPtr("604800000"),
		"segment.ms":             kadm.StringPtr("3600000"),
		"segment.bytes":          kadm.StringPtr("1048576"),
		"message.timestamp.type": kadm.StringPtr("LogAppendTime"),
	})
	if err == nil && n != 1 {
		err = &TopicError{Topic: name, Partition: -1, Reason: fmt.Sprintf("expected 1 partition, found %d; delete it, it is made again", n)}
	}
	return err
}

// ParkedTopic is the name of the topic with the events that cannot be written for now, of all groups that read a raw topic.
func ParkedTopic(rawTopic string) string { return rawTopic + "-parked" }

// EnsureParkedTopic creates the topic of the parked events unless it exists: as many partitions as the raw topic has, records of up
// to room bytes, and Kafka deletes none by itself.
func EnsureParkedTopic(ctx context.Context, cl *kgo.Client, rawTopic string, partitions int32, replication int16, room int) error {
	name := ParkedTopic(rawTopic)
	_, n, err := topic.Ensure(ctx, cl, name, partitions, replication, map[string]*string{
		"cleanup.policy":    kadm.StringPtr("delete"),
		"retention.ms":      kadm.StringPtr("-1"),
		"retention.bytes":   kadm.StringPtr("-1"),
		"max.message.bytes": kadm.StringPtr(strconv.Itoa(room)),
	})
	if err == nil && n != partitions {
		err = &TopicError{Topic: name, Partition: -1, Reason: fmt.Sprintf(
			"expected %d partitions, as the raw topic has, found %d; if nothing in it is parked any more delete it, it is made again", partitions, n)}
	}
	return err
}

// EnsureDeadLetterTopic creates the topic for what could not be decoded unless it exists, with one partition.
func EnsureDeadLetterTopic(ctx context.Context, cl *kgo.Client, name string, replication int16) error {
	_, _, err := topic.Ensure(ctx, cl, name, 1, replication, map[string]*string{"cleanup.policy": kadm.StringPtr("delete")})
	return err
}

// WriteInit writes init to each partition of the topic that is empty. It returns once that is acknowledged by all
// in-sync replicas, so whatever the caller produces afterwards comes behind an init, whoever wrote that. cl must leave the choice of
// partitions to the caller ([kgo.ManualPartitioner]).
func WriteInit(ctx context.Context, cl *kgo.Client, topic string, init Init) error {
	empty, err := emptyPartitions(ctx, kadm.NewClient(cl), topic)
	if err != nil {
		return err
	}
	var records []*kgo.Record
	value := Append(nil, &Record{Kind: KindInit, Init: &init})
	for _, p := range empty {
		records = append(records, &kgo.Record{Topic: topic, Partition: p, Value: value})
	}
	if err := cl.ProduceSync(ctx, records...).FirstErr(); err != nil {
		return fmt.Errorf("write init to topic %s: %w", topic, err)
	}
	return nil
}

func emptyPartitions(ctx context.Context, adm *kadm.Client, topic string) ([]int32, error) {
	starts, ends, err := offsets(ctx, adm, topic)
	if err != nil {
		return nil, err
	}
	var empty []int32
	ends.Each(func(end kadm.ListedOffset) {
		if start, _ := starts.Lookup(topic, end.Partition); start.Offset >= end.Offset {
			empty = append(empty, end.Partition)
		}
	})
	return empty, nil
}

func offsets(ctx context.Context, adm *kadm.Client, topic string) (starts, ends kadm.ListedOffsets, err error) {
	starts, err = adm.ListStartOffsets(ctx, topic)
	if err == nil {
		err = starts.Error()
	}
	if err == nil {
		ends, err = adm.ListEndOffsets(ctx, topic)
	}
	if err == nil {
		err = ends.Error()
	}
	if err != nil {
		return nil, nil, fmt.Errorf("list the offsets of topic %s: %w", topic, err)
	}
	return starts, ends, nil
}

// CheckInit reads the first record of each partition and compares it with want: the topic must be of the same cluster,
// number of partitions and format version, else the error is a [*TopicError]. opts are those of the connection.
//
// Where the first records have expired there may be no init left to compare; checked is the number of partitions that
// had one.
func CheckInit(ctx context.Context, opts []kgo.Opt, topic string, want Init) (checked int, err error) {
	firsts, err := firstRecords(ctx, opts, topic)
	if err != nil {
		return 0, err
	}
	var decoder Decoder
	for p := range want.Partitions {
		first := firsts[p]
		if first == nil {
			continue
		}
		refuse := func(format string, args ...any) error {
			return &TopicError{Topic: topic, Partition: p, Reason: fmt.Sprintf(format, args...)}
		}
		var r Record
		if err := decoder.Decode(first.Value, &r); err != nil {
			if first.Offset > 0 {
				continue // one that is damaged, of which there is a dead letter
			}
			return 0, refuse("its first record cannot be read (%v); name another raw-topic, one that this program made", err)
		}
		if r.Kind != KindInit {
			if first.Offset > 0 {
				continue
			}
			return 0, refuse("expected that it begins with an init record, found a record of kind %d; name another raw-topic, one that this program made", r.Kind)
		}
		switch init := r.Init; {
		case init.Version != want.Version:
			return 0, refuse("expected format version %d, found %d; use the version of this program that made the topic, or another raw-topic", want.Version, init.Version)
		case init.Cluster != want.Cluster:
			return 0, refuse("it belongs to the Cassandra cluster %q, and this node is of %q; each cluster needs a raw topic of its own", init.Cluster, want.Cluster)
		case init.Partitions != want.Partitions:
			return 0, refuse("it was made with %d partitions, and now has %d; partitions must never be added: name another raw-topic", init.Partitions, want.Partitions)
		}
		checked++
	}
	return checked, nil
}

// firstRecords reads the first record that each partition still has; empty partitions have none.
func firstRecords(ctx context.Context, opts []kgo.Opt, topic string) (map[int32]*kgo.Record, error) {
	adm, err := kgo.NewClient(opts...)
	if err != nil {
		return nil, fmt.Errorf("kafka client: %w", err)
	}
	starts, ends, err := offsets(ctx, kadm.NewClient(adm), topic)
	adm.Close()
	if err != nil {
		return nil, err
	}
	from := map[int32]kgo.Offset{}
	ends.Each(func(end kadm.ListedOffset) {
		if start, _ := starts.Lookup(topic, end.Partition); start.Offset < end.Offset {
			from[end.Partition] = kgo.NewOffset().AtStart()
		}
	})
	firsts := make(map[int32]*kgo.Record, len(from))
	if len(from) == 0 {
		return firsts, nil
	}
	cl, err := kgo.NewClient(append(opts[:len(opts):len(opts)],
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: from}),
		kgo.FetchMaxPartitionBytes(16<<10))...)
	if err != nil {
		return nil, fmt.Errorf("kafka client: %w", err)
	}
	defer cl.Close()
	for len(firsts) < len(from) {
		fetches := cl.PollFetches(ctx)
		if err := ctx.Err(); err != nil {
			return nil, fmt.Errorf("read the first records of topic %s: %d of %d partitions answered: %w", topic, len(firsts), len(from), err)
		}
		for _, e := range fetches.Errors() {
			return nil, fmt.Errorf("read the first record of topic %s, partition %d: %w", topic, e.Partition, e.Err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			if firsts[r.Partition] == nil {
				firsts[r.Partition] = r
				cl.PauseFetchPartitions(map[string][]int32{topic: {r.Partition}})
			}
		})
	}
	return firsts, nil
}
