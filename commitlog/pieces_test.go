package commitlog

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/klauspost/compress/snappy"
	"github.com/klauspost/compress/zlib"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

// pieces decodes bodies of sections of a file, piece by piece; its memory is used again.
type pieces struct {
	decoder       sectionDecoder
	file, decoded window
	began         bool // the last body was taken for right before it was decoded
}

// newPieces makes pieces of a form of sections.
func newPieces(tb testing.TB, name string) *pieces {
	for _, f := range testForms {
		if f.name == name {
			d, err := ParseDescriptor("x.log", buildHeaderWith(Version40, 1, f.params))
			if err != nil {
				tb.Fatal(err)
			}
			decoder, err := newSectionDecoder("x.log", d, newKeyring(testKeys))
			if err != nil {
				tb.Fatal(err)
			}
			return &pieces{decoder: decoder}
		}
	}
	tb.Fatalf("there is no form %s", name)
	return nil
}

// decode decodes a body, entry by entry of so many bytes, and calls use with each. So pieces of the file and of the section
// end at any place.
func (p *pieces) decode(body []byte, entry int, use func([]byte)) error {
	p.file = window{r: bytes.NewReader(body), store: p.file.store}
	length, err := p.decoded.begin(p.decoder, sectionBody{w: &p.file, end: int64(len(body))}, math.MaxInt32)
	if p.began = err == nil; !p.began {
		return err
	}
	for off := int64(0); off < length; off += int64(entry) {
		v, err := p.decoded.view(off, int(min(int64(entry), length-off)), length)
		if err != nil {
			return err
		}
		use(v)
	}
	return nil
}

// memory is what it holds, in bytes, without what the libraries do.
func (p *pieces) memory() int { return cap(p.file.store) + cap(p.decoded.store) }

// randomContent is at least so many bytes of runs, text and noise of any length.
func randomContent(rnd *rand.Rand, least int) (content []byte) {
	for len(content) < least {
		n := 1 << rnd.IntN(21)
		n += rnd.IntN(n)
		switch rnd.IntN(4) {
		case 0: // a long match, at any distance
			period := 1 + rnd.IntN(1<<rnd.IntN(17))
			content = append(content, make([]byte, period)...)
			for range n {
				content = append(content, content[len(content)-period])
			}
		case 1: // literals
			for range n {
				content = append(content, byte(rnd.Uint32()))
			}
		default: // as entries are
			for range n / 16 {
				content = append(content, "a column, the "...)
				content = binary.BigEndian.AppendUint16(content, uint16(rnd.IntN(1000)))
			}
		}
	}
	return content
}

// TestPieces decodes large sections of every form, and holds one entry and no section.
func TestPieces(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	windowed := func(b []byte) []byte { // as Zstandard makes it of much: the window is not all of it
		w, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(256<<10), zstd.WithSingleSegment(false))
		if err != nil {
			t.Fatal(err)
		}
		return w.EncodeAll(b, nil)
	}
	forms := append(testForms[:len(testForms):len(testForms)], compressedForm("ZstdCompressor", windowed))
	for _, f := range forms {
		for range 2 {
			content := randomContent(rnd, 1<<20+rnd.IntN(2<<20))
			body := f.body(content)
			if f.name == "encrypted" {
				body = encryptedBody(testKey, content, 64<<10)
			}
			for _, entry := range []int{rnd.IntN(200) + 1, rnd.IntN(1<<20) + 1} {
				var out []byte
				p := newPieces(t, f.name)
				err := p.decode(body, entry, func(b []byte) { out = append(out, b...) })
				if err != nil || !bytes.Equal(out, content) {
					t.Fatalf("%s: %d bytes in %d, read by %d: found %d, %v", f.name, len(content), len(body), entry, len(out), err)
				}
				if most := 2*(entry+keptHistory+decodePiece) + 4*readAhead; p.memory() > most {
					t.Errorf("%s: %d bytes in %d, read by %d, take %d bytes of memory, expected at most %d", f.name, len(content), len(body), entry, p.memory(), most)
				}
			}
		}
	}
}

// TestFarMatches: a block of Snappy may go back further than the compressor does.
func TestFarMatches(t *testing.T) {
	content := randomContent(rand.New(rand.NewPCG(1, 0)), 1<<20)
	n := len(content)
	src := binary.AppendUvarint(nil, uint64(n+64+3))
	src = append(src, 63<<2)
	src = binary.LittleEndian.AppendUint32(src, uint32(n-1))
	src = append(src, content...)
	src = append(src, 63<<2|3)
	src = binary.LittleEndian.AppendUint32(src, uint32(n-1000))
	src = append(src, 2<<2, 'e', 'n', 'd')
	want := append(content, content[1000:1064]...)
	want = append(want, "end"...)
	var out []byte
	p := newPieces(t, "SnappyCompressor")
	err := p.decode(append(binary.BigEndian.AppendUint32(nil, uint32(len(want))), src...), 1000, func(b []byte) { out = append(out, b...) })
	if err != nil || !bytes.Equal(out, want) {
		t.Fatalf("expected %d bytes, found %d, %v", len(want), len(out), err)
	}
}

