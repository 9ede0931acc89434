package commitlog

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"

	"cassdelta/internal/recording"
	"cassdelta/schema"
)

// recordings are those that seed the fuzz targets: every version of Cassandra and every native type.
var recordings = []string{"types-4.0", "types-4.1", "types-5.0", "types-5.0-v8", "crash-5.0"}

// recordedSegments calls use with each segment of the recordings as it was at the end.
func recordedSegments(tb testing.TB, use func(name string, segment []byte)) {
	tb.Helper()
	found := 0
	for _, name := range recordings {
		r, err := recording.Open(os.DirFS(filepath.Join("..", "testdata", "recordings", name)))
		if err != nil {
			tb.Fatal(err)
		}
		for _, node := range r.Nodes {
			dir := tb.TempDir()
			if err := r.Unpack(node.Name, recording.FinalMoment, dir); err != nil {
				tb.Fatal(err)
			}
			err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
				if err != nil || e.IsDir() || !strings.HasSuffix(path, ".log") {
					return err
				}
				b, err := os.ReadFile(path)
				if err != nil {
					return err
				}
				found++
				use(filepath.Base(path), b)
				return nil
			})
			if err != nil {
				tb.Fatal(err)
			}
		}
	}
	if found == 0 {
		tb.Fatal("the recordings have no segment")
	}
}

// fuzzSegment bounds the seeds: a fuzzer is slow with large ones, and the first kilobytes have every kind of byte.
const fuzzSegment = 8 << 10

// FuzzReader reads arbitrary bytes as a segment. It must come to one of the three endings, never read an entry twice,
// and not take memory that the input does not account for.
func FuzzReader(f *testing.F) {
	s := newBuilder(Version40, 1)
	for _, payload := range []string{"0123456789", "a second, longer payload", "a third"} {
		s.entry([]byte(payload + "          "))
		s.sync()
	}
	f.Add(s.b, true, int64(0))
	f.Add(s.padded(1<<12), false, int64(NoOffset))
	f.Add(s.b[:len(s.b)-20], true, int64(len(s.b)))
	recordedSegments(f, func(_ string, b []byte) {
		f.Add(b[:min(len(b), fuzzSegment)], false, int64(fuzzSegment))
	})
	f.Fuzz(func(t *testing.T, b []byte, final bool, offset int64) {
		limit := Limit{Final: final, Offset: offset}
		file := NewReader(SegmentName(Version40, 1), bytes.NewReader(b), int64(len(b)))
		var fromFile read
		if taken := memoryTaken(func() { fromFile = readForm(file, limit) }); taken > 4096*uint64(len(b))+16<<20 {
			t.Fatalf("%d bytes took %d bytes of memory", len(b), taken)
		}
		if found := readForm(NewBytesReader(SegmentName(Version40, 1), b), limit); !reflect.DeepEqual(found, fromFile) {
			t.Fatalf("read from memory it is %+v, from a file %+v", found, fromFile)
		}
		r := NewBytesReader(SegmentName(Version40, 1), b)
		r.Extend(int64(len(b)), limit)
		last := int64(-1)
		for n := 0; ; n++ {
			payload, pos, err := r.Next()
			var damage *DamagedError
			switch {
			case err == nil || errors.As(err, &damage) && damage.Resumable:
				if pos.Offset <= last {
					t.Fatalf("an entry ends at %d, the one before it at %d", pos.Offset, last)
				}
				if last = pos.Offset; len(payload) > len(b) {
					t.Fatalf("a payload of %d bytes in a segment of %d", len(payload), len(b))
				}
				if n > len(b) {
					t.Fatalf("more entries than the %d bytes can hold", len(b))
				}
			case errors.Is(err, ErrMore) && final:
				t.Fatal("a final segment answers that more may come")
			case errors.Is(err, ErrFinished) && !final:
				t.Fatal("a segment that is not final answers that it is finished")
			default:
				if _, _, again := r.Next(); !errors.Is(err, ErrMore) && again == nil {
					t.Fatalf("behind the ending %v comes an entry", err)
				}
				return
			}
		}
	})
}

// fuzzTable has what makes a mutation hard to read: clustering, statics, values with and without a fixed length, multi-cell
// columns, a dropped column.
func fuzzTable(tb testing.TB) *schema.Table {
	column := func(name string, kind schema.ColumnKind, position int, typ string) schema.Column {
		parsed, err := schema.ParseType(typ, nil)
		if err != nil {
			tb.Fatal(err)
		}
		return schema.Column{Name: name, Kind: kind, Position: position, Type: parsed}
	}
	dropped := column("gone", schema.Regular, 0, "text")
	t, err := schema.NewTable(schema.Table{
		Keyspace: "ks", Name: "t", ID: schema.UUID{0xfa},
		Columns: []schema.Column{
			column("p", schema.PartitionKey, 0, "text"), column("c1", schema.Clustering, 0, "int"),
			column("c2", schema.Clustering, 1, "text"), column("s", schema.Static, 0, "bigint"),
			column("i", schema.Regular, 0, "int"), column("m", schema.Regular, 0, "map<text, int>"), column("v", schema.Regular, 0, "text"),
		},
		Dropped: []schema.DroppedColumn{{Name: dropped.Name, Kind: dropped.Kind, Type: dropped.Type, DroppedAt: 1}},
		CDC:     true,
	})
	if err != nil {
		tb.Fatal(err)
	}
	return t
}

