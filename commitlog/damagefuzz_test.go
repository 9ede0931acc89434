package commitlog

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"testing"
)

// FuzzEntries reads a section of arbitrary bytes in a segment that is right otherwise. right says that the checksums are to
// be put right first, as far as the bytes have the form of entries, so that what is behind them is met. What the reader finds
// is compared with what a loop of a few lines does.
func FuzzEntries(f *testing.F) {
	recordedSegments(f, func(name string, b []byte) {
		d, err := ParseDescriptor(name, b)
		if err != nil {
			f.Fatal(err)
		}
		end := binary.BigEndian.Uint32(b[d.Length:])
		f.Add(b[d.Length+markerLen:min(int(end), fuzzSegment)], true, true, int64(0))
		f.Add(b[d.Length+markerLen:min(int(end), fuzzSegment)], false, false, int64(NoOffset))
	})
	f.Add(appendEntries(samplePayloads(3)), true, true, int64(0))
	f.Fuzz(func(t *testing.T, body []byte, right, final bool, after int64) {
		if right {
			body = rightChecksums(body)
		}
		b := appendSection(buildHeader(Version40, 1000), 1000, body)
		r := NewReader("CommitLog-7-1000.log", bytes.NewReader(b), int64(len(b)))
		r.SkipTo(after)
		var found read
		taken := memoryTaken(func() { found = readForm(r, Limit{Final: final, Offset: NoOffset}) })
		if taken > 8*uint64(len(b))+1<<20 {
			t.Fatalf("%d bytes took %d bytes of memory", len(b), taken)
		}
		want := simpleEntries(body, int64(len(b)-len(body)), after)
		if found.bad != want.bad || len(found.payloads) != len(want.payloads) {
			t.Fatalf("found %d entries and %d bad ones, expected %d and %d", len(found.payloads), found.bad, len(want.payloads), want.bad)
		}
		for i := range want.payloads {
			if !bytes.Equal(found.payloads[i], want.payloads[i]) || found.positions[i] != want.positions[i] {
				t.Fatalf("entry %d ends at %d: %x; expected %d, %x", i, found.positions[i], found.payloads[i], want.positions[i], want.payloads[i])
			}
		}
		switch damaged := errors.As(found.err, new(*DamagedError)); {
		case damaged != errors.Is(want.err, errSimple):
			t.Fatalf("the ending is %v, expected damage: %v", found.err, !damaged)
		case !damaged && final && found.err != ErrFinished, !damaged && !final && found.err != ErrMore:
			t.Fatalf("the ending is %v", found.err)
		}
	})
}

// errSimple is what [simpleEntries] answers for what is no entry.
var errSimple = errors.New("no entry")

// simpleEntries takes a section apart that starts at the logical offset base. What ends at after or before it is left out, and
// so is the whole section.
func simpleEntries(body []byte, base, after int64) (found read) {
	if base+int64(len(body)) <= after {
		return found
	}
	for off := 0; len(body)-off >= 4; {
		left := body[off:]
		if len(left) < 22 {
			found.err = errSimple
			return found
		}
		size := int64(binary.BigEndian.Uint32(left))
		if binary.BigEndian.Uint32(left[4:]) != crc32.ChecksumIEEE(left[:4]) || size < 10 || size > int64(len(left)-12) {
			found.err = errSimple
			return found
		}
		payload := left[8 : 8+size]
		off += int(size) + 12
		if end := base + int64(off); end > after {
			if crc32.ChecksumIEEE(append(bytes.Clone(left[:4]), payload...)) != binary.BigEndian.Uint32(left[8+size:]) {
				found.bad++
				continue
			}
			found.payloads, found.positions = append(found.payloads, payload), append(found.positions, end)
		}
	}
	return found
}

// rightChecksums puts the checksums of entries right, and sizes that are too large by far.
func rightChecksums(body []byte) []byte {
	body = bytes.Clone(body)
	for left := body; len(left) >= 22; {
		size := binary.BigEndian.Uint32(left)
		if int64(size) > int64(len(left)-12) {
			size %= uint32(len(left))
			binary.BigEndian.PutUint32(left, size)
		}
		binary.BigEndian.PutUint32(left[4:], crc32.ChecksumIEEE(left[:4]))
		if int(size) > len(left)-12 {
			break
		}
		binary.BigEndian.PutUint32(left[8+size:], crc32.ChecksumIEEE(append(bytes.Clone(left[:4]), left[8:8+size]...)))
		left = left[12+size:]
	}
	return body
}

