package dedup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/twmb/franz-go/pkg/kadm"

	"cassdelta/state"
	"cassdelta/state/checkpoint"
	"cassdelta/state/objects"
)

// objectStore is a store of checkpoints that outlives the disks of workers.
func objectStore(t testing.TB) objects.Store {
	t.Helper()
	s, err := objects.NewDirectory("objects", vfs.NewMem())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// withCheckpoints is a worker that makes checkpoints now and then, and at its end.
func withCheckpoints(store objects.Store, interval time.Duration) func(*Worker) {
	return func(w *Worker) {
		w.cfg.Checkpoints = CheckpointConfig{Store: store, Interval: interval, Retain: 2}
		w.stores.FlushInterval = 20 * time.Millisecond
	}
}

// atEnd makes no checkpoint but the last.
const atEnd = time.Hour

// deleteFolded removes the raw records that the group has folded: nothing can be built from the start any more.
func (w *rig) deleteFolded() {
	w.t.Helper()
	group, err := w.positions()
	if err != nil {
		w.t.Fatal(err)
	}
	offsets := kadm.Offsets{}
	for p, c := range group {
		offsets.AddOffset(rawName, p, c.Offset, -1)
	}
	deleted, err := w.adm.DeleteRecords(w.ctx, offsets)
	if err == nil {
		err = deleted.Error()
	}
	if err != nil {
		w.t.Fatal(err)
	}
}

func TestDiskLost(t *testing.T) {
	w := newRig(t)
	store := objectStore(t)
	for p := range int32(rawParts) {
		w.write(p, 3, 150, 7)
	}
	if err := w.started(store, atEnd).settledEnd(); err != nil {
		t.Fatal(err)
	}
	w.deleteFolded()
	for p := range int32(rawParts) {
		w.write(p, 1, 2)
	}
	r := w.start("a", vfs.NewCrashableMem(), withCheckpoints(store, atEnd))
	w.settle()
	if err := r.end(); err != nil {
		t.Fatal(err)
	}
	w.finished()
	if n := value(t, r.metrics.replayed); n != 0 {
		t.Errorf("%v records were folded again; the last checkpoint had them all", n)
	}
	if value(t, r.metrics.checkpoints.restored) == 0 {
		t.Error("nothing was restored")
	}
}

// started runs a worker on a disk of its own.
func (w *rig) started(store objects.Store, interval time.Duration) *running {
	return w.start("a", vfs.NewCrashableMem(), withCheckpoints(store, interval))
}

// settledEnd ends the worker once all is folded.
func (r *running) settledEnd() error {
	r.w.settle()
	return r.end()
}

// TestCrashesWithCheckpoints ends a worker at each step; its successor has its disk, as a crash leaves it, or another.
func TestCrashesWithCheckpoints(t *testing.T) {
	for _, at := range []stage{beforeCheckpoint, duringCheckpoint, afterEnd, afterApply, afterRestore} {
		for _, lost := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, disk lost %v", at, lost), func(t *testing.T) {
				w := newRig(t)
				store := objectStore(t)
				for p := range int32(rawParts) {
					w.write(p, 5, 250, 1, 0, 7)
				}
				rnd := rand.New(rand.NewPCG(1, 2))
				if at == afterRestore {
					if err := w.started(store, atEnd).settledEnd(); err != nil {
						t.Fatal(err)
					}
					w.deleteFolded()
				}
				disk := vfs.NewCrashableMem()
				crash := &ending{stage: at, after: 2, crash: true, disk: crashClone(disk, 50, rnd)}
				r := w.start("a", disk, withCheckpoints(store, 30*time.Millisecond), crash.arm(w))
				// Records come, so that there is something to make checkpoints of, and transactions by which the crash is noticed.
				for ended := false; !ended; {
					w.write(0, 2)
					select {
					case <-r.done:
						ended = true
					case <-time.After(5 * time.Millisecond):
					}
				}
				if !isCrash(r.err) {
					t.Fatalf("error %v, expected a crash", r.err)
				}
				if disk = crash.copy; lost {
					disk = vfs.NewCrashableMem()
				}
				r = w.start("a", disk, withCheckpoints(store, 30*time.Millisecond))
				w.settle()
				if err := r.end(); err != nil {
					t.Fatal(err)
				}
				w.finished()
			})
		}
	}
}

