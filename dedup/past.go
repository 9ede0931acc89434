package dedup

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"

	"cassdelta/commitlog"
	"cassdelta/internal/rawtopic"
	"cassdelta/schema"
	"cassdelta/state"
)

// This file keeps what is known of the past of tables: whether it is complete, when they were truncated, when they were
// dropped. It is stored as a meta value of the table, "past/" and its id:
//
//	format     1 byte: 2; 1 has no times of hosts
//	flags      1 byte: 0x01 created, 0x02 missing, 0x04 a time at which it was dropped follows
//	dropped    varint, microseconds
//	epoch      uvarint, the number of truncations
//	times      uvarint number, and for each of the last truncations, oldest first: varint, microseconds
//	hosts      uvarint number, and for each: 16 bytes host; uvarint, the truncation that it has passed; varints, segment
//	           and offset of where; varint, microseconds, when it did by its own clock
//
// The hosts that have sent anything to the partition are the meta value "hosts": the format, and 16 bytes for each, in
// the order in which they came.
//
// # Truncation
//
// Cassandra's TRUNCATE discards what a node has when the statement reaches it, whatever its write time; each node has its
// own moment, by its own clock and in its own log. So each node's Truncate record says up to where its log is gone.
// The records of one statement are recognised by their order: the nodes execute truncations one after the other, so
// what is, for a node, the first truncation after those that it has passed, is the first of those that others have
// told of and that is not further away than truncateSpread; if there is none it is a new one. A new truncation, an
// epoch, removes the rows. From then on
//
//   - what a node wrote to its log up to its last truncation is gone;
//   - what a node that has passed the epoch wrote behind it counts;
//   - a node that was seen before the epoch, or whose agent has read the table's creation, and that has not passed the epoch
//     still tells of before: nothing counts. Once time is past the epoch and the spread, it does not pass it any more (it was
//     down, its log has a gap): what has a write time after the epoch counts;
//   - so it is of a node whose last truncation is nearer in time to the latest one than to the one that it was taken for: a statement
//     may have failed on it, and what it has told is the second try. That is not taken for the latest one at once, since the clocks
//     of nodes may be further apart than truncations in quick succession, and to be wrong there would be a truncation too many;
//   - of any other node, which was first seen after the epoch, what has a write time after the epoch and the spread: it may have been
//     there, and have its own truncation still to tell. What is in a segment of after the epoch and the spread counts all the same.
//
// # Drop
//
// A table is dropped by the Drop of any agent, and by the definition of a newer table of the same name, whichever
// comes first. Nothing of it counts after that, unless it has a definition of a later DDL: Cassandra can give an id again.
// Then the drop is the epoch before which nothing counts.

const (
	pastFormat        = 2
	pastFormatUntimed = 1
	pastCreated       = 0x01
	pastMissing       = 0x02
	pastDropped       = 0x04

	metaHosts = "hosts"
)

// truncateSpread bounds, in microseconds, how far the nodes' times of one truncation are apart: truncate_request_timeout is
// a minute, after which the statement has failed.
const truncateSpread = 60 * microseconds

// keptEpochs bounds the times of truncations that are kept for nodes that are behind.
const keptEpochs = 16

// noTime is the time of what did not happen.
const noTime = math.MinInt64

// past is what is known of a table's past.
type past struct {
	// created: an agent has read the table's creation, and reads all since; missing: another has not, or cdc was off.
	created, missing bool
	// dropped is the time in microseconds at which the table was dropped, noTime if it was not.
	dropped int64
	// epoch is the number of truncations, times those of the last of them.
	epoch uint64
	times []int64
	hosts []passage
}

// passage is where a node is among a table's truncations. There is one for each node that was seen before the last of them, or
// has read the table's creation.
type passage struct {
	host schema.UUID
	// epoch is the last truncation that it has passed, 0 if there is none; position is that of its last one in its log, and time
	// when that was by its own clock, noTime if that is not known.
	epoch    uint64
	position commitlog.Position
	time     int64
}

// complete reports whether all that was ever written to the table is known.
func (p *past) complete() bool { return p.created && !p.missing }

// untouched reports whether the table was neither truncated nor dropped.
func (p *past) untouched() bool { return p.epoch == 0 && p.dropped == noTime }

// passage returns that of a host, nil if there is none.
func (p *past) passage(host schema.UUID) *passage {
	for i := range p.hosts {
		if p.hosts[i].host == host {
			return &p.hosts[i]
		}
	}
	return nil
}

