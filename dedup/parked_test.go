package dedup

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"cassdelta/commitlog"
	"cassdelta/internal/rawtopic"
	"cassdelta/schema"
	"cassdelta/state"
	"cassdelta/state/checkpoint"
)

// pair is a fold of two tables: the records at even offsets are of ks.counted, those at odd ones of ks.other.
type pair struct{ counters [2]*counter }

var otherTable = func() *schema.Table {
	t, err := schema.NewTable(schema.Table{
		Keyspace: "ks", Name: "other", ID: schema.UUID{2},
		Columns: []schema.Column{{Name: "k", Kind: schema.PartitionKey, Type: mustType("int")}},
	})
	if err != nil {
		panic(err)
	}
	return t
}()

const otherName = "other"

func newPair(p int32) folder {
	f := &pair{[2]*counter{newCounter(p), newCounter(p)}}
	f.counters[1].table, f.counters[1].key = otherTable, state.Meta(nil, uint16(p), "other")
	return f
}

func (f *pair) Apply(tx *state.Txn, offset int64, rec *rawtopic.Record, done, limit int64, emit func(*Event) error) (int64, bool, error) {
	return f.counters[offset%2].Apply(tx, offset, rec, done, limit, emit)
}

func (f *pair) Copy([]byte) bool { return false }

func (f *pair) Paused() bool { return false }

func (f *pair) Use(s Settings) {
	f.counters[0].Use(s)
	f.counters[1].Use(s)
}

func (f *pair) Enter(_ *state.Txn, s Settings) error {
	f.Use(s)
	return nil
}

func (f *pair) Stats() Stats { return f.counters[0].stats }

// pairEncoder writes the events of a pair, each table to its topic. Those of ks.other fail while broken says how.
type pairEncoder struct {
	encoder
	broken atomic.Pointer[error]
}

func (e *pairEncoder) Encode(ctx context.Context, ev *Event, dst *kgo.Record, buf []byte) ([]byte, error) {
	if ev.Table.Name != otherTable.Name {
		return e.encoder.Encode(ctx, ev, dst, buf)
	}
	if err := e.broken.Load(); err != nil {
		return buf, *err
	}
	buf, err := e.encoder.Encode(ctx, ev, dst, buf)
	dst.Topic = otherName
	return buf, err
}

func (e *pairEncoder) breakWith(err error) { e.broken.Store(&err) }

var errNoRight = &TableError{Table: "ks.other", Err: errors.New("the user may not create its topic")}

// pairRig is a rig whose raw partitions have two tables.
type pairRig struct {
	*rig
	encoder   pairEncoder
	next      [rawParts]int64
	wantOther [rawParts]int64
}

func newPairRig(t *testing.T) *pairRig {
	w := &pairRig{rig: newRig(t)}
	if _, err := w.adm.CreateTopic(w.ctx, cleanParts, 1, nil, otherName); err != nil {
		t.Fatal(err)
	}
	for p := range w.next {
		w.next[p] = 1 // behind the init
	}
	return w
}

// put writes records of so many events each, of the two tables in turn.
func (w *pairRig) put(partition int32, events ...int64) {
	w.t.Helper()
	for _, n := range events {
		w.write(partition, n)
		if w.next[partition]%2 == 1 {
			w.want[partition] -= n
			w.wantOther[partition] += n
		}
		w.next[partition]++
	}
}

func (w *pairRig) run(name string, files vfs.FS, change ...func(*Worker)) *running {
	w.t.Helper()
	return w.start(name, files, append([]func(*Worker){w.setup}, change...)...)
}

func (w *pairRig) setup(worker *Worker) {
	worker.newFold = newPair
	worker.cfg.Emitter = &w.encoder
}

// other reads the topic of ks.other until it has what is expected, and checks its chains.
func (w *pairRig) other() {
	w.t.Helper()
	cl := w.client(append(committedOnly, kgo.ConsumeTopics(otherName))...)
	defer cl.Close()
	var counts [rawParts]int64
	for counts != w.wantOther {
		fetches := cl.PollFetches(w.ctx)
		if w.ctx.Err() != nil {
			w.t.Fatalf("the topic of the parked table has %v events, expected %v", counts, w.wantOther)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			e := decodeCounted(r.Value)
			if e.before != counts[e.partition] || e.after != e.before+1 || e.after > w.wantOther[e.partition] {
				w.t.Fatalf("raw partition %d: after %d events of %d comes one from %d to %d", e.partition, counts[e.partition], w.wantOther[e.partition], e.before, e.after)
			}
			counts[e.partition]++
		})
	}
}

