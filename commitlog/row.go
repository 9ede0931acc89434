package commitlog

import (
	"fmt"
	"math/bits"
	"slices"
)

// Flags of a row or marker.
const (
	rowEnd             = 0x01
	rowMarker          = 0x02
	rowTimestamp       = 0x04
	rowTTL             = 0x08
	rowDeletion        = 0x10
	rowAllColumns      = 0x20
	rowComplexDeletion = 0x40
	rowExtended        = 0x80

	extendedStatic     = 0x01
	extendedShadowable = 0x02
	extendedKnown      = 0x03
)

// Flags of a cell.
const (
	cellDeleted      = 0x01
	cellExpiring     = 0x02
	cellEmptyValue   = 0x04
	cellRowTimestamp = 0x08
	cellRowTTL       = 0x10
	cellKnown        = 0x1f
)

// row parses a row behind its flags. It returns nil for a row that is skipped, or that has nothing in it once what
// belongs to dropped columns is left out; Cassandra's reader passes over such rows too.
func (p *parser) row(flags byte, columns []columnRef, static bool) *Row {
	d := p.d
	n := len(d.rows)
	d.rows = slices.Grow(d.rows, 1)
	r := &d.rows[:n+1][n]
	r.Liveness = Liveness{Timestamp: NoTimestamp, ExpiresAt: NoDeletionTime}
	r.Deletion, r.Shadowable = LiveDeletion, false
	if flags&rowExtended != 0 {
		at := p.off
		e := p.u8("extended flags of a row")
		if e&^extendedKnown != 0 || (e&extendedStatic != 0) != static {
			p.fail(at, "extended flags of a row", fmt.Sprintf("found 0x%02x where the row is static: %v", e, static))
		}
		r.Shadowable = e&extendedShadowable != 0
	}
	firstValue, firstCell, firstDeletion := len(d.values), len(d.cells), len(d.deletions)
	if !static {
		p.clustering(len(p.t.clustering))
	}
	if flags&rowTimestamp != 0 {
		r.Liveness.Timestamp = p.timestamp("timestamp of a row")
		if flags&rowTTL != 0 {
			r.Liveness.TTL = p.ttl("ttl of a row")
			r.Liveness.ExpiresAt = p.expiry(p.time("expiry of a row"), r.Liveness.TTL)
		}
	}
	if flags&rowDeletion != 0 {
		r.Deletion = p.deletion("row deletion")
	}
	p.rowColumns(flags, columns, r)
	if p.skip || p.failed() {
		d.values, d.cells, d.deletions = d.values[:firstValue], d.cells[:firstCell], d.deletions[:firstDeletion]
		return nil
	}
	lastValue, lastCell, lastDeletion := len(d.values), len(d.cells), len(d.deletions)
	r.Clustering = d.values[firstValue:lastValue:lastValue]
	r.Cells = d.cells[firstCell:lastCell:lastCell]
	r.ComplexDeletions = d.deletions[firstDeletion:lastDeletion:lastDeletion]
	if r.IsEmpty() {
		d.values = d.values[:firstValue]
		return nil
	}
	d.rows = d.rows[:n+1]
	return r
}

// rowColumns parses the cells of a row, and the subset of the columns that has them.
func (p *parser) rowColumns(flags byte, columns []columnRef, r *Row) {
	n := len(columns)
	switch {
	case flags&rowAllColumns != 0:
		for i := p.plainCells(columns, r); i < n && !p.failed(); i++ {
			p.column(flags, &columns[i], r)
			i += p.plainCells(columns[i+1:], r)
		}
	case n < 64:
		at := p.off
		missing := p.uvint("columns of a row")
		if missing>>n != 0 {
			p.fail(at, "columns of a row", fmt.Sprintf("found the bits %x for %d columns", missing, n))
			return
		}
		for present := ^missing & (1<<n - 1); present != 0 && !p.failed(); present &= present - 1 {
			p.column(flags, &columns[bits.TrailingZeros64(present)], r)
		}
	default:
		present := p.largeSubset(n)
		for i := 0; i < n && !p.failed(); i++ {
			if present[i] {
				p.column(flags, &columns[i], r)
			}
		}
	}
}