// TestRescale lets workers come and go, none of which has a disk that was used before, while records come.
func TestRescale(t *testing.T) {
	w := newRig(t)
	store := objectStore(t)
	write := func() {
		for p := range int32(rawParts) {
			w.write(p, 3, 120, 1)
		}
	}
	start := func(name string) *running {
		return w.start(name, vfs.NewCrashableMem(), withCheckpoints(store, 50*time.Millisecond))
	}
	write()
	a := start("a")
	w.settle()
	w.until(w.ctx, "there is a checkpoint of each partition", func() bool {
		for p := range int32(rawParts) {
			if made, err := a.checkpoints.repo.Positions(w.ctx, p); err != nil || len(made) == 0 {
				return false
			}
		}
		return true
	})
	b, c := start("b"), start("c")
	write()
	w.shared(a, b, c)
	write()
	w.settle()
	if value(t, b.metrics.checkpoints.restored) == 0 || value(t, c.metrics.checkpoints.restored) == 0 {
		t.Error("the new workers restored nothing")
	}
	for _, r := range []*running{a, c} {
		write()
		if err := r.end(); err != nil {
			t.Fatal(err)
		}
	}
	write()
	w.settle()
	if err := b.end(); err != nil {
		t.Fatal(err)
	}
	w.finished()
}

// faultyStore does not answer, or loses files.
type faultyStore struct {
	objects.Store
	down atomic.Bool
	asks atomic.Int32
}

func (s *faultyStore) List(ctx context.Context, prefix string, fn func(objects.Info) error) error {
	if s.asks.Add(1); s.down.Load() {
		return errors.New("the store is down")
	}
	return s.Store.List(ctx, prefix, fn)
}

func (s *faultyStore) Get(ctx context.Context, name string, offset int64) (io.ReadCloser, error) {
	if s.asks.Add(1); s.down.Load() {
		return nil, errors.New("the store is down")
	}
	return s.Store.Get(ctx, name, offset)
}

// A store that is down holds up nobody who has his disk; who has not waits for it.
func TestStoreDown(t *testing.T) {
	w := newRig(t)
	store := &faultyStore{Store: objectStore(t)}
	w.write(0, 5)
	disk := vfs.NewCrashableMem()
	if err := w.start("a", disk, withCheckpoints(store, atEnd)).settledEnd(); err != nil {
		t.Fatal(err)
	}
	w.deleteFolded()
	store.down.Store(true)
	w.write(0, 5)
	r := w.start("a", disk, withCheckpoints(store, 30*time.Millisecond))
	w.until(w.ctx, "a checkpoint fails", func() bool { return value(t, r.metrics.checkpoints.failures) > 0 })
	if err := r.settledEnd(); err != nil {
		t.Fatal(err)
	}
	w.write(1, 5)
	before := store.asks.Load()
	r = w.start("a", vfs.NewCrashableMem(), withCheckpoints(store, atEnd))
	w.until(w.ctx, "it asks", func() bool { return store.asks.Load() > before })
	store.down.Store(false)
	w.until(w.ctx, "the record that came while the store was down is folded again", func() bool {
		return value(t, r.metrics.replayed) > 0
	})
	if err := r.settledEnd(); err != nil {
		t.Fatal(err)
	}
	w.finished()
	if n := value(t, r.metrics.replayed); n != 1 {
		t.Errorf("%v records were folded again, expected one", n)
	}
}

// What cannot be gone on from is refused, with what to do.
func TestCheckpointsRefuse(t *testing.T) {
	t.Run("the group lost its position", func(t *testing.T) {
		w := newRig(t)
		store := objectStore(t)
		w.write(0, 5)
		if err := w.started(store, atEnd).settledEnd(); err != nil {
			t.Fatal(err)
		}
		if _, err := w.adm.DeleteGroup(w.ctx, groupName); err != nil {
			t.Fatal(err)
		}
		if err := w.started(store, atEnd).wait(); err == nil || !strings.Contains(err.Error(), "its offsets were deleted or have expired; recover them with cassdelta recover-offsets") {
			t.Fatal(err)
		}
	})
	t.Run("the raw topic keeps too little", func(t *testing.T) {
		w := newRig(t)
		ms := "60000"
		if _, err := w.adm.AlterTopicConfigs(w.ctx, []kadm.AlterConfig{{Name: "retention.ms", Value: &ms}}, rawName); err != nil {
			t.Fatal(err)
		}
		if err := w.started(objectStore(t), time.Minute).wait(); err == nil || !strings.Contains(err.Error(), "raise the topic's retention.ms") {
			t.Fatal(err)
		}
	})
}

