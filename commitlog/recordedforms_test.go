package commitlog

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"cassdelta/commitlog/keystore"
	"cassdelta/internal/recording"
	"cassdelta/schema"
)

// formRecordings have a segment of each form, named by what their header says.
var formRecordings = []string{"forms-4.0", "forms-4.1", "forms-5.0"}

func openRecording(tb testing.TB, name string) *recording.Recording {
	tb.Helper()
	r, err := recording.Open(os.DirFS(filepath.Join("..", "testdata", "recordings", name)))
	if err != nil {
		tb.Fatal(err)
	}
	return r
}

// recordedKeys are those of the keystore in a recording.
func recordedKeys(tb testing.TB, name string) Keys {
	tb.Helper()
	keys, err := keystore.Open(keystore.Config{
		Path: filepath.Join("..", "testdata", "recordings", name, "keystore.jceks"),
		Type: "JCEKS", StorePassword: "cassandra-store", KeyPassword: "cassandra-key",
	})
	if err != nil {
		tb.Fatal(err)
	}
	return keys
}

// recordedForm is a recorded segment.
type recordedForm struct {
	form  string // such as LZ4, or encrypted
	file  string
	b     []byte
	index Index
	keys  Keys
}

// recordedForms gives the segments of a recording at a moment.
func recordedForms(tb testing.TB, name, moment string) []recordedForm {
	tb.Helper()
	dir := tb.TempDir()
	if err := openRecording(tb, name).Unpack("node1", moment, dir); err != nil {
		tb.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.log"))
	if err != nil {
		tb.Fatal(err)
	}
	keys := recordedKeys(tb, name)
	var forms []recordedForm
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			tb.Fatal(err)
		}
		index, ok, err := ReadIndex(strings.TrimSuffix(file, ".log") + "_cdc.idx")
		if err != nil || !ok {
			tb.Fatalf("index of %s: %v, %v", file, ok, err)
		}
		f := recordedForm{form: "encrypted", file: filepath.Base(file), b: b, index: index, keys: keys}
		d, err := f.reader().Header()
		if err != nil {
			tb.Fatal(err)
		}
		if d.Cipher == "" {
			f.form = strings.TrimSuffix(d.Compression[strings.LastIndexByte(d.Compression, '.')+1:], "Compressor")
		}
		forms = append(forms, f)
	}
	if len(forms) == 0 {
		tb.Fatalf("recording %s has no segments at %s", name, moment)
	}
	return forms
}

func (f *recordedForm) reader() *Reader { return formReader(f.file, f.b, f.keys) }

// TestRecordedForms decodes the segment of each form, and compares what it holds of the form's rows with what SELECT
// JSON printed.
func TestRecordedForms(t *testing.T) {
	for _, name := range formRecordings {
		r := openRecording(t, name)
		text, err := r.Schema()
		if err != nil {
			t.Fatal(err)
		}
		parsed, err := schema.ParseCQL("schema.cql", text)
		if err != nil {
			t.Fatal(err)
		}
		var seen []string
		for _, f := range recordedForms(t, name, recording.FinalMoment) {
			seen = append(seen, f.form)
			t.Run(name+"/"+f.form, func(t *testing.T) {
				found := readForm(f.reader(), Limit{Final: true, Offset: f.index.Offset})
				if found.err != ErrFinished || found.bad > 0 {
					t.Fatalf("found %d entries, %d bad ones, then %v", len(found.payloads), found.bad, found.err)
				}
				if last := found.positions[len(found.positions)-1]; last > f.index.Offset || last < f.index.Offset-2*markerLen {
					t.Errorf("the last entry ends at %d, the index says %d", last, f.index.Offset)
				}
				compareRows(t, r, parsed.Catalog(), f.form, found)
			})
		}
		want := []string{"LZ4", "Snappy", "Deflate", "Zstd", "Noop", "encrypted"}
		if name == "forms-4.1" {
			want = slices.DeleteFunc(want, func(s string) bool { return s == "Noop" })
		}
		if !slices.Equal(seen, want) {
			t.Errorf("%s has segments of the forms %q, expected %q", name, seen, want)
		}
	}
}

