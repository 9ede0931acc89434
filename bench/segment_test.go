package bench

import (
	"bytes"
	"encoding/hex"
	"testing"

	"cassdelta/commitlog"
	"cassdelta/schema"
)

// TestEntryIsWhatCassandraWrites compares an entry with one that Cassandra 5.0 wrote, checksums included.
func TestEntryIsWhatCassandraWrites(t *testing.T) {
	want, err := hex.DecodeString("0000002f8a95e245015a1c395eb41f11e59f22ba0be0483c18040000000110fce9d96a43c0000000" +
		"010176012400016100080000000a010f877843")
	if err != nil {
		t.Fatal(err)
	}
	if found := appendEntry(nil, want[8:len(want)-4]); !bytes.Equal(found, want) {
		t.Errorf("expected %x, found %x", want, found)
	}
}

func TestSegmentsDecode(t *testing.T) {
	parsed, err := schema.ParseCQL("bench", Schema())
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		mutations *Mutations
		size      float64 // of a payload, on average
		cells     float64 // of a mutation, on average
	}{
		"inserts": {Inserts(1000), 172, 5},
		"updates": {Updates(1000), 85, 1.5},
	} {
		t.Run(name, func(t *testing.T) {
			segment, n := Segment(7, 3*sectionSize, c.mutations)
			others := map[string]*commitlog.Reader{}
			for _, form := range Forms {
				b, err := Form(segment, form)
				if err != nil {
					t.Fatal(err)
				}
				others[form] = commitlog.NewBytesReader(commitlog.SegmentName(Version, 7), b)
				others[form].SetKeys(Keys)
			}
			r := commitlog.NewBytesReader(commitlog.SegmentName(Version, 7), segment)
			d := commitlog.NewDecoder(parsed.Catalog(), nil)
			var m commitlog.Mutation
			found, size, cells := 0, 0, 0
			for {
				payload, pos, err := r.Next()
				if err == commitlog.ErrFinished {
					break
				}
				if err == nil {
					err = d.Decode(Version, payload, pos, &m)
				}
				if err != nil {
					t.Fatal(err)
				}
				for form, other := range others {
					if same, _, err := other.Next(); err != nil || !bytes.Equal(same, payload) {
						t.Fatalf("mutation %d differs in the segment of %s: found %x, %v", found, form, same, err)
					}
				}
				if m.Leftover > 0 {
					t.Fatalf("mutation %d: %d bytes were not read", found, m.Leftover)
				}
				found, size, cells = found+1, size+len(payload), cells+len(m.Updates[0].Unfiltereds[0].Row.Cells)
			}
			for form, other := range others {
				if _, _, err := other.Next(); err != commitlog.ErrFinished {
					t.Errorf("behind the mutations of %s: %v", form, err)
				}
			}
			if found != n || r.Sections() != 3 || 3*sectionSize-int(r.Offset()) > 300 {
				t.Errorf("expected %d mutations in 3 sections, found %d in %d, up to %d", n, found, r.Sections(), r.Offset())
			}
			if mean := float64(size) / float64(n); mean < c.size-2 || mean > c.size+2 {
				t.Errorf("a mutation has %.1f bytes on average, expected %.1f", mean, c.size)
			}
			if mean := float64(cells) / float64(n); mean < c.cells-0.1 || mean > c.cells+0.1 {
				t.Errorf("a mutation has %.2f cells on average, expected %.2f", mean, c.cells)
			}
		})
	}
}
