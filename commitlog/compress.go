package commitlog

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"sync"

	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zlib"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

// compressedSections decodes the sections of a segment with commitlog_compression. The body of a section is
//
//	Offset  Size  Field
//	0       4     n, length of the entries
//	4             what the compressor made of the entries, in one piece
//
// Nothing but the entries' own checksums covers these bytes (Zstandard and Deflate add one for the whole section), so
// whatever says a length twice is compared. Source: CompressedSegment.write, CommitLogSegmentReader.CompressedSegmenter.
type compressedSections struct {
	class string // as the header has it
	decompress
}

// decompress appends the n bytes to dst that all of src stands for. It takes no more memory than n bytes, and no more
// than a multiple of src that depends on the format alone, however large n is.
type decompress func(dst, src []byte, n int) ([]byte, error)

// newDecompress finds a compressor by its class name, nil if it is none of Cassandra's. What a compressor was told to
// do (commitlog_compression's parameters) does not matter for its output. Source: CompressionParams.parseCompressorClass.
func newDecompress(class string) decompress {
	switch strings.TrimPrefix(class, "org.apache.cassandra.io.compress.") {
	case "LZ4Compressor":
		return decompressLZ4
	case "SnappyCompressor":
		return decompressSnappy
	case "DeflateCompressor":
		return new(inflater).decompress
	case "ZstdCompressor":
		return decompressZstd
	case "NoopCompressor":
		return decompressNoop
	}
	return nil
}

func (c *compressedSections) decode(dst, body []byte, most int64) ([]byte, error) {
	if len(body) < 4 {
		return dst, &sectionError{"compressed section", "at least 4 bytes", fmt.Sprint(len(body))}
	}
	n := binary.BigEndian.Uint32(body)
	if int64(n) > most {
		return dst, &sectionError{"uncompressed length of the section", fmt.Sprintf("at most %d", most), fmt.Sprint(int32(n))}
	}
	out, err := c.decompress(dst, body[4:], int(n))
	if err != nil {
		return dst, &sectionError{"section compressed by " + c.class, fmt.Sprintf("%d bytes of entries", n), err.Error()}
	}
	return out, nil
}

// extend gives dst room for n bytes more, and these bytes.
func extend(dst []byte, n int) (all, added []byte) {
	if cap(dst)-len(dst) < n {
		dst = append(make([]byte, 0, roundUp(int64(len(dst)+n))), dst...)
	}
	all = dst[:len(dst)+n]
	return all, all[len(dst):]
}

// errTooShort says that input is shorter than any input that stands for so many bytes.
var errTooShort = errors.New("compressed bytes that are too few for so many")

// maxLZ4Ratio is that of the longest matches, which take a byte for each 255 bytes.
const maxLZ4Ratio = 255

// decompressLZ4 undoes LZ4Compressor: the length in four bytes, little-endian, and one raw block without a frame.
// Source: LZ4Compressor.compress.
func decompressLZ4(dst, src []byte, n int) ([]byte, error) {
	if len(src) < 4 {
		return dst, fmt.Errorf("%d compressed bytes", len(src))
	}
	if inner := binary.LittleEndian.Uint32(src); int64(inner) != int64(n) {
		return dst, fmt.Errorf("an LZ4 block of %d bytes", inner)
	}
	src = src[4:]
	if n == 0 {
		// The library's decoder does not bear a buffer that is nil.
		if !bytes.Equal(src, []byte{0}) {
			return dst, fmt.Errorf("an LZ4 block %x", src[:min(len(src), 16)])
		}
		return dst, nil
	}
	if int64(n) > maxLZ4Ratio*int64(len(src)) {
		return dst, errTooShort
	}
	all, added := extend(dst, n)
	got, err := lz4.UncompressBlock(src, added)
	if err != nil {
		return dst, fmt.Errorf("no LZ4 block of that length: %w", err)
	}
	if got != n {
		return dst, fmt.Errorf("an LZ4 block of %d bytes", got)
	}
	return all, nil
}

// maxSnappyRatio is more than that of copies, which take three bytes for at most 64.
const maxSnappyRatio = 22

// decompressSnappy undoes SnappyCompressor: one raw block, which begins with the length as a varint.
// Source: SnappyCompressor.compress.
func decompressSnappy(dst, src []byte, n int) ([]byte, error) {
	inner, err := s2.DecodedLen(src)
	if err != nil {
		return dst, fmt.Errorf("no Snappy block: %w", err)
	}
	if inner != n {
		return dst, fmt.Errorf("a Snappy block of %d bytes", inner)
	}
	if int64(n) > maxSnappyRatio*int64(len(src)) {
		return dst, errTooShort
	}
	all, added := extend(dst, n)
	if _, err := s2.Decode(added, src); err != nil {
		return dst, fmt.Errorf("no Snappy block of that length: %w", err)
	}
	return all, nil
}