// latest is the time of the latest truncation.
func (p *past) latest() int64 {
	latest := int64(noTime)
	for _, t := range p.times {
		latest = max(latest, t)
	}
	return latest
}

// verdict says what counts of an update.
type verdict uint8

const (
	counts     verdict = iota
	countsNew          // what was written after a time
	countsNone         // it is of before a truncation
)

// judge says what counts of an update that was read there, at a watermark; of one that countsNew, what was written after the time
// from.
func (p *past) judge(o *rawtopic.Origin, watermark int64) (v verdict, from int64) {
	if p.epoch == 0 {
		return counts, noTime
	}
	h := p.passage(o.Host)
	switch {
	case h == nil && o.Position.Segment > (p.latest()+truncateSpread)/1000:
		// The numbers of a node's segments begin at the millisecond in which it was started, so this one was after the truncation. If
		// the node was there before, its own is in an older segment. Source: CommitLogSegment.idBase.
		return counts, noTime
	case h == nil:
		return countsNew, p.latest() + truncateSpread
	case h.epoch > 0 && o.Position.Compare(h.position) <= 0:
		return countsNone, noTime
	case h.epoch == p.epoch:
		return counts, noTime
	case watermark < p.latest()+truncateSpread && !p.doubtful(h):
		return countsNone, noTime
	}
	return countsNew, p.latest()
}

// doubtful reports whether the last truncation that h has passed is nearer in time to the latest of all than to the one that it was
// taken for, or another since.
func (p *past) doubtful(h *passage) bool {
	first := p.epoch - uint64(len(p.times)) + 1
	if h.time == noTime || h.epoch < first {
		return false
	}
	latest := distance(h.time, p.times[len(p.times)-1])
	for _, t := range p.times[h.epoch-first : len(p.times)-1] {
		if distance(h.time, t) <= latest {
			return false
		}
	}
	return true
}

func distance(a, b int64) uint64 {
	if a < b {
		return uint64(b) - uint64(a)
	}
	return uint64(a) - uint64(b)
}

// pass finds the truncation that is the next one of a host, at a time. It returns 0 if that is none that is known; begins
// then says that it is a new one, rather than one that came too late to be told.
func (p *past) pass(host schema.UUID, time int64) (epoch uint64, begins bool) {
	passed := uint64(0)
	if h := p.passage(host); h != nil {
		passed = h.epoch
	}
	first := p.epoch - uint64(len(p.times)) + 1
	for i, t := range p.times {
		if n := first + uint64(i); n > passed && time >= t-truncateSpread && time <= t+truncateSpread {
			return n, false
		}
	}
	return 0, passed == p.epoch || time > p.latest()
}

// repeats reports whether a host has told before of a truncation there.
func (p *past) repeats(o *rawtopic.Origin) bool {
	h := p.passage(o.Host)
	return h != nil && h.epoch > 0 && o.Position.Compare(h.position) <= 0
}

// begin adds a truncation, after which the hosts are known to have told of before.
func (p *past) begin(time int64, hosts []schema.UUID) {
	p.epoch++
	if p.times = append(p.times, time); len(p.times) > keptEpochs {
		p.times = slices.Delete(p.times, 0, 1)
	}
	for _, host := range hosts {
		if p.passage(host) == nil {
			p.hosts = append(p.hosts, passage{host: host, time: noTime})
		}
	}
}

// expect takes note that a host was there when the table was created, so that it passes all truncations. It reports whether
// that is new, and makes a difference.
func (p *past) expect(host schema.UUID) bool {
	if p.epoch == 0 || p.passage(host) != nil {
		return false
	}
	p.hosts = append(p.hosts, passage{host: host, time: noTime})
	return true
}

// passed takes note that a host has passed a truncation there, at a time.
func (p *past) passed(o *rawtopic.Origin, epoch uint64, time int64) {
	h := p.passage(o.Host)
	if h == nil {
		p.hosts = append(p.hosts, passage{host: o.Host})
		h = &p.hosts[len(p.hosts)-1]
	}
	h.epoch, h.position, h.time = epoch, o.Position, time
}

