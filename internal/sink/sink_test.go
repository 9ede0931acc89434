package sink

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sr"
	"github.com/twmb/franz-go/pkg/sr/srfake"
	"go.uber.org/zap"

	"cassdelta/commitlog"
	"cassdelta/dedup"
	"cassdelta/internal/rawtopic"
	"cassdelta/schema"
	"cassdelta/schema/registry"
)

const nativesCQL = `
CREATE TABLE shop.natives (
  id bigint, kind ascii, version timeuuid, "Page No" int, s_text text STATIC, s_decimal decimal STATIC,
  v_ascii ascii, v_bigint bigint, v_blob blob, v_boolean boolean, v_date date, v_decimal decimal, v_double double, v_duration duration,
  v_float float, v_inet inet, v_int int, v_smallint smallint, v_text text, v_time time, v_timestamp timestamp, v_timeuuid timeuuid,
  v_tinyint tinyint, v_uuid uuid, v_varint varint, "Größe" int,
  PRIMARY KEY ((id, kind), version, "Page No")
) WITH ID = 3d070af0-e7b3-11f1-b54e-310e9af6e4cf AND cdc = true;`

const customersCQL = `
CREATE TABLE shop.customers (id int PRIMARY KEY, name text, balance bigint, since timestamp, active boolean)
WITH ID = 52bc67b0-e7b2-11f1-bcc4-336fe8c091c7 AND cdc = true;`

func testTable(t testing.TB, cql string) *schema.Table {
	t.Helper()
	parsed, err := schema.ParseCQL("test.cql", cql)
	if err != nil {
		t.Fatal(err)
	}
	if len(parsed.Tables) != 1 {
		t.Fatalf("%d tables, expected 1; %v", len(parsed.Tables), parsed.MissingIDs())
	}
	return parsed.Tables[0]
}

type broker struct {
	opts   []kgo.Opt
	client *kgo.Client
	admin  *kadm.Client
}