func (w *pairRig) requestRelease() {
	w.t.Helper()
	if err := RequestRelease(w.ctx, w.writer, groupName, rawName, 0, 1, 2, 3); err != nil {
		w.t.Fatal(err)
	}
}

// parkedIn is in how many raw partitions ks.other is parked.
func (w *pairRig) parkedIn() int {
	w.t.Helper()
	group, err := DescribeGroup(w.ctx, w.writer, groupName, w.topic)
	if err != nil {
		w.t.Fatal(err)
	}
	n := 0
	for _, p := range group {
		if _, ok := p.Parked["ks.other"]; ok {
			n++
		}
		if _, ok := p.Parked["ks.counted"]; ok {
			w.t.Error("ks.counted is parked")
		}
	}
	return n
}

func TestATableIsParkedAndReleased(t *testing.T) {
	t.Parallel() // it mostly waits
	w := newPairRig(t)
	logs := &observed{}
	r := w.run("a", vfs.NewCrashableMem(), logs.watch)
	for p := range int32(rawParts) {
		w.put(p, 3, 4, 5, 6)
	}
	w.settle()
	w.other()
	w.encoder.breakWith(errNoRight)
	for p := range int32(rawParts) {
		w.put(p, 1, 250, 130, 2)
	}
	w.settle() // the other table goes on
	if n := w.parkedIn(); n != rawParts {
		t.Errorf("parked in %d partitions, expected all", n)
	}
	// The metrics and the log have a transaction a moment after it is committed.
	w.until(w.ctx, "all is counted", func() bool { return value(t, r.metrics.parked) >= rawParts*131 })
	if n := value(t, r.metrics.parked); n != rawParts*131 {
		t.Errorf("%v parked events are counted, expected %d", n, rawParts*131)
	}
	w.until(w.ctx, "the gauge shows it", func() bool { return value(t, r.metrics.parkedPartitions) == rawParts })
	w.until(w.ctx, "it is logged for each partition", func() bool { return logs.count("a table is parked") >= rawParts })
	if n := logs.count("a table is parked"); n != rawParts {
		t.Errorf("that it is parked is logged %d times, expected once for each partition", n)
	}
	// A request while the cause is there changes nothing.
	w.requestRelease()
	w.until(w.ctx, "it was tried", func() bool { return logs.count("a table stays parked") >= rawParts })
	if n := w.parkedIn(); n != rawParts {
		t.Errorf("parked in %d partitions, expected all", n)
	}
	w.encoder.broken.Store(nil)
	w.put(0, 1, 1, 1)
	w.requestRelease()
	w.other()
	w.settle()
	w.until(w.ctx, "nothing is parked", func() bool { return w.parkedIn() == 0 })
	w.put(0, 5, 5, 5)
	w.put(1, 5, 5, 5)
	w.settle()
	w.other()
	if err := r.end(); err != nil {
		t.Fatal(err)
	}
	if n := value(t, r.metrics.parkedPartitions); n != 0 {
		t.Errorf("the gauge is %v at the end", n)
	}
	if parked, released := value(t, r.metrics.parked), value(t, r.metrics.released); parked != released || parked < rawParts*131 {
		t.Errorf("%v events are counted as parked, %v as released", parked, released)
	}
	w.finished()
	w.other()
}

// TestTopicsThatTakeNothing parks a table whose records the brokers refuse, without trying for ever.
func TestTopicsThatTakeNothing(t *testing.T) {
	for _, refusal := range []*kerr.Error{kerr.TopicAuthorizationFailed, kerr.MessageTooLarge} {
		t.Run(refusal.Message, func(t *testing.T) {
			t.Parallel() // it mostly waits
			w := newPairRig(t)
			fault := w.cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: otherName, Err: refusal, Count: -1})
			for p := range int32(rawParts) {
				w.put(p, 3, 4, 5, 200, 7)
			}
			r := w.run("a", vfs.NewCrashableMem())
			w.settle()
			if n := w.parkedIn(); n != rawParts {
				t.Errorf("parked in %d partitions, expected all", n)
			}
			if n := fault.Hits(); n > 2*refusedFor*rawParts {
				t.Errorf("it was tried %d times", n)
			}
			fault.Remove()
			w.requestRelease()
			w.other()
			w.until(w.ctx, "nothing is parked", func() bool { return w.parkedIn() == 0 })
			if err := r.end(); err != nil {
				t.Fatal(err)
			}
			w.finished()
			w.other()
		})
	}
}

