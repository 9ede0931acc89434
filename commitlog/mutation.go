package commitlog

import (
	"math"

	"cassdelta/schema"
)

// Position is a place in a node's commit log: the logical offset after the trailing checksum of an entry, as
// Cassandra reports it (CommitLogPosition). The zero value is before everything.
type Position struct {
	// Segment is the segment id.
	Segment int64
	// Offset counts uncompressed bytes from the start of the segment.
	Offset int64
}

// Compare orders positions of one node: -1, 0 or 1.
func (p Position) Compare(q Position) int {
	switch {
	case p.Segment != q.Segment:
		if p.Segment < q.Segment {
			return -1
		}
		return 1
	case p.Offset < q.Offset:
		return -1
	case p.Offset > q.Offset:
		return 1
	}
	return 0
}

// NoTimestamp is the write time of a deletion that does not exist. Source: DeletionTime.LIVE.
const NoTimestamp = math.MinInt64

// NoDeletionTime is the local deletion time of what is neither deleted nor expiring, whatever version wrote it.
const NoDeletionTime = math.MaxInt64

// InvalidDeletionTime is the local deletion time or expiry that Cassandra 5.0 puts in place of one that cannot be.
// Source: Cell.INVALID_DELETION_TIME.
const InvalidDeletionTime = 0xfffffffe

// Deletion is a deletion of a partition, a range, a row or a multi-cell column. It covers what was written at or
// before Timestamp.
type Deletion struct {
	// Timestamp is markedForDeleteAt in microseconds, NoTimestamp if there is no deletion (the second field then
	// means nothing).
	Timestamp int64
	// LocalTime is the local deletion time in seconds since 1970.
	LocalTime int64
}

// LiveDeletion is no deletion.
var LiveDeletion = Deletion{Timestamp: NoTimestamp, LocalTime: NoDeletionTime}

// IsLive reports whether there is no deletion.
func (d Deletion) IsLive() bool { return d.Timestamp == NoTimestamp }

// Liveness is the primary key liveness of a row: what an INSERT writes and an UPDATE does not.
type Liveness struct {
	// Timestamp is in microseconds, NoTimestamp if there is no liveness.
	Timestamp int64
	// TTL is in seconds, 0 if it does not expire. ExpiredLivenessTTL marks expired liveness of view rows.
	TTL int32
	// ExpiresAt is in seconds since 1970, NoDeletionTime if it does not expire.
	ExpiresAt int64
}

// ExpiredLivenessTTL is LivenessInfo.EXPIRED_LIVENESS_TTL.
const ExpiredLivenessTTL = math.MaxInt32

// Cell is one cell of a row. Byte slices point into the decoder's input.
type Cell struct {
	// Column is the index in Table.Columns, or len(Table.Columns) + the index in Table.Dropped.
	Column int
	// Path is the element of a multi-cell column (timeuuid of a list, element of a set, key of a map, field number of
	// a user type), nil for a simple column.
	Path []byte
	// Timestamp is in microseconds.
	Timestamp int64
	// TTL is in seconds, 0 if the cell does not expire.
	TTL int32
	// LocalTime, in seconds since 1970: of a tombstone its local deletion time, of an expiring cell the second of its
	// expiry, else NoDeletionTime.
	LocalTime int64
	// Deleted marks a tombstone; Value is nil then. A live cell with an empty value has a Value that is not nil and of
	// length 0.
	Deleted bool
	Value   []byte
}

// ComplexDeletion is the deletion of all elements of a multi-cell column.
type ComplexDeletion struct {
	Column int
	Deletion
}

// Row is a clustered row or the static row of an update.
type Row struct {
	// Clustering holds a value for each clustering column; nil elements are null (COMPACT STORAGE only), elements of
	// length 0 are empty values. It is empty for the static row and in tables without clustering.
	Clustering [][]byte
	Liveness   Liveness
	Deletion   Deletion
	// Shadowable marks Deletion as void once the row has a newer liveness (old materialized views only).
	Shadowable       bool
	Cells            []Cell
	ComplexDeletions []ComplexDeletion
}

// IsEmpty reports whether the row writes nothing, as a row does that had only dropped columns.
func (r *Row) IsEmpty() bool {
	return r.Liveness.Timestamp == NoTimestamp && r.Deletion.IsLive() && len(r.Cells) == 0 && len(r.ComplexDeletions) == 0
}

// BoundKind is the kind of a range tombstone bound or boundary, with the numbers of the serialization.
// Source: ClusteringPrefix.Kind.
type BoundKind uint8

const (
	ExclEndBound             BoundKind = 0
	InclStartBound           BoundKind = 1
	ExclEndInclStartBoundary BoundKind = 2
	InclEndExclStartBoundary BoundKind = 5
	InclEndBound             BoundKind = 6
	ExclStartBound           BoundKind = 7
)

// Marker opens or closes a range tombstone, or does both.
type Marker struct {
	Kind BoundKind
	// Prefix is a prefix of the clustering; fewer values than clustering columns stand for all rows with that prefix,
	// none for the end of the partition.
	Prefix [][]byte
	// End is the deletion of the range that ends here, LiveDeletion for a start bound.
	End Deletion
	// Start is the deletion of the range that starts here, LiveDeletion for an end bound.
	Start Deletion
}

// Unfiltered is a row or a marker: exactly one of the two is not nil.
type Unfiltered struct {
	Row    *Row
	Marker *Marker
}

// Update is what one mutation writes to one partition of one table.
type Update struct {
	Table *schema.Table
	// Index is the number of the update in its mutation, from 0.
	Index int
	// Key is the partition key as serialized, composites included.
	Key      []byte
	Deletion Deletion
	// Static is nil if the update has no static row.
	Static *Row
	// Unfiltereds is in clustering order.
	Unfiltereds []Unfiltered
	// Suspects counts multi-cell columns of its rows that stand there without a cell and without a deletion: the mark
	// of a deletion that Cassandra left out of the log (CASSANDRA-20449).
	Suspects int
}

// Mutation is one entry of the log: the updates of one partition key of one keyspace.
//
// A mutation and all that hangs on it belongs to the decoder that made it, and is valid until that decoder is used
// again.
type Mutation struct {
	Position Position
	// Size is the length of the payload in bytes.
	Size int
	// Count is the number of updates in the payload, those of tables not wanted included.
	Count   int
	Updates []Update
	// Leftover is the number of bytes of the payload behind the last update; Cassandra ignores them.
	Leftover int
}
