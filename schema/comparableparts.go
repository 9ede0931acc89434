package schema

import "fmt"

// appendComparableParts appends the forms of the parts of a value that is within depth others, and their end. Source:
// ListType.compareListOrSet, MapType.compareMaps, TupleType.compareCustom, VectorType.compareCustom.
func (t *Type) appendComparableParts(dst, value []byte, depth int) ([]byte, error) {
	if depth == maxValueDepth {
		return nil, errTooDeep
	}
	p, err := t.parts(value)
	if err != nil {
		return nil, err
	}
	if p.size < 0 {
		// Cassandra takes such a value, and orders it before the one that is empty, as if it were another.
		return nil, fmt.Errorf("a %s has the size %d, which cannot be part of a key", t.kindName(), p.size)
	}
	end := len(dst) // behind the last part that counts
	for {
		typ, part, err := p.next()
		if err != nil {
			return nil, err
		}
		if typ == nil {
			return append(dst[:end], formEnd), nil
		}
		if dst, err = typ.appendComparable(dst, part, depth+1); err != nil {
			return nil, p.within(err)
		}
		if part != nil || t.Kind != KindTuple && t.Kind != KindUDT {
			end = len(dst)
		}
	}
}