func startBroker(t testing.TB) broker {
	t.Helper()
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	opts := []kgo.Opt{kgo.SeedBrokers(cluster.ListenAddrs()...)}
	client, err := kgo.NewClient(append(opts[:1:1], kgo.RecordPartitioner(kgo.ManualPartitioner()))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return broker{opts, client, kadm.NewClient(client)}
}

func startRegistry(t testing.TB) *registry.Client {
	t.Helper()
	fake := srfake.New()
	t.Cleanup(fake.Close)
	client, err := registry.New(registry.Config{URLs: []string{fake.URL()}})
	if err != nil {
		t.Fatal(err)
	}
	return client
}

func timeout(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// clock is the time at which all test events are encoded.
var clock = time.Date(2026, 2, 1, 9, 30, 0, 123e6, time.UTC)

func newSink(t testing.TB, b broker, reg *registry.Client) *Sink {
	t.Helper()
	s, err := New(Config{
		Prefix: "test.clean", Client: b.client, Registry: reg, RawPartitions: 12, Partitions: 4, Replication: 1,
		Version: "1.2.3", Now: func() time.Time { return clock }, Log: zap.NewNop(),
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// randomEvent makes an event of any kind, some values null.
func randomEvent(t testing.TB, r *rand.Rand, table *schema.Table) *dedup.Event {
	value := func(c *schema.Column) []byte {
		for {
			// An empty key value, or an empty value of a type of fixed length, is another matter.
			if v := randomValue(t, r, c.Type.CQL()); c.Kind >= schema.Static || len(v) > 0 {
				return v
			}
		}
	}
	e := &dedup.Event{
		Cluster: "Test Cluster", Table: table, Op: pick(r, dedup.Create, dedup.Update, dedup.Delete, dedup.Read),
		Reason:   pick(r, dedup.ReasonMutation, dedup.ReasonTTL, dedup.ReasonTruncate, dedup.ReasonDrop),
		Complete: r.IntN(2) == 0, Static: len(table.StaticColumns()) > 0 && r.IntN(3) == 0,
		Timestamp: r.Int64() - 1<<62,
		Origin: rawtopic.Origin{Host: schema.UUID(bytes.Repeat([]byte{byte(r.Uint32())}, 16)),
			Position: commitlog.Position{Segment: r.Int64(), Offset: r.Int64()}, Update: r.Int32()},
		RawPartition: r.Int32N(12), RawOffset: r.Int64(), Index: r.Int64(),
	}
	for i := range table.PartitionKeyColumns() {
		e.Partition = append(e.Partition, value(&table.Columns[i]))
	}
	e.Key = table.JoinPartitionKey(nil, e.Partition)
	clustering := table.ClusteringColumns()
	for i := range clustering {
		if !e.Static {
			e.Clustering = append(e.Clustering, value(&clustering[i]))
		}
	}
	image := func() [][]byte {
		im := make([][]byte, len(table.Columns))
		for i := range table.Columns {
			c := &table.Columns[i]
			if (c.Kind == schema.Static) == e.Static && c.Kind >= schema.Static && r.IntN(4) > 0 {
				im[i] = value(c)
			}
		}
		return im
	}
	if e.Op != dedup.Create && e.Op != dedup.Read {
		e.Before = image()
	}
	if e.Op != dedup.Delete {
		e.After = image()
	}
	return e
}

// checkChange compares what was read with the event that was written.
func checkChange(t *testing.T, e *dedup.Event, c *Change) {
	t.Helper()
	table := e.Table
	keyColumns := len(table.PartitionKeyColumns()) + len(table.ClusteringColumns())
	key := make([][]byte, keyColumns)
	copy(key, e.Partition)
	copy(key[len(e.Partition):], e.Clustering)
	check := func(what string, fields []Field, want [][]byte) {
		t.Helper()
		if (fields == nil) != (want == nil) || len(fields) != len(want) {
			t.Fatalf("%s has %d fields, nil %t; expected %d, nil %t", what, len(fields), fields == nil, len(want), want == nil)
		}
		for i, f := range fields {
			column := table.Columns[i]
			if f.Name != column.Name || f.Type.CQL() != column.Type.CQL() {
				t.Errorf("%s: field %d is %s %s, expected %s %s", what, i, f.Name, f.Type.CQL(), column.Name, column.Type.CQL())
			}
			if (f.Value == nil) != (want[i] == nil) || !bytes.Equal(f.Value, want[i]) {
				t.Errorf("%s: %s is %x, expected %x", what, f.Name, f.Value, want[i])
			}
			if text, err := column.Type.AppendJSON(nil, want[i]); err != nil || f.JSON != string(text) {
				t.Errorf("%s: %s prints %s, expected %s (%v)", what, f.Name, f.JSON, text, err)
			}
		}
	}
	image := func(im [][]byte) [][]byte {
		if im == nil {
			return nil
		}
		return append(key[:keyColumns:keyColumns], im[keyColumns:]...)
	}
	check("key", c.Key, key)
	check("before", c.Before, image(e.Before))
	check("after", c.After, image(e.After))
	no, yes := "false", "true"
	want := Source{
		Version: "1.2.3", Connector: "cassandra", Name: "test.clean", Millis: time.UnixMicro(e.Timestamp).UnixMilli(), Snapshot: &no,
		DB: table.Keyspace, Micros: e.Timestamp, Keyspace: table.Keyspace, Table: table.Name, Cluster: "Test Cluster",
		Host: e.Origin.Host.String(), Segment: e.Origin.Position.Segment, Position: e.Origin.Position.Offset, Index: e.Origin.Update,
		RawPartition: e.RawPartition, RawOffset: e.RawOffset, RawIndex: e.Index, Complete: e.Complete, Reason: string(e.Reason),
		Changed: []string{},
	}
	for _, i := range e.Changed {
		want.Changed = append(want.Changed, schema.AvroName(table.Columns[i].Name))
	}
	if e.Op == dedup.Read {
		want.Snapshot = &yes
	}
	got := c.Source
	if got.Snapshot == nil || *got.Snapshot != *want.Snapshot {
		t.Errorf("source.snapshot is %v, expected %s", got.Snapshot, *want.Snapshot)
	}
	got.Snapshot = want.Snapshot
	if !reflect.DeepEqual(got, want) {
		t.Errorf("source is\n%+v, expected\n%+v", got, want)
	}
	if c.Op != string(rune(e.Op)) || !c.Time.Equal(clock) {
		t.Errorf("op %s at %v, expected %c at %v", c.Op, c.Time, e.Op, clock)
	}
	wantHeaders := []string{
		fmt.Sprint("cassdelta.raw.partition=", e.RawPartition), fmt.Sprint("cassdelta.raw.offset=", e.RawOffset), fmt.Sprint("cassdelta.index=", e.Index),
	}
	for i, h := range c.Headers {
		if i >= len(wantHeaders) || h.Key+"="+string(h.Value) != wantHeaders[i] {
			t.Errorf("header %d is %s=%s", i, h.Key, h.Value)
		}
	}
	if len(c.Headers) != len(wantHeaders) {
		t.Errorf("%d headers", len(c.Headers))
	}
	if c.Static() != e.Static {
		t.Errorf("static is %t, expected %t", c.Static(), e.Static)
	}
}

// TestEventsComeBack writes random events and reads them as consumers do, with a registry and without.
func TestEventsComeBack(t *testing.T) {
	for _, withRegistry := range []bool{true, false} {
		t.Run(fmt.Sprintf("registry=%t", withRegistry), func(t *testing.T) {
			seed := rand.Uint64()
			t.Logf("seed %d", seed)
			r := rand.New(rand.NewPCG(seed, 0))
			b, ctx := startBroker(t), timeout(t)
			var reg *registry.Client
			if withRegistry {
				reg = startRegistry(t)
			}
			s := newSink(t, b, reg)
			events := map[string][]*dedup.Event{}
			var buf []byte
			for range 100 {
				for _, table := range []*schema.Table{testTable(t, nativesCQL), testTable(t, customersCQL)} {
					e := randomEvent(t, r, table)
					var rec kgo.Record
					var err error
					if buf, err = s.Encode(ctx, e, &rec, buf); err != nil {
						t.Fatal(err)
					}
					if want := "test.clean.shop." + table.Name; rec.Topic != want || rec.Partition != e.RawPartition%4 || !rec.Timestamp.Equal(clock) {
						t.Fatalf("record for %s, partition %d at %v, expected %s, partition %d of raw partition %d at %v",
							rec.Topic, rec.Partition, rec.Timestamp, want, e.RawPartition%4, e.RawPartition, clock)
					}
					place := fmt.Sprintf("%s/%d", rec.Topic, rec.Partition)
					events[place] = append(events[place], e)
					if err := b.client.ProduceSync(ctx, &rec).FirstErr(); err != nil {
						t.Fatal(err)
					}
				}
			}
			reader := NewReader(ReaderConfig{Prefix: "test.clean", Opts: b.opts, Registry: reg})
			defer reader.Close()
			consumer, err := kgo.NewClient(append(b.opts[:1:1], kgo.ConsumeTopics("test.clean.shop.natives", "test.clean.shop.customers"))...)
			if err != nil {
				t.Fatal(err)
			}
			defer consumer.Close()
			for n := 0; n < 200; {
				fetches := consumer.PollFetches(ctx)
				if err := fetches.Err(); err != nil {
					t.Fatal(err)
				}
				for rec := range fetches.RecordsAll() {
					c, err := reader.Read(ctx, rec)
					if err != nil {
						t.Fatal(err)
					}
					checkChange(t, events[fmt.Sprintf("%s/%d", rec.Topic, rec.Partition)][rec.Offset], c)
					n++
				}
			}
		})
	}
}

// TestPreparation holds that topic and schemas are there when the first Encode returns, made once however many ask.
func TestPreparation(t *testing.T) {
	b, ctx := startBroker(t), timeout(t)
	s := newSink(t, b, nil)
	table := testTable(t, customersCQL)
	e := randomEvent(t, rand.New(rand.NewPCG(1, 1)), table)
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			var rec kgo.Record
			if _, err := s.Encode(ctx, e, &rec, nil); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	topics, err := b.admin.ListTopics(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if n := len(topics["test.clean.shop.customers"].Partitions); n != 4 {
		t.Errorf("the clean topic has %d partitions, expected 4", n)
	}
	configs, err := b.admin.DescribeTopicConfigs(ctx, "test.clean.schemas", "test.clean.shop.customers")
	if err != nil {
		t.Fatal(err)
	}
	for topic, want := range map[string]string{"test.clean.schemas": "compact", "test.clean.shop.customers": "delete"} {
		rc, err := configs.On(topic, nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range rc.Configs {
			if c.Key == "cleanup.policy" && c.MaybeValue() != want {
				t.Errorf("topic %s has the cleanup.policy %s, expected %s", topic, c.MaybeValue(), want)
			}
		}
	}
	ends, err := b.admin.ListEndOffsets(ctx, "test.clean.schemas")
	if err != nil {
		t.Fatal(err)
	}
	if end, _ := ends.Lookup("test.clean.schemas", 0); end.Offset != 2 {
		t.Errorf("the schema topic has %d records, expected that of the key and that of the value", end.Offset)
	}
	reader := NewReader(ReaderConfig{Prefix: "test.clean", Opts: b.opts})
	defer reader.Close()
	var rec kgo.Record
	if _, err := s.Encode(ctx, e, &rec, nil); err != nil {
		t.Fatal(err)
	}
	c, err := reader.Read(ctx, &rec)
	if err != nil {
		t.Fatal(err)
	}
	checkChange(t, e, c)
}

// TestSubjects holds that schemas are registered under Confluent's usual names.
func TestSubjects(t *testing.T) {
	fake := srfake.New()
	defer fake.Close()
	reg, err := registry.New(registry.Config{URLs: []string{fake.URL()}})
	if err != nil {
		t.Fatal(err)
	}
	s := newSink(t, startBroker(t), reg)
	var rec kgo.Record
	if _, err := s.Encode(timeout(t), ordinaryEvent(t), &rec, nil); err != nil {
		t.Fatal(err)
	}
	client, err := sr.NewClient(sr.URLs(fake.URL()))
	if err != nil {
		t.Fatal(err)
	}
	subjects, err := client.Subjects(timeout(t))
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(subjects)
	if want := []string{"test.clean.shop.customers-key", "test.clean.shop.customers-value"}; !slices.Equal(subjects, want) {
		t.Errorf("subjects %v, expected %v", subjects, want)
	}
}

// TestAlteredTable holds that events of the old and the new definition are read, each by its own schema.
func TestAlteredTable(t *testing.T) {
	for _, reg := range []*registry.Client{nil, startRegistry(t)} {
		b, ctx := startBroker(t), timeout(t)
		s := newSink(t, b, reg)
		reader := NewReader(ReaderConfig{Prefix: "test.clean", Opts: b.opts, Registry: reg})
		defer reader.Close()
		r := rand.New(rand.NewPCG(1, 2))
		for _, cql := range []string{
			customersCQL, strings.Replace(customersCQL, "balance bigint", "balance bigint, tier text", 1), strings.Replace(customersCQL, "balance bigint,", "", 1),
		} {
			e := randomEvent(t, r, testTable(t, cql))
			var rec kgo.Record
			if _, err := s.Encode(ctx, e, &rec, nil); err != nil {
				t.Fatal(err)
			}
			c, err := reader.Read(ctx, &rec)
			if err != nil {
				t.Fatal(err)
			}
			checkChange(t, e, c)
		}
	}
}

func TestRefusals(t *testing.T) {
	b, ctx := startBroker(t), timeout(t)
	if _, err := b.admin.CreateTopic(ctx, 3, 1, nil, "test.clean.shop.customers"); err != nil {
		t.Fatal(err)
	}
	s := newSink(t, b, nil)
	e := randomEvent(t, rand.New(rand.NewPCG(1, 1)), testTable(t, customersCQL))
	var rec kgo.Record
	buf, err := s.Encode(ctx, e, &rec, []byte("kept"))
	if err == nil || !strings.Contains(err.Error(), "expected 4 partitions, found 3") || string(buf) != "kept" {
		t.Errorf("a topic with another number of partitions: %q, %v", buf, err)
	}

	custom := testTable(t, `CREATE TABLE shop.custom (id int PRIMARY KEY, n 'org.example.Type') WITH ID = 52bc67b0-e7b2-11f1-bcc4-336fe8c091c8 AND cdc = true;`)
	_, err = s.Encode(ctx, &dedup.Event{Table: custom}, &rec, nil)
	if avro := (*schema.AvroError)(nil); !errors.As(err, &avro) {
		t.Errorf("a table with a custom type: %v, expected an AvroError", err)
	}

	canceled, cancel := context.WithCancel(ctx)
	cancel()
	_, err = s.Encode(canceled, &dedup.Event{Table: testTable(t, nativesCQL)}, &rec, nil)
	if err == nil {
		t.Error("no error with a context that has ended")
	}
}

func TestNew(t *testing.T) {
	for _, c := range []struct {
		cfg  Config
		m    int32
		says string
	}{
		{Config{Prefix: "p", RawPartitions: 32}, 8, ""},
		{Config{Prefix: "p", RawPartitions: 12}, 6, ""},
		{Config{Prefix: "p", RawPartitions: 7}, 7, ""},
		{Config{Prefix: "p", RawPartitions: 13}, 1, ""},
		{Config{Prefix: "p", RawPartitions: 32, Partitions: 32}, 32, ""},
		{Config{Prefix: "p", RawPartitions: 32, Partitions: 5}, 0, "expected a divisor of the 32 partitions of the raw topic, found 5"},
		{Config{Prefix: "p", RawPartitions: 32, Partitions: 64}, 0, "found 64"},
		{Config{Prefix: "p", RawPartitions: 32, Partitions: -1}, 0, "found -1"},
		{Config{Prefix: "p"}, 0, "raw-partitions: expected at least 1, found 0"},
		{Config{RawPartitions: 1}, 0, "topic-prefix: expected a name, found none"},
		{Config{Prefix: "a b", RawPartitions: 1}, 0, `found ' '`},
	} {
		s, err := New(c.cfg)
		switch {
		case c.says == "" && (err != nil || s.cfg.Partitions != c.m):
			t.Errorf("%+v: %v, expected %d partitions", c.cfg, err, c.m)
		case c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says)):
			t.Errorf("%+v: %v, expected %q", c.cfg, err, c.says)
		}
	}
}

// ordinaryEvent is an update of a small table, for measuring.
func ordinaryEvent(t testing.TB) *dedup.Event {
	table := testTable(t, customersCQL)
	image := func(name string) [][]byte {
		// id, active, balance, name, since
		return [][]byte{nil, {1}, {0, 0, 0, 0, 0, 1, 2, 3}, []byte(name), {0, 0, 1, 0x9a, 0, 0, 0, 0}}
	}
	return &dedup.Event{
		Table: table, Op: dedup.Update, Reason: dedup.ReasonMutation, Complete: true, Partition: [][]byte{{0, 0, 0, 7}},
		Before: image("Ada"), After: image("Ada Lovelace"), Timestamp: 1738402200123456, RawPartition: 7, RawOffset: 123456, Index: 0,
	}
}

// A topic that is made has room for large rows; what a topic has no room for is refused for good, and said to be.
func TestLargeEvents(t *testing.T) {
	b := startBroker(t)
	s := newSink(t, b, nil)
	e := ordinaryEvent(t)
	name := slices.IndexFunc(e.Table.Columns, func(c schema.Column) bool { return c.Name == "name" })
	e.After = slices.Clone(e.After)
	e.After[name] = bytes.Repeat([]byte("x"), 5<<20)
	topic := "test.clean.shop.customers"
	if got := s.MaxBatchBytes(topic); got != defaultRoom {
		t.Errorf("room %d before the topic is there", got)
	}
	var rec kgo.Record
	if _, err := s.Encode(timeout(t), e, &rec, nil); err != nil {
		t.Fatal(err)
	}
	if got := s.MaxBatchBytes(topic); got != cleanRoom {
		t.Errorf("room %d, expected %d", got, cleanRoom)
	}
	// Of the size that passes, the brokers take the record too.
	e.After[name] = bytes.Repeat([]byte("x"), cleanRoom-recordOverhead-len(rec.Key)-(len(rec.Value)-5<<20)-64)
	if _, err := s.Encode(timeout(t), e, &rec, nil); err != nil {
		t.Fatal(err)
	}
	producer, err := kgo.NewClient(append(b.opts[:1:1], kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ProducerBatchMaxBytesFn(s.MaxBatchBytes), kgo.ProducerBatchCompression(kgo.NoCompression()))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(producer.Close)
	if err := producer.ProduceSync(timeout(t), &rec).FirstErr(); err != nil {
		t.Error(err)
	}
	e.After[name] = bytes.Repeat([]byte("x"), cleanRoom)
	var large *dedup.TooLargeError
	if _, err := s.Encode(timeout(t), e, &rec, nil); !errors.As(err, &large) || large.Topic != topic || large.Size < cleanRoom {
		t.Errorf("error %v, expected one about the size", err)
	}

	// A topic that was there keeps its settings.
	limit := "200000"
	if _, err := b.admin.CreateTopic(timeout(t), 4, 1, map[string]*string{"max.message.bytes": &limit}, "small.shop.customers"); err != nil {
		t.Fatal(err)
	}
	s, err = New(Config{Prefix: "small", Client: b.client, RawPartitions: 12, Partitions: 4, Replication: 1, Log: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	e.After[name] = bytes.Repeat([]byte("x"), 200000)
	if _, err := s.Encode(timeout(t), e, &rec, nil); !errors.As(err, &large) || large.Room >= 200000 {
		t.Errorf("error %v, expected one about the size", err)
	}
	if got := s.MaxBatchBytes("small.shop.customers"); got != 200000 {
		t.Errorf("room %d, expected 200000", got)
	}
}

func TestEncodeAllocatesNothing(t *testing.T) {
	b, ctx := startBroker(t), timeout(t)
	s := newSink(t, b, nil)
	e := ordinaryEvent(t)
	var rec kgo.Record
	var buf []byte
	n := testing.AllocsPerRun(100, func() {
		var err error
		if buf, err = s.Encode(ctx, e, &rec, buf[:0]); err != nil {
			t.Fatal(err)
		}
	})
	if n != 0 {
		t.Errorf("%v allocations an event", n)
	}
}

func BenchmarkEncode(b *testing.B) {
	br, ctx := startBroker(b), timeout(b)
	s := newSink(b, br, nil)
	e := ordinaryEvent(b)
	var rec kgo.Record
	var buf []byte
	b.ReportAllocs()
	for b.Loop() {
		var err error
		if buf, err = s.Encode(ctx, e, &rec, buf[:0]); err != nil {
			b.Fatal(err)
		}
	}
	b.SetBytes(int64(len(buf)))
}
