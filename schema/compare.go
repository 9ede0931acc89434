package schema

import (
	"bytes"
	"cmp"
)

// Compare orders two values of one type as Cassandra does: negative, 0 or positive. It finds values equal when the
// comparator does, even if their bytes differ. Null, nil, comes first. Values that [Type.Validate] refuses stand
// anywhere. Source: AbstractType.compare of each type.
func (t *Type) Compare(a, b []byte) int { return t.compare(a, b, 0) }

// compare is Compare for values within depth others.
func (t *Type) compare(a, b []byte, depth int) int {
	switch {
	case a == nil || b == nil:
		return order(a != nil, b != nil)
	case len(a) == 0 || len(b) == 0:
		return order(len(a) > 0, len(b) > 0)
	}
	switch t.Kind {
	case KindASCII, KindText, KindBlob, KindCustom, KindDuration, KindCounter, KindEmpty:
		return bytes.Compare(a, b)
	case KindList, KindSet, KindMap, KindTuple, KindUDT, KindVector:
		return t.compareParts(a, b, depth)
	}
	var room [2][64]byte
	formA, errA := t.appendComparableNative(room[0][:0], a)
	formB, errB := t.appendComparableNative(room[1][:0], b)
	if errA != nil || errB != nil {
		return bytes.Compare(a, b)
	}
	return bytes.Compare(formA, formB)
}

// compareParts compares two values, neither of which is empty, part by part. A null part comes first, and a field that
// is missing is null; of collections that begin alike, the shorter one comes first.
func (t *Type) compareParts(a, b []byte, depth int) int {
	partsA, errA := t.parts(a)
	partsB, errB := t.parts(b)
	for depth < maxValueDepth && errA == nil && errB == nil {
		var typeA, typeB *Type
		var partA, partB []byte
		typeA, partA, errA = partsA.next()
		typeB, partB, errB = partsB.next()
		if errA != nil || errB != nil {
			break
		}
		if typeA == nil || typeB == nil {
			return cmp.Compare(partsA.size, partsB.size)
		}
		if c := typeA.compare(partA, partB, depth+1); c != 0 {
			return c
		}
	}
	return bytes.Compare(a, b)
}

// ComparePaths orders the paths of a multi-cell column's cells as Cassandra does.
func (t *Type) ComparePaths(a, b []byte) int {
	switch t.Kind {
	case KindList:
		return nativeTypes["timeuuid"].Compare(a, b)
	case KindUDT:
		return nativeTypes["smallint"].Compare(a, b)
	}
	return t.Elems[0].Compare(a, b)
}

// order compares flags: false comes before true.
func order(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}
