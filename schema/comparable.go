package schema

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
)

// This file, comparablenumber.go and comparableparts.go hold the byte-comparable form of values. State keys are made of it, so it is
// never to change: a different form for a type would be a different state.
//
// Of two values of one type, the forms compare (as unsigned bytes, bytes.Compare) as Cassandra's comparator of the
// type compares the values; they are equal exactly when the comparator calls the values equal, even if their bytes
// differ. No form is the beginning of another form of the same type, so forms can be put one behind another, and the
// whole compares like the list of values. The first byte is never 0x00 or 0xff: a bound below or above everything that
// begins with some values is their forms and one of these bytes.
//
// The form begins with
//
//	01  null: no value at all
//	02  the empty value, of no bytes, which Cassandra allows for most types, and orders before all others
//	03  any other value, except of varint and decimal
//
// and behind 03 has, numbers being big-endian,
//
//	ascii, text, blob    the bytes, each 00 as 00 ff, and then 00 00
//	boolean              00 if the byte is 0, otherwise 01
//	tinyint, smallint,   1, 2, 4, 8, 8 bytes, with the sign bit flipped
//	int, bigint,
//	timestamp
//	date, time           4, 8 bytes as they are: Cassandra orders both without sign
//	float, double        4, 8 bytes: the bits, all inverted if the sign bit is set, otherwise with the sign bit flipped;
//	                     so -0.0 is less than 0.0. Every NaN is 7fc00000 or 7ff8000000000000 first, the greatest value
//	inet                 the first 4 bytes, and then 00, or 01 and the other 12 bytes
//	timeuuid             the time stamp from its high to its low part (bytes 6 7 4 5 0 1 2 3) with the first bit flipped,
//	                     then bytes 8 to 15, each with its sign bit flipped, as Cassandra orders them as signed bytes
//	uuid                 the version (1 byte, 0 to 15), then bytes 6 7 4 5 0 1 2 3 if it is 1, otherwise bytes 0 to 7,
//	                     then bytes 8 to 15
//
// A varint, and an integer within a decimal, is its shortest two's complement, of n bytes, behind
//
//	80+n-1  if it is not negative and n is at most 60 (hexadecimal, as all here)
//	e0      if it is not negative and n is greater, and then n in 4 bytes
//	7f-n+1  if it is negative and n is at most 60
//	1f      if it is negative and n is greater, and then n in 4 bytes, inverted
//
// A decimal other than zero is 0.d1d2d3... * 10^e with the digit d1 other than 0. It is
//
//	04  if it is negative: then what follows is inverted
//	05  if it is zero, of any scale: nothing follows
//	06  if it is positive
//
// and then e as an integer as above, then two digits a byte, d1*10 + d2 + 1 and so on (an odd digit at the end stands
// before a 0), without zeros at the end, and then 00.
//
// A list, set, map, tuple, user type or vector is the forms of its parts, those of a map being keys and values by turns,
// and then 00. Of a tuple or user type, fields that are null and have none behind them that is not are left out: so the
// form of a value does not depend on how many fields its type has got since.
//
// For a clustering column in descending order all bytes are inverted. Durations, counters and values of custom types
// cannot be part of a key and have no form.

const (
	formEnd   = 0x00 // behind the last part of a value that has parts
	formNull  = 0x01
	formEmpty = 0x02
	formValue = 0x03
)

// maxComparableNumber is the greatest length of a varint or decimal with a form: that of any part of a key. It bounds
// the time that the conversion to decimal digits takes.
const maxComparableNumber = math.MaxUint16

// AppendComparable appends the byte-comparable form of a value to dst: bytes.Compare orders forms as
// Cassandra's comparator orders the values, and equal values have equal forms. A nil value is null, which comes before
// the empty value and all others. desc gives the form for descending order. The form says where it ends, so several
// can be appended one after another. After an error dst is unchanged but for its capacity.
func (t *Type) AppendComparable(dst, value []byte, desc bool) ([]byte, error) {
	start := len(dst)
	out, err := t.appendComparable(dst, value, 0)
	if err != nil {
		return dst, err
	}
	if desc {
		invert(out[start:])
	}
	return out, nil
}

