package sink

import (
	"context"
	"fmt"
	"strconv"

	"github.com/twmb/franz-go/pkg/kadm"

	topics "cassdelta/internal/topic"
)

const (
	// cleanRoom is max.message.bytes of a clean topic that is created. An event has its row twice, and Cassandra takes
	// mutations of up to 16 MiB with its default segments; Kafka's default, 1 MiB, is little for that.
	cleanRoom = 32 << 20
	// defaultRoom is what the client takes for max.message.bytes where it is not told otherwise.
	defaultRoom = 1_000_012
	// recordOverhead is more than a batch with one record has around what Encode makes of it.
	recordOverhead = 512
)

// MaxBatchBytes is how large a batch of records the brokers take for a topic, in bytes: max.message.bytes of a clean topic that
// has had an event, and Kafka's default of others.
func (s *Sink) MaxBatchBytes(topic string) int32 {
	for _, t := range *s.tables.Load() {
		if t.topic == topic {
			return t.room
		}
	}
	return defaultRoom
}

// ensureCleanTopic makes a clean topic unless there is one, and returns its max.message.bytes.
func (s *Sink) ensureCleanTopic(ctx context.Context, topic string) (room int32, err error) {
	_, n, err := topics.Ensure(ctx, s.cfg.Client, topic, s.cfg.Partitions, s.cfg.Replication,
		map[string]*string{"max.message.bytes": kadm.StringPtr(strconv.Itoa(cleanRoom))})
	if err != nil {
		return 0, err
	}
	if n != s.cfg.Partitions {
		return 0, &partitionsError{topic: topic, expected: s.cfg.Partitions, found: n}
	}
	return s.room(ctx, topic)
}

// room asks for a topic's max.message.bytes. Without the right to ask it is taken to be the default.
func (s *Sink) room(ctx context.Context, topic string) (int32, error) {
	answer, err := kadm.NewClient(s.cfg.Client).DescribeTopicConfigs(ctx, topic)
	if err != nil {
		return 0, fmt.Errorf("read the settings of topic %s: %w", topic, err)
	}
	config, err := answer.On(topic, nil)
	if err != nil {
		return 0, fmt.Errorf("read the settings of topic %s: %w", topic, err)
	}
	if config.Err == nil {
		for _, c := range config.Configs {
			if c.Key != "max.message.bytes" || c.Value == nil {
				continue
			}
			n, err := strconv.ParseInt(*c.Value, 10, 32)
			if err != nil {
				return 0, fmt.Errorf("topic %s: max.message.bytes: %w", topic, err)
			}
			return int32(min(max(n, recordOverhead), cleanRoom)), nil
		}
	}
	return defaultRoom, nil
}
