package dedup

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"

	"cassdelta/internal/rawtopic"
	"cassdelta/schema"
	"cassdelta/state"
)

// counter is a fold that counts: a Tick record with the watermark n makes n events, each of which says the count
// before and after it. So the events of a raw partition must be 0 to 1, 1 to 2, and so on, each once: one that is lost,
// repeated, or made from a state that is ahead or behind breaks the chain. A negative watermark is refused.
type counter struct {
	partition int32
	stats     Stats
	event     Event
	loaded    bool
	count     int64
}

var counterTable = func() *schema.Table {
	t, err := schema.NewTable(schema.Table{
		Keyspace: "ks", Name: "counted", ID: schema.UUID{1},
		Columns: []schema.Column{{Name: "k", Kind: schema.PartitionKey, Type: mustType("int")}},
	})
	if err != nil {
		panic(err)
	}
	return t
}()

func mustType(name string) *schema.Type {
	t, err := schema.ParseType(name, nil)
	if err != nil {
		panic(err)
	}
	return t
}

func (c *counter) key() []byte { return state.Meta(nil, uint16(c.partition), "count") }

func (c *counter) Apply(tx *state.Txn, offset int64, rec *rawtopic.Record, done, limit int64, emit func(*Event) error) (int64, bool, error) {
	if rec.Kind != rawtopic.KindTick {
		return 0, true, nil
	}
	total := rec.Tick.Watermark
	if total < 0 {
		return 0, false, &RecordError{Partition: c.partition, Offset: offset, Kind: rec.Kind, Reason: "it counts backwards"}
	}
	if !c.loaded {
		value, err := tx.Get(c.key())
		if err != nil {
			return 0, false, err
		}
		c.count, c.loaded = 0, true
		if value != nil {
			c.count = int64(binary.BigEndian.Uint64(value))
		}
	}
	var emitted int64
	for ; done+emitted < total && emitted < limit; emitted++ {
		c.event = Event{
			Table: counterTable, Op: Create, RawPartition: c.partition, RawOffset: offset, Index: done + emitted,
			Before: [][]byte{binary.BigEndian.AppendUint64(nil, uint64(c.count))},
			After:  [][]byte{binary.BigEndian.AppendUint64(nil, uint64(c.count+1))},
		}
		c.count++
		if err := emit(&c.event); err != nil {
			return emitted, false, err
		}
	}
	if err := tx.Set(c.key(), binary.BigEndian.AppendUint64(nil, uint64(c.count))); err != nil {
		return emitted, false, err
	}
	finished := done+emitted == total
	if finished {
		c.stats.Changed++
	}
	return emitted, finished, nil
}

func (c *counter) Reset()       { c.loaded = false }
func (c *counter) Stats() Stats { return c.stats }

// counted is one event of a counter, as it stands in the clean topic.
type counted struct {
	partition             int32
	offset, index         int64
	before, after, copied int64
}

// encoder writes the events of counters. It fails while fail says so.
type encoder struct {
	fail func(e *Event) error
}

const (
	rawName    = "raw"
	cleanName  = "clean"
	letterName = "letters"
	groupName  = "dedup"
	rawParts   = 4
	cleanParts = 2
)

func (e *encoder) Encode(_ context.Context, ev *Event, dst *kgo.Record, buf []byte) ([]byte, error) {
	if e.fail != nil {
		if err := e.fail(ev); err != nil {
			return buf, err
		}
	}
	start := len(buf)
	buf = binary.BigEndian.AppendUint32(buf, uint32(ev.RawPartition))
	buf = binary.BigEndian.AppendUint64(buf, uint64(ev.RawOffset))
	buf = binary.BigEndian.AppendUint64(buf, uint64(ev.Index))
	buf = append(buf, ev.Before[0]...)
	buf = append(buf, ev.After[0]...)
	*dst = kgo.Record{Topic: cleanName, Partition: ev.RawPartition % cleanParts, Value: buf[start:]}
	return buf, nil
}

func decodeCounted(v []byte) counted {
	n := func(from int) int64 { return int64(binary.BigEndian.Uint64(v[from:])) }
	return counted{partition: int32(binary.BigEndian.Uint32(v)), offset: n(4), index: n(12), before: n(20), after: n(28)}
}

// rig is a fake Kafka, what was written to its raw topic, and what is expected of the clean topic.
type rig struct {
	t       testing.TB
	ctx     context.Context
	cluster *kfake.Cluster
	opts    []kgo.Opt
	writer  *kgo.Client
	adm     *kadm.Client

	want    [rawParts]int64 // events
	letters int
}

