package commitlog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"path/filepath"
)

const (
	markerLen     = 8
	entryHeader   = 8 // size and its checksum
	entryOverhead = entryHeader + 4
	minEntry      = 10 // the least payload that Cassandra accepts
)

// Limit says how far a segment may be read.
type Limit struct {
	// Final says that nothing will be written to the segment any more: a marker of zeros is the end, and what is wrong
	// is damage.
	Final bool
	// Offset is the logical offset up to which the segment is known to be written: what is wrong or missing before it
	// is damage. If the segment is not final, sections that end behind it are left for later, and NoOffset reads every
	// section with a valid marker. If it is final, sections behind Offset are read as well, and 0 says that the end is
	// not known.
	Offset int64
}

// NoOffset is the Offset of a [Limit] that leaves the last valid sync marker as the only bound.
const NoOffset = math.MaxInt64

// Reader reads the entries of one segment, of bytes that are finished or of a file that its node still writes.
//
// After the header the file is a chain of sections, each with a marker in front:
//
//	Offset  Size  Field
//	0       4     file offset of the next marker, which is the end of this section
//	4       4     CRC-32 of: low 32 bits of the segment id, high 32 bits, file offset of this marker
//	8             body: entries back to back, or what compression and encryption made of them
//
// A marker of zeros is the end: for now in a segment that is being written, for good in a finished one. Behind the
// last valid marker there can be entries that look intact; they were never synced, and are not read.
//
//	Offset  Size  Field of an entry
//	0       4     n, length of the payload, at least 10
//	4       4     CRC-32 of n
//	8       n     payload: one mutation
//	8+n     4     CRC-32 of n and the payload
//
// The three endings of [Reader.Next] are ErrMore, ErrFinished and [*DamagedError]. A Reader is for one goroutine.
// Source: CommitLogSegmentReader, CommitLogReader.readSection.
type Reader struct {
	file  string
	w     window
	size  int64
	limit Limit
	after int64 // entries that end at or below this logical offset are not yielded

	opened   bool
	desc     Descriptor
	off      int64 // file offset of the next marker
	logical  int64 // and its logical offset
	sections int

	keys    *keyring
	decoder sectionDecoder // nil: sections are plain
	decoded window         // the entries of one section, decoded, in pieces if its form can be

	in   bool // reading the section below
	lost bool // a read failed amid the section, so its decoder is at no place that is known
	sec  section
	next int64 // logical offset of the next entry

	end error // sticky: finished or not readable
}

// section is a sync section whose body can be read.
type section struct {
	marker int64 // file offset of its marker
	end    int64 // file offset of the next marker
	base   int64 // logical offset of the body
	length int64 // logical length of the body
	// body gives views of the entries; the body starts at its offset bodyOff.
	body    *window
	bodyOff int64
}

// NewReader makes a reader of a segment of size bytes. file is its path: it names the segment in errors, and its last
// element, if it is the name of a segment, is compared with the header. The segment is taken for finished until
// [Reader.Extend] says otherwise.
func NewReader(file string, r io.ReaderAt, size int64) *Reader {
	reader := &Reader{}
	reader.Reset(file, r, size)
	return reader
}

// Reset makes r what [NewReader] makes, and keeps its memory.
func (r *Reader) Reset(file string, src io.ReaderAt, size int64) {
	*r = Reader{file: file, size: size, limit: Limit{Final: true}, keys: newKeyring(nil),
		w: window{r: src, store: r.w.store}, decoded: window{store: r.decoded.store}}
}

// NewBytesReader makes a reader of a whole segment in memory. Payloads of a plain segment are views of b.
func NewBytesReader(file string, b []byte) *Reader {
	return &Reader{file: file, w: window{buf: b}, size: int64(len(b)), limit: Limit{Final: true}, keys: newKeyring(nil)}
}

// SetKeys gives the reader the keys of encrypted segments. It must be called before the header is read.
func (r *Reader) SetKeys(keys Keys) { r.keys = newKeyring(keys) }

// SkipTo makes the reader leave out entries that end at or below the logical offset. Their payloads are not checked.
func (r *Reader) SkipTo(offset int64) { r.after = offset }

// Extend tells the reader the present size of the file and how far it may be read now. Next then goes on where it
// answered ErrMore.
func (r *Reader) Extend(size int64, l Limit) {
	r.size, r.limit = size, l
	r.w.forget()
}

// Header reads the header of the segment. Its errors are those of Next; with an [*UnsupportedError] for the form of the
// sections, and with a [*KeyError], comes the header all the same.
func (r *Reader) Header() (Descriptor, error) {
	if r.end != nil && !r.opened {
		return Descriptor{}, r.end
	}
	if err := r.open(); err != nil {
		return r.desc, r.stop(err)
	}
	return r.desc, nil
}

