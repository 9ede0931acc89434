package schema

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// avroConnector is source.connector: readers of Debezium's envelope look up by it what kind of source it is.
const avroConnector = "cassandra"

// The branches of a union of null and something else, as they stand in a datum.
const (
	avroNull  = 0x00
	avroValue = 0x02
)

// AvroError says that an event of a table cannot be written in Avro.
type AvroError struct {
	// Table is the full name. Column is empty if it is not about one column.
	Table, Column string
	Err           error
}

func (e *AvroError) Error() string {
	if e.Column == "" {
		return fmt.Sprintf("table %s: %v", e.Table, e.Err)
	}
	return fmt.Sprintf("table %s, column %s: %v", e.Table, e.Column, e.Err)
}

func (e *AvroError) Unwrap() error { return e.Err }

// AvroEncoder writes the keys and values of one table's clean topic. It is safe for concurrent use, and allocates
// nothing beyond what [Type.AppendAvro] does. All errors of its methods are an *[AvroError]; after one dst is unchanged but
// for its capacity.
type AvroEncoder struct {
	table   *Table
	statics bool // there are static rows
	// By the index of a column: whether its field is a union with null, and the field's name.
	nullable []bool
	names    []string
}

// NewAvroEncoder makes an encoder of the schemas that [AvroKeySchema] and [AvroValueSchema] give for t.
func NewAvroEncoder(t *Table) (*AvroEncoder, error) {
	if reason := t.Unsupported(); reason != "" {
		return nil, &AvroError{Table: t.FullName(), Err: errors.New(reason)}
	}
	e := &AvroEncoder{table: t, statics: avroStatics(t), nullable: make([]bool, len(t.Columns)), names: make([]string, len(t.Columns))}
	for i := range t.Columns {
		e.nullable[i], e.names[i] = avroNullable(t, &t.Columns[i]), AvroName(t.Columns[i].Name)
	}
	return e, nil
}

// AppendKey appends the key of a row: a value of each partition key and clustering column, in order. That of a static
// row has no clustering.
func (e *AvroEncoder) AppendKey(dst []byte, partition, clustering [][]byte, static bool) ([]byte, error) {
	t := e.table
	if len(partition) != t.partition {
		return dst, e.fail("expected %d values of the partition key, found %d", t.partition, len(partition))
	}
	if static && !e.statics {
		return dst, e.fail("it has no static columns, expected a row and not a static row")
	}
	if !static && len(clustering) != t.clustering-t.partition {
		return dst, e.fail("expected %d values of the clustering, found %d", t.clustering-t.partition, len(clustering))
	}
	out := dst
	for i := range t.clustering {
		var value []byte
		switch {
		case i < t.partition:
			value = partition[i]
		case static:
			out = append(out, avroNull)
			continue
		default:
			value = clustering[i-t.partition]
		}
		if value == nil {
			return dst, e.failColumn(i, errors.New("expected a value of the key, found null"))
		}
		if e.nullable[i] {
			out = append(out, avroValue)
		}
		var err error
		if out, err = t.Columns[i].Type.appendAvro(out, value, avroNesting{key: true}); err != nil {
			return dst, e.failColumn(i, err)
		}
	}
	return out, nil
}

// AppendImage appends a record Value: the key, and the other columns' values from image, which has an element for each
// of Table.Columns. Nil is null. So is an empty value of a type of which Avro has none: see [Type.AppendAvro].
func (e *AvroEncoder) AppendImage(dst []byte, partition, clustering [][]byte, static bool, image [][]byte) ([]byte, error) {
	t := e.table
	if len(image) != len(t.Columns) {
		return dst, e.fail("expected an image of %d columns, found %d", len(t.Columns), len(image))
	}
	out, err := e.AppendKey(dst, partition, clustering, static)
	if err != nil {
		return dst, err
	}
	for i := t.clustering; i < len(image); i++ {
		value, typ := image[i], t.Columns[i].Type
		if out, err = typ.appendAvroNullable(out, value, avroNesting{}); err != nil {
			return dst, e.failColumn(i, err)
		}
	}
	return out, nil
}

