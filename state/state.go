// Package state keeps the state of raw partitions in Pebble. Keys and values are opaque bytes to it but for the
// layout of keys; what they mean is the fold's business.
//
// One [Store] is one raw partition. Its position S is written in the same batch as what the fold derived from the
// input before S, and never before the output of that input is committed in Kafka at C: S <= C, see [Position].
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
		return Position{}, fmt.Errorf("the stored position has %d bytes, expected %d; move the directory away, the state is then built again from the raw topic", len(value), positionLen)
	}
	return Position{
		Offset: int64(binary.BigEndian.Uint64(value)),
		Done:   int64(binary.BigEndian.Uint64(value[8:])),
	}, nil
}