// mostPieces bounds what the sections of the fuzz targets stand for: more than a piece.
const mostPieces = decodePiece + 64<<10

// fuzzContents are what seeds are made of: some are more than a piece.
func fuzzContents() [][]byte {
	large := bytes.Join(samplePayloads(8000), nil)
	return [][]byte{
		nil, []byte("x"), bytes.Repeat([]byte("text and "), 100), make([]byte, decodePiece+1000), bytes.Join(samplePayloads(40), nil),
		large[:decodePiece+20000],
	}
}

// fuzzPieces decodes arbitrary bytes in pieces, and as a whole by decompress: both are right, with the same result, or neither.
// decompress gives the entries of src, and whether they are right; it has room for n bytes. what goes before src in a
// body for a length is of head.
func fuzzPieces(f *testing.F, class string, head func(n uint32) []byte, decompress func(buffer, src []byte) ([]byte, bool)) {
	p, buffer := newPieces(f, class), make([]byte, mostPieces)
	f.Fuzz(func(t *testing.T, src []byte, n uint32) {
		n %= mostPieces
		whole, right := decompress(buffer[:n:n], src)
		right = right && len(whole) == int(n)
		at := 0
		err := p.decode(append(head(n), src...), 4000, func(b []byte) {
			if right && !bytes.Equal(b, whole[at:at+len(b)]) {
				t.Fatalf("from byte %d on another result than as a whole", at)
			}
			at += len(b)
		})
		if right != p.began || right != (err == nil) || right && at != int(n) {
			t.Fatalf("found %d bytes, %v; as a whole %d bytes of %d, right: %v", at, err, len(whole), n, right)
		}
		if most := 2*(keptHistory+decodePiece) + len(src) + 4*readAhead; p.memory() > most {
			t.Fatalf("%d bytes of memory, expected at most %d", p.memory(), most)
		}
	})
}

// bodyLength is what stands in front of what a compressor made.
func bodyLength(n uint32) []byte { return binary.BigEndian.AppendUint32(nil, n) }

func FuzzLZ4(f *testing.F) {
	for _, content := range fuzzContents() {
		block := encodeLZ4(content)[4:]
		f.Add(block, uint32(len(content)))
		f.Add(block[:len(block)-1], uint32(len(content)))
	}
	// A match longer than a piece behind one literal, and literals behind it.
	long := append([]byte{0x1f, 'x', 1, 0}, bytes.Repeat([]byte{255}, 1040)...)
	f.Add(append(long, 0, 0x20, 'y', 'z'), uint32(1+15+1040*255+minLZ4Match+2))
	f.Add([]byte{0x10, 'x', 2, 0, 0x10, 'y'}, uint32(6)) // a match that begins before the block
	fuzzPieces(f, "LZ4Compressor", func(n uint32) []byte {
		return binary.LittleEndian.AppendUint32(bodyLength(n), n)
	}, decompressLZ4)
}

// decompressLZ4 decompresses a block at once; the library's decoder does not bear a buffer of nothing.
func decompressLZ4(buffer, src []byte) ([]byte, bool) {
	if len(buffer) == 0 {
		return nil, bytes.Equal(src, []byte{0})
	}
	n, err := lz4.UncompressBlock(src, buffer)
	if err != nil {
		return nil, false
	}
	return buffer[:n], len(src) > 0 && n <= int(lz4Format{}.ratio())*len(src)
}

func FuzzSnappy(f *testing.F) {
	for _, content := range fuzzContents() {
		block := encodeSnappy(content)
		f.Add(block, uint32(len(content)))
		f.Add(block[:len(block)-1], uint32(len(content)))
	}
	f.Add([]byte("\x06\x00x\x06\x02\x00"), uint32(3))                                                                               // a match that begins before the block
	f.Add([]byte("\x0c\x00x\x01\x01\x01\x00\x00"), uint32(6))                                                                       // a match at no distance
	f.Add(append([]byte("\x88\xa7\x04\xf8\x69\x13\x01"), append(make([]byte, 70506), "\xff\x70\x11\x01\x00"...)...), uint32(70570)) // a match from far
	fuzzPieces(f, "SnappyCompressor", bodyLength, func(buffer, src []byte) ([]byte, bool) {
		if n, err := snappy.DecodedLen(src); err != nil || n != len(buffer) {
			return nil, false
		}
		out, err := snappy.DecodeStrict(buffer, src)
		return out, err == nil
	})
}

func FuzzDeflate(f *testing.F) {
	for _, content := range fuzzContents() {
		stream := encodeDeflate(content)
		f.Add(stream, uint32(len(content)))
		f.Add(stream[:max(1, len(stream))-1], uint32(len(content)))
		f.Add(append(stream, 0), uint32(len(content)))
	}
	fuzzPieces(f, "DeflateCompressor", bodyLength, func(buffer, src []byte) ([]byte, bool) {
		if len(src) == 0 {
			return nil, true
		}
		in := bytes.NewReader(src)
		r, err := zlib.NewReader(in)
		if err != nil {
			return nil, false
		}
		n, err := io.ReadFull(r, buffer)
		if err != nil {
			return nil, false
		}
		if past, err := r.Read(make([]byte, 1)); past > 0 || !errors.Is(err, io.EOF) {
			return nil, false
		}
		return buffer[:n], in.Len() == 0
	})
}

