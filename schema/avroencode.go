package schema

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"unicode/utf8"
)

// maxAvroNumber is the greatest length of a varint or decimal with a datum, in bytes.
const maxAvroNumber = 256 << 10

// AppendAvro appends the datum of a value, as the type's schema in [AvroValueSchema] has it and without the index of a
// union. The value is not null. Of empty values only those of text, ascii, blob, tuples and user types have a datum:
// Cassandra allows an empty int, Avro does not. Within other values those without are null. In text each byte that is not
// part of UTF-8 becomes U+FFFD: Cassandra lets some such text pass (UTF8Serializer.UTF8Validator), Avro's readers do not.
// After an error dst is unchanged but for its capacity.
//
// It allocates nothing beyond dst, but for decimals and varints of more than 64 bits. Those of more than 256 KiB are
// refused: their digits would not fit into a Kafka record, and take seconds to compute.
func (t *Type) AppendAvro(dst, value []byte) ([]byte, error) {
	out, err := t.appendAvro(dst, value, avroNesting{})
	if err != nil {
		return dst, err
	}
	return out, nil
}

// avroNesting says where a value stands: in how many others, and whether in a key. What a key is made of is never
// replaced or left out: it could be another row's then.
type avroNesting struct {
	depth int
	key   bool
}

// emptyInAvro reports whether an empty value has a datum.
func (t *Type) emptyInAvro() bool {
	switch t.Kind {
	case KindText, KindASCII, KindBlob, KindTuple, KindUDT:
		return true
	}
	return false
}

// appendAvro is AppendAvro for a value in others. After an error what it appended is of no use.
func (t *Type) appendAvro(dst, value []byte, n avroNesting) ([]byte, error) {
	switch {
	case len(value) == 0 && (!t.emptyInAvro() || n.key && !t.Native()):
		return dst, fmt.Errorf("an empty %s has no form in Avro", t.CQL())
	case !t.Native():
		return t.appendAvroParts(dst, value, n)
	}
	switch t.Kind {
	case KindASCII, KindText:
		switch {
		case utf8.Valid(value):
			return appendAvroBytes(dst, value), nil
		case n.key:
			return dst, errors.New("a text of the key is no UTF-8, which Avro's strings are")
		}
		return appendAvroString(dst, string([]rune(string(value)))), nil
	case KindBlob:
		return appendAvroBytes(dst, value), nil
	}
	if t.Kind == KindCounter {
		if len(value) != 8 {
			return dst, t.badLength(value, "8")
		}
	} else if err := t.checkLength(value); err != nil {
		return dst, err
	}
	switch t.Kind {
	case KindBoolean:
		return appendAvroBool(dst, value[0] != 0), nil
	case KindTinyint:
		return binary.AppendVarint(dst, int64(int8(value[0]))), nil
	case KindSmallint:
		return binary.AppendVarint(dst, int64(int16(binary.BigEndian.Uint16(value)))), nil
	case KindInt:
		return binary.AppendVarint(dst, int64(int32(binary.BigEndian.Uint32(value)))), nil
	case KindDate:
		// The day 2^31 is 1970-01-01. Source: SimpleDateSerializer.
		return binary.AppendVarint(dst, int64(int32(binary.BigEndian.Uint32(value)^1<<31))), nil
	case KindBigint, KindCounter, KindTime, KindTimestamp:
		return binary.AppendVarint(dst, int64(binary.BigEndian.Uint64(value))), nil
	case KindFloat:
		return binary.LittleEndian.AppendUint32(dst, binary.BigEndian.Uint32(value)), nil
	case KindDouble:
		return binary.LittleEndian.AppendUint64(dst, binary.BigEndian.Uint64(value)), nil
	case KindUUID, KindTimeuuid:
		return appendAvroUUID(dst, UUID(value)), nil
	}
	if len(value) > maxAvroNumber {
		return dst, fmt.Errorf("a %s has %d bytes, expected at most %d", t.CQL(), len(value), maxAvroNumber)
	}
	out := append(dst, 0) // the length of the text, for which a byte mostly is enough
	switch t.Kind {
	case KindInet:
		address, _ := netip.AddrFromSlice(value)
		out = address.AppendTo(out)
	case KindVarint:
		out = appendInteger(out, value)
	case KindDecimal:
		out = appendDecimal(out, value)
	case KindDuration:
		d, err := parseDuration(value)
		if err != nil {
			return dst, err
		}
		out = d.appendAvro(out)
	default:
		return dst, fmt.Errorf("values of type %s have no form in Avro yet", t.CQL())
	}
	length := len(out) - len(dst) - 1
	if length < 64 {
		out[len(dst)] = byte(length) << 1
		return out, nil
	}
	var room [binary.MaxVarintLen64]byte
	return slices.Replace(out, len(dst), len(dst)+1, binary.AppendVarint(room[:0], int64(length))...), nil
}

// appendAvro writes a duration as months, days and nanoseconds, all three, which CQL reads: -1mo2d3ns. The sign is that
// of each.
func (d Duration) appendAvro(dst []byte) []byte {
	if d.Months < 0 || d.Days < 0 || d.Nanoseconds < 0 {
		dst = append(dst, '-')
	}
	dst = append(strconv.AppendUint(dst, magnitude(int64(d.Months)), 10), "mo"...)
	dst = append(strconv.AppendUint(dst, magnitude(int64(d.Days)), 10), "d"...)
	return append(strconv.AppendUint(dst, magnitude(d.Nanoseconds), 10), "ns"...)
}

func appendAvroBytes(dst, b []byte) []byte {
	return append(binary.AppendVarint(dst, int64(len(b))), b...)
}

func appendAvroString(dst []byte, s string) []byte {
	return append(binary.AppendVarint(dst, int64(len(s))), s...)
}

func appendAvroBool(dst []byte, b bool) []byte {
	if b {
		return append(dst, 1)
	}
	return append(dst, 0)
}

// appendAvroUUID writes a UUID as the string of its usual form.
func appendAvroUUID(dst []byte, u UUID) []byte {
	const digits = "0123456789abcdef"
	dst = append(dst, 36<<1)
	for i, b := range u {
		if i == 4 || i == 6 || i == 8 || i == 10 {
			dst = append(dst, '-')
		}
		dst = append(dst, digits[b>>4], digits[b&15])
	}
	return dst
}