// TestParkingAndCrashes parks and releases while workers crash at every step, lose what they did not sync, or all.
func TestParkingAndCrashes(t *testing.T) {
	for _, seed := range []uint64{1, uint64(time.Now().UnixNano())} {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			t.Logf("seed %d", seed)
			rnd := rand.New(rand.NewPCG(seed, 0))
			w := newPairRig(t)
			// For requests that come before something is parked.
			if err := rawtopic.EnsureParkedTopic(w.ctx, w.writer, rawName, rawParts, 1, parkedRoom); err != nil {
				t.Fatal(err)
			}
			disk := vfs.NewCrashableMem()
			for range 10 {
				for p := range int32(rawParts) {
					for range rnd.IntN(4) {
						w.put(p, []int64{0, 1, 3, 250}[rnd.IntN(4)])
					}
				}
				if w.encoder.broken.Store(nil); rnd.IntN(2) == 0 {
					w.encoder.breakWith(errNoRight)
				}
				if rnd.IntN(4) == 0 {
					disk = vfs.NewCrashableMem()
				}
				stages := []stage{afterBegin, afterFold, afterEnd, afterApply, duringReplay}
				e := &ending{
					stage: stages[rnd.IntN(len(stages))], after: 1 + rnd.IntN(6), crash: rnd.IntN(4) > 0,
					disk: crashClone(disk, 50*rnd.IntN(3), rnd),
				}
				ctx, stop := context.WithCancel(w.ctx)
				var once sync.Once
				e.stop = func() { once.Do(stop) }
				r := w.run("a", disk, e.arm(w.rig))
				context.AfterFunc(ctx, r.stop)
				if rnd.IntN(2) == 0 {
					w.requestRelease()
				}
				working, cancel := w.whileWorking(1)
				w.read(working)
				cancel()
				if err := r.end(); err != nil && !isCrash(err) {
					t.Fatal(err)
				}
				stop()
				if e.copy != nil {
					disk = e.copy
				}
			}
			w.encoder.broken.Store(nil)
			r := w.run("a", disk) // it tries what is parked when it begins
			w.settle()
			w.other()
			w.until(w.ctx, "nothing is parked", func() bool { return w.parkedIn() == 0 })
			if err := r.end(); err != nil {
				t.Fatal(err)
			}
			w.finished()
			w.other()
		})
	}
}

// TestReleaseOfWhatCanNeverBeWritten puts the raw record into the dead-letter topic, and goes on.
func TestReleaseOfWhatCanNeverBeWritten(t *testing.T) {
	t.Parallel() // it mostly waits
	w := newPairRig(t)
	w.encoder.breakWith(errNoRight)
	w.put(0, 2, 1, 3)
	r := w.run("a", vfs.NewCrashableMem())
	w.settle()
	w.encoder.breakWith(&schema.AvroError{Table: "ks.other", Err: errors.New("too odd")})
	w.requestRelease()
	letters := w.readLetters(2)
	w.until(w.ctx, "nothing is parked", func() bool { return w.parkedIn() == 0 })
	if err := r.end(); err != nil {
		t.Fatal(err)
	}
	for i, offset := range []string{"1", "3"} {
		if got := string(recordHeader(letters[i], HeaderRawOffset)); got != offset || len(letters[i].Value) == 0 {
			t.Errorf("dead letter %d is of offset %s with %d bytes, expected offset %s with its value", i, got, len(letters[i].Value), offset)
		}
	}
	if len(letters) != 2 {
		t.Errorf("%d dead letters, expected one for each raw record", len(letters))
	}
}

// TestParkedTopicWasCut checks that a table whose parked events are gone stays parked, and says so.
func TestParkedTopicWasCut(t *testing.T) {
	t.Parallel() // it mostly waits
	w := newPairRig(t)
	w.encoder.breakWith(errNoRight)
	w.put(0, 2, 1, 3)
	logs := &observed{}
	r := w.run("a", vfs.NewCrashableMem(), logs.watch)
	w.settle()
	w.encoder.broken.Store(nil)
	name := rawtopic.ParkedTopic(rawName)
	ends, err := w.adm.ListEndOffsets(w.ctx, name)
	if err != nil {
		t.Fatal(err)
	}
	offsets := ends.Offsets()
	offsets.KeepFunc(func(o kadm.Offset) bool { return o.Partition == 0 })
	if _, err := w.adm.DeleteRecords(w.ctx, offsets); err != nil {
		t.Fatal(err)
	}
	w.requestRelease()
	w.until(w.ctx, "it is told", func() bool { return logs.count("parked events cannot be read") > 0 })
	if n := w.parkedIn(); n != 1 {
		t.Errorf("parked in %d partitions, expected 1", n)
	}
	if err := r.end(); err != nil {
		t.Fatal(err)
	}
}

