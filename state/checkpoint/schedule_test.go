package checkpoint

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

var (
	scheduleSeed  = flag.Uint64("schedule.seed", 0, "the seed of the one schedule to run; 0 runs many")
	scheduleCount = flag.Int("schedule.count", 8, "how many schedules")
)

// Workers that do not know of one another make checkpoints of one partition and remove what is old, while the store takes its time over
// each operation, up to hours, and workers stop for hours. Whatever was made within the time of an upload stays whole until it is removed, a
// savepoint for good, and there is always one to go on from.
func TestSchedules(t *testing.T) {
	var total schedule
	lines := makeLines(t)
	for range *scheduleCount {
		seed := rand.Uint64()
		if *scheduleSeed != 0 {
			seed = *scheduleSeed
		}
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &schedule{t: t, seed: seed, lines: lines, store: newMemory(), promised: map[string]bool{}}
				s.run()
				total.uploads += s.uploads
				total.removed += s.removed
				total.files += s.files
				total.saved += s.saved
				total.failed += s.failed
			})
		})
		if *scheduleSeed != 0 {
			return
		}
	}
	t.Logf("%d checkpoints, %d savepoints, %d uploads given up; %d checkpoints and %d files removed", total.uploads, total.saved, total.failed, total.removed, total.files)
	if total.uploads == 0 || total.removed == 0 || total.files == 0 || total.saved == 0 || total.failed == 0 {
		t.Error("the test tests little")
	}
}

type schedule struct {
	t     *testing.T
	seed  uint64
	store *memory
	lines []line

	mu sync.Mutex
	// promised are the manifests that an upload was right to put: they are whole as long as they are there.
	promised                               map[string]bool
	uploads, removed, files, saved, failed int
}

type actorKey struct{}

// draw is a number that depends on the seed, who asks, and for what.
func (s *schedule) draw(ctx context.Context, what string) *rand.Rand {
	h := fnv.New64a()
	fmt.Fprint(h, ctx.Value(actorKey{}), what, time.Now().UnixNano())
	return rand.New(rand.NewPCG(s.seed, h.Sum64()))
}

// pause lets time go by: mostly little, at times hours.
func (s *schedule) pause(ctx context.Context, what string) error {
	r := s.draw(ctx, what)
	d := time.Duration(r.Int64N(int64(time.Minute)))
	if r.IntN(40) == 0 {
		d = time.Duration(r.Int64N(int64(grace)))
	}
	select {
	case <-time.After(d):
	case <-ctx.Done():
		if r.IntN(2) == 0 {
			return context.Cause(ctx)
		}
		time.Sleep(d) // it is done in spite of that, and later
	}
	if r.IntN(200) == 0 {
		return errors.New("the store fails")
	}
	return nil
}

func (s *schedule) run() {
	hold := func(ctx context.Context, op, name string) error { return s.pause(ctx, op+name) }
	s.store.before, s.store.after = hold, func(ctx context.Context, op, name string) error {
		err := s.pause(ctx, "after"+op+name)
		s.check(ctx)
		return err
	}
	var actors sync.WaitGroup
	for i := range workers {
		actors.Go(func() { s.worker(i) })
	}
	actors.Wait()
}

// line is what one store was at some positions. The stores are not open while the time of the test goes by.
type line struct {
	fs    vfs.FS
	links []string
}

const (
	workers = 3
	steps   = 12
)

func makeLines(t *testing.T) (lines []line) {
	for i := range workers {
		l := line{fs: vfs.NewMem()}
		source := openSource(t, l.fs, "state/3")
		for n := range steps {
			source.fold(1 + 5*n + i)
			l.links = append(l.links, source.link())
		}
		if err := source.store.Close(); err != nil {
			t.Fatal(err)
		}
		lines = append(lines, l)
	}
	return lines
}

// worker folds on its own, makes checkpoints, and removes what is old.
func (s *schedule) worker(number int) {
	ctx := context.WithValue(context.Background(), actorKey{}, number)
	repo := NewRepository(s.store, testScope)
	of := s.lines[number]
	w := repo.NewWriter(testPartition, fmt.Sprint(number), "", of.fs)
	for step := range steps {
		r := s.draw(ctx, "step")
		time.Sleep(time.Duration(r.Int64N(int64(2 * time.Hour))))
		switch r.IntN(8) {
		case 0:
			// It comes back with the state of another.
			of = s.lines[r.IntN(workers)]
			w = repo.NewWriter(testPartition, fmt.Sprint(number), "", of.fs)
		case 1:
			if e, _, err := repo.Save(ctx, testPartition, fmt.Sprintf("s%d", time.Now().UnixNano())); err == nil {
				s.promise(savepointsFolder+e.Savepoint, &s.saved)
			}
		default:
			result, err := w.Upload(ctx, of.links[step])
			if err != nil {
				s.count(&s.failed, 1)
			} else if !result.Unchanged {
				s.promise(checkpointsFolder+result.Name, &s.uploads)
			}
		}
		removed, err := repo.Sweep(ctx, testPartition, 2)
		if err == nil {
			s.count(&s.removed, removed.Checkpoints)
			s.count(&s.files, removed.Files)
		}
	}
}

func (s *schedule) count(n *int, add int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	*n += add
}

func (s *schedule) promise(name string, n *int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	*n++
	s.promised[name+manifestSuffix] = true
}

// check looks at all there is, without the delays of the store.
func (s *schedule) check(ctx context.Context) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.store.mu.Lock()
	now := newMemory()
	for name, o := range s.store.objects {
		now.objects[name] = o
	}
	s.store.mu.Unlock()
	entries, err := NewRepository(now, testScope).List(context.WithoutCancel(ctx), testPartition)
	if err != nil {
		s.t.Error(err)
	}
	whole := 0
	for _, e := range entries {
		if e.Err == nil {
			whole++
			continue
		}
		for name := range s.promised {
			if strings.HasSuffix(e.object, name) {
				s.t.Errorf("%v after %v: %v", e, ctx.Value(actorKey{}), e.Err)
			}
		}
	}
	if whole == 0 && s.uploads > 0 {
		s.t.Error("there is no checkpoint any more")
	}
}
