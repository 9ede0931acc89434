package dedup

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"cassdelta/internal/rawtopic"
)

// TestPitfalls holds the table of docs/exactly-once.md to what there is: each of its rows names tests, and they exist.
func TestPitfalls(t *testing.T) {
	text, err := os.ReadFile("../docs/exactly-once.md")
	if err != nil {
		t.Fatal(err)
	}
	row := regexp.MustCompile(`(?m)^\| (\d+) \|.*\| ([^|]*) \|$`)
	name := regexp.MustCompile("`(Test[A-Za-z0-9]+)`")
	var tests strings.Builder
	for _, dir := range []string{".", "../state"} {
		files, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			source, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			tests.Write(source)
		}
	}
	rows := row.FindAllStringSubmatch(string(text), -1)
	for i, r := range rows {
		if r[1] != strconv.Itoa(i+1) {
			t.Errorf("row %d has the number %s", i+1, r[1])
		}
		names := name.FindAllStringSubmatch(r[2], -1)
		if len(names) == 0 {
			t.Errorf("pitfall %s names no test", r[1])
		}
		for _, n := range names {
			if !strings.Contains(tests.String(), "\nfunc "+n[1]+"(") {
				t.Errorf("pitfall %s: there is no %s", r[1], n[1])
			}
		}
	}
	if len(rows) != 20 {
		t.Errorf("%d pitfalls, expected 20", len(rows))
	}
}

// TestRollingRestart restarts each of three workers while records come: none of the others ends, and transactions that are aborted
// because the group moves are few.
func TestRollingRestart(t *testing.T) {
	w := newRig(t)
	names := []string{"a", "b", "c"}
	disks := map[string]*vfs.MemFS{}
	workers := map[string]*running{}
	for _, name := range names {
		disks[name] = vfs.NewCrashableMem()
		workers[name] = w.start(name, disks[name])
	}
	w.shared(workers["a"], workers["b"], workers["c"])
	aborted := 0.0
	write := func() {
		for p := range int32(rawParts) {
			w.write(p, 3, 120, 1)
		}
	}
	for _, name := range names {
		write()
		r := workers[name]
		if err := r.end(); err != nil {
			t.Fatal(err)
		}
		aborted += value(t, r.metrics.transactions.WithLabelValues(outcomeAborted))
		write()
		workers[name] = w.start(name, disks[name])
		w.settle()
	}
	for _, r := range workers {
		if err := r.end(); err != nil {
			t.Fatal(err)
		}
		aborted += value(t, r.metrics.transactions.WithLabelValues(outcomeAborted))
	}
	w.finished()
	// Each restart is two rebalances, of which each worker may notice one in the middle of a transaction, and once more when it commits.
	if most := 3.0 * 2 * 3 * 2; aborted > most {
		t.Errorf("%v transactions were aborted, expected at most %v", aborted, most)
	}
	t.Logf("%v transactions were aborted", aborted)
}

