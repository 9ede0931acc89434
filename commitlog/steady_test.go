package commitlog_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"cassdelta/bench"
	"cassdelta/commitlog"
	"cassdelta/internal/recording"
	"cassdelta/schema"
)

// TestSteadyStateAllocatesNothing reads a segment of a file piece by piece. Each piece is more than is read ahead, and there
// are several sections, so the reader's own work is in it.
func TestSteadyStateAllocatesNothing(t *testing.T) {
	const pieces = 10
	for name, mutations := range map[string]*bench.Mutations{"inserts": bench.Inserts(1000), "updates": bench.Updates(1000)} {
		for _, f := range forms() {
			t.Run(name+"/"+string(f), func(t *testing.T) {
				segment, n := makeSegment(t, f, 6<<20, mutations)
				path := filepath.Join(t.TempDir(), commitlog.SegmentName(bench.Version, benchSegment))
				if err := os.WriteFile(path, segment, 0o600); err != nil {
					t.Fatal(err)
				}
				file, err := os.Open(path)
				if err != nil {
					t.Fatal(err)
				}
				defer file.Close()
				r := commitlog.NewReader(path, file, int64(len(segment)))
				r.SetKeys(bench.Keys)
				d := newDecoder(t, true)
				var m commitlog.Mutation
				warm, _ := scan(t, r, d, &m, n/(pieces+2)) // AllocsPerRun has a first run of its own
				allocs := testing.AllocsPerRun(pieces, func() {
					if found, sum := scan(t, r, d, &m, warm); found != warm || sum == 0 {
						t.Fatalf("found %d mutations of %d, sum %d", found, warm, sum)
					}
				})
				if allocs != 0 {
					t.Errorf("%d mutations took %.0f allocations", warm, allocs)
				}
			})
		}
	}
}

// TestDecoderAllocatesNothing decodes recorded mutations twice, of all types and kinds of writes. What the second time takes
// is taken for each mutation.
func TestDecoderAllocatesNothing(t *testing.T) {
	for _, name := range []string{"types-4.0", "types-5.0-v8", "demo"} {
		t.Run(name, func(t *testing.T) {
			recorded, err := recording.Open(os.DirFS(filepath.Join("..", "testdata", "recordings", name)))
			if err != nil {
				t.Fatal(err)
			}
			text, err := recorded.Schema()
			if err != nil {
				t.Fatal(err)
			}
			parsed, err := schema.ParseCQL("schema.cql", text)
			if err != nil {
				t.Fatal(err)
			}
			d := commitlog.NewDecoder(parsed.Catalog(), nil)
			version, payloads := recordedPayloads(t, recorded, d)
			if len(payloads) < 50 {
				t.Fatalf("found %d mutations", len(payloads))
			}
			var m commitlog.Mutation
			allocs := testing.AllocsPerRun(1, func() {
				for _, payload := range payloads {
					if err := d.Decode(version, payload, commitlog.Position{}, &m); err != nil {
						t.Fatal(err)
					}
				}
			})
			if allocs != 0 {
				t.Errorf("%d mutations took %.0f allocations", len(payloads), allocs)
			}
		})
	}
}

// recordedPayloads are the mutations of a recording's first node that d can decode: not those of system tables.
func recordedPayloads(t *testing.T, r *recording.Recording, d *commitlog.Decoder) (v commitlog.Version, payloads [][]byte) {
	t.Helper()
	dir := t.TempDir()
	if err := r.Unpack(r.Nodes[0].Name, recording.FinalMoment, dir); err != nil {
		t.Fatal(err)
	}
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, ".log") {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		v, _, _ = commitlog.ParseSegmentName(e.Name())
		reader := commitlog.NewBytesReader(path, b)
		for {
			payload, pos, err := reader.Next()
			if err != nil {
				return nil
			}
			var m commitlog.Mutation
			if d.Decode(v, payload, pos, &m) == nil {
				payloads = append(payloads, payload)
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return v, payloads
}

// TestMemoryDoesNotGrowWithTheDirectory follows a directory of many segments. What it takes for a segment is far less than
// the segment, and does not depend on the number of mutations. (bench/commitlog.sh looks at the resident set of a process
// that follows a gibibyte.)
func TestMemoryDoesNotGrowWithTheDirectory(t *testing.T) {
	const segments, size = 12, 1 << 20
	for _, f := range []form{plain, lz4} {
		t.Run(string(f), func(t *testing.T) {
			dir := t.TempDir()
			mutations := bench.Inserts(1000)
			written := 0
			for id := range int64(segments) {
				segment, n := bench.Segment(id+1, size, mutations)
				segment, err := bench.Form(segment, string(f))
				if err != nil {
					t.Fatal(err)
				}
				written += n
				if err := os.WriteFile(filepath.Join(dir, commitlog.SegmentName(bench.Version, id+1)), segment, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			tail, err := commitlog.NewTail(commitlog.TailConfig{Dir: dir, Static: true})
			if err != nil {
				t.Fatal(err)
			}
			defer tail.Close()
			d := newDecoder(t, true)
			var m commitlog.Mutation
			var first, last runtime.MemStats
			found, ends := 0, 0
			for {
				item, ok, err := tail.Poll()
				if err != nil {
					t.Fatal(err)
				}
				if !ok {
					break
				}
				switch item.Kind {
				case commitlog.Entry:
					if err := d.Decode(item.Version, item.Payload, item.Position, &m); err != nil {
						t.Fatal(err)
					}
					found++
				case commitlog.SegmentEnd:
					if ends++; ends == 1 {
						runtime.ReadMemStats(&first)
					}
				default:
					t.Fatalf("found item %+v", item)
				}
			}
			runtime.ReadMemStats(&last)
			if found != written || ends != segments {
				t.Fatalf("found %d mutations of %d, %d segments of %d", found, written, ends, segments)
			}
			bytes := (last.TotalAlloc - first.TotalAlloc) / (segments - 1)
			objects := (last.Mallocs - first.Mallocs) / (segments - 1)
			t.Logf("a segment of %d bytes with %d mutations takes %d bytes in %d objects", size, written/segments, bytes, objects)
			if bytes > 64<<10 || objects > 500 {
				t.Errorf("a segment takes %d bytes in %d objects", bytes, objects)
			}
		})
	}
}