func FuzzZstd(f *testing.F) {
	for _, content := range fuzzContents() {
		for _, window := range []int{zstd.MinWindowSize, 64 << 10, 1 << 20} {
			for _, single := range []bool{false, true} {
				w, err := zstd.NewWriter(nil, zstd.WithZeroFrames(true), zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(window), zstd.WithSingleSegment(single))
				if err != nil {
					f.Fatal(err)
				}
				frame := w.EncodeAll(content, nil)
				f.Add(frame, uint32(len(content)))
				f.Add(frame[:len(frame)-1], uint32(len(content)))
			}
		}
	}
	// Blocks of one byte repeated, more than a piece with a window of 1 KiB and no size of the content.
	frame := []byte("\x28\xb5\x2f\xfd\x00\x00")
	for range 300 {
		frame = append(frame, 0x02, 0x20, 0x00, 'x')
	}
	f.Add(append(frame, 0x03, 0x20, 0x00, 'y'), uint32(301<<10))
	decoder, err := zstd.NewReader(nil, zstd.WithDecodeAllCapLimit(true))
	if err != nil {
		f.Fatal(err)
	}
	fuzzPieces(f, "ZstdCompressor", bodyLength, func(buffer, src []byte) ([]byte, bool) {
		out, err := decoder.DecodeAll(src, buffer[:0])
		return out, err == nil && oneZstdFrame(src)
	})
}

// oneZstdFrame reports whether there is nothing behind the first frame of src, which is right, and that it is no other kind of
// frame and needs no dictionary.
func oneZstdFrame(src []byte) bool {
	var h zstd.Header
	if h.Decode(src) != nil || h.Skippable || h.DictionaryID != 0 {
		return false
	}
	at, last := h.HeaderSize, false
	for !last && at+3 <= len(src) {
		v := int(src[at]) | int(src[at+1])<<8 | int(src[at+2])<<16
		last, at = v&1 == 1, at+3
		if v>>1&3 == 1 {
			at++
		} else {
			at += v >> 3
		}
	}
	if h.HasCheckSum {
		at += 4
	}
	return at == len(src)
}

// FuzzEncrypted decrypts arbitrary bytes as a section: of two blocks of so many bytes each if split is right, else
// as they are.
func FuzzEncrypted(f *testing.F) {
	for _, content := range fuzzContents() {
		f.Add(encodeLZ4(content)[4:], []byte(nil), uint32(len(content)), uint32(0))
		f.Add(encodeLZ4(content)[4:], encodeLZ4(content)[4:], uint32(len(content)), uint32(len(content)))
	}
	p := newPieces(f, "encrypted")
	first, second := make([]byte, mostPieces), make([]byte, mostPieces)
	f.Fuzz(func(t *testing.T, a, b []byte, m, n uint32) {
		m, n = m%mostPieces, n%mostPieces
		body := bodyLength(m + n)
		whole, right := []byte(nil), true
		for _, block := range []struct {
			buffer, src []byte
			n           uint32
		}{{first, a, m}, {second, b, n}} {
			out, ok := decompressLZ4(block.buffer[:block.n:block.n], block.src)
			right = right && ok && len(out) == int(block.n)
			whole = append(whole, out...)
			body = appendEncrypted(body, testKey, append(binary.LittleEndian.AppendUint32(bodyLength(block.n), block.n), block.src...))
		}
		at := 0
		err := p.decode(body, 4000, func(b []byte) {
			if right && !bytes.Equal(b, whole[at:at+len(b)]) {
				t.Fatalf("from byte %d on another result than as a whole", at)
			}
			at += len(b)
		})
		if right != p.began || right != (err == nil) || right && at != int(m+n) {
			t.Fatalf("found %d bytes, %v; as a whole %d bytes of %d, right: %v", at, err, len(whole), m+n, right)
		}
	})
}

// TestZstdBlocksOfNone: a block that says more than any block stands for gives no room.
func TestZstdBlocksOfNone(t *testing.T) {
	const n, size = 1 << 28, 1<<21 - 1
	frame := []byte{0x28, 0xb5, 0x2f, 0xfd, 0, 20 << 3} // a window of 1 GiB, and no length
	for made := size; made-size < n; made += size {
		v := size<<3 | 1<<1 // one byte repeated
		if made >= n {
			v |= 1
		}
		frame = append(frame, byte(v), byte(v>>8), byte(v>>16), 0)
	}
	body := append(bodyLength(n), frame...)
	p := newPieces(t, "ZstdCompressor")
	p.file = window{r: bytes.NewReader(body)}
	_, err := p.decoded.begin(p.decoder, sectionBody{w: &p.file, end: int64(len(body))}, math.MaxInt32)
	if err == nil || !strings.Contains(err.Error(), errTooShort.Error()) {
		t.Errorf("expected %q, found %v", errTooShort, err)
	}
}
