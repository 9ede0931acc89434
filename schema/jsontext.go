package schema

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math"
	"strconv"
	"unicode/utf8"
)

// AppendJSON appends a value to dst as SELECT JSON prints it in Cassandra 4.0 to 5.0. A nil value is null. The empty value
// of a type that has one is "" (so it is for collections too), but of blob and custom types "0x".
//
//	ascii, text       a string; what is not UTF-8 is U+FFFD in it
//	blob              "0x" and lower-case hexadecimal digits, in quotes
//	boolean           true or false
//	tinyint, smallint, int, bigint, varint: a number
//	decimal           a number with the scale's digits, such as 1.00 or 1E+10 (BigDecimal.toString)
//	float, double     a number such as 1.0 or 1.0E10 (Double.toString of Java 8 to 18); null if it is not finite
//	date              "2024-02-29", with a sign before years below 0 or above 9999
//	time              "13:14:15.123456789"
//	timestamp         "2024-02-29 12:34:56.789Z", with a + before years above 9999; of years before 1 the year of the era,
//	                  without a sign: Cassandra does not print the era
//	duration          "1y2mo3d4h5m6s7ms8us9ns", without what is 0, with a - before it if it is negative
//	inet              "192.0.2.1", or "2001:db8:0:0:0:0:0:1" without shortening
//	timeuuid, uuid    "6f9619ff-8b86-d011-b42d-00c04fc964ff"
//	counter           a number: of the context in a counter's cell the total, see [CounterTotal]; of 8 bytes the bigint
//	list, set, tuple, vector: [1, null]
//	map               {"1": "one"}: a key whose text is no string becomes one
//	user type         {"street": "Main St", "\"Zip\"": null} with all fields; names with capitals are in quotes of their own
//	custom type       as blob; LexicalUUIDType as uuid
//
// Some values that Cassandra stores it cannot print, or not tell apart: text that is not quite UTF-8 (each wrong byte is
// U+FFFD here), a time that is negative or more than a day, a duration of the least numbers, a boolean of no bytes, a
// decimal of a scale alone (0 here), a set or map of no bytes ("" here), a tuple without its last fields (null here), a
// custom type's own values. All these have a text, and so has everything that [Type.Validate] accepts, but for
//
//   - a varint or decimal longer than an event can carry, as its digits would take too long to find, and
//   - maps within keys of maps within keys of maps and so on, more than 8 of them: each doubles the backslashes.
//
// So the text is never longer than the value, times a number that depends on the type alone. After an error dst is
// unchanged but for its capacity. Source: AbstractType.toJSONString of each type.
func (t *Type) AppendJSON(dst, value []byte) ([]byte, error) {
	out, err := t.appendJSON(dst, value, nesting{})
	if err != nil {
		return dst, err
	}
	return out, nil
}

// appendNativeJSON appends a value, which is not nil, of a native type other than counter.
func (t *Type) appendNativeJSON(dst, value []byte) ([]byte, error) {
	if len(value) == 0 && t.Kind != KindBlob {
		return append(dst, `""`...), nil
	}
	if err := t.checkLength(value); err != nil {
		return dst, err
	}
	if (t.Kind == KindVarint || t.Kind == KindDecimal) && len(value) > maxAvroNumber {
		return dst, fmt.Errorf("a %s has %d bytes, expected at most %d", t.CQL(), len(value), maxAvroNumber)
	}
	switch t.Kind {
	case KindASCII, KindText:
		return appendJSONString(dst, value), nil
	case KindBlob:
		return appendJSONHex(dst, value), nil
	case KindBoolean:
		return strconv.AppendBool(dst, value[0] != 0), nil
	case KindTinyint:
		return strconv.AppendInt(dst, int64(int8(value[0])), 10), nil
	case KindSmallint:
		return strconv.AppendInt(dst, int64(int16(binary.BigEndian.Uint16(value))), 10), nil
	case KindInt:
		return strconv.AppendInt(dst, int64(int32(binary.BigEndian.Uint32(value))), 10), nil
	case KindBigint:
		return strconv.AppendInt(dst, int64(binary.BigEndian.Uint64(value)), 10), nil
	case KindVarint:
		return appendInteger(dst, value), nil
	case KindDecimal:
		return appendDecimal(dst, value), nil
	case KindFloat:
		return appendFloat(dst, float64(math.Float32frombits(binary.BigEndian.Uint32(value))), 32), nil
	case KindDouble:
		return appendFloat(dst, math.Float64frombits(binary.BigEndian.Uint64(value)), 64), nil
	}

	start := len(dst)
	dst = append(dst, '"')
	switch t.Kind {
	case KindDate:
		dst = appendDate(dst, int64(binary.BigEndian.Uint32(value))-1<<31, false)
	case KindTime:
		dst = appendTime(dst, int64(binary.BigEndian.Uint64(value)))
	case KindTimestamp:
		dst = appendTimestamp(dst, int64(binary.BigEndian.Uint64(value)))
	case KindDuration:
		d, err := parseDuration(value)
		if err != nil {
			return dst[:start], err
		}
		dst = d.append(dst)
	case KindInet:
		dst = appendInet(dst, value)
	case KindTimeuuid, KindUUID:
		dst = UUID(value).Append(dst)
	}
	return append(dst, '"'), nil
}