// TestReplayEndsAtThePosition has an open transaction of someone else in the raw topic behind the group's position. A replay neither
// waits for it nor ends short.
func TestReplayEndsAtThePosition(t *testing.T) {
	w := newRig(t)
	w.write(0, 3, 120, 1)
	r := w.start("a", vfs.NewCrashableMem())
	w.settle()
	if err := r.end(); err != nil {
		t.Fatal(err)
	}
	other := w.client(kgo.TransactionalID("someone"), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err := other.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	tick := rawtopic.Append(nil, &rawtopic.Record{Kind: rawtopic.KindTick, Tick: &rawtopic.Tick{Watermark: 7}})
	if err := other.ProduceSync(w.ctx, &kgo.Record{Topic: rawName, Partition: 0, Value: tick}).FirstErr(); err != nil {
		t.Fatal(err)
	}
	w.write(0, 5)
	w.want[0] -= 5 // not before the transaction has ended
	r = w.start("a", vfs.NewCrashableMem())
	w.until(w.ctx, "all that was folded is folded again", func() bool { return value(t, r.metrics.replayed) >= 4+3 })
	w.settled(w.ctx)
	if err := other.EndTransaction(w.ctx, kgo.TryCommit); err != nil {
		t.Fatal(err)
	}
	w.want[0] += 7 + 5
	w.settled(w.ctx)
	if err := r.end(); err != nil {
		t.Fatal(err)
	}
}

// TestTransactionEndsInTime holds the times to one another: what a worker allows itself is less than what the brokers allow it.
func TestTransactionEndsInTime(t *testing.T) {
	if foldTimeout+endTimeout >= transactionTimeout {
		t.Errorf("folding may take %v and the end %v, and the brokers abort after %v", foldTimeout, endTimeout, transactionTimeout)
	}
	if committedTimeout <= transactionTimeout {
		t.Errorf("positions are waited for for %v, and may be in a transaction for %v", committedTimeout, transactionTimeout)
	}
}

// TestLateEndOfAnEarlierTransaction sends the end of a transaction once more while the next but one is open: it must not commit that.
func TestLateEndOfAnEarlierTransaction(t *testing.T) {
	w := newRig(t)
	var saved atomic.Pointer[kmsg.EndTxnRequest]
	w.cluster.ControlKey(int16(kmsg.EndTxn), func(req kmsg.Request) (kmsg.Response, error, bool) {
		w.cluster.KeepControl()
		if end := *req.(*kmsg.EndTxnRequest); end.Commit {
			saved.CompareAndSwap(nil, &end)
		}
		return nil, nil, false
	})
	var answer atomic.Pointer[kmsg.EndTxnResponse]
	disk := vfs.NewCrashableMem()
	var armed, dead atomic.Bool
	r := w.start("a", disk, func(worker *Worker) {
		worker.crash = func(at stage) error {
			end := saved.Load()
			if at != beforeEnd || end == nil || !armed.Load() || dead.Load() {
				return nil
			}
			dead.Store(true)
			resp, err := end.RequestWith(w.ctx, w.writer)
			if err != nil {
				t.Error(err)
				return err
			}
			answer.Store(resp)
			return errCrash
		}
	})
	w.write(0, 50)
	w.folded(0, 2)
	armed.Store(true)
	w.write(0, 5)
	if err := r.wait(); !isCrash(err) {
		t.Fatal(err)
	}
	if resp := answer.Load(); kerr.ErrorForCode(resp.ErrorCode) == nil {
		t.Errorf("the brokers took the end of an earlier transaction for that of this one")
	}
	r = w.start("a", disk)
	w.settle()
	if err := r.end(); err != nil {
		t.Fatal(err)
	}
	w.finished()
}

// TestUncommittedReadersSeeMore reads the clean topic both ways after transactions were aborted: what a read_committed reader is spared is
// all there is between the two.
func TestUncommittedReadersSeeMore(t *testing.T) {
	w := newRig(t)
	r := w.start("a", vfs.NewCrashableMem())
	w.settle() // so that what is aborted has events
	w.cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.TxnOffsetCommit}, Err: kerr.IllegalGeneration, Count: 3})
	w.write(0, 5, 250, 1)
	w.settle()
	if err := r.end(); err != nil {
		t.Fatal(err)
	}
	w.finished()
	count := func(isolation kgo.IsolationLevel) (events map[string]int, all int) {
		records, err := readToEnd(w.ctx, w.writer, append(slices.Clone(w.opts), kgo.FetchIsolationLevel(isolation)), cleanName)
		if err != nil {
			t.Fatal(err)
		}
		events = map[string]int{}
		for _, r := range records {
			events[string(r.Value)]++
		}
		return events, len(records)
	}
	committed, n := count(kgo.ReadCommitted())
	uncommitted, m := count(kgo.ReadUncommitted())
	if n != len(committed) {
		t.Errorf("%d committed events, %d distinct ones", n, len(committed))
	}
	if m <= n {
		t.Errorf("%d events with those of aborted transactions, expected more than %d", m, n)
	}
	if !slices.Equal(slices.Sorted(maps.Keys(committed)), slices.Sorted(maps.Keys(uncommitted))) {
		t.Errorf("%d distinct events are committed, and %d in all", len(committed), len(uncommitted))
	}
}

