package commitlog

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"fmt"
	"testing"

	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zlib"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

// testForm is a form of segments, with an encoder that does what Cassandra's does.
type testForm struct {
	name   string
	params string
	// body makes the body of a section, all behind its marker, of its entries.
	body func(entries []byte) []byte
}

var (
	testKey  = []byte("sixteen byte key")
	testIV   = []byte("sixteen byte IV.")
	testKeys = RawKeys{"testing:1": testKey}
)

// testForms are all forms but the plain one.
var testForms = []testForm{
	compressedForm("LZ4Compressor", encodeLZ4),
	compressedForm("SnappyCompressor", encodeSnappy),
	compressedForm("DeflateCompressor", encodeDeflate),
	compressedForm("ZstdCompressor", encodeZstd),
	compressedForm("NoopCompressor", bytes.Clone),
	{"encrypted", fmt.Sprintf(`{"encCipher":"AES\/CBC\/PKCS5Padding","encKeyAlias":"testing:1","encIV":"%x"}`, testIV), func(b []byte) []byte {
		return encryptedBody(testKey, b, 100) // so little that entries span blocks
	}},
}

func compressedForm(class string, encode func([]byte) []byte) testForm {
	return testForm{class, fmt.Sprintf(`{"compressionClass":"%s","compressionParameters":null}`, class), func(b []byte) []byte {
		return append(binary.BigEndian.AppendUint32(nil, uint32(len(b))), encode(b)...)
	}}
}

func encodeLZ4(b []byte) []byte {
	out := make([]byte, 4+lz4.CompressBlockBound(len(b)))
	binary.LittleEndian.PutUint32(out, uint32(len(b)))
	n, err := lz4.CompressBlock(b, out[4:], nil)
	if err != nil {
		panic(err)
	}
	if n > 0 {
		return out[:4+n]
	}
	// Such a block is all literals.
	out = append(out[:4], byte(min(15, len(b)))<<4)
	for left := len(b) - 15; left >= 0; left -= 255 {
		out = append(out, byte(min(255, left)))
	}
	return append(out, b...)
}

// encodeSnappy compresses 64 KiB at a time, as Snappy does.
func encodeSnappy(b []byte) []byte {
	out := binary.AppendUvarint(nil, uint64(len(b)))
	for len(b) > 0 {
		n := min(64<<10, len(b))
		block := s2.EncodeSnappy(nil, b[:n])
		_, head := binary.Uvarint(block)
		out, b = append(out, block[head:]...), b[n:]
	}
	return out
}

func encodeDeflate(b []byte) []byte {
	if len(b) == 0 {
		return nil
	}
	var out bytes.Buffer
	w := zlib.NewWriter(&out)
	if _, err := w.Write(b); err != nil {
		panic(err)
	}
	if err := w.Close(); err != nil {
		panic(err)
	}
	return out.Bytes()
}

func encodeZstd(b []byte) []byte {
	w, err := zstd.NewWriter(nil, zstd.WithZeroFrames(true), zstd.WithSingleSegment(true), zstd.WithEncoderConcurrency(1))
	if err != nil {
		panic(err)
	}
	return w.EncodeAll(b, nil)
}

// encryptedBody makes the body of an encrypted section, of blocks of at most so many bytes of entries.
func encryptedBody(key, b []byte, chunk int) []byte {
	body := binary.BigEndian.AppendUint32(nil, uint32(len(b)))
	for len(b) > 0 {
		n := min(chunk, len(b))
		body = appendEncrypted(body, key, append(binary.BigEndian.AppendUint32(nil, uint32(n)), encodeLZ4(b[:n])...))
		b = b[n:]
	}
	return body
}

// appendEncrypted appends an encrypted block.
func appendEncrypted(dst, key, plain []byte) []byte {
	block, err := aes.NewCipher(key)
	if err != nil {
		panic(err)
	}
	pad := aes.BlockSize - len(plain)%aes.BlockSize
	text := append(bytes.Clone(plain), bytes.Repeat([]byte{byte(pad)}, pad)...)
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(text)))
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(plain)))
	cipher.NewCBCEncrypter(block, testIV).CryptBlocks(text, text)
	return append(dst, text...)
}

// segment makes a segment of sections that hold these payloads, closed by an empty one. It gives the positions of the
// entries as well.
func (f *testForm) segment(id int64, sections ...[][]byte) (b []byte, positions []int64) {
	b = buildHeaderWith(Version40, id, f.params)
	logical := int64(len(b))
	for _, payloads := range append(sections, nil) {
		plain := newBuilder(Version40, id)
		start := len(plain.b)
		logical += markerLen
		for _, p := range payloads {
			positions = append(positions, logical+plain.entry(p)-int64(start))
		}
		body := f.body(plain.b[start:])
		logical += int64(len(plain.b) - start)
		b = appendSection(b, id, body)
	}
	return b, positions
}

