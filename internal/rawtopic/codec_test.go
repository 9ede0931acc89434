package rawtopic

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"time"

	"cassdelta/commitlog"
	"cassdelta/schema"
)

// TestAgainstGoavro reads with goavro what we write, and the other way round, on random records of all kinds.
func TestAgainstGoavro(t *testing.T) {
	codec := newCodec(t)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	g := generator{rand.New(rand.NewPCG(seed, 0))}
	var decoder Decoder
	for i := range 5000 {
		want := g.record()
		ours := Append(nil, want)

		read, rest, err := codec.NativeFromSingle(ours)
		if err != nil || len(rest) != 0 {
			t.Fatalf("record %d: goavro does not read it: %v, %d bytes left\n%x", i, err, len(rest), ours)
		}
		if !reflect.DeepEqual(read, native(want)) {
			t.Fatalf("record %d: goavro reads\n%v\nexpected\n%v", i, read, native(want))
		}

		theirs, err := codec.SingleFromNative(nil, native(want))
		if err != nil {
			t.Fatalf("record %d: goavro does not write it: %v", i, err)
		}
		var got Record
		if err := decoder.Decode(theirs, &got); err != nil {
			t.Fatalf("record %d: we do not read what goavro writes: %v\n%x", i, err, theirs)
		}
		if !reflect.DeepEqual(native(&got), native(want)) {
			t.Fatalf("record %d: we read\n%v\nexpected\n%v", i, native(&got), native(want))
		}
	}
}

// TestNullsKeepTheirMeaning spells out what the nulls of the format stand for.
func TestNullsKeepTheirMeaning(t *testing.T) {
	in := Record{Kind: KindData, Data: &Data{
		Deletion: commitlog.LiveDeletion,
		Rows: []commitlog.Row{{
			Clustering: [][]byte{nil, {}, {7}},
			Liveness:   commitlog.Liveness{Timestamp: commitlog.NoTimestamp, ExpiresAt: commitlog.NoDeletionTime},
			Deletion:   commitlog.LiveDeletion,
			Cells: []commitlog.Cell{
				{Column: 1, Timestamp: 5, LocalTime: commitlog.NoDeletionTime, Value: []byte{}},
				{Column: 2, Timestamp: 5, LocalTime: 99, Deleted: true},
				{Column: 3, Path: []byte{}, Timestamp: 5, TTL: 10, LocalTime: 99, Value: []byte{1}},
			},
		}},
	}}
	var decoder Decoder
	var out Record
	if err := decoder.Decode(Append(nil, &in), &out); err != nil {
		t.Fatal(err)
	}
	if out.Data.Static != nil {
		t.Error("a static row appeared")
	}
	if out.Data.Deletion != commitlog.LiveDeletion {
		t.Errorf("no deletion became %v", out.Data.Deletion)
	}
	row := out.Data.Rows[0]
	if row.Liveness != in.Data.Rows[0].Liveness || row.Deletion != commitlog.LiveDeletion {
		t.Errorf("no liveness and no deletion became %v and %v", row.Liveness, row.Deletion)
	}
	if !reflect.DeepEqual(row.Clustering, in.Data.Rows[0].Clustering) {
		t.Errorf("null, empty and 07 became %#v", row.Clustering)
	}
	if !reflect.DeepEqual(row.Cells, in.Data.Rows[0].Cells) {
		t.Errorf("cells became %+v", row.Cells)
	}
}

