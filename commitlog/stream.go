package commitlog

import (
	"bufio"
	"fmt"
	"io"
	"math"
	"sync"

	"github.com/klauspost/compress/zlib"
	"github.com/klauspost/compress/zstd"
)

// streamSections decodes sections that a library decompresses as a stream.
//
// A section can be all of a segment, and whether it is right shows at its end, where its checksum is. So begin decompresses
// it once and keeps nothing: it then knows that the section is whole and stands for as many bytes as it says. It is
// decompressed again in pieces, as its entries are read. A section that is not longer than a piece is decompressed once.
type streamSections struct {
	class  string // as the header has it
	format streamFormat
	body   sectionBody // all of it
	n      int64       // length of the entries
	made   int64       // of them so far
	stream stream      // nil if there is none in use
	past   [1]byte     // behind the entries, where nothing is
}

// streamFormat is what makes a section one of Deflate or of Zstandard.
type streamFormat interface {
	// name is that of a section in the format, for errors.
	name() string
	// check looks at what a section says of itself, so that its stream takes no more memory than a constant and its entries. If
	// they can be decoded at once, it appends them to dst, and done is true.
	check(s *streamSections, dst []byte) (out []byte, done bool, err error)
	// streams has those that are not in use. They are large.
	streams() *sync.Pool
}

// stream decompresses what its source has.
type stream interface {
	io.Reader
	source() *bodyReader
	// reset begins with a new source.
	reset() error
	// unread is how many bytes it has taken from its source and not used.
	unread() int64
}

// bodyReader reads the body of a section as a stream.
type bodyReader struct {
	sectionBody
	err error // of the file, not io.EOF
}

func (r *bodyReader) Read(p []byte) (int, error) {
	if r.left() == 0 {
		return 0, io.EOF
	}
	var src []byte
	if src, r.err = r.ahead(); r.err != nil {
		return 0, r.err
	}
	n := copy(p, src)
	r.off += int64(n)
	return n, nil
}

func (s *streamSections) bad(format string, args ...any) error {
	return badCompressed(s.class, s.n, fmt.Sprintf(format, args...))
}

func (s *streamSections) begin(dst []byte, body sectionBody, most int64) ([]byte, int64, error) {
	n, err := compressedLength(&body, most)
	if err != nil {
		return dst, 0, err
	}
	*s = streamSections{class: s.class, format: s.format, body: body, n: n, stream: s.stream}
	if out, done, err := s.format.check(s, dst); done || err != nil {
		return out, n, err
	}
	if err := s.open(); err != nil {
		return dst, 0, err
	}
	defer s.close()
	out, piece := extend(dst, int(min(n, decodePiece)))
	for s.made < n {
		if err := s.read(piece[:min(decodePiece, n-s.made)]); err != nil {
			return dst, 0, err
		}
	}
	if more, err := s.fill(s.past[:]); more > 0 {
		return dst, 0, s.bad("a longer %s", s.format.name())
	} else if err != nil {
		return dst, 0, err
	}
	if left := s.stream.source().left() + s.stream.unread(); left > 0 {
		return dst, 0, s.bad("%d bytes behind the %s", left, s.format.name())
	}
	if n > decodePiece {
		out, s.made = out[:len(dst)], 0
	}
	return out, n, nil
}

func (s *streamSections) more(dst []byte) ([]byte, error) {
	if s.stream == nil {
		if err := s.open(); err != nil {
			return dst, err
		}
	}
	out := dst[:len(dst)+int(min(decodePiece, s.n-s.made))]
	if err := s.read(out[len(dst):]); err != nil {
		return dst, err
	}
	if s.made == s.n {
		s.close()
	}
	return out, nil
}

// open begins to decompress the section.
func (s *streamSections) open() error {
	if s.stream == nil {
		s.stream = s.format.streams().Get().(stream)
	}
	src := s.stream.source()
	*src = bodyReader{sectionBody: s.body}
	if err := s.stream.reset(); src.err != nil {
		return src.err
	} else if err != nil {
		return s.bad("no %s: %v", s.format.name(), err)
	}
	return nil
}

// close gives the stream back.
func (s *streamSections) close() {
	*s.stream.source() = bodyReader{}
	s.format.streams().Put(s.stream)
	s.stream = nil
}

// read decompresses the next bytes.
func (s *streamSections) read(p []byte) error {
	n, err := s.fill(p)
	s.made += int64(n)
	if err == nil && n < len(p) {
		err = s.bad("a %s of %d bytes", s.format.name(), s.made)
	}
	return err
}

// fill decompresses the next bytes, or fewer if there are no more.
func (s *streamSections) fill(p []byte) (n int, err error) {
	for n < len(p) {
		got, err := s.stream.Read(p[n:])
		n += got
		if fileErr := s.stream.source().err; fileErr != nil {
			return n, fileErr
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return n, s.bad("a damaged %s: %v", s.format.name(), err)
		}
	}
	return n, nil
}

// zlibFormat is that of DeflateCompressor: a zlib stream (RFC 1950), and nothing at all for nothing.
// Source: DeflateCompressor.compress.
type zlibFormat struct{}

func (zlibFormat) name() string { return "zlib stream" }

func (zlibFormat) check(s *streamSections, dst []byte) ([]byte, bool, error) {
	return dst, s.n == 0 && s.body.left() == 0, nil
}

