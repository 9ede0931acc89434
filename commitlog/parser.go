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
