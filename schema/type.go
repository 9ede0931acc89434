package schema

import "strings"

// Kind is the family of a CQL type.
type Kind uint8

// The native types stand between KindCustom and KindList: see [Type.Native].
const (
	KindCustom Kind = iota // a class name that CQL has no name for; values are raw bytes
	KindASCII
	KindBigint
	KindBlob
	KindBoolean
	KindCounter
	KindDate
	KindDecimal
	KindDouble
	KindDuration
	KindEmpty
	KindFloat
	KindInet
	KindInt
	KindSmallint
	KindText // varchar too
	KindTime
	KindTimestamp
	KindTimeuuid
	KindTinyint
	KindUUID
	KindVarint
	KindList
	KindSet
	KindMap
	KindTuple
	KindUDT
	KindVector
)

// Type is a CQL type. It is never changed after it was built.
type Type struct {
	Kind Kind
	// Frozen is set on frozen<> collections and user types, and always on what is nested in another type: it decides
	// whether a regular or static column is multi-cell. Tuples and vectors are always frozen.
	Frozen bool
	// Elems: list and set: the element; map: key and value; tuple and user type: the fields; vector: the element.
	Elems []*Type
	// Fields are the names of a user type's fields, as many as Elems.
	Fields []string
	// Keyspace and Name are a user type's; Name alone is the class of a custom type.
	Keyspace, Name string
	// Dimension is the number of elements of a vector.
	Dimension int
}

// MultiCell reports whether a regular or static column of this type is stored as one cell per element: a
// collection or user type that is not frozen. Source: AbstractType.isMultiCell.
func (t *Type) MultiCell() bool {
	switch t.Kind {
	case KindList, KindSet, KindMap, KindUDT:
		return !t.Frozen
	}
	return false
}

// FixedLength is the length in bytes that every non-empty cell value of this type has where the commit log leaves
// the length out, or -1 when the log carries a length. Note that date, time, smallint, tinyint and counter carry
// one although their size is constant. Source: AbstractType.valueLengthIfFixed.
func (t *Type) FixedLength() int {
	switch t.Kind {
	case KindBoolean:
		return 1
	case KindInt, KindFloat:
		return 4
	case KindBigint, KindDouble, KindTimestamp:
		return 8
	case KindUUID, KindTimeuuid:
		return 16
	case KindEmpty:
		return 0
	case KindVector:
		if n := t.Elems[0].FixedLength(); n >= 0 {
			return n * t.Dimension
		}
	case KindCustom:
		if t.lexicalUUID() {
			return 16
		}
	}
	return -1
}

// marshalPackage is what Cassandra puts before the name of a class of types that has none.
const marshalPackage = "org.apache.cassandra.db.marshal."

// lexicalUUID reports whether the type is Cassandra's own LexicalUUIDType: of those that CQL can name by their class only, it
// is the one with values of a fixed length, and with a text.
func (t *Type) lexicalUUID() bool {
	return t.Kind == KindCustom && strings.TrimPrefix(t.Name, marshalPackage) == "LexicalUUIDType"
}
