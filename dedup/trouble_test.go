package dedup

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"cassdelta/internal/rawtopic"
	"cassdelta/schema"
	"cassdelta/state"
)

func TestDeadLetters(t *testing.T) {
	w := newRig(t)
	w.write(1, 2, -1, 3)
	damaged := rawtopic.Append(nil, &rawtopic.Record{Kind: rawtopic.KindTick, Tick: &rawtopic.Tick{Watermark: 1 << 40}})
	damaged = damaged[:len(damaged)-1]
	w.writeRaw(1, damaged)
	w.letters++
	// Of three events of a record one can be encoded.
	w.write(2, 1, 3, 1)
	never := func(worker *Worker) {
		worker.cfg.Emitter = &encoder{fail: func(e *Event) error {
			if e.RawPartition == 2 && e.RawOffset == 2 && e.Index > 0 {
				return &schema.AvroError{Table: "ks.counted", Err: errors.New("too odd")}
			}
			return nil
		}}
	}
	w.letters++
	w.write(1, 1)

	r := w.start("a", vfs.NewCrashableMem(), never)
	letters := w.readLetters(3)
	w.until(w.ctx, "all is folded", func() bool { return len(w.unfolded()) == 0 })
	if err := r.end(); err != nil {
		t.Fatal(err)
	}
	if len(letters) != 3 {
		t.Fatalf("%d dead letters, expected 3", len(letters))
	}
	type letter struct{ partition, offset, reason string }
	var got []letter
	for _, l := range letters {
		headers := map[string]string{}
		for _, h := range l.Headers {
			headers[h.Key] = string(h.Value)
		}
		if l.Key != nil || headers[HeaderRawTopic] != rawName {
			t.Errorf("key %q, headers %v", l.Key, headers)
		}
		got = append(got, letter{headers[HeaderRawPartition], headers[HeaderRawOffset], headers[HeaderError]})
		if headers[HeaderRawPartition] == "1" && headers[HeaderRawOffset] == "4" && string(l.Value) != string(damaged) {
			t.Errorf("the value is %x, expected that of the raw record, %x", l.Value, damaged)
		}
	}
	slices.SortFunc(got, func(a, b letter) int { return strings.Compare(a.partition+a.offset, b.partition+b.offset) })
	want := []letter{{"1", "2", "it counts backwards"}, {"1", "4", "expected a number, found the end"}, {"2", "2", "event 1 of the record: table ks.counted: too odd"}}
	for i := range want {
		if got[i].partition != want[i].partition || got[i].offset != want[i].offset || !strings.Contains(got[i].reason, want[i].reason) {
			t.Errorf("dead letter %+v, expected %+v", got[i], want[i])
		}
	}
	if n := value(t, r.metrics.deadLetters); n != 3 {
		t.Errorf("%v dead letters are counted", n)
	}
	// All the others are there. The fold made two events that are not: they are gaps, and counted in the state.
	if n := value(t, r.metrics.events); n != 2+3+1+1+1+1 {
		t.Errorf("%v events are counted", n)
	}
}

// TestOneDeadLetterOfARecord has a record of many transactions, in each of which an event cannot be written, and a crash between
// them.
func TestOneDeadLetterOfARecord(t *testing.T) {
	w := newRig(t)
	w.write(0, 450)
	never := func(worker *Worker) {
		worker.cfg.Emitter = &encoder{fail: func(e *Event) error {
			if e.Index%90 == 0 {
				return &schema.AvroError{Table: "ks.counted", Err: errors.New("too odd")}
			}
			return nil
		}}
	}
	disk := vfs.NewCrashableMem()
	crash := &ending{stage: afterEnd, after: 4, crash: true, disk: crashClone(disk, 50, rand.New(rand.NewPCG(1, 0)))}
	arm := crash.arm(w)
	if err := w.start("a", disk, never, arm).wait(); !isCrash(err) {
		t.Fatalf("error %v, expected a crash", err)
	}
	r := w.start("a", crash.copy, never)
	w.until(w.ctx, "all is folded", func() bool { return len(w.unfolded()) == 0 })
	if err := r.end(); err != nil {
		t.Fatal(err)
	}
	letters, err := readToEnd(w.ctx, w.writer, w.opts, letterName)
	if err != nil {
		t.Fatal(err)
	}
	if len(letters) != 1 {
		t.Errorf("%d dead letters, expected one", len(letters))
	}
}

