package commitlog

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
)

// decodeSection decodes a section as a whole.
func decodeSection(d sectionDecoder, body []byte, most int64) ([]byte, error) {
	var w window
	n, err := w.begin(d, sectionBody{w: &window{buf: body}, end: int64(len(body))}, most)
	if err != nil {
		return nil, err
	}
	return w.view(0, int(n), n)
}

// TestDecompress undoes each compressor for many lengths, and refuses every other length.
func TestDecompress(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	for _, f := range testForms[:len(testForms)-1] {
		decoder := newCompressedSections("org.apache.cassandra.io.compress." + f.name)
		decompress := func(src []byte, n int) ([]byte, error) {
			return decodeSection(decoder, append(binary.BigEndian.AppendUint32(nil, uint32(n)), src...), math.MaxInt32)
		}
		for _, n := range []int{0, 1, 2, 14, 15, 16, 100, 269, 270, 271, 5000, 1 << 16, 1 << 20} {
			for _, kinds := range []int{1, 3, 256} { // kinds of bytes: the fewer, the better it is compressed
				plain := make([]byte, n)
				for i := range plain {
					plain[i] = byte(rnd.IntN(kinds))
				}
				src := f.body(plain)[4:]
				out, err := decompress(src, n)
				if err != nil || !bytes.Equal(out, plain) {
					t.Fatalf("%s: %d bytes of %d kinds: found %d, %v", f.name, n, kinds, len(out), err)
				}
				for _, wrong := range []int{0, n - 1, n + 1, 2*n + 1, n + 1<<30, math.MaxInt32} {
					if wrong == n || wrong < 0 {
						continue
					}
					if out, err := decompress(src, wrong); err == nil {
						t.Fatalf("%s: %d bytes were taken for %d: found %d", f.name, n, wrong, len(out))
					}
				}
				if n == 0 || len(src) == 0 {
					continue
				}
				if _, err := decompress(src[:len(src)-1], n); err == nil {
					t.Errorf("%s: %d bytes of %d kinds, cut: found no error", f.name, n, kinds)
				}
				if _, err := decompress(append(bytes.Clone(src), 0xff), n); err == nil {
					t.Errorf("%s: %d bytes of %d kinds and a byte more: found no error", f.name, n, kinds)
				}
			}
		}
	}
}

// TestEmptySections are the bytes that Cassandra's compressors make of nothing.
func TestEmptySections(t *testing.T) {
	for class, src := range map[string]string{
		"LZ4Compressor": "\x00\x00\x00\x00\x00", "SnappyCompressor": "\x00", "DeflateCompressor": "", "NoopCompressor": "",
		"ZstdCompressor": "\x28\xb5\x2f\xfd\x24\x00\x01\x00\x00\x99\xe9\xd8\x51",
	} {
		if out, err := decodeSection(newCompressedSections(class), append(make([]byte, 4), src...), math.MaxInt32); err != nil || len(out) != 0 {
			t.Errorf("%s: found %d bytes, %v", class, len(out), err)
		}
	}
}

