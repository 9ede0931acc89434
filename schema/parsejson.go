package schema

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"math/big"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"gopkg.in/inf.v0"
)

// ParseJSON makes a value of a native type of its JSON text, as [Type.AppendJSON] prints it; also of a text without its
// quotes, and of a number in quotes. It is for keys that people give. Of timestamps and dates it takes the years 1 to 9999.
func (t *Type) ParseJSON(text string) ([]byte, error) {
	value, err := t.parseNative(unquote(text))
	if err == nil && len(value) > 0 {
		err = t.checkLength(value)
	}
	if err != nil {
		return nil, fmt.Errorf("%q is no %s: %w", text, t.CQL(), err)
	}
	return value, nil
}

// unquote is a JSON string's text, or the text as it is.
func unquote(text string) string {
	var s string
	d := json.NewDecoder(strings.NewReader(text))
	if err := d.Decode(&s); err == nil {
		if _, err := d.Token(); err == io.EOF {
			return s
		}
	}
	if n := len(text); n >= 2 && text[0] == '\'' && text[n-1] == '\'' {
		return strings.ReplaceAll(text[1:n-1], "''", "'")
	}
	return text
}

func (t *Type) parseNative(s string) ([]byte, error) {
	integer := func(bits int) ([]byte, error) {
		n, err := strconv.ParseInt(s, 10, bits)
		b := binary.BigEndian.AppendUint64(nil, uint64(n))
		return b[8-bits/8:], err
	}
	switch t.Kind {
	case KindASCII, KindText:
		return []byte(s), nil
	case KindBlob:
		return hex.DecodeString(strings.TrimPrefix(s, "0x"))
	case KindBoolean:
		b, err := strconv.ParseBool(s)
		if b {
			return []byte{1}, err
		}
		return []byte{0}, err
	case KindTinyint:
		return integer(8)
	case KindSmallint:
		return integer(16)
	case KindInt:
		return integer(32)
	case KindBigint:
		return integer(64)
	case KindVarint:
		n, ok := new(big.Int).SetString(s, 10)
		if !ok {
			return nil, strconv.ErrSyntax
		}
		return appendVarint(nil, n), nil
	case KindDecimal:
		digits, exponent, _ := strings.Cut(strings.ToUpper(s), "E")
		shift := int64(0)
		var err error
		if len(digits) < len(s) {
			shift, err = strconv.ParseInt(exponent, 10, 32)
		}
		d, ok := new(inf.Dec).SetString(digits)
		scale := int64(d.Scale()) - shift
		if !ok || err != nil || scale != int64(int32(scale)) {
			return nil, strconv.ErrSyntax
		}
		return appendVarint(binary.BigEndian.AppendUint32(nil, uint32(scale)), d.UnscaledBig()), nil
	case KindFloat:
		f, err := strconv.ParseFloat(s, 32)
		return binary.BigEndian.AppendUint32(nil, math.Float32bits(float32(f))), err
	case KindDouble:
		f, err := strconv.ParseFloat(s, 64)
		return binary.BigEndian.AppendUint64(nil, math.Float64bits(f)), err
	case KindUUID, KindTimeuuid:
		u, err := ParseUUID(s)
		return u[:], err
	case KindInet:
		a, err := netip.ParseAddr(s)
		return a.Unmap().AsSlice(), err
	case KindDate:
		at, err := time.Parse(time.DateOnly, s)
		return binary.BigEndian.AppendUint32(nil, uint32(at.Unix()/86400+1<<31)), err
	case KindTime:
		at, err := time.Parse("15:04:05.999999999", s)
		return binary.BigEndian.AppendUint64(nil, uint64(at.Sub(at.Truncate(24*time.Hour)))), err
	case KindTimestamp:
		at, err := time.Parse("2006-01-02 15:04:05.999Z", s)
		return binary.BigEndian.AppendUint64(nil, uint64(at.UnixMilli())), err
	}
	return nil, fmt.Errorf("values of this type are only taken as bytes")
}

// appendVarint appends the shortest two's complement of n.
func appendVarint(dst []byte, n *big.Int) []byte {
	length := n.BitLen()/8 + 1 // one bit for the sign
	if n.Sign() >= 0 {
		return append(dst, n.FillBytes(make([]byte, length))...)
	}
	// The complement of n - 1 has as many bits as n has, but for the powers of two.
	complement := new(big.Int).Not(n)
	length = complement.BitLen()/8 + 1
	b := complement.FillBytes(make([]byte, length))
	for i := range b {
		b[i] = ^b[i]
	}
	return append(dst, b...)
}

// ParseKeyJSON makes a partition key, or the values of a clustering, of JSON: an object with all columns, or an array of all values
// in order; of one column also its value alone.
func ParseKeyJSON(columns []Column, text string) ([][]byte, error) {
	var texts []string
	var object map[string]json.RawMessage
	var array []json.RawMessage
	switch trimmed := []byte(strings.TrimSpace(text)); {
	case bytes.HasPrefix(trimmed, []byte("{")) && json.Unmarshal(trimmed, &object) == nil:
		for _, c := range columns {
			value, ok := object[c.Name]
			if !ok || len(object) != len(columns) {
				return nil, fmt.Errorf("the key %s: expected exactly the columns %s", text, columnNames(columns))
			}
			texts = append(texts, string(value))
		}
	case bytes.HasPrefix(trimmed, []byte("[")) && json.Unmarshal(trimmed, &array) == nil:
		for _, value := range array {
			texts = append(texts, string(value))
		}
	default:
		texts = []string{text}
	}
	if len(texts) != len(columns) {
		return nil, fmt.Errorf("the key %s has %d values, expected those of %s", text, len(texts), columnNames(columns))
	}
	var values [][]byte
	for i, c := range columns {
		value, err := c.Type.ParseJSON(texts[i])
		if err != nil {
			return nil, fmt.Errorf("column %s: %w", c.Name, err)
		}
		values = append(values, value)
	}
	return values, nil
}

func columnNames(columns []Column) string {
	var names []string
	for _, c := range columns {
		names = append(names, c.Name)
	}
	return strings.Join(names, ", ")
}