func TestParkedEventIsReadBack(t *testing.T) {
	table := mustTable(t, "t", "k int partition_key", "c text clustering", "s int static", "v int regular")
	for _, e := range []Event{
		{Op: Create, Reason: ReasonMutation, Complete: true, Key: []byte{1}, Partition: [][]byte{intValue(1)}, Clustering: [][]byte{{}},
			After: [][]byte{nil, nil, nil, intValue(5)}, Changed: []int{3}, Timestamp: -5, RawPartition: 3, RawOffset: 1 << 40, Index: 7,
			Origin: rawtopic.Origin{Host: schema.UUID{9}, Position: commitlog.Position{Segment: 1, Offset: 2}, Update: 3}, Cluster: "c"},
		{Op: Delete, Reason: ReasonTTL, Static: true, Partition: [][]byte{{}}, Key: []byte{}, Before: [][]byte{nil, nil, {}, nil}, Cluster: ""},
	} {
		e.Table = table
		value := appendParkedEvent(nil, &e)
		var d parkedDecoder
		var got Event
		if err := d.decode(value, &got); err != nil {
			t.Fatal(err)
		}
		if string(got.Table.Definition()) != string(table.Definition()) {
			t.Error("the definition is another")
		}
		got.Table = table
		if !reflect.DeepEqual(got, e) {
			t.Errorf("found %+v, expected %+v", got, e)
		}
		for n := range value {
			if err := d.decode(value[:n], &got); err == nil {
				t.Errorf("%d of %d bytes are an event", n, len(value))
			}
		}
	}
}

func FuzzParkedEvent(f *testing.F) {
	table := mustTable(f, "t", "k int partition_key", "c text clustering", "v int regular")
	f.Add(appendParkedEvent(nil, &Event{Table: table, Op: Create, Partition: [][]byte{intValue(1)}, Clustering: [][]byte{{}}, After: [][]byte{nil, nil, {1}}, Changed: []int{2}}))
	f.Fuzz(func(t *testing.T, value []byte) {
		var d parkedDecoder
		var e Event
		if d.decode(value, &e) != nil {
			return
		}
		var again Event
		if err := d.decode(appendParkedEvent(nil, &e), &again); err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(again, e) {
			t.Errorf("found %+v, expected %+v", again, e)
		}
	})
}

func TestParkedTablesHaveARoom(t *testing.T) {
	p := parked{}
	for i := 0; ; i++ {
		table := fmt.Sprintf("keyspace.%s%d", strings.Repeat("t", 40), i)
		if !p.room(table) {
			break
		}
		p[table] = 1 << 62
	}
	if n := len(p); n < 40 || len(p.text()) > maxParkedText {
		t.Errorf("%d tables with %d bytes", n, len(p.text()))
	}
	got, err := parseParked(p.text())
	if err != nil || !reflect.DeepEqual(got, p) {
		t.Errorf("read back as %v, error %v", got, err)
	}
	odd := parked{"k s.a@b,c": 0}
	if got, err := parseParked(odd.text()); err != nil || !reflect.DeepEqual(got, odd) || slices.ContainsFunc([]byte(odd.text()), func(c byte) bool { return c == ' ' }) {
		t.Errorf("%q is read back as %v, error %v", odd.text(), got, err)
	}
	for _, text := range []string{"@1", "a", "a@", "a@-1", "a@x", "%zz@1", ",", "a@1,"} {
		if got, err := parseParked(text); err == nil {
			t.Errorf("%q is read as %v", text, got)
		}
	}
}