// appendSection appends a marker and the body of its section.
func appendSection(b []byte, id int64, body []byte) []byte {
	off := int64(len(b))
	b = binary.BigEndian.AppendUint32(b, uint32(off)+markerLen+uint32(len(body)))
	b = binary.BigEndian.AppendUint32(b, markerChecksum(id, off))
	return append(b, body...)
}

// read is what a reader finds.
type read struct {
	payloads  [][]byte
	positions []int64
	bad       int   // entries with a wrong checksum
	err       error // how it ends
}

// readForm reads a segment to its end.
func readForm(r *Reader, limit Limit) (found read) {
	r.limit = limit
	for {
		payload, pos, err := r.Next()
		if err == nil {
			found.payloads = append(found.payloads, bytes.Clone(payload))
			found.positions = append(found.positions, pos.Offset)
			continue
		}
		if damage, ok := err.(*DamagedError); ok && damage.Resumable {
			found.bad++
			continue
		}
		found.err = err
		return found
	}
}

func formReader(file string, b []byte, keys Keys) *Reader {
	r := NewBytesReader(file, b)
	r.SetKeys(keys)
	return r
}

// samplePayloads are n payloads, alike enough to be compressed, of which one is large.
func samplePayloads(n int) [][]byte {
	var payloads [][]byte
	for i := range n {
		payloads = append(payloads, fmt.Appendf(nil, "payload %d of %d, much like all the others", i, n))
	}
	return append(payloads, bytes.Repeat([]byte("a larger one "), 40))
}

// TestForms reads what each form's encoder made.
func TestForms(t *testing.T) {
	for _, f := range testForms {
		t.Run(f.name, func(t *testing.T) {
			sections := [][][]byte{samplePayloads(3), samplePayloads(0), samplePayloads(40), {bytes.Repeat([]byte{7}, 3*readAhead)}}
			b, positions := f.segment(1000, sections...)
			var want [][]byte
			for _, s := range sections {
				want = append(want, s...)
			}
			for _, r := range []*Reader{
				NewBytesReader("CommitLog-7-1000.log", b),
				NewReader("CommitLog-7-1000.log", bytes.NewReader(b), int64(len(b))),
			} {
				r.SetKeys(testKeys)
				found := readForm(r, Limit{Final: true, Offset: positions[len(positions)-1] + markerLen})
				if found.err != ErrFinished || len(found.payloads) != len(want) {
					t.Fatalf("found %d payloads, then %v; expected %d", len(found.payloads), found.err, len(want))
				}
				for i := range want {
					if !bytes.Equal(found.payloads[i], want[i]) || found.positions[i] != positions[i] {
						t.Errorf("payload %d ends at %d: %.40q; expected %d, %.40q", i, found.positions[i], found.payloads[i], positions[i], want[i])
					}
				}
				if r.Sections() != len(sections) {
					t.Errorf("found %d sections", r.Sections())
				}
			}
			// From a position in the midst of a section, and from the end of one.
			for i := range positions {
				r := formReader("CommitLog-7-1000.log", b, testKeys)
				r.SkipTo(positions[i])
				if found := readForm(r, Limit{Final: true}); found.err != ErrFinished || len(found.payloads) != len(want)-i-1 {
					t.Fatalf("behind position %d: found %d payloads, then %v", positions[i], len(found.payloads), found.err)
				}
			}
		})
	}
}

// TestFormsFlipped flips every bit of a small segment: what comes out are the very same mutations or a part of them in
// order, and if one is missing there is damage.
func TestFormsFlipped(t *testing.T) {
	for _, f := range testForms {
		t.Run(f.name, func(t *testing.T) {
			b, _ := f.segment(1000, samplePayloads(3), samplePayloads(2))
			good := readForm(formReader("CommitLog-7-1000.log", b, testKeys), Limit{Final: true})
			for bit := range len(b) * 8 {
				flipped := bytes.Clone(b)
				flipped[bit/8] ^= 1 << (bit % 8)
				checkFlipped(t, good, readForm(formReader("CommitLog-7-1000.log", flipped, testKeys), Limit{Final: true}), bit)
			}
		})
	}
}

