package dedup

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"

	"cassdelta/commitlog"
	"cassdelta/internal/rawtopic"
	"cassdelta/schema"
)

// randomRow is any row that the encoding takes.
func randomRow(r *rand.Rand, columns int) *row {
	var x row
	x.reset()
	x.told = r.IntN(2) == 0
	x.presumed = x.told && r.IntN(2) == 0
	times := []int64{0, 1, -1, 1_700_000_000_000_000, 1_700_000_000_000_001, 1_700_000_000_999_999, math.MaxInt64, math.MinInt64 + 1}
	seconds := []int64{0, -5, 1_700_000_000, 1_700_000_100, commitlog.NoDeletionTime, commitlog.InvalidDeletionTime}
	at := func() int64 { return times[r.IntN(len(times))] }
	when := func() int64 { return seconds[r.IntN(len(seconds))] }
	for range columns {
		x.clustering = append(x.clustering, [][]byte{nil, {}, {1}, []byte("clustering")}[r.IntN(4)])
	}
	ttl := func() int32 { return []int32{1, 100, math.MaxInt32}[r.IntN(3)] }
	if r.IntN(2) == 0 {
		x.liveness.Timestamp = at()
		if r.IntN(2) == 0 {
			x.liveness.TTL, x.liveness.ExpiresAt, x.liveness.expired = ttl(), when(), r.IntN(2) == 0
		}
	}
	if r.IntN(3) == 0 {
		x.deletion = commitlog.Deletion{Timestamp: at(), LocalTime: when()}
		x.shadowable = r.IntN(2) == 0
	}
	for id := uint32(0); r.IntN(4) > 0; id++ {
		if id += uint32(r.IntN(3)); r.IntN(20) == 0 {
			id += uint32(r.IntN(1000))
		}
		c := cell{id: id, kind: cellKind(r.IntN(5)), timestamp: at(), local: commitlog.NoDeletionTime}
		switch c.kind {
		case cellTombstone:
			c.local = when()
		case cellForeseen:
			c.ttl, c.local = ttl(), when()
		case cellExpiring, cellExpired:
			if c.ttl, c.local = ttl(), when(); r.IntN(2) == 0 && x.liveness.TTL != 0 {
				c.ttl, c.local = x.liveness.TTL, x.liveness.ExpiresAt
			}
		}
		if c.alive() {
			c.value = [][]byte{{}, {0}, bytes.Repeat([]byte("v"), 200)}[r.IntN(3)]
		}
		if r.IntN(4) == 0 {
			c.path = [][]byte{{}, {1}, []byte("path")}[r.IntN(3)]
			for r.IntN(3) > 0 {
				x.cells = append(x.cells, c)
				c.timestamp = at()
			}
		}
		x.cells = append(x.cells, c)
	}
	if r.IntN(4) == 0 {
		for id := uint32(r.IntN(3)); r.IntN(3) > 0; id += 1 + uint32(r.IntN(40)) {
			x.elements = append(x.elements, elementsDeletion{id, commitlog.Deletion{Timestamp: at(), LocalTime: when()}})
		}
	}
	x.multi = x.multi || len(x.elements) > 0
	for _, c := range x.cells {
		x.multi = x.multi || c.path != nil
	}
	return &x
}

func TestRowEncoding(t *testing.T) {
	const seed = 7
	r := rand.New(rand.NewPCG(seed, 0))
	var decoded row
	for i := range 20_000 {
		columns := r.IntN(3)
		x := randomRow(r, columns)
		value := appendRow(nil, x)
		if err := decodeRow(value, columns, &decoded); err != nil {
			t.Fatalf("seed %d, row %d: %+v: %x: %v", seed, i, x, value, err)
		}
		if len(x.clustering) == 0 {
			x.clustering, decoded.clustering = nil, nil
		}
		if len(x.cells) == 0 {
			x.cells, decoded.cells = nil, nil
		}
		if len(x.elements) == 0 {
			x.elements, decoded.elements = nil, nil
		}
		// Rows without elements are what they were before there was format 2, and those that are not presumed to be gone before there was 3.
		format := byte(rowFormat)
		if x.multi {
			format = rowFormatElements
		}
		if x.presumed {
			format += rowFormatPresumed
		}
		if value[0] != format {
			t.Fatalf("seed %d, row %d: %+v has the format %d", seed, i, x, value[0])
		}
		if !reflect.DeepEqual(x, &decoded) {
			t.Fatalf("seed %d, row %d: encoded\n%+v\ndecoded\n%+v\n%x", seed, i, x, &decoded, value)
		}
	}
}

