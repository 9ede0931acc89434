package schema

import (
	"encoding/binary"
	"errors"
	"strconv"
)

// tupleField is the name of a tuple's field in Avro.
func tupleField(i int) string { return "f" + strconv.Itoa(i) }

// appendAvroNullable appends the datum of a union with null. Empty values that Avro has no form for are null; in a key
// they are an error.
func (t *Type) appendAvroNullable(dst, value []byte, n avroNesting) ([]byte, error) {
	if value == nil || len(value) == 0 && !n.key && !t.emptyInAvro() {
		return append(dst, avroNull), nil
	}
	return t.appendAvro(append(dst, avroValue), value, n)
}

// appendAvroParts appends the datum of a value that has parts: a record's fields, or one block of an array or map.
func (t *Type) appendAvroParts(dst, value []byte, n avroNesting) ([]byte, error) {
	if n.depth == maxValueDepth {
		return dst, errTooDeep
	}
	n.depth++
	p, err := t.parts(value)
	if err != nil {
		return dst, err
	}
	record := t.Kind == KindTuple || t.Kind == KindUDT
	if count := p.count / len(t.Elems); !record && count > 0 {
		dst = binary.AppendVarint(dst, int64(count))
	}
	names := t.Kind == KindMap && t.textKeys() // keys are strings that are not null
	for i := 0; ; i++ {
		typ, part, err := p.next()
		switch {
		case err != nil:
			return dst, err
		case typ == nil && record:
			return dst, nil
		case typ == nil:
			return append(dst, 0), nil // no more blocks
		case names && i%2 == 0 && part == nil:
			err = errors.New("it is null, which no key of a map in Avro is")
		case names && i%2 == 0:
			dst, err = typ.appendAvro(dst, part, n)
		default:
			dst, err = typ.appendAvroNullable(dst, part, n)
		}
		if err != nil {
			return dst, p.within(err)
		}
	}
}
