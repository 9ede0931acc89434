package sink

import (
	"encoding/json"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"cassdelta/schema"
)

// Change is an event as a reader of a clean topic sees it.
type Change struct {
	Topic     string
	Partition int32
	Offset    int64
	// Op is c, u, d or r.
	Op string
	// Key is the primary key, in order.
	Key []Field
	// Before and After are the images of the row, in the order of the schema: the key, static columns, other columns. Nil
	// where the row does not exist.
	Before, After []Field
	Source        Source
	// Time is when the event was made; zero if the event does not say.
	Time    time.Time
	Headers []kgo.RecordHeader
}

// Field is a column with its value.
type Field struct {
	// Name is the column's, as in CQL without quotes.
	Name string
	Type *schema.Type
	// Value is in CQL's binary form; nil is null.
	Value []byte
	// JSON is the value as SELECT JSON prints it.
	JSON string
}

// Source is where an event comes from. What a schema does not have is zero.
type Source struct {
	Version   string `json:"version"`
	Connector string `json:"connector"`
	Name      string `json:"name"`
	// Millis and Micros are the write time of the change, in milliseconds and microseconds since 1970.
	Millis   int64   `json:"ts_ms"`
	Snapshot *string `json:"snapshot"`
	DB       string  `json:"db"`
	Sequence *string `json:"sequence"`
	Micros   int64   `json:"ts_us"`
	Keyspace string  `json:"keyspace"`
	Table    string  `json:"table"`
	Cluster  string  `json:"cluster"`
	// Host, Segment, Position and Index are where the change was read first.
	Host     string `json:"host"`
	Segment  int64  `json:"segment"`
	Position int64  `json:"position"`
	Index    int32  `json:"index"`
	// RawPartition, RawOffset and RawIndex say which event of which raw record it is.
	RawPartition int32 `json:"raw_partition"`
	RawOffset    int64 `json:"raw_offset"`
	RawIndex     int64 `json:"raw_index"`
	// Complete is false while the row's past may not be known.
	Complete bool   `json:"complete"`
	Reason   string `json:"reason"`
	// Changed are the fields of the images whose cells changed.
	Changed []string `json:"changed"`
}

// Static reports whether it is a change of the static row of a partition, whose clustering is null.
func (c *Change) Static() bool {
	for _, f := range c.Key {
		if f.Value == nil {
			return true
		}
	}
	return false
}

// MarshalJSON gives the fields of the envelope, and before them topic and key. Values of columns are as SELECT JSON
// prints them.
func (c *Change) MarshalJSON() ([]byte, error) {
	source, err := json.Marshal(&c.Source)
	if err != nil {
		return nil, err
	}
	dst := appendString([]byte(`{"topic":`), c.Topic)
	dst = appendFields(append(dst, `,"key":`...), c.Key)
	dst = appendFields(append(dst, `,"before":`...), c.Before)
	dst = appendFields(append(dst, `,"after":`...), c.After)
	dst = append(append(dst, `,"source":`...), source...)
	dst = appendString(append(dst, `,"op":`...), c.Op)
	dst = append(dst, `,"ts_ms":`...)
	if c.Time.IsZero() {
		return append(dst, `null}`...), nil
	}
	millis, err := json.Marshal(c.Time.UnixMilli())
	return append(append(dst, millis...), '}'), err
}

func appendFields(dst []byte, fields []Field) []byte {
	if fields == nil {
		return append(dst, "null"...)
	}
	dst = append(dst, '{')
	for i, f := range fields {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(appendString(dst, f.Name), ':')
		dst = append(dst, f.JSON...)
	}
	return append(dst, '}')
}

func appendString(dst []byte, s string) []byte {
	text, _ := json.Marshal(s) // a string always can be
	return append(dst, text...)
}