// largeSubset parses a subset of 64 columns or more: the number of those missing, then the indices of those present if
// they are less than half, else of those missing. Source: Columns.Serializer.deserializeLargeSubset.
func (p *parser) largeSubset(n int) []bool {
	d := p.d
	if cap(d.present) < n {
		d.present = make([]bool, n)
	}
	present := d.present[:n]
	at := p.off
	missing := p.uvint("columns of a row")
	if missing > uint64(n) {
		p.fail(at, "columns of a row", fmt.Sprintf("found %d missing of %d columns", missing, n))
		return present
	}
	named, list := n-int(missing), true // the indices that follow are of columns present
	if named >= n/2 {
		named, list = int(missing), false
	}
	for i := range present {
		present[i] = !list
	}
	last := -1
	for range named {
		at := p.off
		i := p.uvint("index of a column")
		if p.failed() {
			break
		}
		if i >= uint64(n) || int(i) <= last {
			p.fail(at, "index of a column", fmt.Sprintf("expected %d to %d, found %d", last+1, n-1, i))
			break
		}
		last = int(i)
		present[i] = list
	}
	return present
}

// column parses what a row has of one column.
func (p *parser) column(flags byte, ref *columnRef, r *Row) {
	if ref.multi {
		p.complexColumn(flags, ref, r)
	} else {
		p.cell(ref, r)
	}
}

// complexColumn parses what a row has of a multi-cell column.
func (p *parser) complexColumn(flags byte, ref *columnRef, r *Row) {
	deletion := LiveDeletion
	if flags&rowComplexDeletion != 0 {
		deletion = p.deletion("deletion of a multi-cell column")
	}
	n := p.count(1, "number of cells")
	if n == 0 && deletion.IsLive() {
		p.suspects++
	}
	if !p.skip && !deletion.IsLive() && !ref.leavesOut(deletion.Timestamp) {
		p.d.deletions = append(p.d.deletions, ComplexDeletion{Column: ref.index, Deletion: deletion})
	}
	for i := 0; i < n && !p.failed(); i++ {
		p.cell(ref, r)
	}
}

// plainCells parses cells of successive columns as long as they are of the usual kind, and returns their number: cells of
// simple columns that are alive, with the timestamp (and ttl) of the row or a timestamp near the least, and a value shorter
// than 128 bytes or of fixed length. The other cells, damaged ones among them, are for cell.
//
// Here the offset is in a register and the bounds are checked once a cell, which is what makes most mutations fast.
func (p *parser) plainCells(columns []columnRef, r *Row) int {
	d := p.d
	d.cells = slices.Grow(d.cells, len(columns))
	cells := d.cells[len(d.cells) : len(d.cells)+len(columns)]
	b, off := p.b, p.off
	n := 0
cells:
	for ; n < len(columns); n++ {
		ref, c := &columns[n], &cells[n]
		if ref.multi || ref.dropped || len(b)-off < 3 {
			break
		}
		at := off + 1
		switch b[off] {
		case cellRowTimestamp:
			c.Timestamp, c.TTL, c.LocalTime = r.Liveness.Timestamp, 0, NoDeletionTime
		case cellRowTimestamp | cellRowTTL | cellExpiring:
			c.Timestamp, c.TTL, c.LocalTime = r.Liveness.Timestamp, r.Liveness.TTL, r.Liveness.ExpiresAt
		case 0:
			if b[at] >= 0x80 {
				break cells
			}
			c.Timestamp, c.TTL, c.LocalTime = int64(uint64(b[at])+p.minTimestamp), 0, NoDeletionTime
			at++
		default:
			break cells
		}
		length := ref.fixed
		if length < 0 {
			if b[at] >= 0x80 {
				break
			}
			length = int(b[at])
			at++
		}
		if length > len(b)-at {
			break
		}
		c.Column, c.Path, c.Deleted = ref.index, nil, false
		c.Value = b[at : at+length : at+length]
		off = at + length
	}
	p.off = off
	if !p.skip {
		d.cells = d.cells[:len(d.cells)+n]
	}
	return n
}

