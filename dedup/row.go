package dedup

import (
	"encoding/binary"
	"fmt"
	"math"

	"cassdelta/commitlog"
)

// This file holds a row as the state keeps it, and its encoding.
//
// The value of a row or a static row is
//
//	format      1 byte: 1
//	flags       1 byte: 0x01 there is a liveness, 0x02 it has a TTL, 0x04 it is expired (with 0x02 only),
//	            0x08 there is a deletion, 0x10 there are cells
//	clustering  for each clustering column: uvarint, 0 for null, otherwise length + 1; the bytes. A static row, and a row
//	            of a table without clustering, have none.
//
// and, unless the flags 0x01, 0x08 and 0x10 are all off,
//
//	base        varint, microseconds: the time stamp of the liveness; without one, of the deletion; without both, of the
//	            first cell
//	liveness    with flag 0x02: span
//	deletion    with flag 0x08: if there is a liveness, varint, the time stamp minus base; then varint, the local deletion
//	            time minus the second of base
//	cells       to the end of the value, by column id, each once:
//	              head       uvarint: bits 0 and 1 the kind (0 live, 1 tombstone, 2 expiring, 3 expired), bit 2 it has a time
//	                         stamp of its own, bit 3 its span is the liveness's, and above them the column id minus that
//	                         of the cell before, minus 1 (the first cell: the column id)
//	              timestamp  with bit 2: varint, minus base
//	              local      of a tombstone: varint, the local deletion time minus the second of base
//	              span       of an expiring or expired cell without bit 3
//	              value      of a live or expiring cell: uvarint length, bytes
//
// A span is a time to live: varint, the second of expiry minus the TTL minus the second of base; uvarint, the TTL in
// seconds. The second of base is base / 1,000,000, rounded down. A varint is zigzag encoded, as in package
// encoding/binary; differences wrap around at 64 bits.
//
// The first byte names the format, so that a later version of the fold can tell its values from these.

const rowFormat = 1

const (
	rowLiveness = 1 << iota
	rowExpiring
	rowExpired
	rowDeletion
	rowCells
)

// cellKind is what a cell is. Its values are part of the encoding.
type cellKind uint8

const (
	cellLive cellKind = iota
	cellTombstone
	// cellExpiring is alive, and has a TTL.
	cellExpiring
	// cellExpired has outlived its TTL, and has lost its value. It still takes part in the merge as what it was.
	cellExpired

	cellKindMask = 0x03
	cellOwnTime  = 0x04
	cellSameSpan = 0x08
	cellIDShift  = 4
)

// maxColumnID bounds column ids, far above what a table can have.
const maxColumnID = 1 << 20

// cell is one cell of a row.
type cell struct {
	// id is that of the column within the table, see table.columns.
	id   uint32
	kind cellKind
	// ttl is in seconds, 0 unless the cell is expiring or expired.
	ttl int32
	// timestamp is in microseconds.
	timestamp int64
	// local is in seconds since 1970: of a tombstone the local deletion time, of an expiring or expired cell the second
	// of expiry, otherwise NoDeletionTime.
	local int64
	// value is nil unless the cell is alive.
	value []byte
}

func (c *cell) alive() bool { return c.kind == cellLive || c.kind == cellExpiring }

// liveness is the primary key liveness of a row.
type liveness struct {
	commitlog.Liveness
	// expired is set once it has outlived its TTL.
	expired bool
}

var noLiveness = liveness{Liveness: commitlog.Liveness{Timestamp: commitlog.NoTimestamp, ExpiresAt: commitlog.NoDeletionTime}}

func (l *liveness) alive() bool { return l.Timestamp != commitlog.NoTimestamp && !l.expired }
func (l *liveness) expiring() bool {
	return l.TTL != 0 && !l.expired && l.Timestamp != commitlog.NoTimestamp
}

