package rawtopic

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"

	"cassdelta/commitlog"
	"cassdelta/schema"
)

// Decoder decodes raw records into memory of its own that it uses again: in the steady state it does not allocate. It
// is for one goroutine. The zero value is ready.
type Decoder struct {
	in input

	// Arenas: slices in a record are parts of these.
	rows    []commitlog.Row
	cells   []commitlog.Cell
	complex []commitlog.ComplexDeletion
	values  [][]byte
	ranges  []Range

	static       commitlog.Row
	data         Data
	part         Part
	init         Init
	schema       Schema
	tick         Tick
	heartbeat    Heartbeat
	truncate     Truncate
	drop         Drop
	seedBegin    Seed
	seedEnd      Seed
	agentJoined  Agent
	agentRetired Agent
}

// arenaKept bounds, in elements, the arenas kept from one record to the next, so that one giant does not occupy memory
// for ever.
const arenaKept = 1 << 16

func reuse[T any](arena []T) []T {
	if cap(arena) > arenaKept {
		return nil
	}
	return arena[:0]
}

// Decode decodes value into r. What r holds points into value and into the decoder, until the next call of Decode. The
// error is a [*FingerprintError] or a [*FormatError]; r then means nothing.
func (d *Decoder) Decode(value []byte, r *Record) error {
	*r = Record{}
	if len(value) < headerLen || value[0] != 0xc3 || value[1] != 0x01 ||
		binary.LittleEndian.Uint64(value[2:]) != Fingerprint {
		return &FingerprintError{Header: bytes.Clone(value[:min(len(value), headerLen)])}
	}
	d.in = input{b: value, off: headerLen}
	d.rows, d.cells, d.complex = reuse(d.rows), reuse(d.cells), reuse(d.complex)
	d.values, d.ranges = reuse(d.values), reuse(d.ranges)
	d.record(r)
	if d.in.err == nil && d.in.off < len(value) {
		d.in.fail(d.in.off, "end", fmt.Sprintf("expected the end, found %d bytes more", len(value)-d.in.off))
	}
	if d.in.err != nil {
		err := d.in.err
		*r = Record{}
		return err
	}
	return nil
}

func (d *Decoder) record(r *Record) {
	in := &d.in
	at := in.off
	branch := in.long("kind")
	if branch < 0 || branch > int64(KindAgentRetired) {
		in.fail(at, "kind", fmt.Sprintf("expected a branch from 0 to %d, found %d", KindAgentRetired, branch))
		return
	}
	r.Kind = Kind(branch)
	switch r.Kind {
	case KindData:
		d.decodeData()
		r.Data = &d.data
	case KindPart:
		p := &d.part
		p.Origin = in.origin("Part.origin")
		at := in.off
		p.Index = in.int("Part.index")
		p.Count = in.int("Part.count")
		p.Bytes = in.bytes("Part.bytes")
		if p.Count < 2 || p.Index < 0 || p.Index >= p.Count {
			in.fail(at, "Part.index", fmt.Sprintf("expected a part of at least 2, found number %d of %d", p.Index, p.Count))
		}
		r.Part = p
	case KindInit:
		i := &d.init
		i.Cluster = string(in.bytes("Init.cluster"))
		i.TopicID = in.fixed("Init.topic_id")
		i.Partitions = in.int("Init.partitions")
		i.Version = in.int("Init.version")
		r.Init = i
	case KindSchema:
		s := &d.schema
		s.Hash = in.fixed("Schema.hash")
		s.Definition = in.bytes("Schema.definition")
		s.AlteredAt = in.long("Schema.altered_at")
		s.Host = in.fixed("Schema.host")
		s.Created = in.bool("Schema.created")
		r.Schema = s
	case KindTick:
		d.tick.Watermark = in.long("Tick.watermark")
		r.Tick = &d.tick
	case KindHeartbeat:
		d.heartbeat.Host = in.fixed("Heartbeat.host")
		d.heartbeat.Time = in.long("Heartbeat.time")
		r.Heartbeat = &d.heartbeat
	case KindTruncate:
		d.truncate.Origin = in.origin("Truncate.origin")
		d.truncate.Table = in.fixed("Truncate.table")
		d.truncate.Timestamp = in.long("Truncate.timestamp")
		r.Truncate = &d.truncate
	case KindDrop:
		d.drop.Origin = in.origin("Drop.origin")
		d.drop.Table = in.fixed("Drop.table")
		d.drop.Timestamp = in.long("Drop.timestamp")
		r.Drop = &d.drop
	case KindSeedBegin:
		in.seed(&d.seedBegin, "SeedBegin")
		r.SeedBegin = &d.seedBegin
	case KindSeedEnd:
		in.seed(&d.seedEnd, "SeedEnd")
		r.SeedEnd = &d.seedEnd
	case KindAgentJoined:
		d.agentJoined.Host = in.fixed("AgentJoined.host")
		r.AgentJoined = &d.agentJoined
	case KindAgentRetired:
		d.agentRetired.Host = in.fixed("AgentRetired.host")
		r.AgentRetired = &d.agentRetired
	}
}