// cell parses one cell, in its place among the decoder's cells. ref.multi says that it has a path.
func (p *parser) cell(ref *columnRef, r *Row) {
	at := p.off
	flags := p.u8("flags of a cell")
	if flags&^cellKnown != 0 || flags&(cellDeleted|cellExpiring) == cellDeleted|cellExpiring {
		p.fail(at, "flags of a cell", fmt.Sprintf("found 0x%02x, with bits that a cell cannot have", flags))
		return
	}
	d := p.d
	n := len(d.cells)
	d.cells = slices.Grow(d.cells, 1)
	c := &d.cells[:n+1][n]
	c.Column = ref.index
	if flags&cellRowTimestamp != 0 {
		c.Timestamp = r.Liveness.Timestamp
	} else {
		c.Timestamp = p.timestamp("timestamp of a cell")
	}
	switch {
	case flags&(cellRowTTL|cellExpiring|cellDeleted) == 0:
		c.LocalTime, c.TTL = NoDeletionTime, 0
	case flags&cellRowTTL != 0:
		c.LocalTime, c.TTL = r.Liveness.ExpiresAt, r.Liveness.TTL
	case flags&cellExpiring != 0:
		time := p.time("expiry of a cell")
		c.TTL = p.ttl("ttl of a cell")
		c.LocalTime = p.expiry(time, c.TTL)
	default:
		c.LocalTime, c.TTL = p.time("deletion time of a cell"), 0
	}
	c.Path = nil
	if ref.multi {
		c.Path = p.vbytes("path of a cell")
	}
	switch {
	case flags&cellEmptyValue != 0:
		c.Value = p.b[p.off:p.off:p.off]
	case ref.fixed < 0:
		c.Value = p.vbytes("value of a cell")
	default:
		c.Value = p.bytes(ref.fixed, "value of a cell")
	}
	c.Deleted = flags&cellDeleted != 0
	if c.Deleted {
		c.Value = nil
	}
	if !p.skip && !ref.leavesOut(c.Timestamp) {
		d.cells = d.cells[:n+1]
	}
}

// clustering parses n clustering values into the decoder's values: for each group of up to 32 a uvint with two bits a
// value (empty, null), then those that are neither. Source: ClusteringPrefix.Serializer.deserializeValuesWithoutSize.
func (p *parser) clustering(n int) {
	var header uint64
	for i := 0; i < n && !p.failed(); i++ {
		if i%32 == 0 {
			var ok bool
			if header, ok = p.small(); !ok {
				header = p.uvint("header of the clustering")
			}
		}
		var v []byte
		switch header >> (2 * (i % 32)) & 3 {
		case 0:
			if fixed := p.t.clustering[i]; fixed >= 0 {
				v = p.bytes(fixed, "clustering value")
			} else {
				v = p.vbytes("clustering value")
			}
		case 1:
			v = p.b[p.off:p.off:p.off]
		case 2: // null
		case 3:
			p.fail(p.off, "header of the clustering", fmt.Sprintf("value %d is both empty and null", i))
		}
		if !p.skip {
			p.d.values = append(p.d.values, v)
		}
	}
}

// marker parses a range tombstone marker behind its flags. Source: UnfilteredSerializer.deserializeMarkerBody,
// ClusteringBoundOrBoundary.Serializer.
func (p *parser) marker(flags byte) {
	at := p.off
	if flags != rowMarker {
		p.fail(at-1, "flags of a marker", fmt.Sprintf("expected 0x%02x, found 0x%02x", rowMarker, flags))
		return
	}
	m := Marker{Kind: BoundKind(p.u8("kind of a marker")), End: LiveDeletion, Start: LiveDeletion}
	sizeAt := p.off
	size := int(p.u16("size of a marker"))
	if size > len(p.t.clustering) {
		p.fail(sizeAt, "size of a marker", fmt.Sprintf("expected at most %d, the clustering columns, found %d", len(p.t.clustering), size))
	}
	first := len(p.d.values)
	p.clustering(size)
	switch m.Kind {
	case InclStartBound, ExclStartBound:
		m.Start = p.deletion("deletion of a marker")
	case InclEndBound, ExclEndBound:
		m.End = p.deletion("deletion of a marker")
	case ExclEndInclStartBoundary, InclEndExclStartBoundary:
		m.End = p.deletion("deletion of the range that ends")
		m.Start = p.deletion("deletion of the range that starts")
	default:
		p.fail(at, "kind of a marker", fmt.Sprintf("expected 0, 1, 2, 5, 6 or 7, found %d", m.Kind))
	}
	if p.skip || p.failed() {
		p.d.values = p.d.values[:first]
		return
	}
	last := len(p.d.values)
	m.Prefix = p.d.values[first:last:last]
	p.d.markers = append(p.d.markers, m)
	p.d.unfiltereds = append(p.d.unfiltereds, Unfiltered{Marker: &p.d.markers[len(p.d.markers)-1]})
}
