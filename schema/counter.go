package schema

import (
	"encoding/binary"
	"fmt"
)

// Of a counter's context: the size of its header's size, of an entry of the header, and of a shard and what stands before
// its count.
const (
	counterSize   = 2
	counterEntry  = 2
	counterShard  = 16 + 8 + 8 // the counter's id, its clock, its count
	counterBefore = counterShard - 8
)

// CounterTotal is the value of a counter: the sum of the counts in the context that a counter's cell holds, or, of 8
// bytes, the number that they are (no context with a shard is of that length).
//
// A context is the number of the header's entries (2 bytes, signed; negative if shards are to be cleared), the entries (2
// bytes each), and the shards of 32 bytes, one for each node that has counted: id, clock and count. A node logs the
// shards that it knows, so a context in a commit log need not have all. Source: CounterContext.total.
func CounterTotal(value []byte) (int64, error) {
	if len(value) == 8 {
		return int64(binary.BigEndian.Uint64(value)), nil
	}
	if len(value) < counterSize {
		return 0, fmt.Errorf("a counter has %d bytes, expected 8 or a context", len(value))
	}
	entries := int(int16(binary.BigEndian.Uint16(value)))
	header := counterSize + max(entries, -entries)*counterEntry
	if len(value) < header || (len(value)-header)%counterShard != 0 {
		return 0, fmt.Errorf("a counter's context has %d bytes and %d entries in its header, expected %d bytes and shards of %d bytes",
			len(value), max(entries, -entries), header, counterShard)
	}
	total := int64(0)
	for shard := value[header:]; len(shard) > 0; shard = shard[counterShard:] {
		total += int64(binary.BigEndian.Uint64(shard[counterBefore:counterShard]))
	}
	return total, nil
}
