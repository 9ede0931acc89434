package dedup

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"cassdelta/state"
	"cassdelta/state/checkpoint"
)

func ofHours(hours int64) Settings { return Settings{Fold: FoldVersion, Retention: hours * 3600} }

// withRetention is a worker whose fold counts in hours of the retention.
func withRetention(hours int64) func(*Worker) {
	return func(w *Worker) {
		w.settings = ofHours(hours)
		w.newFold = func(p int32) folder {
			c := newCounter(p)
			c.weighted = true
			return c
		}
	}
}

// TestEpochs alters the retention at each start of workers that crash at every step, within records too, lose what they did not sync, or
// all. Every event has to be of the epoch that the group's position names, and a state that is built again from all records the same.
func TestEpochs(t *testing.T) {
	for _, seed := range []uint64{1, uint64(time.Now().UnixNano())} {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel() // it mostly waits
			t.Logf("seed %d", seed)
			rnd := rand.New(rand.NewPCG(seed, 0))
			w := newRig(t)
			store := objectStore(t)
			disk := vfs.NewCrashableMem()
			for range maxEpochs - 2 {
				for p := range int32(rawParts) {
					for range 1 + rnd.IntN(4) {
						w.write(p, []int64{0, 1, 3, 250}[rnd.IntN(4)])
					}
				}
				stages := []stage{afterBegin, beforeEnd, afterEnd, afterApply, duringReplay}
				e := &ending{
					stage: stages[rnd.IntN(len(stages))], after: 1 + rnd.IntN(6), crash: rnd.IntN(4) > 0,
					disk: crashClone(disk, 50*rnd.IntN(3), rnd),
				}
				ctx, stop := context.WithCancel(w.ctx)
				e.stop = sync.OnceFunc(stop)
				r := w.start("a", disk, withCheckpoints(store, 30*time.Millisecond), withRetention(6+rnd.Int64N(100)), e.arm(w))
				context.AfterFunc(ctx, r.stop)
				working, cancel := w.whileWorking(1)
				for working.Err() == nil && len(w.unfolded()) > 0 {
					time.Sleep(time.Millisecond)
				}
				cancel()
				if err := r.end(); err != nil && !isCrash(err) {
					t.Fatal(err)
				}
				if isCrash(r.err) {
					disk = e.copy
				}
				if rnd.IntN(4) == 0 {
					disk = vfs.NewCrashableMem()
				}
			}
			for p := range int32(rawParts) {
				w.write(p, 7) // so that something is in the last epoch
			}
			finish := func(disk *vfs.MemFS, change ...func(*Worker)) (states [rawParts]string) {
				r := w.start("a", disk, append(change, withRetention(5))...)
				w.until(w.ctx, "the state is at the end of the log", func() bool { return len(w.unfolded()) == 0 && r.open() })
				if err := r.end(); err != nil {
					t.Fatal(err)
				}
				for p := range states {
					states[p] = w.stateOf(disk, int32(p))
				}
				return states
			}
			begun, err := w.positions()
			if err != nil {
				t.Fatal(err)
			}
			between := 0 // the others are within a record, and may come to the end of the log in the transaction that ends it
			for _, c := range begun {
				if c.Done == 0 {
					between++
				}
			}
			states := finish(disk, withCheckpoints(store, 30*time.Millisecond))
			w.checkEpochs(between)
			if again := finish(vfs.NewCrashableMem()); again != states {
				t.Errorf("the states are %v, and built again from the log %v", states, again)
			}
		})
	}
}

// TestEpochWithinARecord crashes within a record, and goes on with another retention: the rest of the record is of the epoch in which it was begun.
func TestEpochWithinARecord(t *testing.T) {
	w := newRig(t)
	for p := range int32(rawParts) {
		w.write(p, 1, 350, 2)
	}
	disk := vfs.NewCrashableMem()
	e := &ending{stage: afterEnd, after: 2, crash: true, disk: crashClone(disk, 0, rand.New(rand.NewPCG(1, 0)))}
	if err := w.start("a", disk, withRetention(10), e.arm(w)).wait(); !isCrash(err) {
		t.Fatalf("error %v, expected a crash", err)
	}
	within := 0
	group, err := w.positions()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range group {
		if c.Done > 0 {
			within++
		}
	}
	if within == 0 {
		t.Fatalf("the group is at %v, expected to be within a record", group)
	}
	r := w.start("a", e.copy, withRetention(20))
	w.until(w.ctx, "the group is at the end of the log", func() bool { return len(w.unfolded()) == 0 })
	for p := range int32(rawParts) {
		w.write(p, 3)
	}
	w.until(w.ctx, "the group is at the end of the log", func() bool { return len(w.unfolded()) == 0 })
	if err := r.end(); err != nil {
		t.Fatal(err)
	}
	w.checkEpochs(within)
}

