package commitlog

import (
	"fmt"
	"math"
	"slices"

	"cassdelta/schema"
)

// Flags of an update.
const (
	updateEmpty       = 0x01
	updateReversed    = 0x02
	updateDeletion    = 0x04
	updateStatic      = 0x08
	updateRowEstimate = 0x10
	updateKnown       = 0x1f
)

// parser walks over the updates of one payload. It builds them in the memory of its decoder, unless skip is set.
type parser struct {
	cursor
	d       *Decoder
	version Version
	// whole asks for every update to be walked to its end, although nobody may want what follows.
	whole bool
	// dry builds nothing.
	dry bool
	// stopped says that the last update was left without walking over it, because nothing that matters follows.
	stopped bool

	t        *tableInfo
	index    int
	skip     bool   // the update is walked over only
	unwanted Update // the update while it is walked over

	// The minima of the update.
	minTimestamp, minTime, minTTL uint64

	suspects int
}

// begin sets the parser to the offset of a payload.
func (p *parser) begin(d *Decoder, v Version, payload []byte, off int) {
	p.b, p.off, p.err = payload, off, nil
	p.d, p.version = d, v
	p.whole, p.dry, p.stopped = false, false, false
	p.t, p.index = nil, 0
}

// decodeError makes the error of the cursor's failure.
func (p *parser) decodeError(pos Position) error {
	e := &DecodeError{Position: pos, Index: p.index, Offset: p.err.off, Field: p.err.field, Reason: p.err.reason}
	if p.t != nil {
		e.Table = p.t.table.FullName()
	}
	return e
}

// update parses one update and appends it to m if it is wanted.
func (p *parser) update(pos Position, index int, m *Mutation) error {
	p.index, p.suspects = index, 0
	start := p.off
	id := p.bytes(16, "table id")
	if p.failed() {
		return p.decodeError(pos)
	}
	p.t = p.d.info(schema.UUID(id))
	if p.t == nil {
		return &UnknownTableError{Position: pos, ID: schema.UUID(id), Index: index, Count: m.Count, Offset: start}
	}
	p.skip = p.dry || !p.t.wanted
	if p.skip && !p.whole && index == m.Count-1 {
		p.stopped = true
		return nil
	}
	u := &p.unwanted
	if !p.skip {
		n := len(m.Updates)
		m.Updates = slices.Grow(m.Updates, 1)
		u = &m.Updates[:n+1][n]
	}
	u.Table, u.Index, u.Deletion, u.Static, u.Unfiltereds = p.t.table, index, LiveDeletion, nil, nil
	u.Key = p.vbytes("partition key")
	flagsAt := p.off
	flags := p.u8("flags of the update")
	if flags&^updateKnown != 0 || flags&updateReversed != 0 {
		p.fail(flagsAt, "flags of the update", fmt.Sprintf("found 0x%02x, with bits that a mutation cannot have", flags))
	}
	if flags&updateEmpty == 0 {
		if err := p.partition(pos, flags, u); err != nil {
			return err
		}
	}
	if p.failed() {
		return p.decodeError(pos)
	}
	if !p.skip {
		u.Suspects = p.suspects
		m.Updates = m.Updates[:len(m.Updates)+1]
	}
	return nil
}

// partition parses what follows the flags of an update that is not empty.
func (p *parser) partition(pos Position, flags byte, u *Update) error {
	p.minima()
	var statics, regulars []columnRef
	var err error
	if flags&updateStatic != 0 {
		if statics, err = p.columns(pos, &p.t.statics, schema.Static, "static columns"); err != nil {
			return err
		}
	}
	if regulars, err = p.columns(pos, &p.t.regulars, schema.Regular, "regular columns"); err != nil {
		return err
	}
	if flags&updateDeletion != 0 {
		u.Deletion = p.deletion("partition deletion")
	}
	if flags&updateStatic != 0 {
		at := p.off
		f := p.u8("flags of the static row")
		if f&(rowEnd|rowMarker) != 0 || f&rowExtended == 0 {
			p.fail(at, "flags of the static row", fmt.Sprintf("expected those of a row with the extension bit, found 0x%02x", f))
		} else {
			u.Static = p.row(f, statics, true)
		}
	}
	if flags&updateRowEstimate != 0 {
		if _, ok := p.small(); !ok {
			p.uvint("row estimate")
		}
	}
	d := p.d
	first := len(d.unfiltereds)
	for !p.failed() {
		f := p.u8("flags of a row or marker")
		if f&rowEnd != 0 {
			break
		}
		if f&rowMarker != 0 {
			p.marker(f)
		} else if row := p.row(f, regulars, false); row != nil {
			d.unfiltereds = append(d.unfiltereds, Unfiltered{Row: row})
		}
	}
	last := len(d.unfiltereds)
	u.Unfiltereds = d.unfiltereds[first:last:last]
	return nil
}