// TestBadSections: what is wrong with a section is said in words.
func TestBadSections(t *testing.T) {
	u32 := func(n int) []byte { return binary.BigEndian.AppendUint32(nil, uint32(n)) }
	entries := appendEntries(samplePayloads(2))
	n := len(entries)
	block := encodeLZ4(entries)
	otherPrefix := append(binary.LittleEndian.AppendUint32(nil, uint32(n+1)), block[4:]...)
	noSize := new(bytes.Buffer)
	w, err := zstd.NewWriter(noSize, zstd.WithEncoderConcurrency(1))
	if err != nil {
		t.Fatal(err)
	}
	// A frame that is written in pieces does not tell its size.
	for range 3 {
		if _, err := w.Write(entries); err != nil {
			t.Fatal(err)
		}
		if err := w.Flush(); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	plain := append(u32(n), block...)
	encrypted := func(plains ...[]byte) (body []byte) {
		for _, p := range plains {
			body = appendEncrypted(body, testKey, p)
		}
		return body
	}
	shorter := encrypted(plain)
	m := binary.BigEndian.Uint32(shorter[4:])
	binary.BigEndian.PutUint32(shorter[4:], m-16)
	padding := bytes.Clone(plain)
	for len(padding)%16 != 15 {
		padding = append(padding, 2)
	}
	// One byte of padding is behind these; said to be three, two of which are wrong.
	otherPadding := encrypted(padding)
	binary.BigEndian.PutUint32(otherPadding[4:], uint32(len(padding)-2))

	const most = 1 << 20
	for _, c := range []struct {
		form string
		body []byte
		want string
	}{
		{"LZ4Compressor", []byte{0, 0, 0}, "at least 4 bytes, found 3"},
		{"LZ4Compressor", append(u32(most+1), block...), "at most 1048576, found 1048577"},
		{"LZ4Compressor", append(u32(-1), block...), "at most 1048576, found -1"},
		{"LZ4Compressor", append(u32(n), otherPrefix...), "found an LZ4 block of"},
		{"LZ4Compressor", append(u32(n+1), otherPrefix...), "found an LZ4 block of"},
		{"LZ4Compressor", append(u32(n), 0, 0), "found 2 compressed bytes"},
		{"LZ4Compressor", append(u32(0), 0, 0, 0, 0, 0x10, 'x'), "found an LZ4 block that is longer"},
		{"SnappyCompressor", u32(n), "found a Snappy block that was cut"},
		{"DeflateCompressor", append(u32(n), "no zlib stream"...), "no zlib stream"},
		{"ZstdCompressor", append(u32(n), "no frame at all"...), "no Zstandard frame"},
		{"ZstdCompressor", append(u32(4*n), noSize.Bytes()...), "found a Zstandard frame of"},
		{"encrypted", []byte{0, 0, 0}, "at least 4 bytes, found 3"},
		{"encrypted", append(u32(most+1), encrypted(plain)...), "at most 1048576, found 1048577"},
		{"encrypted", append(u32(n), 0, 0, 0), "at least 8 bytes, found 3"},
		{"encrypted", append(u32(n), 0, 0, 0, 16, 0, 0, 0, 8), "a multiple of 16, at most 0, found 16"},
		{"encrypted", append(u32(n+1), encrypted(plain)...), "bytes of entries, found"},
		{"encrypted", append(u32(n-1), encrypted(plain)...), "the rest of the section, found"},
		{"encrypted", append(u32(n), encrypted(plain, plain)...), "at most 0, the rest of the section"},
		{"encrypted", append(u32(n), shorter...), "length of the block's plain text"},
		{"encrypted", append(u32(n), otherPadding...), "padding of the encrypted block"},
		{"encrypted", append(u32(n), encrypted(append(u32(n+1), block...))...), "the length of its entries twice"},
		{"encrypted", append(u32(n), encrypted(plain[:len(plain)-1])...), "found an LZ4 block that was cut"},
	} {
		var form *testForm
		for i := range testForms {
			if testForms[i].name == c.form {
				form = &testForms[i]
			}
		}
		d, err := ParseDescriptor("x.log", buildHeaderWith(Version40, 1, form.params))
		if err != nil {
			t.Fatal(err)
		}
		decoder, err := newSectionDecoder("x.log", d, newKeyring(testKeys))
		if err != nil {
			t.Fatal(err)
		}
		out, err := decodeSection(decoder, c.body, most)
		if !errors.As(err, new(*sectionError)) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: expected %q, found %q, %v", c.form, c.want, out, err)
		}
	}
}

// TestDamagedEntryOfADecodedSection: the place of the damage is that of the section, for want of a better one.
func TestDamagedEntryOfADecodedSection(t *testing.T) {
	for _, f := range testForms {
		entries := appendEntries(samplePayloads(2))
		entries[entryHeader+3] ^= 1 // in the first payload
		b := buildHeaderWith(Version40, 1000, f.params)
		marker := len(b)
		r := formReader("CommitLog-7-1000.log", appendSection(b, 1000, f.body(entries)), testKeys)
		var damage *DamagedError
		if _, _, err := r.Next(); !errors.As(err, &damage) || !damage.Resumable || damage.Offset != int64(marker) {
			t.Errorf("%s: expected damage at byte %d, found %v", f.name, marker, err)
		}
		if found := readForm(r, r.limit); len(found.payloads) != 2 || found.err != ErrFinished {
			t.Errorf("%s: behind it, found %d payloads, then %v", f.name, len(found.payloads), found.err)
		}
	}
}