// compareRows compares a form's mutations with its rows at the end.
func compareRows(t *testing.T, r *recording.Recording, catalog *schema.Catalog, form string, found read) {
	t.Helper()
	version := Version(r.SegmentVersion)
	decoder := NewDecoder(catalog, nil)
	tables := map[string]*tableCells{}
	updates := map[string]int{}
	for i, payload := range found.payloads {
		var m Mutation
		if err := decoder.Decode(version, payload, Position{1, found.positions[i]}, &m); err != nil && !errors.As(err, new(*UnknownTableError)) {
			t.Fatal(err)
		}
		for i := range m.Updates {
			u := &m.Updates[i]
			updates[u.Table.Name]++
			if u.Table.Name == "collections" {
				continue
			}
			if tables[u.Table.Name] == nil {
				tables[u.Table.Name] = &tableCells{table: u.Table, byKey: map[string]*rowCells{}, byForm: map[string]*rowCells{}}
			}
			tables[u.Table.Name].add(t, u)
		}
	}
	if want := map[string]int{"natives": 7, "collections": 2, "ranges": 62}; fmt.Sprint(updates) != fmt.Sprint(want) {
		t.Errorf("found updates %v, expected %v", updates, want)
	}
	for table, want := range map[string]int{"natives": 3, "ranges": 21} {
		lines, err := r.FinalRows("forms", table)
		if err != nil {
			t.Fatal(err)
		}
		cells, n := tables[table], 0
		for _, line := range lines {
			if !strings.Contains(line, fmt.Sprintf(`"form": "%s"`, form)) {
				continue
			}
			n++
			for i, text := range cells.columns(t, line) {
				if cells.table.Columns[i].Kind < schema.Static {
					continue // the row was found by it
				}
				if found := cells.text(t, line, i); found != string(text) {
					t.Errorf("%s: column %s is %s in the log: %s", table, cells.table.Columns[i].Name, found, line)
				}
			}
		}
		if n != want {
			t.Errorf("%s: %d rows were compared, expected %d", table, n, want)
		}
	}
}

// TestRecordedFormsFlipped flips bits of recorded segments.
func TestRecordedFormsFlipped(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	for _, name := range formRecordings {
		for _, f := range recordedForms(t, name, recording.FinalMoment) {
			limit := Limit{Final: true, Offset: f.index.Offset}
			good := readForm(f.reader(), limit)
			damaged := 0
			for range 400 {
				bit := rnd.IntN(len(f.b) * 8)
				b := bytes.Clone(f.b)
				b[bit/8] ^= 1 << (bit % 8)
				found := readForm(formReader(f.file, b, f.keys), limit)
				checkFlipped(t, good, found, bit)
				if found.err != ErrFinished || found.bad > 0 {
					damaged++
				}
			}
			if damaged < 390 {
				t.Errorf("%s, %s: of 400 flipped bits %d were damage", name, f.form, damaged)
			}
		}
	}
}

// TestRecordedFormsCut cuts recorded segments, as a write that was torn does: what is whole comes out, and how that ends
// depends on what the index says.
func TestRecordedFormsCut(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	for _, f := range slices.Concat(recordedForms(t, "forms-5.0", recording.FinalMoment), recordedForms(t, "forms-crash-5.0", "killed-LZ4")) {
		ends, logical := sectionEnds(t, f)
		good := readForm(f.reader(), Limit{Offset: NoOffset})
		cuts := slices.Clone(ends)
		for range 60 {
			cuts = append(cuts, ends[0]+rnd.IntN(len(f.b)-ends[0]))
		}
		for _, cut := range cuts {
			whole, _ := slices.BinarySearch(ends, cut+1)
			end := logical[whole-1]
			entries, _ := slices.BinarySearch(good.positions, end+1)
			for _, c := range []struct {
				limit   Limit
				damaged bool
				clean   error
			}{
				{Limit{Offset: NoOffset}, false, ErrMore},
				{Limit{Offset: end}, false, ErrMore},
				{Limit{Offset: f.index.Offset}, end < f.index.Offset, ErrMore},
				{Limit{Final: true, Offset: f.index.Offset}, end < f.index.Offset, ErrFinished},
				// Less than a marker is no room for a section.
				{Limit{Final: true}, cut-ends[whole-1] >= markerLen, ErrFinished},
			} {
				found := readForm(formReader(f.file, f.b[:cut], f.keys), c.limit)
				_, damaged := found.err.(*DamagedError)
				if len(found.payloads) != entries || damaged != c.damaged || !damaged && found.err != c.clean {
					t.Fatalf("%s %s cut at %d, %+v: found %d entries, then %v; expected %d, damage: %v", f.file, f.form, cut, c.limit,
						len(found.payloads), found.err, entries, c.damaged)
				}
			}
		}
	}
}

// sectionEnds are the file and the logical offsets at which the sections of a segment end, the header first.
func sectionEnds(t *testing.T, f recordedForm) (ends []int, logical []int64) {
	t.Helper()
	r := f.reader()
	d, err := r.Header()
	if err != nil {
		t.Fatal(err)
	}
	ends, logical = []int{d.Length}, []int64{int64(d.Length)}
	for {
		if err := r.nextSection(); err != nil {
			if err != ErrFinished {
				t.Fatal(err)
			}
			return ends, logical
		}
		r.in = false
		ends, logical = append(ends, int(r.off)), append(logical, r.logical)
	}
}

