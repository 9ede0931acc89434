package dedup

import (
	"encoding/binary"
	"fmt"
	"math"
)

// decoder is a cursor over a stored value. The first failure sticks; after it every read gives zero.
type decoder struct {
	b   []byte
	err error
}

func (in *decoder) fail(reason string) {
	if in.err == nil {
		in.err = fmt.Errorf("%s (%d bytes before the end)", reason, len(in.b))
	}
}

// format reads the first byte of a value.
func (in *decoder) format(expected byte) {
	if format := in.byte("format"); format != expected {
		in.badFormat(format)
	}
}

func (in *decoder) badFormat(format byte) {
	in.fail(fmt.Sprintf("found format %d, which this version does not know; another version wrote it", format))
}

func (in *decoder) byte(field string) byte {
	if in.err != nil {
		return 0
	}
	if len(in.b) == 0 {
		in.fail(field + ": expected a byte, found the end")
		return 0
	}
	b := in.b[0]
	in.b = in.b[1:]
	return b
}

func (in *decoder) varint(field string) int64 {
	if in.err != nil {
		return 0
	}
	v, n := binary.Varint(in.b)
	if n <= 0 {
		in.fail(field + ": expected a number of at most 64 bits")
		return 0
	}
	in.b = in.b[n:]
	return v
}

func (in *decoder) uvarint(field string) uint64 {
	if in.err != nil {
		return 0
	}
	v, n := binary.Uvarint(in.b)
	if n <= 0 {
		in.fail(field + ": expected a number of at most 64 bits")
		return 0
	}
	in.b = in.b[n:]
	return v
}

// bytes gives the next n bytes: not nil, unless reading has failed.
func (in *decoder) bytes(n uint64, field string) []byte {
	if in.err != nil {
		return nil
	}
	if n > uint64(len(in.b)) {
		in.fail(fmt.Sprintf("%s: expected %d bytes", field, n))
		return nil
	}
	b := in.b[:n:n]
	in.b = in.b[n:]
	return b
}

func (in *decoder) nullable(field string) []byte {
	n := in.uvarint(field)
	if n == 0 {
		return nil
	}
	return in.bytes(n-1, field)
}

func (in *decoder) span(baseSecond int64) (expiry int64, ttl int32) {
	written := in.varint("span")
	v := in.uvarint("span")
	if in.err == nil && (v == 0 || v > math.MaxInt32) {
		in.fail(fmt.Sprintf("span: expected a TTL from 1 to %d, found %d", math.MaxInt32, v))
		return 0, 0
	}
	return written + baseSecond + int64(v), int32(v)
}

// end returns the error, if there was one or if bytes are left.
func (in *decoder) end(what string) error {
	if in.err == nil && len(in.b) > 0 {
		in.fail("expected the end")
	}
	if in.err != nil {
		return fmt.Errorf("stored %s: %w", what, in.err)
	}
	return nil
}
