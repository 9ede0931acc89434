// Package sink writes events as records of the clean topics, and reads them.
//
// # Topics
//
// Each table has the topic <prefix>.<keyspace>.<table> ([TopicName]). It is created when its first event comes, with the
// brokers' settings but for the number of partitions M and of replicas, and room for large rows in a record. M divides the number of raw partitions, and the
// clean partition is the raw partition mod M: so all events of a row are on one partition, and a transaction of a
// worker touches few.
//
// # Records
//
// Key and value are Avro data of the schemas that package schema gives for the table: the key a record of the primary
// key, the value Debezium's envelope. Headers say which event of which raw record it is. The time stamp of the record,
// and ts_ms of the envelope, are when the event was encoded; the write time is in source. An aborted event that is made
// again has later ones, so do not compare by them.
//
// With a registry, key and value are in Confluent's wire format and the schemas have the subjects <topic>-key and
// <topic>-value. Without, they are in Avro's single-object encoding, and the schemas are in the topic <prefix>.schemas:
// compacted, one partition, the key of a record the fingerprint in 16 hexadecimal digits, its value the schema's JSON
// text. Either is done before the first event that needs it is encoded, outside of the worker's transaction: a
// reader that has a record can find its schema. A schema that no committed event needs does no harm. Schemas that differ
// in attributes alone have one fingerprint, and of them the schema topic keeps the last.
package sink

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/zap"

	"cassdelta/dedup"
	topics "cassdelta/internal/topic"
	"cassdelta/schema"
	"cassdelta/schema/registry"
)

// Config says where events go.
type Config struct {
	// Prefix begins the names of the topics, and is source.name of the events.
	Prefix string
	// Client creates topics and writes schemas. It is not transactional; the caller closes it after the last Encode.
	Client *kgo.Client
	// Registry takes the schemas; nil puts them into the schema topic.
	Registry *registry.Client
	// RawPartitions is the number of partitions N of the raw topic.
	RawPartitions int32
	// Partitions is the number of partitions M of each clean topic; it divides N. 0 is the greatest divisor of N up to 8.
	Partitions int32
	// Replication is the number of replicas of a topic that is created; -1 leaves it to the brokers.
	Replication int16
	// Version is that of this program, for source.version. Empty is that of the binary.
	Version string
	// Now is the clock. Nil is time.Now.
	Now func() time.Time
	Log *zap.Logger
}

// defaultPartitions is what M is at most where it is not given.
const defaultPartitions = 8

// prepareTimeout bounds how long the topic and the schemas of one table may take.
const prepareTimeout = time.Minute

// Sink encodes events. It is safe for concurrent use.
type Sink struct {
	cfg Config
	// tables is replaced, never changed, so that encoding takes no lock. It grows with each definition of a table that
	// has events, which are few in the life of a process.
	tables atomic.Pointer[map[schema.Hash]*target]
	// preparing is held by whoever adds to tables.
	preparing chan struct{}
	// schemaTopic is set once the schema topic is known to be there; guarded by preparing.
	schemaTopic bool
}

// target is what events of one definition of a table become.
type target struct {
	topic string
	// room is the topic's max.message.bytes when the first definition of the table was prepared.
	room int32
	// keyHeader and valueHeader stand before the data, and name the schemas.
	keyHeader, valueHeader []byte
	encoder                *schema.AvroEncoder
}

// New makes a sink. It asks for nothing yet.
func New(cfg Config) (*Sink, error) {
	if err := checkPrefix(cfg.Prefix); err != nil {
		return nil, err
	}
	if cfg.RawPartitions < 1 {
		return nil, fmt.Errorf("raw-partitions: expected at least 1, found %d", cfg.RawPartitions)
	}
	if cfg.Partitions == 0 {
		for m := min(defaultPartitions, cfg.RawPartitions); cfg.Partitions == 0; m-- {
			if cfg.RawPartitions%m == 0 {
				cfg.Partitions = m
			}
		}
	}
	if cfg.Partitions < 1 || cfg.RawPartitions%cfg.Partitions != 0 {
		return nil, fmt.Errorf("clean-partitions: expected a divisor of the %d partitions of the raw topic, found %d", cfg.RawPartitions, cfg.Partitions)
	}
	if cfg.Version == "" {
		cfg.Version = "unknown"
		if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
			cfg.Version = info.Main.Version
		}
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	s := &Sink{cfg: cfg, preparing: make(chan struct{}, 1)}
	s.tables.Store(&map[schema.Hash]*target{})
	return s, nil
}