// row is the merge of all that was seen of a row and is not deleted. The zero value is not a row: see reset.
type row struct {
	// clustering holds the values as first seen; another form of an equal value (decimal 1.0 and 1.00) does not replace
	// them. Empty for a static row.
	clustering [][]byte
	liveness   liveness
	deletion   commitlog.Deletion
	// cells are by id, each once.
	cells []cell
}

// reset makes r the row of which nothing was seen, and keeps its memory.
func (r *row) reset() {
	r.clustering = r.clustering[:0]
	r.liveness = noLiveness
	r.deletion = commitlog.LiveDeletion
	r.cells = r.cells[:0]
}

// copyFrom makes r the same as s. The values are shared.
func (r *row) copyFrom(s *row) {
	r.clustering = append(r.clustering[:0], s.clustering...)
	r.liveness, r.deletion = s.liveness, s.deletion
	r.cells = append(r.cells[:0], s.cells...)
}

// noExpiry is the expiry of what never expires.
const noExpiry = math.MaxInt64

// expiry is the earliest second at which something of r that is alive expires, noExpiry if nothing does.
func (r *row) expiry() int64 {
	first := int64(noExpiry)
	if r.liveness.expiring() {
		first = r.liveness.ExpiresAt
	}
	for i := range r.cells {
		if c := &r.cells[i]; c.kind == cellExpiring {
			first = min(first, c.local)
		}
	}
	return first
}

// expire ends the life of what expires at or before the second now.
func (r *row) expire(now int64) {
	if r.liveness.expiring() && r.liveness.ExpiresAt <= now {
		r.liveness.expired = true
	}
	for i := range r.cells {
		if c := &r.cells[i]; c.kind == cellExpiring && c.local <= now {
			c.kind, c.value = cellExpired, nil
		}
	}
}

// microsecond of a second, and back.
const microseconds = 1_000_000

// second is the second of a time in microseconds, rounded down.
func second(timestamp int64) int64 {
	s := timestamp / microseconds
	if timestamp%microseconds < 0 {
		s--
	}
	return s
}

// appendRow appends the encoding of r to dst. r has no cells with an id above maxColumnID.
func appendRow(dst []byte, r *row) []byte {
	var flags byte
	var base int64
	if len(r.cells) > 0 {
		flags |= rowCells
		base = r.cells[0].timestamp
	}
	if !r.deletion.IsLive() {
		flags |= rowDeletion
		base = r.deletion.Timestamp
	}
	l := &r.liveness
	if l.Timestamp != commitlog.NoTimestamp {
		flags |= rowLiveness
		base = l.Timestamp
		if l.TTL != 0 {
			flags |= rowExpiring
			if l.expired {
				flags |= rowExpired
			}
		}
	}
	dst = append(dst, rowFormat, flags)
	for _, v := range r.clustering {
		dst = appendNullable(dst, v)
	}
	if flags&(rowLiveness|rowDeletion|rowCells) == 0 {
		return dst
	}
	dst = binary.AppendVarint(dst, base)
	baseSecond := second(base)
	if flags&rowExpiring != 0 {
		dst = appendSpan(dst, l.ExpiresAt, l.TTL, baseSecond)
	}
	if flags&rowDeletion != 0 {
		if flags&rowLiveness != 0 {
			dst = binary.AppendVarint(dst, r.deletion.Timestamp-base)
		}
		dst = binary.AppendVarint(dst, r.deletion.LocalTime-baseSecond)
	}
	next := uint32(0)
	for i := range r.cells {
		c := &r.cells[i]
		head := uint64(c.id-next)<<cellIDShift | uint64(c.kind)
		next = c.id + 1
		if c.timestamp != base {
			head |= cellOwnTime
		}
		spanned := c.kind == cellExpiring || c.kind == cellExpired
		same := spanned && flags&rowExpiring != 0 && c.local == l.ExpiresAt && c.ttl == l.TTL
		if same {
			head |= cellSameSpan
		}
		dst = binary.AppendUvarint(dst, head)
		if c.timestamp != base {
			dst = binary.AppendVarint(dst, c.timestamp-base)
		}
		switch {
		case c.kind == cellTombstone:
			dst = binary.AppendVarint(dst, c.local-baseSecond)
		case spanned && !same:
			dst = appendSpan(dst, c.local, c.ttl, baseSecond)
		}
		if c.alive() {
			dst = binary.AppendUvarint(dst, uint64(len(c.value)))
			dst = append(dst, c.value...)
		}
	}
	return dst
}

