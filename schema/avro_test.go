package schema

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/linkedin/goavro/v2"
)

func TestAvroSchemas(t *testing.T) {
	const source = `{"type":"record","name":"Source","fields":[{"name":"version","type":"string"},{"name":"connector","type":"string"},` +
		`{"name":"name","type":"string"},{"name":"ts_ms","type":"long"},{"name":"snapshot","type":["null","string"],"default":null},` +
		`{"name":"db","type":"string"},{"name":"sequence","type":["null","string"],"default":null},{"name":"ts_us","type":"long"},` +
		`{"name":"keyspace","type":"string"},{"name":"table","type":"string"},{"name":"cluster","type":"string"},{"name":"host","type":"string"},` +
		`{"name":"segment","type":"long"},{"name":"position","type":"long"},{"name":"index","type":"int"},{"name":"raw_partition","type":"int"},` +
		`{"name":"raw_offset","type":"long"},{"name":"raw_index","type":"long"},{"name":"complete","type":"boolean"},{"name":"reason","type":"string"},` +
		`{"name":"changed","type":{"type":"array","items":"string"},"default":[]}]}`
	const key = `{"name":"customer","type":{"type":"string","logicalType":"uuid","cql":"uuid"}},` +
		`{"name":"number","type":["null",{"type":"int","cql":"int"}],"default":null}`
	orders := ordersTable(t)
	want := `{"type":"record","name":"Key","namespace":"cdc.shop.orders","fields":[` + key + `]}`
	if got := AvroKeySchema(orders, "cdc"); got != want {
		t.Errorf("key:\n%s\nexpected\n%s", got, want)
	}
	want = `{"type":"record","name":"Envelope","namespace":"cdc.shop.orders","fields":[` +
		`{"name":"before","type":["null",{"type":"record","name":"Value","fields":[` + key +
		`,{"name":"tier","type":["null",{"type":"string","cql":"text"}],"default":null}` +
		`,{"name":"placed","type":["null",{"type":"long","logicalType":"timestamp-millis","cql":"timestamp"}],"default":null}` +
		`,{"name":"total_X20__X28_net_X29_","type":["null",{"type":"string","cql":"decimal"}],"default":null,"cql.name":"total (net)"}]}],"default":null},` +
		`{"name":"after","type":["null","Value"],"default":null},` +
		`{"name":"source","type":` + source + `},` +
		`{"name":"op","type":"string"},` +
		`{"name":"ts_ms","type":["null","long"],"default":null}]}`
	if got := AvroValueSchema(orders, "cdc"); got != want {
		t.Errorf("value:\n%s\nexpected\n%s", got, want)
	}
	plain := AvroKeySchema(nativesTable(t), "cdc")
	if want := `{"name":"version","type":{"type":"string","logicalType":"uuid","cql":"timeuuid"}}`; !strings.Contains(plain, want) {
		t.Errorf("the clustering of a table without static columns is nullable: %s", plain)
	}
}

// avroCodecs are goavro's codecs of a table's schemas.
func avroCodecs(t testing.TB, table *Table) (key, value *goavro.Codec) {
	t.Helper()
	var err error
	if key, err = goavro.NewCodec(AvroKeySchema(table, "cdc")); err == nil {
		value, err = goavro.NewCodec(AvroValueSchema(table, "cdc"))
	}
	if err != nil {
		t.Fatal(err)
	}
	return key, value
}

func decodeAvro(t testing.TB, codec *goavro.Codec, b []byte) map[string]any {
	t.Helper()
	datum, rest, err := codec.NativeFromBinary(b)
	if err != nil || len(rest) > 0 {
		t.Fatalf("%x: %v, and %x is left", b, err, rest)
	}
	return datum.(map[string]any)
}

// randomEvent is an envelope with what goavro is expected to read of it.
type randomEvent struct {
	AvroEnvelope
	key, before, after map[string]any
}

