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

// AppendAvro appends the datum of a value of a native type, as the type's schema in [AvroValueSchema] has it and without
// the index of a union. The value is not null. Of empty values only those of text, ascii and blob have a datum: Cassandra
// allows an empty int, Avro does not. After an error dst is unchanged but for its capacity.
//
// It allocates nothing beyond dst, but for decimals and varints of more than 64 bits.
func (t *Type) AppendAvro(dst, value []byte) ([]byte, error) {
	switch t.Kind {
	case KindASCII, KindText:
		if !utf8.Valid(value) {
			return dst, fmt.Errorf("a %s is no UTF-8, which Avro's strings are", t.CQL())
		}
		return appendAvroBytes(dst, value), nil
	case KindBlob:
		return appendAvroBytes(dst, value), nil
	}
	if len(value) == 0 {
		return dst, fmt.Errorf("an empty %s has no form in Avro", t.CQL())
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
	out := append(dst, 0) // the length of the text, for which a byte mostly is enough
	switch t.Kind {
	case KindInet:
		address, _ := netip.AddrFromSlice(value)
		out = address.AppendTo(out)
	case KindVarint:
		out = appendAvroVarint(out, value)
	case KindDecimal:
		out = appendAvroDecimal(out, value)
	case KindDuration:
		var err error
		if out, err = appendAvroDuration(out, value); err != nil {
			return dst, err
		}
	default:
		return dst, fmt.Errorf("values of type %s have no form in Avro yet", t.CQL())
	}
	n := len(out) - len(dst) - 1
	if n < 64 {
		out[len(dst)] = byte(n) << 1
		return out, nil
	}
	var length [binary.MaxVarintLen64]byte
	return slices.Replace(out, len(dst), len(dst)+1, binary.AppendVarint(length[:0], int64(n))...), nil
}

// appendAvroVarint writes a two's complement number in decimal digits.
func appendAvroVarint(dst, value []byte) []byte {
	start := len(dst)
	dst, negative := appendDigits(dst, value)
	if negative {
		dst = slices.Insert(dst, start, '-')
	}
	return dst
}

// appendAvroDecimal writes a decimal (4 bytes scale, then the unscaled number) as Java does: in plain form unless that
// needed zeros that are not digits of it, the scale kept. Source: DecimalSerializer, java.math.BigDecimal.toString.
func appendAvroDecimal(dst, value []byte) []byte {
	scale := int64(int32(binary.BigEndian.Uint32(value)))
	start := len(dst)
	dst, negative := appendDigits(dst, value[4:])
	if negative {
		dst = slices.Insert(dst, start, '-')
		start++
	}
	digits := int64(len(dst) - start)
	exponent := digits - 1 - scale
	switch {
	case scale == 0:
	case scale > 0 && exponent >= -6 && scale < digits:
		dst = slices.Insert(dst, len(dst)-int(scale), '.')
	case scale > 0 && exponent >= -6:
		dst = slices.Insert(dst, start, []byte("0.00000")[:2+scale-digits]...)
	default:
		if digits > 1 {
			dst = slices.Insert(dst, start+1, '.')
		}
		if exponent != 0 {
			dst = append(dst, 'E')
			if exponent > 0 {
				dst = append(dst, '+')
			}
			dst = strconv.AppendInt(dst, exponent, 10)
		}
	}
	return dst
}

var errDuration = errors.New("a duration is not three numbers of one sign, the months and days within 32 bits")

// appendAvroDuration writes a duration as months, days and nanoseconds, which CQL reads: -1mo2d3ns. The sign is that of
// all three. Source: DurationSerializer, Duration.
func appendAvroDuration(dst, value []byte) ([]byte, error) {
	var parts [3]int64
	negative, positive := false, false
	for i := range parts {
		n := 0
		if parts[i], n = cutVInt(value); n == 0 {
			return dst, errDuration
		}
		value = value[n:]
		if i < 2 && int64(int32(parts[i])) != parts[i] {
			return dst, errDuration
		}
		negative = negative || parts[i] < 0
		positive = positive || parts[i] > 0
	}
	if len(value) > 0 || negative && positive {
		return dst, errDuration
	}
	if negative {
		dst = append(dst, '-')
	}
	for i, unit := range [...]string{"mo", "d", "ns"} {
		magnitude := uint64(parts[i])
		if negative {
			magnitude = -magnitude
		}
		dst = append(strconv.AppendUint(dst, magnitude, 10), unit...)
	}
	return dst, nil
}

// cutVInt reads a signed number of Cassandra's variable length and gives its length, 0 if it does not end. The number of
// leading ones of the first byte is that of the bytes after it. Source: VIntCoding.readVInt.
func cutVInt(b []byte) (v int64, n int) {
	if len(b) == 0 {
		return 0, 0
	}
	extra := 0
	for extra < 8 && b[0]&(0x80>>extra) != 0 {
		extra++
	}
	if len(b) < 1+extra {
		return 0, 0
	}
	u := uint64(b[0]) & (0xff >> extra)
	for _, c := range b[1 : 1+extra] {
		u = u<<8 | uint64(c)
	}
	return int64(u>>1) ^ -int64(u&1), 1 + extra
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
