package commitlog_test

import (
	"fmt"
	"testing"

	"cassdelta/bench"
	"cassdelta/commitlog"
	"cassdelta/schema"
)

const benchSegment = 1700000000001

// benchCatalog is the catalog of the benchmarks' table.
func benchCatalog(tb testing.TB) *schema.Catalog {
	tb.Helper()
	parsed, err := schema.ParseCQL("bench", bench.Schema())
	if err != nil {
		tb.Fatal(err)
	}
	return parsed.Catalog()
}

// touched is what a reader that looks at every cell finds.
type touched struct {
	mutations, cells int
	sum              uint64
}

func (t *touched) add(m *commitlog.Mutation) {
	t.mutations++
	for i := range m.Updates {
		u := &m.Updates[i]
		for j := range u.Unfiltereds {
			row := u.Unfiltereds[j].Row
			if row == nil {
				continue
			}
			for k := range row.Cells {
				c := &row.Cells[k]
				t.cells++
				t.sum += uint64(c.Timestamp) + uint64(len(c.Value)) + uint64(c.Value[0])
			}
		}
	}
}

// readSegment reads a segment to its end, and decodes its mutations unless d is nil.
func readSegment(tb testing.TB, r *commitlog.Reader, d *commitlog.Decoder, m *commitlog.Mutation, use func(*commitlog.Mutation)) {
	for {
		payload, pos, err := r.Next()
		if err == commitlog.ErrFinished {
			return
		}
		if err == nil && d != nil {
			err = d.Decode(bench.Version, payload, pos, m)
		}
		if err != nil {
			tb.Fatal(err)
		}
		if use != nil {
			use(m)
		}
	}
}

func perMutation(b *testing.B, mutations int) {
	b.ReportMetric(float64(mutations)*float64(b.N)/b.Elapsed().Seconds(), "mutations/s")
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(mutations), "ns/mutation")
}

// BenchmarkRead reads a segment, decodes every mutation and looks at every cell.
func BenchmarkRead(b *testing.B) {
	catalog := benchCatalog(b)
	for name, mutations := range map[string]*bench.Mutations{"inserts": bench.Inserts(1e6), "updates": bench.Updates(1e6)} {
		b.Run(name, func(b *testing.B) {
			segment, n := bench.Segment(benchSegment, bench.SegmentSize, mutations)
			d := commitlog.NewDecoder(catalog, nil)
			var m commitlog.Mutation
			b.SetBytes(int64(len(segment)))
			b.ReportAllocs()
			for b.Loop() {
				var t touched
				readSegment(b, commitlog.NewBytesReader(commitlog.SegmentName(bench.Version, benchSegment), segment), d, &m, t.add)
				if t.mutations != n {
					b.Fatal(fmt.Errorf("expected %d mutations, found %d", n, t.mutations))
				}
			}
			perMutation(b, n)
		})
	}
}
