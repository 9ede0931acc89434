package agent

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"cassdelta/commitlog"
	"cassdelta/internal/rawtopic"
	"cassdelta/schema"
)

const (
	rawTopic    = "raw"
	deadLetters = "dead"
	partitions  = 5
)

var host = schema.UUID{0: 0xd8, 15: 1}

// source is a schema that a test changes.
type source struct {
	mu     sync.Mutex
	tables []*schema.Table
	err    error
	reads  int
	// onRead, if not nil, is called before each reading with its number, from 1.
	onRead func(n int)
}

func (s *source) Read(context.Context) (*schema.Catalog, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reads++
	if s.onRead != nil {
		s.onRead(s.reads)
	}
	if s.err != nil {
		return nil, s.err
	}
	return schema.NewCatalog(s.tables), nil
}

// kafka is a broker within the test.
type kafka struct {
	t       testing.TB
	cluster *kfake.Cluster
	opts    []kgo.Opt
}

func startKafka(t testing.TB) *kafka {
	t.Helper()
	c, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return &kafka{t, c, clientOpts(c.ListenAddrs()...)}
}

// clientOpts are those of clients that try again at once.
func clientOpts(brokers ...string) []kgo.Opt {
	return []kgo.Opt{
		kgo.SeedBrokers(brokers...), kgo.MetadataMinAge(10 * time.Millisecond), kgo.ProducerLinger(0),
		kgo.RetryBackoffFn(func(int) time.Duration { return 10 * time.Millisecond }),
	}
}

// records reads a topic from its start to its present end; the result has a list for each partition.
func (k *kafka) records(topic string) [][]*kgo.Record {
	k.t.Helper()
	cl, err := kgo.NewClient(append(k.opts[:len(k.opts):len(k.opts)], kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))...)
	if err != nil {
		k.t.Fatal(err)
	}
	defer cl.Close()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	ends, err := kadm.NewClient(cl).ListEndOffsets(ctx, topic)
	if err != nil {
		k.t.Fatal(err)
	}
	missing := int64(0)
	all := make([][]*kgo.Record, len(ends[topic]))
	ends.Each(func(o kadm.ListedOffset) { missing += o.Offset })
	for missing > 0 {
		fetches := cl.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			k.t.Fatal(err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			all[r.Partition] = append(all[r.Partition], r)
			missing--
		})
	}
	return all
}

// patience is how long the tests wait for what is to come: longer than any machine takes.
const patience = 2 * time.Minute

// rig is an agent's surroundings: a node, a broker, a schema, a state directory, and the log.
type rig struct {
	*testing.T
	node   *node
	kafka  *kafka
	source *source
	config Config
	bounds bounds
	logs   *observer.ObservedLogs
}

func newRig(t *testing.T, n *node, k *kafka, tables ...*schema.Table) *rig {
	core, logs := observer.New(zapcore.DebugLevel)
	r := &rig{T: t, node: n, kafka: k, source: &source{tables: tables}, logs: logs}
	r.config = Config{
		ClientOpts: k.opts, RawTopic: rawTopic, RawPartitions: partitions, DeadLetterTopic: deadLetters,
		CDCRawDirectory: n.dir, StateDirectory: filepath.Join(t.TempDir(), "state"),
		Source: r.source, Host: host, Cluster: "test", UntilEnd: true, Log: zap.New(core),
	}
	r.bounds = defaultBounds
	r.bounds.start = patience
	r.bounds.keep = 5 * time.Millisecond
	r.bounds.schema = schemaBounds{read: patience, backoff: time.Millisecond, patience: patience, slack: time.Hour, look: 10 * time.Second}
	return r
}

func (r *rig) agent() *Agent {
	r.Helper()
	a, err := New(r.config)
	if err != nil {
		r.Fatal(err)
	}
	a.bounds = r.bounds
	return a
}

// run runs an agent to the end of the directory.
func (r *rig) run() {
	r.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := r.agent().Run(ctx); err != nil {
		r.Fatal(err)
	}
	if ctx.Err() != nil {
		r.Fatal("the agent does not come to the end of the directory")
	}
}

// start runs an agent that follows the node until stop is called, which gives its error.
func (r *rig) start() (stop func() error) {
	r.Helper()
	r.config.UntilEnd = false
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	a := r.agent()
	go func() { done <- a.Run(ctx) }()
	stop = sync.OnceValue(func() error {
		cancel()
		return <-done
	})
	r.Cleanup(func() { stop() })
	return stop
}

