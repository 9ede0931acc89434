package dedup

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/zap"

	"cassdelta/internal/rawtopic"
	topics "cassdelta/internal/topic"
	"cassdelta/schema"
)

// RawTopic is what there is to know of a raw topic before it is read.
type RawTopic struct {
	Name string
	// ID is the id that Kafka gave it; zero if the brokers give none.
	ID         schema.UUID
	Partitions int32
	// Cluster is the name of the Cassandra cluster, from the first records; empty if all of them have expired.
	Cluster string
}

const (
	// connectTimeout bounds how long it may take at the start until a broker answers, and answers without an error.
	connectTimeout = 30 * time.Second
	// lookEvery is the time between two looks for the raw topic.
	lookEvery = 250 * time.Millisecond
	// checkTimeout bounds one attempt at reading the first records.
	checkTimeout = 20 * time.Second
)

// FindRawTopic waits until the topic is there and an agent has begun it, and checks that its partitions agree about what it
// is. It returns an error if no broker answers within 30 s, or none with what is asked, and if the topic is not a raw topic.
func FindRawTopic(ctx context.Context, opts []kgo.Opt, name string, log *zap.Logger) (RawTopic, error) {
	cl, err := kgo.NewClient(opts...)
	if err != nil {
		return RawTopic{}, fmt.Errorf("kafka client: %w", err)
	}
	defer cl.Close()
	if err := connect(ctx, cl, connectTimeout); err != nil {
		return RawTopic{}, err
	}
	var (
		told  bool
		since = time.Now() // the last answer
	)
	for {
		topic, err := describeRawTopic(ctx, cl, opts, name)
		var wrong *rawtopic.TopicError
		switch {
		case err == nil, errors.As(err, &wrong):
			return topic, err
		case errors.Is(err, errNotBegun):
			since = time.Now()
			if !told {
				told = true
				log.Info("waiting for the raw topic: an agent makes it when it starts", zap.String("topic", name), zap.Error(err))
			}
		case time.Since(since) > connectTimeout:
			return RawTopic{}, err
		}
		select {
		case <-ctx.Done():
			return RawTopic{}, context.Cause(ctx)
		case <-time.After(lookEvery):
		}
	}
}

// connect returns once a broker has answered.
func connect(ctx context.Context, cl *kgo.Client, timeout time.Duration) error {
	bounded, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	var wait backoff
	for {
		err := cl.Ping(bounded)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if wait.wait(bounded); bounded.Err() != nil {
			seeds, _ := cl.OptValue(kgo.SeedBrokers).([]string)
			return fmt.Errorf("kafka: none of the brokers %s answered within %v: %w; check that they run, their addresses, TLS and credentials",
				strings.Join(seeds, ", "), timeout, err)
		}
	}
}

// errNotBegun says that the raw topic is not there, or that a partition of it has no record: the agent that made it is not
// done.
var errNotBegun = errors.New("not there yet")

func describeRawTopic(ctx context.Context, cl *kgo.Client, opts []kgo.Opt, name string) (RawTopic, error) {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	id, partitions, err := topics.Describe(ctx, cl, name)
	switch {
	case kerr.IsRetriable(err): // it is not there, or it has no leader yet
		return RawTopic{}, fmt.Errorf("%w: %w", errNotBegun, err)
	case err != nil:
		return RawTopic{}, err
	}
	topic := RawTopic{Name: name, ID: id, Partitions: partitions}
	init, err := firstInit(ctx, cl, opts, topic)
	if err != nil || init == nil {
		return topic, err
	}
	topic.Cluster = init.Cluster
	_, err = rawtopic.CheckInit(ctx, opts, name, rawtopic.Init{
		Cluster: init.Cluster, Partitions: topic.Partitions, Version: rawtopic.Version,
	})
	return topic, err
}

