package tail

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"cassdelta/schema"
	"cassdelta/schema/registry"
)

// cluster is a broker, and a producer that writes events into clean topics as dedup does: in transactions.
type cluster struct {
	t     *testing.T
	ctx   context.Context
	opts  []kgo.Opt
	plain *kgo.Client
	txn   *kgo.Client
}

func startCluster(t *testing.T) *cluster {
	t.Helper()
	fake, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(fake.Close)
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	t.Cleanup(cancel)
	c := &cluster{t: t, ctx: ctx, opts: []kgo.Opt{kgo.SeedBrokers(fake.ListenAddrs()...), kgo.MetadataMinAge(10 * time.Millisecond)}}
	manual := kgo.RecordPartitioner(kgo.ManualPartitioner())
	if c.plain, err = kgo.NewClient(append(c.opts[:2:2], manual)...); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.plain.Close)
	if c.txn, err = kgo.NewClient(append(c.opts[:2:2], manual, kgo.TransactionalID("dedup"))...); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.txn.Close)
	return c
}

func (c *cluster) check(err error) {
	c.t.Helper()
	if err != nil {
		c.t.Fatal(err)
	}
}

func (c *cluster) makeTopic(name string, partitions int32) {
	c.t.Helper()
	_, err := kadm.NewClient(c.plain).CreateTopic(c.ctx, partitions, 1, nil, name)
	c.check(err)
}

// table makes a table shop.<name> (id int PRIMARY KEY, v int), its topic, and puts its schemas into the schema topic.
func (c *cluster) table(name string) *schema.Table {
	c.t.Helper()
	integer := &schema.Type{Kind: schema.KindInt}
	table, err := schema.NewTable(schema.Table{Keyspace: "shop", Name: name, ID: schema.UUID{1}, Flags: []string{"compound"}, Columns: []schema.Column{
		{Name: "id", Kind: schema.PartitionKey, Type: integer}, {Name: "v", Kind: schema.Regular, Type: integer},
	}})
	c.check(err)
	c.makeTopic("p.shop."+name, 2)
	for _, text := range []string{schema.AvroKeySchema(table, "p"), schema.AvroValueSchema(table, "p")} {
		key := fmt.Sprintf("%016x", schema.AvroFingerprint(text))
		c.check(c.plain.ProduceSync(c.ctx, &kgo.Record{Topic: "p.schemas", Key: []byte(key), Value: []byte(text)}).FirstErr())
	}
	return table
}

// record makes an event: the row id appears with the value v.
func (c *cluster) record(table *schema.Table, id, v byte) *kgo.Record {
	c.t.Helper()
	encoder, err := schema.NewAvroEncoder(table)
	c.check(err)
	header := func(text string) []byte {
		return binary.LittleEndian.AppendUint64([]byte{0xc3, 1}, schema.AvroFingerprint(text))
	}
	r := &kgo.Record{Topic: "p.shop." + table.Name, Partition: int32(id % 2)}
	partition := [][]byte{{0, 0, 0, id}}
	r.Key, err = encoder.AppendKey(header(schema.AvroKeySchema(table, "p")), partition, nil, false)
	c.check(err)
	r.Value, err = encoder.AppendEnvelope(header(schema.AvroValueSchema(table, "p")), &schema.AvroEnvelope{
		Partition: partition, After: [][]byte{nil, {0, 0, 0, v}}, Op: 'c', Source: schema.AvroSource{Complete: true, Reason: "mutation"},
	})
	c.check(err)
	return r
}

// write writes records in a transaction.
func (c *cluster) write(end kgo.TransactionEndTry, records ...*kgo.Record) {
	c.t.Helper()
	c.check(c.txn.BeginTransaction())
	c.check(c.txn.ProduceSync(c.ctx, records...).FirstErr())
	c.check(c.txn.EndTransaction(c.ctx, end))
}

