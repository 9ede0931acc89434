package sink

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sr"

	"cassdelta/schema/registry"
)

// ReaderConfig says where the schemas of clean topics are.
type ReaderConfig struct {
	// Prefix is that of the topics.
	Prefix string
	// Opts are those of the connection to Kafka, for the schema topic.
	Opts []kgo.Opt
	// Registry has the schemas of records in Confluent's wire format; nil if there is none.
	Registry *registry.Client
}

// Reader turns records of clean topics into changes, as any consumer can: by the schemas that the records name, and
// goavro. It is used by one goroutine at a time.
type Reader struct {
	registry *registry.Client
	topic    *schemaTopic
	// byID and byFingerprint are the codecs of the schemas that were needed so far: as many as the topics have.
	byID          map[int32]*codec
	byFingerprint map[uint64]*codec
}

// RecordError says that a record is none of a clean topic, or is damaged. It is about this record alone.
type RecordError struct {
	Topic     string
	Partition int32
	Offset    int64
	Err       error
}

func (e *RecordError) Error() string {
	return fmt.Sprintf("topic %s, partition %d, offset %d: %v", e.Topic, e.Partition, e.Offset, e.Err)
}

func (e *RecordError) Unwrap() error { return e.Err }

// NewReader makes a reader. It asks for nothing yet.
func NewReader(cfg ReaderConfig) *Reader {
	return &Reader{
		registry: cfg.Registry, topic: newSchemaTopic(SchemaTopicName(cfg.Prefix), cfg.Opts),
		byID: map[int32]*codec{}, byFingerprint: map[uint64]*codec{},
	}
}

// Close ends the connection to Kafka, if one was needed.
func (r *Reader) Close() { r.topic.close() }

// Read decodes a record. An error that is no [*RecordError] is about where the schemas are, and concerns other records
// too.
func (r *Reader) Read(ctx context.Context, rec *kgo.Record) (*Change, error) {
	c, err := r.read(ctx, rec)
	if broken := (*brokenError)(nil); errors.As(err, &broken) {
		return nil, &RecordError{rec.Topic, rec.Partition, rec.Offset, err}
	}
	return c, err
}

// brokenError is a fault of the record itself.
type brokenError struct{ error }

func broken(err error) error { return &brokenError{err} }

func (r *Reader) read(ctx context.Context, rec *kgo.Record) (*Change, error) {
	key, keyCodec, err := r.decode(ctx, "key", rec.Key)
	if err != nil {
		return nil, err
	}
	value, valueCodec, err := r.decode(ctx, "value", rec.Value)
	if err != nil {
		return nil, err
	}
	c := &Change{Topic: rec.Topic, Partition: rec.Partition, Offset: rec.Offset, Headers: rec.Headers}
	if c.Key, err = keyCodec.image(key); err != nil {
		return nil, broken(fmt.Errorf("key: %w", err))
	}
	before, _ := inUnion(value["before"]).(map[string]any)
	if c.Before, err = valueCodec.image(before); err != nil {
		return nil, broken(fmt.Errorf("before: %w", err))
	}
	after, _ := inUnion(value["after"]).(map[string]any)
	if c.After, err = valueCodec.image(after); err != nil {
		return nil, broken(fmt.Errorf("after: %w", err))
	}
	var ok bool
	if c.Op, ok = value["op"].(string); !ok {
		return nil, broken(errors.New("value: expected a string op, found none; it is not Debezium's envelope"))
	}
	if millis, ok := inUnion(value["ts_ms"]).(int64); ok {
		c.Time = time.UnixMilli(millis).UTC()
	}
	if c.Source, err = sourceOf(value["source"]); err != nil {
		return nil, broken(fmt.Errorf("source: %w", err))
	}
	return c, nil
}

// sourceOf fills a Source by the names of its fields in JSON.
func sourceOf(datum any) (s Source, err error) {
	record, _ := datum.(map[string]any)
	plain := make(map[string]any, len(record))
	for name, value := range record {
		plain[name] = inUnion(value)
	}
	text, err := json.Marshal(plain)
	if err == nil {
		err = json.Unmarshal(text, &s)
	}
	return s, err
}

// decode gives the fields of a key or a value. How it begins says where its schema is.
func (r *Reader) decode(ctx context.Context, what string, b []byte) (map[string]any, *codec, error) {
	if len(b) == 0 {
		return nil, nil, broken(fmt.Errorf("%s: expected an Avro datum, found none", what))
	}
	find := r.ofFingerprint
	if b[0] == 0 {
		find = r.ofID
	}
	c, datum, err := find(ctx, b)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", what, err)
	}
	record, err := c.decode(datum)
	if err != nil {
		return nil, nil, broken(fmt.Errorf("%s: %w", what, err))
	}
	return record, c, nil
}

// ofID finds the schema of a datum in Confluent's wire format.
func (r *Reader) ofID(ctx context.Context, b []byte) (*codec, []byte, error) {
	id, datum, err := registry.CutConfluentHeader(b)
	if err != nil {
		return nil, nil, broken(err)
	}
	if c := r.byID[id]; c != nil {
		return c, datum, nil
	}
	if r.registry == nil {
		return nil, nil, fmt.Errorf("its schema is number %d of a schema registry, and none is given; give registry-url", id)
	}
	text, err := r.registry.Schema(ctx, id)
	if response := (*sr.ResponseError)(nil); errors.As(err, &response) && response.StatusCode == 404 {
		return nil, nil, broken(err)
	}
	if err != nil {
		return nil, nil, err
	}
	c, err := newCodec(text)
	if err != nil {
		return nil, nil, broken(fmt.Errorf("schema %d: %w", id, err))
	}
	r.byID[id] = c
	return c, datum, nil
}

// ofFingerprint finds the schema of a datum in single-object encoding.
func (r *Reader) ofFingerprint(ctx context.Context, b []byte) (*codec, []byte, error) {
	fingerprint, datum, err := cutSingleObjectHeader(b)
	if err != nil {
		return nil, nil, broken(err)
	}
	if c := r.byFingerprint[fingerprint]; c != nil {
		return c, datum, nil
	}
	text, err := r.topic.schema(ctx, schemaKey(fingerprint))
	if err != nil {
		return nil, nil, err
	}
	if text == "" {
		return nil, nil, broken(fmt.Errorf("its schema %s is not in topic %s", schemaKey(fingerprint), r.topic.name))
	}
	c, err := newCodec(text)
	if err != nil {
		return nil, nil, broken(fmt.Errorf("schema %s: %w", schemaKey(fingerprint), err))
	}
	r.byFingerprint[fingerprint] = c
	return c, datum, nil
}
