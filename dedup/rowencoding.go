package dedup

import (
	"encoding/binary"
	"fmt"
	"slices"

	"cassdelta/commitlog"
)

// This file is the encoding of rows. The value of a row or a static row is
//
//	format      1 byte: 1, or 2 if something of a multi-cell column is in the row; 3 and 4 are 1 and 2 of a row that is
//	            presumed not to exist: no event of it has told so, it is that the past of its table is complete (without 0x80 only)
//	flags       1 byte: 0x01 there is a liveness, 0x02 it has a TTL, 0x04 it is expired (with 0x02 only),
//	            0x08 there is a deletion, 0x10 there are cells, 0x40 the deletion is shadowable (with 0x08 only), 0x80
//	            readers were not told that the row does not exist; in format 2 also 0x20 there are deletions of elements
//	clustering  for each clustering column: uvarint, 0 for null, otherwise length + 1; the bytes. A static row, and a row
//	            of a table without clustering, have none.
//
// and, unless the flags 0x01, 0x08, 0x10 and 0x20 are all off,
//
//	base        varint, microseconds: the time stamp of the liveness; without one, of the deletion; without both, of the
//	            first cell; without cells, of the first deletion of elements
//	liveness    with flag 0x02: span
//	deletion    with flag 0x08: if there is a liveness, varint, the time stamp minus base; then varint, the local deletion
//	            time minus the second of base
//	elements    with flag 0x20: uvarint, the number of deletions, and for each by column id, each once:
//	              column     uvarint: the column id minus that of the one before, minus 1 (the first: the column id)
//	              timestamp  varint, minus base
//	              local      varint, the local deletion time minus the second of base
//	cells       to the end of the value, by column id, in format 1 each once:
//	              head       uvarint: bits 0 and 1 the kind (0 live, 1 tombstone, 2 expiring, 3 expired), bit 2 it has a time
//	                         stamp of its own, bit 3 its span is the liveness's (of kind 1: its expiry is foreseen), and above them the column id minus that
//	                         of the cell before, minus 1 (the first cell: the column id). In format 2 bit 4 says that it
//	                         has a path, and above it is the column id minus that of the cell before: a multi-cell
//	                         column's cells follow one another in the order of their paths
//	              timestamp  with bit 2: varint, minus base
//	              local      of a tombstone: varint, the local deletion time minus the second of base
//	              span       of an expiring or expired cell without bit 3, and of one whose expiry is foreseen
//	              path       with bit 4: uvarint length, bytes
//	              value      of a live or expiring cell, and of one whose expiry is foreseen: uvarint length, bytes
//
// A span is a time to live: varint, the second of expiry minus the TTL minus the second of base; uvarint, the TTL in
// seconds. The second of base is base / 1,000,000, rounded down. A varint is zigzag encoded, as in package
// encoding/binary; differences wrap around at 64 bits.
//
// The first byte names the format, so that a later version of the fold can tell its values from these. Flag 0x80 came later
// than the others. It is the exception that is marked, so a row that was stored before there was the flag reads as one of which all
// was told, as it was taken for then: what was told of it is not told again.

const (
	rowFormat         = 1
	rowFormatElements = 2
	rowFormatPresumed = 2 // more
)

const (
	rowLiveness = 1 << iota
	rowExpiring
	rowExpired
	rowDeletion
	rowCells
	rowElements
	rowShadowable
	rowUntold
)

const (
	cellKindMask = 0x03
	cellOwnTime  = 0x04
	cellSameSpan = 0x08
	cellSeen     = 0x08 // of a tombstone
	cellPath     = 0x10
	// Above these bits is the column id, in format 1 above the first four.
	cellIDShift         = 4
	cellIDShiftElements = 5
)

// maxColumnID bounds column ids, far above what a table can have.
const maxColumnID = 1 << 20

// hasElements reports whether something of a multi-cell column is in r.
func (r *row) hasElements() bool {
	return r.multi && (len(r.elements) > 0 || slices.ContainsFunc(r.cells, func(c cell) bool { return c.path != nil }))
}

// appendRow appends the encoding of r to dst. r has no cells with an id above maxColumnID.
func appendRow(dst []byte, r *row) []byte {
	var flags byte
	var base int64
	format := byte(rowFormat)
	if r.hasElements() {
		format = rowFormatElements
	}
	if len(r.elements) > 0 {
		flags |= rowElements
		base = r.elements[0].Timestamp
	}
	if len(r.cells) > 0 {
		flags |= rowCells
		base = r.cells[0].timestamp
	}
	if !r.deletion.IsLive() {
		flags |= rowDeletion
		if r.shadowable {
			flags |= rowShadowable
		}
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
	if !r.told {
		flags |= rowUntold
	}
	if r.presumed {
		dst = append(dst, format+rowFormatPresumed, flags)
	} else {
		dst = append(dst, format, flags)
	}
	for _, v := range r.clustering {
		dst = appendNullable(dst, v)
	}
	if flags&(rowLiveness|rowDeletion|rowCells|rowElements) == 0 {
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
	if flags&rowElements != 0 {
		dst = appendElements(dst, r.elements, base)
	}
	return appendCells(dst, r, format, base)
}

// appendElements appends the deletions of elements.
func appendElements(dst []byte, elements []elementsDeletion, base int64) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(elements)))
	next := uint32(0)
	for _, d := range elements {
		dst = binary.AppendUvarint(dst, uint64(d.id-next))
		dst = binary.AppendVarint(dst, d.Timestamp-base)
		dst = binary.AppendVarint(dst, d.LocalTime-second(base))
		next = d.id + 1
	}
	return dst
}

