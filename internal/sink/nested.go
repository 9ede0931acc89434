package sink

import (
	"encoding/binary"
	"fmt"
	"maps"
	"math/bits"
	"slices"
	"strconv"

	"cassdelta/schema"
)

// What is nested in another value is in a union with null in Avro. In CQL's binary form it stands behind its length of 4
// bytes, -1 for null, but in a vector.

// appendElement appends a value that is nested in another.
func appendElement(dst []byte, t *schema.Type, datum any) ([]byte, error) {
	value, err := cqlValue(t, inUnion(datum))
	if err != nil {
		return nil, err
	}
	if value == nil {
		return append(dst, 0xff, 0xff, 0xff, 0xff), nil
	}
	return append(binary.BigEndian.AppendUint32(dst, uint32(len(value))), value...), nil
}

func appendSize(dst []byte, n int) []byte { return binary.BigEndian.AppendUint32(dst, uint32(n)) }

// cqlValueOfList makes a list or a set.
func cqlValueOfList(t *schema.Type, elements []any) ([]byte, error) {
	value := appendSize(nil, len(elements))
	for i, e := range elements {
		var err error
		if value, err = appendElement(value, t.Elems[0], e); err != nil {
			return nil, fmt.Errorf("element %d: %w", i, err)
		}
	}
	return value, nil
}

// cqlValueOfEntries makes a map of records of key and value.
func cqlValueOfEntries(t *schema.Type, entries []any) ([]byte, error) {
	value := appendSize(nil, len(entries))
	for i, e := range entries {
		entry, _ := e.(map[string]any)
		var err error
		for at, field := range []string{"key", "value"} {
			if value, err = appendElement(value, t.Elems[at], entry[field]); err != nil {
				return nil, fmt.Errorf("%s %d: %w", field, i, err)
			}
		}
	}
	return value, nil
}

// cqlValueOfMap makes a map of a map, whose keys have lost their order: it is that of their bytes.
func cqlValueOfMap(t *schema.Type, entries map[string]any) ([]byte, error) {
	value := appendSize(nil, len(entries))
	for _, key := range slices.Sorted(maps.Keys(entries)) {
		k, err := cqlValue(t.Elems[0], key)
		if err != nil {
			return nil, fmt.Errorf("key %q: %w", key, err)
		}
		value = append(appendSize(value, len(k)), k...)
		if value, err = appendElement(value, t.Elems[1], entries[key]); err != nil {
			return nil, fmt.Errorf("value of key %q: %w", key, err)
		}
	}
	return value, nil
}

// cqlValueOfRecord makes a tuple or a value of a user type, with all fields.
func cqlValueOfRecord(t *schema.Type, fields map[string]any) ([]byte, error) {
	value := []byte{}
	for i, elem := range t.Elems {
		name := "f" + strconv.Itoa(i)
		if t.Kind == schema.KindUDT {
			name = schema.AvroName(t.Fields[i])
		}
		var err error
		if value, err = appendElement(value, elem, fields[name]); err != nil {
			return nil, fmt.Errorf("field %s: %w", name, err)
		}
	}
	return value, nil
}

// cqlValueOfVector makes a vector: its elements have a length only if not all have the same.
func cqlValueOfVector(t *schema.Type, elements []any) ([]byte, error) {
	if len(elements) != t.Dimension {
		return nil, fmt.Errorf("expected %d elements of a %s, found %d", t.Dimension, t.CQL(), len(elements))
	}
	value := []byte{}
	fixed := t.Elems[0].FixedLength()
	for i, e := range elements {
		v, err := cqlValue(t.Elems[0], inUnion(e))
		if err == nil && fixed >= 0 && len(v) != fixed {
			err = fmt.Errorf("expected %d bytes, found %d", fixed, len(v))
		}
		if err != nil {
			return nil, fmt.Errorf("element %d: %w", i, err)
		}
		if fixed < 0 {
			value = appendUVInt(value, uint64(len(v)))
		}
		value = append(value, v...)
	}
	return value, nil
}

// appendUVInt appends an unsigned number in Cassandra's variable length: as many leading ones in the first byte as
// bytes follow it. Source: VIntCoding.writeUnsignedVInt.
func appendUVInt(dst []byte, u uint64) []byte {
	extra := min(max(0, bits.Len64(u)-1)/7, 8)
	var b [9]byte
	binary.BigEndian.PutUint64(b[1:], u)
	b[8-extra] |= ^byte(0xff >> extra)
	return append(dst, b[8-extra:]...)
}
