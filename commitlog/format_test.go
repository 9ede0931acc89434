package commitlog

import (
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
)

func TestVarints(t *testing.T) {
	runTextFile(t, "testdata/varint.txt", func(t *testing.T, c textCase) string {
		var out strings.Builder
		for _, line := range c.input {
			b, err := hex.DecodeString(line)
			if err != nil {
				t.Fatal(err)
			}
			cur := cursor{b: b}
			var v any
			if c.command == "svint" {
				v = cur.svint("value")
			} else {
				v = cur.uvint("value")
			}
			if cur.failed() {
				fmt.Fprintf(&out, "byte %d, %s: %s\n", cur.err.off, cur.err.field, cur.err.reason)
				continue
			}
			fmt.Fprintf(&out, "%d, %d bytes\n", v, cur.off)
		}
		return out.String()
	})
}

func TestVarintsRoundTrip(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	for range 10000 {
		v := rnd.Uint64() >> rnd.IntN(64)
		c := cursor{b: appendUvint(nil, v)}
		if got := c.uvint("value"); c.failed() || got != v || c.left() != 0 {
			t.Fatalf("uvint %d: found %d, %d bytes left", v, got, c.left())
		}
		s := int64(v)
		c = cursor{b: appendUvint(nil, uint64(s<<1)^uint64(s>>63))}
		if got := c.svint("value"); c.failed() || got != s {
			t.Fatalf("svint %d: found %d", s, got)
		}
	}
}

func TestCursorKeepsItsFirstFailure(t *testing.T) {
	c := cursor{b: []byte{0x05, 1, 2}}
	c.vbytes("first")
	c.u16("second")
	c.u8("third")
	if c.err.field != "first" || c.err.off != 1 || c.bytes(0, "fourth") != nil || c.count(1, "fifth") != 0 {
		t.Fatalf("found failure %+v", c.err)
	}
	c = cursor{b: []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1}}
	if c.vbytes("huge") != nil || c.err.field != "huge" {
		t.Fatalf("a length of %d bytes: found failure %+v", uint64(math.MaxUint64), c.err)
	}
}

func TestDescriptors(t *testing.T) {
	runTextFile(t, "testdata/descriptor.txt", func(t *testing.T, c textCase) string {
		d, err := ParseDescriptor(c.args["file"], hexInput(t, c))
		if err != nil {
			return err.Error()
		}
		s := fmt.Sprintf("version %d, id %d, %d bytes", d.Version, d.ID, d.Length)
		if d.Compression != "" {
			s += ", " + d.Compression
		}
		if d.Cipher != "" {
			s += fmt.Sprintf(", %s, key %q, IV %x", d.Cipher, d.KeyAlias, d.IV)
		}
		if _, err := newSectionDecoder(c.args["file"], d, newKeyring(nil)); err != nil {
			s += "\n" + err.Error()
		}
		return s
	})
}

func TestIndexFiles(t *testing.T) {
	runTextFile(t, "testdata/index.txt", func(t *testing.T, c textCase) string {
		var out strings.Builder
		for _, line := range c.input {
			s, err := strconv.Unquote(line)
			if err != nil {
				t.Fatal(err)
			}
			if x, ok := ParseIndex([]byte(s)); ok {
				fmt.Fprintf(&out, "%d completed=%v\n", x.Offset, x.Completed)
			} else {
				out.WriteString("ask again\n")
			}
		}
		return out.String()
	})
}

func TestMarkerChecksums(t *testing.T) {
	runTextFile(t, "testdata/marker.txt", func(t *testing.T, c textCase) string {
		var out strings.Builder
		for _, line := range c.input {
			var id, off int64
			if _, err := fmt.Sscan(line, &id, &off); err != nil {
				t.Fatal(err)
			}
			fmt.Fprintln(&out, hex32(markerChecksum(id, off)))
		}
		return out.String()
	})
}

func TestNames(t *testing.T) {
	for _, c := range []struct {
		name    string
		segment bool
		index   bool
	}{
		{SegmentName(7, 1795387274334), true, false},
		{IndexName(7, 1795387274334), false, true},
		{"CommitLog-7.log", false, false},
		{"CommitLog-7-12.log.bak", false, false},
		{"CommitLog-7-12_cdc.idx.tmp", false, false},
		{"CommitLog-99999999999-12.log", false, false},
		{"CommitLog-7-99999999999999999999.log", false, false},
		{".CommitLog-7-12.log", false, false},
	} {
		_, _, segment := ParseSegmentName(c.name)
		_, _, index := ParseIndexName(c.name)
		if segment != c.segment || index != c.index {
			t.Errorf("%s: found segment %v, index %v", c.name, segment, index)
		}
	}
	if v, id, ok := ParseSegmentName("CommitLog-8-1795387456356.log"); v != 8 || id != 1795387456356 || !ok {
		t.Errorf("found version %d, id %d", v, id)
	}
}

func TestErrorsNameWhatToDo(t *testing.T) {
	_, err := ParseDescriptor("/data/CommitLog-9-1.log", buildHeader(9, 1))
	var u *UnsupportedError
	if !errors.As(err, &u) || !strings.Contains(err.Error(), "version 9") {
		t.Fatalf("found %v", err)
	}
}
