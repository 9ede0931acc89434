package sink

import (
	"encoding/binary"
	"fmt"

	"cassdelta/dedup"
)

// The headers of a clean record, each a number in decimal digits.
const (
	HeaderRawPartition = dedup.HeaderRawPartition
	HeaderRawOffset    = dedup.HeaderRawOffset
	HeaderIndex        = dedup.HeaderIndex
)

// appendSingleObjectHeader appends what stands before a datum in Avro's single-object encoding: the bytes C3 01 and the
// fingerprint of the schema (8 bytes, little-endian).
func appendSingleObjectHeader(dst []byte, fingerprint uint64) []byte {
	return binary.LittleEndian.AppendUint64(append(dst, 0xc3, 0x01), fingerprint)
}

// cutSingleObjectHeader splits a key or a value in single-object encoding.
func cutSingleObjectHeader(b []byte) (fingerprint uint64, datum []byte, err error) {
	if len(b) < 10 || b[0] != 0xc3 || b[1] != 0x01 {
		return 0, nil, fmt.Errorf("expected Avro's single-object encoding, the bytes c3 01 and 8 bytes of a fingerprint, found %d bytes that begin with %x",
			len(b), b[:min(len(b), 10)])
	}
	return binary.LittleEndian.Uint64(b[2:]), b[10:], nil
}

// schemaKey is the key of a schema in the schema topic: its fingerprint in 16 lower-case hexadecimal digits.
func schemaKey(fingerprint uint64) string { return fmt.Sprintf("%016x", fingerprint) }