// open says whether the worker has all partitions open.
func (r *running) open() bool { return r.metrics.stores.count() == rawParts && r.Ready() == nil }

// stateOf is all of a state, and its position.
func (w *rig) stateOf(disk *vfs.MemFS, p int32) string {
	w.t.Helper()
	r, err := state.OpenReader(fmt.Sprintf("state/%s/%d", rawName, p), state.Options{FS: disk})
	if err != nil {
		w.t.Fatal(err)
	}
	defer r.Close()
	tx := r.Begin()
	defer tx.Discard()
	at, _ := r.Position()
	return fmt.Sprintf("%v %s %s", at, r.Epoch(), dump(w.t, tx, uint16(p)))
}

// checkEpochs holds each event to the epochs that the group's positions name. So many partitions, at least, must have gone over to another
// epoch.
func (w *rig) checkEpochs(altered int) {
	w.t.Helper()
	group, err := w.positions()
	if err != nil {
		w.t.Fatal(err)
	}
	records, err := readToEnd(w.ctx, w.writer, w.opts, cleanName)
	if err != nil {
		w.t.Fatal(err)
	}
	var count, events [rawParts]int64
	switched := 0
	for p := range group {
		if len(group[p].knownEpochs()) > 1 {
			switched++
		}
	}
	for _, r := range records {
		e := decodeCounted(r.Value)
		in := group[e.partition].knownEpochs().upTo(e.offset).last()
		if e.before != count[e.partition] || e.after-e.before != in.settings.Retention/3600 {
			w.t.Fatalf("raw partition %d, offset %d, event %d: from %d to %d, expected from %d, in the epoch %s",
				e.partition, e.offset, e.index, e.before, e.after, count[e.partition], in.text())
		}
		count[e.partition] = e.after
		events[e.partition]++
	}
	if events != w.want || switched < altered {
		w.t.Errorf("%v events, expected %v; %d partitions have gone over to another epoch, expected %d", events, w.want, switched, altered)
	}
}