// TestLyingLengths: however long a section says it is, even twice and alike, it takes no more memory than its compressed
// bytes can stand for.
func TestLyingLengths(t *testing.T) {
	const lie = math.MaxInt32 - 4096
	random := make([]byte, 100<<10)
	for i := range random {
		random[i] = byte(rand.Uint32())
	}
	zstdLie := encodeZstd(random)
	// The size of the content has four bytes in this header, behind magic and descriptor.
	binary.LittleEndian.PutUint32(zstdLie[5:], lie)
	lies := map[string][]byte{
		"LZ4Compressor":     binary.LittleEndian.AppendUint32(nil, lie),
		"SnappyCompressor":  append(binary.AppendUvarint(nil, lie), random...),
		"DeflateCompressor": encodeDeflate(random),
		"ZstdCompressor":    zstdLie,
		"NoopCompressor":    random,
	}
	lies["LZ4Compressor"] = append(lies["LZ4Compressor"], encodeLZ4(random)[4:]...)
	for class, src := range lies {
		// The first use of a decoder makes its tables.
		_, _ = decodeSection(newCompressedSections(class), append([]byte{0, 0, 0, 10}, src...), lie)
		decoder := newCompressedSections(class)
		body := append(binary.BigEndian.AppendUint32(nil, lie), src...)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := decodeSection(decoder, body, lie)
		runtime.ReadMemStats(&after)
		if err == nil {
			t.Errorf("%s: found no error", class)
		}
		if class == "LZ4Compressor" || class == "SnappyCompressor" || class == "ZstdCompressor" {
			if !strings.Contains(fmt.Sprint(err), errTooShort.Error()) {
				t.Errorf("%s: found %v", class, err)
			}
		}
		if grown := after.TotalAlloc - before.TotalAlloc; grown > 16*uint64(len(src)) {
			t.Errorf("%s: %d bytes took %d bytes of memory", class, len(src), grown)
		}
	}
}

// FuzzSections reads a segment with one section of arbitrary bytes in each form. It must come to one of the endings and
// take no more memory than the section's bytes can stand for. plain says that the bytes are to be encrypted first, so
// that what is behind the cipher is met.
func FuzzSections(f *testing.F) {
	for i := range testForms {
		body := testForms[i].body(appendEntries(samplePayloads(5)))
		f.Add(i, body, false, true, int64(0))
		f.Add(i, body[:len(body)/2], false, false, int64(NoOffset))
	}
	for _, name := range formRecordings {
		for _, r := range recordedForms(f, name, "final") {
			d, err := r.reader().Header()
			if err != nil {
				f.Fatal(err)
			}
			for i := range testForms {
				if r.form+"Compressor" == testForms[i].name {
					end := binary.BigEndian.Uint32(r.b[d.Length:])
					f.Add(i, r.b[d.Length+markerLen:min(int(end), fuzzSegment)], false, true, int64(0))
				}
			}
		}
	}
	encrypted := len(testForms) - 1
	entries := appendEntries(samplePayloads(5))
	f.Add(encrypted, append(binary.BigEndian.AppendUint32(nil, uint32(len(entries))), encodeLZ4(entries)...), true, true, int64(0))
	f.Fuzz(func(t *testing.T, form int, body []byte, plain, final bool, offset int64) {
		if form < 0 || form >= len(testForms) {
			return
		}
		if plain && form == encrypted && len(body) >= 4 {
			body = appendEncrypted(bytes.Clone(body[:4]), testKey, body)
		}
		b := appendSection(buildHeaderWith(Version40, 1000, testForms[form].params), 1000, body)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		r := formReader("CommitLog-7-1000.log", b, testKeys)
		found := readForm(r, Limit{Final: final, Offset: offset})
		runtime.ReadMemStats(&after)
		var damage *DamagedError
		var key *KeyError
		switch {
		case errors.As(found.err, &damage), errors.As(found.err, &key) && form == encrypted:
		case found.err == ErrMore && !final, found.err == ErrFinished && final:
		default:
			t.Fatalf("the ending is %v", found.err)
		}
		if _, _, again := r.Next(); again == nil {
			t.Fatalf("behind the ending %v comes an entry", found.err)
		}
		if grown := after.TotalAlloc - before.TotalAlloc; grown > uint64(len(body))*4096+16<<20 {
			t.Fatalf("%d bytes took %d bytes of memory", len(body), grown)
		}
	})
}

// appendEntries is the entries of a section with these payloads.
func appendEntries(payloads [][]byte) []byte {
	s := newBuilder(Version40, 1000)
	start := len(s.b)
	for _, p := range payloads {
		s.entry(p)
	}
	return s.b[start:]
}
