// Package dedup turns raw records, one from each replica and in any order, into exactly one event per change.
package dedup

import (
	"cassdelta/internal/rawtopic"
	"cassdelta/schema"
)

// Op is the kind of an event.
type Op byte

const (
	Create Op = 'c'
	Update Op = 'u'
	Delete Op = 'd'
	Read   Op = 'r' // a row first seen by a snapshot
)

// Reason says what made a change.
type Reason string

const (
	ReasonMutation Reason = "mutation"
	ReasonTTL      Reason = "ttl"
	ReasonTruncate Reason = "truncate"
	ReasonDrop     Reason = "drop"
)

// Event is one change of one row. It and all that it points to is valid until the function that received it returns.
type Event struct {
	// Table is the joined definition that the images refer to.
	Table *schema.Table
	// Cluster is the name of the Cassandra cluster.
	Cluster string
	Op      Op
	// Reason is why.
	Reason Reason
	// Complete is false while the state may miss the past of the row.
	Complete bool
	// Key is the partition key as serialized; Partition holds its values.
	Key       []byte
	Partition [][]byte
	// Static marks the event of a partition's static row; Clustering is nil then.
	Static     bool
	Clustering [][]byte
	// Before and After are images, nil where the row does not exist: the value of each column by its index in
	// Table.Columns (nil is null; key columns are left nil here). That of a counter is its total, as of a bigint. A collection or user type that is not frozen has the
	// value that the frozen one would have. A row image has no statics and a static image nothing
	// else. Before of a deletion of a row never seen has all columns null: the event's key is all that is known.
	Before, After [][]byte
	// Changed are the columns with a cell that the change wrote, deleted or let expire, by their index in Table.Columns, in
	// order: of a new row those that it has, of one that is gone those that it had. A cell that was written with the value
	// that it had is among them. Empty if the change is of the liveness alone.
	Changed []int
	// Timestamp is the write time of the change in microseconds: the newest among what changed the row. If Reason is
	// ReasonTTL it is the second of the expiry.
	Timestamp int64
	// Origin is that of the raw record whose copy came first; zero if time alone made the change.
	Origin rawtopic.Origin
	// RawPartition, RawOffset and Index say which event of which raw record this is; Index counts from 0 and goes on
	// across transactions.
	RawPartition int32
	RawOffset    int64
	Index        int64
}