// Encode fills dst with the record of an event, appends what it points to behind buf, and returns the extended buf. The
// array of dst.Headers is used again. When it returns without an error, the topic and the schemas of the record exist.
//
// An error that is a [*schema.AvroError] or a [*dedup.TooLargeError] is about this event and stays whenever it is tried. A
// [*dedup.TableError] is about the table, and stays until someone changes something; any other is of Kafka or the registry.
func (s *Sink) Encode(ctx context.Context, e *dedup.Event, dst *kgo.Record, buf []byte) ([]byte, error) {
	t := (*s.tables.Load())[e.Table.Hash()]
	if t == nil {
		var err error
		if t, err = s.prepare(ctx, e.Table); err != nil {
			return buf, err
		}
	}
	now := s.cfg.Now()
	start := len(buf)
	out, err := t.encoder.AppendKey(append(buf, t.keyHeader...), e.Partition, e.Clustering, e.Static)
	if err != nil {
		return buf, err
	}
	keyEnd := len(out)
	envelope := s.envelope(e, now)
	if out, err = t.encoder.AppendEnvelope(append(out, t.valueHeader...), &envelope); err != nil {
		return buf, err
	}
	valueEnd := len(out)
	out = strconv.AppendInt(out, int64(e.RawPartition), 10)
	partitionEnd := len(out)
	out = strconv.AppendInt(out, e.RawOffset, 10)
	offsetEnd := len(out)
	out = strconv.AppendInt(out, e.Index, 10)

	if size := len(out) - start; size > int(t.room)-recordOverhead {
		return buf, &dedup.TooLargeError{Topic: t.topic, Size: size, Room: int(t.room) - recordOverhead}
	}

	cut := func(from, to int) []byte { return out[from:to:to] }
	headers := append(dst.Headers[:0],
		kgo.RecordHeader{Key: HeaderRawPartition, Value: cut(valueEnd, partitionEnd)},
		kgo.RecordHeader{Key: HeaderRawOffset, Value: cut(partitionEnd, offsetEnd)},
		kgo.RecordHeader{Key: HeaderIndex, Value: cut(offsetEnd, len(out))})
	*dst = kgo.Record{
		Topic:     t.topic,
		Partition: e.RawPartition % s.cfg.Partitions,
		Key:       cut(start, keyEnd),
		Value:     cut(keyEnd, valueEnd),
		Headers:   headers,
		Timestamp: now,
	}
	return out, nil
}

func (s *Sink) envelope(e *dedup.Event, now time.Time) schema.AvroEnvelope {
	return schema.AvroEnvelope{
		Partition:  e.Partition,
		Static:     e.Static,
		Clustering: e.Clustering,
		Before:     e.Before,
		After:      e.After,
		Source: schema.AvroSource{
			Version:      s.cfg.Version,
			Name:         s.cfg.Prefix,
			Cluster:      e.Cluster,
			Timestamp:    e.Timestamp,
			Host:         e.Origin.Host,
			Segment:      e.Origin.Position.Segment,
			Position:     e.Origin.Position.Offset,
			Index:        e.Origin.Update,
			RawPartition: e.RawPartition,
			RawOffset:    e.RawOffset,
			RawIndex:     e.Index,
			Complete:     e.Complete,
			Reason:       string(e.Reason),
			Changed:      e.Changed,
		},
		Op:   byte(e.Op),
		Time: now.UnixMilli(),
	}
}

