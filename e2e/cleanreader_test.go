package e2e

import (
	"context"
	"fmt"
	"math/big"
	"strconv"
	"time"

	"github.com/linkedin/goavro/v2"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sr"
)

// cleanTopic is the clean topic of a table.
func cleanTopic(t *table) string { return cleanPrefix + "." + t.fullName() }

// cleanReader decodes records of the clean topics as any consumer does: Confluent's wire format, the schema from the
// registry, Avro by goavro.
type cleanReader struct {
	registry *sr.Client
	codecs   map[int]*goavro.Codec
}

func newCleanReader(url string) (*cleanReader, error) {
	client, err := sr.NewClient(sr.URLs(url))
	if err != nil {
		return nil, err
	}
	return &cleanReader{client, map[int]*goavro.Codec{}}, nil
}

// decode decodes a key or a value.
func (c *cleanReader) decode(ctx context.Context, b []byte) (avroRecord, error) {
	id, payload, err := new(sr.ConfluentHeader).DecodeID(b)
	if err != nil {
		return avroRecord{}, fmt.Errorf("%x: %w", b[:min(len(b), 10)], err)
	}
	codec := c.codecs[id]
	if codec == nil {
		schema, err := c.registry.SchemaByID(ctx, id)
		if err != nil {
			return avroRecord{}, fmt.Errorf("schema %d: %w", id, err)
		}
		if codec, err = goavro.NewCodec(schema.Schema); err != nil {
			return avroRecord{}, fmt.Errorf("schema %d: %w", id, err)
		}
		c.codecs[id] = codec
	}
	datum, rest, err := codec.NativeFromBinary(payload)
	if err != nil {
		return avroRecord{}, fmt.Errorf("with schema %d: %w", id, err)
	}
	fields, ok := datum.(map[string]any)
	if !ok || len(rest) > 0 {
		return avroRecord{}, fmt.Errorf("with schema %d: expected a record, found a %T and %d bytes more", id, datum, len(rest))
	}
	return avroRecord{fields}, nil
}

// event reads a record of a clean topic.
func (c *cleanReader) event(ctx context.Context, r *kgo.Record) (*event, error) {
	var t *table
	for _, candidate := range tracked() {
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