// await polls until a condition holds.
func (r *rig) await(what string, holds func() bool) {
	r.Helper()
	for deadline := time.Now().Add(patience); !holds(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			r.Fatalf("waited in vain: %s; log: %v", what, r.messages())
		}
	}
}

func (r *rig) messages() (all []string) {
	for _, e := range r.logs.All() {
		text := e.Level.String() + ": " + e.Message
		if err, ok := e.ContextMap()["error"]; ok {
			text += ": " + err.(string)
		}
		all = append(all, text)
	}
	return all
}

// position is what the position file holds.
func (r *rig) position() stored {
	r.Helper()
	s := &state{dir: r.config.StateDirectory, host: host}
	p, err := s.load()
	if err != nil {
		r.Fatal(err)
	}
	return p
}

// files are the names in the cdc_raw directory.
func (r *rig) files() (names []string) {
	r.Helper()
	entries, err := os.ReadDir(r.node.dir)
	if err != nil {
		r.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// published checks the protocol of the raw topic, and gives the updates in it, by partition, repeats included.
func (r *rig) published() [][]change {
	r.Helper()
	all := make([][]change, partitions)
	for p, records := range r.kafka.records(rawTopic) {
		tables := map[schema.Hash]*schema.Table{}
		var decoder rawtopic.Decoder
		var assembly rawtopic.Assembly
		var parts []byte
		for i, kr := range records {
			var rec rawtopic.Record
			if err := decoder.Decode(kr.Value, &rec); err != nil {
				r.Fatal(err)
			}
			if kr.Key != nil {
				r.Errorf("partition %d, offset %d: has a key", p, i)
			}
			if (i == 0) != (rec.Kind == rawtopic.KindInit) {
				r.Errorf("partition %d, offset %d: kind %d", p, i, rec.Kind)
			}
			if rec.Kind == rawtopic.KindPart {
				if len(kr.Value) > r.config.MaxRecordBytes {
					r.Errorf("partition %d, offset %d: %d bytes, at most %d are allowed", p, i, len(kr.Value), r.config.MaxRecordBytes)
				}
				next, step := assembly.Add(rec.Part)
				assembly = next
				switch step {
				case rawtopic.StepBegin:
					parts = append([]byte(nil), rec.Part.Bytes...)
				case rawtopic.StepAppend, rawtopic.StepComplete:
					parts = append(parts, rec.Part.Bytes...)
				default:
					r.Errorf("partition %d, offset %d: part %+v gives step %d", p, i, rec.Part.Origin, step)
				}
				if step != rawtopic.StepComplete {
					continue
				}
				if err := decoder.Decode(parts, &rec); err != nil {
					r.Fatal(err)
				}
			}
			switch rec.Kind {
			case rawtopic.KindInit:
			case rawtopic.KindSchema:
				table, err := schema.ParseDefinition(rec.Schema.Definition)
				if err != nil {
					r.Fatal(err)
				}
				tables[rec.Schema.Hash] = table
			case rawtopic.KindData:
				d := rec.Data
				table := tables[d.Schema]
				if table == nil {
					r.Fatalf("partition %d, offset %d: data before its definition", p, i)
				}
				c := change{position: d.Origin.Position, update: int(d.Origin.Update), table: table, key: string(d.Key)}
				if len(d.Rows) == 1 && len(d.Rows[0].Cells) == 1 {
					c.value = string(d.Rows[0].Cells[0].Value)
				}
				if d.Origin.Host != r.config.Host || partitionOf(c.key) != int32(p) {
					r.Errorf("partition %d, offset %d: host %v, key %q", p, i, d.Origin.Host, c.key)
				}
				all[p] = append(all[p], c)
			default:
				r.Errorf("partition %d, offset %d: kind %d", p, i, rec.Kind)
			}
		}
	}
	return all
}

// same compares all but the object that describes the table.
func (c change) same(d change) bool {
	return c.position == d.position && c.update == d.update && c.key == d.key && c.value == d.value && c.table.Hash() == d.table.Hash()
}

// checkAtLeastOnce checks that each partition has all changes in the order of the log, where a restart may go back and
// repeat, and never leaves one out. It gives the number of updates that are there more than once.
func (r *rig) checkAtLeastOnce(want []change) (repeats int) {
	r.Helper()
	expected := make([][]change, partitions)
	for _, c := range want {
		p := partitionOf(c.key)
		expected[p] = append(expected[p], c)
	}
	for p, got := range r.published() {
		last := -1
		for i, c := range got {
			at := slices.IndexFunc(expected[p], c.same)
			if at < 0 {
				r.Fatalf("partition %d: the %dth update was never written: %+v", p, i, c)
			}
			if at > last+1 {
				r.Fatalf("partition %d: the %dth update is number %d of the log, behind number %d", p, i, at, last)
			}
			last = at
		}
		if last != len(expected[p])-1 {
			r.Fatalf("partition %d ends with number %d of %d", p, last, len(expected[p]))
		}
		repeats += len(got) - len(expected[p])
	}
	return repeats
}

func TestPublishesInOrderAndRemoves(t *testing.T) {
	a, b, other := newTable(t, "shop", "a", 1), newTable(t, "shop", "b", 2), newTable(t, "other", "x", 3, notCaptured)
	plain := newTable(t, "shop", "plain", 4, notCaptured)
	n := newNode(t, 4096)
	for i := range 300 {
		key := string(rune('a' + i%13))
		switch i % 4 {
		case 0:
			n.write(update{table: a, key: key, ck: int32(i), value: "one"})
		case 1:
			n.write(update{table: plain, key: key}, update{table: b, key: key, value: "two"}, update{table: a, key: key, value: "three"})
		case 2:
			n.write(update{table: other, key: key})
		case 3:
			n.write(update{table: plain, key: key})
		}
		if i%7 == 0 {
			n.sync()
		}
	}
	n.finish()
	r := newRig(t, n, startKafka(t), a, b, other, plain)
	var observed atomic.Int64
	r.config.Observe = func(n int) { observed.Add(int64(n)) }
	r.run()
	if repeats := r.checkAtLeastOnce(n.written); repeats != 0 {
		t.Errorf("%d repeats without a restart", repeats)
	}
	if int(observed.Load()) != len(n.written) {
		t.Errorf("observed %d updates, expected %d", observed.Load(), len(n.written))
	}
	if files := r.files(); len(files) != 0 {
		t.Errorf("left in the directory: %v", files)
	}
	p := r.position()
	if p.Segment != n.id || len(p.Finished) != int(n.id-1795488838000) {
		t.Errorf("position %+v, the last segment is %d", p, n.id)
	}

	// Nothing is repeated, and a segment that a crash replay links back is removed again without being read.
	relinked := *n
	relinked.id--
	relinked.open()
	relinked.append(mutation(update{id: schema.UUID{9}, key: "would be a dead letter"}))
	relinked.finish()
	r.run()
	if repeats := r.checkAtLeastOnce(n.written); repeats != 0 || len(r.files()) != 0 {
		t.Errorf("after the second run: %d repeats, files %v", repeats, r.files())
	}
	if dead := r.kafka.records(deadLetters)[0]; len(dead) != 0 {
		t.Errorf("%d dead letters", len(dead))
	}
}

func TestFollowsANode(t *testing.T) {
	for _, mode := range []commitlog.Mode{commitlog.Durable, commitlog.Live} {
		a := newTable(t, "shop", "a", 1)
		n := newNode(t, 2048)
		r := newRig(t, n, startKafka(t), a)
		r.config.Mode = mode
		var observed atomic.Int64
		r.config.Observe = func(n int) { observed.Add(int64(n)) }
		stop := r.start()
		for i := range 100 {
			n.write(update{table: a, key: string(rune('a' + i%20)), ck: int32(i), value: "something"})
			if i%10 == 9 {
				n.sync()
				r.await("what was synced is published", func() bool { return int(observed.Load()) == i+1 })
			}
		}
		n.finish()
		r.await("all segments are removed", func() bool { return len(r.files()) == 0 })
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		if repeats := r.checkAtLeastOnce(n.written); repeats != 0 {
			t.Errorf("%d repeats", repeats)
		}
	}
}

func TestKeepsSegments(t *testing.T) {
	a := newTable(t, "shop", "a", 1)
	n := newNode(t, 4096)
	n.write(update{table: a, key: "k"})
	n.finish()
	r := newRig(t, n, startKafka(t), a)
	r.config.KeepSegments = true
	r.run()
	r.run()
	if files := r.files(); len(files) != 2 {
		t.Errorf("files %v", files)
	}
	if repeats := r.checkAtLeastOnce(n.written); repeats != 0 {
		t.Errorf("%d repeats", repeats)
	}
}

var errSource = errors.New("no contact point answers")

func itoa(n int64) string { return strconv.FormatInt(n, 10) }

func zapTable(name string) zap.Field { return zap.String("table", name) }
