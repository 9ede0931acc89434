package e2e

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"

	"github.com/linkedin/goavro/v2"

	"cassdelta/internal/rawtopic"
)

// rawRecord is a raw record as goavro reads it with the raw topic's published schema. The product's own decoder has no
// part in it.
type rawRecord struct {
	place rawPlace
	// kind is the name of the branch: Data, Part, Init, Schema, ...
	kind       string
	data       *rawData
	part       *rawPart
	definition *rawDefinition // of a Schema
	init       *rawInit
	watermark  int64 // of a Tick, in microseconds
}

type rawInit struct {
	cluster    string
	partitions int32
	version    int32
}

// rawOrigin says where an update stood.
type rawOrigin struct {
	host            string // hexadecimal digits
	segment, offset int64
	update          int32
}

func (o rawOrigin) String() string {
	return fmt.Sprintf("host %.8s segment %d offset %d update %d", o.host, o.segment, o.offset, o.update)
}

type rawPart struct {
	origin       rawOrigin
	index, count int32
	bytes        []byte
}

// noDeletion is the write time of a deletion or liveness that is not there.
const noDeletion = math.MinInt64

type rawDeletion struct{ timestamp, localTime int64 }

type rawData struct {
	origin   rawOrigin
	schema   string // hash in hexadecimal digits
	key      []byte
	deletion rawDeletion
	static   *rawRow
	rows     []*rawRow
}

type rawRow struct {
	clustering []cqlValue
	liveness   int64 // noDeletion if there is none
	deletion   rawDeletion
	cells      []rawCell
	// expires says that the liveness or a cell has a TTL.
	expires bool
}

type rawCell struct {
	column    int
	timestamp int64
	localTime int64
	value     cqlValue // nil for a tombstone
}

// timestamps calls f with all write times in the update.
func (d *rawData) timestamps(f func(int64)) {
	one := func(ts int64) {
		if ts != noDeletion {
			f(ts)
		}
	}
	one(d.deletion.timestamp)
	rows := d.rows
	if d.static != nil {
		rows = append(rows[:len(rows):len(rows)], d.static)
	}
	for _, row := range rows {
		one(row.liveness)
		one(row.deletion.timestamp)
		for _, c := range row.cells {
			one(c.timestamp)
		}
	}
}

// rawDefinition is the part of a table definition that numbers the columns.
type rawDefinition struct {
	hash            string
	keyspace, table string
	columns         []string
}

// rawCodec is goavro's codec of the raw topic.
type rawCodec struct{ codec *goavro.Codec }

func newRawCodec() (*rawCodec, error) {
	codec, err := goavro.NewCodec(rawtopic.AvroSchema)
	if err != nil {
		return nil, fmt.Errorf("schema of the raw topic: %w", err)
	}
	return &rawCodec{codec}, nil
}

// decode decodes the value of a Kafka record: single-object encoding of the union of all kinds.
func (c *rawCodec) decode(place rawPlace, value []byte) (*rawRecord, error) {
	datum, rest, err := c.codec.NativeFromSingle(value)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", place, err)
	}
	if len(rest) > 0 {
		return nil, fmt.Errorf("%s: %d bytes after the record", place, len(rest))
	}
	union, ok := datum.(map[string]any)
	if !ok || len(union) != 1 {
		return nil, fmt.Errorf("%s: expected one branch of a union, found %T", place, datum)
	}
	r := &rawRecord{place: place}
	for branch, fields := range union {
		r.kind = strings.TrimPrefix(branch, "cassdelta.raw.")
		err = r.fill(avroRecord{fields.(map[string]any)})
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %s: %w", place, r.kind, err)
	}
	return r, nil
}

func (r *rawRecord) fill(f avroRecord) (err error) {
	switch r.kind {
	case "Data":
		r.data, err = f.data()
	case "Part":
		r.part = &rawPart{f.record("origin").origin(), f.int("index"), f.int("count"), f.bytes("bytes")}
	case "Init":
		r.init = &rawInit{f.fields["cluster"].(string), f.int("partitions"), f.int("version")}
	case "Tick":
		r.watermark = f.long("watermark")
	case "Schema":
		r.definition, err = parseDefinition(hex.EncodeToString(f.bytes("hash")), f.fields["definition"].(string))
	}
	return err
}

// avroRecord reads the fields of a record in goavro's native form: a union is nil or a map of one branch. A field that is
// not there panics: goavro gives what the schema says.
type avroRecord struct{ fields map[string]any }

func (a avroRecord) int(name string) int32    { return a.fields[name].(int32) }
func (a avroRecord) long(name string) int64   { return a.fields[name].(int64) }
func (a avroRecord) bytes(name string) []byte { return a.fields[name].([]byte) }
func (a avroRecord) record(name string) avroRecord {
	return avroRecord{a.fields[name].(map[string]any)}
}

