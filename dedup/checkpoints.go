package dedup

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"path"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"cassdelta/state"
	"cassdelta/state/checkpoint"
	"cassdelta/state/objects"
)

// CheckpointConfig says where the checkpoints of the state are, and how many are made.
type CheckpointConfig struct {
	// Store is where they are. Nil: there are none.
	Store objects.Store
	// Interval is the time between two checkpoints of a partition. 0 is a minute.
	Interval time.Duration
	// Retain is how many are kept in any case. 0 is 3.
	Retain int
	// Standby says that the worker keeps copies of the newest ones, of the partitions that it does not fold.
	Standby bool
}

// Check says what is wrong with it; nil if nothing is.
func (c *CheckpointConfig) Check() error {
	if c.Interval != 0 && c.Interval < leastCheckpointInterval || c.Retain < 0 {
		return fmt.Errorf("checkpoint-interval, checkpoint-retain: expected at least %v between them and at least one, found %v and %d", leastCheckpointInterval, c.Interval, c.Retain)
	}
	if c.Standby && c.Store == nil {
		return errors.New("standby: copies of checkpoints are kept, and there are none; say where they are, by checkpoint-store")
	}
	return nil
}

const (
	defaultCheckpointInterval = time.Minute
	defaultRetain             = 3
	// leastCheckpointInterval keeps an object store from being paid for requests.
	leastCheckpointInterval = time.Second
	// uploads and restores are how many may be under way at once.
	uploads  = 2
	restores = 2
	// checkpointLook is how often it is looked whether a checkpoint is due.
	checkpointLook = 250 * time.Millisecond
	// afterFailure is the least time until a checkpoint that failed is tried again.
	afterFailure = 10 * time.Second
	// sweepInterval is the time between two looks for what can be removed, and at what the log still has.
	sweepInterval = 10 * time.Minute
	// finalTimeout bounds how long a worker that is told to stop waits for its last checkpoints.
	finalTimeout = 20 * time.Second
	// linksFolder is where the copies are that are uploaded, beside the stores of the partitions.
	linksFolder = "checkpoints"
)

// checkpoints makes checkpoints of the stores that are open, beside the folding. Its methods do nothing on nil.
type checkpoints struct {
	w        *Worker
	repo     *checkpoint.Repository
	links    string
	slots    chan struct{} // of uploads
	restores restoreSlots

	background sync.WaitGroup
	cancel     context.CancelFunc // of ctx
	ctx        context.Context    // of what is in the background

	mu     sync.Mutex
	open   map[int32]*checkpointed
	linked int
}

// checkpointed is a partition whose store is open.
type checkpointed struct {
	partition int32
	store     *state.Store

	mu     sync.Mutex // held while a checkpoint is made
	writer *checkpoint.Writer
	last   state.Position // of the last checkpoint
	made   bool           // there was one
	sweep  time.Time

	failed atomic.Bool // the last attempt did
	stored atomic.Bool // there was one in the store, by what this worker knows
	gone   atomic.Bool // there is none any more: one is due though nothing was committed

	due  time.Time // guarded by checkpoints.mu
	busy bool      // likewise
}

// newCheckpoints removes what a former process left. It is nil if there is no store.
func newCheckpoints(w *Worker) (*checkpoints, error) {
	if w.cfg.Checkpoints.Store == nil {
		return nil, nil
	}
	c := &checkpoints{
		w: w, slots: make(chan struct{}, uploads), restores: restoreSlots{slots: make(chan struct{}, restores)}, open: map[int32]*checkpointed{},
		links: w.stores.FS.PathJoin(w.cfg.StateDirectory, path.Join(w.topic.Name, linksFolder)),
		repo: checkpoint.NewRepository(w.cfg.Checkpoints.Store, checkpoint.Scope{
			Group: w.cfg.Group, Topic: w.topic.Name, TopicID: w.topic.ID, Partitions: w.topic.Partitions,
		}),
	}
	err := errors.Join(w.stores.FS.RemoveAll(c.links), checkpoint.RemoveLeftovers(w.stores.FS.PathJoin(w.cfg.StateDirectory, w.topic.Name), w.stores.FS))
	if err != nil {
		return nil, fmt.Errorf("state-directory: %w", err)
	}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	return c, nil
}

// run makes checkpoints when they are due, until ctx ends.
func (c *checkpoints) run(ctx context.Context) {
	if c == nil {
		return
	}
	tick := time.NewTicker(checkpointLook)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			c.start(time.Now())
		}
	}
}

// start begins the checkpoints that are due, in the background.
func (c *checkpoints) start(now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, p := range c.open {
		if p.busy || now.Before(p.due) {
			continue
		}
		p.busy = true
		c.background.Go(func() {
			next := c.w.cfg.Checkpoints.Interval
			if !c.make(p) {
				next = max(afterFailure, next)
			}
			c.mu.Lock()
			defer c.mu.Unlock()
			p.busy, p.due = false, now.Add(next)
		})
	}
}

