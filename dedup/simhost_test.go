package dedup

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/twmb/franz-go/pkg/kgo"

	"cassdelta/schema"
	"cassdelta/state"
)

// simHost is a machine on which a worker runs, or not.
type simHost struct {
	sim  *simulation
	name string
	rnd  *rand.Rand
	disk *simDisk
	run  *simRun // nil while none runs
}

// simRun is one process of a worker, from its start to its end.
type simRun struct {
	host   *simHost
	worker *Worker
	link   *simLink
	disk   *simDisk
	stop   context.CancelFunc
	over   chan struct{} // closed when Run has returned, or the process has ended itself
	once   sync.Once
	err    error      // once over is closed
	faults int        // of the disk when it started
	swaps  *rand.Rand // of how long copies for standby wait

	mu       sync.Mutex
	at       stage // of what is armed
	left     int   // how often that stage is passed before
	act      simAct
	pause    time.Duration
	unsynced int  // percent, of a crash
	killed   bool // it is dead; what it still does is seen by no one
}

// simAct is what happens to a worker at a stage.
type simAct int

const (
	simCrash  simAct = iota + 1
	simPause         // of the session and its connections, as by SIGSTOP
	simStall         // of the session alone
	simCutOff        // of the connections alone
)

var simStages = []stage{afterOpen, afterBegin, afterFold, beforeEnd, afterEnd, afterApply, duringReplay}

// storeStages are those of checkpoints.
var storeStages = []stage{beforeCheckpoint, duringCheckpoint, afterRestore, beforeSwap}

func newSimHost(s *simulation, name string) *simHost {
	rnd := rand.New(rand.NewPCG(s.r.Uint64(), 1))
	return &simHost{sim: s, name: name, rnd: rnd, disk: &simDisk{mem: vfs.NewCrashableMem(), rnd: rnd}}
}

// start runs a worker.
func (h *simHost) start() {
	s := h.sim
	r := &simRun{host: h, disk: h.disk, faults: h.disk.faults(), over: make(chan struct{}), link: &simLink{
		net: s.net, rnd: rand.New(rand.NewPCG(s.r.Uint64(), 2)), latency: s.latency, late: s.late, copies: &s.copies,
	}}
	opts := append(slices.Clone(s.opts), kgo.Dialer(r.link.dial), kgo.ClientID(h.name))
	var checkpoints CheckpointConfig
	if s.store != nil {
		checkpoints = s.store.config(r, rand.New(rand.NewPCG(s.r.Uint64(), 3)))
		r.swaps = rand.New(rand.NewPCG(s.r.Uint64(), 4))
	}
	worker, err := NewWorker(WorkerConfig{
		ClientOpts: opts, RawTopic: rawName, Group: groupName, DeadLetterTopic: letterName, DeadLetterReplication: 1,
		StateDirectory: stateDirectory, MemoryBytes: 16 << 20, Emitter: simEncoder{s}, MaxEventsPerTxn: s.maxEvents, Sessions: s.sessions,
		Log: s.log.Named(h.name), Checkpoints: checkpoints,
	})
	if err != nil {
		s.fail("%v", err)
		return
	}
	if err := nameInstance(h.disk.mem, instanceOf(h.name)); err != nil {
		s.fail("%v", err)
		return
	}
	worker.stores.FS = h.disk.fs()
	if s.store != nil {
		worker.stores.FlushInterval = s.store.flushes
	}
	worker.stores.Fatal = func(message string) {
		s.note("%s: fatal: %s", h.name, message)
		r.mu.Lock()
		killed := r.killed
		r.mu.Unlock()
		if !killed && r.disk.faults() == r.faults {
			s.fail("%s ended itself: %s", h.name, message)
		}
		s.abandoned.Store(true)
		r.kill(100)
		r.finish(nil)
		runtime.Goexit()
	}
	worker.crash = r.passes
	r.worker = worker
	h.disk.crash = func() { r.kill(h.rnd.IntN(101)) }
	ctx, stop := context.WithCancel(s.ctx)
	r.stop = stop
	h.run = r
	s.note("%s: start", h.name)
	s.runs = append(s.runs, r)
	go func() { r.finish(worker.Run(ctx)) }()
}

// finish is called when the process has come to its end.
func (r *simRun) finish(err error) {
	r.once.Do(func() {
		r.err = err
		r.ended()
		close(r.over)
	})
}

// ended judges what Run returned.
func (r *simRun) ended() {
	s := r.host.sim
	r.mu.Lock()
	killed := r.killed
	r.mu.Unlock()
	s.note("%s: ended, killed %v: %v", r.host.name, killed, r.err)
	var position *PositionError
	switch {
	case killed || r.err == nil:
	case errors.As(r.err, &position):
		s.fail("%s refuses to go on: %v", r.host.name, r.err)
	case r.disk.faults() > r.faults:
	default:
		s.fail("%s ended: %v", r.host.name, r.err)
	}
}