func TestNewerFormatStopsTheWorker(t *testing.T) {
	w := newRig(t)
	w.write(0, 2)
	w.writeRaw(0, []byte("\xc3\x01 another schema"))
	r := w.start("a", vfs.NewCrashableMem())
	err := r.wait()
	var unknown *rawtopic.FingerprintError
	if !errors.As(err, &unknown) || !strings.Contains(err.Error(), "partition 0, offset 2") {
		t.Errorf("error %v", err)
	}
	w.t.Log(err)
}

// TestEncoderFails lets the registry be down, long enough for a retry, and once for ever.
func TestEncoderFails(t *testing.T) {
	w := newRig(t)
	for p := range int32(rawParts) {
		w.write(p, 3, 120)
	}
	var failures atomic.Int32
	logs := &observed{}
	r := w.start("a", vfs.NewCrashableMem(), logs.watch, func(worker *Worker) {
		worker.cfg.Emitter = &encoder{fail: func(e *Event) error {
			if e.RawPartition == 3 && failures.Add(1) <= 3 {
				return errors.New("the registry is down")
			}
			return nil
		}}
	})
	w.settle()
	if err := r.end(); err != nil {
		t.Fatal(err)
	}
	w.finished()
	if n := logs.count("trying again until it succeeds"); n != 1 {
		t.Errorf("the failure was logged %d times, expected once", n)
	}
	if n := logs.count("transactions succeed again"); n != 1 {
		t.Errorf("the recovery was logged %d times, expected once", n)
	}

	failed := make(chan struct{}, 1)
	w.write(0, 1)
	w.want[0]--
	r = w.start("a", vfs.NewCrashableMem(), func(worker *Worker) {
		worker.cfg.Emitter = &encoder{fail: func(*Event) error {
			select {
			case failed <- struct{}{}:
			default:
			}
			return errors.New("the registry is down for ever")
		}}
	})
	<-failed
	w.until(w.ctx, "the failure shows in the metrics", func() bool { return value(t, r.metrics.failing) == 1 })
	if err := r.end(); err != nil {
		t.Errorf("told to stop while events cannot be encoded: %v", err)
	}
	if n := value(t, r.metrics.failing); n != 0 {
		t.Errorf("%v sessions are failing after the end", n)
	}
	w.settled(w.ctx)
}

// TestEncoderHangs checks that the group, and the end of the worker, do not wait for it.
func TestEncoderHangs(t *testing.T) {
	w := newRig(t)
	w.write(0, 3)
	hanging := make(chan struct{})
	a := w.start("a", vfs.NewCrashableMem(), func(worker *Worker) { worker.cfg.Emitter = hangingEncoder{hanging} })
	<-hanging
	started := time.Now()
	if err := a.end(); err != nil {
		t.Fatal(err)
	}
	if d := time.Since(started); d > foldTimeout {
		t.Errorf("the end took %v", d)
	}
	b := w.start("b", vfs.NewCrashableMem())
	w.settle()
	if err := b.end(); err != nil {
		t.Fatal(err)
	}
	w.finished()
}

type hangingEncoder struct{ hanging chan struct{} }

func (h hangingEncoder) Encode(ctx context.Context, _ *Event, _ *kgo.Record, buf []byte) ([]byte, error) {
	select {
	case <-h.hanging:
	default:
		close(h.hanging)
	}
	<-ctx.Done()
	return buf, ctx.Err()
}

func (h hangingEncoder) MaxBatchBytes(string) int32 { return 1 << 20 }

// Events as large as the topic takes go through, and hold up nothing.
func TestLargeEvents(t *testing.T) {
	w := newRig(t)
	w.write(0, 1, 2)
	w.write(1, 1)
	r := w.start("a", vfs.NewCrashableMem(), func(worker *Worker) { worker.cfg.Emitter = &encoder{padding: 3 << 20} })
	w.settle()
	if err := r.end(); err != nil {
		t.Fatal(err)
	}
	w.finished()
}

// observed takes what a worker logs.
type observed struct{ logs *observer.ObservedLogs }

func (o *observed) watch(w *Worker) {
	core, logs := observer.New(zap.InfoLevel)
	o.logs = logs
	w.cfg.Log = w.cfg.Log.WithOptions(zap.WrapCore(func(c zapcore.Core) zapcore.Core { return zapcore.NewTee(c, core) }))
}

func (o *observed) count(message string) (n int) {
	for _, entry := range o.logs.All() {
		if strings.Contains(entry.Message, message) {
			n++
		}
	}
	return n
}

