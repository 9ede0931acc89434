package commitlog

import (
	"encoding/binary"
	"hash/crc32"
)

// hash/crc32 folds 16 bytes at a time where the processor can, and goes on byte by byte, each waiting for the one before.
// Half of what it takes for an entry is that: the four bytes of its size and the up to 15 behind its last 16. These
// tables take four bytes in one step: checksumTables[k][b] is what the byte b adds to the CRC when k more bytes follow it.
var checksumTables = func() (t [4][256]uint32) {
	for b := range 256 {
		crc := crc32.IEEETable[b]
		t[0][b] = crc
		for k := 1; k < len(t); k++ {
			crc = crc32.IEEETable[crc&0xff] ^ crc>>8
			t[k][b] = crc
		}
	}
	return t
}()

// checksum continues a CRC-32 (IEEE) over b, as crc32.Update does; 0 begins one.
func checksum(crc uint32, b []byte) uint32 {
	if n := len(b) &^ 15; n >= 64 {
		crc = crc32.Update(crc, crc32.IEEETable, b[:n])
		b = b[n:]
	}
	crc = ^crc
	for len(b) >= 4 {
		crc ^= binary.LittleEndian.Uint32(b)
		crc = checksumTables[3][crc&0xff] ^ checksumTables[2][crc>>8&0xff] ^ checksumTables[1][crc>>16&0xff] ^ checksumTables[0][crc>>24]
		b = b[4:]
	}
	for _, v := range b {
		crc = checksumTables[0][byte(crc)^v] ^ crc>>8
	}
	return ^crc
}
