package sink

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/linkedin/goavro/v2"

	"cassdelta/schema"
)

// codec decodes keys or values of one schema.
type codec struct {
	avro *goavro.Codec
	// columns are those of the key, or of an image, in order.
	columns []columnField
}

// columnField is a field of a record that is a column, or a field of a user type or a tuple.
type columnField struct {
	field string // in Avro
	name  string // in CQL
	typ   *schema.Type
	// nullable says that its type is a union with null.
	nullable bool
}

// newCodec makes a codec of the JSON text of a schema, that of a key or an envelope.
func newCodec(text string) (*codec, error) {
	var parsed any
	if err := json.Unmarshal([]byte(text), &parsed); err != nil {
		return nil, fmt.Errorf("schema is no JSON: %w", err)
	}
	record, _ := parsed.(map[string]any)
	image := record
	if before := fieldNamed(record, "before"); record["name"] == "Envelope" && before != nil {
		image = notNull(before["type"])
	}
	c := &codec{}
	fields, _ := image["fields"].([]any)
	for _, f := range fields {
		column, err := userTypes{}.fieldOf(f)
		if err != nil {
			return nil, fmt.Errorf("schema: %w", err)
		}
		c.columns = append(c.columns, column)
	}
	if len(c.columns) == 0 {
		return nil, errors.New("schema: expected a record of columns, or an envelope with such records in it")
	}
	// Without logical types a datum is the number that it is in the record. goavro's times do not reach as far.
	dropLogicalTypes(parsed)
	plain, err := json.Marshal(parsed)
	if err != nil {
		return nil, err
	}
	if c.avro, err = goavro.NewCodec(string(plain)); err != nil {
		return nil, fmt.Errorf("schema: %w", err)
	}
	return c, nil
}

func fieldNamed(record map[string]any, name string) map[string]any {
	fields, _ := record["fields"].([]any)
	for _, f := range fields {
		if field, _ := f.(map[string]any); field["name"] == name {
			return field
		}
	}
	return nil
}

// notNull is the branch of a union that is not null, or the type if it is no union.
func notNull(typ any) map[string]any {
	branches, ok := typ.([]any)
	if !ok {
		branches = []any{typ}
	}
	for _, branch := range branches {
		if object, ok := branch.(map[string]any); ok {
			return object
		}
	}
	return nil
}

func dropLogicalTypes(v any) {
	switch v := v.(type) {
	case map[string]any:
		delete(v, "logicalType")
		for _, part := range v {
			dropLogicalTypes(part)
		}
	case []any:
		for _, part := range v {
			dropLogicalTypes(part)
		}
	}
}

// decode gives the fields of the record that b is a datum of.
func (c *codec) decode(b []byte) (map[string]any, error) {
	datum, rest, err := c.avro.NativeFromBinary(b)
	if err != nil {
		return nil, err
	}
	record, ok := datum.(map[string]any)
	if !ok {
		return nil, fmt.Errorf("expected a record, found a %T", datum)
	}
	if len(rest) > 0 {
		return nil, fmt.Errorf("expected the end of the datum at byte %d, found %d more bytes", len(b)-len(rest), len(rest))
	}
	return record, nil
}

// image gives the columns of a key or an image, nil for nil.
func (c *codec) image(record map[string]any) ([]Field, error) {
	if record == nil {
		return nil, nil
	}
	fields := make([]Field, len(c.columns))
	for i, column := range c.columns {
		datum := record[column.field]
		if column.nullable {
			datum = inUnion(datum)
		}
		value, err := cqlValue(column.typ, datum)
		var text []byte
		if err == nil {
			text, err = column.typ.AppendJSON(nil, value)
		}
		if err != nil {
			return nil, fmt.Errorf("column %s: %w", column.name, err)
		}
		fields[i] = Field{Name: column.name, Type: column.typ, Value: value, JSON: string(text)}
	}
	return fields, nil
}

// inUnion gives the value in a union, nil for null. goavro gives such a value in a map by the name of its type. A value
// that is in none, and so is not null, it gives as it is.
func inUnion(datum any) any {
	if branch, ok := datum.(map[string]any); ok {
		for _, value := range branch {
			return value
		}
	}
	return datum
}