// optional gives the value of a union with null, nil for null.
func (a avroRecord) optional(name string) any { return inUnion(a.fields[name]) }

func inUnion(v any) any {
	if branches, ok := v.(map[string]any); ok {
		for _, value := range branches {
			return value
		}
	}
	return nil
}

func (a avroRecord) optionalRecord(name string) (avroRecord, bool) {
	fields, ok := a.optional(name).(map[string]any)
	return avroRecord{fields}, ok
}

func (a avroRecord) records(name string) []avroRecord {
	var list []avroRecord
	for _, item := range a.fields[name].([]any) {
		list = append(list, avroRecord{item.(map[string]any)})
	}
	return list
}

func (a avroRecord) origin() rawOrigin {
	return rawOrigin{hex.EncodeToString(a.bytes("host")), a.long("segment"), a.long("offset"), a.int("update")}
}

func (a avroRecord) deletion() rawDeletion {
	if d, ok := a.optionalRecord("deletion"); ok {
		return rawDeletion{d.long("timestamp"), d.long("local_time")}
	}
	return rawDeletion{timestamp: noDeletion}
}

func (a avroRecord) data() (*rawData, error) {
	d := &rawData{
		origin:   a.record("origin").origin(),
		schema:   hex.EncodeToString(a.bytes("schema")),
		key:      a.bytes("key"),
		deletion: a.deletion(),
	}
	if len(a.records("ranges")) > 0 {
		return nil, errors.New("it has range tombstones, which the workload makes none of")
	}
	if static, ok := a.optionalRecord("static"); ok {
		row, err := static.row()
		if err != nil {
			return nil, err
		}
		d.static = row
	}
	for _, r := range a.records("rows") {
		row, err := r.row()
		if err != nil {
			return nil, err
		}
		d.rows = append(d.rows, row)
	}
	return d, nil
}

func (a avroRecord) row() (*rawRow, error) {
	row := &rawRow{liveness: noDeletion, deletion: a.deletion()}
	for _, v := range a.fields["clustering"].([]any) {
		b, _ := inUnion(v).([]byte)
		row.clustering = append(row.clustering, b)
	}
	if l, ok := a.optionalRecord("liveness"); ok {
		row.liveness = l.long("timestamp")
		row.expires = l.int("ttl") != 0 || l.optional("expires_at") != nil
	}
	if len(a.records("complex_deletions")) > 0 {
		return nil, errors.New("it has complex deletions, and no table has multi-cell columns")
	}
	for _, c := range a.records("cells") {
		cell := rawCell{column: int(c.int("column")), timestamp: c.long("timestamp")}
		cell.localTime, _ = c.optional("local_time").(int64)
		if v, ok := c.optional("value").([]byte); ok {
			if v == nil {
				v = []byte{}
			}
			cell.value = v
		}
		if c.optional("path") != nil {
			return nil, errors.New("a cell has a path, and no table has multi-cell columns")
		}
		if c.int("ttl") != 0 {
			row.expires = true
		} else if (cell.value == nil) != (c.optional("local_time") != nil) {
			return nil, errors.New("a cell must have either a value or, as a tombstone, a local deletion time")
		}
		row.cells = append(row.cells, cell)
	}
	return row, nil
}

// parseDefinition reads the JSON text of a schema record.
func parseDefinition(hash, definition string) (*rawDefinition, error) {
	var d struct {
		Keyspace string `json:"keyspace"`
		Table    string `json:"table"`
		Columns  []struct {
			Name string `json:"name"`
		} `json:"columns"`
	}
	if err := json.Unmarshal([]byte(definition), &d); err != nil {
		return nil, fmt.Errorf("definition: %w", err)
	}
	if d.Keyspace == "" || d.Table == "" || len(d.Columns) == 0 {
		return nil, fmt.Errorf("definition %s lacks a keyspace, a table or columns", definition)
	}
	r := &rawDefinition{hash: hash, keyspace: d.Keyspace, table: d.Table}
	for _, c := range d.Columns {
		r.columns = append(r.columns, c.Name)
	}
	return r, nil
}

// assembler puts parts together. It is for one raw partition.
type assembler map[rawOrigin][]*rawPart

// add takes a part; whole is the encoding of the record once its last part is there.
func (a assembler) add(p *rawPart) (whole []byte, err error) {
	parts := a[p.origin]
	if int(p.index) > len(parts) || p.count < 2 || p.index >= p.count {
		return nil, fmt.Errorf("part %d of %d of %s after %d parts", p.index, p.count, p.origin, len(parts))
	}
	// An agent that was killed in the middle begins again with part 0.
	parts = append(parts[:p.index:p.index], p)
	a[p.origin] = parts
	if len(parts) < int(p.count) {
		return nil, nil
	}
	delete(a, p.origin)
	for _, part := range parts {
		whole = append(whole, part.bytes...)
	}
	return whole, nil
}
