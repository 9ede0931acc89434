package commitlog

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
)

// TestReader builds segments piece by piece and reads them. The commands of a case are
//
//	entry TEXT       an entry, its text filled up with dots to the least length
//	sync             close the section
//	raw HEX          bytes in the section
//	pad N            preallocate the file to N bytes
//	cut N            cut the file to N bytes
//	flip OFF MASK    flip bits of the byte at OFF
//	set OFF HEX      overwrite bytes
//	file NAME        the name that the file has
//	read [final|live] [index=N] [after=N]
//
// and read prints what it finds.
func TestReader(t *testing.T) {
	runTextFile(t, "testdata/reader.txt", func(t *testing.T, c textCase) string {
		var out strings.Builder
		s := newBuilder(7, 1000)
		file := "CommitLog-7-1000.log"
		for _, line := range c.input {
			words := strings.Fields(line)
			num := func(i int) int {
				n, err := strconv.ParseInt(words[i], 0, 64)
				if err != nil {
					t.Fatal(err)
				}
				return int(n)
			}
			switch words[0] {
			case "entry":
				s.entry([]byte(fmt.Sprintf("%s%.*s", words[1], max(0, minEntry-len(words[1])), "..........")))
			case "sync":
				s.sync()
			case "raw":
				b, err := hex.DecodeString(strings.Join(words[1:], ""))
				if err != nil {
					t.Fatal(err)
				}
				s.b = append(s.b, b...)
			case "pad":
				s.b = s.padded(num(1))
			case "cut":
				s.b = s.b[:num(1)]
			case "flip":
				s.b[num(1)] ^= byte(num(2))
			case "set":
				b, err := hex.DecodeString(strings.Join(words[2:], ""))
				if err != nil {
					t.Fatal(err)
				}
				copy(s.b[num(1):], b)
			case "file":
				file = words[1]
			case "read":
				limit := Limit{Final: true}
				var after int64
				for _, w := range words[1:] {
					k, v, _ := strings.Cut(w, "=")
					n, _ := strconv.ParseInt(v, 10, 64)
					switch k {
					case "live":
						limit = Limit{Offset: NoOffset}
					case "index":
						limit = Limit{Final: limit.Final, Offset: n}
						if !strings.Contains(line, "final") {
							limit.Final = false
						}
					case "after":
						after = n
					}
				}
				fmt.Fprintf(&out, "%s\n", strings.Join(words, " "))
				fromBytes := readAll(NewBytesReader(file, s.b), int64(len(s.b)), limit, after)
				fromFile := readAll(NewReader(file, bytes.NewReader(s.b), int64(len(s.b))), int64(len(s.b)), limit, after)
				out.WriteString(fromBytes)
				if fromFile != fromBytes {
					t.Errorf("line %d: %s: read as a file it gives\n%s", c.line, line, fromFile)
				}
			default:
				t.Fatalf("line %d: unknown command %q", c.line, words[0])
			}
		}
		return out.String()
	})
}

func readAll(r *Reader, size int64, limit Limit, after int64) string {
	var out strings.Builder
	r.Extend(size, limit)
	r.SkipTo(after)
	for range 1000 {
		payload, pos, err := r.Next()
		var d *DamagedError
		switch {
		case err == nil:
			fmt.Fprintf(&out, "  %d: %s\n", pos.Offset, payload)
		case errors.As(err, &d) && d.Resumable:
			fmt.Fprintf(&out, "  %d: DAMAGED ENTRY %q: %s\n", pos.Offset, payload, shortDamage(d))
		case errors.As(err, &d):
			fmt.Fprintf(&out, "  DAMAGED %s\n", shortDamage(d))
			return out.String()
		case err == ErrMore:
			fmt.Fprintf(&out, "  MORE at %d\n", r.Offset())
			return out.String()
		case err == ErrFinished:
			fmt.Fprintf(&out, "  FINISHED at %d, %d sections\n", r.Offset(), r.Sections())
			return out.String()
		default:
			fmt.Fprintf(&out, "  %v\n", err)
			return out.String()
		}
	}
	return out.String() + "  NO END\n"
}

// shortDamage is a damage without the file and the hint.
func shortDamage(d *DamagedError) string {
	return fmt.Sprintf("at byte %d: %s: expected %s, found %s", d.Offset, d.What, d.Expected, d.Found)
}

// TestReaderFollows reads a segment while it grows, through one reader.
func TestReaderFollows(t *testing.T) {
	s := newBuilder(7, 1000)
	var file []byte
	r := NewReader("CommitLog-7-1000.log", readerAt(func() []byte { return file }), 0)
	expect := func(what string, limit Limit, want ...string) {
		t.Helper()
		r.Extend(int64(len(file)), limit)
		for _, w := range want {
			if payload, _, err := r.Next(); err != nil || string(payload) != w {
				t.Fatalf("%s: expected %q, found %q, %v", what, w, payload, err)
			}
		}
		wantErr := ErrMore
		if limit.Final {
			wantErr = ErrFinished
		}
		if _, _, err := r.Next(); err != wantErr {
			t.Fatalf("%s: expected %v, found %v", what, wantErr, err)
		}
	}
	live := Limit{Offset: NoOffset}
	expect("an empty file", live)
	file = make([]byte, 2000)
	expect("a file of zeros", live)
	copy(file, s.b[:10])
	expect("half a header", live)
	copy(file, s.b)
	expect("a header", live)

	s.entry([]byte("first entry"))
	copy(file, s.b)
	expect("an entry before its section is synced", live)
	end := s.sync()
	marker := s.b[20:28]
	copy(file[28:], s.b[28:])
	copy(file[20:], marker[:2])
	expect("half the end of a section", live)
	copy(file[20:], marker[:4])
	expect("the end of a section without its checksum", live)
	copy(file[20:], marker)
	expect("a section, but an index before its end", Limit{Offset: end - 1})
	expect("a section", Limit{Offset: end}, "first entry")

	s.entry([]byte("second entry"))
	s.entry([]byte("third entry"))
	s.sync()
	s.sync()
	copy(file, s.b)
	expect("a section that the index does not cover", Limit{Offset: end})
	expect("a section, live", live, "second entry", "third entry")
	expect("the end", Limit{Final: true})
}

