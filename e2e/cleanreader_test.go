package e2e

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math/big"
	"slices"
	"strconv"
	"time"

	"github.com/linkedin/goavro/v2"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sr"
)

// cleanTopic is the clean topic of a table.
func cleanTopic(t *table) string { return cleanPrefix + "." + t.fullName() }

// cleanReader decodes records of the clean topics as any consumer does: Confluent's wire format with the schema from the
// registry, or Avro's single-object encoding with that from the topic of schemas; Avro by goavro.
type cleanReader struct {
	// split takes a key or value apart: the name of its schema, and the datum.
	split func(b []byte) (name string, datum []byte, err error)
	// text is the schema of a name.
	text   func(ctx context.Context, name string) (string, error)
	codecs map[string]*goavro.Codec
}

// newCleanReader reads by the registry at a URL.
func newCleanReader(url string) (*cleanReader, error) {
	client, err := sr.NewClient(sr.URLs(url))
	if err != nil {
		return nil, err
	}
	return &cleanReader{
		split: func(b []byte) (string, []byte, error) {
			id, datum, err := new(sr.ConfluentHeader).DecodeID(b)
			return strconv.Itoa(id), datum, err
		},
		text: func(ctx context.Context, name string) (string, error) {
			id, err := strconv.Atoi(name)
			if err != nil {
				return "", err
			}
			schema, err := client.SchemaByID(ctx, id)
			return schema.Schema, err
		},
		codecs: map[string]*goavro.Codec{},
	}, nil
}

// newSchemaTopicReader reads by the topic of schemas.
func newSchemaTopicReader(brokers []string) *cleanReader {
	topic := &schemaTopic{brokers, map[string]string{}}
	return &cleanReader{
		split: func(b []byte) (string, []byte, error) {
			if len(b) < 10 || b[0] != 0xc3 || b[1] != 0x01 {
				return "", nil, errors.New("no single-object encoding")
			}
			return fmt.Sprintf("%016x", binary.LittleEndian.Uint64(b[2:])), b[10:], nil
		},
		text:   topic.text,
		codecs: map[string]*goavro.Codec{},
	}
}

// schemaTopic is the topic of schemas, as far as it was read.
type schemaTopic struct {
	brokers []string
	texts   map[string]string // by fingerprint, in hexadecimal digits
}

