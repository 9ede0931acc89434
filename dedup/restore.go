package dedup

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/twmb/franz-go/pkg/kadm"
	"go.uber.org/zap"

	"cassdelta/state"
	"cassdelta/state/checkpoint"
)

const (
	// restoreGap is how many records the state on disk may be behind before it is looked whether a checkpoint is nearer: about what is
	// folded again in the time that it takes to look.
	restoreGap = 50_000
	// progressEvery is the time between two lines about what takes long.
	progressEvery = 5 * time.Second
)

// prepare sees to it that the directory of a partition holds the best state there is: what is there already, or else a
// checkpoint. If there is neither it does nothing; [resumption.plan] says whether that is allowed.
func (s *session) prepare(ctx context.Context, partition int32, dir string) error {
	w := s.w
	if w.checkpoints == nil {
		return nil
	}
	local, epoch, hasLocal, err := state.PositionOf(dir, w.stores)
	if err != nil && !errors.Is(err, state.ErrLocked) {
		err = fmt.Errorf("%w; if files are damaged or missing, move the directory away: the state is then restored from a checkpoint", err)
	}
	if err != nil {
		return &stopError{err}
	}
	positions, err := fetchCommitted(ctx, w.admin, w.cfg.Group, w.topic, partition)
	if err != nil {
		return err
	}
	all, err := logBounds(ctx, kadm.NewClient(w.admin), w.topic.Name)
	if err != nil {
		return err
	}
	group, hasGroup := positions[partition]
	at := standing{local: local, epoch: epoch, hasLocal: hasLocal, group: group, log: all[partition], settings: w.settings}
	usable := at.usable()
	switch {
	case !hasGroup && hasLocal, at.refused():
		return nil // refused by plan
	case usable && group.Offset-local.Offset < w.restoreGap:
		return nil
	case !hasGroup:
		return s.neverBefore(ctx, partition)
	}
	done, err := w.checkpoints.restores.begin(ctx)
	if err != nil {
		return err
	}
	defer done()
	damaged := map[string]bool{}
	within := at.bounds(w)
	within.Skip = func(e *checkpoint.Entry) bool { return damaged[e.String()] }
	for {
		e, err := s.findCheckpoint(ctx, partition, within)
		if err != nil || e == nil {
			return err
		}
		if usable && group.Offset-e.Position.Offset > (group.Offset-local.Offset)/2 {
			return nil
		}
		err = s.restoreCheckpoint(ctx, e, dir, usable)
		if !errors.Is(err, checkpoint.ErrUnusable) {
			return err
		}
		damaged[e.String()] = true
		s.log.Error("a checkpoint cannot be restored; an older one is tried", zap.Stringer("checkpoint", e), zap.Error(err))
	}
}

// standing is how the state of a partition that nobody has open stands to the group's position and the log.
type standing struct {
	local    state.Position
	epoch    string // that the state is in
	hasLocal bool
	group    committed
	log      bounds
	settings Settings
}

// usable reports whether the records from the state to the group's position are there, and can be folded as they were.
func (a *standing) usable() bool {
	return a.hasLocal && a.local.Compare(a.group.Position) <= 0 && (a.local.Offset >= a.log.start || a.local == a.group.Position) && !a.former()
}

// former reports whether the state is of a former life of the group, that went by other settings.
func (a *standing) former() bool {
	in, err := parseEpoch(a.epoch)
	if err != nil {
		return false // of a newer version of the program; plan refuses it
	}
	_, err = between(in, a.local, true, a.group, a.settings)
	return err != nil
}

// refused reports whether the state is ahead of the group, and not because the group was set back on purpose.
func (a *standing) refused() bool {
	return a.hasLocal && a.local.Compare(a.group.Position) > 0 && a.group.restored == 0
}

// bounds are those of the checkpoints that can be gone on from.
func (a *standing) bounds(w *Worker) checkpoint.Bounds {
	return checkpoint.Bounds{From: a.log.start, To: a.group.Position, Fits: func(m *checkpoint.Manifest) error { return w.fits(m, a.group) }}
}

// fits is an error if the records from a checkpoint to the group's position cannot be folded as they were.
func (w *Worker) fits(m *checkpoint.Manifest, group committed) error {
	in, err := parseEpoch(m.Epoch)
	var all epochs
	if err == nil {
		all, err = between(in, m.Position(), true, group, w.settings)
	}
	if err == nil {
		err = all.foldable()
	}
	return err
}