// TestRowSize holds the encoding to the sizes that make it worth its rules: the usual row is written by one INSERT.
func TestRowSize(t *testing.T) {
	var x row
	x.reset()
	x.liveness.Timestamp = 1_700_000_000_000_000
	for id := range uint32(3) {
		x.cells = append(x.cells, cell{id: id, timestamp: x.liveness.Timestamp, local: commitlog.NoDeletionTime, value: []byte("abcd")})
	}
	if n := len(appendRow(nil, &x)); n != 2+8+3*(1+1+4) {
		t.Errorf("a row of three cells has %d bytes", n)
	}
	x.liveness.TTL, x.liveness.ExpiresAt = 86400, 1_700_086_400
	for i := range x.cells {
		x.cells[i].kind, x.cells[i].ttl, x.cells[i].local = cellExpiring, 86400, 1_700_086_400
	}
	if n := len(appendRow(nil, &x)); n != 2+8+1+3+3*(1+1+4) {
		t.Errorf("a row of three cells with a TTL has %d bytes", n)
	}
}

// TestRowsOfFormat1: what was stored before there were elements, and before it was kept whether readers were told that a row is
// gone, is read as it was: nothing of it is to be told again.
func TestRowsOfFormat1(t *testing.T) {
	for _, c := range []struct{ value, want string }{
		{"0100", "{}"},
		// A liveness at 1000, a deletion at 990 by the clock's second 5, and of column 0 a cell, of column 3 a tombstone at 1001.
		{"0119d00f130a00017625020a", "{liveness 1000, deletion 990 5, 0: live 1000 76, 3: tombstone 1001 5}"},
		{"0148d00f0a", "{deletion 1000 5 shadowable}"},
	} {
		var r row
		if err := decodeRow(unhex(t, c.value), 0, &r); err != nil {
			t.Fatalf("%s: %v", c.value, err)
		}
		if !r.told {
			t.Errorf("%s is of a row of which something was not told", c.value)
		}
		if found := rowText(&r); found != c.want {
			t.Errorf("%s is %s, expected %s", c.value, found, c.want)
		}
		if again := appendRow(nil, &r); !bytes.Equal(again, unhex(t, c.value)) {
			t.Errorf("%s is written as %x", c.value, again)
		}
	}
}