// appendJSONHex appends bytes in hexadecimal digits.
func appendJSONHex(dst, value []byte) []byte {
	dst = append(dst, `"0x`...)
	dst = hex.AppendEncode(dst, value)
	return append(dst, '"')
}

// appendJSONString appends text in quotes, with the escapes of Jackson's JsonStringEncoder.quoteAsString.
func appendJSONString(dst, text []byte) []byte {
	dst = append(dst, '"')
	plain := 0 // text[plain:i] needs no escape
	for i := 0; i < len(text); {
		c := text[i]
		if c >= 0x20 && c < utf8.RuneSelf && c != '"' && c != '\\' {
			i++
			continue
		}
		if c >= utf8.RuneSelf {
			r, size := utf8.DecodeRune(text[i:])
			if r == utf8.RuneError && size == 1 {
				dst = append(dst, text[plain:i]...)
				dst = append(dst, "\ufffd"...)
				plain = i + 1
			}
			i += size
			continue
		}
		dst = append(dst, text[plain:i]...)
		switch c {
		case '"', '\\':
			dst = append(dst, '\\', c)
		case '\b':
			dst = append(dst, `\b`...)
		case '\t':
			dst = append(dst, `\t`...)
		case '\n':
			dst = append(dst, `\n`...)
		case '\f':
			dst = append(dst, `\f`...)
		case '\r':
			dst = append(dst, `\r`...)
		default:
			dst = append(dst, `\u00`...)
			dst = append(dst, "0123456789ABCDEF"[c>>4], "0123456789ABCDEF"[c&0xf])
		}
		i++
		plain = i
	}
	dst = append(dst, text[plain:]...)
	return append(dst, '"')
}

// appendPadded appends n with zeros before it, if it has fewer digits than width.
func appendPadded(dst []byte, n uint64, width int) []byte {
	zeros := width - 1
	for rest := n; rest >= 10 && zeros > 0; rest /= 10 {
		zeros--
	}
	for range zeros {
		dst = append(dst, '0')
	}
	return strconv.AppendUint(dst, n, 10)
}

// appendInet appends an address as InetAddress.getHostAddress prints it. Java takes an IPv4 address that is mapped to
// IPv6 for the IPv4 address.
func appendInet(dst, value []byte) []byte {
	if len(value) == 16 && string(value[:12]) == "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff" {
		value = value[12:]
	}
	if len(value) == 4 {
		for i, b := range value {
			if i > 0 {
				dst = append(dst, '.')
			}
			dst = strconv.AppendUint(dst, uint64(b), 10)
		}
		return dst
	}
	for i := 0; i < len(value); i += 2 {
		if i > 0 {
			dst = append(dst, ':')
		}
		dst = strconv.AppendUint(dst, uint64(binary.BigEndian.Uint16(value[i:])), 16)
	}
	return dst
}