// FuzzDamage writes a segment of any form, changes a byte of it or cuts it, and reads it. Whatever was changed: what comes out
// is what was written, in its order; a final segment of which something is missing is damaged, never finished; in a segment
// that may grow, what is missing is not there yet or damaged.
func FuzzDamage(f *testing.F) {
	plain := testForm{"plain", "{}", func(b []byte) []byte { return b }}
	forms := append([]testForm{plain}, testForms...)
	content := bytes.Join(samplePayloads(4), nil)
	for i := range forms {
		for _, at := range []uint32{0, 20, 30, 40, 100, 200} {
			f.Add(byte(i), content, at, byte(1), uint32(0), true)
			f.Add(byte(i), content, at, byte(0), at+50, false)
		}
	}
	recordedSegments(f, func(name string, b []byte) {
		payload, _, err := NewBytesReader(name, b).Next()
		if err == nil && len(payload) < 2000 {
			f.Add(byte(len(payload)), payload, uint32(len(payload)), byte(0x80), uint32(0), true)
		}
	})
	f.Fuzz(func(t *testing.T, form byte, content []byte, at uint32, flip byte, cut uint32, final bool) {
		fm := &forms[int(form)%len(forms)]
		b, positions := fm.segment(1000, sectionsOf(content)...)
		limit := Limit{Final: final, Offset: NoOffset}
		if final {
			limit.Offset = 0
		}
		good := readForm(formReader("CommitLog-7-1000.log", b, testKeys), limit)
		if len(good.payloads) != len(positions) || good.bad > 0 || good.err != ErrFinished && good.err != ErrMore {
			t.Fatalf("%s: of %d entries %d are read, then %v", fm.name, len(positions), len(good.payloads), good.err)
		}
		if flip != 0 {
			i := int(at) % len(b)
			b[i] ^= flip
			found := readForm(formReader("CommitLog-7-1000.log", b, testKeys), limit)
			checkPart(t, good, found)
			missing := len(good.payloads) - len(found.payloads)
			if found.err == ErrFinished && found.bad < missing || found.err == ErrMore && final {
				t.Fatalf("%s, byte %d: %d payloads are missing, %d are bad, and the ending is %v", fm.name, i, missing, found.bad, found.err)
			}
			return
		}
		b = b[:int(cut)%(len(b)+1)]
		found := readForm(formReader("CommitLog-7-1000.log", b, testKeys), limit)
		checkPart(t, good, found)
		if found.bad > 0 {
			t.Fatalf("a segment that was cut has %d entries with a wrong checksum", found.bad)
		}
		// What the index says is flushed must be there.
		if len(found.payloads) < len(positions) {
			limit.Offset = positions[len(positions)-1]
			found = readForm(formReader("CommitLog-7-1000.log", b, testKeys), limit)
			if !errors.As(found.err, new(*DamagedError)) {
				t.Fatalf("%s, cut to %d bytes: of %d flushed entries %d are found, then %v", fm.name, len(b), len(positions), len(found.payloads), found.err)
			}
		}
	})
}

// checkPart checks that what was found is a part of what is there, in its order, and ends in one of the endings.
func checkPart(t *testing.T, good, found read) {
	t.Helper()
	at := 0
	for i, p := range found.payloads {
		for at < len(good.payloads) && !(good.positions[at] == found.positions[i] && bytes.Equal(good.payloads[at], p)) {
			at++
		}
		if at == len(good.payloads) {
			t.Fatalf("found a payload at %d that was never written: %q", found.positions[i], p)
		}
		at++
	}
	if found.err != ErrMore && found.err != ErrFinished && !errors.As(found.err, new(*DamagedError)) && !errors.As(found.err, new(*KeyError)) {
		t.Fatalf("the ending is %v", found.err)
	}
}

// sectionsOf makes sections of entries: of each piece of the content the first byte says how long an entry is, and whether a
// section ends with it.
func sectionsOf(content []byte) (sections [][][]byte) {
	var section [][]byte
	for len(content) > minEntry {
		n := min(len(content), 1+minEntry+int(content[0]>>1))
		section = append(section, content[1:n])
		if content[0]&1 == 0 {
			sections, section = append(sections, section), nil
		}
		content = content[n:]
	}
	return append(sections, section)
}