// TestTopicMadeAgain deletes the raw topic, and makes it again: with as many partitions, and with more. (That a position
// of the group is one in another topic of this name is in TestPlan; brokers forget it with the topic.)
func TestTopicMadeAgain(t *testing.T) {
	for _, partitions := range []int32{rawParts, 2 * rawParts} {
		w := newRig(t)
		w.write(0, 3)
		disk := vfs.NewCrashableMem()
		r := w.start("a", disk)
		w.settle()
		if err := r.end(); err != nil {
			t.Fatal(err)
		}
		if _, err := w.adm.DeleteTopic(w.ctx, rawName); err != nil {
			t.Fatal(err)
		}
		id, err := rawtopic.EnsureTopic(w.ctx, w.writer, rawName, partitions, 1)
		if err != nil {
			t.Fatal(err)
		}
		init := rawtopic.Init{Cluster: "c", TopicID: id, Partitions: partitions, Version: rawtopic.Version}
		if err := rawtopic.WriteInit(w.ctx, w.client(kgo.RecordPartitioner(kgo.ManualPartitioner())), rawName, init); err != nil {
			t.Fatal(err)
		}
		err = w.start("a", disk).wait()
		if err == nil || !strings.Contains(err.Error(), "made again") {
			t.Errorf("%d partitions: error %v", partitions, err)
		}
		t.Log(err)
	}
}

// TestPartitionsAdded adds partitions to the raw topic while no worker runs: keys would be in others from then on.
func TestPartitionsAdded(t *testing.T) {
	w := newRig(t)
	w.write(0, 3)
	disk := vfs.NewCrashableMem()
	r := w.start("a", disk)
	w.settle()
	if err := r.end(); err != nil {
		t.Fatal(err)
	}
	if _, err := w.adm.CreatePartitions(w.ctx, 1, rawName); err != nil {
		t.Fatal(err)
	}
	err := w.start("a", disk).wait()
	if err == nil || !strings.Contains(err.Error(), "partitions cannot be added") {
		t.Errorf("error %v", err)
	}
	t.Log(err)
}

// TestFetchErrors holds what a fetch may say to whether the worker goes on.
func TestFetchErrors(t *testing.T) {
	for _, test := range []struct {
		err   error
		final bool
		says  string
	}{
		{kerr.OffsetOutOfRange, true, "raise the topic's retention"},
		{&kgo.ErrDataLoss{Topic: rawName, Partition: 3, ConsumedTo: 7, ResetTo: 5}, true, "the log was cut"},
		{kerr.UnknownTopicID, true, "deleted while it was read"},
		{kerr.NotLeaderForPartition, false, "not the leader"},
		{errors.New("connection reset"), false, "connection reset"},
	} {
		err := fetchError(kgo.Fetches{{Topics: []kgo.FetchTopic{{Topic: rawName, Partitions: []kgo.FetchPartition{{Partition: 3, Err: test.err}}}}}})
		if err == nil || isFinal(err) != test.final || !strings.Contains(err.Error(), test.says) || !strings.Contains(err.Error(), "partition 3") {
			t.Errorf("%v: final %v, error %v", test.err, isFinal(err), err)
		}
	}
}

// TestClientIsFixed holds the Kafka client to the version in which a record cannot be acknowledged and not written
// (twmb/franz-go#1484).
func TestClientIsFixed(t *testing.T) {
	text, err := os.ReadFile("../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	v := regexp.MustCompile(`github.com/twmb/franz-go v(\d+)\.(\d+)\.(\d+)\n`).FindSubmatch(text)
	if v == nil {
		t.Fatal("go.mod names no version")
	}
	number := func(i int) int { n, _ := strconv.Atoi(string(v[i])); return n }
	if slices.Compare([]int{number(1), number(2), number(3)}, []int{1, 22, 2}) < 0 {
		t.Errorf("version %s, expected 1.22.2 or newer", v[0])
	}
}
