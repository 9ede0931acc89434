package commitlog

import "fmt"

// blockSections decodes sections that are one raw block: a chain of elements, each of which adds literals, which stand in the
// block, and then a match, which is a copy of bytes that came before. Either can be missing.
//
// A block can be all of a segment. So begin walks over it and looks at nothing but the heads of elements: it then knows that
// the block stands for as many bytes as it says, and where it can be cut into pieces of whole elements. The library decodes
// these one by one, with the keptHistory bytes before each. That takes less time than decoding the block at once, when all of
// it goes through memory. An element that is longer than a piece is decoded step by step. A block with a match that begins
// further back is decoded as a whole; no compressor of Cassandra's makes one.
type blockSections struct {
	class  string // as the header has it
	format blockFormat
	body   sectionBody
	n      int64 // length of the entries
	made   int64 // of them so far

	pieces []blockPiece // in reused memory
	piece  int          // the next one
	far    bool         // a match begins more than keptHistory back

	// What is left of the element that is walked over or decoded step by step.
	literals, match int64
	head, offset    int64
}

// blockPiece is where a piece starts, in the file and in the entries. It ends where the next one starts.
type blockPiece struct{ src, dst int64 }

// blockFormat is what makes a block one of LZ4 or of Snappy.
type blockFormat interface {
	// name is a block of the format, for errors.
	name() string
	// ratio is more than the bytes that a byte of a block can stand for.
	ratio() int64
	// begin reads what stands before the first element, and gives the length that it says.
	begin(b *blockSections) (n int64, err error)
	// elements walks over the elements at the start of src that are whole and stand for at most room bytes, and of which it is
	// sure. before is how many bytes came before them, which matches can begin in.
	elements(src []byte, room int, before int64) (used, made int)
	// readLiterals reads what an element says of its literals, and sets literals.
	readLiterals(b *blockSections) error
	// readMatch reads what stands behind the literals of an element, and sets match, and offset if there is one.
	readMatch(b *blockSections) error
	// decode decodes a piece of a block to the end of dst, of which known bytes come before it.
	decode(dst []byte, known int, src []byte) error
}

func (b *blockSections) bad(format string, args ...any) error {
	return badCompressed(b.class, b.n, fmt.Sprintf(format, args...))
}

func (b *blockSections) begin(dst []byte, body sectionBody, most int64) ([]byte, int64, error) {
	n, err := compressedLength(&body, most)
	if err != nil {
		return dst, 0, err
	}
	*b = blockSections{class: b.class, format: b.format, body: body, n: n, pieces: b.pieces[:0]}
	inner, err := b.format.begin(b)
	if err != nil {
		return dst, 0, err
	}
	if inner != n {
		return dst, 0, b.bad("%s of %d bytes", b.format.name(), inner)
	}
	if n > b.format.ratio()*b.body.left() {
		return dst, 0, b.bad("%v", errTooShort)
	}
	body = b.body
	if err := b.walk(); err != nil {
		return dst, 0, err
	}
	b.body, b.made = body, 0
	if b.far {
		dst, err = b.whole(dst)
	}
	return dst, n, err
}

// walk checks the block up to its end, and cuts it into pieces. A piece stands for at most decodePiece bytes, or is a
// single element.
func (b *blockSections) walk() error {
	start := blockPiece{src: b.body.off}
	b.pieces = append(b.pieces, start)
	for b.body.left() > 0 {
		src, err := b.body.ahead()
		if err != nil {
			return err
		}
		room := min(decodePiece-(b.made-start.dst), b.n-b.made)
		if used, made := b.format.elements(src, int(room), b.made); used > 0 {
			b.body.off += int64(used)
			b.made += int64(made)
			continue
		}
		// This one does not fit into the piece, is not in memory as a whole, is the last one, or is wrong.
		at := blockPiece{b.body.off, b.made}
		if err := b.passElement(); err != nil {
			return err
		}
		if b.made-start.dst > decodePiece {
			if at != start {
				b.pieces, start = append(b.pieces, at), at
			}
			if b.made-start.dst > decodePiece && b.body.left() > 0 {
				start = blockPiece{b.body.off, b.made}
				b.pieces = append(b.pieces, start)
			}
		}
	}
	if b.made != b.n {
		return b.bad("%s of %d bytes", b.format.name(), b.made)
	}
	return nil
}