func line(table string, id, v int) string {
	return fmt.Sprintf("1970-01-01 00:00:00.000 c shop.%s id=%d v: %d", table, id, v)
}

func (c *cluster) config(out, notes io.Writer) Config {
	return Config{ClientOpts: c.opts, Prefix: "p", Out: out, Notes: notes}
}

// lines are those of a run that ends at the end of the topics.
func (c *cluster) lines(cfg Config) map[string]int {
	c.t.Helper()
	var out, notes bytes.Buffer
	cfg.ClientOpts, cfg.Prefix, cfg.UntilEnd, cfg.Out, cfg.Notes = c.opts, "p", true, &out, &notes
	c.check(Follow(c.ctx, cfg))
	if notes.Len() > 0 {
		c.t.Errorf("remarks: %s", &notes)
	}
	seen := map[string]int{}
	for l := range strings.Lines(out.String()) {
		seen[strings.TrimSuffix(l, "\n")]++
	}
	return seen
}

func (c *cluster) expect(got map[string]int, want ...string) {
	c.t.Helper()
	for _, l := range want {
		if got[l] != 1 {
			c.t.Errorf("%d times: %s", got[l], l)
		}
	}
	if len(got) != len(want) {
		c.t.Errorf("expected %d lines, found %d: %v", len(want), len(got), got)
	}
}

func TestUntilEnd(t *testing.T) {
	c := startCluster(t)
	c.makeTopic("p.schemas", 1)
	orders, stock := c.table("orders"), c.table("stock")
	c.makeTopic("p.shop.empty", 2)
	c.makeTopic("p.raw", 1)
	c.makeTopic("pp.shop.orders", 1)
	c.makeTopic("p.a.b.c", 1)
	for _, other := range []string{"p.raw", "pp.shop.orders", "p.a.b.c"} {
		c.check(c.plain.ProduceSync(c.ctx, &kgo.Record{Topic: other, Value: []byte("not an event")}).FirstErr())
	}
	c.write(kgo.TryCommit, c.record(orders, 1, 10), c.record(orders, 2, 20))
	c.write(kgo.TryAbort, c.record(orders, 1, 11), c.record(stock, 2, 21))
	c.write(kgo.TryCommit, c.record(stock, 3, 30))
	c.write(kgo.TryAbort, c.record(stock, 3, 31))

	c.expect(c.lines(Config{}), line("orders", 1, 10), line("orders", 2, 20), line("stock", 3, 30))
	c.expect(c.lines(Config{Tables: []string{"shop.stock"}}), line("stock", 3, 30))
	c.expect(c.lines(Config{Tables: []string{"shop"}}), line("orders", 1, 10), line("orders", 2, 20), line("stock", 3, 30))
	c.expect(c.lines(Config{Tables: []string{"shop.empty"}}))
	if got := c.lines(Config{JSON: true}); len(got) != 3 {
		t.Errorf("%d lines of JSON", len(got))
	}

	for tables, says := range map[string]string{
		"shop.none": "there is no topic p.shop.none; check topic-prefix",
		"sho":       "there is no topic p.sho.*; check topic-prefix",
		"a.b.c":     "expected KEYSPACE.TABLE",
		"shop.":     "expected KEYSPACE.TABLE",
		"":          "expected KEYSPACE.TABLE",
	} {
		cfg := c.config(io.Discard, io.Discard)
		cfg.UntilEnd, cfg.Tables = true, []string{tables}
		if err := Follow(c.ctx, cfg); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("tables %q: %v, expected %q", tables, err, says)
		}
	}
}

// TestOpenTransaction holds that the end is that of what is committed.
func TestOpenTransaction(t *testing.T) {
	c := startCluster(t)
	c.makeTopic("p.schemas", 1)
	orders := c.table("orders")
	c.write(kgo.TryCommit, c.record(orders, 1, 10))
	c.check(c.txn.BeginTransaction())
	c.check(c.txn.ProduceSync(c.ctx, c.record(orders, 1, 11)).FirstErr())
	c.expect(c.lines(Config{}), line("orders", 1, 10))
	c.check(c.txn.EndTransaction(c.ctx, kgo.TryCommit))
	c.expect(c.lines(Config{}), line("orders", 1, 10), line("orders", 1, 11))
}

