package commitlog_test

import (
	"testing"

	"cassdelta/bench"
	"cassdelta/commitlog"
	"cassdelta/schema"
)

// benchSegment is the id of the segments here.
const benchSegment = 1700000000001

// form is a form of a segment.
type form string

const (
	plain form = bench.Plain
	lz4   form = "lz4"
)

// forms are all forms of a segment.
func forms() []form {
	all := []form{plain}
	for _, f := range bench.Forms {
		all = append(all, form(f))
	}
	return all
}

// makeSegment makes a segment; n is the number of its mutations.
func makeSegment(tb testing.TB, f form, size int, m *bench.Mutations) (segment []byte, n int) {
	tb.Helper()
	segment, n = bench.Segment(benchSegment, size, m)
	segment, err := bench.Form(segment, string(f))
	if err != nil {
		tb.Fatal(err)
	}
	return segment, n
}

func newReader(segment []byte) *commitlog.Reader {
	r := commitlog.NewBytesReader(commitlog.SegmentName(bench.Version, benchSegment), segment)
	r.SetKeys(bench.Keys)
	return r
}

// newDecoder makes a decoder for the table of the benchmarks.
func newDecoder(tb testing.TB, wanted bool) *commitlog.Decoder {
	tb.Helper()
	parsed, err := schema.ParseCQL("bench", bench.Schema())
	if err != nil {
		tb.Fatal(err)
	}
	return commitlog.NewDecoder(parsed.Catalog(), func(*schema.Table) bool { return wanted })
}

// scan reads the next n mutations, all if n is negative, and decodes them if d is not nil. It returns their number, and
// something that depends on every cell.
func scan(tb testing.TB, r *commitlog.Reader, d *commitlog.Decoder, m *commitlog.Mutation, n int) (mutations int, sum uint64) {
	for mutations != n {
		payload, pos, err := r.Next()
		if err == commitlog.ErrFinished {
			break
		}
		if err == nil && d != nil {
			err = d.Decode(bench.Version, payload, pos, m)
		}
		if err != nil {
			tb.Fatal(err)
		}
		mutations++
		sum += touch(m)
	}
	return mutations, sum
}

// touch looks at every cell of a mutation.
func touch(m *commitlog.Mutation) (sum uint64) {
	for i := range m.Updates {
		u := &m.Updates[i]
		for j := range u.Unfiltereds {
			row := u.Unfiltereds[j].Row
			if row == nil {
				continue
			}
			for k := range row.Cells {
				c := &row.Cells[k]
				sum += uint64(c.Timestamp) + uint64(len(c.Value))
				if len(c.Value) > 0 {
					sum += uint64(c.Value[0])
				}
			}
		}
	}
	return sum
}

// benchmarkScan reads a segment of 32 MiB again and again.
func benchmarkScan(b *testing.B, f form, mutations *bench.Mutations, d *commitlog.Decoder) {
	segment, n := makeSegment(b, f, bench.SegmentSize, mutations)
	var m commitlog.Mutation
	b.SetBytes(bench.SegmentSize)
	b.ReportAllocs()
	for b.Loop() {
		if found, _ := scan(b, newReader(segment), d, &m, -1); found != n {
			b.Fatalf("expected %d mutations, found %d", n, found)
		}
	}
	b.ReportMetric(float64(n)*float64(b.N)/b.Elapsed().Seconds(), "mutations/s")
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/mutation")
}

// BenchmarkRead decodes every mutation and looks at every cell.
func BenchmarkRead(b *testing.B) {
	for _, f := range []form{plain, lz4} {
		b.Run("inserts/"+string(f), func(b *testing.B) { benchmarkScan(b, f, bench.Inserts(1e6), newDecoder(b, true)) })
		b.Run("updates/"+string(f), func(b *testing.B) { benchmarkScan(b, f, bench.Updates(1e6), newDecoder(b, true)) })
	}
}

// BenchmarkUnwanted reads mutations of a table that is not wanted: their checksums are checked.
func BenchmarkUnwanted(b *testing.B) {
	benchmarkScan(b, plain, bench.Inserts(1e6), newDecoder(b, false))
}

// BenchmarkEntries reads entries and decodes none.
func BenchmarkEntries(b *testing.B) { benchmarkScan(b, plain, bench.Inserts(1e6), nil) }

// BenchmarkMarkers passes over a segment that was read before: header and sync markers.
func BenchmarkMarkers(b *testing.B) {
	segment, _ := makeSegment(b, plain, bench.SegmentSize, bench.Inserts(1e6))
	b.ReportAllocs()
	for b.Loop() {
		r := newReader(segment)
		r.SkipTo(bench.SegmentSize)
		if _, _, err := r.Next(); err != commitlog.ErrFinished {
			b.Fatal(err)
		}
	}
}

// BenchmarkNewDecoder decodes one mutation by a new decoder, as after a change of the schema.
func BenchmarkNewDecoder(b *testing.B) {
	payload := bench.Inserts(1).Append(nil)
	parsed, err := schema.ParseCQL("bench", bench.Schema())
	if err != nil {
		b.Fatal(err)
	}
	catalog := parsed.Catalog()
	b.ReportAllocs()
	for b.Loop() {
		var m commitlog.Mutation
		if err := commitlog.NewDecoder(catalog, nil).Decode(bench.Version, payload, commitlog.Position{}, &m); err != nil {
			b.Fatal(err)
		}
	}
}