// Sections is the number of sync sections with a body that were entered so far, skipped ones included.
func (r *Reader) Sections() int { return r.sections }

// Offset is the logical offset up to which everything was read: behind the last entry yielded, or behind the last
// section when there was nothing more.
func (r *Reader) Offset() int64 {
	if r.in {
		return r.next
	}
	return r.logical
}

// FileOffset is the file offset of the sync marker that is next to be read, or of the section being read.
func (r *Reader) FileOffset() int64 {
	if r.in {
		return r.sec.marker
	}
	return r.off
}

// Next yields the next payload and the position behind it. The payload is valid until the next call.
//
// The error is ErrMore when nothing more can be read under the present limit (ask again after Extend), ErrFinished at
// the clean end of a final segment, an [*UnsupportedError], a [*KeyError], a [*DamagedError], or that of a failed read
// of the file.
// A DamagedError that is Resumable comes with the payload and position of the entry that does not match its checksum;
// the next call goes on behind it. The others come again at every call.
func (r *Reader) Next() ([]byte, Position, error) {
	if r.end != nil {
		return nil, Position{}, r.end
	}
	if !r.opened {
		if err := r.open(); err != nil {
			return nil, Position{}, r.stop(err)
		}
	}
	for {
		for !r.in {
			if err := r.nextSection(); err != nil {
				return nil, Position{}, r.stop(err)
			}
		}
		payload, end, err := r.nextEntry()
		if err != nil {
			var d *DamagedError
			if errors.As(err, &d) && d.Resumable {
				return payload, Position{r.desc.ID, end}, err
			}
			return nil, Position{}, r.stop(err)
		}
		if payload != nil {
			return payload, Position{r.desc.ID, end}, nil
		}
	}
}

// stop makes an ending sticky unless it is one that a later call can overcome.
func (r *Reader) stop(err error) error {
	var d *DamagedError
	var u *UnsupportedError
	var k *KeyError
	if err == ErrFinished || errors.As(err, &d) || errors.As(err, &u) || errors.As(err, &k) {
		r.end = err
	}
	return err
}

// open reads the header, once.
func (r *Reader) open() error {
	if r.opened {
		return nil
	}
	d, err := r.readDescriptor(usualHeaderLen)
	if err == ErrMore && r.size > usualHeaderLen {
		d, err = r.readDescriptor(maxHeaderLen)
	}
	if err != nil {
		// A header being written can be there in part.
		var damaged *DamagedError
		switch {
		case !r.limit.Final && (r.limit.Offset == 0 || r.limit.Offset == NoOffset) && errors.As(err, &damaged):
			r.w.forget()
			return ErrMore
		case err == ErrMore && (r.limit.Final || r.limit.Offset > r.size && r.limit.Offset != NoOffset):
			if b, err := r.w.view(0, 4, 4); r.size >= 4 && err == nil && !Version(binary.BigEndian.Uint32(b)).Supported() {
				return &DamagedError{File: r.file, What: "version in the header", Expected: "6, 7 or 8",
					Found: fmt.Sprint(binary.BigEndian.Uint32(b)), Hint: "the file is no commit log segment: move it out of cdc_raw"}
			}
			return &DamagedError{File: r.file, Offset: r.size, What: "header", Expected: fmt.Sprintf("at least %d bytes", headerMin),
				Found: "the end of the file", Hint: "the file was cut: restore it from the node's commitlog directory, or move it out of cdc_raw"}
		}
		return err
	}
	if v, id, ok := ParseSegmentName(filepath.Base(r.file)); ok && (v != d.Version || id != d.ID) {
		return &DamagedError{File: r.file, Offset: 0, What: "version and id of the header", Expected: fmt.Sprintf("%d, %d as in the file's name", v, id),
			Found: fmt.Sprintf("%d, %d", d.Version, d.ID), Hint: "the file was renamed or overwritten: move it out of cdc_raw and keep it"}
	}
	r.opened, r.desc = true, d
	r.off, r.logical = int64(d.Length), int64(d.Length)
	r.w.forget()
	r.decoder, err = newSectionDecoder(r.file, d, r.keys)
	return err
}

// readDescriptor parses the header of which at most n bytes are looked at.
func (r *Reader) readDescriptor(n int64) (Descriptor, error) {
	n = min(n, r.size)
	b, err := r.w.view(0, int(n), n)
	if err != nil {
		return Descriptor{}, r.readError(0, "header", err)
	}
	return ParseDescriptor(r.file, b)
}

