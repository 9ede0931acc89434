package dedup

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/twmb/franz-go/pkg/kadm"

	"cassdelta/state"
	"cassdelta/state/checkpoint"
	"cassdelta/state/objects"
)

// simObjects is the store of checkpoints, which all hosts see.
type simObjects struct {
	objects.Store // without faults: it is asked by the simulation itself
	repo          *checkpoint.Repository

	interval, flushes time.Duration
	retain            int
	slow              time.Duration // the longest that an answer takes, but for few
	faults            int           // of so many requests one fails, and of those that alter something twice as many; 0: none
	damage            bool          // some answers are not what was put
	standby           bool          // workers keep copies of the checkpoints of what others fold
	deletes           bool          // raw records that checkpoints are past are deleted
}

func newSimObjects(r *rand.Rand) (*simObjects, error) {
	store, err := objects.NewDirectory("objects", vfs.NewMem())
	o := &simObjects{
		Store:    store,
		interval: []time.Duration{time.Second, 2 * time.Second, 10 * time.Second}[r.IntN(3)],
		flushes:  []time.Duration{50 * time.Millisecond, 500 * time.Millisecond, 0}[r.IntN(3)],
		retain:   1 + r.IntN(2),
		slow:     []time.Duration{0, 50 * time.Millisecond, 2 * time.Second}[r.IntN(3)],
		faults:   []int{0, 20, 5}[r.IntN(3)],
		standby:  r.IntN(2) == 0,
		deletes:  r.IntN(3) > 0,
	}
	o.damage = !o.deletes && r.IntN(3) == 0 // what is damaged may be all there is
	return o, err
}

// config is that of the checkpoints of a process.
func (o *simObjects) config(r *simRun, rnd *rand.Rand) CheckpointConfig {
	return CheckpointConfig{Store: &simStore{Store: o.Store, of: o, run: r, rnd: rnd}, Interval: o.interval, Retain: o.retain, Standby: o.standby}
}

// simStore is the store as one process sees it.
type simStore struct {
	objects.Store
	of  *simObjects
	run *simRun

	mu  sync.Mutex
	rnd *rand.Rand
}

var errStore = errors.New("the store fails")

// simFate is what becomes of a request.
type simFate int

const (
	simServed    simFate = iota
	simRefused           // it was not carried out
	simUnheard           // it was, and the answer is an error
	simBrokenOff         // the answer ends early
	simDamaged           // one bit of the answer is another
)

func (s *simStore) String() string { return "objects" }

// draw draws what becomes of a request, and how long it takes. Of so many one fails, or none if that is 0.
func (s *simStore) draw(of int, fates ...simFate) (fate simFate, takes time.Duration, part float64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	part = s.rnd.Float64()
	if s.of.slow > 0 {
		takes = time.Duration(s.rnd.Int64N(int64(s.of.slow)))
		if s.rnd.IntN(4) > 0 {
			takes /= 16
		}
	}
	if isClosed(s.run.host.sim.healed) || of == 0 || s.rnd.IntN(of) > 0 {
		return simServed, takes, part
	}
	if s.rnd.IntN(4) == 0 {
		return simServed, takes + time.Duration(s.rnd.Int64N(int64(time.Minute))), part
	}
	return fates[s.rnd.IntN(len(fates))], takes, part
}

// request waits until a request is at the store. Alive says that its sender is, which may end before; then it may be lost on the way.
func (s *simStore) request(ctx context.Context, takes time.Duration, what, name string) (arrives, alive bool) {
	s.run.host.sim.note("%s: %s %s", s.run.host.name, what, name)
	if s.run.link.wait(ctx.Done()) {
		select {
		case <-time.After(takes):
		case <-ctx.Done():
		}
		if s.run.link.wait(ctx.Done()) && ctx.Err() == nil {
			return true, true
		}
	}
	if _, alive := s.run.link.delay(0); alive {
		return false, true // it was given up
	}
	late, _ := s.run.link.delay(s.run.link.late)
	time.Sleep(late)
	return late > 0, false
}

func (s *simStore) Put(ctx context.Context, name string, content io.ReaderAt, size int64) error {
	return s.alter(ctx, "put", name, func(ctx context.Context) error {
		err := s.Store.Put(ctx, name, content, size)
		if err == nil && strings.Contains(name, "/checkpoints/") {
			s.run.host.sim.checkpoints.Add(1)
		}
		return err
	})
}

func (s *simStore) Delete(ctx context.Context, name string) error {
	return s.alter(ctx, "delete", name, func(ctx context.Context) error { return s.Store.Delete(ctx, name) })
}

