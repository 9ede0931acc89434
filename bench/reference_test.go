package bench

import (
	"os"
	"testing"
)

// reference is a workload of which the sums are known, of a program that shares nothing with this one.
type reference struct {
	name              string
	mutations         func() *Mutations
	n                 int
	delay             Delay
	bytes             int // of the copies; 0 is not known
	copies, eventsSum uint64
}

// TestReference compares copies and events with the known sums. The large ones take minutes: CASSDELTA_BENCH_SUMS=1 runs them.
func TestReference(t *testing.T) {
	all := []reference{
		{"pre-1000", func() *Mutations { return Inserts(1000) }, 1000, InsertDelay, 0, 0x3ab87144b4dfac75, 0x2571a21fb1cf5df7},
		{"zipf-1000", func() *Mutations { return Zipf(1000) }, 3000, ZipfDelay, 0, 0xc21c938040378eaf, 0x4915cdce2fdaca1a},
	}
	if os.Getenv("CASSDELTA_BENCH_SUMS") != "" {
		const m1, m5 = 1_000_000, 5_000_000
		all = append(all,
			reference{"raw-1m-pre", func() *Mutations { return Inserts(m1) }, m1, InsertDelay, 516000000, 0x34dd019bc315d1d6, 0x051981e4e8a351c5},
			reference{"raw-1m-uni", func() *Mutations { return Updates(m1) }, 2 * m1, UpdateDelay, 410353530, 0x4efa6f5412edd51b, 0xce5219819ef7db52},
			reference{"raw-5m-pre", func() *Mutations { return Inserts(m5) }, m5, InsertDelay, 2580000000, 0xb2b665c99a95b676, 0x2c4336488c01a72a},
			reference{"raw-5m-uni", func() *Mutations { return Updates(m5) }, 2 * m1, UpdateDelay, 410353530, 0x5bf7b21b45d84b3e, 0x193c39df1e870c25},
			reference{"raw-5m-zipf", func() *Mutations { return Zipf(m5) }, 2 * m1, ZipfDelay, 410117172, 0xf1c5baf6306c1be5, 0x7bfb58c03856a04d},
			reference{"raw-1m-zipf", func() *Mutations { return Zipf(m1) }, 2 * m1, ZipfDelay, 410117172, 0xd95d67041da3c4bc, 0xddd1af5dc74efcbf},
		)
	}
	for _, r := range all {
		t.Run(r.name, func(t *testing.T) {
			var copies, events Sum
			var form []byte
			err := Copies(r.mutations(), r.n, r.delay, func(m *Mutation, replica int) error {
				form = AppendCopy(form[:0], m, replica)
				copies.Add(form)
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			if copies.N != Replicas*r.n || r.bytes != 0 && copies.Bytes != r.bytes || copies.Sum != r.copies {
				t.Errorf("copies: expected %d, %d bytes, sum %016x, found %+v, sum %016x", Replicas*r.n, r.bytes, r.copies, copies, copies.Sum)
			}
			err = Events(r.mutations(), r.n, func(e *Event) error {
				form = AppendEvent(form[:0], e)
				events.Add(form)
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			if events.N != r.n || events.Sum != r.eventsSum {
				t.Errorf("events: expected %d, sum %016x, found %+v, sum %016x", r.n, r.eventsSum, events, events.Sum)
			}
		})
	}
}