func unhex(t *testing.T, digits string) []byte {
	t.Helper()
	b, err := hex.DecodeString(digits)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func rowText(r *row) string {
	var parts []string
	if r.liveness.alive() {
		parts = append(parts, fmt.Sprint("liveness ", r.liveness.Timestamp))
	}
	if !r.deletion.IsLive() {
		parts = append(parts, fmt.Sprint("deletion ", r.deletion.Timestamp, " ", r.deletion.LocalTime))
		if r.shadowable {
			parts[len(parts)-1] += " shadowable"
		}
	}
	for _, c := range r.cells {
		if c.alive() {
			parts = append(parts, fmt.Sprintf("%d: live %d %x", c.id, c.timestamp, c.value))
		} else {
			parts = append(parts, fmt.Sprintf("%d: tombstone %d %d", c.id, c.timestamp, c.local))
		}
	}
	return "{" + strings.Join(parts, ", ") + "}"
}

// FuzzDecodeRow: any bytes give a row or an error, and a row gives bytes that decode to it again.
func FuzzDecodeRow(f *testing.F) {
	r := rand.New(rand.NewPCG(1, 1))
	for range 50 {
		f.Add(appendRow(nil, randomRow(r, 1)), 1)
	}
	f.Add([]byte{1, 0}, 0)
	f.Fuzz(func(t *testing.T, value []byte, columns int) {
		var a, b row
		if columns < 0 || columns > 10 || decodeRow(value, columns, &a) != nil {
			return
		}
		again := appendRow(nil, &a)
		if err := decodeRow(again, columns, &b); err != nil {
			t.Fatalf("%x was decoded, and %x made of it was not: %v", value, again, err)
		}
		if third := appendRow(nil, &b); !bytes.Equal(again, third) {
			t.Fatalf("%x, decoded and encoded, is %x, and again %x", value, again, third)
		}
	})
}

// FuzzDecodeStored does the same with the other values of the state.
func FuzzDecodeStored(f *testing.F) {
	f.Add(appendHeader(nil, &header{deletion: commitlog.Deletion{Timestamp: 5, LocalTime: 6}, ranges: true}))
	f.Add(appendRange(nil, commitlog.Deletion{Timestamp: 5, LocalTime: 6}, []byte("start")))
	f.Add(appendInit(nil, &rawtopic.Init{Cluster: "c", Partitions: 3, Version: 1}))
	f.Add(appendAssembly(nil, &assembly{Assembly: rawtopic.Assembly{Count: 3, Next: 1}, bytes: 9}))
	f.Add(appendJoined(nil, &table{hashes: make([]schema.Hash, 2), columns: []column{{name: "a", kind: schema.Regular}}, headers: true}))
	f.Fuzz(func(t *testing.T, value []byte) {
		if h, err := decodeHeader(value); err == nil {
			if again, err := decodeHeader(appendHeader(nil, &h)); err != nil || again != h {
				t.Fatalf("header %+v became %+v, %v", h, again, err)
			}
		}
		if d, start, err := decodeRange(value); err == nil {
			if e, s, err := decodeRange(appendRange(nil, d, start)); err != nil || e != d || !bytes.Equal(s, start) {
				t.Fatalf("range %v %x became %v %x, %v", d, start, e, s, err)
			}
		}
		if i, err := decodeInit(value); err == nil {
			if again, err := decodeInit(appendInit(nil, &i)); err != nil || again != i {
				t.Fatalf("init %+v became %+v, %v", i, again, err)
			}
		}
		if a, err := decodeAssembly(value); err == nil {
			if again, err := decodeAssembly(appendAssembly(nil, &a)); err != nil || again != a {
				t.Fatalf("assembly %+v became %+v, %v", a, again, err)
			}
		}
		var j, again table
		if decodeJoined(value, &j) == nil {
			if err := decodeJoined(appendJoined(nil, &j), &again); err != nil || !reflect.DeepEqual(j, again) {
				t.Fatalf("joined schema %+v became %+v, %v", j, again, err)
			}
		}
		decodeWatermark(value)
	})
}

// TestMergeLaws: the merge is commutative, associative and idempotent, in any state of time.
func TestMergeLaws(t *testing.T) {
	const seed = 3
	r := rand.New(rand.NewPCG(seed, 0))
	elements := &table{columns: []column{{}, {}, {typ: mustType("map<int, int>")}, {typ: mustType("set<decimal>")}}}
	small := func() *row {
		var x row
		x.reset()
		at := func() int64 { return 10 + int64(r.IntN(4)) }
		if r.IntN(2) == 0 {
			x.liveness.Timestamp = at()
			if r.IntN(2) == 0 {
				x.liveness.TTL, x.liveness.ExpiresAt = int32(1+r.IntN(2)), 20+int64(r.IntN(2))
			}
		}
		if r.IntN(4) == 0 {
			x.deletion = commitlog.Deletion{Timestamp: at(), LocalTime: int64(r.IntN(2))}
		}
		for id := range uint32(2) {
			if r.IntN(3) == 0 {
				x.elements = append(x.elements, elementsDeletion{id + 2, commitlog.Deletion{Timestamp: at(), LocalTime: int64(r.IntN(2))}})
			}
		}
		for n, id := range []uint32{0, 1, 2, 2, 3, 3, 3} {
			c := cell{id: id, kind: cellKind(r.IntN(3)), timestamp: at(), local: commitlog.NoDeletionTime}
			switch c.kind {
			case cellTombstone:
				c.local = int64(r.IntN(2))
			case cellExpiring:
				c.ttl, c.local = int32(1+r.IntN(2)), 20+int64(r.IntN(2))
			}
			if c.alive() {
				c.value = []byte{byte(r.IntN(2))}
			}
			switch n {
			case 2, 3:
				c.path = intValue(n)
			case 4: // 0, 0.0 or 0.00
				c.path = append(intValue(r.IntN(3)), 0)
			case 5, 6:
				c.path = append(intValue(0), byte(n))
			}
			if r.IntN(3) > 0 {
				x.cells = append(x.cells, c)
			}
		}
		x.multi = true
		return &x
	}
	merge := func(a, b *row) *row {
		var m row
		m.merge(elements, a, b, commitlog.LiveDeletion, math.MinInt64)
		return &m
	}
	same := func(a, b *row) bool { return bytes.Equal(appendRow(nil, a), appendRow(nil, b)) }
	for i := range 20_000 {
		a, b, c := small(), small(), small()
		// What a row's own deletion covers is not in a row that was merged.
		var nothing row
		nothing.reset()
		a, b, c = merge(a, &nothing), merge(b, &nothing), merge(c, &nothing)
		if !same(merge(a, b), merge(b, a)) {
			t.Fatalf("seed %d, case %d: %+v and %+v merge to %+v, and in the other order to %+v", seed, i, a, b, merge(a, b), merge(b, a))
		}
		if !same(merge(merge(a, b), c), merge(a, merge(b, c))) {
			t.Fatalf("seed %d, case %d: the merge of %+v, %+v and %+v depends on what is merged first", seed, i, a, b, c)
		}
		if !same(merge(merge(a, b), b), merge(a, b)) {
			t.Fatalf("seed %d, case %d: %+v merged twice into %+v is not the same", seed, i, b, a)
		}
	}
}

// TestRowLostWithVoidDeletion: of what is lost, the time is that of the deletion that took it, not of one in the same record
// that is void.
func TestRowLostWithVoidDeletion(t *testing.T) {
	h := newHarness(t)
	table := mustTable(t, "t", "k int partition_key", "c int clustering", "v int regular")
	h.apply(initRecord())
	h.apply(schemaRecord(table))
	row := newRow(intValue(1))
	row.Liveness.Timestamp = 30
	rowBuilder{table, &row}.cell("v", 5, intValue(7))
	d := newData(table, intValue(1))
	d.Rows = []commitlog.Row{row}
	h.apply(dataRecord(d))
	h.take()

	row = newRow(intValue(1))
	row.Deletion, row.Shadowable = commitlog.Deletion{Timestamp: 20, LocalTime: 1}, true
	d = newData(table, intValue(1))
	d.Deletion = commitlog.Deletion{Timestamp: 10, LocalTime: 1}
	d.Rows = []commitlog.Row{row}
	h.apply(dataRecord(d))
	if events := h.take(); len(events) != 1 || events[0] != "u t k=1 c=1 {v:7} -> {} @10" {
		t.Errorf("found %q", events)
	}
}

func TestSecond(t *testing.T) {
	for timestamp, want := range map[int64]int64{0: 0, 999_999: 0, 1_000_000: 1, -1: -1, -1_000_000: -1, -1_000_001: -2} {
		if found := second(timestamp); found != want {
			t.Errorf("%d is in second %d, expected %d", timestamp, found, want)
		}
	}
}