// add begins to make checkpoints of a partition. The first is made at any time within the interval, so that those of several
// partitions do not come together.
func (c *checkpoints) add(partition int32, store *state.Store) {
	if c == nil {
		return
	}
	p := &checkpointed{
		partition: partition, store: store, due: time.Now().Add(time.Duration(rand.Int64N(int64(c.w.cfg.Checkpoints.Interval)))),
		writer: c.repo.NewWriter(partition, c.w.id, c.w.topic.Cluster, c.w.stores.FS),
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.open[partition] = p
}

// remove makes a last checkpoint of a partition, of all that was committed. The store may be closed as soon as this returns: what is
// uploaded is a copy.
func (c *checkpoints) remove(partition int32) {
	if c == nil {
		return
	}
	c.mu.Lock()
	p := c.open[partition]
	delete(c.open, partition)
	c.mu.Unlock()
	if p == nil {
		return
	}
	c.w.metrics.checkpoints.forget(partition)
	err := c.w.crash(beforeCheckpoint)
	var dir string
	if err == nil {
		err = p.store.Flush()
	}
	if err == nil {
		dir, err = c.link(p)
	}
	if err != nil {
		c.w.cfg.Log.Warn("there is no last checkpoint of a partition", zap.Int32("raw partition", partition), zap.Error(err))
		return
	}
	c.background.Go(func() { c.upload(p, dir) })
}

// finish waits for what is under way, and gives it up after a time.
func (c *checkpoints) finish() {
	if c == nil {
		return
	}
	stop := time.AfterFunc(finalTimeout, c.cancel)
	defer stop.Stop()
	c.background.Wait()
	c.cancel()
}

// make makes a checkpoint of what is on disk, unless nothing was committed since the last.
func (c *checkpoints) make(p *checkpointed) (ok bool) {
	now, known := p.store.Position()
	p.mu.Lock()
	unchanged := !known || p.made && p.last == now && !p.gone.Load()
	p.mu.Unlock()
	if unchanged {
		return true
	}
	if c.w.crash(beforeCheckpoint) != nil {
		return false
	}
	dir, err := c.link(p)
	if errors.Is(err, state.ErrClosed) {
		return true // the last one is made by whoever closed it
	}
	if err != nil {
		c.failed(p, err)
		return false
	}
	return c.upload(p, dir)
}

// link makes a copy of the store.
func (c *checkpoints) link(p *checkpointed) (dir string, err error) {
	c.mu.Lock()
	c.linked++
	dir = c.w.stores.FS.PathJoin(c.links, fmt.Sprintf("%d-%d", p.partition, c.linked))
	c.mu.Unlock()
	started := time.Now()
	err = p.store.Link(dir)
	c.w.metrics.checkpoints.link.Observe(time.Since(started).Seconds())
	return dir, err
}

// upload uploads a copy of the store and removes it.
func (c *checkpoints) upload(p *checkpointed, dir string) (ok bool) {
	c.slots <- struct{}{}
	defer func() { <-c.slots }()
	p.mu.Lock()
	defer p.mu.Unlock()
	started := time.Now()
	err := c.w.crash(duringCheckpoint)
	var result checkpoint.Result
	if err == nil {
		result, err = p.writer.Upload(c.ctx, dir)
	}
	if errors.Is(err, errCrash) {
		return false
	}
	err2 := c.w.stores.FS.RemoveAll(dir)
	if errors.Is(err, checkpoint.ErrEmpty) {
		err = nil
	}
	if err = errors.Join(err, err2); err != nil {
		c.failed(p, err)
		return false
	}
	if result.Name == "" {
		return true
	}
	p.last, p.made = result.Position, true
	c.succeeded(p, result, time.Since(started))
	if now := time.Now(); now.After(p.sweep) {
		p.sweep = now.Add(sweepInterval)
		c.sweep(p)
	}
	return true
}

func (c *checkpoints) failed(p *checkpointed, err error) {
	m := &c.w.metrics.checkpoints
	m.failures.Inc()
	if !p.failed.Swap(true) {
		c.w.cfg.Log.Warn("a checkpoint failed; folding goes on, and it is tried again", zap.Int32("raw partition", p.partition), zap.Error(err))
	}
}

func (c *checkpoints) succeeded(p *checkpointed, result checkpoint.Result, took time.Duration) {
	m := &c.w.metrics.checkpoints
	label := strconv.Itoa(int(p.partition))
	p.stored.Store(true)
	p.gone.Store(false)
	c.mu.Lock()
	if c.open[p.partition] == p {
		m.time.WithLabelValues(label).SetToCurrentTime()
		m.bytes.WithLabelValues(label).Set(float64(result.Bytes))
		m.offset.WithLabelValues(label).Set(float64(result.Position.Offset))
	}
	c.mu.Unlock()
	if p.failed.Swap(false) {
		c.w.cfg.Log.Info("checkpoints succeed again", zap.Int32("raw partition", p.partition))
	}
	if result.Unchanged {
		return
	}
	m.made.Inc()
	m.uploaded.Add(float64(result.NewBytes))
	m.duration.Observe(took.Seconds())
	c.w.cfg.Log.Debug("checkpoint", zap.Int32("raw partition", p.partition), zap.String("name", result.Name), zap.Int64("bytes", result.Bytes),
		zap.Int64("new bytes", result.NewBytes), zap.Int("new files", result.NewFiles), zap.Duration("after", took))
}

// sweep removes what is not needed any more.
func (c *checkpoints) sweep(p *checkpointed) {
	removed, err := c.repo.Sweep(c.ctx, p.partition, c.w.cfg.Checkpoints.Retain)
	if err != nil && c.ctx.Err() == nil {
		c.w.metrics.checkpoints.failures.Inc()
		c.w.cfg.Log.Warn("old checkpoints were not removed", zap.Int32("raw partition", p.partition), zap.Error(err))
	}
	c.w.metrics.checkpoints.removed.Add(float64(removed.Bytes))
}

// partitions lists the raw partitions of which checkpoints are made, in order.
func (c *checkpoints) partitions() []int32 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Sorted(maps.Keys(c.open))
}
