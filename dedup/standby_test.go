package dedup

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"cassdelta/internal/rawtopic"
	"cassdelta/state"
	"cassdelta/state/checkpoint"
	"cassdelta/state/objects"
)

// padded is a fold whose state has files that are too large for a manifest.
type padded struct{ *counter }

func (p padded) Apply(tx *state.Txn, offset int64, rec *rawtopic.Record, done, limit int64, emit func(*Event) error) (int64, bool, error) {
	if done == 0 && rec.Kind == rawtopic.KindTick {
		value := make([]byte, 20<<10)
		r := rand.New(rand.NewPCG(uint64(offset), uint64(p.partition)))
		for i := range value {
			value[i] = byte(r.Uint32())
		}
		if err := tx.Set(state.Meta(nil, uint16(p.partition), fmt.Sprint("padding ", offset)), value); err != nil {
			return 0, false, err
		}
	}
	return p.counter.Apply(tx, offset, rec, done, limit, emit)
}

func withPadding(w *Worker) {
	w.newFold = func(p int32) folder { return padded{newCounter(p)} }
}

func standingBy(w *Worker) { w.cfg.Checkpoints.Standby = true }

// watchedStore counts what is asked of a store, and fails or alters what it is told to.
type watchedStore struct {
	objects.Store
	gets, files atomic.Int64 // all, and those of files
	noPuts      atomic.Bool

	mu      sync.Mutex
	damaged map[string]bool
}

func (s *watchedStore) Put(ctx context.Context, name string, content io.ReaderAt, size int64) error {
	if s.noPuts.Load() {
		return errors.New("the store takes nothing")
	}
	return s.Store.Put(ctx, name, content, size)
}

func (s *watchedStore) Get(ctx context.Context, name string, offset int64) (io.ReadCloser, error) {
	s.gets.Add(1)
	if strings.Contains(name, "/files/") {
		s.files.Add(1)
	}
	body, err := s.Store.Get(ctx, name, offset)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil || !s.damaged[name] || offset > 0 {
		return body, err
	}
	content, err := io.ReadAll(body)
	if len(content) > 0 { // else reading was ended
		content[0] ^= 1
	}
	return io.NopCloser(bytes.NewReader(content)), errors.Join(err, body.Close())
}