// TestCheckpointsGone empties the store behind a worker that has nothing to do: it tells, and makes others.
func TestCheckpointsGone(t *testing.T) {
	w := newRig(t)
	store := objectStore(t)
	w.writeAll(2)
	r := w.start("a", vfs.NewCrashableMem(), withCheckpoints(store, atEnd))
	w.settle()
	group, err := w.positions()
	if err != nil {
		t.Fatal(err)
	}
	c, now := r.checkpoints, time.Now()
	made := func() bool {
		now = now.Add(2 * atEnd)
		c.start(now)
		c.background.Wait()
		for p, at := range group {
			if found, err := c.repo.Positions(w.ctx, p); err != nil || !slices.Contains(found, at.Position) {
				return false
			}
		}
		return true
	}
	usable := func() float64 {
		if err := c.compareLog(w.ctx, map[int32]bool{}); err != nil {
			t.Fatal(err)
		}
		return value(t, r.metrics.checkpoints.usable)
	}
	w.until(w.ctx, "there are checkpoints at the group's positions", made)
	if n := usable(); n < rawParts {
		t.Errorf("%v usable checkpoints, expected %d", n, rawParts)
	}
	var all []string
	err = store.List(w.ctx, "", func(i objects.Info) error { all = append(all, i.Name); return nil })
	for _, name := range all {
		err = errors.Join(err, store.Delete(w.ctx, name))
	}
	if err != nil {
		t.Fatal(err)
	}
	if n := usable(); n != 0 {
		t.Errorf("%v usable checkpoints, and the store is empty", n)
	}
	w.until(w.ctx, "there are checkpoints at the group's positions again", made)
	if n := usable(); n != rawParts {
		t.Errorf("%v usable checkpoints, expected %d", n, rawParts)
	}
	if err := r.end(); err != nil {
		t.Fatal(err)
	}
}

// The position of the group was set back to that of a checkpoint, by intention: state that is ahead goes.
func TestSetBack(t *testing.T) {
	w := newRig(t)
	store := objectStore(t)
	disk := vfs.NewCrashableMem()
	w.write(0, 5)
	if err := w.start("a", disk, withCheckpoints(store, atEnd)).settledEnd(); err != nil {
		t.Fatal(err)
	}
	repo := checkpoint.NewRepository(store, checkpoint.Scope{Group: groupName, Topic: rawName, TopicID: w.topic.ID, Partitions: rawParts})
	savepoint := w.saved(repo, "before")
	w.write(0, 7, 3)
	if err := w.start("a", disk, withCheckpoints(store, atEnd)).settledEnd(); err != nil {
		t.Fatal(err)
	}
	if err := SetBack(w.ctx, w.opts, repo.Scope(), savepoint); err != nil {
		t.Fatal(err)
	}
	r := w.start("a", disk, withCheckpoints(store, atEnd))
	working, cancel := w.whileWorking(1)
	defer cancel()
	w.until(working, "the events are written again", func() bool {
		group, err := w.positions()
		return err == nil && len(w.unfolded()) == 0 && group[0].restored <= group[0].Offset+1
	})
	w.write(0, 1)
	var at state.Position
	w.until(working, "the group is where it never was", func() bool {
		group, err := w.positions()
		at = group[0].Position
		return err == nil && len(w.unfolded()) == 0 && group[0].restored == 0
	})
	w.until(working, "what is beyond the group counts for nothing", func() bool {
		all := []state.Position{{Offset: 1}, at, {Offset: at.Offset, Done: at.Done + 1}, {Offset: at.Offset + 1}}
		return slices.Equal(r.checkpoints.notBeyond(0, slices.Clone(all)), all[:2])
	})
	if err := r.end(); err != nil {
		t.Fatal(err)
	}
	if got := value(t, r.metrics.events); got != 11 {
		t.Errorf("%v events, expected the 10 after the savepoint, and another", got)
	}
}

// A savepoint beyond what the group has written would lose what is between. One that is beyond its position since it was set back is not.
func TestSetBackNotForward(t *testing.T) {
	w := newRig(t)
	store := objectStore(t)
	disk := vfs.NewCrashableMem()
	repo := checkpoint.NewRepository(store, checkpoint.Scope{Group: groupName, Topic: rawName, TopicID: w.topic.ID, Partitions: rawParts})
	back := func(savepoint []*checkpoint.Entry) error { return SetBack(w.ctx, w.opts, repo.Scope(), savepoint) }
	var savepoints [2][]*checkpoint.Entry
	for i := range savepoints {
		w.write(0, 5, 6)
		if err := w.start("a", disk, withCheckpoints(store, atEnd)).settledEnd(); err != nil {
			t.Fatal(err)
		}
		savepoints[i] = w.saved(repo, fmt.Sprint(i))
	}
	for _, i := range []int{1, 0, 1, 0} {
		if err := back(savepoints[i]); err != nil {
			t.Fatalf("savepoint %d: %v", i, err)
		}
	}
	group, err := w.positions()
	if err != nil {
		t.Fatal(err)
	}
	early := group[0]
	early.restored = 0
	offsets := kadm.Offsets{}
	offsets.Add(kadm.Offset{Topic: rawName, At: early.Offset, LeaderEpoch: -1, Metadata: early.metadata()})
	if err := w.adm.CommitAllOffsets(w.ctx, groupName, offsets); err != nil {
		t.Fatal(err)
	}
	if err := back(savepoints[1]); err == nil || !strings.Contains(err.Error(), "would never be written") {
		t.Errorf("beyond what the group has written: error %v", err)
	}
	if err := back(savepoints[0]); err != nil {
		t.Error(err)
	}
}