// alter carries out a request that alters something.
func (s *simStore) alter(ctx context.Context, what, name string, do func(context.Context) error) error {
	fate, takes, _ := s.draw((s.of.faults+1)/2, simRefused, simUnheard)
	arrives, alive := s.request(ctx, takes, what, name)
	if !arrives || alive && fate == simRefused {
		return s.failed(ctx)
	}
	err := do(context.WithoutCancel(ctx))
	if !alive || fate == simUnheard {
		return s.failed(ctx)
	}
	return err
}

func (s *simStore) failed(ctx context.Context) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return errStore
}

func (s *simStore) List(ctx context.Context, prefix string, fn func(objects.Info) error) error {
	fate, takes, _ := s.draw(s.of.faults, simRefused, simBrokenOff)
	if arrives, alive := s.request(ctx, takes, "list", prefix); !arrives || !alive || fate == simRefused {
		return s.failed(ctx)
	}
	if fate == simServed {
		return s.Store.List(ctx, prefix, fn)
	}
	n := 0
	return s.Store.List(ctx, prefix, func(i objects.Info) error {
		if n++; n > 2 {
			return errStore
		}
		return fn(i)
	})
}

func (s *simStore) Get(ctx context.Context, name string, offset int64) (io.ReadCloser, error) {
	fates := []simFate{simRefused, simBrokenOff, simBrokenOff}
	if s.of.damage {
		fates = append(fates, simDamaged)
	}
	fate, takes, part := s.draw(s.of.faults, fates...)
	if arrives, alive := s.request(ctx, takes, "get", name); !arrives || !alive || fate == simRefused {
		return nil, s.failed(ctx)
	}
	body, err := s.Store.Get(ctx, name, offset)
	if err != nil || fate == simServed {
		return body, err
	}
	content, err := io.ReadAll(body)
	if err = errors.Join(err, body.Close()); err != nil || len(content) == 0 {
		return io.NopCloser(strings.NewReader("")), err
	}
	at := int(part * float64(len(content)))
	if fate == simDamaged {
		content[at] ^= 1
		return io.NopCloser(strings.NewReader(string(content))), nil
	}
	return io.NopCloser(io.MultiReader(strings.NewReader(string(content[:at])), brokenReader{})), nil
}

// brokenReader is the rest of an answer that breaks off.
type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

// deleteRaw deletes the first raw records of a partition, up to where a checkpoint is that can be gone on from: what docs/checkpoints.md asks for.
func (s *simulation) deleteRaw() {
	adm := kadm.NewClient(s.client)
	p := s.r.Int32N(s.partitions)
	any := s.r.Uint64()
	group, err := tryFetchCommitted(s.ctx, s.client, groupName, s.topic, []int32{p})
	c, ok := group[p]
	if err != nil || !ok {
		return
	}
	all, err := logBounds(s.ctx, adm, rawName)
	if err != nil {
		return
	}
	var usable []state.Position
	entries, err := s.store.repo.List(s.ctx, p)
	if err != nil {
		s.fail("%v", err)
		return
	}
	for _, e := range entries {
		if e.Err == nil && e.Position.Compare(c.Position) <= 0 && e.Position.Offset > all[p].start {
			usable = append(usable, e.Position)
		}
	}
	if len(usable) == 0 {
		return
	}
	// One record stays: of a log without any kfake does not know any more where its epochs ended, and says 0 once the leader moves.
	at := min(usable[any%uint64(len(usable))].Offset, all[p].end-1)
	offsets := kadm.Offsets{}
	offsets.AddOffset(rawName, p, at, -1)
	deleted, err := adm.DeleteRecords(s.ctx, offsets)
	if err == nil {
		err = deleted.Error()
	}
	s.note("partition %d: raw records before %d are deleted: %v", p, at, err)
}

// checkCheckpoints restores the checkpoints of a partition, some of them, and holds them to the fold.
func (s *simulation) checkCheckpoints(number int32, prefix func(state.Position) string) {
	entries, err := s.store.repo.List(s.ctx, number)
	if err != nil {
		s.fail("%v", err)
		return
	}
	for i, e := range entries {
		if e.Err != nil {
			s.fail("%v: %v", e, e.Err)
			continue
		}
		if i >= mostCheckpoints {
			continue
		}
		disk := vfs.NewMem()
		if err := s.store.repo.Restore(s.ctx, e, "restored", disk, nil); err != nil {
			s.fail("%v", err)
			continue
		}
		at, found, err := s.stateIn("restored", number, disk)
		if err != nil {
			s.fail("%v: %v", e, err)
			continue
		}
		if expected := prefix(e.Position); at != e.Position || found != expected {
			s.fail("%v: the state is at %v, the manifest says %v, and is\n%s\nexpected\n%s", e, at, e.Position, found, expected)
		}
	}
}

// mostCheckpoints is how many checkpoints of a partition are restored to be looked at.
const mostCheckpoints = 4
