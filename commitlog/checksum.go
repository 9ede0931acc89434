package commitlog

import (
	"encoding/binary"
	"hash/crc32"
	"math/bits"
)

// hash/crc32 folds 16 bytes at a time where the processor can, and goes on byte by byte, each waiting for the one before.
// Half of what it takes for an entry is that: the four bytes of its size and the up to 15 behind its last 16. These tables
// take eight bytes or four in one step: checksumTables[k][b] is what the byte b adds to the CRC when k more bytes follow it.
var checksumTables = func() (t [8][256]uint32) {
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
	return checksumShort(crc, b)
}

// checksumWord is the checksum of the four bytes of an integer.
func checksumWord(v uint32) uint32 {
	t := &checksumTables
	crc := ^bits.ReverseBytes32(v)
	return ^(t[3][crc&0xff] ^ t[2][crc>>8&0xff] ^ t[1][crc>>16&0xff] ^ t[0][crc>>24])
}

// checksumShort does the same for few bytes. They may be a variable on the stack, which hash/crc32 moves to the heap.
func checksumShort(crc uint32, b []byte) uint32 {
	t := &checksumTables
	crc = ^crc
	for len(b) >= 8 {
		crc ^= binary.LittleEndian.Uint32(b)
		crc = t[7][crc&0xff] ^ t[6][crc>>8&0xff] ^ t[5][crc>>16&0xff] ^ t[4][crc>>24] ^
			t[3][b[4]] ^ t[2][b[5]] ^ t[1][b[6]] ^ t[0][b[7]]
		b = b[8:]
	}
	if len(b) >= 4 {
		crc ^= binary.LittleEndian.Uint32(b)
		crc = t[3][crc&0xff] ^ t[2][crc>>8&0xff] ^ t[1][crc>>16&0xff] ^ t[0][crc>>24]
		b = b[4:]
	}
	for _, v := range b {
		crc = t[0][byte(crc)^v] ^ crc>>8
	}
	return ^crc
}