var zlibStreams = sync.Pool{New: func() any { return &zlibStream{taken: bufio.NewReader(nil)} }}

func (zlibFormat) streams() *sync.Pool { return &zlibStreams }

type zlibStream struct {
	src   bodyReader
	taken *bufio.Reader
	r     io.ReadCloser // a zlib.Resetter; nil before the first use
}

func (z *zlibStream) source() *bodyReader        { return &z.src }
func (z *zlibStream) unread() int64              { return int64(z.taken.Buffered()) }
func (z *zlibStream) Read(p []byte) (int, error) { return z.r.Read(p) }

func (z *zlibStream) reset() (err error) {
	z.taken.Reset(&z.src)
	if z.r != nil {
		return z.r.(zlib.Resetter).Reset(z.taken, nil)
	}
	z.r, err = zlib.NewReader(z.taken)
	return err
}

// zstdFormat is that of ZstdCompressor: one Zstandard frame (RFC 8878) with its content's size and checksum.
// Source: ZstdCompressor.compress.
type zstdFormat struct{}

func (zstdFormat) name() string { return "Zstandard frame" }

// zstdDecoder is for all readers: its DecodeAll keeps nothing between calls. It fills what it is given and never makes
// room of its own.
var zstdDecoder = sync.OnceValues(func() (*zstd.Decoder, error) {
	return zstd.NewReader(nil, zstd.WithDecodeAllCapLimit(true), zstd.WithDecoderMaxMemory(math.MaxInt32))
})

// maxZstdBlock is the most that one block of a Zstandard frame stands for.
const maxZstdBlock = 128 << 10

// check bounds what a frame can stand for by its header and by the headers of its blocks, without a look at their content. A
// stream keeps a window of what came last. Zstandard makes frames whose window is their content, or less; one with a larger
// window is decoded as a whole, and so is a small one.
func (zstdFormat) check(s *streamSections, dst []byte) ([]byte, bool, error) {
	body := s.body
	start, err := body.next(min(body.left(), zstd.HeaderMaxSize))
	if err != nil {
		return dst, false, err
	}
	var h zstd.Header
	if err := h.Decode(start); err != nil {
		return dst, false, s.bad("no Zstandard frame: %v", err)
	}
	if h.Skippable || h.DictionaryID != 0 {
		return dst, false, s.bad("a Zstandard frame that Cassandra does not write")
	}
	body.off = s.body.off + int64(h.HeaderSize)
	var most int64
	for last := false; !last; {
		if body.left() < 3 {
			return dst, false, s.bad("a Zstandard frame that was cut")
		}
		b, err := body.next(3)
		if err != nil {
			return dst, false, err
		}
		v := int64(b[0]) | int64(b[1])<<8 | int64(b[2])<<16
		kind, size := v>>1&3, v>>3
		last = v&1 != 0
		switch kind {
		case 0: // as it is
			most += min(size, maxZstdBlock)
		case 1: // one byte repeated
			most += min(size, maxZstdBlock)
			size = 1
		default:
			most += maxZstdBlock
		}
		if last && h.HasCheckSum {
			size += 4
		}
		if size > body.left() {
			return dst, false, s.bad("a Zstandard frame that was cut")
		}
		body.off += size
	}
	window := int64(min(h.WindowSize, math.MaxInt64))
	switch {
	case body.left() > 0:
		return dst, false, s.bad("%d bytes behind the Zstandard frame", body.left())
	case s.n > most:
		return dst, false, s.bad("%v", errTooShort)
	case h.HasFCS && h.FrameContentSize != uint64(s.n):
		return dst, false, s.bad("a Zstandard frame of %d bytes", h.FrameContentSize)
	case s.n > decodePiece && window <= s.n:
		return dst, false, nil
	}
	out, err := s.decodeFrame(dst)
	return out, true, err
}

// decodeFrame decodes all of a Zstandard frame at once.
func (s *streamSections) decodeFrame(dst []byte) ([]byte, error) {
	decoder, err := zstdDecoder()
	if err != nil {
		return dst, err
	}
	body := s.body
	src, err := body.next(body.left())
	if err != nil {
		return dst, err
	}
	all, added := extend(dst, int(s.n))
	out, err := decoder.DecodeAll(src, added[:0:s.n])
	if err != nil {
		return dst, s.bad("a damaged Zstandard frame, or one of another length: %v", err)
	}
	if int64(len(out)) != s.n {
		return dst, s.bad("a Zstandard frame of %d bytes", len(out))
	}
	return all, nil
}

var zstdStreams = sync.Pool{New: func() any { return new(zstdStream) }}

func (zstdFormat) streams() *sync.Pool { return &zstdStreams }

type zstdStream struct {
	src bodyReader
	r   *zstd.Decoder // nil before the first use
}

func (z *zstdStream) source() *bodyReader        { return &z.src }
func (z *zstdStream) unread() int64              { return 0 }
func (z *zstdStream) Read(p []byte) (int, error) { return z.r.Read(p) }

// reset makes a decoder without goroutines.
func (z *zstdStream) reset() (err error) {
	if z.r != nil {
		return z.r.Reset(&z.src)
	}
	z.r, err = zstd.NewReader(&z.src, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(math.MaxInt32))
	return err
}
