package dedup

import (
	"context"
	"encoding/base32"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"

	"cassdelta/internal/rawtopic"
	"cassdelta/state"
)

const (
	rawName    = "raw"
	cleanName  = "clean"
	letterName = "letters"
	groupName  = "dedup"
	rawParts   = 4
	cleanParts = 2
)

// rig is a fake Kafka, what was written to its raw topic, and what is expected of the clean topic.
type rig struct {
	t       testing.TB
	ctx     context.Context
	cluster *kfake.Cluster
	opts    []kgo.Opt
	writer  *kgo.Client
	adm     *kadm.Client
	topic   RawTopic

	want    [rawParts]int64 // events
	letters int

	workers []*running
}

func newRig(t testing.TB) *rig {
	t.Helper()
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(cleanParts, cleanName), kfake.GroupMinSessionTimeout(100*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	t.Cleanup(cancel)
	w := &rig{t: t, ctx: ctx, cluster: cluster, opts: []kgo.Opt{
		kgo.SeedBrokers(cluster.ListenAddrs()...), kgo.FetchMaxWait(20 * time.Millisecond), kgo.MetadataMinAge(20 * time.Millisecond),
		kgo.SessionTimeout(time.Second), kgo.HeartbeatInterval(50 * time.Millisecond), kgo.RebalanceTimeout(5 * time.Second),
	}}
	w.writer = w.client(kgo.RecordPartitioner(kgo.ManualPartitioner()))
	w.adm = kadm.NewClient(w.writer)
	id, err := rawtopic.EnsureTopic(ctx, w.writer, rawName, rawParts, 1)
	if err != nil {
		t.Fatal(err)
	}
	w.topic = RawTopic{Name: rawName, ID: id, Partitions: rawParts}
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
		ClientOpts: w.opts, RawTopic: rawName, Group: groupName, DeadLetterTopic: letterName, DeadLetterReplication: 1,
		StateDirectory: stateDirectory, MemoryBytes: 16 << 20, Emitter: &encoder{}, CleanTopics: w.cleanTopics, CommitInterval: 5 * time.Millisecond, MaxEventsPerTxn: 100,
		Log: w.log(name),
	})
	if err != nil {
		w.t.Fatal(err)
	}
	if err := nameInstance(files, instanceOf(name)); err != nil {
		w.t.Fatal(err)
	}
	worker.stores.FS = cloneableFS{files}
	worker.newFold = func(p int32) folder { return newCounter(p) }
	worker.crash = func(at stage) error {
		w.invariant(worker, at)
		return nil
	}
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
	w.workers = append(w.workers, r)
	return r
}

const stateDirectory = "state"

// instanceOf is the id of the state directory of a worker with the name.
func instanceOf(name string) string {
	id := strings.TrimRight(base32.StdEncoding.EncodeToString([]byte(name)), "=")
	return id + strings.Repeat("A", 26-len(id))
}

// sessionOf is the first session of a worker with the name, if its state directory is named after it.
func sessionOf(name string) string { return groupName + "-" + instanceOf(name) + "-0" }

// nameInstance gives the state directory in files an id, unless it has one.
func nameInstance(files vfs.FS, id string) error {
	if _, err := readInstance(files, stateDirectory); err == nil {
		return nil
	}
	return errors.Join(files.MkdirAll(stateDirectory, 0o755), writeInstance(files, stateDirectory, id))
}

func (w *rig) cleanTopics(context.Context) ([]string, error) {
	return []string{"not-there", cleanName}, nil
}

// startEnding runs a worker that comes to an end.
func (w *rig) startEnding(name string, disk *vfs.MemFS, e *ending) *running {
	w.t.Helper()
	ctx, stop := context.WithCancel(w.ctx)
	e.stop = stop
	r := w.start(name, disk, e.arm(w))
	context.AfterFunc(ctx, r.stop)
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

// until returns once the condition holds.
func (w *rig) until(ctx context.Context, what string, holds func() bool) {
	w.t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			w.t.Fatalf("%v: it did not come to this: %s\n%s", context.Cause(ctx), what, w.underWay())
		}
	}
}

