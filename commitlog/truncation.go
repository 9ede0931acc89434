package commitlog

import (
	"encoding/binary"
	"fmt"
)

// Truncation is what a node remembers of the last truncation of a table.
type Truncation struct {
	// Position is where it took effect: what the log has of the table up to there is gone.
	Position Position
	// Time is when, in microseconds since 1970, by the node's clock.
	Time int64
}

// ParseTruncation reads a value of the column truncated_at of system.local. Source: SystemKeyspace.truncationAsMapEntry.
func ParseTruncation(value []byte) (t Truncation, err error) {
	if len(value) != 20 {
		return t, fmt.Errorf("truncated_at: expected 20 bytes, found %d: %x", len(value), value)
	}
	t.Position = Position{Segment: int64(binary.BigEndian.Uint64(value)), Offset: int64(int32(binary.BigEndian.Uint32(value[8:])))}
	t.Time = int64(binary.BigEndian.Uint64(value[12:])) * 1000
	return t, nil
}
