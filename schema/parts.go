package schema

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
)

// maxValueDepth bounds how deep values are nested in one another.
const maxValueDepth = 256

var errTooDeep = fmt.Errorf("values are nested more than %d deep", maxValueDepth)

// parts steps over the values that a value of a collection, a tuple, a user type or a vector is made of. Such a value
// is, numbers being signed and big-endian,
//
//	list, set          the number of elements (4 bytes), and the elements
//	map                the number of pairs (4 bytes), and keys and values by turns
//	tuple, user type   the fields; those that are missing at the end are null
//	vector             the elements
//
// and each part is its length (4 bytes), negative if it is null, and its bytes; but an element of a vector has no length
// if its type's [Type.FixedLength] is one, and otherwise an unsigned variable-length integer for a length.
// Source: CollectionSerializer, TupleType, VectorType.
type parts struct {
	typ  *Type
	rest []byte
	// index is that of the next part, count the number of all. size is the number of elements or pairs that a collection
	// announces, which can be negative.
	index, count, size int
	// fixed is the length of every part, -1 if each has its own.
	fixed int
}

// parts begins to step over the parts of a value, which is not nil. No more parts are announced than there are bytes,
// but for missing fields.
func (t *Type) parts(value []byte) (parts, error) {
	p := parts{typ: t, rest: value, fixed: -1}
	switch t.Kind {
	case KindList, KindSet, KindMap:
		if len(value) < 4 {
			return p, fmt.Errorf("a %s has %d bytes, expected its size in 4", t.kindName(), len(value))
		}
		n := int64(int32(binary.BigEndian.Uint32(value)))
		p.size = int(n)
		p.rest = value[4:]
		if t.Kind == KindMap {
			n *= 2
		}
		if n > int64(len(p.rest)/4) {
			return p, fmt.Errorf("a %s of %d elements has %d bytes behind its size", t.kindName(), n/int64(len(t.Elems)), len(p.rest))
		}
		p.count = int(max(n, 0)) // Cassandra takes a negative size for 0
	case KindTuple, KindUDT:
		p.count = len(t.Elems)
	case KindVector:
		p.count = t.Dimension
		p.fixed = t.Elems[0].FixedLength()
		if p.fixed == 0 {
			return p, errors.New("a vector has elements of no bytes")
		}
		if n := int64(t.FixedLength()); p.fixed > 0 && int64(len(value)) != n {
			return p, fmt.Errorf("a vector has %d bytes, expected %d", len(value), n)
		}
		if p.count > len(value) {
			return p, fmt.Errorf("a vector of %d elements has %d bytes", p.count, len(value))
		}
	default:
		return p, fmt.Errorf("a value of type %s has no parts", t.CQL())
	}
	return p, nil
}

// next steps to the next part: its type, and its bytes within those of the whole, nil if it is null. The type is nil
// behind the last part.
func (p *parts) next() (typ *Type, part []byte, err error) {
	if p.index == p.count {
		if len(p.rest) > 0 {
			return nil, nil, fmt.Errorf("%d bytes stand behind the last part of a %s", len(p.rest), p.typ.kindName())
		}
		return nil, nil, nil
	}
	typ = p.typ.Elems[p.index%len(p.typ.Elems)]
	p.index++
	switch {
	case p.fixed > 0:
		part, p.rest = p.rest[:p.fixed:p.fixed], p.rest[p.fixed:]
		return typ, part, nil
	case p.typ.Kind == KindVector:
		n, size := readUvint(p.rest)
		if size == 0 || n > math.MaxInt32 || int(n) > len(p.rest)-size {
			return nil, nil, p.cut()
		}
		end := size + int(n)
		part, p.rest = p.rest[size:end:end], p.rest[end:]
		return typ, part, nil
	case len(p.rest) == 0 && (p.typ.Kind == KindTuple || p.typ.Kind == KindUDT):
		return typ, nil, nil
	case len(p.rest) < 4:
		return nil, nil, p.cut()
	}
	n := int(int32(binary.BigEndian.Uint32(p.rest)))
	p.rest = p.rest[4:]
	if n < 0 {
		return typ, nil, nil
	}
	if n > len(p.rest) {
		return nil, nil, p.cut()
	}
	part, p.rest = p.rest[:n:n], p.rest[n:]
	return typ, part, nil
}

// cut is the error that the value ends within the part that was to be read.
func (p *parts) cut() error { return p.within(errors.New("it is cut off")) }

// within says in which part an error was met: the one that was read last.
func (p *parts) within(err error) error {
	i := p.index - 1
	switch p.typ.Kind {
	case KindMap:
		what := "key"
		if i%2 == 1 {
			what = "value"
		}
		return fmt.Errorf("%s %d of a map: %w", what, i/2, err)
	case KindUDT:
		return fmt.Errorf("field %s of a %s: %w", QuoteIdentifier(p.typ.Fields[i]), p.typ.kindName(), err)
	case KindTuple:
		return fmt.Errorf("field %d of a tuple: %w", i, err)
	}
	return fmt.Errorf("element %d of a %s: %w", i, p.typ.kindName(), err)
}

// kindName names the kind of a type that is not native, without what is nested in it.
func (t *Type) kindName() string {
	switch t.Kind {
	case KindList:
		return "list"
	case KindSet:
		return "set"
	case KindMap:
		return "map"
	case KindTuple:
		return "tuple"
	case KindVector:
		return "vector"
	case KindUDT:
		return QuoteIdentifier(t.Name)
	}
	return t.CQL()
}
