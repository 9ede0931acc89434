package commitlog

import (
	"encoding/binary"
	"hash/crc32"
	"math/bits"
)

// appendUvint writes an unsigned variable-length integer as VIntCoding does.
func appendUvint(b []byte, v uint64) []byte {
	n := (bits.Len64(v|1) - 1) / 7 // bytes after the first
	if n >= 8 {
		return binary.BigEndian.AppendUint64(append(b, 0xff), v)
	}
	first := byte(v>>(8*n)) | ^byte(0xff>>n)
	b = append(b, first)
	for i := n - 1; i >= 0; i-- {
		b = append(b, byte(v>>(8*i)))
	}
	return b
}

// buildHeader is the header of a plain segment.
func buildHeader(v Version, id int64) []byte { return buildHeaderWith(v, id, "{}") }

func buildHeaderWith(v Version, id int64, params string) []byte {
	b := binary.BigEndian.AppendUint32(nil, uint32(v))
	b = binary.BigEndian.AppendUint64(b, uint64(id))
	b = binary.BigEndian.AppendUint16(b, uint16(len(params)))
	b = append(b, params...)
	return binary.BigEndian.AppendUint32(b, Descriptor{Version: v, ID: id}.checksum([]byte(params)))
}

// builder makes the bytes of a segment as a node writes them.
type builder struct {
	id     int64
	b      []byte
	marker int // offset of the marker of the open section
}

func newBuilder(v Version, id int64) *builder {
	s := &builder{id: id, b: buildHeader(v, id)}
	s.marker = len(s.b)
	s.b = append(s.b, make([]byte, markerLen)...)
	return s
}

// entry appends an entry to the open section and gives its position.
func (s *builder) entry(payload []byte) int64 {
	size := binary.BigEndian.AppendUint32(nil, uint32(len(payload)))
	crc := crc32.ChecksumIEEE(size)
	s.b = append(s.b, size...)
	s.b = binary.BigEndian.AppendUint32(s.b, crc)
	s.b = append(s.b, payload...)
	s.b = binary.BigEndian.AppendUint32(s.b, crc32.Update(crc, crc32.IEEETable, payload))
	return int64(len(s.b))
}

// sync closes the open section: its marker gets its values, and an empty one follows.
func (s *builder) sync() int64 {
	end := len(s.b)
	binary.BigEndian.PutUint32(s.b[s.marker:], uint32(end))
	binary.BigEndian.PutUint32(s.b[s.marker+4:], markerChecksum(s.id, int64(s.marker)))
	s.marker = end
	s.b = append(s.b, make([]byte, markerLen)...)
	return int64(end)
}

// padded is the segment as it stands, preallocated to n bytes.
func (s *builder) padded(n int) []byte {
	b := make([]byte, max(n, len(s.b)))
	copy(b, s.b)
	return b
}