func TestWaitsForTheRawTopic(t *testing.T) {
	w := newRig(t)
	logs := &observed{}
	a := w.start("a", vfs.NewCrashableMem(), logs.watch, func(worker *Worker) { worker.cfg.RawTopic = "later" })
	w.until(w.ctx, "the log says that it waits", func() bool { return logs.count("waiting for the raw topic") == 1 })
	id, err := rawtopic.EnsureTopic(w.ctx, w.writer, "later", 2, 1)
	if err != nil {
		t.Fatal(err)
	}
	// An agent that is not done with it has left a partition empty.
	init := rawtopic.Init{Cluster: "c", TopicID: id, Partitions: 2, Version: rawtopic.Version}
	first := &kgo.Record{Topic: "later", Partition: 0, Value: rawtopic.Append(nil, &rawtopic.Record{Kind: rawtopic.KindInit, Init: &init})}
	if err := w.writer.ProduceSync(w.ctx, first).FirstErr(); err != nil {
		t.Fatal(err)
	}
	if _, err := describeRawTopic(w.ctx, w.writer, w.opts, "later"); !errors.Is(err, errNotBegun) {
		t.Errorf("error %v, expected that it is waited for", err)
	}
	if err := rawtopic.WriteInit(w.ctx, w.writer, "later", init); err != nil {
		t.Fatal(err)
	}
	w.until(w.ctx, "it starts", func() bool { return logs.count("dedup starts") == 1 })
	if err := a.end(); err != nil {
		t.Fatal(err)
	}
	if n := logs.count("waiting for the raw topic"); n != 1 {
		t.Errorf("waiting was logged %d times", n)
	}

	// While it waits it can be told to stop.
	b := w.start("b", vfs.NewCrashableMem(), logs.watch, func(worker *Worker) { worker.cfg.RawTopic = "never" })
	w.until(w.ctx, "the log says that it waits", func() bool { return logs.count("waiting for the raw topic") == 1 })
	if err := b.end(); err != nil {
		t.Fatal(err)
	}
}

func TestNoBroker(t *testing.T) {
	cl, err := kgo.NewClient(kgo.SeedBrokers("127.0.0.1:1"))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	err = connect(t.Context(), cl, 300*time.Millisecond)
	if err == nil || !strings.Contains(err.Error(), "127.0.0.1:1") || !strings.Contains(err.Error(), "check that they run") {
		t.Errorf("error %v", err)
	}
}

// TestPositionsThatDoNotFit checks that the worker stops, and says why, when going on would lose or repeat events.
func TestPositionsThatDoNotFit(t *testing.T) {
	for _, test := range []struct {
		name  string
		upset func(w *rig, disk *vfs.MemFS) *vfs.MemFS
		want  string
	}{
		{"the group was set back", func(w *rig, disk *vfs.MemFS) *vfs.MemFS {
			w.setGroup(0, 1)
			return disk
		}, "ahead of the group's position 1+0"},
		{"the group was deleted", func(w *rig, disk *vfs.MemFS) *vfs.MemFS {
			if _, err := w.adm.DeleteGroups(w.ctx, groupName); err != nil {
				w.t.Fatal(err)
			}
			return disk
		}, "has no committed position"},
		{"the state is lost and the log is cut", func(w *rig, _ *vfs.MemFS) *vfs.MemFS {
			w.cut(0, 2)
			return vfs.NewCrashableMem()
		}, "the state cannot be built again"},
		{"the state is behind the start of the log", func(w *rig, disk *vfs.MemFS) *vfs.MemFS {
			w.setGroup(0, 6)
			w.cut(0, 5)
			return disk
		}, "the records between cannot be folded again"},
		{"the log was cut before it was folded", func(w *rig, disk *vfs.MemFS) *vfs.MemFS {
			w.cut(0, 6)
			return disk
		}, "deleted before they were folded"},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := newRig(t)
			w.write(0, 1, 2, 3)
			disk := vfs.NewCrashableMem()
			r := w.start("a", disk)
			w.settle()
			if err := r.end(); err != nil {
				t.Fatal(err)
			}
			w.write(0, 4, 5)
			r = w.start("a", test.upset(w, disk), func(w *Worker) {
				w.crash = func(stage) error { return nil } // that the state is ahead is what it is to find out
			})
			err := r.wait()
			var position *PositionError
			if !errors.As(err, &position) || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v, expected one with %q", err, test.want)
			}
			t.Log(err)
		})
	}
}