// decompressNoop undoes NoopCompressor, which leaves bytes as they are.
func decompressNoop(dst, src []byte, n int) ([]byte, error) {
	if len(src) != n {
		return dst, fmt.Errorf("%d bytes", len(src))
	}
	return append(dst, src...), nil
}

// inflater undoes DeflateCompressor: a zlib stream (RFC 1950), and nothing at all for nothing.
// Source: DeflateCompressor.compress.
type inflater struct {
	src    bytes.Reader
	stream io.ReadCloser // a zlib.Resetter; nil before the first use
}

func (f *inflater) decompress(dst, src []byte, n int) ([]byte, error) {
	if n == 0 && len(src) == 0 {
		return dst, nil
	}
	f.src.Reset(src)
	var err error
	if f.stream == nil {
		f.stream, err = zlib.NewReader(&f.src)
	} else {
		err = f.stream.(zlib.Resetter).Reset(&f.src, nil)
	}
	if err != nil {
		f.stream = nil
		return dst, fmt.Errorf("no zlib stream: %w", err)
	}
	// The stream does not tell its length beforehand, so memory grows with what comes out of it. One byte more than n
	// is asked for, to find the end.
	out, end := dst, len(dst)+n+1
	for {
		if len(out) == cap(out) {
			out = slices.Grow(out, min(end-len(out), max(4<<10, len(out))))
		}
		got, err := f.stream.Read(out[len(out):min(cap(out), end)])
		out = out[:len(out)+got]
		if len(out) == end {
			return dst, errors.New("a longer zlib stream")
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return dst, fmt.Errorf("a damaged zlib stream: %w", err)
		}
	}
	if got := len(out) - len(dst); got != n {
		return dst, fmt.Errorf("a zlib stream of %d bytes", got)
	}
	if left := f.src.Len(); left > 0 {
		return dst, fmt.Errorf("%d bytes behind the zlib stream", left)
	}
	return out, nil
}

// zstdDecoder is for all readers: its DecodeAll keeps nothing between calls. It fills what it is given and never makes
// room of its own.
var zstdDecoder = sync.OnceValues(func() (*zstd.Decoder, error) {
	return zstd.NewReader(nil, zstd.WithDecodeAllCapLimit(true), zstd.WithDecoderMaxMemory(math.MaxInt32))
})

// decompressZstd undoes ZstdCompressor: one Zstandard frame (RFC 8878) with its content's size and checksum.
// Source: ZstdCompressor.compress.
func decompressZstd(dst, src []byte, n int) ([]byte, error) {
	most, err := zstdBound(src)
	if err != nil {
		return dst, err
	}
	if int64(n) > most {
		return dst, errTooShort
	}
	decoder, err := zstdDecoder()
	if err != nil {
		return dst, err
	}
	all, added := extend(dst, n)
	out, err := decoder.DecodeAll(src, added[:0:n])
	if err != nil {
		return dst, fmt.Errorf("no Zstandard frame of that length: %w", err)
	}
	if len(out) != n {
		return dst, fmt.Errorf("a Zstandard frame of %d bytes", len(out))
	}
	return all, nil
}

// maxZstdBlock is the most that one block of a Zstandard frame stands for.
const maxZstdBlock = 128 << 10

// zstdBound is the most bytes that a Zstandard frame can stand for, by its header and by the headers of its blocks. It
// looks at no block's content.
func zstdBound(src []byte) (int64, error) {
	var h zstd.Header
	if err := h.Decode(src); err != nil {
		return 0, fmt.Errorf("no Zstandard frame: %w", err)
	}
	if h.Skippable || h.DictionaryID != 0 {
		return 0, errors.New("a Zstandard frame that Cassandra does not write")
	}
	var most int64
	for at := h.HeaderSize; ; {
		if at+3 > len(src) {
			return 0, errors.New("a Zstandard frame that was cut")
		}
		b := int(src[at]) | int(src[at+1])<<8 | int(src[at+2])<<16
		last, kind, size := b&1 != 0, b>>1&3, b>>3
		at += 3
		switch kind {
		case 0: // as it is
			at += size
			most += int64(size)
		case 1: // one byte repeated
			at++
			most += int64(size)
		default:
			at += size
			most += maxZstdBlock
		}
		if last {
			break
		}
	}
	if h.HasFCS {
		most = min(most, int64(min(h.FrameContentSize, math.MaxInt64)))
	}
	return most, nil
}
