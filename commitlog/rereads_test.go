package commitlog

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"strings"
	"testing"
)

var errReadFailed = errors.New("input/output error")

// failingFile fails at one read.
type failingFile struct {
	*bytes.Reader
	reads, fails int
}

func (f *failingFile) ReadAt(p []byte, off int64) (int, error) {
	if f.reads++; f.reads == f.fails {
		return 0, errReadFailed
	}
	return f.Reader.ReadAt(p, off)
}

// TestReadsThatFail: a read of the file that fails once, at any place, costs no mutation.
func TestReadsThatFail(t *testing.T) {
	payloads := samplePayloads(8000)
	plain := newBuilder(Version40, 1000)
	start := len(plain.b)
	for _, payload := range payloads {
		plain.entry(payload)
	}
	entries := plain.b[start:]
	for _, f := range testForms {
		body := f.body(entries)
		if f.name == "encrypted" {
			body = encryptedBody(testKey, entries, 64<<10)
		}
		b := appendSection(buildHeaderWith(Version40, 1000, f.params), 1000, body)
		for fails, failed := 1, true; failed; fails++ {
			file := &failingFile{Reader: bytes.NewReader(b), fails: fails}
			r := NewReader("CommitLog-7-1000.log", file, int64(len(b)))
			r.SetKeys(testKeys)
			failed = false
			n := 0
			for {
				payload, _, err := r.Next()
				if errors.Is(err, errReadFailed) && !failed {
					failed = true
					continue
				}
				if err == ErrFinished {
					break
				}
				if err != nil || n == len(payloads) || !bytes.Equal(payload, payloads[n]) {
					t.Fatalf("%s: read %d failed; then mutation %d of %d: %v", f.name, fails, n, len(payloads), err)
				}
				n++
			}
			if n != len(payloads) || r.Sections() != 1 {
				t.Errorf("%s: read %d failed: expected %d mutations in 1 section, found %d in %d", f.name, fails, len(payloads), n, r.Sections())
			}
		}
	}
}

// TestBytesThatChange: an element that is longer than a piece becomes another one once the section was checked.
func TestBytesThatChange(t *testing.T) {
	first, second := bytes.Repeat([]byte("first"), 40<<10), bytes.Repeat([]byte("second"), 60<<10)
	snappyLiterals := func(b []byte) []byte {
		return append(binary.LittleEndian.AppendUint32([]byte{63 << 2}, uint32(len(b)-1)), b...)
	}
	n := uint32(len(first) + len(second))
	snappy := append(bodyLength(n), binary.AppendUvarint(nil, uint64(n))...)
	snappy = append(snappy, snappyLiterals(first)...)
	at := len(snappy)
	snappy = append(snappy, snappyLiterals(second)...)

	lz4 := append(bodyLength(n+minLZ4Match), binary.LittleEndian.AppendUint32(nil, n+minLZ4Match)...)
	lz4Literals := func(b []byte) {
		lz4 = append(lz4, 0xf0)
		left := len(b) - 15
		for ; left >= 255; left -= 255 {
			lz4 = append(lz4, 255)
		}
		lz4 = append(append(lz4, byte(left)), b...)
	}
	lz4Literals(first)
	lz4 = append(lz4, 1, 0)
	atLZ4 := len(lz4)
	lz4Literals(second)

	for _, c := range []struct {
		class  string
		body   []byte
		at     int
		change string
	}{
		{"SnappyCompressor", snappy, at, "\x03\x00\x00\x03\x00"}, // a match from where memory does not reach
		{"SnappyCompressor", snappy, at, "\x00"},                 // one literal
		{"LZ4Compressor", lz4, atLZ4, "\x00\x01\x00"},            // a short match
		{"LZ4Compressor", lz4, atLZ4, "\xf0\x00"},                // fewer literals
	} {
		body := bytes.Clone(c.body)
		p := newPieces(t, c.class)
		p.file = window{r: bytes.NewReader(body)}
		length, err := p.decoded.begin(p.decoder, sectionBody{w: &p.file, end: int64(len(body))}, math.MaxInt32)
		if err != nil {
			t.Fatal(err)
		}
		copy(body[c.at:], c.change)
		p.file.forget()
		for off := int64(0); off < length && err == nil; off += 1000 {
			_, err = p.decoded.view(off, int(min(1000, length-off)), length)
		}
		if bad := (*sectionError)(nil); !errors.As(err, &bad) || !strings.Contains(bad.found, errChanged) {
			t.Errorf("%s, %x: expected %q, found %v", c.class, c.change, errChanged, err)
		}
	}
}