// text is the schema with a fingerprint.
func (s *schemaTopic) text(ctx context.Context, fingerprint string) (string, error) {
	if text, ok := s.texts[fingerprint]; ok {
		return text, nil
	}
	client, err := kgo.NewClient(kgo.SeedBrokers(s.brokers...), kgo.ConsumeTopics(cleanPrefix+".schemas"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		return "", err
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for s.texts[fingerprint] == "" {
		fetches := client.PollFetches(ctx)
		if ctx.Err() != nil {
			return "", fmt.Errorf("it is not in the topic of schemas, which has %v: %w", slices.Sorted(maps.Keys(s.texts)), ctx.Err())
		}
		fetches.EachRecord(func(r *kgo.Record) { s.texts[string(r.Key)] = string(r.Value) })
	}
	return s.texts[fingerprint], nil
}

// decode decodes a key or a value.
func (c *cleanReader) decode(ctx context.Context, b []byte) (avroRecord, error) {
	name, payload, err := c.split(b)
	if err != nil {
		return avroRecord{}, fmt.Errorf("%x: %w", b[:min(len(b), 10)], err)
	}
	codec := c.codecs[name]
	if codec == nil {
		schema, err := c.text(ctx, name)
		if err != nil {
			return avroRecord{}, fmt.Errorf("schema %s: %w", name, err)
		}
		if codec, err = goavro.NewCodec(schema); err != nil {
			return avroRecord{}, fmt.Errorf("schema %s: %w", name, err)
		}
		c.codecs[name] = codec
	}
	datum, rest, err := codec.NativeFromBinary(payload)
	if err != nil {
		return avroRecord{}, fmt.Errorf("with schema %s: %w", name, err)
	}
	fields, ok := datum.(map[string]any)
	if !ok || len(rest) > 0 {
		return avroRecord{}, fmt.Errorf("with schema %s: expected a record, found a %T and %d bytes more", name, datum, len(rest))
	}
	return avroRecord{fields}, nil
}

// event reads a record of a clean topic.
func (c *cleanReader) event(ctx context.Context, r *kgo.Record) (*event, error) {
	var t *table
	for _, candidate := range append(tracked(), fleeting) {
		if r.Topic == cleanTopic(candidate) {
			t = candidate
		}
	}
	if t == nil {
		return nil, fmt.Errorf("no table has the topic %s", r.Topic)
	}
	key, err := c.decode(ctx, r.Key)
	if err != nil {
		return nil, fmt.Errorf("key: %w", err)
	}
	value, err := c.decode(ctx, r.Value)
	if err != nil {
		return nil, fmt.Errorf("value: %w", err)
	}
	e := &event{partition: r.Partition, offset: r.Offset}
	if e.row, err = rowOf(t, key); err != nil {
		return nil, fmt.Errorf("key: %w", err)
	}
	e.op, _ = value.fields["op"].(string)
	if e.before, err = imageOf(t, e.row, value, "before"); err != nil {
		return nil, err
	}
	if e.after, err = imageOf(t, e.row, value, "after"); err != nil {
		return nil, err
	}
	source := value.record("source")
	e.timestamp = source.long("ts_us")
	e.complete, _ = source.fields["complete"].(bool)
	e.reason, _ = source.fields["reason"].(string)
	for _, h := range r.Headers {
		n, err := strconv.ParseInt(string(h.Value), 10, 64)
		switch h.Key {
		case "cassdelta.raw.partition":
			e.cause.partition = int32(n)
		case "cassdelta.raw.offset":
			e.cause.offset = n
		case "cassdelta.index":
			e.index = n
		default:
			err = nil
		}
		if err != nil {
			return nil, fmt.Errorf("header %s: %w", h.Key, err)
		}
	}
	return e, nil
}

// rowOf reads the primary key. Null clustering is that of a static row.
func rowOf(t *table, key avroRecord) (rowID, error) {
	id := rowID{table: t.name}
	var err error
	if id.partition, err = keyOf(t.partition, key); err != nil {
		return id, err
	}
	if len(t.clustering) > 0 && key.fields[t.clustering[0].name] == nil {
		for _, c := range t.clustering {
			if v := key.fields[c.name]; v != nil {
				return id, fmt.Errorf("column %s is %v, and the first clustering column is null", c.name, v)
			}
		}
		id.static = true
		return id, nil
	}
	id.clustering, err = keyOf(t.clustering, key)
	return id, err
}

func keyOf(columns []column, key avroRecord) (string, error) {
	list := ""
	for i, c := range columns {
		s, err := avroText(c.typ, key.fields[c.name])
		if err != nil {
			return "", fmt.Errorf("column %s: %w", c.name, err)
		}
		if i > 0 {
			list += ", "
		}
		list += s
	}
	return list, nil
}

// imageOf reads before or after: nil if it is null. The primary key stands in it too, and must be that of the row.
// Of the other columns those of the row's own kind may have values: a row has no statics, a static row nothing else.
func imageOf(t *table, id rowID, value avroRecord, which string) (image, error) {
	fields, ok := value.optionalRecord(which)
	if !ok {
		return nil, nil
	}
	if row, err := rowOf(t, fields); err != nil || row != id {
		return nil, fmt.Errorf("%s: its key is that of %s, %v; the record's is %s", which, row, err, id)
	}
	im := image{}
	for _, c := range append(t.statics[:len(t.statics):len(t.statics)], t.regular...) {
		v, ok := fields.fields[c.name]
		if !ok {
			return nil, fmt.Errorf("%s lacks the column %s", which, c.name)
		}
		if v == nil {
			continue
		}
		if t.isStatic(c.name) != id.static {
			return nil, fmt.Errorf("%s of %s has a value of %s, which is not of its kind", which, id, c.name)
		}
		s, err := avroText(c.typ, v)
		if err != nil {
			return nil, fmt.Errorf("%s, column %s: %w", which, c.name, err)
		}
		im[c.name] = s
	}
	return im, nil
}

// avroText is the text of a value as goavro gives it: by its Avro type and logical type, within a union or not.
func avroText(typ string, v any) (string, error) {
	if branches, ok := v.(map[string]any); ok {
		v = inUnion(branches)
	}
	switch v := v.(type) {
	case int32:
		return strconv.FormatInt(int64(v), 10), nil
	case int64:
		return strconv.FormatInt(v, 10), nil
	case bool:
		return strconv.FormatBool(v), nil
	case float32:
		return floatText(float64(v), 32), nil
	case float64:
		return floatText(v, 64), nil
	case []byte:
		return "0x" + fmt.Sprintf("%x", v), nil
	case string:
		switch typ {
		case "ascii", "text":
			return strconv.Quote(v), nil
		case "decimal":
			return parseDecimal(v)
		}
		return v, nil
	case time.Time:
		if typ == "date" {
			return v.UTC().Format(time.DateOnly), nil
		}
		return strconv.FormatInt(v.UnixMilli(), 10) + "ms", nil
	case *big.Rat:
		return v.RatString(), nil
	}
	return "", fmt.Errorf("a %T for the type %s", v, typ)
}
