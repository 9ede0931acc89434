package schema

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
)

// The Avro schemas of a clean topic. docs/clean-topic.md is their contract.
//
// Types are those that readers of Debezium's envelope take: no enum and no fixed, which Flink refuses, no
// timestamp-micros and no decimal, which some read wrongly without saying so. What Avro has no fitting type for is text
// in CQL's form. Each type of a column carries the attribute "cql", so that a reader needs nothing but the topic to know
// what it was. The records' names, <namespace>.Key and <namespace>.Envelope, are those by which Debezium's transforms know
// them (Envelope.isEnvelopeSchema, SmtManager).
//
// The text is always the same for the same columns, so that registering it again makes no new version. Under a
// registry's BACKWARD rule columns other than those of the key can come and go: they are nullable, null by default.

// AvroKeySchema is the schema of the keys: a record Key with the columns of the primary key. In a table that has, or
// once had, static columns those of the clustering are nullable: they are null in the key of a static row. The table
// must be one that [Table.Unsupported] has nothing against.
func AvroKeySchema(t *Table, prefix string) string {
	w := avroWriter{namespace: AvroNamespace(prefix, t)}
	w.record("Key", func() { w.columns(t, t.Columns[:t.clustering]) })
	return w.String()
}

// AvroValueSchema is the schema of the values: a record Envelope with the images of a row, of which each is a record
// Value with all columns of the table. The table must be one that [Table.Unsupported] has nothing against.
func AvroValueSchema(t *Table, prefix string) string {
	w := avroWriter{namespace: AvroNamespace(prefix, t)}
	w.record("Envelope", func() {
		w.nullable("before", func() {
			w.record("Value", func() { w.columns(t, t.Columns) })
		})
		w.nullable("after", w.text(`"Value"`))
		w.field("source", func() {
			w.record("Source", func() {
				for _, f := range avroSourceFields {
					if f.nullable {
						w.nullable(f.name, w.text(`"`+f.avro+`"`))
					} else {
						w.field(f.name, w.text(`"`+f.avro+`"`))
					}
				}
				w.begin("changed")
				w.WriteString(`,"type":{"type":"array","items":"string"},"default":[]}`)
			})
		})
		w.field("op", w.text(`"string"`))
		w.nullable("ts_ms", w.text(`"long"`))
	})
	return w.String()
}

// avroSourceFields are the fields of the record Source, but for the last, in the order in which
// [AvroEncoder.AppendEnvelope] writes them. The first seven are what Debezium's connectors have in common.
var avroSourceFields = []struct {
	name, avro string
	nullable   bool
}{
	{"version", "string", false},
	{"connector", "string", false},
	{"name", "string", false},
	{"ts_ms", "long", false},
	{"snapshot", "string", true},
	{"db", "string", false},
	{"sequence", "string", true},
	{"ts_us", "long", false},
	{"keyspace", "string", false},
	{"table", "string", false},
	{"cluster", "string", false},
	{"host", "string", false},
	{"segment", "long", false},
	{"position", "long", false},
	{"index", "int", false},
	{"raw_partition", "int", false},
	{"raw_offset", "long", false},
	{"raw_index", "long", false},
	{"complete", "boolean", false},
	{"reason", "string", false},
}

// avroNullable reports whether a column's field is a union with null.
func avroNullable(t *Table, c *Column) bool {
	return c.Kind >= Static || c.Kind == Clustering && avroStatics(t)
}

// avroStatics reports whether there are static rows. A table whose static columns are all dropped still has them in its
// topic, and a key schema that did not allow for them would not be compatible with the one before.
func avroStatics(t *Table) bool {
	return len(t.StaticColumns()) > 0 || slices.ContainsFunc(t.Dropped, func(d DroppedColumn) bool { return d.Kind == Static })
}

// avroType is a native type as Avro names it, and its logical type if it has one that readers take.
func avroType(k Kind) (name, logical string) {
	switch k {
	case KindASCII, KindText, KindInet, KindDecimal, KindVarint, KindDuration:
		return "string", ""
	case KindUUID, KindTimeuuid:
		return "string", "uuid"
	case KindBigint, KindCounter, KindTime:
		return "long", ""
	case KindTimestamp:
		return "long", "timestamp-millis"
	case KindInt, KindSmallint, KindTinyint:
		return "int", ""
	case KindDate:
		return "int", "date"
	case KindBoolean:
		return "boolean", ""
	case KindFloat:
		return "float", ""
	case KindDouble:
		return "double", ""
	}
	return "bytes", ""
}

// avroWriter writes the JSON text of a schema.
type avroWriter struct {
	strings.Builder
	// namespace is written with the outermost record, the others inherit it.
	namespace string
	records   int
	separate  bool // a field has been written before in this record
}

func (w *avroWriter) record(name string, fields func()) {
	w.WriteString(`{"type":"record","name":"` + name + `"`)
	if w.records++; w.records == 1 {
		w.WriteString(`,"namespace":"` + w.namespace + `"`)
	}
	w.WriteString(`,"fields":[`)
	w.separate = false
	fields()
	w.separate = true
	w.WriteString(`]}`)
}

// begin begins a field.
func (w *avroWriter) begin(name string) {
	if w.separate {
		w.WriteByte(',')
	}
	w.separate = true
	w.WriteString(`{"name":"` + name + `"`)
}

func (w *avroWriter) field(name string, typ func()) {
	w.begin(name)
	w.WriteString(`,"type":`)
	typ()
	w.WriteByte('}')
}

func (w *avroWriter) nullable(name string, typ func()) {
	w.begin(name)
	w.nullableType(typ)
	w.WriteByte('}')
}

func (w *avroWriter) nullableType(typ func()) {
	w.WriteString(`,"type":["null",`)
	typ()
	w.WriteString(`],"default":null`)
}

func (w *avroWriter) text(s string) func() { return func() { w.WriteString(s) } }

func (w *avroWriter) columns(t *Table, columns []Column) {
	for i := range columns {
		c := &columns[i]
		w.named(c.Name, c.Type, avroNullable(t, c), w.namespace)
	}
}

// named writes a field that has the name and the value of a column, or of a field of a user type. Records in its type are
// in the namespace that the name makes of that of the record around it.
func (w *avroWriter) named(name string, t *Type, nullable bool, namespace string) {
	field := AvroName(name)
	w.begin(field)
	typ := func() { w.value(t, namespace+"."+field) }
	if nullable {
		w.nullableType(typ)
	} else {
		w.WriteString(`,"type":`)
		typ()
	}
	if field != name {
		w.WriteString(`,"cql.name":` + jsonText(name))
	}
	w.WriteByte('}')
}

func jsonText(s string) string {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	_ = e.Encode(s) // a string always can be
	return strings.TrimSuffix(b.String(), "\n")
}