// appendComparable appends the form of a value within depth others.
func (t *Type) appendComparable(dst, value []byte, depth int) ([]byte, error) {
	switch t.Kind {
	case KindCounter, KindCustom, KindDuration:
		return nil, fmt.Errorf("a value of type %s cannot be part of a key", t.CQL())
	}
	if value == nil {
		return append(dst, formNull), nil
	}
	if len(value) == 0 {
		return append(dst, formEmpty), nil
	}
	if !t.Native() {
		return t.appendComparableParts(append(dst, formValue), value, depth)
	}
	return t.appendComparableNative(dst, value)
}

// appendComparableNative appends the form of a value, which is not empty, of a native type that can be part of a key.
func (t *Type) appendComparableNative(dst, value []byte) ([]byte, error) {
	if err := t.checkLength(value); err != nil {
		return nil, err
	}
	switch t.Kind {
	case KindVarint, KindDecimal:
		if len(value) > maxComparableNumber {
			return nil, fmt.Errorf("a %s of %d bytes cannot be part of a key, expected at most %d", t.CQL(), len(value), maxComparableNumber)
		}
		if t.Kind == KindDecimal {
			return appendComparableDecimal(dst, value), nil
		}
		return appendComparableInteger(dst, value), nil
	}

	dst = append(dst, formValue)
	switch t.Kind {
	case KindASCII, KindText, KindBlob:
		for {
			i := bytes.IndexByte(value, 0)
			if i < 0 {
				break
			}
			dst = append(dst, value[:i]...)
			dst = append(dst, 0x00, 0xff)
			value = value[i+1:]
		}
		dst = append(dst, value...)
		return append(dst, 0x00, 0x00), nil
	case KindBoolean:
		if value[0] == 0 {
			return append(dst, 0), nil
		}
		return append(dst, 1), nil
	case KindTinyint, KindSmallint, KindInt, KindBigint, KindTimestamp:
		dst = append(dst, value[0]^0x80)
		return append(dst, value[1:]...), nil
	case KindDate, KindTime:
		return append(dst, value...), nil
	case KindFloat:
		bits := binary.BigEndian.Uint32(value)
		if f := math.Float32frombits(bits); f != f {
			bits = 0x7fc00000
		}
		return binary.BigEndian.AppendUint32(dst, bits^(uint32(int32(bits)>>31)|1<<31)), nil
	case KindDouble:
		bits := binary.BigEndian.Uint64(value)
		if f := math.Float64frombits(bits); f != f {
			bits = 0x7ff8000000000000
		}
		return binary.BigEndian.AppendUint64(dst, bits^(uint64(int64(bits)>>63)|1<<63)), nil
	case KindInet:
		dst = append(dst, value[:4]...)
		if len(value) == 4 {
			return append(dst, 0), nil
		}
		dst = append(dst, 1)
		return append(dst, value[4:]...), nil
	case KindTimeuuid:
		dst = append(dst, value[6]^0x80, value[7], value[4], value[5], value[0], value[1], value[2], value[3])
		lower := binary.BigEndian.Uint64(value[8:])
		return binary.BigEndian.AppendUint64(dst, lower^0x8080808080808080), nil
	case KindUUID:
		version := value[6] >> 4
		dst = append(dst, version)
		if version == 1 {
			dst = append(dst, value[6], value[7], value[4], value[5], value[0], value[1], value[2], value[3])
			return append(dst, value[8:]...), nil
		}
		return append(dst, value...), nil
	}
	return nil, fmt.Errorf("a value of type %s has no byte-comparable form", t.CQL())
}

// invert inverts all bits.
func invert(b []byte) {
	for i := range b {
		b[i] = ^b[i]
	}
}