// appendCells appends the cells of r.
func appendCells(dst []byte, r *row, format byte, base int64) []byte {
	l, baseSecond := &r.liveness, second(base)
	last := uint32(0)
	for i := range r.cells {
		c := &r.cells[i]
		head := uint64(c.kind)
		if c.kind == cellForeseen {
			head = uint64(cellTombstone) | cellSeen
		}
		switch {
		case format == rowFormatElements:
			head |= uint64(c.id-last) << cellIDShiftElements
		case i == 0:
			head |= uint64(c.id) << cellIDShift
		default:
			head |= uint64(c.id-last-1) << cellIDShift
		}
		last = c.id
		if c.path != nil {
			head |= cellPath
		}
		if c.timestamp != base {
			head |= cellOwnTime
		}
		spanned := c.kind == cellExpiring || c.kind == cellExpired
		same := spanned && l.TTL != 0 && c.local == l.ExpiresAt && c.ttl == l.TTL
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
		case spanned && !same, c.kind == cellForeseen:
			dst = appendSpan(dst, c.local, c.ttl, baseSecond)
		}
		if c.path != nil {
			dst = append(binary.AppendUvarint(dst, uint64(len(c.path))), c.path...)
		}
		if c.alive() {
			dst = append(binary.AppendUvarint(dst, uint64(len(c.value))), c.value...)
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
	format := in.byte("format")
	if r.presumed = format > rowFormatElements; r.presumed {
		format -= rowFormatPresumed
	}
	if in.err == nil && format != rowFormat && format != rowFormatElements {
		in.badFormat(format)
	}
	r.multi = format == rowFormatElements
	flags := in.byte("flags")
	r.told = flags&rowUntold == 0
	if flags&rowElements != 0 && format == rowFormat || flags&rowExpiring != 0 && flags&rowLiveness == 0 || flags&rowExpired != 0 && flags&rowExpiring == 0 ||
		flags&rowShadowable != 0 && flags&rowDeletion == 0 || flags&rowUntold != 0 && r.presumed {
		in.fail(fmt.Sprintf("flags: found %#02x, which no row has", flags))
	}
	for range clustering {
		r.clustering = append(r.clustering, in.nullable("clustering"))
	}
	if flags&(rowLiveness|rowDeletion|rowCells|rowElements) != 0 {
		decodeContent(&in, format, flags, r)
	}
	return in.end("row")
}

// decodeContent decodes what follows the clustering.
func decodeContent(in *decoder, format, flags byte, r *row) {
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
		r.shadowable = flags&rowShadowable != 0
	}
	if flags&rowElements != 0 {
		decodeElements(in, r, base)
	}
	if flags&rowCells != 0 {
		decodeCells(in, r, format, base)
	}
}

// decodeElements decodes the deletions of elements.
func decodeElements(in *decoder, r *row, base int64) {
	n := in.uvarint("elements")
	if in.err == nil && n == 0 {
		in.fail("elements: expected a deletion, found none")
	}
	for next := uint64(0); n > 0 && in.err == nil; n-- {
		d := elementsDeletion{}
		d.id = in.column("elements", in.uvarint("elements"), next)
		d.Timestamp = in.varint("elements") + base
		d.LocalTime = in.varint("elements") + second(base)
		next = uint64(d.id) + 1
		r.elements = append(r.elements, d)
	}
}

// column is the column id that is this much more than from.
func (in *decoder) column(field string, more, from uint64) uint32 {
	if more > maxColumnID || more+from > maxColumnID {
		in.badColumn(field, more, from)
		return 0
	}
	return uint32(more + from)
}

func (in *decoder) badColumn(field string, more, from uint64) {
	in.fail(fmt.Sprintf("%s: expected a column id up to %d, found %d more than %d", field, maxColumnID, more, from))
}

// decodeCells decodes the cells, which go to the end.
func decodeCells(in *decoder, r *row, format byte, base int64) {
	l, baseSecond := &r.liveness, second(base)
	from := uint64(0) // what the next column id is the difference to
	for in.err == nil && len(in.b) > 0 {
		head := in.uvarint("cell")
		r.cells = append(r.cells, cell{kind: cellKind(head & cellKindMask), timestamp: base, local: commitlog.NoDeletionTime})
		n := len(r.cells) - 1
		c := &r.cells[n]
		if format == rowFormatElements {
			c.id = in.column("cell", head>>cellIDShiftElements, from)
			from = uint64(c.id)
		} else {
			c.id = in.column("cell", head>>cellIDShift, from)
			from = uint64(c.id) + 1
		}
		if head&cellOwnTime != 0 {
			c.timestamp += in.varint("cell.timestamp")
		}
		switch {
		case c.kind == cellTombstone && head&cellSeen != 0:
			c.kind = cellForeseen
			c.local, c.ttl = in.span(baseSecond)
		case c.kind == cellTombstone:
			c.local = in.varint("cell.local") + baseSecond
		case c.kind == cellLive:
		case head&cellSameSpan == 0:
			c.local, c.ttl = in.span(baseSecond)
		case l.TTL == 0:
			in.fail("cell: it has the span of a liveness, and that has none")
		default:
			c.local, c.ttl = l.ExpiresAt, l.TTL
		}
		if format == rowFormatElements && head&cellPath != 0 {
			c.path = in.bytes(in.uvarint("cell.path"), "cell.path")
		}
		if c.alive() {
			c.value = in.bytes(in.uvarint("cell.value"), "cell.value")
		}
		if n > 0 && r.cells[n-1].id == c.id && (c.path == nil || r.cells[n-1].path == nil) {
			in.fail(fmt.Sprintf("cells: column %d has two, and not both have a path", c.id))
		}
	}
	if in.err == nil && len(r.cells) == 0 {
		in.fail("cells: expected a cell, found the end")
	}
}