// prepare makes what is needed before the first event of a definition. One definition is prepared at a time; those that
// are known go on meanwhile.
func (s *Sink) prepare(ctx context.Context, table *schema.Table) (*target, error) {
	select {
	case s.preparing <- struct{}{}:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	defer func() { <-s.preparing }()
	known := *s.tables.Load()
	if t := known[table.Hash()]; t != nil {
		return t, nil
	}
	encoder, err := schema.NewAvroEncoder(table)
	if err != nil {
		return nil, err
	}
	topic, err := TopicName(s.cfg.Prefix, table.Keyspace, table.Name)
	if err != nil {
		return nil, &dedup.TableError{Table: table.FullName(), Err: err}
	}
	ctx, cancel := context.WithTimeoutCause(ctx, prepareTimeout, fmt.Errorf("topic %s and its schemas took longer than %v", topic, prepareTimeout))
	defer cancel()
	room, err := s.ensureCleanTopic(ctx, topic)
	if err != nil {
		return nil, tableError(table, err)
	}
	for _, other := range known {
		if other.topic == topic {
			room = other.room // the producer has asked for it, and does not ask again
		}
	}
	t := &target{topic: topic, room: room, encoder: encoder}
	key, value := schema.AvroKeySchema(table, s.cfg.Prefix), schema.AvroValueSchema(table, s.cfg.Prefix)
	if s.cfg.Registry != nil {
		err = tableError(table, s.register(ctx, t, key, value))
	} else {
		err = s.writeSchemas(ctx, t, key, value)
	}
	if err != nil {
		return nil, err
	}
	more := make(map[schema.Hash]*target, len(known)+1)
	for hash, t := range known {
		more[hash] = t
	}
	more[table.Hash()] = t
	s.tables.Store(&more)
	s.cfg.Log.Info("ready for events of a table", zap.String("table", table.FullName()), zap.String("topic", topic), zap.Stringer("definition", table.Hash()))
	return t, nil
}

func (s *Sink) register(ctx context.Context, t *target, key, value string) error {
	keyID, err := s.cfg.Registry.Register(ctx, registry.KeySubject(t.topic), key)
	if err != nil {
		return err
	}
	valueID, err := s.cfg.Registry.Register(ctx, registry.ValueSubject(t.topic), value)
	if err != nil {
		return err
	}
	t.keyHeader = registry.AppendConfluentHeader(nil, keyID)
	t.valueHeader = registry.AppendConfluentHeader(nil, valueID)
	return nil
}

// writeSchemas puts the schemas into the schema topic. It writes what may be there already: compaction removes all
// but the last of equal records.
func (s *Sink) writeSchemas(ctx context.Context, t *target, schemas ...string) error {
	topic := SchemaTopicName(s.cfg.Prefix)
	if !s.schemaTopic {
		_, n, err := topics.Ensure(ctx, s.cfg.Client, topic, 1, s.cfg.Replication, map[string]*string{"cleanup.policy": kadm.StringPtr("compact")})
		if err != nil {
			return err
		}
		if n != 1 {
			return fmt.Errorf("schema topic %s: expected 1 partition, found %d; choose another topic-prefix", topic, n)
		}
		s.schemaTopic = true
	}
	var records []*kgo.Record
	var headers [][]byte
	for _, text := range schemas {
		fingerprint := schema.AvroFingerprint(text)
		headers = append(headers, appendSingleObjectHeader(nil, fingerprint))
		records = append(records, &kgo.Record{Topic: topic, Key: []byte(schemaKey(fingerprint)), Value: []byte(text)})
	}
	for _, result := range s.cfg.Client.ProduceSync(ctx, records...) {
		if err := result.Err; err != nil {
			return fmt.Errorf("write a schema to topic %s: %w", topic, errors.Join(err, context.Cause(ctx)))
		}
	}
	t.keyHeader, t.valueHeader = headers[0], headers[1]
	return nil
}
