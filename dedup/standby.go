package dedup

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kadm"
	"go.uber.org/zap"

	"cassdelta/state"
	"cassdelta/state/checkpoint"
)

const (
	// longestStandbyWait bounds the time until a copy that failed is tried again, unless the interval of checkpoints is longer.
	longestStandbyWait = 10 * time.Minute
	// A copy is made if it leaves so much of the disk free: a part of it, or so many bytes if that is less. The folding needs it more.
	leastFreePart  = 10
	leastFreeBytes = 10 << 30
)

// standby keeps the newest checkpoints of the partitions that this worker does not fold where their state would be restored to, so
// that nothing is to be fetched when the group gives it one of them. It is for one goroutine.
//
// It holds the lease of a partition when it looks at the directory and when it puts a copy in its place. What it builds meanwhile is
// beside the directory, so a partition that is assigned to this worker waits for none of it.
type standby struct {
	w      *Worker
	copies map[int32]*standbyCopy
}

// standbyCopy is what is known of the copy of a partition.
type standbyCopy struct {
	checked checkpoint.Checked
	// compared is the position of the state on disk that was last compared, file by file, with its checkpoint; known says that it was.
	compared state.Position
	known    bool
	// damaged are checkpoints in the store that cannot be copied.
	damaged  map[string]bool
	failures int       // in a row
	due      time.Time // of the next attempt after a failure
}

// errTaken says that this worker folds the partition, or begins to.
var errTaken = errors.New("the partition is this worker's own")

func newStandby(w *Worker) *standby {
	return &standby{w: w, copies: map[int32]*standbyCopy{}}
}

// run looks for new checkpoints until ctx ends, about as often as they are made.
func (s *standby) run(ctx context.Context) error {
	for {
		interval := s.w.cfg.Checkpoints.Interval
		timer := time.NewTimer(interval*3/4 + time.Duration(rand.Int64N(int64(interval)/2+1)))
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-timer.C:
		}
		if err := s.round(ctx); errors.Is(err, errCrash) {
			return err
		}
	}
}

// round brings the copies of all partitions up to date that are not this worker's own, one after the other. What fails is counted, logged and
// tried again later; it returns the first error.
func (s *standby) round(ctx context.Context) (first error) {
	logs, err := logBounds(ctx, kadm.NewClient(s.w.admin), s.w.topic.Name)
	if err != nil {
		s.w.cfg.Log.Debug("standby: the raw topic does not answer", zap.Error(err))
		return err
	}
	for p := range s.w.topic.Partitions {
		if ctx.Err() != nil {
			return first
		}
		if s.w.leases.taken(p) {
			continue
		}
		c := s.copies[p]
		if c == nil {
			c = &standbyCopy{damaged: map[string]bool{}}
			s.copies[p] = c
		}
		if time.Now().Before(c.due) {
			continue
		}
		err := s.refresh(ctx, p, c, logs[p])
		if errors.Is(err, errTaken) || ctx.Err() != nil && !errors.Is(err, errCrash) {
			continue
		}
		if s.tried(p, c, err); first == nil {
			first = err
		}
		if errors.Is(err, errCrash) {
			return err
		}
	}
	return first
}

// tried notes how it went with a partition. Only the change is logged.
func (s *standby) tried(partition int32, c *standbyCopy, err error) {
	log := s.w.cfg.Log.With(zap.Int32("raw partition", partition))
	if err == nil {
		if c.failures > 0 {
			log.Info("the copy for standby is kept up to date again")
		}
		c.failures, c.due = 0, time.Time{}
		return
	}
	s.w.metrics.standby.failures.Inc()
	if c.failures == 0 {
		log.Warn("the copy for standby is not up to date; folding goes on, and it is tried again", zap.Error(err))
	}
	interval := s.w.cfg.Checkpoints.Interval
	c.due = time.Now().Add(min(interval<<min(c.failures, 10), max(interval, longestStandbyWait)))
	c.failures++
}

// refresh brings the copy of a partition up to date.
func (s *standby) refresh(ctx context.Context, partition int32, c *standbyCopy, log bounds) error {
	w := s.w
	positions, err := fetchCommitted(ctx, w.admin, w.cfg.Group, w.topic, partition)
	if err != nil {
		return err
	}
	group, hasGroup := positions[partition]
	if !hasGroup {
		return nil
	}
	at, unreadable, err := s.look(partition, group, log)
	if err != nil || at.refused() {
		return err
	}
	damaged := map[string]bool{}
	within := at.bounds(w)
	within.Skip = func(e *checkpoint.Entry) bool {
		if c.damaged[e.String()] {
			damaged[e.String()] = true
		}
		return damaged[e.String()]
	}
	e, err := w.checkpoints.repo.Find(ctx, partition, within, func(e *checkpoint.Entry) {
		w.cfg.Log.Debug("standby: a checkpoint is passed over", zap.Stringer("checkpoint", e), zap.Error(e.Err))
	})
	if err != nil {
		return err
	}
	c.damaged = damaged // those that are still there
	if e == nil || at.usable() && (at.local.Compare(e.Position) > 0 || c.known && c.compared == at.local && at.local == e.Position) {
		if at.usable() {
			return s.upToDate(partition, at.local)
		}
		return nil
	}
	if unreadable != nil {
		w.cfg.Log.Warn("the state on disk cannot be read, and is replaced by a checkpoint", zap.Int32("raw partition", partition), zap.Error(unreadable))
	}
	err = s.copy(ctx, partition, c, e, group, log)
	if errors.Is(err, checkpoint.ErrUnusable) {
		// An older one is tried next time.
		c.damaged[e.String()] = true
	}
	return err
}