func newRandomEvent(t testing.TB, r *rand.Rand, table *Table) *randomEvent {
	t.Helper()
	e := &randomEvent{key: map[string]any{}}
	e.Static = len(table.StaticColumns()) > 0 && r.IntN(3) == 0
	for _, c := range table.Columns[:table.clustering] {
		v := randomEventValue(t, r, c.Type.CQL())
		for len(v.cql) == 0 && !c.Type.emptyInAvro() {
			v = randomEventValue(t, r, c.Type.CQL())
		}
		switch {
		case c.Kind == PartitionKey:
			e.Partition = append(e.Partition, v.cql)
		case e.Static:
			v.avro = nil
		default:
			e.Clustering = append(e.Clustering, v.cql)
		}
		e.key[AvroName(c.Name)] = v.avro
	}
	image := func() ([][]byte, map[string]any) {
		if r.IntN(4) == 0 {
			return nil, nil
		}
		values, want := make([][]byte, len(table.Columns)), map[string]any{}
		for name, v := range e.key {
			want[name] = v
		}
		for i := table.clustering; i < len(table.Columns); i++ {
			c := table.Columns[i]
			name := AvroName(c.Name)
			want[name] = nil
			if e.Static != (c.Kind == Static) {
				continue
			}
			switch r.IntN(5) {
			case 0:
			case 1:
				values[i] = []byte{}
				switch {
				case c.Type.Kind == KindBlob:
					want[name] = []byte{}
				case c.Type.emptyInAvro():
					want[name] = ""
				}
			default:
				v := randomEventValue(t, r, c.Type.CQL())
				values[i] = v.cql
				if len(v.cql) > 0 || c.Type.emptyInAvro() {
					want[name] = v.avro
				}
			}
		}
		return values, want
	}
	e.Before, e.before = image()
	e.After, e.after = image()
	e.Op = "cudr"[r.IntN(4)]
	e.Time = r.Int64N(2) * r.Int64()
	e.Source = AvroSource{
		Version: "1.2", Name: "cdc", Cluster: "Test Cluster", Timestamp: int64(r.Uint64()), Host: UUID(avroBytes(r, 0, 0, 256, 16)),
		Segment: r.Int64(), Position: r.Int64(), Index: r.Int32(), RawPartition: r.Int32(), RawOffset: r.Int64(), RawIndex: r.Int64(),
		Complete: r.IntN(2) == 0, Reason: "mutation",
	}
	for i := range table.Columns {
		if r.IntN(3) == 0 {
			e.Source.Changed = append(e.Source.Changed, i)
		}
	}
	return e
}

func (e *randomEvent) check(t testing.TB, table *Table, got map[string]any) {
	t.Helper()
	for name, want := range map[string]map[string]any{"before": e.before, "after": e.after} {
		var image map[string]any
		if union, ok := got[name].(map[string]any); ok {
			image = union["cdc.shop."+AvroName(table.Name)+".Value"].(map[string]any)
		}
		checkRecord(t, name, image, want)
	}
	snapshot := "false"
	if e.Op == 'r' {
		snapshot = "true"
	}
	s := &e.Source
	changed := []any{}
	for _, i := range s.Changed {
		changed = append(changed, AvroName(table.Columns[i].Name))
	}
	source := got["source"].(map[string]any)
	if found := source["changed"]; !reflect.DeepEqual(found, changed) {
		t.Errorf("source.changed is %v, expected %v", found, changed)
	}
	delete(source, "changed")
	checkRecord(t, "source", source, map[string]any{
		"version": s.Version, "connector": "cassandra", "name": s.Name, "ts_ms": time.UnixMicro(s.Timestamp).UnixMilli(), "snapshot": snapshot,
		"db": "shop", "sequence": nil, "ts_us": s.Timestamp, "keyspace": "shop", "table": table.Name, "cluster": s.Cluster, "host": s.Host.String(),
		"segment": s.Segment, "position": s.Position, "index": s.Index, "raw_partition": s.RawPartition, "raw_offset": s.RawOffset,
		"raw_index": s.RawIndex, "complete": s.Complete, "reason": s.Reason,
	})
	var millis any
	if e.Time != 0 {
		millis = e.Time
	}
	if got["op"] != string(rune(e.Op)) || !equalAvro(got["ts_ms"], millis) || len(got) != 5 {
		t.Errorf("op %v at %v, expected %c at %v", got["op"], got["ts_ms"], e.Op, e.Time)
	}
}