// writerFunc is called with each line.
type writerFunc func(line string)

func (f writerFunc) Write(b []byte) (int, error) {
	f(strings.TrimSuffix(string(b), "\n"))
	return len(b), nil
}

// TestUntilEndStopsAtItsEnd writes to one partition while the other is still read, one batch a fetch: what was not there at
// the start is not printed.
func TestUntilEndStopsAtItsEnd(t *testing.T) {
	c := startCluster(t)
	c.makeTopic("p.schemas", 1)
	orders := c.table("orders")
	c.write(kgo.TryCommit, c.record(orders, 2, 1))
	for v := byte(1); v <= 20; v++ {
		c.write(kgo.TryCommit, c.record(orders, 1, v))
	}
	got := map[string]int{}
	cfg := c.config(writerFunc(func(l string) {
		got[l]++
		c.write(kgo.TryCommit, c.record(orders, 2, byte(100+len(got))))
	}), io.Discard)
	cfg.UntilEnd = true
	cfg.ClientOpts = append(c.opts[:2:2], kgo.FetchMaxPartitionBytes(1), kgo.FetchMaxBytes(1))
	c.check(Follow(c.ctx, cfg))
	want := []string{line("orders", 2, 1)}
	for v := 1; v <= 20; v++ {
		want = append(want, line("orders", 1, v))
	}
	c.expect(got, want...)
}

// following runs Follow until the test ends it.
type following struct {
	lines chan string
	stop  func() error
}

// Write takes the printed lines, one by one.
func (f *following) Write(b []byte) (int, error) {
	f.lines <- strings.TrimSuffix(string(b), "\n")
	return len(b), nil
}

func (c *cluster) follow(cfg Config) *following {
	ctx, cancel := context.WithCancel(c.ctx)
	f := &following{lines: make(chan string, 100)}
	cfg.Out = f
	if cfg.Notes == nil {
		cfg.Notes = f
	}
	done := make(chan error, 1)
	go func() { done <- Follow(ctx, cfg) }()
	f.stop = func() error {
		cancel()
		return <-done
	}
	return f
}

func (f *following) next(c *cluster) string {
	c.t.Helper()
	select {
	case l := <-f.lines:
		return l
	case <-c.ctx.Done():
		c.t.Fatal("no line came")
		return ""
	}
}

// TestNewTopics holds that a topic that is made later is printed from its first event, and one that was there before from
// the moment of the start on.
func TestNewTopics(t *testing.T) {
	c := startCluster(t)
	f := c.follow(c.config(nil, nil))
	if got, want := f.next(c), "There is no topic p.*.* yet; waiting for one."; got != want {
		t.Fatalf("%q, expected %q", got, want)
	}
	c.makeTopic("p.schemas", 1)
	orders := c.table("orders")
	c.write(kgo.TryCommit, c.record(orders, 1, 10), c.record(orders, 1, 11))
	for _, want := range []string{line("orders", 1, 10), line("orders", 1, 11)} {
		if got := f.next(c); got != want {
			t.Errorf("%q, expected %q", got, want)
		}
	}
	c.write(kgo.TryCommit, c.record(orders, 1, 12))
	if got, want := f.next(c), line("orders", 1, 12); got != want {
		t.Errorf("%q, expected %q", got, want)
	}
	if err := f.stop(); err != nil {
		t.Error(err)
	}
}