// kill ends the process at once: nothing that it does from now on is seen.
func (r *simRun) kill(unsynced int) {
	r.mu.Lock()
	if r.killed {
		r.mu.Unlock()
		return
	}
	r.killed = true
	r.mu.Unlock()
	r.host.sim.note("%s: killed, with %d%% of what was not synced", r.host.name, unsynced)
	r.host.sim.kills.Add(1)
	r.link.kill()
	r.host.disk = r.disk.after(unsynced)
	r.stop()
}

// alive says whether the worker still works.
func (h *simHost) alive() bool {
	if h.run == nil {
		return false
	}
	h.run.mu.Lock()
	defer h.run.mu.Unlock()
	select {
	case <-h.run.over:
		return false
	default:
		return !h.run.killed
	}
}

// arm lets something happen when the worker passes a stage for the nth time.
func (r *simRun) arm(at stage, nth int, act simAct, pause time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.at, r.left, r.act, r.pause, r.unsynced = at, nth, act, pause, r.host.sim.r.IntN(101)
}

// passes is called by the worker at each stage.
func (r *simRun) passes(at stage) error {
	s := r.host.sim
	s.note("%s: %s", r.host.name, at)
	r.mu.Lock()
	if r.killed {
		r.mu.Unlock()
		return fmt.Errorf("%w: it is dead", errCrash)
	}
	act, wait := simAct(0), time.Duration(0)
	switch at {
	case afterRestore:
		s.restores.Add(1)
	case beforeSwap:
		s.standbys.Add(1)
		if r.swaps.IntN(3) == 0 {
			wait = time.Duration(r.swaps.Int64N(int64(time.Minute)))
		}
	}
	if r.act != 0 && r.at == at {
		if r.left--; r.left <= 0 {
			act, r.act = r.act, 0
		}
	}
	pause, unsynced := r.pause, r.unsynced
	r.mu.Unlock()
	s.invariant(r.worker, at)
	if wait > 0 {
		// The partition may be this worker's own by then.
		select {
		case <-time.After(wait):
		case <-s.healed:
		}
	}
	if act != 0 {
		s.count(at, act)
	}
	switch act {
	case simCrash:
		r.kill(unsynced)
		return fmt.Errorf("%w: %s", errCrash, at)
	case simPause, simStall:
		end := func() {}
		if act == simPause {
			end = r.link.freeze()
		}
		s.note("%s: pauses for %v", r.host.name, pause)
		select {
		case <-time.After(pause):
		case <-s.healed:
		}
		end()
	case simCutOff:
		s.cutOff(r.link, pause)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.killed {
		return fmt.Errorf("%w: it is dead", errCrash)
	}
	return nil
}

// invariant checks that no state is ahead of the group's position: S <= C.
func (s *simulation) invariant(worker *Worker, at stage) {
	worker.metrics.stores.mu.Lock()
	positions := map[int32]state.Position{}
	for p, store := range worker.metrics.stores.open {
		if position, ok := store.Position(); ok {
			positions[p] = position
		}
	}
	worker.metrics.stores.mu.Unlock()
	if len(positions) == 0 {
		return
	}
	// The positions of the group are asked for after those of the states: they only grow.
	group, err := tryFetchCommitted(s.ctx, s.client, groupName, worker.topic, slices.Sorted(maps.Keys(positions)))
	if err != nil {
		return // the brokers fail, or a transaction is being ended
	}
	for p, state := range positions {
		if c, ok := group[p]; !ok || state.Compare(c.Position) > 0 {
			s.fail("partition %d, %s: the state is at %v, the group at %v (known: %v)", p, at, state, c, ok)
		}
	}
}

// simEncoder writes events in a form of the test's own.
type simEncoder struct{ s *simulation }

func (e simEncoder) Encode(_ context.Context, ev *Event, dst *kgo.Record, buf []byte) ([]byte, error) {
	if e.s.encoding.Load() {
		return buf, errors.New("the registry is down")
	}
	if e.s.never(ev.RawPartition, ev.RawOffset, ev.Index) {
		return buf, &schema.AvroError{Table: ev.Table.FullName(), Err: errors.New("too odd")}
	}
	if err := e.s.parking.refuses(ev.Table.FullName()); err != nil {
		return buf, err
	}
	value, err := simEvent(ev).Encode()
	if err != nil {
		return buf, err
	}
	start := len(buf)
	buf = append(buf, value...)
	*dst = kgo.Record{Topic: e.s.parking.topic(ev.Table.FullName()), Partition: ev.RawPartition % cleanParts, Value: buf[start:]}
	return buf, nil
}

func (simEncoder) MaxBatchBytes(string) int32 { return 1 << 20 }
