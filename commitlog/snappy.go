package commitlog

import (
	"encoding/binary"
	"math"
	"sync"

	"github.com/klauspost/compress/s2"
)

// snappyFormat is that of the blocks that SnappyCompressor makes: one raw block, which begins with the length as a varint of
// Protocol Buffers. Source: SnappyCompressor.compress.
//
// The low two bits of an element's tag say what it is:
//
//	0  literals: the high six bits are their number - 1; from 60 on, that is in 1 to 4 bytes behind the tag
//	1  a match of 4 to 11 bytes: three bits of length - 4, three high bits of the offset, and a byte of it
//	2  a match of 1 to 64 bytes: six bits of length - 1, and two bytes of offset
//	3  a match of 1 to 64 bytes: six bits of length - 1, and four bytes of offset
//
// Integers are little-endian. Snappy compresses 64 KiB at a time, so its offsets are less; the format allows more.
type snappyFormat struct{}

func (snappyFormat) name() string { return "a Snappy block" }

// ratio is more than that of matches, which take three bytes for at most 64.
func (snappyFormat) ratio() int64 { return 22 }

func (snappyFormat) begin(b *blockSections) (n int64, err error) {
	for i := range 5 {
		v, err := b.byte()
		if err != nil {
			return 0, err
		}
		n |= int64(v&0x7f) << (7 * i)
		if v < 0x80 && n <= math.MaxUint32 {
			return n, nil
		}
	}
	return 0, b.bad("a Snappy block without a length")
}

func (snappyFormat) elements(src []byte, room int, before int64) (used, made int) {
	reach := int(min(before, keptHistory))
	for used < len(src) {
		tag, at := int(src[used]), used+1
		var n, offset int
		switch tag & 3 {
		case 0:
			n = tag>>2 + 1
			if n > 60 {
				size := n - 60
				if at+size > len(src) {
					return used, made
				}
				n = 1
				for i := range size {
					n += int(src[at+i]) << (8 * i)
				}
				at += size
			}
			if n > room-made || n > len(src)-at {
				return used, made
			}
			used, made = at+n, made+n
			continue
		case 1:
			if at+1 > len(src) {
				return used, made
			}
			n, offset = tag>>2&7+4, tag>>5<<8|int(src[at])
			at++
		case 2:
			if at+2 > len(src) {
				return used, made
			}
			n, offset = tag>>2+1, int(binary.LittleEndian.Uint16(src[at:]))
			at += 2
		case 3:
			if at+4 > len(src) {
				return used, made
			}
			n, offset = tag>>2+1, int(binary.LittleEndian.Uint32(src[at:]))
			at += 4
		}
		if offset == 0 || offset > keptHistory || offset > reach+made || n > room-made {
			return used, made
		}
		used, made = at, made+n
	}
	return used, made
}

func (snappyFormat) readLiterals(b *blockSections) error {
	tag, err := b.byte()
	if err != nil {
		return err
	}
	b.head = int64(tag)
	if b.head&3 != 0 {
		return nil
	}
	if b.literals = b.head>>2 + 1; b.literals > 60 {
		b.literals, err = b.integer(int(b.literals - 60))
		b.literals++
	}
	return err
}

func (snappyFormat) readMatch(b *blockSections) (err error) {
	switch b.head & 3 {
	case 1:
		b.match = b.head>>2&7 + 4
		b.offset, err = b.integer(1)
		b.offset |= b.head >> 5 << 8
	case 2:
		b.match = b.head>>2 + 1
		b.offset, err = b.integer(2)
	case 3:
		b.match = b.head>>2 + 1
		b.offset, err = b.integer(4)
	}
	return err
}

// snappyPieces are buffers of [snappyFormat.decode].
var snappyPieces = sync.Pool{New: func() any { return new([]byte) }}

// decode gives the library a block of its own, in which what comes before is a literal in front of the piece.
func (snappyFormat) decode(dst []byte, known int, src []byte) error {
	buffer := snappyPieces.Get().(*[]byte)
	defer snappyPieces.Put(buffer)
	block := binary.AppendUvarint((*buffer)[:0], uint64(len(dst)))
	if known > 0 {
		block = append(block, 62<<2, byte(known-1), byte((known-1)>>8), byte((known-1)>>16))
		block = append(block, dst[:known]...)
	}
	block = append(block, src...)
	*buffer = block
	_, err := s2.Decode(dst[:len(dst):len(dst)], block)
	return err
}