// memoryTaken is the memory in bytes that do takes, what it gives back included.
func memoryTaken(do func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	do()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// FuzzDecode decodes arbitrary bytes as a mutation of a table that is known. Whatever they are, the decoder answers with
// one of its errors or a mutation, and takes no more memory than a multiple of the input.
func FuzzDecode(f *testing.F) {
	table := fuzzTable(f)
	add := func(payload []byte, v Version) {
		if len(payload) < minEntry || len(payload) > fuzzSegment {
			return
		}
		// The seed is that of another table; with the id of this one it is parsed further.
		if c := (cursor{b: payload}); c.count(minUpdate, "") > 0 && c.left() > 16 {
			payload = append([]byte(nil), payload...)
			copy(payload[c.off:], table.ID[:])
		}
		f.Add(payload, int32(v))
	}
	recordedSegments(f, func(name string, b []byte) {
		v, _, _ := ParseSegmentName(name)
		r := NewBytesReader(name, b)
		for n := 0; n < 40; n++ {
			payload, _, err := r.Next()
			if err != nil {
				return
			}
			add(payload, v)
		}
	})
	catalog := schema.NewCatalog([]*schema.Table{table})
	f.Fuzz(func(t *testing.T, payload []byte, version int32) {
		d := NewDecoder(catalog, nil)
		var m Mutation
		taken := memoryTaken(func() {
			if err := d.Decode(Version(version), payload, Position{1, 1}, &m); err == nil {
				return
			}
			if at := d.Resync(Version(version), payload, 17, &m); at >= len(payload) {
				t.Fatalf("went on at %d of %d bytes", at, len(payload))
			}
		})
		// A byte of input can stand for a cell, and each slice that grows is counted at all its sizes.
		if taken > uint64(len(payload))*4096+1<<20 {
			t.Fatalf("%d bytes of input took %d bytes of memory", len(payload), taken)
		}
		cells := 0
		for _, u := range m.Updates {
			for _, x := range u.Unfiltereds {
				if (x.Row == nil) == (x.Marker == nil) {
					t.Fatal("neither a row nor a marker, or both")
				}
				if x.Row != nil {
					cells += len(x.Row.Cells)
				}
			}
		}
		if cells > len(payload) {
			t.Fatalf("%d cells of %d bytes", cells, len(payload))
		}
		if _, err := ParsePreview(payload); err == nil && len(payload) < minUpdate {
			t.Fatal("an update in fewer bytes than it takes")
		}
	})
}

// FuzzDescriptor reads arbitrary bytes as the header of a segment: what is accepted says what it is.
func FuzzDescriptor(f *testing.F) {
	for _, v := range []Version{Version30, Version40, Version50} {
		f.Add(buildHeader(v, 1795414250152))
	}
	f.Add(buildHeaderWith(Version40, 1, `{"compressionClass":"LZ4Compressor","compressionParameters":{"a":"b"}}`))
	recordedSegments(f, func(_ string, b []byte) { f.Add(b[:min(len(b), 2*usualHeaderLen)]) })
	for _, name := range formRecordings {
		for _, form := range recordedForms(f, name, recording.FinalMoment) {
			f.Add(form.b[:2*usualHeaderLen])
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var desc Descriptor
		var err error
		taken := memoryTaken(func() { desc, err = NewBytesReader("", b).Header() })
		if taken > 64*uint64(len(b))+1<<16 {
			t.Fatalf("%d bytes took %d bytes of memory", len(b), taken)
		}
		if err == nil && (desc.Length < headerMin || desc.Length > len(b)) {
			t.Fatalf("a header of %d bytes in %d", desc.Length, len(b))
		}
		if unsupported := (*UnsupportedError)(nil); err != nil && !errors.As(err, &unsupported) {
			return
		}
		if err == nil && !desc.Version.Supported() {
			t.Fatalf("version %d is accepted", desc.Version)
		}
	})
}

// FuzzIndex reads arbitrary bytes as an index file: what is accepted is written the same way again.
func FuzzIndex(f *testing.F) {
	for _, s := range []string{"", "0", "1048576", "4096\nCOMPLETED", "4096\nCOMP", "-1", "99999999999999999999"} {
		f.Add([]byte(s))
	}
	for _, name := range slices.Concat(recordings, formRecordings) {
		dir := f.TempDir()
		if err := openRecording(f, name).Unpack("node1", recording.FinalMoment, dir); err != nil {
			f.Fatal(err)
		}
		files, err := filepath.Glob(filepath.Join(dir, "*.idx"))
		if err != nil || len(files) == 0 {
			f.Fatalf("%s has no index files: %v", name, err)
		}
		for _, file := range files {
			b, err := os.ReadFile(file)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(b)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var x Index
		var ok bool
		if taken := memoryTaken(func() { x, ok = ParseIndex(b) }); taken > 4*uint64(len(b))+1<<16 {
			t.Fatalf("%d bytes took %d bytes of memory", len(b), taken)
		}
		if ok && x.Offset < 0 {
			t.Fatalf("offset %d of %q", x.Offset, b)
		}
		if !ok && x != (Index{}) {
			t.Fatalf("%q is refused and means %+v", b, x)
		}
	})
}
