package commitlog

import (
	"encoding/binary"
	"fmt"
	"math/bits"
)

// cursor reads big-endian fields from a payload. The first failure sticks: every later read gives zero and changes
// nothing, so that a decoder reads a group of fields and asks once. A length is compared with the bytes left before
// anything is sliced. Fields are named by constant strings, so that naming costs nothing while all goes well.
type cursor struct {
	b   []byte
	off int          // at most len(b), also behind a failure
	err *cursorError // nil: none so far
}

// cursorError is the first failure of a cursor.
type cursorError struct {
	off    int
	field  string
	reason string
}

// fail records the failure unless there is one already.
func (c *cursor) fail(off int, field, reason string) {
	if c.err == nil {
		c.err = &cursorError{off: off, field: field, reason: reason}
	}
	c.off = len(c.b)
}

func (c *cursor) failed() bool { return c.err != nil }

// left is the number of bytes not read yet.
func (c *cursor) left() int { return len(c.b) - c.off }

// short records that a field needs n bytes that are not there.
func (c *cursor) short(field string, n uint64) {
	c.fail(c.off, field, fmt.Sprintf("expected %d bytes, found %d before the end", n, c.left()))
}

// bytes reads n bytes. The result is never nil unless the cursor has failed, and cannot be appended to in place.
func (c *cursor) bytes(n int, field string) []byte {
	if c.err != nil {
		return nil
	}
	if n < 0 || n > c.left() {
		c.short(field, uint64(n))
		return nil
	}
	b := c.b[c.off : c.off+n : c.off+n]
	c.off += n
	return b
}

// u8 is small enough to be compiled in line, as is small below; the fields of a mutation are mostly of one byte.
func (c *cursor) u8(field string) (v byte) {
	if c.off < len(c.b) {
		v = c.b[c.off]
		c.off++
	} else {
		c.missing(field)
	}
	return v
}

// missing records that a field of one byte is not there. Compiled in line it would keep u8 from being so.
//
//go:noinline
func (c *cursor) missing(field string) { c.short(field, 1) }

func (c *cursor) u16(field string) uint16 {
	if b := c.bytes(2, field); b != nil {
		return binary.BigEndian.Uint16(b)
	}
	return 0
}

// small reads a uvint of one byte. Otherwise ok is false, nothing was read, and uvint has to do it. Most are of one byte,
// and this much fits in line.
func (c *cursor) small() (v uint64, ok bool) {
	if c.off < len(c.b) && c.b[c.off] < 0x80 {
		v = uint64(c.b[c.off])
		c.off++
		return v, true
	}
	return 0, false
}

// uvint reads an unsigned variable-length integer: the leading one bits of the first byte count the bytes that follow
// (0 to 8), its other bits and those bytes are the value, big-endian. Forms longer than needed are accepted.
// Source: VIntCoding.readUnsignedVInt.
func (c *cursor) uvint(field string) uint64 {
	b := c.b[c.off:]
	if len(b) == 0 {
		c.short(field, 1)
		return 0
	}
	first := b[0]
	if first < 0x80 {
		c.off++
		return uint64(first)
	}
	n := bits.LeadingZeros8(^first)
	if n >= len(b) {
		c.short(field, uint64(n)+1)
		return 0
	}
	c.off += n + 1
	v := uint64(first & (0xff >> n))
	if len(b) > 8 { // all that can follow is there: one load, and what is not of the value shifted out
		return v<<(8*n) | binary.BigEndian.Uint64(b[1:9])>>(64-8*n)
	}
	for _, next := range b[1 : 1+n] {
		v = v<<8 | uint64(next)
	}
	return v
}

// svint reads a signed variable-length integer: zigzag, then as uvint. Source: VIntCoding.readVInt.
func (c *cursor) svint(field string) int64 {
	v := c.uvint(field)
	return int64(v>>1) ^ -int64(v&1)
}

// vbytes reads a uvint length and as many bytes.
func (c *cursor) vbytes(field string) []byte {
	n, ok := c.small()
	if !ok {
		n = c.uvint(field)
	}
	if c.err != nil {
		return nil
	}
	if n > uint64(c.left()) {
		c.short(field, n)
		return nil
	}
	b := c.b[c.off : c.off+int(n) : c.off+int(n)]
	c.off += int(n)
	return b
}

// count reads a uvint that counts things of at least size bytes each, size > 0.
func (c *cursor) count(size int, field string) int {
	at := c.off
	n, ok := c.small()
	if !ok {
		n = c.uvint(field)
	}
	if left := uint64(c.left()); n > left || n*uint64(size) > left {
		c.fail(at, field, fmt.Sprintf("expected at most %d, as many as fit before the end, found %d", left/uint64(size), n))
		return 0
	}
	return int(n)
}