func newRig(t testing.TB) *rig {
	t.Helper()
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(cleanParts, cleanName))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	t.Cleanup(cancel)
	w := &rig{t: t, ctx: ctx, cluster: cluster, opts: []kgo.Opt{
		kgo.SeedBrokers(cluster.ListenAddrs()...), kgo.FetchMaxWait(20 * time.Millisecond),
	}}
	w.writer = w.client(kgo.RecordPartitioner(kgo.ManualPartitioner()))
	w.adm = kadm.NewClient(w.writer)
	id, err := rawtopic.EnsureTopic(ctx, w.writer, rawName, rawParts, 1)
	if err != nil {
		t.Fatal(err)
	}
	err = rawtopic.WriteInit(ctx, w.writer, rawName, rawtopic.Init{Cluster: "c", TopicID: id, Partitions: rawParts, Version: rawtopic.Version})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *rig) client(more ...kgo.Opt) *kgo.Client {
	w.t.Helper()
	cl, err := kgo.NewClient(slices.Concat(w.opts, more)...)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(cl.Close)
	return cl
}

// write puts records that make so many events each into a raw partition.
func (w *rig) write(partition int32, events ...int64) {
	w.t.Helper()
	var values [][]byte
	for _, n := range events {
		values = append(values, rawtopic.Append(nil, &rawtopic.Record{Kind: rawtopic.KindTick, Tick: &rawtopic.Tick{Watermark: n}}))
		if n >= 0 {
			w.want[partition] += n
		} else {
			w.letters++
		}
	}
	w.writeRaw(partition, values...)
}

func (w *rig) writeRaw(partition int32, values ...[]byte) {
	w.t.Helper()
	var records []*kgo.Record
	for _, v := range values {
		records = append(records, &kgo.Record{Topic: rawName, Partition: partition, Value: v})
	}
	if err := w.writer.ProduceSync(w.ctx, records...).FirstErr(); err != nil {
		w.t.Fatal(err)
	}
}

// running is a worker at work.
type running struct {
	w    *rig
	stop context.CancelFunc
	done chan struct{}
	err  error // once done is closed
	*Worker
}

// start runs a worker. It must end without an error unless the test takes that with wait.
func (w *rig) start(name string, files vfs.FS, change ...func(*Worker)) *running {
	w.t.Helper()
	worker, err := NewWorker(WorkerConfig{
		ClientOpts: w.opts, RawTopic: rawName, Group: groupName, TransactionalID: name, DeadLetterTopic: letterName, DeadLetterReplication: 1,
		StateDirectory: "state", MemoryBytes: 16 << 20, Emitter: &encoder{}, CommitInterval: 5 * time.Millisecond, MaxEventsPerTxn: 100,
		Log: w.log(name),
	})
	if err != nil {
		w.t.Fatal(err)
	}
	worker.stores.FS = files
	worker.newFold = func(p int32) folder { return &counter{partition: p} }
	worker.crash = func(at stage) error { return w.invariant(worker, at) }
	for _, c := range change {
		c(worker)
	}
	ctx, stop := context.WithCancel(w.ctx)
	r := &running{w: w, stop: stop, done: make(chan struct{}), Worker: worker}
	go func() {
		defer close(r.done)
		r.err = worker.Run(ctx)
	}()
	w.t.Cleanup(func() { stop(); <-r.done })
	return r
}

func (w *rig) log(name string) *zap.Logger {
	return zaptest.NewLogger(w.t, zaptest.Level(zap.InfoLevel)).Named(name)
}

// end stops the worker and returns what Run returned.
func (r *running) end() error {
	r.stop()
	<-r.done
	return r.err
}

// wait returns what Run returns without being stopped.
func (r *running) wait() error {
	select {
	case <-r.done:
		return r.err
	case <-r.w.ctx.Done():
		r.w.t.Fatal("the worker did not end")
		return nil
	}
}

// invariant checks that no state is ahead of the group's position: S <= C.
func (w *rig) invariant(worker *Worker, at stage) error {
	worker.metrics.stores.mu.Lock()
	positions := map[int32]state.Position{}
	for p, s := range worker.metrics.stores.open {
		if position, ok := s.Position(); ok {
			positions[p] = position
		}
	}
	worker.metrics.stores.mu.Unlock()
	// The positions of the group are asked for after those of the states: they only grow.
	group, err := w.positions()
	if err != nil {
		return nil // the test makes the brokers fail
	}
	for p, s := range positions {
		if c, ok := group[p]; !ok || s.Compare(c.Position) > 0 {
			w.t.Errorf("partition %d, %s: the state is at %v, the group at %v (known: %v)", p, at, s, c, ok)
		}
	}
	return nil
}

