package sink

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/big"
	"net/netip"
	"strconv"
	"strings"

	"cassdelta/schema"
)

// cqlValue turns a datum, as goavro gives it without logical types, back into CQL's binary form; nested.go has what
// others are nested in. It is the opposite of [schema.Type.AppendAvro], and shares nothing with it.
func cqlValue(t *schema.Type, datum any) ([]byte, error) {
	switch v := datum.(type) {
	case nil:
		return nil, nil
	case bool:
		if t.Kind == schema.KindBoolean {
			if v {
				return []byte{1}, nil
			}
			return []byte{0}, nil
		}
	case int32:
		switch t.Kind {
		case schema.KindTinyint:
			if int32(int8(v)) == v {
				return []byte{byte(v)}, nil
			}
		case schema.KindSmallint:
			if int32(int16(v)) == v {
				return binary.BigEndian.AppendUint16(nil, uint16(v)), nil
			}
		case schema.KindInt:
			return binary.BigEndian.AppendUint32(nil, uint32(v)), nil
		case schema.KindDate:
			return binary.BigEndian.AppendUint32(nil, uint32(v)+1<<31), nil // the day 1970-01-01 is 2^31
		}
	case int64:
		switch t.Kind {
		case schema.KindBigint, schema.KindTime, schema.KindTimestamp:
			return binary.BigEndian.AppendUint64(nil, uint64(v)), nil
		}
	case float32:
		if t.Kind == schema.KindFloat {
			return binary.BigEndian.AppendUint32(nil, math.Float32bits(v)), nil
		}
	case float64:
		if t.Kind == schema.KindDouble {
			return binary.BigEndian.AppendUint64(nil, math.Float64bits(v)), nil
		}
	case []byte:
		if t.Kind == schema.KindBlob {
			return append([]byte{}, v...), nil
		}
	case string:
		return cqlValueOfText(t, v)
	case []any:
		switch t.Kind {
		case schema.KindList, schema.KindSet:
			return cqlValueOfList(t, v)
		case schema.KindMap:
			return cqlValueOfEntries(t, v)
		case schema.KindVector:
			return cqlValueOfVector(t, v)
		}
	case map[string]any:
		switch t.Kind {
		case schema.KindMap:
			return cqlValueOfMap(t, v)
		case schema.KindTuple, schema.KindUDT:
			return cqlValueOfRecord(t, v)
		}
	}
	return nil, fmt.Errorf("expected the datum of a value of type %s, found %v of Go's type %T", t.CQL(), datum, datum)
}

func cqlValueOfText(t *schema.Type, text string) ([]byte, error) {
	switch t.Kind {
	case schema.KindASCII, schema.KindText:
		return append([]byte{}, text...), nil
	case schema.KindUUID, schema.KindTimeuuid:
		if u, err := schema.ParseUUID(text); err == nil {
			return u[:], nil
		}
	case schema.KindInet:
		if address, err := netip.ParseAddr(text); err == nil && address.Zone() == "" {
			return address.AsSlice(), nil
		}
	case schema.KindVarint:
		if n, ok := new(big.Int).SetString(text, 10); ok {
			return appendTwosComplement(nil, n), nil
		}
	case schema.KindDecimal:
		if value, err := decimalOfText(text); err == nil {
			return value, nil
		}
	case schema.KindDuration:
		if value, err := durationOfText(text); err == nil {
			return value, nil
		}
	}
	return nil, fmt.Errorf("expected the text of a %s, found %q", t.CQL(), text[:min(len(text), 100)])
}

// appendTwosComplement appends the shortest two's complement form, big-endian, of at least one byte.
func appendTwosComplement(dst []byte, n *big.Int) []byte {
	magnitude := n
	if n.Sign() < 0 {
		magnitude = new(big.Int).Not(n)
	}
	b := make([]byte, magnitude.BitLen()/8+1)
	magnitude.FillBytes(b)
	if n.Sign() < 0 {
		for i := range b {
			b[i] = ^b[i]
		}
	}
	return append(dst, b...)
}

// decimalOfText reads what BigDecimal.toString prints, scale and all: 1.00, -1.5E-10. The form is the scale (4 bytes) and
// the unscaled number.
func decimalOfText(text string) ([]byte, error) {
	mantissa, exponent := text, int64(0)
	if i := strings.IndexByte(text, 'E'); i >= 0 {
		var err error
		if exponent, err = strconv.ParseInt(text[i+1:], 10, 64); err != nil {
			return nil, err
		}
		mantissa = text[:i]
	}
	scale := -exponent
	if i := strings.IndexByte(mantissa, '.'); i >= 0 {
		scale += int64(len(mantissa) - i - 1)
		mantissa = mantissa[:i] + mantissa[i+1:]
	}
	unscaled, ok := new(big.Int).SetString(mantissa, 10)
	if !ok || int64(int32(scale)) != scale {
		return nil, strconv.ErrSyntax
	}
	return appendTwosComplement(binary.BigEndian.AppendUint32(nil, uint32(scale)), unscaled), nil
}

// durationOfText reads months, days and nanoseconds with one sign for all: -1mo2d3ns. The form is three vints.
func durationOfText(text string) ([]byte, error) {
	rest, negative := strings.CutPrefix(text, "-")
	var value []byte
	for _, unit := range []string{"mo", "d", "ns"} {
		digits, behind, ok := strings.Cut(rest, unit)
		n, err := strconv.ParseUint(digits, 10, 64)
		if !ok || err != nil {
			return nil, strconv.ErrSyntax
		}
		if negative {
			n = -n
		}
		value = appendVInt(value, int64(n))
		rest = behind
	}
	if rest != "" {
		return nil, strconv.ErrSyntax
	}
	return value, nil
}

// appendVInt appends a signed number in Cassandra's variable length: zigzag, then as [appendUVInt]. Source:
// VIntCoding.writeVInt.
func appendVInt(dst []byte, v int64) []byte {
	return appendUVInt(dst, uint64(v)<<1^uint64(v>>63))
}
