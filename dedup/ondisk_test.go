package dedup

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime/debug"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/zap"

	"cassdelta/internal/rawtopic"
	"cassdelta/state"
)

// onDisk is one raw partition with its state on disk, folded in transactions as a worker makes them.
type onDisk struct {
	t    *testing.T
	task *task
	w    *Worker
	// transactions counts those that ended, most is the most events of one.
	transactions int
	most         int64
	offset       int64
}

// foldOnDisk begins with nothing. It has the caches, the memtables and the limit of the heap that a worker with so much memory has;
// 0 is what a worker has unless told otherwise.
func foldOnDisk(t *testing.T, emitter Emitter, memory int64) *onDisk {
	t.Helper()
	w, err := NewWorker(WorkerConfig{
		RawTopic: rawName, Group: groupName, DeadLetterTopic: letterName, StateDirectory: t.TempDir(), Emitter: emitter, Log: zap.NewNop(), MemoryBytes: memory,
	})
	if err != nil {
		t.Fatal(err)
	}
	before := debug.SetMemoryLimit(HeapLimit(memory))
	t.Cleanup(func() { debug.SetMemoryLimit(before) })
	w.topic = RawTopic{Name: rawName, Partitions: 1}
	closeCaches, err := w.caches()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(closeCaches)
	ctx, cancel := context.WithCancel(t.Context())
	divided := make(chan struct{})
	go func() {
		defer close(divided)
		w.divideAgain(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-divided
	})
	store, err := state.Open(w.cfg.StateDirectory, state.Identity{Topic: rawName, Partitions: 1}, w.stores)
	if err != nil {
		t.Fatal(err)
	}
	d := &onDisk{t: t, w: w, task: newTask(w, 0, store, func() {}, &slabPool{})}
	t.Cleanup(func() { d.task.close() })
	return d
}

// fold folds a record, in as many transactions as it takes.
func (d *onDisk) fold(rec *rawtopic.Record) {
	d.t.Helper()
	if err := d.task.take(&kgo.Record{Offset: d.offset, Value: rawtopic.Append(nil, rec)}); err != nil {
		d.t.Fatal(err)
	}
	d.offset++
	for d.task.waiting() > 0 {
		d.task.begin(d.t.Context(), func(*kgo.Record) {})
		a := allowance{events: int64(d.w.cfg.MaxEventsPerTxn), bytes: maxTxnBytes, deadline: time.Now().Add(time.Hour)}
		if err := d.task.advance(a); err != nil {
			d.t.Fatal(err)
		}
		d.most = max(d.most, d.task.spent)
		if d.task.waiting() == 0 && rec.Kind == rawtopic.KindData && d.task.tx.Bytes() < maxTxnBytes/2 {
			return // the transaction takes more
		}
		d.end()
	}
}

// end ends the transaction under way.
func (d *onDisk) end() {
	d.t.Helper()
	d.transactions++
	if err := d.task.apply(committed{Position: d.task.at()}); err != nil {
		d.t.Fatal(err)
	}
}

// maxResident is the greatest resident set that the process has had, in bytes.
func maxResident(t *testing.T) int64 {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		t.Fatal(err)
	}
	return usage.Maxrss << 10
}

// forgetResident gives memory back, and lets peakResident begin anew. It returns the resident set in bytes, 0 where it
// cannot be measured.
func forgetResident(t *testing.T) int64 {
	debug.FreeOSMemory()
	// Linux, proc(5): 5 resets the peak of the resident set.
	if err := os.WriteFile("/proc/self/clear_refs", []byte("5"), 0); err != nil {
		t.Logf("the resident set is not measured: %v", err)
		return 0
	}
	return peakResident(t)
}

// peakResident is the greatest resident set since forgetResident in bytes, 0 where it cannot be measured.
func peakResident(t *testing.T) int64 {
	status, err := os.ReadFile("/proc/self/status")
	if errors.Is(err, fs.ErrNotExist) {
		return 0
	}
	if err != nil {
		t.Fatal(err)
	}
	var kib int64
	if _, after, ok := strings.Cut(string(status), "VmHWM:"); !ok {
		t.Fatal("/proc/self/status has no VmHWM")
	} else if _, err := fmt.Sscan(after, &kib); err != nil {
		t.Fatal(err)
	}
	return kib << 10
}