// TestTailFollowsForms reads whole directories of recorded segments.
func TestTailFollowsForms(t *testing.T) {
	for _, c := range []struct{ name, moment string }{
		{"forms-4.0", recording.FinalMoment}, {"forms-4.1", recording.FinalMoment}, {"forms-5.0", recording.FinalMoment},
		{"forms-crash-5.0", "killed-LZ4"}, {"forms-crash-5.0", "killed-encrypted"}, {"forms-crash-5.0", recording.FinalMoment},
	} {
		t.Run(c.name+"/"+c.moment, func(t *testing.T) {
			dir := t.TempDir()
			if err := openRecording(t, c.name).Unpack("node1", c.moment, dir); err != nil {
				t.Fatal(err)
			}
			want := 0
			var open int // segments whose index lacks COMPLETED
			for _, f := range recordedForms(t, c.name, c.moment) {
				want += len(readForm(f.reader(), Limit{Offset: NoOffset}).payloads)
				if !f.index.Completed {
					open++
				}
			}
			now := time.Now()
			tail, err := NewTail(TailConfig{Dir: dir, Keys: recordedKeys(t, c.name), Now: func() time.Time { return now }})
			if err != nil {
				t.Fatal(err)
			}
			defer tail.Close()
			entries := 0
			for {
				item, ok, err := tail.Poll()
				if err != nil || item.Err != nil {
					t.Fatalf("%v, %v", err, item.Err)
				}
				if !ok {
					break
				}
				if item.Kind == Entry {
					entries++
				}
			}
			if entries != want || tail.Stats().Waiting != open {
				t.Errorf("found %d entries and %d open segments, expected %d and %d", entries, tail.Stats().Waiting, want, open)
			}
		})
	}
}

// TestTailWantsTheKey: a segment whose key is missing or is another one is neither skipped nor damaged.
func TestTailWantsTheKey(t *testing.T) {
	dir := t.TempDir()
	if err := openRecording(t, "forms-5.0").Unpack("node1", recording.FinalMoment, dir); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		keys Keys
		want string
	}{
		{nil, "no keystore is configured"},
		{RawKeys{"other": testKey}, `no key "testing:1" among`},
		{RawKeys{"testing:1": testKey[:15]}, "a key of 15 bytes"},
		{RawKeys{"testing:1": testKey}, "does not decrypt"},
	} {
		tail, err := NewTail(TailConfig{Dir: dir, Keys: c.keys})
		if err != nil {
			t.Fatal(err)
		}
		var segments []int64
		for {
			item, ok, err := tail.Poll()
			if err != nil {
				for range 2 { // it says so again
					var missing *KeyError
					if !errors.As(err, &missing) || missing.Alias != "testing:1" || !strings.Contains(err.Error(), c.want) {
						t.Errorf("expected %q, found %v", c.want, err)
					}
					_, _, err = tail.Poll()
				}
				break
			}
			if !ok {
				t.Errorf("%q: the end of the directory", c.want)
				break
			}
			if item.Kind == SegmentEnd {
				segments = append(segments, item.Segment)
			}
		}
		if len(segments) != 5 {
			t.Errorf("%d segments were read before, expected 5", len(segments))
		}
		if err := tail.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestDamageIsNotTakenForAWrongKey: a section that its key does not decrypt is damaged if the key has decrypted another.
func TestDamageIsNotTakenForAWrongKey(t *testing.T) {
	f := &testForms[len(testForms)-1]
	b, positions := f.segment(1000, samplePayloads(2))
	b = b[:len(b)-markerLen-len(f.body(nil))] // without the empty section
	builder := newBuilder(Version40, 1000)
	start := len(builder.b)
	builder.entry([]byte("a payload with another key"))
	body := encryptedBody([]byte("another key, too"), builder.b[start:], 100)

	found := readForm(formReader("CommitLog-7-1000.log", appendSection(b, 1000, body), testKeys), Limit{Final: true})
	if !errors.As(found.err, new(*DamagedError)) || len(found.payloads) != len(positions) {
		t.Errorf("behind a section that was decrypted: found %d payloads, then %v", len(found.payloads), found.err)
	}
	first := appendSection(buildHeaderWith(Version40, 1000, f.params), 1000, body)
	found = readForm(formReader("CommitLog-7-1000.log", first, testKeys), Limit{Final: true})
	if !errors.As(found.err, new(*KeyError)) || len(found.payloads) != 0 {
		t.Errorf("at the start: found %d payloads, then %v", len(found.payloads), found.err)
	}
}