// checkFlipped compares what was found with a bit flipped to what is there.
func checkFlipped(t *testing.T, good, found read, bit int) {
	t.Helper()
	at := 0
	for i, p := range found.payloads {
		for at < len(good.payloads) && !(good.positions[at] == found.positions[i] && bytes.Equal(good.payloads[at], p)) {
			at++
		}
		if at == len(good.payloads) {
			t.Errorf("byte %d, bit %d: found a payload at %d that was never written: %q", bit/8, bit%8, found.positions[i], p)
			return
		}
		at++
	}
	damage, damaged := found.err.(*DamagedError)
	if found.err != ErrFinished && !damaged {
		t.Errorf("byte %d, bit %d: the ending is %v", bit/8, bit%8, found.err)
	}
	if missing := len(good.payloads) - len(found.payloads); missing > 0 && !damaged && found.bad < missing {
		t.Errorf("byte %d, bit %d: %d payloads are missing, %d are bad, and the ending is %v", bit/8, bit%8, missing, found.bad, found.err)
	}
	if damaged && damage.Hint == "" && damage.Offset > 100 {
		t.Errorf("byte %d, bit %d: no hint in %v", bit/8, bit%8, damage)
	}
}

// TestReaderFollowsForms reads a segment while it grows, through one reader: a section is written in pieces, and in an
// encrypted segment with its marker last; until all of it is there it is not there.
func TestReaderFollowsForms(t *testing.T) {
	for _, f := range testForms {
		t.Run(f.name, func(t *testing.T) {
			sections := [][][]byte{samplePayloads(2), samplePayloads(30), samplePayloads(0)}
			b, _ := f.segment(1000, sections...)
			var file []byte
			r := NewReader("CommitLog-7-1000.log", readerAt(func() []byte { return file }), 0)
			r.SetKeys(testKeys)
			expect := func(want [][]byte, end error) {
				t.Helper()
				found := readForm(r, r.limit)
				if len(found.payloads) != len(want) || found.bad > 0 || found.err != end {
					t.Fatalf("%d bytes: found %d payloads, then %v; expected %d, then %v", len(file), len(found.payloads), found.err, len(want), end)
				}
				for i := range want {
					if !bytes.Equal(found.payloads[i], want[i]) {
						t.Errorf("%d bytes: found %q, expected %q", len(file), found.payloads[i], want[i])
					}
				}
			}
			start := headerFixed + len(f.params) + 4
			file = b[:start]
			r.Extend(int64(len(file)), Limit{Offset: NoOffset})
			expect(nil, ErrMore)
			for _, s := range append(sections, nil) {
				end := int(binary.BigEndian.Uint32(b[start:]))
				for n := start + 1; n < end; n += 1 + (end-start)/20 {
					if file = b[:n]; f.name == "encrypted" {
						file = bytes.Clone(file)
						copy(file[start:], make([]byte, markerLen+4))
					}
					r.Extend(int64(n), Limit{Offset: NoOffset})
					expect(nil, ErrMore)
				}
				file = b[:end]
				r.Extend(int64(end), Limit{Offset: NoOffset})
				expect(s, ErrMore)
				start = end
			}
			r.Extend(int64(len(b)), Limit{Final: true})
			expect(nil, ErrFinished)
		})
	}
}

// TestSectionThatCannotBeDecoded: it is not there yet, unless the index says that it is or the segment is final.
func TestSectionThatCannotBeDecoded(t *testing.T) {
	for _, f := range testForms {
		b, positions := f.segment(1000, samplePayloads(2))
		b[headerFixed+len(f.params)+4+markerLen] ^= 0x80 // a length beyond all bounds
		for _, c := range []struct {
			limit   Limit
			damaged bool
		}{
			{Limit{Offset: NoOffset}, false},
			{Limit{Offset: positions[len(positions)-1]}, true},
			{Limit{Final: true}, true},
		} {
			found := readForm(formReader("CommitLog-7-1000.log", b, testKeys), c.limit)
			damage, damaged := found.err.(*DamagedError)
			if damaged != c.damaged || !damaged && found.err != ErrMore || len(found.payloads) != 0 {
				t.Errorf("%s, %+v: found %d payloads, then %v", f.name, c.limit, len(found.payloads), found.err)
			}
			if damaged && damage.Offset != int64(headerFixed+len(f.params)+4) {
				t.Errorf("%s: damage at byte %d, which is not where the section starts", f.name, damage.Offset)
			}
		}
	}
}

func BenchmarkForms(b *testing.B) {
	var sections [][][]byte
	for range 8 {
		sections = append(sections, samplePayloads(5000))
	}
	for _, f := range testForms {
		b.Run(f.name, func(b *testing.B) {
			segment, positions := f.segment(1000, sections...)
			b.SetBytes(positions[len(positions)-1])
			b.ReportAllocs()
			for b.Loop() {
				r := NewReader("CommitLog-7-1000.log", bytes.NewReader(segment), int64(len(segment)))
				r.SetKeys(testKeys)
				for {
					if _, _, err := r.Next(); err == ErrFinished {
						break
					} else if err != nil {
						b.Fatal(err)
					}
				}
			}
		})
	}
}