// TestSetBackKeepsWhatIsParked goes back to a savepoint that was made while a table was parked: what was parked before it is nowhere else.
func TestSetBackKeepsWhatIsParked(t *testing.T) {
	t.Parallel() // it mostly waits
	w := newPairRig(t)
	store := objectStore(t)
	repo := checkpoint.NewRepository(store, checkpoint.Scope{Group: groupName, Topic: rawName, TopicID: w.topic.ID, Partitions: rawParts})
	run := func() *running { return w.run("a", vfs.NewCrashableMem(), withCheckpoints(store, atEnd)) }
	put := func(events ...int64) {
		for p := range int32(rawParts) {
			w.put(p, events...)
		}
	}
	put(3, 4, 5, 6) // the first and the third are of ks.other
	if err := run().settledEnd(); err != nil {
		t.Fatal(err)
	}
	w.encoder.breakWith(errNoRight)
	put(130, 2, 1, 2)
	if err := run().settledEnd(); err != nil {
		t.Fatal(err)
	}
	var savepoint []*checkpoint.Entry
	for p := range int32(rawParts) {
		e, _, err := repo.Save(w.ctx, p, "before")
		if err != nil {
			t.Fatal(err)
		}
		savepoint = append(savepoint, e)
	}
	before := w.wantOther
	put(7, 1)
	if err := run().settledEnd(); err != nil {
		t.Fatal(err)
	}
	back := func() error { return SetBack(w.ctx, w.opts, repo.Scope(), savepoint) }
	if err := back(); err != nil {
		t.Fatal(err)
	}
	if n := w.parkedIn(); n != rawParts {
		t.Fatalf("ks.other is parked in %d partitions, expected all", n)
	}
	w.encoder.broken.Store(nil)
	r := run()
	w.until(w.ctx, "nothing is parked", func() bool { return w.parkedIn() == 0 })
	w.until(w.ctx, "the group is at the end of the log", func() bool { return len(w.unfolded()) == 0 })
	if err := r.end(); err != nil {
		t.Fatal(err)
	}
	// What came after the savepoint was parked once before, and is written again, as it is of other tables.
	records, err := readToEnd(w.ctx, w.writer, w.opts, otherName)
	if err != nil {
		t.Fatal(err)
	}
	var got, want [rawParts][]int64
	for _, r := range records {
		e := decodeCounted(r.Value)
		got[e.partition] = append(got[e.partition], e.after)
	}
	for p := range want {
		for n := range w.wantOther[p] {
			want[p] = append(want[p], n+1)
		}
		for n := range w.wantOther[p] - before[p] {
			want[p] = append(want[p], before[p]+n+1)
		}
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("ks.other has the events %v, expected %v", got, want)
	}
	// A group that has lost its positions does not know what is parked.
	if _, err := w.adm.DeleteGroups(w.ctx, groupName); err != nil {
		t.Fatal(err)
	}
	if err := back(); err == nil || !strings.Contains(err.Error(), "recover-offsets") {
		t.Errorf("without a position: error %v", err)
	}
}

// countedEncoder is a pairEncoder that can refuse ks.counted too.
type countedEncoder struct {
	*pairEncoder
	refuses atomic.Bool
}

func (e *countedEncoder) Encode(ctx context.Context, ev *Event, dst *kgo.Record, buf []byte) ([]byte, error) {
	if ev.Table.Name != otherTable.Name && e.refuses.Load() {
		return buf, &TableError{Table: tableName(ev.Table), Err: errors.New("the user may not write its topic")}
	}
	return e.pairEncoder.Encode(ctx, ev, dst, buf)
}

// What was released of a table that is parked again is not released again, when the parked topic is read from the place of another.
func TestParkedAgainBehindAnother(t *testing.T) {
	t.Parallel() // it mostly waits
	w := newPairRig(t)
	e := &countedEncoder{pairEncoder: &w.encoder}
	r := w.run("a", vfs.NewCrashableMem(), func(worker *Worker) { worker.cfg.Emitter = e })
	parkedAre := func(tables ...string) {
		t.Helper()
		w.until(w.ctx, fmt.Sprintf("parked are %v", tables), func() bool {
			group, err := w.positions()
			if err != nil {
				return false
			}
			found := group[0].parkedTables()
			return len(found) == len(tables) && !slices.ContainsFunc(tables, func(table string) bool { _, ok := found[table]; return !ok })
		})
	}
	w.put(0, 1, 1)
	w.settle()
	w.encoder.breakWith(errNoRight)
	w.put(0, 3)
	parkedAre("ks.other")
	for range 2 {
		e.refuses.Store(true)
		w.put(0, 4, 3)
		parkedAre("ks.counted", "ks.other")
		w.until(w.ctx, "all is folded", func() bool { return len(w.unfolded()) == 0 })
		e.refuses.Store(false)
		w.requestRelease()
		parkedAre("ks.other")
	}
	w.encoder.broken.Store(nil)
	w.requestRelease()
	parkedAre()
	w.settle()
	if err := r.end(); err != nil {
		t.Fatal(err)
	}
	w.finished()
	w.other()
}