// passElement walks over an element of which not all need be in memory.
func (b *blockSections) passElement() error {
	if err := b.readLiterals(); err != nil {
		return err
	}
	b.body.off += b.literals
	b.made += b.literals
	err := b.readMatch()
	b.made += b.match
	b.literals, b.match = 0, 0
	return err
}

func (b *blockSections) readLiterals() error {
	if err := b.format.readLiterals(b); err != nil {
		return err
	}
	if b.literals > b.n-b.made {
		return b.bad("%s that is longer", b.format.name())
	}
	if b.literals > b.body.left() {
		return b.cut()
	}
	return nil
}

func (b *blockSections) readMatch() error {
	if err := b.format.readMatch(b); err != nil || b.match == 0 {
		return err
	}
	if b.offset == 0 || b.offset > b.made {
		return b.bad("%s that goes %d bytes back at %d", b.format.name(), b.offset, b.made)
	}
	if b.match > b.n-b.made {
		return b.bad("%s that is longer", b.format.name())
	}
	b.far = b.far || b.offset > keptHistory
	return nil
}

func (b *blockSections) cut() error { return b.bad("%s that was cut", b.format.name()) }

// byte reads a byte.
func (b *blockSections) byte() (byte, error) {
	if b.body.left() == 0 {
		return 0, b.cut()
	}
	src, err := b.body.ahead()
	if err != nil {
		return 0, err
	}
	b.body.off++
	return src[0], nil
}

// integer reads n bytes, little-endian.
func (b *blockSections) integer(n int) (v int64, err error) {
	for i := range n {
		low, err := b.byte()
		if err != nil {
			return 0, err
		}
		v |= int64(low) << (8 * i)
	}
	return v, nil
}

// errChanged is what was found when a section does not stand for what it stood for when it was checked.
const errChanged = "bytes that were others when they were checked"

func (b *blockSections) more(dst []byte) ([]byte, error) {
	if b.literals > 0 || b.match > 0 {
		return b.step(dst)
	}
	here := blockPiece{b.body.off, b.made}
	if b.piece == len(b.pieces) || b.pieces[b.piece] != here {
		return dst, b.bad(errChanged)
	}
	from, to := here, blockPiece{b.body.end, b.n}
	if b.piece++; b.piece < len(b.pieces) {
		to = b.pieces[b.piece]
	}
	if to.dst-from.dst > decodePiece {
		if err := b.readLiterals(); err != nil {
			return dst, err
		}
		return b.step(dst)
	}
	return b.decode(dst, to.src-from.src, int(to.dst-from.dst))
}

// whole decodes all of the block at once.
func (b *blockSections) whole(dst []byte) ([]byte, error) {
	all, _ := extend(dst, int(b.n))
	return b.decode(all[:len(dst)], b.body.left(), int(b.n))
}

// decode appends the next n bytes to dst, which has room for them; the block has so many bytes for them.
func (b *blockSections) decode(dst []byte, length int64, n int) ([]byte, error) {
	src, err := b.body.next(length)
	if err != nil {
		return dst, err
	}
	out, known := dst[:len(dst)+n], min(len(dst), keptHistory)
	if err := b.format.decode(out[len(dst)-known:], known, src); err != nil {
		return dst, b.bad(errChanged)
	}
	b.made += int64(n)
	return out, nil
}

// step appends a part of an element, as much as there is room for.
func (b *blockSections) step(dst []byte) ([]byte, error) {
	if b.literals > 0 {
		src, err := b.body.ahead()
		if err != nil {
			return dst, err
		}
		n := min(b.literals, int64(len(src)), int64(cap(dst)-len(dst)))
		b.body.off += n
		b.made += n
		if b.literals -= n; b.literals > 0 {
			return append(dst, src[:n]...), nil
		}
		dst = append(dst, src[:n]...)
	}
	if b.match == 0 {
		if err := b.readMatch(); err != nil {
			return dst, err
		}
	}
	if b.match > 0 && b.offset > int64(len(dst)) {
		return dst, b.bad(errChanged)
	}
	for b.match > 0 && len(dst) < cap(dst) { // a match can overlap with what it makes
		from := dst[int64(len(dst))-b.offset:]
		n := min(b.match, int64(len(from)), int64(cap(dst)-len(dst)))
		dst = append(dst, from[:n]...)
		b.made += n
		b.match -= n
	}
	return dst, nil
}