// TestEpochsAreForgotten alters settings more often than the metadata has room for: what is older cannot be folded again, and is refused.
func TestEpochsAreForgotten(t *testing.T) {
	w := newRig(t)
	disk := vfs.NewCrashableMem()
	for n := range int64(maxEpochs + 1) {
		for p := range int32(rawParts) {
			w.write(p, 2)
		}
		r := w.start("a", disk, withRetention(10+n))
		w.until(w.ctx, "the group is at the end of the log", func() bool { return len(w.unfolded()) == 0 })
		if err := r.end(); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.start("a", vfs.NewCrashableMem(), withRetention(9)).wait(); err == nil || !strings.Contains(err.Error(), "are not known any more") {
		t.Errorf("error %v", err)
	}
}

func TestBetween(t *testing.T) {
	first := epoch{1, 0, ofHours(1)}
	all := epochs{first}
	for n := range int64(5) {
		all = all.with(10*n+10, ofHours(n+2))
	}
	of := func(known epochs) committed { return committed{epochs: known.text()} }
	for _, test := range []struct {
		name     string
		state    epoch
		hasState bool
		group    committed
		expected epochs
		refused  string
	}{
		{name: "all is new", expected: epochs{{number: 1, settings: ofHours(9)}}},
		{name: "from the start of the log", group: of(all), expected: all},
		{name: "the state is in the last", state: all[5], hasState: true, group: of(all), expected: all[5:]},
		{name: "the state is in an older one", state: all[2], hasState: true, group: of(all), expected: all[2:]},
		{name: "the state is in the one before those that are known", state: all[1], hasState: true, group: of(all[2:]), expected: all[1:]},
		{name: "a tool set the position", state: all[2], hasState: true, expected: all[2:3]},
		{name: "the first are forgotten", group: of(all[1:]), refused: "not known any more"},
		{name: "those between are forgotten", state: all[1], hasState: true, group: of(all[3:]), refused: "is not among"},
		{name: "the state is of another life", state: epoch{3, 20, ofHours(8)}, hasState: true, group: of(all), refused: "is not among"},
		{name: "the state is of a later life", state: all[5], hasState: true, group: of(all[:3]), refused: "is not among"},
	} {
		found, err := between(test.state, state.Position{Offset: test.state.from}, test.hasState, test.group, ofHours(9))
		if test.refused != "" {
			if err == nil || !strings.Contains(err.Error(), test.refused) {
				t.Errorf("%s: error %v, expected one with %q", test.name, err, test.refused)
			}
			continue
		}
		if err != nil || !slices.Equal(found, test.expected) {
			t.Errorf("%s: %v (error %v), expected %v", test.name, found, err, test.expected)
		}
	}
	for _, text := range []string{"1", "1@0", "1@0;fold=1", "1@0;retention=1;fold=1", "0@0;fold=1;retention=1", "1@-1;fold=1;retention=1",
		"1@0;fold=1;retention=1;lateness=5", "1@0;fold=1;retention=1,3@5;fold=1;retention=1", "2@5;fold=1;retention=1,3@4;fold=1;retention=1", ","} {
		if found, err := parseEpochs(text); err == nil {
			t.Errorf("%q is read as %v", text, found)
		}
	}
}

// TestSetBackToOtherSettings goes back to a savepoint, and folds what comes after it by other settings than before. A checkpoint of the former
// life is of no use then, though the group comes to its position again.
func TestSetBackToOtherSettings(t *testing.T) {
	w := newRig(t)
	store := objectStore(t)
	disk := vfs.NewCrashableMem()
	folded := func(disk *vfs.MemFS, change ...func(*Worker)) (states [rawParts]string) {
		t.Helper()
		r := w.start("a", disk, change...)
		w.until(w.ctx, "all is folded", func() bool { return len(w.unfolded()) == 0 && r.open() })
		if err := r.end(); err != nil {
			t.Fatal(err)
		}
		for p := range states {
			states[p] = w.stateOf(disk, int32(p))
		}
		return states
	}
	w.writeAll(5)
	folded(disk, withCheckpoints(store, atEnd), withRetention(6))
	repo := checkpoint.NewRepository(store, checkpoint.Scope{Group: groupName, Topic: rawName, TopicID: w.topic.ID, Partitions: rawParts})
	savepoint := w.saved(repo, "before")
	w.writeAll(7, 3)
	folded(disk, withCheckpoints(store, atEnd), withRetention(6))
	if err := SetBack(w.ctx, w.opts, repo.Scope(), savepoint); err != nil {
		t.Fatal(err)
	}
	// The second life makes no checkpoint.
	watched := &watchedStore{Store: store}
	watched.noPuts.Store(true)
	states := folded(disk, withCheckpoints(watched, atEnd), withRetention(9))
	if again := folded(vfs.NewCrashableMem(), withCheckpoints(watched, atEnd), withRetention(9)); again != states {
		t.Errorf("the states are\n%v, and after the disk was lost\n%v", states, again)
	}
}

// TestSetBackToSavepointOfOtherSettings goes back, goes on by other settings, and then to a savepoint of the former life: workers take it.
func TestSetBackToSavepointOfOtherSettings(t *testing.T) {
	w := newRig(t)
	store := objectStore(t)
	disk := vfs.NewCrashableMem()
	folded := func(hours int64) {
		t.Helper()
		r := w.start("a", disk, withCheckpoints(store, atEnd), withRetention(hours))
		w.until(w.ctx, "all is folded", func() bool { return len(w.unfolded()) == 0 && r.open() })
		if err := r.end(); err != nil {
			t.Fatal(err)
		}
	}
	repo := checkpoint.NewRepository(store, checkpoint.Scope{Group: groupName, Topic: rawName, TopicID: w.topic.ID, Partitions: rawParts})
	w.writeAll(5)
	folded(6)
	first := w.saved(repo, "first")
	w.writeAll(7)
	folded(9)
	second := w.saved(repo, "second")
	if err := SetBack(w.ctx, w.opts, repo.Scope(), first); err != nil {
		t.Fatal(err)
	}
	folded(12)
	if err := SetBack(w.ctx, w.opts, repo.Scope(), second); err != nil {
		t.Fatal(err)
	}
	group, err := w.positions()
	if err != nil {
		t.Fatal(err)
	}
	in, err := parseEpoch(second[0].Manifest.Epoch)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := between(in, second[0].Position, true, group[0], ofHours(12)); err != nil {
		t.Errorf("the group was set to a savepoint that no worker takes: %v", err)
	}
	w.writeAll(1)
	folded(15) // whatever is on the disk
}