// TestDecodeRefuses lists what is no raw record, and what is said of it.
func TestDecodeRefuses(t *testing.T) {
	tick := Append(nil, &Record{Kind: KindTick, Tick: &Tick{Watermark: 1}})
	header := tick[:headerLen]
	with := func(b ...byte) []byte { return append(bytes.Clone(header), b...) }
	data := with(0)
	data = append(data, make([]byte, 16)...) // host
	data = append(data, 0, 0, 0)             // segment, offset, update
	data = append(data, make([]byte, 16)...) // schema
	upTo := func(b ...byte) []byte { return append(bytes.Clone(data), b...) }
	for _, c := range []struct {
		name  string
		value []byte
		want  string
	}{
		{"nothing", nil, "expected the header c301 and the fingerprint"},
		{"another format", []byte(`{"op":"c"}`), "found 7b226f70223a2263227d"},
		{"another schema", append([]byte{0xc3, 0x01, 1, 2, 3, 4, 5, 6, 7, 8}, tick[headerLen:]...), "found c3010102030405060708"},
		{"header alone", with(), "byte 10, kind: expected a number, found the end"},
		{"unknown branch", with(24), "byte 10, kind: expected a branch from 0 to 11, found 12"},
		{"negative branch", with(1), "byte 10, kind: expected a branch from 0 to 11, found -1"},
		{"trailing byte", append(bytes.Clone(tick), 0), "byte 12, end: expected the end, found 1 bytes more"},
		{"number too long", with(8, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1), "Tick.watermark: expected a number of at most 64 bits"},
		{"cut id", with(20, 1, 2), "AgentJoined.host: expected 16 bytes, found 2"},
		{"key longer than the value", upTo(0x80, 0x80, 0x80, 0x80, 0x10), "Data.key: expected at most the 0 bytes left, found a length of 2147483648"},
		{"key of negative length", upTo(1), "Data.key: expected at most the 0 bytes left, found a length of -1"},
		{"union of null with branch 2", upTo(0, 4), "Data.deletion: expected branch 0 (null) or 1, found 2"},
		{"more rows than bytes", upTo(0, 0, 0, 0x80, 0x80, 0x80, 0x80, 0x10, 0, 0, 0), "Data.rows: expected at most 0 items, as many as fit before the end, found 2147483648"},
		{"most negative count", upTo(0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 0), "Data.rows: expected at most 0 items"},
		{"boolean 2", upTo(0, 0, 0, 2 /* a row: */, 0, 0, 0, 2, 0, 0, 0), "Row.shadowable: expected 0 or 1, found 2"},
		{"negative column", upTo(0, 0, 0, 2, 0, 0, 0, 0, 2 /* a cell: */, 1, 0, 0, 0, 0, 0, 0, 0, 0), "Cell.column: expected the index of a column, found -1"},
		{"ttl beyond 32 bits", upTo(0, 0, 0, 2, 0, 0, 0, 0, 2, 0, 0, 0, 0x80, 0x80, 0x80, 0x80, 0x20, 0, 0, 0, 0), "Cell.ttl: expected a number of at most 32 bits, found 4294967296"},
		{"part 2 of 2", Append(nil, &Record{Kind: KindPart, Part: &Part{Index: 2, Count: 2}}), "expected a part of at least 2, found number 2 of 2"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var d Decoder
			var r Record
			err := d.Decode(c.value, &r)
			if err == nil {
				t.Fatalf("it was accepted: %v", native(&r))
			}
			if !strings.Contains(err.Error(), c.want) {
				t.Errorf("expected an error with %q, found: %v", c.want, err)
			}
			if f, g := (*FingerprintError)(nil), (*FormatError)(nil); !errors.As(err, &f) && !errors.As(err, &g) {
				t.Errorf("the error is a %T", err)
			}
		})
	}
}