// The fewest bytes that an item of an array can have.
const (
	minValue           = 1
	minCell            = 6
	minComplexDeletion = 3
	minRow             = 6
	minRange           = 6
)

func (d *Decoder) decodeData() {
	in, u := &d.in, &d.data
	u.Origin = in.origin("Data.origin")
	u.Content = in.b[in.off:]
	u.Schema = in.fixed("Data.schema")
	u.Key = in.bytes("Data.key")
	u.Deletion = in.optionalDeletion("Data.deletion")
	u.Static = nil
	if in.optional("Data.static") {
		d.row(&d.static)
		u.Static = &d.static
	}
	for a := in.array(); a.next(minRow, "Data.rows"); {
		d.rows = append(d.rows, commitlog.Row{})
		d.row(&d.rows[len(d.rows)-1])
	}
	u.Rows = d.rows
	for a := in.array(); a.next(minRange, "Data.ranges"); {
		var g Range
		d.bound(&g.Start)
		d.bound(&g.End)
		g.Deletion = in.deletion("Range.deletion")
		d.ranges = append(d.ranges, g)
	}
	u.Ranges = d.ranges
}

func (d *Decoder) row(r *commitlog.Row) {
	in := &d.in
	r.Clustering = d.clustering("Row.clustering")
	r.Liveness = commitlog.Liveness{Timestamp: commitlog.NoTimestamp, ExpiresAt: commitlog.NoDeletionTime}
	if in.optional("Row.liveness") {
		r.Liveness.Timestamp = in.long("Liveness.timestamp")
		r.Liveness.TTL = in.int("Liveness.ttl")
		r.Liveness.ExpiresAt = in.optionalTime("Liveness.expires_at")
	}
	r.Deletion = in.optionalDeletion("Row.deletion")
	r.Shadowable = in.bool("Row.shadowable")

	first := len(d.cells)
	for a := in.array(); a.next(minCell, "Row.cells"); {
		d.cells = append(d.cells, commitlog.Cell{})
		c := &d.cells[len(d.cells)-1]
		c.Column = in.column("Cell.column")
		if in.optional("Cell.path") {
			c.Path = in.bytes("Cell.path")
		}
		c.Timestamp = in.long("Cell.timestamp")
		c.TTL = in.int("Cell.ttl")
		c.LocalTime = in.optionalTime("Cell.local_time")
		if in.optional("Cell.value") {
			c.Value = in.bytes("Cell.value")
		} else {
			c.Deleted = true
		}
	}
	r.Cells = d.cells[first:len(d.cells):len(d.cells)]

	first = len(d.complex)
	for a := in.array(); a.next(minComplexDeletion, "Row.complex_deletions"); {
		c := commitlog.ComplexDeletion{Column: in.column("ComplexDeletion.column")}
		c.Deletion = in.deletion("ComplexDeletion.deletion")
		d.complex = append(d.complex, c)
	}
	r.ComplexDeletions = d.complex[first:len(d.complex):len(d.complex)]
}

func (d *Decoder) bound(b *Bound) {
	b.Prefix = d.clustering("Bound.prefix")
	b.Inclusive = d.in.bool("Bound.inclusive")
}

// clustering reads an array of values of clustering columns, in which null is nil.
func (d *Decoder) clustering(field string) [][]byte {
	first := len(d.values)
	for a := d.in.array(); a.next(minValue, field); {
		var v []byte
		if d.in.optional(field) {
			v = d.in.bytes(field)
		}
		d.values = append(d.values, v)
	}
	return d.values[first:len(d.values):len(d.values)]
}

// input is a cursor over a value. The first failure sticks; after it every read gives zero and every array is empty.
type input struct {
	b   []byte
	off int
	err *FormatError
}

func (in *input) fail(at int, field, reason string) {
	if in.err == nil {
		in.err = &FormatError{Offset: at, Field: field, Reason: reason}
	}
}