// positions are the group's, those of open transactions left out.
func (w *rig) positions() (map[int32]committed, error) {
	answer, err := w.adm.FetchOffsets(w.ctx, groupName)
	if err != nil {
		return nil, err
	}
	group := map[int32]committed{}
	for p, o := range answer[rawName] {
		if group[p], err = parseCommitted(o.At, o.LeaderEpoch, o.Metadata); err != nil {
			return nil, err
		}
	}
	return group, nil
}

// settle returns once the clean topic has all that is expected of it, and fails if it has anything else. The chain of each partition
// is checked event by event.
func (w *rig) settle() {
	w.t.Helper()
	cl := w.client(append(committedOnly, kgo.ConsumeTopics(cleanName))...)
	defer cl.Close()
	var counts [rawParts]int64
	take := func(fetches kgo.Fetches) {
		fetches.EachRecord(func(r *kgo.Record) {
			e := decodeCounted(r.Value)
			if e.before != counts[e.partition] || e.after != e.before+1 {
				w.t.Fatalf("raw partition %d: after %d events comes one from %d to %d (event %d of offset %d)",
					e.partition, counts[e.partition], e.before, e.after, e.index, e.offset)
			}
			counts[e.partition]++
		})
	}
	for counts != w.want {
		for p := range counts {
			if counts[p] > w.want[p] {
				w.t.Fatalf("raw partition %d has %d events, expected %d", p, counts[p], w.want[p])
			}
		}
		fetches := cl.PollFetches(w.ctx)
		if w.ctx.Err() != nil {
			w.t.Fatalf("the clean topic has %v events, expected %v", counts, w.want)
		}
		take(fetches)
	}
	if n := w.countLetters(); n != w.letters {
		w.t.Fatalf("%d dead letters, expected %d", n, w.letters)
	}
}

// committedOnly are the options of a reader.
var committedOnly = []kgo.Opt{kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart())}

// countLetters reads the dead-letter topic until it has what is expected, and counts it.
func (w *rig) countLetters() int {
	if w.letters == 0 {
		return 0
	}
	return len(w.readLetters(w.letters))
}

func (w *rig) readLetters(n int) []*kgo.Record {
	w.t.Helper()
	cl := w.client(append(committedOnly, kgo.ConsumeTopics(letterName))...)
	defer cl.Close()
	var letters []*kgo.Record
	for len(letters) < n {
		fetches := cl.PollFetches(w.ctx)
		if w.ctx.Err() != nil {
			w.t.Fatalf("%d dead letters, expected %d", len(letters), n)
		}
		letters = append(letters, fetches.Records()...)
	}
	return letters
}

// finished checks, once all workers have ended, that nothing was written beyond what is expected.
func (w *rig) finished() {
	w.t.Helper()
	w.settle()
	ends, err := w.adm.ListEndOffsets(w.ctx, rawName)
	if err != nil {
		w.t.Fatal(err)
	}
	group, err := w.positions()
	if err != nil {
		w.t.Fatal(err)
	}
	for p := range int32(rawParts) {
		end, _ := ends.Lookup(rawName, p)
		if c := group[p]; c.Position != (state.Position{Offset: end.Offset}) {
			w.t.Errorf("partition %d: the group is at %v, the log ends at %d", p, c, end.Offset)
		}
	}
}

// crashAt makes a worker crash at the nth time it comes to a stage, and takes a copy of its disk at that moment.
type crashAt struct {
	stage stage
	after int
	disk  func() *vfs.MemFS

	mu   sync.Mutex
	seen int
	copy *vfs.MemFS
}

func (c *crashAt) arm(w *rig) func(*Worker) {
	return func(worker *Worker) {
		worker.crash = func(at stage) error {
			if err := w.invariant(worker, at); err != nil {
				return err
			}
			c.mu.Lock()
			defer c.mu.Unlock()
			if c.copy != nil {
				return fmt.Errorf("%w: it is dead", errCrash)
			}
			if at != c.stage {
				return nil
			}
			if c.seen++; c.seen < c.after {
				return nil
			}
			c.copy = c.disk()
			return fmt.Errorf("%w: %s", errCrash, at)
		}
	}
}

func isCrash(err error) bool { return errors.Is(err, errCrash) }