// names are the objects that a store has.
func (w *rig) names(store objects.Store) (names []string) {
	w.t.Helper()
	err := store.List(w.ctx, "", func(i objects.Info) error {
		names = append(names, i.Name)
		return nil
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return names
}

// checkpointed runs a worker until all is folded, and makes checkpoints of that.
func (w *rig) checkpointed(store objects.Store, disk vfs.FS) {
	w.t.Helper()
	if err := w.start("first", disk, withCheckpoints(store, atEnd), withPadding).settledEnd(); err != nil {
		w.t.Fatal(err)
	}
}

// halved returns once each of two workers folds one half of the partitions, and has let go of the other.
func (w *rig) halved(a, b *running) {
	w.t.Helper()
	w.until(w.ctx, "two workers have one half of the partitions each", func() bool {
		has, other := a.metrics.stores.partitions(), b.metrics.stores.partitions()
		return len(has) == rawParts/2 && len(other) == rawParts/2 && slices.Equal(a.strangers(), other) && slices.Equal(b.strangers(), has)
	})
}

// strangers are the partitions that a worker does not fold.
func (r *running) strangers() (partitions []int32) {
	for p := range int32(rawParts) {
		if !r.leases.taken(p) {
			partitions = append(partitions, p)
		}
	}
	return partitions
}

// copied brings the copies of a worker up to date, and checks that it has one of each partition that it does not fold, at the position.
func (r *running) copied(at map[int32]committed) {
	t := r.w.t
	t.Helper()
	for same := false; !same; {
		before := r.strangers()
		if err := r.standby.round(r.w.ctx); err != nil {
			t.Fatal(err)
		}
		same = slices.Equal(before, r.strangers()) // the group may move them at any time
	}
	for _, p := range r.strangers() {
		got, _, ok, err := state.PositionOf(r.directory(p), r.stores)
		if err != nil || !ok || got != at[p].Position {
			t.Errorf("the copy of partition %d is at %v (there is one: %v, %v), expected %v", p, got, ok, err, at[p])
		}
		if got := value(t, r.metrics.standby.offset.WithLabelValues(fmt.Sprint(p))); got != float64(at[p].Offset) {
			t.Errorf("the copy of partition %d is at %v by the metrics, expected %v", p, got, at[p])
		}
	}
	r.onlyPartitions()
}

// onlyPartitions checks that nothing is left beside the directories of partitions.
func (r *running) onlyPartitions() {
	r.w.t.Helper()
	names, err := r.stores.FS.List(path.Dir(r.directory(0)))
	if err != nil {
		r.w.t.Fatal(err)
	}
	for _, name := range names {
		if name != linksFolder && len(name) != 1 {
			r.w.t.Errorf("%s is left", name)
		}
	}
}

// groupPositions are those of the group.
func (w *rig) groupPositions() map[int32]committed {
	w.t.Helper()
	var group map[int32]committed
	w.until(w.ctx, "the group has positions", func() (ok bool) {
		var err error
		group, err = w.positions()
		return err == nil
	})
	return group
}

// writeAll writes the same records to all partitions.
func (w *rig) writeAll(events ...int64) {
	w.t.Helper()
	for p := range int32(rawParts) {
		w.write(p, events...)
	}
}

// A worker on standby takes over the partitions of one that has ended, or was killed, from what it has on its disk.
func TestStandbyTakesOver(t *testing.T) {
	for _, killed := range []bool{false, true} {
		t.Run(fmt.Sprintf("killed %v", killed), func(t *testing.T) {
			t.Parallel() // it mostly waits
			w := newRig(t)
			store := objectStore(t)
			w.writeAll(3, 150, 7)
			disk := vfs.NewCrashableMem()
			w.checkpointed(store, disk)
			at := w.groupPositions()
			w.deleteFolded() // so nothing can be built from the start

			var dead atomic.Bool
			a := w.start("a", disk, withCheckpoints(store, atEnd), withPadding, func(worker *Worker) {
				worker.crash = func(stage) error {
					if dead.Load() {
						return fmt.Errorf("%w: it is killed", errCrash)
					}
					return nil
				}
			})
			watched := &watchedStore{Store: store}
			b := w.start("b", vfs.NewCrashableMem(), withCheckpoints(watched, atEnd), withPadding, standingBy)
			w.halved(a, b)
			b.copied(at)
			if value(t, b.metrics.standby.fetched) == 0 || watched.files.Load() == 0 {
				t.Error("nothing was fetched for the copies")
			}
			w.writeAll(5, 1)
			w.settle()
			fetched, gets := value(t, b.metrics.checkpoints.restored), watched.gets.Load()
			if killed {
				dead.Store(true)
				for _, p := range b.strangers() {
					w.write(p, 1)
				}
				if err := a.wait(); !isCrash(err) {
					t.Fatalf("error %v, expected a crash", err)
				}
			} else if err := a.end(); err != nil {
				t.Fatal(err)
			}
			w.until(w.ctx, "the other takes over", func() bool { return b.metrics.stores.count() == rawParts })
			w.settle()
			if n := watched.gets.Load() - gets; n != 0 || value(t, b.metrics.checkpoints.restored) != fetched {
				t.Errorf("the store was asked %d times for the partitions that were taken over", n)
			}
			if value(t, b.metrics.replayed) == 0 {
				t.Error("nothing was folded again: the copies were of a later time than expected")
			}
			if n := value(t, b.metrics.standby.offset); n != 0 {
				t.Errorf("there are copies of %v by the metrics, and all partitions are its own", n)
			}
			if err := b.end(); err != nil {
				t.Fatal(err)
			}
			w.finished()
		})
	}
}

// Copies follow the checkpoints without being told.
func TestStandbyFollows(t *testing.T) {
	w := newRig(t)
	store := objectStore(t)
	w.writeAll(3, 150)
	a := w.start("a", vfs.NewCrashableMem(), withCheckpoints(store, 20*time.Millisecond), withPadding)
	b := w.start("b", vfs.NewCrashableMem(), withCheckpoints(store, 20*time.Millisecond), withPadding, standingBy)
	w.halved(a, b)
	for range 3 {
		w.writeAll(2)
		w.settle()
		sum := func() (sum int64) {
			for _, p := range b.strangers() {
				sum += w.groupPositions()[p].Offset
			}
			return sum
		}
		w.until(w.ctx, "the copies are where the group is", func() bool { return value(t, b.metrics.standby.offset) == float64(sum()) })
	}
	if err := errors.Join(a.end(), b.end()); err != nil {
		t.Fatal(err)
	}
	if n := value(t, b.metrics.standby.failures); n != 0 {
		t.Errorf("%v failures", n)
	}
	b.onlyPartitions()
	w.finished()
}

// A crash before a copy is put in its place leaves what was there; the next process removes the rest.
func TestStandbyCrash(t *testing.T) {
	w := newRig(t)
	store := objectStore(t)
	w.writeAll(3, 150)
	disk := vfs.NewCrashableMem()
	w.checkpointed(store, disk)
	a := w.start("a", disk, withCheckpoints(store, atEnd), withPadding)
	w.until(w.ctx, "all partitions are folded", func() bool { return a.metrics.stores.count() == rawParts })
	other := vfs.NewCrashableMem()
	crash := &ending{stage: beforeSwap, after: 1, crash: true, disk: crashClone(other, 50, rand.New(rand.NewPCG(1, 2)))}
	if err := w.start("b", other, withCheckpoints(store, 20*time.Millisecond), withPadding, standingBy, crash.arm(w)).wait(); !isCrash(err) {
		t.Fatalf("error %v, expected a crash", err)
	}
	w.writeAll(4)
	b := w.start("b", crash.copy, withCheckpoints(store, atEnd), withPadding, standingBy)
	w.halved(a, b)
	b.onlyPartitions()
	if err := b.standby.round(w.ctx); err != nil {
		t.Fatal(err)
	}
	if value(t, b.metrics.standby.offset) == 0 {
		t.Error("there are no copies")
	}
	if err := a.end(); err != nil {
		t.Fatal(err)
	}
	if err := b.settledEnd(); err != nil {
		t.Fatal(err)
	}
	b.onlyPartitions()
	w.finished()
}

// A partition that is assigned to the worker while its copy is built is not touched any more.
func TestStandbyLeavesAlone(t *testing.T) {
	w := newRig(t)
	store := objectStore(t)
	w.writeAll(3, 150)
	disk := vfs.NewCrashableMem()
	w.checkpointed(store, disk)
	a := w.start("a", disk, withCheckpoints(store, atEnd), withPadding)
	built, goOn := make(chan struct{}, rawParts), make(chan struct{})
	b := w.start("b", vfs.NewCrashableMem(), withCheckpoints(store, atEnd), withPadding, standingBy, func(worker *Worker) {
		worker.crash = func(at stage) error {
			w.invariant(worker, at)
			if at == beforeSwap {
				built <- struct{}{}
				<-goOn
			}
			return nil
		}
	})
	w.halved(a, b)
	round := make(chan error, 1)
	go func() { round <- b.standby.round(w.ctx) }()
	<-built
	if err := a.end(); err != nil {
		t.Fatal(err)
	}
	w.until(w.ctx, "the other takes over", func() bool { return b.metrics.stores.count() == rawParts })
	w.writeAll(4)
	w.settle()
	close(goOn)
	if err := <-round; err != nil {
		t.Error(err)
	}
	select {
	case <-built:
		t.Error("another copy was built, of a partition that is the worker's own")
	default:
	}
	if n := value(t, b.metrics.standby.offset); n != 0 {
		t.Errorf("a copy at %v is in the metrics", n)
	}
	b.onlyPartitions()
	w.writeAll(2)
	if err := b.settledEnd(); err != nil {
		t.Fatal(err)
	}
	w.finished()
}

// State that is ahead of all checkpoints stays: the worker had the partition, and there was no checkpoint of that.
func TestStandbyKeepsWhatIsAhead(t *testing.T) {
	w := newRig(t)
	store := &watchedStore{Store: objectStore(t)}
	w.writeAll(3, 150)
	disk := vfs.NewCrashableMem()
	w.checkpointed(store, disk)
	w.writeAll(6)
	a := w.start("a", disk, withCheckpoints(store, atEnd), withPadding, standingBy)
	w.settle()
	at := w.groupPositions()
	store.noPuts.Store(true)
	b := w.start("b", vfs.NewCrashableMem(), withCheckpoints(store.Store, atEnd), withPadding)
	w.halved(a, b)
	files := store.files.Load()
	a.copied(at)
	if n := store.files.Load() - files; n != 0 {
		t.Errorf("%d files were fetched", n)
	}
	if err := b.end(); err != nil {
		t.Fatal(err)
	}
	w.until(w.ctx, "the first has all again", func() bool { return a.metrics.stores.count() == rawParts })
	if err := a.settledEnd(); err != nil {
		t.Fatal(err)
	}
	w.finished()
}

// A file on the disk that is not what it was is replaced; and if a checkpoint in the store is damaged, an older one is taken.
func TestStandbyDamage(t *testing.T) {
	w := newRig(t)
	store := &watchedStore{Store: objectStore(t), damaged: map[string]bool{}}
	w.writeAll(3, 150)
	disk := vfs.NewCrashableMem()
	w.checkpointed(store, disk)
	at := w.groupPositions()
	other := vfs.NewCrashableMem()
	a := w.start("a", disk, withCheckpoints(store.Store, 20*time.Millisecond), withPadding)
	logs := &observed{}
	b := w.start("b", other, withCheckpoints(store, atEnd), withPadding, standingBy, logs.watch)
	w.halved(a, b)
	b.copied(at)
	files := store.files.Load()
	b.copied(at)
	if n := store.files.Load() - files; n != 0 {
		t.Errorf("%d files were fetched again", n)
	}

	// On the disk, as another process finds it; and so that it cannot be opened.
	p := b.strangers()[0]
	tables := func() map[string][]byte {
		found := map[string][]byte{}
		names, err := other.List(b.directory(p))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			if strings.HasSuffix(name, ".sst") {
				found[name] = readFile(t, other, other.PathJoin(b.directory(p), name))
			}
		}
		return found
	}
	whole := tables()
	if len(whole) == 0 {
		t.Fatal("there are no tables")
	}
	for name, content := range whole {
		flipped := slices.Clone(content)
		flipped[20] ^= 1
		for _, damaged := range [][]byte{flipped, nil, append(slices.Clone(content[:len(content)/2]), content[len(content)/2+1:]...), append(slices.Clone(content), 0)} {
			writeFile(t, other, other.PathJoin(b.directory(p), name), damaged)
			b.standby = newStandby(b.Worker)
			b.copied(at)
			if got := tables(); !bytes.Equal(got[name], content) || len(got) != len(whole) {
				t.Errorf("%s is still damaged", name)
			}
		}
	}

	// In the store, where there is an older one.
	before := w.names(store)
	w.writeAll(6)
	w.settle()
	now := w.groupPositions()
	w.until(w.ctx, "there are newer checkpoints", func() bool {
		return !slices.ContainsFunc(b.strangers(), func(p int32) bool {
			return value(t, a.metrics.checkpoints.offset.WithLabelValues(fmt.Sprint(p))) != float64(now[p].Offset)
		})
	})
	store.mu.Lock()
	for _, name := range w.names(store) {
		if strings.Contains(name, "/files/") && !slices.Contains(before, name) {
			store.damaged[name] = true
		}
	}
	store.mu.Unlock()
	for _, p := range b.strangers() {
		if err := other.RemoveAll(b.directory(p)); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.standby.round(w.ctx); !errors.Is(err, checkpoint.ErrUnusable) {
		t.Errorf("error %v, expected that the checkpoint is of no use", err)
	}
	failures := value(t, b.metrics.standby.failures)
	if failures != float64(len(b.strangers())) || logs.count("is not up to date") != int(failures) {
		t.Errorf("%v failures, %d in the log", failures, logs.count("is not up to date"))
	}
	if err := b.standby.round(w.ctx); err != nil || value(t, b.metrics.standby.failures) != failures {
		t.Errorf("it was tried again at once: %v", err)
	}
	b.dueNow()
	b.copied(at)
	if n := logs.count("is kept up to date again"); n != int(failures) {
		t.Errorf("it was logged %d times that all is well again, expected %v", n, failures)
	}
	if err := errors.Join(a.end(), b.end()); err != nil {
		t.Fatal(err)
	}
	w.finished()
}

// dueNow has copies that failed tried again.
func (r *running) dueNow() {
	for _, c := range r.standby.copies {
		c.due = time.Time{}
	}
}

// The disk has room for the folding before it has any for copies.
func TestStandbyNeedsRoom(t *testing.T) {
	w := newRig(t)
	store := objectStore(t)
	w.writeAll(3, 150)
	disk := vfs.NewCrashableMem()
	w.checkpointed(store, disk)
	at := w.groupPositions()
	a := w.start("a", disk, withCheckpoints(store, atEnd), withPadding)
	other := vfs.NewCrashableMem()
	logs := &observed{}
	b := w.start("b", other, withCheckpoints(store, atEnd), withPadding, standingBy, logs.watch)
	w.halved(a, b)
	other.TestingSetDiskUsage(vfs.DiskUsage{AvailBytes: 100<<20 + 1000, TotalBytes: 1000 << 20})
	if err := b.standby.round(w.ctx); err == nil || !strings.Contains(err.Error(), "there is no room") {
		t.Errorf("error %v", err)
	}
	if n := value(t, b.metrics.standby.failures); n != float64(len(b.strangers())) || logs.count("is not up to date") != int(n) {
		t.Errorf("%v failures, %d in the log", n, logs.count("is not up to date"))
	}
	if n := value(t, b.metrics.standby.offset); n != 0 {
		t.Errorf("a copy at %v", n)
	}
	b.onlyPartitions()
	other.TestingSetDiskUsage(vfs.DiskUsage{AvailBytes: 200 << 20, TotalBytes: 1000 << 20})
	b.dueNow()
	b.copied(at)
	if err := errors.Join(a.end(), b.end()); err != nil {
		t.Fatal(err)
	}
	w.finished()
}

func TestStandbyNeedsCheckpoints(t *testing.T) {
	_, err := NewWorker(WorkerConfig{Checkpoints: CheckpointConfig{Standby: true}})
	if err == nil || !strings.Contains(err.Error(), "standby: copies of checkpoints are kept, and there are none; say where they are, by checkpoint-store") {
		t.Errorf("error %v", err)
	}
}

func readFile(t *testing.T, disk vfs.FS, name string) []byte {
	t.Helper()
	f, err := disk.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	content, err := io.ReadAll(f)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

// writeFile replaces a file; nil removes it.
func writeFile(t *testing.T, disk vfs.FS, name string, content []byte) {
	t.Helper()
	if err := disk.Remove(name); err != nil {
		t.Fatal(err)
	}
	if content == nil {
		return
	}
	f, err := disk.Create(name, vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.Write(content)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		t.Fatal(err)
	}
}