func appendSpan(dst []byte, expiry int64, ttl int32, baseSecond int64) []byte {
	dst = binary.AppendVarint(dst, expiry-int64(ttl)-baseSecond)
	return binary.AppendUvarint(dst, uint64(ttl))
}

func appendNullable(dst, v []byte) []byte {
	if v == nil {
		return append(dst, 0)
	}
	dst = binary.AppendUvarint(dst, uint64(len(v))+1)
	return append(dst, v...)
}

// decodeRow decodes value, which appendRow made of a row with so many clustering columns, into r. What r then holds
// points into value.
func decodeRow(value []byte, clustering int, r *row) error {
	r.reset()
	in := decoder{b: value}
	in.format(rowFormat)
	flags := in.byte("flags")
	if flags >= rowCells<<1 || flags&rowExpiring != 0 && flags&rowLiveness == 0 || flags&rowExpired != 0 && flags&rowExpiring == 0 {
		in.fail(fmt.Sprintf("flags: found %#02x, which no row has", flags))
	}
	for range clustering {
		r.clustering = append(r.clustering, in.nullable("clustering"))
	}
	if flags&(rowLiveness|rowDeletion|rowCells) != 0 {
		decodeContent(&in, flags, r)
	}
	return in.end("row")
}

// decodeContent decodes what follows the clustering.
func decodeContent(in *decoder, flags byte, r *row) {
	base := in.varint("base")
	baseSecond := second(base)
	l := &r.liveness
	if flags&rowLiveness != 0 {
		l.Timestamp = base
		if flags&rowExpiring != 0 {
			l.ExpiresAt, l.TTL = in.span(baseSecond)
			l.expired = flags&rowExpired != 0
		}
	}
	if flags&rowDeletion != 0 {
		r.deletion.Timestamp = base
		if flags&rowLiveness != 0 {
			r.deletion.Timestamp += in.varint("deletion")
		}
		r.deletion.LocalTime = in.varint("deletion") + baseSecond
	}
	if flags&rowCells == 0 {
		return
	}
	next := uint64(0)
	for in.err == nil && len(in.b) > 0 {
		head := in.uvarint("cell")
		id := head>>cellIDShift + next
		if id > maxColumnID {
			in.fail(fmt.Sprintf("cell: expected a column id up to %d, found %d", maxColumnID, id))
			return
		}
		next = id + 1
		c := cell{id: uint32(id), kind: cellKind(head & cellKindMask), timestamp: base, local: commitlog.NoDeletionTime}
		if head&cellOwnTime != 0 {
			c.timestamp += in.varint("cell.timestamp")
		}
		switch {
		case c.kind == cellTombstone:
			c.local = in.varint("cell.local") + baseSecond
		case c.kind == cellLive:
		case head&cellSameSpan == 0:
			c.local, c.ttl = in.span(baseSecond)
		case flags&rowExpiring == 0:
			in.fail("cell: it has the span of a liveness, and that has none")
		default:
			c.local, c.ttl = l.ExpiresAt, l.TTL
		}
		if c.alive() {
			c.value = in.bytes(in.uvarint("cell.value"), "cell.value")
		}
		r.cells = append(r.cells, c)
	}
	if in.err == nil && len(r.cells) == 0 {
		in.fail("cells: expected a cell, found the end")
	}
}

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
		in.fail(fmt.Sprintf("expected format %d, found %d; another version wrote it", expected, format))
	}
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