// nextSection reads the marker at r.off and enters its section, or answers how the segment ends.
func (r *Reader) nextSection() error {
	written := r.logical < r.limit.Offset && r.limit.Offset != NoOffset // the node says there is a section here
	if !r.limit.Final && !written && r.limit.Offset != NoOffset {
		return ErrMore
	}
	// wrong answers what is wrong with the marker. In a segment being written a marker is stored in two steps, and the
	// end of the file moves, so nothing is damage there that the node has not declared written.
	wrong := func(what, expected, found string) error {
		if !r.limit.Final && !written {
			r.w.forget()
			return ErrMore
		}
		return &DamagedError{File: r.file, Offset: r.off, What: what, Expected: expected, Found: found,
			Hint: "what follows in this segment cannot be read: keep the file for examination; the logs of other replicas have its writes, but for those that reached this node alone"}
	}
	if r.off > r.size-markerLen {
		if written {
			return wrong("sync marker", r.declared(), fmt.Sprintf("the end of the file at %d (it was cut)", r.size))
		}
		return r.zeroMarker()
	}
	next, crc, err := r.marker()
	if err != nil {
		return err
	}
	if next == 0 && crc == 0 {
		if written {
			return wrong("sync marker", r.declared(), "zeros")
		}
		return r.zeroMarker()
	}
	if want := markerChecksum(r.desc.ID, r.off); crc != want {
		return wrong("checksum of the sync marker", hex32(want), hex32(crc))
	}
	if next < r.off+markerLen {
		return wrong("end of the section", fmt.Sprintf("at least %d", r.off+markerLen), fmt.Sprint(next))
	}
	if next > r.size {
		return wrong("end of the section", fmt.Sprintf("at most %d, the length of the file", r.size), fmt.Sprintf("%d (the file was cut)", next))
	}
	s, err := r.decodeSection(next)
	if err != nil {
		var bad *sectionError
		if errors.As(err, &bad) {
			return wrong(bad.what, bad.expected, bad.found)
		}
		return err
	}
	if written && !r.limit.Final && s.base+s.length > r.limit.Offset {
		return ErrMore
	}
	r.off, r.logical = next, s.base+s.length
	if s.length > 0 {
		r.sections++
	}
	if s.base+s.length > r.after {
		r.in, r.sec, r.next = true, s, s.base
	}
	return nil
}

// declared says in words what the limit demands.
func (r *Reader) declared() string {
	return fmt.Sprintf("a section, as the index file says that the segment is written to %d", r.limit.Offset)
}

func (r *Reader) zeroMarker() error {
	if r.limit.Final {
		return ErrFinished
	}
	r.w.forget()
	return ErrMore
}

// marker reads the two fields at r.off. The node stores the end of the section first and the checksum second, and the
// checksum does not cover the end; so while it may be writing they are read twice: once the checksum was seen, the
// end is there in full.
func (r *Reader) marker() (next int64, crc uint32, err error) {
	for range 2 {
		limit := r.size
		if !r.limit.Final {
			r.w.forget()
			limit = r.off + markerLen
		}
		b, err := r.w.view(r.off, markerLen, limit)
		if err != nil {
			return 0, 0, r.readError(r.off, "sync marker", err)
		}
		next, crc = int64(binary.BigEndian.Uint32(b)), binary.BigEndian.Uint32(b[4:])
		if r.limit.Final || crc == 0 {
			break
		}
	}
	return next, crc, nil
}

func markerChecksum(id, off int64) uint32 {
	var b [12]byte
	binary.BigEndian.PutUint32(b[0:], uint32(id))
	binary.BigEndian.PutUint32(b[4:], uint32(id>>32))
	binary.BigEndian.PutUint32(b[8:], uint32(off))
	return checksumShort(0, b[:])
}

// synced reports whether the first sync marker is valid: whether the node has written anything behind the header. It
// does not look at the bodies of sections, so their form does not matter.
func (r *Reader) synced() bool {
	_ = r.open()
	if !r.opened || r.off+markerLen > r.size {
		return false
	}
	next, crc, err := r.marker()
	return err == nil && next > r.off && crc == markerChecksum(r.desc.ID, r.off)
}

// maxLogical is the greatest logical offset: Cassandra has them in signed 32-bit integers.
const maxLogical = math.MaxInt32

// decodeSection makes the body of the section at r.off, which ends at next, readable. The body of a plain section is
// its bytes in the file. Others are decoded as their entries are read, once it is known that they can be; their logical
// length is not that of their bytes. The error is a [*sectionError], a [*KeyError], or that of a read.
func (r *Reader) decodeSection(next int64) (section, error) {
	s := section{marker: r.off, end: next, base: r.logical + markerLen, length: next - r.off - markerLen,
		body: &r.w, bodyOff: r.off + markerLen}
	if r.decoder == nil {
		return s, nil
	}
	n, err := r.decoded.begin(r.decoder, sectionBody{w: &r.w, off: s.bodyOff, end: next}, maxLogical-s.base)
	if err != nil {
		if errors.As(err, new(*sectionError)) || errors.As(err, new(*KeyError)) {
			return section{}, err
		}
		return section{}, r.readError(r.off, "section", err)
	}
	s.length, s.body, s.bodyOff = n, &r.decoded, 0
	return s, nil
}