// AvroEnvelope is one event, the value of a record of a clean topic.
type AvroEnvelope struct {
	Partition [][]byte
	// Static marks a static row. Clustering is not looked at then.
	Static     bool
	Clustering [][]byte
	// Before and After are images as in [AvroEncoder.AppendImage], nil where the row does not exist.
	Before, After [][]byte
	Source        AvroSource
	// Op is c, u, d or r.
	Op byte
	// Time is when the event was made, in milliseconds since 1970; 0 is null.
	Time int64
}

// AvroSource is where an event comes from: the field source, but for what the table and the operation say.
type AvroSource struct {
	// Version is that of this program, Name the topic prefix, Cluster the name of the Cassandra cluster.
	Version, Name, Cluster string
	// Timestamp is the write time of the change in microseconds.
	Timestamp int64
	// Host is the node whose commit log the change was read from first; Segment, Position and Index say where there.
	Host              UUID
	Segment, Position int64
	Index             int32
	// RawPartition, RawOffset and RawIndex say which event of which raw record it is.
	RawPartition int32
	RawOffset    int64
	RawIndex     int64
	// Complete is false while the row's past may not be known.
	Complete bool
	// Reason is what made the change.
	Reason string
	// Changed are the indexes of the columns that changed.
	Changed []int
}

// AppendEnvelope appends a record Envelope.
func (e *AvroEncoder) AppendEnvelope(dst []byte, v *AvroEnvelope) ([]byte, error) {
	out, err := e.appendOptionalImage(dst, v, v.Before)
	if err == nil {
		out, err = e.appendOptionalImage(out, v, v.After)
	}
	if err != nil {
		return dst, err
	}
	out = e.appendSource(out, &v.Source, v.Op == 'r')
	out = append(out, 1<<1, v.Op)
	if v.Time == 0 {
		return append(out, avroNull), nil
	}
	return binary.AppendVarint(append(out, avroValue), v.Time), nil
}

func (e *AvroEncoder) appendOptionalImage(dst []byte, v *AvroEnvelope, image [][]byte) ([]byte, error) {
	if image == nil {
		return append(dst, avroNull), nil
	}
	return e.AppendImage(append(dst, avroValue), v.Partition, v.Clustering, v.Static, image)
}

// appendSource writes avroSourceFields.
func (e *AvroEncoder) appendSource(dst []byte, s *AvroSource, snapshot bool) []byte {
	millis := s.Timestamp / 1000
	if s.Timestamp%1000 < 0 {
		millis--
	}
	dst = appendAvroString(dst, s.Version)
	dst = appendAvroString(dst, avroConnector)
	dst = appendAvroString(dst, s.Name)
	dst = binary.AppendVarint(dst, millis)
	dst = append(dst, avroValue)
	if snapshot {
		dst = appendAvroString(dst, "true")
	} else {
		dst = appendAvroString(dst, "false")
	}
	dst = appendAvroString(dst, e.table.Keyspace)
	dst = append(dst, avroNull) // sequence: raw_partition, raw_offset and raw_index say it
	dst = binary.AppendVarint(dst, s.Timestamp)
	dst = appendAvroString(dst, e.table.Keyspace)
	dst = appendAvroString(dst, e.table.Name)
	dst = appendAvroString(dst, s.Cluster)
	dst = appendAvroUUID(dst, s.Host)
	dst = binary.AppendVarint(dst, s.Segment)
	dst = binary.AppendVarint(dst, s.Position)
	dst = binary.AppendVarint(dst, int64(s.Index))
	dst = binary.AppendVarint(dst, int64(s.RawPartition))
	dst = binary.AppendVarint(dst, s.RawOffset)
	dst = binary.AppendVarint(dst, s.RawIndex)
	dst = appendAvroBool(dst, s.Complete)
	dst = appendAvroString(dst, s.Reason)
	if len(s.Changed) > 0 {
		dst = binary.AppendVarint(dst, int64(len(s.Changed)))
		for _, column := range s.Changed {
			dst = appendAvroString(dst, e.names[column])
		}
	}
	return append(dst, 0) // the end of the array
}

func (e *AvroEncoder) fail(format string, args ...any) error {
	return &AvroError{Table: e.table.FullName(), Err: fmt.Errorf(format, args...)}
}

func (e *AvroEncoder) failColumn(i int, err error) error {
	return &AvroError{Table: e.table.FullName(), Column: e.table.Columns[i].Name, Err: err}
}
