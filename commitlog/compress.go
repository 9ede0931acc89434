package commitlog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
)

// A section of a segment with commitlog_compression has the body
//
//	Offset  Size  Field
//	0       4     n, length of the entries
//	4             what the compressor made of the entries, in one piece
//
// Nothing but the entries' own checksums covers these bytes (Zstandard and Deflate add one for the whole section), so
// whatever says a length twice is compared. Source: CompressedSegment.write, CommitLogSegmentReader.CompressedSegmenter.

// newCompressedSections finds the decoder for a compressor by its class name, nil if it is none of Cassandra's. What a
// compressor was told to do (commitlog_compression's parameters) does not matter for its output.
// Source: CompressionParams.parseCompressorClass.
func newCompressedSections(class string) sectionDecoder {
	switch strings.TrimPrefix(class, "org.apache.cassandra.io.compress.") {
	case "LZ4Compressor":
		return &blockSections{class: class, format: lz4Format{}}
	case "SnappyCompressor":
		return &blockSections{class: class, format: snappyFormat{}}
	case "DeflateCompressor":
		return &streamSections{class: class, format: zlibFormat{}}
	case "ZstdCompressor":
		return &streamSections{class: class, format: zstdFormat{}}
	case "NoopCompressor":
		return &noopSections{class: class}
	}
	return nil
}

// compressedLength reads the length of a section's entries.
func compressedLength(body *sectionBody, most int64) (n int64, err error) {
	if body.left() < 4 {
		return 0, &sectionError{"compressed section", "at least 4 bytes", fmt.Sprint(body.left())}
	}
	b, err := body.next(4)
	if err != nil {
		return 0, err
	}
	if n = int64(binary.BigEndian.Uint32(b)); n > most {
		return 0, &sectionError{"uncompressed length of the section", fmt.Sprintf("at most %d", most), fmt.Sprint(int32(n))}
	}
	return n, nil
}

// badCompressed says what was found instead of n bytes of entries.
func badCompressed(class string, n int64, found string) error {
	return &sectionError{"section compressed by " + class, fmt.Sprintf("%d bytes of entries", n), found}
}

// noopSections decodes what NoopCompressor made, which leaves bytes as they are.
type noopSections struct {
	class string // as the header has it
	body  sectionBody
}

func (s *noopSections) begin(dst []byte, body sectionBody, most int64) (out []byte, length int64, err error) {
	n, err := compressedLength(&body, most)
	if err == nil && n != body.left() {
		err = badCompressed(s.class, n, fmt.Sprintf("%d bytes", body.left()))
	}
	s.body = body
	return dst, n, err
}

func (s *noopSections) more(dst []byte) ([]byte, error) {
	src, err := s.body.next(min(s.body.left(), decodePiece))
	return append(dst, src...), err
}

// extend gives dst room for n bytes more, and these bytes.
func extend(dst []byte, n int) (all, added []byte) {
	if cap(dst)-len(dst) < n {
		dst = append(make([]byte, 0, roundUp(int64(len(dst)+n))), dst...)
	}
	all = dst[:len(dst)+n]
	return all, all[len(dst):]
}

var (
	// errTooShort says that input is shorter than any input that stands for so many bytes.
	errTooShort = errors.New("compressed bytes that are too few for so many")
	// errOtherLength says that a piece is not as long as the walk over it said.
	errOtherLength = errors.New("a piece of another length")
)
