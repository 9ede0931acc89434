// Package rawtopic is the format of the raw topic, which carries what the agents read to the dedup consumers.
//
// A raw record is the same whatever version of Cassandra wrote the mutation; values stay in CQL's binary form. Each
// Kafka value is one Avro datum in single-object encoding (the bytes C3 01, the little-endian CRC-64-AVRO
// fingerprint of [AvroSchema], then the datum), a union of data and control records. Kafka keys are null: the
// partition is set by the writer, see [Partition].
//
// Each partition begins with an [Init]. A [Schema] with a definition comes before the first [Data] with its hash. A data
// record too large for one Kafka record is cut into [Part] records: slices of its encoding, in order, all in
// the partition of the whole.
package rawtopic

import (
	"cassdelta/commitlog"
	"cassdelta/schema"
)

// Kind is the branch of the union, with its number in the schema.
type Kind uint8

const (
	KindData Kind = iota
	KindPart
	KindInit
	KindSchema
	KindTick
	KindHeartbeat
	KindTruncate
	KindDrop
	KindSeedBegin
	KindSeedEnd
	KindAgentJoined
	KindAgentRetired
)

// Origin says where an update was read. It takes no part in merges: the fold looks at it to put parts together, and to tell
// what a node wrote before it truncated a table from what it wrote after.
type Origin struct {
	// Host is the id of the node whose log it was.
	Host schema.UUID
	// Position is that of the mutation.
	Position commitlog.Position
	// Update is the index of the update in the mutation.
	Update int32
}

// Record is one raw record: Kind says which of the fields after it is set.
type Record struct {
	Kind         Kind
	Data         *Data
	Part         *Part
	Init         *Init
	Schema       *Schema
	Tick         *Tick
	Heartbeat    *Heartbeat
	Truncate     *Truncate
	Drop         *Drop
	SeedBegin    *Seed
	SeedEnd      *Seed
	AgentJoined  *Agent
	AgentRetired *Agent
}

// Data is what one mutation writes to one partition of one table.
type Data struct {
	Origin Origin
	// Content is, of a record that was decoded, the encoding of all that follows; see the function [Content].
	Content []byte
	// Schema is the hash of the definition that column numbers refer to.
	Schema schema.Hash
	// Key is the partition key as serialized.
	Key      []byte
	Deletion commitlog.Deletion
	// Static is nil if the update has no static row.
	Static *commitlog.Row
	Rows   []commitlog.Row
	// Ranges are the range tombstones, from the markers of the log: each stands alone, none overlap.
	Ranges []Range
}

// Range is a deletion of all rows between two bounds.
type Range struct {
	Start, End Bound
	Deletion   commitlog.Deletion
}

// Bound is one end of a range. An empty prefix is the end of the partition.
type Bound struct {
	Prefix    [][]byte
	Inclusive bool
}

// Part is one slice of the encoding of a data record.
type Part struct {
	Origin Origin
	// Index counts from 0; Count is at least 2.
	Index, Count int32
	// Bytes is a slice of the encoded record (single-object header included).
	Bytes []byte
}

// Init is the first record of every partition. Several agents may write it; repeats must agree.
type Init struct {
	// Cluster is Cassandra's cluster name.
	Cluster string
	// TopicID is the topic id Kafka gave; zero if the broker has none.
	TopicID schema.UUID
	// Partitions is the number of partitions of the topic, which never changes.
	Partitions int32
	// Version is that of the format, now 1.
	Version int32
}

// Schema is a definition, sent to a partition before its first use there.
type Schema struct {
	Hash schema.Hash
	// Definition is the text of schema.Table.Definition.
	Definition []byte
	// AlteredAt is schema.Table.AlteredAt, microseconds, 0 if unknown.
	AlteredAt int64
	// Host is the id of the node whose agent sends it.
	Host schema.UUID
	// Created says that the agent reads all that its node ever wrote to the table, which was created with cdc = true. False
	// says that it does not know, or that writes are missing.
	Created bool
}

// Tick says that time has come to Watermark, in microseconds since 1970: what expires by then does.
type Tick struct{ Watermark int64 }

// Heartbeat says that Kafka has acknowledged all that a node had flushed to its log at Time. It is in the topic
// [HeartbeatTopic], with the host id's text as its key.
type Heartbeat struct {
	Host schema.UUID
	// Time is in microseconds since 1970, by the clock of the agent. 0: the agent does not know yet.
	Time int64
}

// Truncate says that a node has truncated a table: what its log has of it at or before Origin.Position is gone, whatever
// its write time.
type Truncate struct {
	Origin Origin
	Table  schema.UUID
	// Timestamp is when, by the node's clock, in microseconds since 1970.
	Timestamp int64
}

// Drop says that a table was dropped, at Origin.Position in the log of a node.
type Drop struct {
	Origin Origin
	Table  schema.UUID
	// Timestamp is the time of the DDL statement in microseconds since 1970.
	Timestamp int64
}

// Seed begins or ends a snapshot of a table's token range (Start, End].
type Seed struct {
	ID         schema.UUID
	Table      schema.UUID
	Start, End int64
}

// Agent tells of an agent that joined, or was retired for good.
type Agent struct{ Host schema.UUID }