// at is the place in the file of a logical offset in the section: that of its marker if the section was decoded.
func (s *section) at(logical int64) int64 {
	if s.bodyOff == 0 {
		return s.marker
	}
	return s.bodyOff + logical - s.base
}

// nextEntry reads the entry at r.next. A nil payload without an error says that it was skipped or that the section
// ended. end is the logical offset behind the entry.
func (r *Reader) nextEntry() (payload []byte, end int64, err error) {
	s := &r.sec
	if r.lost {
		if err := r.beginAgain(); err != nil {
			return nil, 0, r.entryError(err)
		}
	}
	left := s.base + s.length - r.next
	if left < 4 {
		r.in = false
		return nil, 0, nil
	}
	if left < entryOverhead+minEntry {
		return nil, 0, r.damagedEntry("entry", fmt.Sprintf("at least %d bytes", entryOverhead+minEntry), fmt.Sprintf("%d before the end of the section", left))
	}
	at := s.bodyOff + r.next - s.base // in the body
	limit := s.bodyOff + s.length
	if r.limit.Final {
		limit = max(limit, r.size)
	}
	b := s.body.held(at, entryHeader)
	if b == nil {
		if b, err = s.body.view(at, entryHeader, limit); err != nil {
			return nil, 0, r.entryError(err)
		}
	}
	size, crc := binary.BigEndian.Uint32(b), binary.BigEndian.Uint32(b[4:])
	running := checksumWord(size)
	if crc != running {
		return nil, 0, r.damagedEntry("checksum of the entry's size", hex32(running), hex32(crc))
	}
	if size < minEntry || int64(size) > left-entryOverhead {
		return nil, 0, r.damagedEntry("size of the entry", fmt.Sprintf("%d to %d, the rest of the section", minEntry, left-entryOverhead), fmt.Sprint(int32(size)))
	}
	n := int(size)
	end = r.next + int64(n) + entryOverhead
	if end <= r.after {
		r.next = end
		return nil, 0, nil
	}
	if b = s.body.held(at+entryHeader, n+4); b == nil {
		if b, err = s.body.view(at+entryHeader, n+4, limit); err != nil {
			return nil, 0, r.entryError(err)
		}
	}
	payload = b[:n:n]
	if want, found := checksum(running, payload), binary.BigEndian.Uint32(b[n:]); want != found {
		damaged := r.damagedEntry("checksum of the entry's payload", hex32(want), hex32(found))
		damaged.Resumable, damaged.Hint = true, "this entry is lost on this node, the next ones are readable"
		r.next = end
		return payload, end, damaged
	}
	r.next = end
	return payload, end, nil
}

// entryError is that of a view of the entry at r.next. That a section cannot be decoded is known
// before it is entered, unless the file changes meanwhile.
func (r *Reader) entryError(err error) error {
	if bad := (*sectionError)(nil); errors.As(err, &bad) {
		return r.damagedEntry(bad.what, bad.expected, bad.found)
	}
	r.lost = r.sec.body == &r.decoded
	return r.readError(r.sec.at(r.next), "entry", err)
}

// beginAgain decodes the section from its start.
func (r *Reader) beginAgain() error {
	s := &r.sec
	n, err := r.decoded.begin(r.decoder, sectionBody{w: &r.w, off: s.marker + markerLen, end: s.end}, maxLogical-s.base)
	if err != nil {
		return err
	}
	if n != s.length {
		return &sectionError{"length of the section's entries", fmt.Sprint(s.length), errChanged}
	}
	r.lost = false
	return nil
}

// damagedEntry is the error of the entry at r.next.
func (r *Reader) damagedEntry(what, expected, found string) *DamagedError {
	return &DamagedError{File: r.file, Offset: r.sec.at(r.next), What: what, Expected: expected, Found: found,
		Hint: "what follows in this segment cannot be read: keep the file for examination; the logs of other replicas have its writes, but for those that reached this node alone"}
}

// readError tells a file that ended too early from one that cannot be read.
func (r *Reader) readError(off int64, what string, err error) error {
	if err == io.ErrUnexpectedEOF {
		return &DamagedError{File: r.file, Offset: off, What: what, Expected: fmt.Sprintf("a file of %d bytes", r.size), Found: "its end",
			Hint: "the file was cut while it was read: keep it; the logs of other replicas have its writes, but for those that reached this node alone"}
	}
	return fmt.Errorf("%s: %s: %w", r.file, what, err)
}
