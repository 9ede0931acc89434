package schema

import (
	"encoding/binary"
	"fmt"
)

// SplitPartitionKey appends the values of the partition key's columns to dst. The values are parts of key, not copies.
//
// The key of a table with one partition key column is that column's value. Of several columns it is, for each, the
// value's length (2 bytes, unsigned, big-endian), the value, and a byte 0. Source: CompositeType.
func (t *Table) SplitPartitionKey(dst [][]byte, key []byte) ([][]byte, error) {
	if t.partition == 1 {
		return append(dst, key), nil
	}
	rest := key
	for i, c := range t.Columns[:t.partition] {
		if len(rest) < 2 {
			return dst, fmt.Errorf("partition key of %s: expected the length of column %s (component %d of %d) at byte %d, found the end",
				t.FullName(), c.Name, i+1, t.partition, len(key))
		}
		n := int(binary.BigEndian.Uint16(rest))
		rest = rest[2:]
		if len(rest) < n+1 {
			return dst, fmt.Errorf("partition key of %s: expected %d bytes of column %s and a byte 0 at byte %d, found %d bytes",
				t.FullName(), n, c.Name, len(key)-len(rest), len(rest))
		}
		if rest[n] != 0 {
			return dst, fmt.Errorf("partition key of %s: expected a byte 0 behind column %s at byte %d, found %#02x",
				t.FullName(), c.Name, len(key)-len(rest)+n, rest[n])
		}
		dst = append(dst, rest[:n:n])
		rest = rest[n+1:]
	}
	if len(rest) > 0 {
		return dst, fmt.Errorf("partition key of %s: expected its end behind %d columns at byte %d, found %d more bytes",
			t.FullName(), t.partition, len(key)-len(rest), len(rest))
	}
	return dst, nil
}

// JoinPartitionKey appends the partition key with these values to dst: the opposite of [Table.SplitPartitionKey]. There
// is a value for each partition key column, none longer than the 65535 bytes that Cassandra allows.
func (t *Table) JoinPartitionKey(dst []byte, values [][]byte) []byte {
	if t.partition == 1 {
		return append(dst, values[0]...)
	}
	for _, v := range values {
		dst = binary.BigEndian.AppendUint16(dst, uint16(len(v)))
		dst = append(dst, v...)
		dst = append(dst, 0)
	}
	return dst
}
