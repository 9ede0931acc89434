package schema

import (
	"encoding/binary"
	"math"
	"net/netip"
	"slices"
	"time"

	"gopkg.in/inf.v0"
)

// Empty is what [Type.Decode] makes of the empty value, of no bytes, of a type for which no bytes mean nothing, such as
// int or timestamp. Cassandra allows it for most types, and it is not null.
type Empty struct{}

// Duration is a value of the type duration. Its parts have one sign, or are 0.
type Duration struct {
	Months, Days int32
	Nanoseconds  int64
}

// Pair is a key of a map with its value.
type Pair struct{ Key, Value any }

// Field is a field of a user type with its value, nil if it is null.
type Field struct {
	Name  string
	Value any
}

// Decode gives a value as a Go value. A nil value, null, is nil. The empty value is [Empty], but of ascii, text, blob,
// custom types, tuples and user types, for which no bytes mean something.
//
//	ascii, text        string; the bytes as they are, even if they are no UTF-8
//	blob, custom type  []byte, a copy; of LexicalUUIDType [UUID]
//	boolean            bool
//	tinyint, smallint, int, bigint: int8, int16, int32, int64
//	counter            int64, the total
//	varint             *big.Int
//	decimal            *inf.Dec; its scale can be enormous, so its digits are not to be printed unseen
//	float, double      float32, float64
//	date               time.Time, midnight UTC
//	timestamp          time.Time, UTC
//	time               time.Duration since midnight, which can be negative or more than a day as Cassandra does not check
//	duration           [Duration]
//	inet               netip.Addr; an IPv4 address mapped to IPv6 stays one
//	timeuuid, uuid     [UUID]
//	list, set, vector  []any in the value's order
//	tuple              []any with all fields, those that are missing being nil
//	map                [][Pair] in the value's order
//	user type          [][Field] with all fields in the type's order, those that are missing being nil
//
// It checks what it needs to: for what Cassandra accepts see [Type.Validate].
func (t *Type) Decode(value []byte) (any, error) { return t.decode(value, 0) }

// decode is Decode for a value within depth others.
func (t *Type) decode(value []byte, depth int) (any, error) {
	switch {
	case value == nil:
		return nil, nil
	case t.Native():
		return t.decodeNative(value)
	case t.lexicalUUID() && len(value) == 16:
		return UUID(value), nil
	case t.lexicalUUID() && len(value) == 0:
		return Empty{}, nil
	case t.Kind == KindCustom:
		return slices.Clone(value), nil
	case len(value) == 0 && t.Kind != KindTuple && t.Kind != KindUDT:
		return Empty{}, nil
	case depth == maxValueDepth:
		return nil, errTooDeep
	}
	p, err := t.parts(value)
	if err != nil {
		return nil, err
	}
	var list []any
	var pairs []Pair
	var fields []Field
	switch t.Kind {
	case KindMap:
		pairs = make([]Pair, 0, p.count/2)
	case KindUDT:
		fields = make([]Field, 0, p.count)
	default:
		list = make([]any, 0, p.count)
	}
	for i := 0; ; i++ {
		typ, part, err := p.next()
		if err != nil {
			return nil, err
		}
		if typ == nil {
			break
		}
		v, err := typ.decode(part, depth+1)
		switch {
		case err != nil:
			return nil, p.within(err)
		case t.Kind == KindUDT:
			fields = append(fields, Field{t.Fields[i], v})
		case t.Kind != KindMap:
			list = append(list, v)
		case i%2 == 0:
			pairs = append(pairs, Pair{Key: v})
		default:
			pairs[len(pairs)-1].Value = v
		}
	}
	switch t.Kind {
	case KindMap:
		return pairs, nil
	case KindUDT:
		return fields, nil
	}
	return list, nil
}

// decodeNative decodes a value, which is not nil, of a native type.
func (t *Type) decodeNative(value []byte) (any, error) {
	switch t.Kind {
	case KindASCII, KindText:
		return string(value), nil
	case KindBlob:
		return slices.Clone(value), nil
	}
	if len(value) == 0 {
		return Empty{}, nil
	}
	if err := t.checkLength(value); err != nil {
		return nil, err
	}
	switch t.Kind {
	case KindBoolean:
		return value[0] != 0, nil
	case KindTinyint:
		return int8(value[0]), nil
	case KindSmallint:
		return int16(binary.BigEndian.Uint16(value)), nil
	case KindInt:
		return int32(binary.BigEndian.Uint32(value)), nil
	case KindBigint:
		return int64(binary.BigEndian.Uint64(value)), nil
	case KindCounter:
		total, err := CounterTotal(value)
		if err != nil {
			return nil, err
		}
		return total, nil
	case KindVarint:
		return bigInteger(value), nil
	case KindDecimal:
		return inf.NewDecBig(bigInteger(value[4:]), inf.Scale(int32(binary.BigEndian.Uint32(value)))), nil
	case KindFloat:
		return math.Float32frombits(binary.BigEndian.Uint32(value)), nil
	case KindDouble:
		return math.Float64frombits(binary.BigEndian.Uint64(value)), nil
	case KindDate:
		day := int64(binary.BigEndian.Uint32(value)) - 1<<31
		return time.Unix(day*dayMillis/1000, 0).UTC(), nil
	case KindTimestamp:
		return time.UnixMilli(int64(binary.BigEndian.Uint64(value))).UTC(), nil
	case KindTime:
		return time.Duration(binary.BigEndian.Uint64(value)), nil
	case KindDuration:
		d, err := parseDuration(value)
		if err != nil {
			return nil, err
		}
		return d, nil
	case KindInet:
		address, _ := netip.AddrFromSlice(value) // 4 or 16 bytes are one
		return address, nil
	}
	return UUID(value), nil // timeuuid and uuid
}