// neverBefore refuses to begin at the start of the log if the group was further once: a checkpoint of it is there.
func (s *session) neverBefore(ctx context.Context, partition int32) error {
	within := checkpoint.Bounds{To: state.Position{Offset: 1<<63 - 1}}
	e, err := s.findCheckpoint(ctx, partition, within)
	if err != nil || e == nil {
		return err
	}
	return &stopError{&PositionError{Topic: s.w.topic.Name, Partition: partition, Reason: fmt.Sprintf(
		"there is the %v of the group at %v, and the group has no committed position: its offsets were deleted or have expired; "+
			"recover them with cassdelta recover-offsets, which is to be given the checkpoint-store, after which the checkpoint is gone on from, and no event is written again; or set the group to a savepoint "+
			"with cassdelta state restore, after which the events behind that are; or use another group", e, e.Position)}}
}

// findCheckpoint asks the store until it answers.
func (s *session) findCheckpoint(ctx context.Context, partition int32, within checkpoint.Bounds) (*checkpoint.Entry, error) {
	var wait backoff
	for {
		e, err := s.w.checkpoints.repo.Find(ctx, partition, within, func(e *checkpoint.Entry) {
			s.log.Warn("a checkpoint is passed over", zap.Stringer("checkpoint", e), zap.Error(e.Err))
		})
		if err == nil {
			return e, nil
		}
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		s.w.metrics.checkpoints.failures.Inc()
		s.log.Warn("the store of checkpoints does not answer, and the partition waits for it", zap.Int32("raw partition", partition), zap.Error(err))
		wait.wait(ctx)
	}
}

// restoreCheckpoint restores, and tries again until the store gives it, or the checkpoint is found to be of no use. What the directory holds
// stays, if that is asked for, until the checkpoint takes its place as a whole; else there need not be room for both.
func (s *session) restoreCheckpoint(ctx context.Context, e *checkpoint.Entry, dir string, stays bool) error {
	var wait backoff
	log := s.log.With(zap.Int32("raw partition", e.Partition))
	total := e.Manifest.Bytes()
	log.Info("restoring the state from a checkpoint", zap.Stringer("checkpoint", e), zap.Stringer("position", e.Position), zap.Int64("bytes", total))
	for {
		var done checkpoint.Progress
		started := time.Now()
		stop := progress(func() {
			log.Info("restoring", zap.Int64("bytes", done.Kept()+done.Fetched()), zap.Int64("of", total), zap.Int64("bytes per second", perSecond(done.Fetched(), started)))
		})
		restore := s.w.checkpoints.repo.Restore
		if stays {
			restore = s.w.checkpoints.replace
		}
		err := restore(ctx, e, dir, s.w.stores.FS, &done)
		stop()
		s.w.metrics.checkpoints.restored.Add(float64(done.Fetched()))
		if err == nil {
			log.Info("the state is restored", zap.Int64("bytes", total), zap.Int64("of them there before", done.Kept()),
				zap.Duration("after", time.Since(started)), zap.Int64("bytes per second", perSecond(done.Fetched(), started)))
			return s.w.crash(afterRestore)
		}
		if errors.Is(err, checkpoint.ErrUnusable) {
			return err
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		log.Warn("restoring the state failed, and is tried again", zap.Error(err))
		wait.wait(ctx)
	}
}

// replace is [checkpoint.Repository.Restore], but what the directory holds is there until the checkpoint is whole.
func (c *checkpoints) replace(ctx context.Context, e *checkpoint.Entry, dir string, disk vfs.FS, done *checkpoint.Progress) error {
	copied, err := c.repo.Copy(ctx, e, dir, disk, checkpoint.Filling{Done: done})
	if err != nil {
		return err
	}
	return errors.Join(copied.Swap(), copied.Close())
}

// progress calls say now and then until stop is called, which waits for a call that is under way.
func progress(say func()) (stop func()) {
	tick := time.NewTicker(progressEvery)
	end, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for {
			select {
			case <-tick.C:
				say()
			case <-end:
				return
			}
		}
	}()
	return func() {
		tick.Stop()
		close(end)
		<-ended
	}
}

func perSecond(n int64, since time.Time) int64 {
	return int64(float64(n) / max(time.Since(since).Seconds(), 0.001))
}