// shared returns once each of the workers folds at least one partition, and all of them all.
func (w *rig) shared(workers ...*running) {
	w.t.Helper()
	w.until(w.ctx, fmt.Sprintf("%d workers share the partitions", len(workers)), func() bool {
		sum, least := 0, rawParts
		for _, r := range workers {
			n := r.metrics.stores.count()
			sum, least = sum+n, min(least, n)
		}
		return sum == rawParts && least > 0
	})
}

// folded returns once the group is at the offset.
func (w *rig) folded(partition int32, offset int64) {
	w.t.Helper()
	w.until(w.ctx, fmt.Sprintf("partition %d is folded up to offset %d", partition, offset), func() bool {
		group, err := w.positions()
		return err == nil && group[partition].Offset == offset
	})
}

func (c *storeCollector) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.open)
}

// value is the sum of all that a counter or gauge counts.
func value(t testing.TB, c prometheus.Collector) (sum float64) {
	t.Helper()
	r := prometheus.NewRegistry()
	if err := r.Register(c); err != nil {
		t.Fatal(err)
	}
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	return sum
}

// invariant checks that no state is ahead of the group's position: S <= C.
func (w *rig) invariant(worker *Worker, at stage) {
	worker.metrics.stores.mu.Lock()
	positions := map[int32]state.Position{}
	for p, s := range worker.metrics.stores.open {
		if position, ok := s.Position(); ok {
			positions[p] = position
		}
	}
	worker.metrics.stores.mu.Unlock()
	// The positions of the group are asked for after those of the states: they only grow.
	group, err := tryFetchCommitted(w.ctx, w.writer, groupName, worker.topic, slices.Collect(maps.Keys(positions)))
	if err != nil {
		return // the test makes the brokers fail, or another worker ends a transaction
	}
	for p, s := range positions {
		if c, ok := group[p]; !ok || s.Compare(c.Position) > 0 {
			w.t.Errorf("partition %d, %s: the state is at %v, the group at %v (known: %v)", p, at, s, c, ok)
		}
	}
}

// positions are the group's. It is an error if one of them is in a transaction that is not quite ended.
func (w *rig) positions() (map[int32]committed, error) {
	return tryFetchCommitted(w.ctx, w.writer, groupName, w.topic, []int32{0, 1, 2, 3})
}

// settle returns once all is folded, and the clean topic and the dead-letter topic have all that is expected of them. It fails if they
// have anything else, or if a worker ends meanwhile.
func (w *rig) settle() {
	w.t.Helper()
	ctx, cancel := w.whileWorking(1)
	defer cancel()
	w.settled(ctx)
	w.until(ctx, "the group is at the end of the log", func() bool { return len(w.unfolded()) == 0 })
}

func (w *rig) settled(ctx context.Context) {
	w.t.Helper()
	if counts := w.read(ctx); counts != w.want {
		w.t.Fatalf("%v: the clean topic has %v events, expected %v\n%s", context.Cause(ctx), counts, w.want, w.underWay())
	}
	if w.letters > 0 {
		if n := len(w.readLetters(w.letters)); n != w.letters {
			w.t.Fatalf("%d dead letters, expected %d", n, w.letters)
		}
	}
}

// read reads the clean topic until all that is expected is there or ctx ends, and returns how many events it found for each raw
// partition. The chain of each partition is checked event by event.
func (w *rig) read(ctx context.Context) (counts [rawParts]int64) {
	w.t.Helper()
	cl := w.client(append(committedOnly, kgo.ConsumeTopics(cleanName))...)
	defer cl.Close()
	for counts != w.want && ctx.Err() == nil {
		cl.PollFetches(ctx).EachRecord(func(r *kgo.Record) {
			e := decodeCounted(r.Value)
			if e.before != counts[e.partition] || e.after != e.before+1 || e.after > w.want[e.partition] {
				w.t.Fatalf("raw partition %d: after %d events of %d comes one from %d to %d (event %d of offset %d)",
					e.partition, counts[e.partition], w.want[e.partition], e.before, e.after, e.index, e.offset)
			}
			counts[e.partition]++
		})
	}
	return counts
}