// firstInit returns the init of one partition: nil if the first records of all have expired.
func firstInit(ctx context.Context, cl *kgo.Client, opts []kgo.Opt, topic RawTopic) (*rawtopic.Init, error) {
	bounds, err := logBounds(ctx, kadm.NewClient(cl), topic.Name)
	if err != nil {
		return nil, err
	}
	for p := range topic.Partitions {
		if bounds[p].end == 0 {
			return nil, notBegun(ctx, opts, topic, bounds, p)
		}
	}
	for p := range topic.Partitions {
		if bounds[p].start > 0 {
			continue
		}
		if init, err := readInit(ctx, opts, topic.Name, p); init != nil || err != nil {
			return init, err
		}
	}
	return nil, nil
}

// notBegun is the error about a topic of which a partition is empty: it is waited for, unless partitions were added to it.
func notBegun(ctx context.Context, opts []kgo.Opt, topic RawTopic, bounds map[int32]bounds, empty int32) error {
	if b := bounds[0]; b.start == 0 && b.end > 0 {
		init, err := readInit(ctx, opts, topic.Name, 0)
		if err != nil {
			return err
		}
		if init != nil && init.Partitions != topic.Partitions {
			return &rawtopic.TopicError{Topic: topic.Name, Partition: empty, Reason: fmt.Sprintf(
				"it is empty, and the topic was begun with %d partitions and now has %d: rows would be in other partitions than their past; "+
					"partitions cannot be added to a raw topic: start over with another that has as many as are needed", init.Partitions, topic.Partitions)}
		}
	}
	return fmt.Errorf("%w: partition %d is empty", errNotBegun, empty)
}

// readInit reads the init of a partition: nil if it has expired since its bounds were asked for.
func readInit(ctx context.Context, opts []kgo.Opt, topic string, partition int32) (*rawtopic.Init, error) {
	cl, err := kgo.NewClient(append(opts[:len(opts):len(opts)],
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: {partition: kgo.NewOffset().AtStart()}}),
		kgo.FetchMaxPartitionBytes(16<<10))...)
	if err != nil {
		return nil, fmt.Errorf("kafka client: %w", err)
	}
	defer cl.Close()
	fetches := cl.PollRecords(ctx, 1)
	if err := fetches.Err(); err != nil {
		return nil, fmt.Errorf("read the first record of topic %s, partition %d: %w", topic, partition, err)
	}
	var (
		decoder rawtopic.Decoder
		rec     rawtopic.Record
	)
	refuse := func(reason string) error {
		return &rawtopic.TopicError{Topic: topic, Partition: partition, Reason: reason}
	}
	records := fetches.Records()
	if len(records) == 0 {
		return nil, fmt.Errorf("read the first record of topic %s, partition %d: the brokers gave none", topic, partition)
	}
	if records[0].Offset > 0 {
		return nil, nil
	}
	if err := decoder.Decode(records[0].Value, &rec); err != nil {
		return nil, refuse(fmt.Sprintf("its first record cannot be read (%v); name another raw-topic, one that an agent made", err))
	}
	if rec.Kind != rawtopic.KindInit {
		return nil, refuse("it does not begin with an Init record; name another raw-topic, one that an agent made")
	}
	init := *rec.Init
	return &init, nil
}

// bounds are the offsets of the first record of a partition and of the one that is written next.
type bounds struct{ start, end int64 }

// logBounds asks for the bounds of all partitions.
func logBounds(ctx context.Context, adm *kadm.Client, topic string) (map[int32]bounds, error) {
	starts, err := adm.ListStartOffsets(ctx, topic)
	if err == nil {
		err = starts.Error()
	}
	var ends kadm.ListedOffsets
	if err == nil {
		ends, err = adm.ListEndOffsets(ctx, topic)
	}
	if err == nil {
		err = ends.Error()
	}
	if err != nil {
		return nil, fmt.Errorf("list the offsets of topic %s: %w", topic, err)
	}
	all := map[int32]bounds{}
	ends.Each(func(end kadm.ListedOffset) {
		start, ok := starts.Lookup(topic, end.Partition)
		if ok {
			all[end.Partition] = bounds{start.Offset, end.Offset}
		}
	})
	return all, nil
}