// TestFromTheEnd writes one event after another until the first is printed: those before the start must not be.
func TestFromTheEnd(t *testing.T) {
	c := startCluster(t)
	c.makeTopic("p.schemas", 1)
	orders := c.table("orders")
	c.write(kgo.TryCommit, c.record(orders, 1, 1))
	f := c.follow(c.config(nil, nil))
	var first string
	for v := byte(0); first == "" && c.ctx.Err() == nil; v++ {
		c.write(kgo.TryCommit, c.record(orders, 1, 2+v%100))
		select {
		case first = <-f.lines:
		case <-time.After(20 * time.Millisecond):
		}
	}
	if first == "" || first == line("orders", 1, 1) {
		t.Errorf("the first line is %q", first)
	}
	if err := f.stop(); err != nil {
		t.Error(err)
	}
}

// TestDamagedRecords holds that what is no event is named and left out, and the rest printed.
func TestDamagedRecords(t *testing.T) {
	c := startCluster(t)
	c.makeTopic("p.schemas", 1)
	orders := c.table("orders")
	c.write(kgo.TryCommit, c.record(orders, 2, 1), &kgo.Record{Topic: "p.shop.orders", Key: []byte("k"), Value: []byte("v")}, c.record(orders, 2, 2))
	var out, notes bytes.Buffer
	cfg := c.config(&out, &notes)
	cfg.UntilEnd = true
	err := Follow(c.ctx, cfg)
	if err == nil || err.Error() != "1 records could not be read; they are named above" {
		t.Errorf("%v", err)
	}
	if got, want := out.String(), line("orders", 2, 1)+"\n"+line("orders", 2, 2)+"\n"; got != want {
		t.Errorf("printed\n%s, expected\n%s", got, want)
	}
	if got, want := notes.String(), "A record was left out: topic p.shop.orders, partition 0, offset 1: key: expected Avro's single-object encoding"; !strings.HasPrefix(got, want) {
		t.Errorf("remarked %q, expected %q", got, want)
	}
}

// TestUnreachable holds that a broker or a registry that is not there is one sentence.
func TestUnreachable(t *testing.T) {
	cfg := Config{ClientOpts: []kgo.Opt{kgo.SeedBrokers("127.0.0.1:1")}, Prefix: "p", Out: io.Discard, Notes: io.Discard}
	err := Follow(t.Context(), cfg)
	if err == nil || !strings.HasPrefix(err.Error(), "no Kafka broker answers: ") || strings.Contains(err.Error(), "\n") {
		t.Errorf("%v", err)
	}

	c := startCluster(t)
	c.makeTopic("p.schemas", 1)
	orders := c.table("orders")
	r := c.record(orders, 1, 1)
	r.Key = registry.AppendConfluentHeader(nil, 1)
	c.write(kgo.TryCommit, r)
	cfg = c.config(io.Discard, io.Discard)
	cfg.UntilEnd = true
	err = Follow(c.ctx, cfg)
	if err == nil || err.Error() != "topic p.shop.orders: key: its schema is number 1 of a schema registry, and none is given; give registry-url" {
		t.Errorf("%v", err)
	}
}

// TestPrintFails holds that output that takes nothing ends it.
func TestPrintFails(t *testing.T) {
	c := startCluster(t)
	c.makeTopic("p.schemas", 1)
	c.write(kgo.TryCommit, c.record(c.table("orders"), 1, 1))
	full := errors.New("disk full")
	reader, writer := io.Pipe()
	c.check(reader.CloseWithError(full))
	cfg := c.config(writer, io.Discard)
	cfg.UntilEnd = true
	if err := Follow(c.ctx, cfg); !errors.Is(err, full) {
		t.Errorf("%v, expected %v", err, full)
	}
}

// TestUntilEndEndsWithTheContext holds that an interrupted run is no failure.
func TestUntilEndEndsWithTheContext(t *testing.T) {
	c := startCluster(t)
	ctx, cancel := context.WithCancel(c.ctx)
	cancel()
	if err := Follow(ctx, c.config(io.Discard, io.Discard)); err != nil {
		t.Error(err)
	}
}
