package schema

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
)

// AvroName turns any name into one that Avro allows ([A-Za-z_][A-Za-z0-9_]*), different names into different ones.
//
// A name that Avro allows stays as it is. Otherwise each character that is not allowed becomes _X, its code point in
// upper-case hexadecimal digits, and _: "total (net)" is total_X20__X28_net_X29_. So that no other name looks like
// that, an underscore is written in this way too where X and a hexadecimal digit or an underscore come after it. The
// empty name becomes _X_.
func AvroName(name string) string {
	if name == "" {
		return "_X_"
	}
	var b strings.Builder
	for i, c := range name {
		switch {
		case c == '_' && !looksEscaped(name[i:]), c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', i > 0 && c >= '0' && c <= '9':
			b.WriteRune(c)
		default:
			fmt.Fprintf(&b, "_X%X_", c)
		}
	}
	return b.String()
}

// looksEscaped reports whether text begins as an escape of AvroName does.
func looksEscaped(text string) bool {
	if len(text) < 3 || text[1] != 'X' {
		return false
	}
	c := text[2]
	return c >= '0' && c <= '9' || c >= 'A' && c <= 'F' || c == '_'
}

// AvroNamespace is the namespace of a table's schemas: the topic prefix, the keyspace and the table, each made legal by
// [AvroName]. Of a prefix with dots each part is.
func AvroNamespace(prefix string, t *Table) string {
	var b strings.Builder
	for part := range strings.SplitSeq(prefix, ".") {
		if part != "" {
			b.WriteString(AvroName(part))
			b.WriteByte('.')
		}
	}
	return b.String() + AvroName(t.Keyspace) + "." + AvroName(t.Name)
}

// AvroCanonical is the parsing canonical form of a schema, as Avro's specification defines it: what decides how data is
// read, and nothing else. Attributes, defaults and documentation are not part of it.
func AvroCanonical(schema string) (string, error) {
	var v any
	if err := json.Unmarshal([]byte(schema), &v); err != nil {
		return "", fmt.Errorf("avro schema: %w", err)
	}
	b, err := appendCanonical(nil, v, "")
	if err != nil {
		return "", fmt.Errorf("avro schema: %w", err)
	}
	return string(b), nil
}

// appendCanonical writes a schema that stands in the namespace of the named type around it.
func appendCanonical(dst []byte, schema any, namespace string) ([]byte, error) {
	switch s := schema.(type) {
	case string:
		if !avroPrimitive(s) {
			s = avroFullName(s, namespace)
		}
		return appendQuoted(dst, s), nil
	case []any:
		return appendCanonicalList(dst, s, namespace, appendCanonical)
	case map[string]any:
		return appendCanonicalObject(dst, s, namespace)
	}
	return nil, fmt.Errorf("expected a name, a list or an object, found %v", schema)
}

func appendCanonicalObject(dst []byte, object map[string]any, namespace string) ([]byte, error) {
	kind, ok := object["type"].(string)
	if !ok { // a type within a type
		return appendCanonical(dst, object["type"], namespace)
	}
	var err error
	switch kind {
	case "array", "map":
		part := map[string]string{"array": "items", "map": "values"}[kind]
		dst = append(appendQuoted(append(dst, `{"type":`...), kind), `,"`+part+`":`...)
		dst, err = appendCanonical(dst, object[part], namespace)
		return append(dst, '}'), err
	case "record", "enum", "fixed":
		name, _ := object["name"].(string)
		if name == "" {
			return nil, fmt.Errorf("a %s has no name", kind)
		}
		if own, ok := object["namespace"].(string); ok {
			namespace = own
		}
		name = avroFullName(name, namespace)
		if i := strings.LastIndexByte(name, '.'); i >= 0 {
			namespace = name[:i]
		}
		dst = appendQuoted(append(dst, `{"name":`...), name)
		dst = appendQuoted(append(dst, `,"type":`...), kind)
	default:
		return appendCanonical(dst, kind, namespace)
	}
	switch kind {
	case "record":
		fields, _ := object["fields"].([]any)
		dst, err = appendCanonicalList(append(dst, `,"fields":`...), fields, namespace, appendCanonicalField)
	case "enum":
		symbols, _ := object["symbols"].([]any)
		dst, err = appendCanonicalList(append(dst, `,"symbols":`...), symbols, "", appendCanonical)
	case "fixed":
		size, _ := object["size"].(float64)
		dst = strconv.AppendInt(append(dst, `,"size":`...), int64(size), 10)
	}
	return append(dst, '}'), err
}

func appendCanonicalField(dst []byte, field any, namespace string) ([]byte, error) {
	object, _ := field.(map[string]any)
	name, _ := object["name"].(string)
	if name == "" {
		return nil, fmt.Errorf("a field has no name")
	}
	dst = appendQuoted(append(dst, `{"name":`...), name)
	dst, err := appendCanonical(append(dst, `,"type":`...), object["type"], namespace)
	return append(dst, '}'), err
}

func appendCanonicalList(dst []byte, list []any, namespace string, item func([]byte, any, string) ([]byte, error)) ([]byte, error) {
	dst = append(dst, '[')
	for i, v := range list {
		if i > 0 {
			dst = append(dst, ',')
		}
		var err error
		if dst, err = item(dst, v, namespace); err != nil {
			return nil, err
		}
	}
	return append(dst, ']'), nil
}

// appendQuoted writes a name. Avro's names hold nothing that JSON would escape.
func appendQuoted(dst []byte, name string) []byte {
	return append(append(append(dst, '"'), name...), '"')
}

func avroFullName(name, namespace string) string {
	if namespace == "" || strings.Contains(name, ".") {
		return name
	}
	return namespace + "." + name
}

func avroPrimitive(name string) bool {
	switch name {
	case "null", "boolean", "int", "long", "float", "double", "bytes", "string":
		return true
	}
	return false
}

// AvroFingerprint is the CRC-64-AVRO of a schema's parsing canonical form: what single-object encoding names a schema
// by. A text that is no schema has that of its bytes.
//
// Schemas that differ in attributes alone have the same fingerprint: what is written with one is read with any of them.
func AvroFingerprint(schema string) uint64 {
	text, err := AvroCanonical(schema)
	if err != nil {
		text = schema
	}
	crc := avroCRCEmpty
	for i := range len(text) {
		crc = crc>>8 ^ avroCRCTable[byte(crc)^text[i]]
	}
	return crc
}

// avroCRCEmpty is the fingerprint of nothing, and the polynomial.
const avroCRCEmpty uint64 = 0xc15d213aa4d7a795

var avroCRCTable = func() (table [256]uint64) {
	for i := range table {
		crc := uint64(i)
		for range 8 {
			crc = crc>>1 ^ avroCRCEmpty&-(crc&1)
		}
		table[i] = crc
	}
	return table
}()
