package rawtopic

import (
	"bytes"
	"math/rand/v2"
	"reflect"
	"testing"

	"cassdelta/commitlog"
)

func TestSplitAndPutTogether(t *testing.T) {
	g := generator{rand.New(rand.NewPCG(3, 3))}
	for range 300 {
		encoded := make([]byte, g.IntN(20000))
		for i := range encoded {
			encoded[i] = byte(g.Uint32())
		}
		max := 1000 + g.IntN(3000)
		origin := g.origin()
		parts := Split(encoded, origin, max)
		if len(encoded) <= max {
			if parts != nil {
				t.Fatalf("%d bytes of at most %d were cut into %d parts", len(encoded), max, len(parts))
			}
			continue
		}
		var a Assembly
		var whole []byte
		for i := range parts {
			value := Append(nil, &Record{Kind: KindPart, Part: &parts[i]})
			if len(value) > max {
				t.Fatalf("a part has %d bytes, at most %d were allowed", len(value), max)
			}
			var d Decoder
			var r Record
			if err := d.Decode(value, &r); err != nil {
				t.Fatal(err)
			}
			var step Step
			a, step = a.Add(r.Part)
			whole = append(whole, r.Part.Bytes...)
			want := StepAppend
			if i == 0 {
				want = StepBegin
			} else if i == len(parts)-1 {
				want = StepComplete
			}
			if step != want {
				t.Fatalf("part %d of %d: expected step %d, found %d", i, len(parts), want, step)
			}
		}
		if !bytes.Equal(whole, encoded) {
			t.Fatal("the parts together are not what was split")
		}
	}
}

// TestAssembly shows what each part does, in sequences that crashes of an agent can make. A part is written as
// origin, index, count.
func TestAssembly(t *testing.T) {
	type part struct {
		origin       byte
		index, count int32
	}
	const (
		begin, add, complete, repeat, stray = StepBegin, StepAppend, StepComplete, StepRepeat, StepStray
	)
	for _, c := range []struct {
		name  string
		parts []part
		want  []Step
	}{
		{"two records", []part{{'a', 0, 2}, {'a', 1, 2}, {'b', 0, 3}, {'b', 1, 3}, {'b', 2, 3}},
			[]Step{begin, complete, begin, add, complete}},
		{"the agent stopped after part 1 and sends all again", []part{{'a', 0, 3}, {'a', 1, 3}, {'a', 0, 3}, {'a', 1, 3}, {'a', 2, 3}},
			[]Step{begin, add, begin, add, complete}},
		{"and cuts them otherwise now", []part{{'a', 0, 3}, {'a', 1, 3}, {'a', 0, 2}, {'a', 1, 2}},
			[]Step{begin, add, begin, complete}},
		{"another record replaces an unfinished one", []part{{'a', 0, 3}, {'b', 0, 2}, {'a', 1, 3}, {'b', 1, 2}},
			[]Step{begin, begin, stray, complete}},
		{"a repeat of one part", []part{{'a', 0, 3}, {'a', 1, 3}, {'a', 1, 3}, {'a', 2, 3}, {'a', 2, 3}},
			[]Step{begin, add, repeat, complete, repeat}},
		{"a part is missing", []part{{'a', 0, 3}, {'a', 2, 3}, {'a', 1, 3}, {'a', 2, 3}},
			[]Step{begin, stray, add, complete}},
		{"the beginning is missing", []part{{'a', 1, 3}, {'a', 2, 3}},
			[]Step{stray, stray}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var a Assembly
			var got []Step
			for _, p := range c.parts {
				var step Step
				origin := Origin{Position: commitlog.Position{Segment: int64(p.origin)}}
				a, step = a.Add(&Part{Origin: origin, Index: p.index, Count: p.count})
				got = append(got, step)
			}
			if !reflect.DeepEqual(got, c.want) {
				t.Errorf("expected the steps %v, found %v", c.want, got)
			}
		})
	}
}