// look says how the state on disk stands. Unreadable is why a state that is there cannot be read.
func (s *standby) look(partition int32, group committed, log bounds) (at standing, unreadable, err error) {
	release, _ := s.w.leases.take(partition)
	if release == nil {
		return at, nil, errTaken
	}
	defer release()
	return s.lookLeased(partition, group, log)
}

// lookLeased is look while the lease is held.
func (s *standby) lookLeased(partition int32, group committed, log bounds) (at standing, unreadable, err error) {
	at = standing{group: group, log: log, settings: s.w.settings}
	at.local, at.epoch, at.hasLocal, unreadable = state.PositionOf(s.w.directory(partition), s.w.stores)
	if errors.Is(unreadable, state.ErrLocked) {
		return at, nil, unreadable
	}
	return at, unreadable, nil
}

// copy puts a copy of a checkpoint in the place of what is on disk, unless that is better by then.
func (s *standby) copy(ctx context.Context, partition int32, c *standbyCopy, e *checkpoint.Entry, group committed, log bounds) (err error) {
	w := s.w
	dir := w.directory(partition)
	var done checkpoint.Progress
	started := time.Now()
	copied, err := w.checkpoints.repo.Copy(ctx, e, dir, w.stores.FS, checkpoint.Filling{
		Checked: &c.checked, Parallel: 1, Room: s.room, Done: &done,
		Before: func(ctx context.Context) error {
			if w.leases.taken(partition) {
				return errTaken
			}
			return w.checkpoints.restores.idle(ctx)
		},
	})
	w.metrics.standby.fetched.Add(float64(done.Fetched()))
	if err != nil {
		return err
	}
	if err := w.crash(beforeSwap); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, copied.Close()) }()
	release, _ := w.leases.take(partition)
	if release == nil {
		return errTaken
	}
	defer release()
	at, _, err := s.lookLeased(partition, group, log)
	if err != nil {
		return err
	}
	if at.refused() || at.usable() && at.local.Compare(e.Position) > 0 {
		return nil // this worker had the partition meanwhile
	}
	if err := copied.Swap(); err != nil {
		return err
	}
	c.compared, c.known = e.Position, true
	w.metrics.standby.set(partition, e.Position)
	w.cfg.Log.Debug("copy for standby", zap.Stringer("checkpoint", e), zap.Int64("bytes", e.Manifest.Bytes()), zap.Int64("fetched bytes", done.Fetched()),
		zap.Duration("after", time.Since(started)))
	return nil
}

// upToDate notes that the state on disk is the best there is.
func (s *standby) upToDate(partition int32, at state.Position) error {
	release, _ := s.w.leases.take(partition)
	if release == nil {
		return errTaken
	}
	defer release()
	s.w.metrics.standby.set(partition, at)
	return nil
}

// room is an error if the disk has not enough of it.
func (s *standby) room(bytes int64) error {
	usage, err := s.w.stores.FS.GetDiskUsage(s.w.cfg.StateDirectory)
	if err != nil {
		return nil // it is not known
	}
	free := min(usage.TotalBytes/leastFreePart, leastFreeBytes)
	if usage.AvailBytes < free+uint64(bytes) {
		return fmt.Errorf("state-directory: there is no room for a copy for standby: it takes %d bytes of %d that are free, of which %d are kept for the folding; "+
			"use a larger disk, or no standby on this worker", bytes, usage.AvailBytes, free)
	}
	return nil
}

// standbyMetrics are those of copies for standby. Those by partition are set and forgotten while its lease is held.
type standbyMetrics struct {
	fetched, failures prometheus.Counter
	// By partition.
	offset, time *prometheus.GaugeVec
}

func newStandbyMetrics() standbyMetrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "cassdelta_dedup_standby_" + name, Help: help})
	}
	gauge := func(name, help string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "cassdelta_dedup_standby_" + name, Help: help}, partitionLabel)
	}
	return standbyMetrics{
		fetched:  counter("fetched_bytes_total", "Bytes of checkpoints that were fetched for standby."),
		failures: counter("failures_total", "Attempts to bring the copy of a raw partition for standby up to date that failed. They are tried again; the log says why."),
		offset:   gauge("offset", "Offset of the position of the copy of a raw partition that this worker keeps for standby. There is one for each partition that it has a copy of and does not fold."),
		time:     gauge("time_seconds", "When the copy of a raw partition for standby was made, or seen to be up to date, in seconds since 1970."),
	}
}

func (m *standbyMetrics) collectors() []prometheus.Collector {
	return []prometheus.Collector{m.fetched, m.failures, m.offset, m.time}
}

func (m *standbyMetrics) set(partition int32, at state.Position) {
	label := strconv.Itoa(int(partition))
	m.offset.WithLabelValues(label).Set(float64(at.Offset))
	m.time.WithLabelValues(label).SetToCurrentTime()
}

// forget removes what is said of a partition that this worker folds now.
func (m *standbyMetrics) forget(partition int32) {
	label := strconv.Itoa(int(partition))
	m.offset.DeleteLabelValues(label)
	m.time.DeleteLabelValues(label)
}