func (in *input) left() int { return len(in.b) - in.off }

func (in *input) long(field string) int64 {
	if in.err != nil {
		return 0
	}
	v, n := binary.Varint(in.b[in.off:])
	if n <= 0 {
		if n == 0 {
			in.fail(in.off, field, fmt.Sprintf("expected a number, found the end after %d bytes of it", in.left()))
		} else {
			in.fail(in.off, field, "expected a number of at most 64 bits, found a longer one")
		}
		return 0
	}
	in.off += n
	return v
}

func (in *input) int(field string) int32 {
	at := in.off
	v := in.long(field)
	if v < math.MinInt32 || v > math.MaxInt32 {
		in.fail(at, field, fmt.Sprintf("expected a number of at most 32 bits, found %d", v))
		return 0
	}
	return int32(v)
}

func (in *input) column(field string) int {
	at := in.off
	v := in.int(field)
	if v < 0 {
		in.fail(at, field, fmt.Sprintf("expected the index of a column, found %d", v))
		return 0
	}
	return int(v)
}

// bytes gives a view that is never nil unless reading has failed.
func (in *input) bytes(field string) []byte {
	at := in.off
	n := in.long(field)
	if in.err != nil {
		return nil
	}
	if n < 0 || n > int64(in.left()) {
		in.fail(at, field, fmt.Sprintf("expected at most the %d bytes left, found a length of %d", in.left(), n))
		return nil
	}
	b := in.b[in.off : in.off+int(n) : in.off+int(n)]
	in.off += int(n)
	return b
}

func (in *input) fixed(field string) (f [16]byte) {
	if in.err != nil {
		return f
	}
	if in.left() < len(f) {
		in.fail(in.off, field, fmt.Sprintf("expected %d bytes, found %d before the end", len(f), in.left()))
		return f
	}
	in.off += copy(f[:], in.b[in.off:])
	return f
}

func (in *input) bool(field string) bool {
	if in.err != nil {
		return false
	}
	if in.left() == 0 {
		in.fail(in.off, field, "expected a boolean, found the end")
		return false
	}
	b := in.b[in.off]
	if b > 1 {
		in.fail(in.off, field, fmt.Sprintf("expected 0 or 1, found %d", b))
		return false
	}
	in.off++
	return b == 1
}

// optional reads the branch of a union of null and something: true if the latter follows.
func (in *input) optional(field string) bool {
	at := in.off
	v := in.long(field)
	if v != 0 && v != 1 {
		in.fail(at, field, fmt.Sprintf("expected branch 0 (null) or 1, found %d", v))
		return false
	}
	return v == 1
}

func (in *input) deletion(field string) commitlog.Deletion {
	return commitlog.Deletion{Timestamp: in.long(field), LocalTime: in.long(field)}
}

func (in *input) optionalDeletion(field string) commitlog.Deletion {
	if in.optional(field) {
		return in.deletion(field)
	}
	return commitlog.LiveDeletion
}

func (in *input) optionalTime(field string) int64 {
	if in.optional(field) {
		return in.long(field)
	}
	return commitlog.NoDeletionTime
}

func (in *input) origin(field string) Origin {
	return Origin{
		Host:     schema.UUID(in.fixed(field)),
		Position: commitlog.Position{Segment: in.long(field), Offset: in.long(field)},
		Update:   in.int(field),
	}
}

func (in *input) seed(s *Seed, field string) {
	s.ID = in.fixed(field)
	s.Table = in.fixed(field)
	s.Start = in.long(field)
	s.End = in.long(field)
}

// blocks iterates over the items of an array, which come in blocks: a count and as many items, or a negative count, the
// bytes of the block, and as many items; a count of 0 ends the array.
type blocks struct {
	in   *input
	left int64
}

func (in *input) array() blocks { return blocks{in: in} }

// next reports whether an item follows; an item has at least size bytes.
func (a *blocks) next(size int, field string) bool {
	in := a.in
	if in.err != nil {
		return false
	}
	if a.left > 0 {
		a.left--
		return true
	}
	at := in.off
	n := in.long(field)
	if n < 0 {
		in.long(field) // the bytes of the block, which a reader needs only to skip it
		n = -n
	}
	if in.err != nil || n == 0 {
		return false
	}
	if most := int64(in.left() / size); n < 0 || n > most {
		in.fail(at, field, fmt.Sprintf("expected at most %d items, as many as fit before the end, found %d", most, n))
		return false
	}
	a.left = n - 1
	return true
}