// TestReaderTakesTheEndOfASectionWhole: a node stores the end of a section and then its checksum; a reader that finds
// the checksum may have read an older end.
func TestReaderTakesTheEndOfASectionWhole(t *testing.T) {
	s := newBuilder(7, 1000)
	s.entry([]byte("first entry"))
	inside := s.entry([]byte("second entry"))
	s.entry([]byte("third entry"))
	s.sync()
	torn := bytes.Clone(s.b)
	copy(torn[20:], []byte{0, 0, byte(inside >> 8), byte(inside)})
	reads := 0
	r := NewReader("CommitLog-7-1000.log", readerAt(func() []byte {
		if reads++; reads == 2 { // the header, then the marker
			return torn
		}
		return s.b
	}), int64(len(s.b)))
	r.Extend(int64(len(s.b)), Limit{Offset: NoOffset})
	n := 0
	for {
		if _, _, err := r.Next(); err != nil {
			if err != ErrMore || n != 3 {
				t.Fatalf("found %d entries, then %v", n, err)
			}
			return
		}
		n++
	}
}

// readerAt reads from what the function gives at that moment.
type readerAt func() []byte

func (f readerAt) ReadAt(p []byte, off int64) (int, error) {
	return bytes.NewReader(f()).ReadAt(p, off)
}

// TestReaderNamesWhatItCannotRead: forms of sections that are unknown, and keys that are not there, are no damage.
func TestReaderNamesWhatItCannotRead(t *testing.T) {
	unsupported := func(err error) bool { return errors.As(err, new(*UnsupportedError)) }
	keyless := func(err error) bool { return errors.As(err, new(*KeyError)) }
	encrypted := func(cipher, iv string) string {
		return fmt.Sprintf(`{"encCipher":"%s","encKeyAlias":"testing:1","encIV":"%s","compressionClass":"LZ4Compressor"}`, cipher, iv)
	}
	iv := strings.Repeat("00", 16)
	for _, c := range []struct {
		params string
		is     func(error) bool
		want   string
	}{
		{`{"compressionClass":"com.example.LZ4Compressor","compressionParameters":{}}`, unsupported, "(com.example.LZ4Compressor)"},
		{`{"compressionClass":"BrotliCompressor"}`, unsupported, "(BrotliCompressor)"},
		{encrypted(`AES\/GCM\/NoPadding`, iv), unsupported, "AES/GCM/NoPadding"},
		{`{"encKeyAlias":"k"}`, unsupported, "unknown cipher"},
		{encrypted(`AES\/CBC\/PKCS5Padding`, iv), keyless, "cassandra.yaml"},
	} {
		b := append(buildHeaderWith(7, 1000, c.params), make([]byte, 100)...)
		r := NewBytesReader("CommitLog-7-1000.log", b)
		for range 2 {
			if _, _, err := r.Next(); !c.is(err) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s: found %v", c.params, err)
			}
		}
		if d, _ := r.Header(); d.ID != 1000 {
			t.Errorf("%s: found header %+v", c.params, d)
		}
	}
	for _, iv := range []string{"", "00", "xx", strings.Repeat("00", 17)} {
		r := NewBytesReader("CommitLog-7-1000.log", buildHeaderWith(7, 1000, encrypted(`AES\/CBC\/PKCS5Padding`, iv)))
		if _, err := r.Header(); !errors.As(err, new(*DamagedError)) || !strings.Contains(err.Error(), "encIV") {
			t.Errorf("IV %q: found %v", iv, err)
		}
	}
}

// TestReaderEntriesLargerThanTheBuffer reads entries across the bounds of what is read ahead.
func TestReaderEntriesLargerThanTheBuffer(t *testing.T) {
	s := newBuilder(7, 1000)
	var want []int
	for i, n := range []int{10, readAhead - 40, readAhead, 3 * readAhead, 17, readAhead / 2, 5*readAhead + 1, 11} {
		s.entry(bytes.Repeat([]byte{byte(i)}, n))
		want = append(want, n)
		if i%3 == 2 {
			s.sync()
		}
	}
	s.sync()
	r := NewReader("CommitLog-7-1000.log", bytes.NewReader(s.b), int64(len(s.b)))
	for i, n := range want {
		payload, _, err := r.Next()
		if err != nil || len(payload) != n || payload[0] != byte(i) || payload[n-1] != byte(i) {
			t.Fatalf("entry %d: found %d bytes, %v", i, len(payload), err)
		}
	}
	if _, _, err := r.Next(); err != ErrFinished {
		t.Fatal(err)
	}
}