// underWay says what the brokers are in the middle of: what a test that waits in vain waits for.
func (w *rig) underWay() string {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	var b strings.Builder
	for _, topic := range []string{cleanName, letterName} {
		committed, err := w.adm.ListCommittedOffsets(ctx, topic)
		fmt.Fprintf(&b, "committed up to: %v %v\n", committed, err)
		ends, err := w.adm.ListEndOffsets(ctx, topic)
		fmt.Fprintf(&b, "written up to: %v %v\n", ends, err)
	}
	transactions, err := w.adm.ListTransactions(ctx, nil, nil)
	fmt.Fprintf(&b, "transactions: %v %v\n", transactions.Sorted(), err)
	described, err := w.adm.DescribeTransactions(ctx, transactions.TransactionalIDs()...)
	fmt.Fprintf(&b, "in full: %v %v\n", described, err)
	groups, err := w.adm.DescribeGroups(ctx, groupName)
	fmt.Fprintf(&b, "group: %+v %v\n", groups[groupName], err)
	if ctx.Err() == nil {
		fmt.Fprintf(&b, "not folded: %v\n", w.unfolded())
	}
	return b.String()
}

// whileWorking is a context that ends when so many of the workers at work have ended.
func (w *rig) whileWorking(enough int) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(w.ctx)
	var ended atomic.Int32
	for _, r := range w.workers {
		select {
		case <-r.done:
			continue // before now
		default:
		}
		go func() {
			select {
			case <-r.done:
				if int(ended.Add(1)) == enough {
					cancel(fmt.Errorf("a worker has ended: %v", r.err))
				}
			case <-ctx.Done():
			}
		}()
	}
	return ctx, func() { cancel(nil) }
}

// committedOnly are the options of a reader.
var committedOnly = []kgo.Opt{kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart())}

// readToEnd reads all that is committed in a topic in which no transaction is open.
func readToEnd(ctx context.Context, asks *kgo.Client, opts []kgo.Opt, topic string) (records []*kgo.Record, err error) {
	ends, err := kadm.NewClient(asks).ListEndOffsets(ctx, topic)
	if err != nil {
		return nil, err
	}
	left := map[int32]int64{}
	ends.Each(func(end kadm.ListedOffset) {
		if end.Offset > 0 {
			left[end.Partition] = end.Offset
		}
	})
	cl, err := kgo.NewClient(slices.Concat(committedOnly, opts, []kgo.Opt{kgo.ConsumeTopics(topic), kgo.KeepControlRecords()})...)
	if err != nil {
		return nil, err
	}
	defer cl.Close()
	for len(left) > 0 && ctx.Err() == nil {
		cl.PollFetches(ctx).EachRecord(func(r *kgo.Record) {
			if r.Offset+1 >= left[r.Partition] {
				delete(left, r.Partition)
			}
			if !r.Attrs.IsControl() {
				records = append(records, r)
			}
		})
	}
	return records, ctx.Err()
}

// readLetters reads n dead letters, and what came with them.
func (w *rig) readLetters(n int) []*kgo.Record {
	w.t.Helper()
	cl := w.client(append(committedOnly, kgo.ConsumeTopics(letterName))...)
	defer cl.Close()
	var letters []*kgo.Record
	for len(letters) < n {
		fetches := cl.PollFetches(w.ctx)
		if w.ctx.Err() != nil {
			w.t.Fatalf("%d dead letters, expected %d\n%s", len(letters), n, w.underWay())
		}
		letters = append(letters, fetches.Records()...)
	}
	return letters
}

// finished checks, once all workers have ended, that all was folded, and nothing was written beyond what is expected.
func (w *rig) finished() {
	w.t.Helper()
	w.settled(w.ctx)
	for _, left := range w.unfolded() {
		w.t.Error(left)
	}
}

// unfolded are the partitions of which the group is not at the end.
func (w *rig) unfolded() (left []string) {
	w.t.Helper()
	ends, err := w.adm.ListEndOffsets(w.ctx, rawName)
	if err != nil {
		w.t.Fatal(err)
	}
	group, err := w.positions()
	if err != nil {
		return []string{err.Error()} // the test makes the brokers fail
	}
	for p := range int32(rawParts) {
		end, _ := ends.Lookup(rawName, p)
		if c := group[p]; c.Position != (state.Position{Offset: end.Offset}) {
			left = append(left, fmt.Sprintf("partition %d: the group is at %v, the log ends at %d", p, c, end.Offset))
		}
	}
	return left
}