// saved makes a savepoint of the newest checkpoints.
func (w *rig) saved(repo *checkpoint.Repository, name string) (savepoint []*checkpoint.Entry) {
	w.t.Helper()
	for p := range int32(rawParts) {
		e, _, err := repo.Save(w.ctx, p, name)
		if err != nil {
			w.t.Fatal(err)
		}
		savepoint = append(savepoint, e)
	}
	return savepoint
}

// The workers of a group that was set back start one after the other: what is on the disk of the last is of no use either, though the first
// has committed a position since.
func TestSetBackReachesEveryDisk(t *testing.T) {
	w := newRig(t)
	store := objectStore(t)
	first, last := vfs.NewCrashableMem(), vfs.NewCrashableMem()
	w.write(0, 5)
	if err := w.start("a", first, withCheckpoints(store, atEnd)).settledEnd(); err != nil {
		t.Fatal(err)
	}
	repo := checkpoint.NewRepository(store, checkpoint.Scope{Group: groupName, Topic: rawName, TopicID: w.topic.ID, Partitions: rawParts})
	savepoint := w.saved(repo, "before")
	w.write(0, 7, 90, 90, 3)
	if err := w.start("b", last, withCheckpoints(store, atEnd)).settledEnd(); err != nil {
		t.Fatal(err)
	}
	if err := SetBack(w.ctx, w.opts, repo.Scope(), savepoint); err != nil {
		t.Fatal(err)
	}
	crash := &ending{stage: afterApply, after: 1, crash: true, disk: crashClone(first, 0, rand.New(rand.NewPCG(1, 2)))}
	if err := w.startEnding("a", first, crash).wait(); !isCrash(err) {
		t.Fatal(err)
	}
	group, err := w.positions()
	if at := (state.Position{Offset: 6}); err != nil || group[0].Compare(at) >= 0 || group[0].Compare(savepoint[0].Position) <= 0 {
		t.Fatalf("the group is at %v, expected it between the savepoint and where it was (%v)", group[0], err)
	}
	r := w.start("b", last, withCheckpoints(store, atEnd))
	working, cancel := w.whileWorking(1)
	defer cancel()
	w.until(working, "all is folded again", func() bool { return len(w.unfolded()) == 0 })
	if err := r.end(); err != nil {
		t.Fatal(err)
	}
}

// What the log still has of what checkpoints need is measured.
func TestLogOvertakesCheckpoints(t *testing.T) {
	w := newRig(t)
	store := objectStore(t)
	w.write(0, 5)
	disk := vfs.NewCrashableMem()
	if err := w.start("a", disk, withCheckpoints(store, atEnd)).settledEnd(); err != nil {
		t.Fatal(err)
	}
	w.write(0, 5, 6, 7)
	r := w.start("a", disk, withCheckpoints(store, atEnd))
	w.settle()
	w.until(w.ctx, "all partitions are open", func() bool { return len(r.checkpoints.partitions()) == rawParts })
	told := map[int32]bool{}
	if err := r.checkpoints.compareLog(w.ctx, told); err != nil {
		t.Fatal(err)
	}
	if got := value(t, r.metrics.checkpoints.usable); got != rawParts || told[0] {
		t.Errorf("%v usable checkpoints, told %v", got, told)
	}
	w.deleteFolded()
	if err := r.checkpoints.compareLog(w.ctx, told); err != nil {
		t.Fatal(err)
	}
	if got := value(t, r.metrics.checkpoints.usable); got != rawParts-1 || !told[0] || told[1] {
		t.Errorf("%v usable checkpoints, told %v", got, told)
	}
	if got := value(t, r.metrics.checkpoints.margin); got != -3 {
		t.Errorf("margins of %v records, expected -3 of partition 0 and 0 of the others", got)
	}
	if err := r.end(); err != nil {
		t.Fatal(err)
	}
}