func appendPast(dst []byte, p *past) []byte {
	var flags byte
	if p.created {
		flags |= pastCreated
	}
	if p.missing {
		flags |= pastMissing
	}
	if p.dropped != noTime {
		flags |= pastDropped
	}
	dst = append(dst, pastFormat, flags)
	if p.dropped != noTime {
		dst = binary.AppendVarint(dst, p.dropped)
	}
	dst = binary.AppendUvarint(dst, p.epoch)
	dst = binary.AppendUvarint(dst, uint64(len(p.times)))
	for _, t := range p.times {
		dst = binary.AppendVarint(dst, t)
	}
	dst = binary.AppendUvarint(dst, uint64(len(p.hosts)))
	for i := range p.hosts {
		h := &p.hosts[i]
		dst = append(dst, h.host[:]...)
		dst = binary.AppendUvarint(dst, h.epoch)
		dst = binary.AppendVarint(dst, h.position.Segment)
		dst = binary.AppendVarint(dst, h.position.Offset)
		dst = binary.AppendVarint(dst, h.time)
	}
	return dst
}

func decodePast(value []byte) (*past, error) {
	p := &past{dropped: noTime}
	in := decoder{b: value}
	timed := len(value) == 0 || value[0] != pastFormatUntimed
	if timed {
		in.format(pastFormat)
	} else {
		in.format(pastFormatUntimed)
	}
	flags := in.byte("flags")
	if flags&^(pastCreated|pastMissing|pastDropped) != 0 {
		in.fail(fmt.Sprintf("flags: found %#02x", flags))
	}
	p.created, p.missing = flags&pastCreated != 0, flags&pastMissing != 0
	if flags&pastDropped != 0 {
		p.dropped = in.varint("dropped")
	}
	p.epoch = in.uvarint("epoch")
	for n := in.uvarint("times"); n > 0 && in.err == nil; n-- {
		p.times = append(p.times, in.varint("time"))
	}
	if uint64(len(p.times)) > p.epoch || len(p.times) > keptEpochs || len(p.times) == 0 && p.epoch > 0 {
		in.fail(fmt.Sprintf("found the times of %d truncations of %d", len(p.times), p.epoch))
	}
	for n := in.uvarint("hosts"); n > 0 && in.err == nil; n-- {
		var h passage
		copy(h.host[:], in.bytes(uint64(len(h.host)), "host"))
		h.epoch = in.uvarint("passed")
		h.position = commitlog.Position{Segment: in.varint("segment"), Offset: in.varint("offset")}
		if h.time = noTime; timed {
			h.time = in.varint("passed at")
		}
		if h.epoch > p.epoch {
			in.fail(fmt.Sprintf("host %v has passed truncation %d of %d", h.host, h.epoch, p.epoch))
		}
		p.hosts = append(p.hosts, h)
	}
	return p, in.end("past of a table")
}

func pastKey(dst []byte, group uint16, table schema.UUID) []byte {
	return state.Meta(dst, group, "past/"+table.String())
}

// past returns that of a table, which need not be known.
func (f *Fold) past(table schema.UUID) (*past, error) {
	if p := f.pasts[table]; p != nil {
		return p, nil
	}
	key := pastKey(nil, f.group, table)
	value, err := f.call.tx.Get(key)
	if err != nil {
		return nil, err
	}
	p := &past{dropped: noTime}
	if value != nil {
		if p, err = decodePast(value); err != nil {
			return nil, f.stored(key, err)
		}
	}
	f.pasts[table] = p
	return p, nil
}

func (f *Fold) storePast(table schema.UUID, p *past) error {
	w := &f.work
	w.key1 = pastKey(w.key1[:0], f.group, table)
	w.value = appendPast(w.value[:0], p)
	return f.call.tx.Set(w.key1, w.value)
}

// noteHost remembers that a host sends to the partition.
func (f *Fold) noteHost(host schema.UUID) error {
	if host == f.host || host.IsZero() {
		return nil
	}
	if !slices.Contains(f.hosts, host) {
		f.hosts = append(f.hosts, host)
		w := &f.work
		w.key1 = state.Meta(w.key1[:0], f.group, metaHosts)
		w.value = append(w.value[:0], metaFormat)
		for i := range f.hosts {
			w.value = append(w.value, f.hosts[i][:]...)
		}
		if err := f.call.tx.Set(w.key1, w.value); err != nil {
			return err
		}
	}
	f.host = host
	return nil
}

func decodeHosts(value []byte) (hosts []schema.UUID, err error) {
	in := decoder{b: value}
	in.format(metaFormat)
	for len(in.b) > 0 && in.err == nil {
		var host schema.UUID
		copy(host[:], in.bytes(uint64(len(host)), "host"))
		hosts = append(hosts, host)
	}
	return hosts, in.end("hosts")
}