// setGroup sets the group's offset as a tool would, without metadata.
func (w *rig) setGroup(partition int32, offset int64) {
	w.t.Helper()
	offsets := kadm.Offsets{}
	offsets.AddOffset(rawName, partition, offset, -1)
	if err := w.adm.CommitAllOffsets(w.ctx, groupName, offsets); err != nil {
		w.t.Fatal(err)
	}
}

// cut deletes the records before the offset.
func (w *rig) cut(partition int32, offset int64) { w.cutTopic(rawName, partition, offset) }

// cutTopic is cut of any topic; an offset of -1 is the end.
func (w *rig) cutTopic(topic string, partition int32, offset int64) {
	w.t.Helper()
	offsets := kadm.Offsets{}
	offsets.AddOffset(topic, partition, offset, -1)
	answer, err := w.adm.DeleteRecords(w.ctx, offsets)
	if err == nil {
		err = answer.Error()
	}
	if err != nil {
		w.t.Fatal(err)
	}
}

func TestStateOfAnotherFold(t *testing.T) {
	w := newRig(t)
	w.write(0, 1)
	disk := vfs.NewCrashableMem()
	r := w.start("a", disk)
	w.settle()
	if err := r.end(); err != nil {
		t.Fatal(err)
	}
	store, err := state.Open("state/raw/0", state.Identity{Topic: rawName, TopicID: r.topic.ID, Partitions: rawParts}, state.Options{FS: disk})
	if err != nil {
		t.Fatal(err)
	}
	at, _ := store.Position()
	tx := store.Begin()
	tx.SetEpoch(epoch{number: 2, from: at.Offset, settings: Settings{Fold: FoldVersion + 1}}.text())
	if err := errors.Join(tx.Commit(at), store.Close()); err != nil {
		t.Fatal(err)
	}
	if err := w.start("a", disk).wait(); err == nil || !strings.Contains(err.Error(), "run the version of the program that has written it") {
		t.Errorf("error %v", err)
	}
}

func TestOneWorkerToAStateDirectory(t *testing.T) {
	w := newRig(t)
	disk := vfs.NewCrashableMem()
	a := w.start("a", disk)
	w.shared(a)
	if err := w.start("b", disk).wait(); err == nil || !strings.Contains(err.Error(), "state-directory") {
		t.Errorf("error %v", err)
	}
	if err := a.end(); err != nil {
		t.Fatal(err)
	}
}

// TestTwoWorkersOfOneName checks that one of them ends, and that they do not take the partitions from each other for ever.
func TestTwoWorkersOfOneName(t *testing.T) {
	w := newRig(t)
	a := w.start("a", vfs.NewCrashableMem())
	w.shared(a)
	b := w.start("a", vfs.NewCrashableMem())
	ended, other := a, b
	select {
	case <-a.done:
	case <-b.done:
		ended, other = b, a
	}
	if ended.err == nil || !strings.Contains(ended.err.Error(), "another worker is in the group") {
		t.Errorf("error %v", ended.err)
	}
	w.write(0, 3)
	w.settle()
	if err := other.end(); err != nil {
		t.Fatal(err)
	}
}

func TestMetricsAreRegisteredForTheRun(t *testing.T) {
	w := newRig(t)
	registry := prometheus.NewRegistry()
	w.write(0, 3, 4)
	w.write(2, 1)
	for range 2 {
		r := w.start("a", vfs.NewCrashableMem(), func(worker *Worker) { worker.cfg.Registry = registry })
		w.shared(r)
		families, err := registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		names := map[string]bool{}
		for _, f := range families {
			names[f.GetName()] = true
		}
		for _, name := range []string{"cassdelta_dedup_records_total", "cassdelta_dedup_state_disk_bytes", "cassdelta_dedup_failing_sessions"} {
			if !names[name] {
				t.Errorf("there is no metric %s, only %v", name, names)
			}
		}
		if err := r.end(); err != nil {
			t.Fatal(err)
		}
	}
	if families, err := registry.Gather(); err != nil || len(families) > 0 {
		t.Errorf("after the run there are %d metrics, error %v", len(families), err)
	}
}

func TestWorkerConfigIsChecked(t *testing.T) {
	_, err := NewWorker(WorkerConfig{CommitInterval: time.Hour, Sessions: -1})
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{"raw-topic", "group", "dead-letter-topic", "state-directory", "an emitter", "commit-interval", "-1 sessions"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error does not name %s: %v", want, err)
		}
	}
}
