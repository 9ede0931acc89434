// Package schema describes Cassandra tables: their columns and types, the values in them, and the Avro schemas of
// the events made from them.
//
// A [Table] is a value: it is never changed after it was built, so it can be shared between goroutines, and two
// tables with the same [Table.Hash] are the same definition. Where a definition comes from (system_schema by CQL,
// a CQL file, a raw topic's schema record) makes no difference to it.
package schema

import (
	"encoding/hex"
	"fmt"
)

// UUID is a 128-bit identifier in the byte order of RFC 9562: a table id, a host id. The zero value is "none".
type UUID [16]byte

// String gives the usual lower-case form with dashes.
func (u UUID) String() string { return string(u.Append(make([]byte, 0, 36))) }

// Append appends the form with dashes.
func (u UUID) Append(b []byte) []byte {
	b = hex.AppendEncode(b, u[:4])
	for _, part := range [...][]byte{u[4:6], u[6:8], u[8:10], u[10:]} {
		b = append(b, '-')
		b = hex.AppendEncode(b, part)
	}
	return b
}

// IsZero reports whether u is "none".
func (u UUID) IsZero() bool { return u == UUID{} }

// Time is the time in microseconds since 1970 at which a timeuuid was made; ok is false if u is none.
func (u UUID) Time() (micros int64, ok bool) {
	if u[6]>>4 != 1 {
		return 0, false
	}
	ticks := int64(u[6]&0x0f)<<56 | int64(u[7])<<48 | int64(u[4])<<40 | int64(u[5])<<32 |
		int64(u[0])<<24 | int64(u[1])<<16 | int64(u[2])<<8 | int64(u[3]) // of 100 ns, since 1582-10-15
	const epoch = 122192928000000000
	return (ticks - epoch) / 10, true
}

// ParseUUID reads the form with dashes, in either case.
func ParseUUID(s string) (UUID, error) {
	var u UUID
	if len(s) != 36 || s[8] != '-' || s[13] != '-' || s[18] != '-' || s[23] != '-' {
		return UUID{}, fmt.Errorf("uuid %q: expected 8-4-4-4-12 hexadecimal digits", s)
	}
	digits := s[0:8] + s[9:13] + s[14:18] + s[19:23] + s[24:36]
	if _, err := hex.Decode(u[:], []byte(digits)); err != nil {
		return UUID{}, fmt.Errorf("uuid %q: %w", s, err)
	}
	return u, nil
}

// ColumnKind says which part of a row a column belongs to.
type ColumnKind uint8

const (
	PartitionKey ColumnKind = iota
	Clustering
	Static
	Regular
)

// Column is one column of a table.
type Column struct {
	Name string
	Kind ColumnKind
	// Position is the index within the partition key or within the clustering, and 0 for static and regular columns.
	Position int
	Type     *Type
	// Desc is set on clustering columns in descending order. The type is the base type all the same: the bytes do not
	// differ.
	Desc bool
}

// DroppedColumn is a row of system_schema.dropped_columns.
type DroppedColumn struct {
	Name string
	// Kind is Static or Regular: no other column can be dropped.
	Kind ColumnKind
	Type *Type
	// DroppedAt is in microseconds since 1970. Cells of this name with a time stamp at or below it do not exist, also
	// when a column of this name was added again.
	DroppedAt int64
}

// Table is one definition of a table.
type Table struct {
	Keyspace, Name string
	ID             UUID
	// Columns holds the partition key by position, the clustering by position, then static columns and then regular
	// columns, each group by name in byte order. A column's index in this slice names it in raw records.
	Columns []Column
	// Dropped is ordered by name in byte order. Raw records name a dropped column by len(Columns) + its index.
	Dropped []DroppedColumn
	// GCGraceSeconds is gc_grace_seconds.
	GCGraceSeconds int32
	// CDC is the table option of that name.
	CDC bool
	// Flags are those of system_schema.tables (compound, dense, super, counter), ordered.
	Flags []string
	// View is set for a materialized view.
	View bool
	// AlteredAt is the time of the DDL that made this definition, in microseconds: the newest write time among the
	// table's rows of system_schema. 0 means unknown, as from a CQL file. It is no part of the definition or its hash.
	AlteredAt int64

	hash       Hash
	definition []byte
	byName     map[string]int
	droppedBy  map[string]int
	partition  int // columns[:partition] are the partition key
	clustering int // columns[partition:clustering] are the clustering
	static     int // columns[clustering:static] are static, the rest regular
}

// Hash identifies a definition by its content: the first 16 bytes of the SHA-256 of [Table.Definition].
type Hash [16]byte

// String gives lower-case hexadecimal digits.
func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// FullName is keyspace.table, unquoted: for logs, metrics and topic names.
func (t *Table) FullName() string { return t.Keyspace + "." + t.Name }

// PartitionKeyColumns, ClusteringColumns, StaticColumns and RegularColumns are sub-slices of Columns.
func (t *Table) PartitionKeyColumns() []Column { return t.Columns[:t.partition] }

// ClusteringColumns is the clustering by position; empty if the table has none.
func (t *Table) ClusteringColumns() []Column { return t.Columns[t.partition:t.clustering] }

// StaticColumns is the static columns by name.
func (t *Table) StaticColumns() []Column { return t.Columns[t.clustering:t.static] }

// RegularColumns is the regular columns by name.
func (t *Table) RegularColumns() []Column { return t.Columns[t.static:] }

// ColumnIndex finds a column by name in Columns.
func (t *Table) ColumnIndex(name string) (int, bool) {
	i, ok := t.byName[name]
	return i, ok
}

// DroppedIndex finds a dropped column by name in Dropped.
func (t *Table) DroppedIndex(name string) (int, bool) {
	i, ok := t.droppedBy[name]
	return i, ok
}

// Hash is the hash of the definition.
func (t *Table) Hash() Hash { return t.hash }

// Definition is the canonical text (JSON) of everything above with user types expanded, the input of Hash and of
// [ParseDefinition]. The caller must not change it.
func (t *Table) Definition() []byte { return t.definition }