func checkRecord(t testing.TB, what string, got, want map[string]any) {
	t.Helper()
	if len(got) != len(want) || (got == nil) != (want == nil) {
		t.Fatalf("%s is %v, expected %v", what, got, want)
	}
	for name, w := range want {
		if v, ok := got[name]; !ok || !equalAvro(v, w) {
			t.Errorf("%s.%s is %v, expected %v", what, name, v, w)
		}
	}
}

func TestGoavroReadsEventsOfRandomTables(t *testing.T) {
	for seed := range uint64(60) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 3))
			table := randomEventTable(t, r)
			encoder, err := NewAvroEncoder(table)
			if err != nil {
				t.Fatal(err)
			}
			key, value := avroCodecs(t, table)
			for range 20 {
				e := newRandomEvent(t, r, table)
				b, err := encoder.AppendKey(nil, e.Partition, e.Clustering, e.Static)
				if err != nil {
					t.Fatal(err)
				}
				checkRecord(t, "key", decodeAvro(t, key, b), e.key)
				if b, err = encoder.AppendEnvelope([]byte("head"), &e.AvroEnvelope); err != nil {
					t.Fatal(err)
				}
				e.check(t, table, decodeAvro(t, value, b[4:]))
			}
		})
	}
}

func TestAvroEncoderRefuses(t *testing.T) {
	orders, err := NewAvroEncoder(ordersTable(t))
	if err != nil {
		t.Fatal(err)
	}
	natives, err := NewAvroEncoder(nativesTable(t))
	if err != nil {
		t.Fatal(err)
	}
	id, number := make([]byte, 16), []byte{0, 0, 0, 1}
	for _, test := range []struct {
		name                  string
		encoder               *AvroEncoder
		partition, clustering [][]byte
		static                bool
		image                 [][]byte
		column, want          string
	}{
		{"partition key too long", orders, [][]byte{id, id}, [][]byte{number}, false, nil, "", "1 values of the partition key, found 2"},
		{"no clustering", orders, [][]byte{id}, nil, false, nil, "", "1 values of the clustering, found 0"},
		{"null clustering", orders, [][]byte{id}, [][]byte{nil}, false, nil, "number", "found null"},
		{"empty clustering", orders, [][]byte{id}, [][]byte{{}}, false, nil, "number", "empty int"},
		{"null partition key", orders, [][]byte{nil}, nil, true, nil, "customer", "found null"},
		{"static row without statics", natives, [][]byte{make([]byte, 8), id}, nil, true, nil, "", "no static columns"},
		{"key that is no UTF-8", natives, [][]byte{make([]byte, 8), {0xc0, 0x80}}, [][]byte{id}, false, nil, "kind", "UTF-8"},
		{"short image", orders, [][]byte{id}, [][]byte{number}, false, make([][]byte, 4), "", "5 columns, found 4"},
		{"bad value", orders, [][]byte{id}, [][]byte{number}, false, [][]byte{nil, nil, nil, {1}, nil}, "placed", "1 bytes, expected 8"},
	} {
		dst := []byte("head")
		if test.image == nil {
			dst, err = test.encoder.AppendKey(dst, test.partition, test.clustering, test.static)
		} else {
			dst, err = test.encoder.AppendEnvelope(dst, &AvroEnvelope{
				Partition: test.partition, Clustering: test.clustering, Static: test.static, After: test.image,
			})
		}
		var avroErr *AvroError
		if !errors.As(err, &avroErr) || !strings.Contains(err.Error(), test.want) || avroErr.Column != test.column {
			t.Errorf("%s: error %v, expected one of column %q with %q", test.name, err, test.column, test.want)
		}
		if string(dst) != "head" {
			t.Errorf("%s: after the error %q stands in dst", test.name, dst)
		}
	}
	list, err := ParseType("list<counter>", nil)
	if err != nil {
		t.Fatal(err)
	}
	table, err := NewTable(Table{
		Keyspace: "shop", Name: "lists", ID: UUID{1}, Flags: []string{"compound"},
		Columns: []Column{eventColumn("id", "int", PartitionKey), {Name: "tags", Kind: Regular, Type: list}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := NewAvroEncoder(table); err == nil || !strings.Contains(err.Error(), "tags") {
		t.Errorf("a table with a list of counters: error %v, expected one about the column tags", err)
	}
}

func TestTextThatIsNoUTF8IsReplaced(t *testing.T) {
	table := newEventTable(t, "notes", eventColumn("id", "int", PartitionKey), eventColumn("body", "text", Regular))
	encoder, err := NewAvroEncoder(table)
	if err != nil {
		t.Fatal(err)
	}
	b, err := encoder.AppendEnvelope(nil, &AvroEnvelope{Partition: [][]byte{{0, 0, 0, 1}}, After: [][]byte{nil, []byte("a\xc0\x80b")}, Op: 'c'})
	if err != nil {
		t.Fatal(err)
	}
	_, value := avroCodecs(t, table)
	after := decodeAvro(t, value, b)["after"].(map[string]any)["cdc.shop.notes.Value"].(map[string]any)
	if got := after["body"].(map[string]any)["string"]; got != "a\ufffd\ufffdb" {
		t.Errorf("%q", got)
	}
}

func TestAvroEncoderDoesNotAllocate(t *testing.T) {
	table := nativesTable(t)
	encoder, err := NewAvroEncoder(table)
	if err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(5, 5))
	var e *randomEvent
	for e == nil || e.Before == nil || e.After == nil {
		e = newRandomEvent(t, r, table)
	}
	for i, c := range table.Columns { // numbers of at most 64 bits
		switch c.Type.Kind {
		case KindDecimal:
			e.Before[i], e.After[i] = avroHex(t, "00000005 7b"), avroHex(t, "0000000a 80ffffffffffffff")
		case KindVarint:
			e.Before[i], e.After[i] = avroHex(t, "80ffffffffffffff"), avroHex(t, "00ffffffffffffff")
		}
	}
	buf := make([]byte, 0, 1<<16)
	if n := testing.AllocsPerRun(100, func() {
		b, err := encoder.AppendKey(buf, e.Partition, e.Clustering, e.Static)
		if err == nil {
			_, err = encoder.AppendEnvelope(b, &e.AvroEnvelope)
		}
		if err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations for an event", n)
	}
}

func BenchmarkAppendEnvelope(b *testing.B) {
	table := nativesTable(b)
	encoder, err := NewAvroEncoder(table)
	if err != nil {
		b.Fatal(err)
	}
	r := rand.New(rand.NewPCG(5, 5))
	var e *randomEvent
	for e == nil || e.Before == nil || e.After == nil {
		e = newRandomEvent(b, r, table)
	}
	b.ReportAllocs()
	var buf []byte
	for b.Loop() {
		if buf, err = encoder.AppendEnvelope(buf[:0], &e.AvroEnvelope); err != nil {
			b.Fatal(err)
		}
	}
	b.SetBytes(int64(len(buf)))
}

// A registry's BACKWARD rule: who has the new schema reads what was written with the old one.
func TestSchemasEvolve(t *testing.T) {
	base := ordersTable(t)
	with := func(extra ...Column) *Table {
		return newEventTable(t, "orders", append(base.Columns[:len(base.Columns):len(base.Columns)], extra...)...)
	}
	added := with(eventColumn("added", "inet", Regular), eventColumn("stamp", "timestamp", Static))
	withoutStatics, err := NewTable(Table{
		Keyspace: "shop", Name: "orders", ID: UUID{1}, Flags: base.Flags,
		Columns: []Column{base.Columns[0], base.Columns[1], base.Columns[4]},
		Dropped: []DroppedColumn{{Name: "tier", Kind: Static, Type: nativeTypes["text"], DroppedAt: 1}},
	})
	if err != nil {
		t.Fatal(err)
	}
	plain := newEventTable(t, "orders", eventColumn("customer", "uuid", PartitionKey), eventColumn("number", "int", Clustering))
	changed := newEventTable(t, "orders", append(base.Columns[:4:4], eventColumn("total (net)", "bigint", Regular))...)
	renamed := newEventTable(t, "orders", eventColumn("client", "uuid", PartitionKey), eventColumn("number", "int", Clustering))
	for _, test := range []struct {
		name       string
		from, to   *Table
		key, value bool
	}{
		{"the same", base, base, true, true},
		{"columns added", base, added, true, true},
		{"columns dropped", added, base, true, true},
		{"the first static column added", plain, base, true, true},
		{"the last static column dropped", base, withoutStatics, true, true},
		{"static columns never heard of", base, plain, false, false},
		{"a column's type changed", base, changed, true, false},
		{"a key column renamed", plain, renamed, false, false},
	} {
		for _, part := range []struct {
			name   string
			schema func(*Table, string) string
			want   bool
		}{{"key", AvroKeySchema, test.key}, {"value", AvroValueSchema, test.value}} {
			if got := canRead(t, part.schema(test.to, "cdc"), part.schema(test.from, "cdc")); (got == nil) != part.want {
				t.Errorf("%s: the new %s schema reads the old one's data: %v, expected %t", test.name, part.name, got, part.want)
			}
		}
	}
}

// canRead says why a reader's schema cannot read what was written with a writer's, by the rules of Avro's specification
// ("schema resolution") as far as our schemas need them.
func canRead(t testing.TB, reader, writer string) error {
	t.Helper()
	c := compatibility{map[string]any{}, map[string]any{}}
	var r, w any
	if err := errors.Join(json.Unmarshal([]byte(reader), &r), json.Unmarshal([]byte(writer), &w)); err != nil {
		t.Fatal(err)
	}
	return c.check(r, w)
}

// compatibility has the records of both sides by name.
type compatibility struct{ reader, writer map[string]any }

func (c compatibility) check(r, w any) error {
	r, w = named(c.reader, r), named(c.writer, w)
	if branches, ok := w.([]any); ok {
		for _, branch := range branches {
			if err := c.check(r, branch); err != nil {
				return err
			}
		}
		return nil
	}
	if branches, ok := r.([]any); ok {
		for _, branch := range branches {
			if err := c.check(branch, w); err == nil {
				return nil
			}
		}
		return fmt.Errorf("no branch reads %v", w)
	}
	rObject, _ := r.(map[string]any)
	wObject, _ := w.(map[string]any)
	if rObject["type"] != "record" || wObject["type"] != "record" {
		rName, wName := typeName(r), typeName(w)
		promoted := map[string]string{"int": "long float double", "long": "float double", "float": "double", "string": "bytes", "bytes": "string"}
		if rName != wName && !strings.Contains(promoted[wName], rName) {
			return fmt.Errorf("%s does not read %s", rName, wName)
		}
		return nil
	}
	if rObject["name"] != wObject["name"] {
		return fmt.Errorf("record %v does not read record %v", rObject["name"], wObject["name"])
	}
	written := map[any]any{}
	for _, f := range wObject["fields"].([]any) {
		written[f.(map[string]any)["name"]] = f.(map[string]any)["type"]
	}
	for _, f := range rObject["fields"].([]any) {
		field := f.(map[string]any)
		w, ok := written[field["name"]]
		if !ok {
			if _, ok := field["default"]; !ok {
				return fmt.Errorf("field %v is new and has no default", field["name"])
			}
			continue
		}
		if err := c.check(field["type"], w); err != nil {
			return fmt.Errorf("field %v: %w", field["name"], err)
		}
	}
	return nil
}

func named(records map[string]any, schema any) any {
	if object, ok := schema.(map[string]any); ok && object["type"] == "record" {
		records[object["name"].(string)] = object
	}
	if name, ok := schema.(string); ok && records[name] != nil {
		return records[name]
	}
	return schema
}

func typeName(schema any) string {
	if object, ok := schema.(map[string]any); ok {
		schema = object["type"]
	}
	return fmt.Sprint(schema)
}