// TestDecodeAcceptsBlocks reads an array in blocks of both forms, as other Avro writers make them.
func TestDecodeAcceptsBlocks(t *testing.T) {
	var b []byte
	b = append(b, 0xc3, 0x01)
	b = binary.LittleEndian.AppendUint64(b, Fingerprint)
	b = append(b, 0)
	b = append(b, make([]byte, 16+3+16)...) // origin, schema
	b = append(b, 0, 0, 0, 0)               // key, deletion, static, rows
	b = append(b, 2)                        // one range
	b = append(b, 2, 2, 2, 'a')             // start: a block of one value
	b = append(b, 3, 8, 2, 2, 'b', 0)       // a block of -2 values, of 4 bytes: b, null
	b = append(b, 0, 1)                     // end of the array, inclusive
	b = append(b, 0, 0)                     // end
	b = append(b, 2, 4)                     // deletion
	b = append(b, 0)
	var d Decoder
	var r Record
	if err := d.Decode(b, &r); err != nil {
		t.Fatal(err)
	}
	want := [][]byte{[]byte("a"), []byte("b"), nil}
	if got := r.Data.Ranges[0].Start.Prefix; !reflect.DeepEqual(got, want) {
		t.Errorf("expected the prefix %q, found %q", want, got)
	}
}

// FuzzDecode holds that a value either is refused, or is the same record again after it was encoded.
func FuzzDecode(f *testing.F) {
	g := generator{rand.New(rand.NewPCG(1, 2))}
	for range 50 {
		f.Add(Append(nil, g.record()))
	}
	f.Fuzz(func(t *testing.T, value []byte) {
		var d Decoder
		var r Record
		if err := d.Decode(value, &r); err != nil {
			return
		}
		again := Append(nil, &r)
		var d2 Decoder
		var r2 Record
		if err := d2.Decode(again, &r2); err != nil {
			t.Fatalf("we do not read what we write: %v", err)
		}
		if !reflect.DeepEqual(native(&r), native(&r2)) {
			t.Fatalf("encoded again it is\n%v\nexpected\n%v", native(&r2), native(&r))
		}
	})
}

func TestSteadyStateDoesNotAllocate(t *testing.T) {
	value, r := benchmarkRecord()
	var d Decoder
	var out Record
	buf := make([]byte, 0, 2*len(value))
	allocs := testing.AllocsPerRun(100, func() {
		if err := d.Decode(value, &out); err != nil {
			t.Fatal(err)
		}
		buf = Append(buf[:0], r)
	})
	if allocs != 0 {
		t.Errorf("expected no allocation per record, found %v", allocs)
	}
}

