package state

import (
	"bytes"
	"cmp"
	"math"
	"math/rand/v2"
	"testing"
)

// newRand returns a source with a printed seed.
func newRand(t testing.TB) *rand.Rand {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

// someBytes makes byte strings that are often equal, prefixes of each other, and full of the bytes that matter.
func someBytes(r *rand.Rand) []byte {
	b := []byte{}
	for r.IntN(3) > 0 {
		b = append(b, []byte{0, 0, 1, 2, 0xfe, 0xff, 0xff}[r.IntN(7)])
	}
	return b
}

func someInt(r *rand.Rand) int64 {
	return []int64{math.MinInt64, -256, -1, 0, 1, 255, 256, math.MaxInt64 - 1, math.MaxInt64}[r.IntN(9)]
}

func someID(r *rand.Rand) (id [16]byte) {
	for _, at := range []int{0, 1, 15} {
		id[at] = []byte{0, 1, 0xff}[r.IntN(3)]
	}
	if r.IntN(8) == 0 {
		for i := range id {
			id[i] = 0xff
		}
	}
	return id
}

func someKey(r *rand.Rand) Key {
	k := Key{Group: []uint16{0, 1, 255, 256, 0xfffe}[r.IntN(5)]}
	switch k.Space = Space(1 + r.IntN(int(SpaceRows))); k.Space {
	case SpaceMeta:
		k.Name = string(someBytes(r))
	case SpaceSchema:
		k.Hash = someID(r)
	case SpaceJoined:
		k.Table = someID(r)
	case SpacePart:
		k.Host, k.Index = someID(r), r.Uint32N(300)
	case SpaceTimer:
		k.Expiry = someInt(r)
		k.someRow(r)
	case SpaceRows:
		k.someRow(r)
	}
	return k
}

func (k *Key) someRow(r *rand.Rand) {
	k.Table, k.Token, k.Partition = someID(r), someInt(r), someBytes(r)
	k.Kind = Kind(r.IntN(4))
	k.Clustering = []byte{}
	if k.Kind >= KindRange {
		k.Clustering = someBytes(r)
	}
}

// build is the inverse of SplitKey.
func (k Key) build(dst []byte) []byte {
	switch k.Space {
	case SpaceMeta:
		return Meta(dst, k.Group, k.Name)
	case SpaceSchema:
		return Schema(dst, k.Group, k.Hash)
	case SpaceJoined:
		return Joined(dst, k.Group, k.Table)
	case SpacePart:
		return Part(dst, k.Group, k.Host, k.Index)
	case SpaceTimer:
		row := k
		row.Space = SpaceRows
		return Timer(dst, k.Group, k.Expiry, row.build(nil))
	}
	switch k.Kind {
	case KindHeader:
		return Header(dst, k.Group, k.Table, k.Token, k.Partition)
	case KindStatic:
		return Static(dst, k.Group, k.Table, k.Token, k.Partition)
	case KindRange:
		return Range(dst, k.Group, k.Table, k.Token, k.Partition, k.Clustering)
	}
	return Row(dst, k.Group, k.Table, k.Token, k.Partition, k.Clustering)
}

// compare orders keys as tuples. What a space does not have is zero on both sides.
func (k Key) compare(l Key) int {
	return cmp.Or(
		cmp.Compare(k.Group, l.Group),
		cmp.Compare(k.Space, l.Space),
		cmp.Compare(k.Name, l.Name),
		bytes.Compare(k.Hash[:], l.Hash[:]),
		bytes.Compare(k.Host[:], l.Host[:]),
		cmp.Compare(k.Index, l.Index),
		cmp.Compare(k.Expiry, l.Expiry),
		bytes.Compare(k.Table[:], l.Table[:]),
		cmp.Compare(k.Token, l.Token),
		bytes.Compare(k.Partition, l.Partition),
		cmp.Compare(k.Kind, l.Kind),
		bytes.Compare(k.Clustering, l.Clustering),
	)
}

func TestKeysSortAsTheirParts(t *testing.T) {
	r := newRand(t)
	for range 200_000 {
		k, l := someKey(r), someKey(r)
		if r.IntN(2) == 0 { // the same but for the last parts
			l = k
			if l.Space >= SpaceTimer {
				l.Partition, l.Clustering = someBytes(r), someBytes(r)
				if l.Kind < KindRange {
					l.Clustering = nil
				}
			}
		}
		a, b := k.build(nil), l.build(nil)
		if got, want := bytes.Compare(a, b), k.compare(l); got != want {
			t.Fatalf("%v (%x) and %v (%x): keys compare as %d, their parts as %d", k, a, l, b, got, want)
		}
	}
}

func TestSplitKeyIsTheInverse(t *testing.T) {
	r := newRand(t)
	for range 50_000 {
		k := someKey(r)
		key := k.build([]byte("before"))[len("before"):]
		got, err := SplitKey(key)
		if err != nil {
			t.Fatal(err)
		}
		if got.compare(k) != 0 || got.String() != k.String() {
			t.Fatalf("built from %v, split into %v", k, got)
		}
		kind, ok := KindOf(key)
		if ok != (k.Space == SpaceRows) || ok && kind != k.Kind {
			t.Fatalf("%v: kind %d, %v", k, kind, ok)
		}
		if !bytes.Equal(Clustering(key), k.Clustering) && ok {
			t.Fatalf("%v: clustering %x", k, Clustering(key))
		}
		if row, expiry, ok := TimerRow(nil, key); ok != (k.Space == SpaceTimer) {
			t.Fatalf("%v: is a timer: %v", k, ok)
		} else if ok {
			of := k
			of.Space, of.Expiry = SpaceRows, 0
			if !bytes.Equal(row, of.build(nil)) || expiry != k.Expiry {
				t.Fatalf("%v: fires for %x at %d", k, row, expiry)
			}
		}
	}
}

// A span holds a key if and only if the key has the parts that the span is named after.
func TestSpans(t *testing.T) {
	r := newRand(t)
	within := 0
	for range 200_000 {
		k, of := someKey(r), someKey(r)
		if r.IntN(4) > 0 {
			of.Group, of.Table, of.Host, of.Space = k.Group, k.Table, k.Host, k.Space
			if r.IntN(2) == 0 {
				of.Token, of.Partition = k.Token, k.Partition
			}
		}
		inTable := k.Space == SpaceRows && k.Group == of.Group && k.Table == of.Table
		inPartition := inTable && k.Token == of.Token && bytes.Equal(k.Partition, of.Partition)
		key := k.build(nil)
		check := func(name string, from, to []byte, want bool) {
			t.Helper()
			got := bytes.Compare(from, key) <= 0 && bytes.Compare(key, to) < 0
			if got != want {
				t.Fatalf("the span %s of %v, from %x to %x, holds %v (%x): %v", name, of, from, to, k, key, got)
			}
			if got {
				within++
			}
		}
		a, b := PartitionSpan(nil, nil, of.Group, of.Table, of.Token, of.Partition)
		check("partition", a, b, inPartition)
		a, b = RowsSpan(a[:0], b[:0], of.Group, of.Table, of.Token, of.Partition)
		check("rows", a, b, inPartition && k.Kind == KindRow)
		a, b = RangesSpan(a[:0], b[:0], of.Group, of.Table, of.Token, of.Partition)
		check("ranges", a, b, inPartition && k.Kind == KindRange)
		a, b = TableSpan(a[:0], b[:0], of.Group, of.Table)
		check("table", a, b, inTable)
		a, b = TimersSpan(a[:0], b[:0], of.Group, of.Expiry)
		check("timers", a, b, k.Space == SpaceTimer && k.Group == of.Group && k.Expiry <= of.Expiry)
		a, b = PartsSpan(a[:0], b[:0], of.Group, of.Host)
		check("parts", a, b, k.Space == SpacePart && k.Group == of.Group && k.Host == of.Host)
		a, b = SpaceSpan(a[:0], b[:0], of.Group, of.Space)
		check("space", a, b, k.Space == of.Space && k.Group == of.Group)
	}
	if within < 10_000 {
		t.Fatalf("only %d keys were within a span: the test tests little", within)
	}
}

func TestSpansAppend(t *testing.T) {
	from, to := RowsSpan([]byte("a"), []byte("bc"), 1, [16]byte{}, 0, nil)
	wantFrom, wantTo := RowsSpan(nil, nil, 1, [16]byte{}, 0, nil)
	if string(from) != "a"+string(wantFrom) || string(to) != "bc"+string(wantTo) {
		t.Fatalf("%x, %x", from, to)
	}
	_, to = TimersSpan(nil, []byte{0xff, 0xff}, 0xfffe, math.MaxInt64)
	if want := []byte{0xff, 0xff, 0xff, 0xfe, byte(SpaceTimer) + 1}; !bytes.Equal(to, want) {
		t.Fatalf("%x", to)
	}
}

func TestKeysDoNotAllocate(t *testing.T) {
	from, to := make([]byte, 0, 200), make([]byte, 0, 200)
	partition, clustering := make([]byte, 30), make([]byte, 30)
	var table [16]byte
	if n := testing.AllocsPerRun(100, func() {
		from, to = RowsSpan(from[:0], to[:0], 1, table, 5, partition)
		from = Row(from[:0], 1, table, 5, partition, clustering)
		to = Timer(to[:0], 1, 99, from)
		from, _, _ = TimerRow(from[:0], to)
		from = Meta(from[:0], 1, "name")
	}); n != 0 {
		t.Fatalf("%v allocations", n)
	}
}

func FuzzSplitKey(f *testing.F) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 50 {
		f.Add(someKey(r).build(nil))
	}
	f.Fuzz(func(t *testing.T, key []byte) {
		KindOf(key)
		Clustering(key)
		TimerRow(nil, key)
		k, err := SplitKey(key)
		if err != nil {
			return
		}
		if again := k.build(nil); !bytes.Equal(again, key) {
			t.Fatalf("%x is split into %v, which is the key %x", key, k, again)
		}
	})
}
