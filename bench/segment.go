package bench

import (
	"encoding/binary"
	"hash/crc32"
	"math/bits"
)

// SegmentSize is Cassandra's default of commitlog_segment_size, in bytes.
const SegmentSize = 32 << 20

// sectionSize is the length of a sync section, in bytes: what a node that writes 10 MB/s puts between two markers, which
// it sets every 100 ms.
const sectionSize = 1 << 20

// Version is the commit log version of the segments, that of Cassandra 4.0, 4.1 and, unless told otherwise, 5.0.
const Version = 7

const markerLen = 8

// Segment makes a plain segment of size bytes as it is when a node has closed it: as many mutations as fit, in sections of a
// megabyte, and zeros behind them. n is the number of mutations. The mutation that does not fit any more is lost.
func Segment(id int64, size int, m *Mutations) (segment []byte, n int) {
	b := appendHeader(make([]byte, 0, size), id, "{}")
	marker := len(b)
	b = append(b, make([]byte, markerLen)...)
	sync := func() {
		putMarker(b, id, marker, len(b))
		marker = len(b)
		b = append(b, make([]byte, markerLen)...)
	}
	var payload []byte
	for {
		payload = m.Append(payload[:0])
		if len(b)+entryOverhead+len(payload)+2*markerLen > size {
			break
		}
		if len(b)-marker > sectionSize {
			sync()
		}
		b = appendEntry(b, payload)
		n++
	}
	sync()
	return b[:size], n
}

func headerLen(params string) int { return 18 + len(params) }

func appendHeader(b []byte, id int64, params string) []byte {
	b = appendUint32(b, Version)
	b = appendUint64(b, uint64(id))
	b = binary.BigEndian.AppendUint16(b, uint16(len(params)))
	b = append(b, params...)
	crc := checksum(Version, uint32(id), uint32(id>>32), uint32(len(params)))
	return appendUint32(b, crc32.Update(crc, crc32.IEEETable, []byte(params)))
}

// putMarker sets the marker at an offset: its section ends at next.
func putMarker(b []byte, id int64, marker, next int) {
	binary.BigEndian.PutUint32(b[marker:], uint32(next))
	binary.BigEndian.PutUint32(b[marker+4:], checksum(uint32(id), uint32(id>>32), uint32(marker)))
}

// entryOverhead is what an entry has beside its payload: its size, and two checksums.
const entryOverhead = 12

func appendEntry(b, payload []byte) []byte {
	crc := checksum(uint32(len(payload)))
	b = appendUint32(b, uint32(len(payload)))
	b = appendUint32(b, crc)
	b = append(b, payload...)
	return appendUint32(b, crc32.Update(crc, crc32.IEEETable, payload))
}

// checksum is the CRC-32 of integers of four bytes.
func checksum(words ...uint32) uint32 {
	var b []byte
	for _, w := range words {
		b = appendUint32(b, w)
	}
	return crc32.ChecksumIEEE(b)
}

func appendUint32(b []byte, v uint32) []byte { return binary.BigEndian.AppendUint32(b, v) }

func appendUint64(b []byte, v uint64) []byte { return binary.BigEndian.AppendUint64(b, v) }

// appendUvint appends an unsigned variable-length integer as VIntCoding.writeUnsignedVInt does: as many leading one bits
// as bytes follow the first.
func appendUvint(b []byte, v uint64) []byte {
	follow := (bits.Len64(v|1) - 1) / 7
	if follow >= 8 {
		return appendUint64(append(b, 0xff), v)
	}
	b = append(b, ^byte(0xff>>follow)|byte(v>>(8*follow)))
	for i := follow - 1; i >= 0; i-- {
		b = append(b, byte(v>>(8*i)))
	}
	return b
}