func BenchmarkDecode(b *testing.B) {
	value, _ := benchmarkRecord()
	var d Decoder
	var r Record
	b.ReportAllocs()
	b.SetBytes(int64(len(value)))
	for b.Loop() {
		if err := d.Decode(value, &r); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAppend(b *testing.B) {
	value, r := benchmarkRecord()
	buf := make([]byte, 0, len(value))
	b.ReportAllocs()
	b.SetBytes(int64(len(value)))
	for b.Loop() {
		buf = Append(buf[:0], r)
	}
}

// benchmarkRecord is an insert of one row of five columns.
func benchmarkRecord() ([]byte, *Record) {
	row := commitlog.Row{
		Clustering: [][]byte{{0, 0, 0, 7}},
		Liveness:   commitlog.Liveness{Timestamp: 1700000000000000, ExpiresAt: commitlog.NoDeletionTime},
		Deletion:   commitlog.LiveDeletion,
	}
	for i := range 5 {
		row.Cells = append(row.Cells, commitlog.Cell{Column: 2 + i, Timestamp: 1700000000000000,
			LocalTime: commitlog.NoDeletionTime, Value: []byte("a value of 20 bytes.")})
	}
	r := &Record{Kind: KindData, Data: &Data{Key: make([]byte, 8), Deletion: commitlog.LiveDeletion, Rows: []commitlog.Row{row}}}
	return Append(nil, r), r
}

// generator makes random records.
type generator struct{ *rand.Rand }

func (g generator) record() *Record {
	r := &Record{Kind: Kind(g.IntN(int(KindAgentRetired) + 1))}
	if g.IntN(2) == 0 {
		r.Kind = KindData
	}
	switch r.Kind {
	case KindData:
		r.Data = g.data()
	case KindPart:
		n := 2 + g.Int32N(50)
		r.Part = &Part{Origin: g.origin(), Index: g.Int32N(n), Count: n, Bytes: g.bytes()}
	case KindInit:
		r.Init = &Init{Cluster: "Test Cluster ü", TopicID: g.id(), Partitions: g.Int32(), Version: g.Int32()}
	case KindSchema:
		r.Schema = &Schema{Hash: schema.Hash(g.id()), Definition: []byte(`{"table":"t"}`), AlteredAt: g.long(), Host: g.id(), Created: g.IntN(2) == 0}
	case KindTick:
		r.Tick = &Tick{Watermark: g.long()}
	case KindHeartbeat:
		r.Heartbeat = &Heartbeat{Host: g.id(), Time: g.long()}
	case KindTruncate:
		r.Truncate = &Truncate{Origin: g.origin(), Table: g.id(), Timestamp: g.long()}
	case KindDrop:
		r.Drop = &Drop{Origin: g.origin(), Table: g.id(), Timestamp: g.long()}
	case KindSeedBegin:
		r.SeedBegin = &Seed{ID: g.id(), Table: g.id(), Start: g.long(), End: g.long()}
	case KindSeedEnd:
		r.SeedEnd = &Seed{ID: g.id(), Table: g.id(), Start: g.long(), End: g.long()}
	case KindAgentJoined:
		r.AgentJoined = &Agent{Host: g.id()}
	case KindAgentRetired:
		r.AgentRetired = &Agent{Host: g.id()}
	}
	return r
}

func (g generator) data() *Data {
	d := &Data{Origin: g.origin(), Schema: schema.Hash(g.id()), Key: g.bytes(), Deletion: g.deletion()}
	if g.IntN(3) == 0 {
		row := g.row()
		row.Clustering = nil
		d.Static = &row
	}
	for range g.IntN(4) {
		d.Rows = append(d.Rows, g.row())
	}
	for range g.IntN(3) {
		d.Ranges = append(d.Ranges, Range{
			Start:    Bound{Prefix: g.values(), Inclusive: g.IntN(2) == 0},
			End:      Bound{Prefix: g.values(), Inclusive: g.IntN(2) == 0},
			Deletion: commitlog.Deletion{Timestamp: g.long(), LocalTime: g.long()},
		})
	}
	return d
}

func (g generator) row() commitlog.Row {
	r := commitlog.Row{
		Clustering: g.values(),
		Liveness:   commitlog.Liveness{Timestamp: commitlog.NoTimestamp, ExpiresAt: commitlog.NoDeletionTime},
		Deletion:   g.deletion(),
		Shadowable: g.IntN(8) == 0,
	}
	if g.IntN(2) == 0 {
		r.Liveness.Timestamp = g.long() | 1
		if g.IntN(2) == 0 {
			r.Liveness.TTL, r.Liveness.ExpiresAt = g.Int32(), g.Int64()>>1
		}
	}
	for range g.IntN(5) {
		c := commitlog.Cell{Column: g.IntN(300), Timestamp: g.long(), LocalTime: commitlog.NoDeletionTime}
		if g.IntN(3) == 0 {
			c.Path = g.bytes()
		}
		switch g.IntN(3) {
		case 0:
			c.Value = g.bytes()
		case 1:
			c.Deleted, c.LocalTime = true, g.Int64()>>1
		case 2:
			c.Value, c.TTL, c.LocalTime = g.bytes(), g.Int32(), g.Int64()>>1
		}
		r.Cells = append(r.Cells, c)
	}
	for range g.IntN(3) {
		r.ComplexDeletions = append(r.ComplexDeletions, commitlog.ComplexDeletion{
			Column: g.IntN(300), Deletion: commitlog.Deletion{Timestamp: g.long(), LocalTime: g.long()}})
	}
	return r
}

func (g generator) deletion() commitlog.Deletion {
	if g.IntN(2) == 0 {
		return commitlog.LiveDeletion
	}
	return commitlog.Deletion{Timestamp: g.long() | 1, LocalTime: g.long()}
}

func (g generator) origin() Origin {
	return Origin{Host: g.id(), Position: commitlog.Position{Segment: g.long(), Offset: g.long()}, Update: g.Int32()}
}

// long prefers the ends of the range.
func (g generator) long() int64 {
	switch g.IntN(8) {
	case 0:
		return math.MinInt64
	case 1:
		return math.MaxInt64
	case 2:
		return 0
	}
	return int64(g.Uint64()) >> g.IntN(64)
}

func (g generator) id() (id [16]byte) {
	binary.BigEndian.PutUint64(id[:], g.Uint64())
	binary.BigEndian.PutUint64(id[8:], g.Uint64())
	return id
}

func (g generator) bytes() []byte {
	b := make([]byte, g.IntN(100)>>g.IntN(6))
	for i := range b {
		b[i] = byte(g.Uint32())
	}
	return b
}

func (g generator) values() [][]byte {
	var values [][]byte
	for range g.IntN(4) {
		if g.IntN(6) == 0 {
			values = append(values, nil)
		} else {
			values = append(values, g.bytes())
		}
	}
	return values
}

// native is r in goavro's terms.
func native(r *Record) any {
	type m = map[string]any
	optional := func(b []byte) any {
		if b == nil {
			return nil
		}
		return m{"bytes": b}
	}
	time := func(t int64) any {
		if t == commitlog.NoDeletionTime {
			return nil
		}
		return m{"long": t}
	}
	origin := func(o Origin) m {
		return m{"host": o.Host[:], "segment": o.Position.Segment, "offset": o.Position.Offset, "update": o.Update}
	}
	deletion := func(d commitlog.Deletion) m { return m{"timestamp": d.Timestamp, "local_time": d.LocalTime} }
	optionalDeletion := func(d commitlog.Deletion) any {
		if d.IsLive() {
			return nil
		}
		return m{"cassdelta.raw.Deletion": deletion(d)}
	}
	values := func(vs [][]byte) []any {
		a := []any{}
		for _, v := range vs {
			a = append(a, optional(v))
		}
		return a
	}
	row := func(r *commitlog.Row) m {
		var liveness any
		if r.Liveness.Timestamp != commitlog.NoTimestamp {
			liveness = m{"cassdelta.raw.Liveness": m{"timestamp": r.Liveness.Timestamp, "ttl": r.Liveness.TTL, "expires_at": time(r.Liveness.ExpiresAt)}}
		}
		cells, complexDeletions := []any{}, []any{}
		for _, c := range r.Cells {
			value := any(m{"bytes": c.Value})
			if c.Deleted {
				value = nil
			}
			cells = append(cells, m{"column": int32(c.Column), "path": optional(c.Path), "timestamp": c.Timestamp,
				"ttl": c.TTL, "local_time": time(c.LocalTime), "value": value})
		}
		for _, c := range r.ComplexDeletions {
			complexDeletions = append(complexDeletions, m{"column": int32(c.Column), "deletion": deletion(c.Deletion)})
		}
		return m{"clustering": values(r.Clustering), "liveness": liveness, "deletion": optionalDeletion(r.Deletion),
			"shadowable": r.Shadowable, "cells": cells, "complex_deletions": complexDeletions}
	}
	bound := func(b Bound) m { return m{"prefix": values(b.Prefix), "inclusive": b.Inclusive} }
	seed := func(s *Seed) m { return m{"id": s.ID[:], "table": s.Table[:], "start": s.Start, "end": s.End} }
	branch := func(name string, fields m) any { return m{"cassdelta.raw." + name: fields} }

	switch r.Kind {
	case KindData:
		d := r.Data
		var static any
		if d.Static != nil {
			static = branch("Row", row(d.Static))
		}
		rows, ranges := []any{}, []any{}
		for i := range d.Rows {
			rows = append(rows, row(&d.Rows[i]))
		}
		for _, g := range d.Ranges {
			ranges = append(ranges, m{"start": bound(g.Start), "end": bound(g.End), "deletion": deletion(g.Deletion)})
		}
		return branch("Data", m{"origin": origin(d.Origin), "schema": d.Schema[:], "key": d.Key,
			"deletion": optionalDeletion(d.Deletion), "static": static, "rows": rows, "ranges": ranges})
	case KindPart:
		return branch("Part", m{"origin": origin(r.Part.Origin), "index": r.Part.Index, "count": r.Part.Count, "bytes": r.Part.Bytes})
	case KindInit:
		return branch("Init", m{"cluster": r.Init.Cluster, "topic_id": r.Init.TopicID[:], "partitions": r.Init.Partitions, "version": r.Init.Version})
	case KindSchema:
		return branch("Schema", m{"hash": r.Schema.Hash[:], "definition": string(r.Schema.Definition), "altered_at": r.Schema.AlteredAt,
			"host": r.Schema.Host[:], "created": r.Schema.Created})
	case KindTick:
		return branch("Tick", m{"watermark": r.Tick.Watermark})
	case KindHeartbeat:
		return branch("Heartbeat", m{"host": r.Heartbeat.Host[:], "time": r.Heartbeat.Time})
	case KindTruncate:
		return branch("Truncate", m{"origin": origin(r.Truncate.Origin), "table": r.Truncate.Table[:], "timestamp": r.Truncate.Timestamp})
	case KindDrop:
		return branch("Drop", m{"origin": origin(r.Drop.Origin), "table": r.Drop.Table[:], "timestamp": r.Drop.Timestamp})
	case KindSeedBegin:
		return branch("SeedBegin", seed(r.SeedBegin))
	case KindSeedEnd:
		return branch("SeedEnd", seed(r.SeedEnd))
	case KindAgentJoined:
		return branch("AgentJoined", m{"host": r.AgentJoined.Host[:]})
	case KindAgentRetired:
		return branch("AgentRetired", m{"host": r.AgentRetired.Host[:]})
	}
	panic(fmt.Sprintf("kind %d", r.Kind))
}

// Contents are equal if the updates are, wherever they were read; of what is no data record there is none.
func TestContent(t *testing.T) {
	record := func(host byte, segment int64, key string) []byte {
		return Append(nil, &Record{Kind: KindData, Data: &Data{
			Origin: Origin{Host: schema.UUID{host}, Position: commitlog.Position{Segment: segment, Offset: segment * 3}, Update: int32(segment)},
			Key:    []byte(key), Deletion: commitlog.LiveDeletion,
		}})
	}
	first, host, ok := Content(record(1, 7, "key"))
	if !ok || host != (schema.UUID{1}) || len(first) == 0 {
		t.Fatalf("found %x of host %v, %v", first, host, ok)
	}
	if same, host, ok := Content(record(2, 1<<40, "key")); !ok || host != (schema.UUID{2}) || !bytes.Equal(same, first) {
		t.Errorf("expected %x, found %x of host %v, %v", first, same, host, ok)
	}
	if other, _, _ := Content(record(1, 7, "kez")); bytes.Equal(other, first) {
		t.Errorf("another update has the same content %x", other)
	}
	var d Decoder
	var r Record
	if err := d.Decode(record(2, 1<<40, "key"), &r); err != nil || !bytes.Equal(r.Data.Content, first) {
		t.Errorf("expected %x, the decoder found %x, %v", first, r.Data.Content, err)
	}
	value := record(1, 7, "key")
	for n := range len(value) - len(first) {
		if content, _, ok := Content(value[:n]); ok {
			t.Errorf("the first %d bytes have the content %x", n, content)
		}
	}
	if content, _, ok := Content(Append(nil, &Record{Kind: KindTick, Tick: &Tick{Watermark: 1 << 60}})); ok {
		t.Errorf("a tick has the content %x", content)
	}
}