// minima parses the least timestamp, deletion time and ttl of an update.
func (p *parser) minima() {
	p.minTimestamp = p.uvint("least timestamp") + timestampEpoch
	if b := p.b[p.off:]; len(b) >= 2 && b[0] == 0 && b[1] == 0 { // neither deletions nor ttls, as usual
		p.minTime, p.minTTL = deletionTimeEpoch, 0
		p.off += 2
		return
	}
	p.minTime = p.uvint("least deletion time") + deletionTimeEpoch
	p.minTTL = p.uvint("least ttl")
}

// columns parses a column list: the names of the columns that the update touches, in the order that its bitmaps refer
// to.
func (p *parser) columns(pos Position, lists *columnLists, kind schema.ColumnKind, field string) ([]columnRef, error) {
	if lists.next(p.b[p.off:]) {
		p.off += len(lists.last.bytes)
		return lists.last.refs, nil
	}
	start := p.off
	n := p.count(1, field)
	if most := len(p.t.table.Columns) + len(p.t.table.Dropped); n > most {
		p.fail(start, field, fmt.Sprintf("expected at most %d, the columns that the table has and had, found %d", most, n))
	}
	names := p.off
	var hash uint
	for i := 0; i < n && !p.failed(); i++ {
		p.vbytes("column name")
		hash = hash*31 + uint(p.off-start)*7 + uint(p.b[p.off-1]) // its length and its last letter
	}
	if p.failed() {
		return nil, nil
	}
	list := p.b[start:p.off]
	if refs, ok := lists.find(list, hash); ok {
		return refs, nil
	}
	refs := make([]columnRef, n)
	c := cursor{b: p.b[:p.off], off: names}
	for i := range refs {
		at := c.off
		name := c.vbytes("column name")
		ref, k, ok := p.t.column(string(name))
		if !ok {
			return nil, &UnknownColumnError{Position: pos, Table: p.t.table.FullName(), Column: string(name), Index: p.index, Offset: at}
		}
		if k != kind {
			p.fail(at, field, fmt.Sprintf("column %q is none of them in the table", name))
			return nil, nil
		}
		for _, other := range refs[:i] {
			if other.index == ref.index {
				p.fail(at, field, fmt.Sprintf("column %q stands there twice", name))
				return nil, nil
			}
		}
		refs[i] = ref
	}
	lists.keep(list, refs)
	lists.find(list, hash)
	return refs, nil
}

<<<<<<< HEAD
=======
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

>>>>>>> b66cd7fe83b4626eac7ee31934400a1103197c13
// deletion parses a deletion time: timestamp and local time. Only the timestamp says that there is none; the local
// time beside it differs between versions.
func (p *parser) deletion(field string) Deletion {
	d := Deletion{Timestamp: p.timestamp(field)}
	d.LocalTime = p.time(field)
	if d.IsLive() {
		return LiveDeletion
	}
	return d
}

// timestamp parses a distance from the least timestamp, modulo 2^64.
func (p *parser) timestamp(field string) int64 {
	v, ok := p.small()
	if !ok {
		v = p.uvint(field)
	}
	return int64(v + p.minTimestamp)
}

// time parses a distance from the least deletion time, modulo 2^32, and reads the result as the version does.
// Source: Cell.decodeLocalDeletionTime, CellData.deletionTimeUnsignedIntegerToLong.
func (p *parser) time(field string) int64 {
	t := uint32(p.uvint(field) + p.minTime)
	if p.version.unsignedDeletionTimes() {
		if t == math.MaxUint32 {
			return NoDeletionTime
		}
		return int64(t)
	}
	switch {
	case t == math.MaxInt32:
		return NoDeletionTime
	case t > math.MaxInt32:
		return InvalidDeletionTime
	}
	return int64(t)
}

// expiry checks an expiry against the ttl: since messaging version 13 one that is less is invalid.
func (p *parser) expiry(time int64, ttl int32) int64 {
	if p.version.unsignedDeletionTimes() && time < int64(ttl) && ttl != ExpiredLivenessTTL {
		return InvalidDeletionTime
	}
	return time
}

// ttl parses a distance from the least ttl, modulo 2^32.
func (p *parser) ttl(field string) int32 {
	at := p.off
	ttl := int32(uint32(p.uvint(field) + p.minTTL))
	if ttl < 0 && !p.failed() {
		p.fail(at, field, fmt.Sprintf("expected 0 or more seconds, found %d", ttl))
	}
	return ttl
}
