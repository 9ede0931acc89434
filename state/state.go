// Package state keeps the state of raw partitions in Pebble. Keys and values are opaque bytes to it but for the
// layout of keys; what they mean is the fold's business.
//
// One [Store] is one raw partition, in a directory of its own. Its position S is written in the same batch as what the
// fold derived from the input before S, and never before the output of that input is committed in Kafka at C: S <= C,
// see [Position]. There is no write-ahead log: after a crash the store is at an older commit, with that commit's
// position, and the raw topic is folded again from there to C without emitting. docs/state.md has the reasons.
//
// # Keys
//
// Integers are big-endian, signed ones with the sign bit flipped, so that the order of keys is that of their parts.
//
//	group u16 | space u8 | what the space says
//
// The group is the raw partition, or [StoreGroup]. The spaces:
//
//	1 meta    name, to the end of the key
//	2 schema  hash of the definition, 16 bytes
//	3 joined  table id, 16 bytes
//	4 part    host id, 16 bytes | index u32
//	5 timer   expiry in seconds i64 | the rest of the key of what expires, without its group
//	6 rows    table id, 16 bytes | token i64 | partition key | kind u8 | clustering, to the end of the key
//
// The partition key has each byte 00 written as 00 FF, and is ended by 00 01: no key is the prefix of another, and
// a key sorts before those it is a prefix of. Partition key and clustering are given in their canonical form: equal
// bytes if and only if Cassandra's comparator finds the values equal, in its order. The kinds, within a partition:
//
//	0 header  clustering empty
//	1 static  clustering empty
//	2 range   a bound of the range tombstone
//	3 row     the row's clustering
//
// The store itself keeps, under meta, "position" in the group of its raw partition (offset i64, done i64, both
// big-endian) and "identity" in [StoreGroup] (JSON, see [Identity]).
package state

import (
	"encoding/binary"
	"fmt"
)

// Position is a place in a raw partition: the first Done events of the record at Offset are done, and all records
// before it.
type Position struct {
	Offset int64
	Done   int64
}

// Compare orders positions of one partition: -1, 0 or 1.
func (p Position) Compare(q Position) int {
	switch {
	case p.Offset < q.Offset, p.Offset == q.Offset && p.Done < q.Done:
		return -1
	case p == q:
		return 0
	}
	return 1
}

// String is the position as people read it.
func (p Position) String() string {
	return fmt.Sprintf("%d+%d", p.Offset, p.Done)
}

// positionLen is the length of a stored position: two big-endian integers of 64 bits.
const positionLen = 16

func appendPosition(dst []byte, p Position) []byte {
	dst = binary.BigEndian.AppendUint64(dst, uint64(p.Offset))
	return binary.BigEndian.AppendUint64(dst, uint64(p.Done))
}

func decodePosition(value []byte) (Position, error) {
	if len(value) != positionLen {
		return Position{}, fmt.Errorf("the stored position has %d bytes, expected %d; move the directory away: "+
			"the state is then built again from the raw topic", len(value), positionLen)
	}
	return Position{
		Offset: int64(binary.BigEndian.Uint64(value)),
		Done:   int64(binary.BigEndian.Uint64(value[8:])),
	}, nil
}
