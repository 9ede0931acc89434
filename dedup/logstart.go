package dedup

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"go.uber.org/zap"

	"cassdelta/state"
)

// checkRetention compares how long the raw topic keeps its records with what a worker needs of them once its disk is lost. Who may
// not ask is not told.
func (w *Worker) checkRetention(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	keeps, err := topicRetention(ctx, kadm.NewClient(w.admin), w.topic.Name)
	if err != nil {
		w.cfg.Log.Debug("the retention of the raw topic is not known", zap.Error(err))
		return nil
	}
	return w.compareRetention(keeps)
}

// topicRetention is how long a topic keeps its records, negative if for good.
func topicRetention(ctx context.Context, adm *kadm.Client, topic string) (keeps time.Duration, err error) {
	configs, err := adm.DescribeTopicConfigs(ctx, topic)
	if err != nil {
		return 0, err
	}
	config, err := configs.On(topic, nil)
	if err == nil {
		err = config.Err
	}
	keeps = -1
	for _, c := range config.Configs {
		if ms, err := strconv.ParseInt(c.MaybeValue(), 10, 64); c.Key == "retention.ms" && err == nil && ms >= 0 && ms < int64(1<<62/time.Millisecond) {
			keeps = time.Duration(ms) * time.Millisecond
		}
	}
	return keeps, err
}

func (w *Worker) compareRetention(keeps time.Duration) error {
	interval := w.cfg.Checkpoints.Interval
	switch {
	case keeps < 0:
	case w.checkpoints == nil:
		w.cfg.Log.Warn("the raw topic does not keep its records for good, and there are no checkpoints: if this state directory is lost after that time, so is the state; "+
			"give a checkpoint-store", zap.Stringer("retention", keeps))
	case keeps < checkpointsInLog*interval:
		return fmt.Errorf("the raw topic %s keeps its records for %v, and checkpoints are made every %v: a checkpoint would be of no use by the time it is needed, as the "+
			"records after it are gone; raise the topic's retention.ms to days, or at least to %v, or lower the checkpoint-interval", w.topic.Name, keeps, interval, checkpointsInLog*interval)
	}
	return nil
}

// checkpointsInLog is how many intervals between checkpoints the raw topic has to keep at least.
const checkpointsInLog = 5

// watch looks now and then at what the log still has of what the checkpoints need.
func (c *checkpoints) watch(ctx context.Context) {
	if c == nil {
		return
	}
	tick := time.NewTicker(max(min(c.w.cfg.Checkpoints.Interval, sweepInterval), checkpointLook))
	defer tick.Stop()
	told := map[int32]bool{}
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if err := c.compareLog(ctx, told); err != nil && ctx.Err() == nil {
			c.w.cfg.Log.Debug("the checkpoints were not compared with the log", zap.Error(err))
		}
	}
}

// compareLog compares the checkpoints of the partitions with the start of the log. Told are the partitions that the log was told of.
func (c *checkpoints) compareLog(ctx context.Context, told map[int32]bool) error {
	all, err := logBounds(ctx, kadm.NewClient(c.w.admin), c.w.topic.Name)
	if err != nil {
		return err
	}
	for _, partition := range c.partitions() {
		positions, err := c.repo.Positions(ctx, partition)
		if err != nil {
			return err
		}
		if positions = c.notBeyond(partition, positions); len(positions) == 0 && !c.lost(partition) {
			continue // the first is not made yet
		}
		start := all[partition].start
		usable, newest := 0, state.Position{}
		for _, p := range positions {
			if p.Compare(newest) > 0 {
				newest = p
			}
			if p.Offset >= start {
				usable++
			}
		}
		label := strconv.Itoa(int(partition))
		c.mu.Lock()
		if c.open[partition] != nil {
			c.w.metrics.checkpoints.usable.WithLabelValues(label).Set(float64(usable))
			c.w.metrics.checkpoints.margin.WithLabelValues(label).Set(float64(newest.Offset - start))
		}
		c.mu.Unlock()
		switch {
		case usable > 0 || told[partition]:
		case len(positions) == 0:
			c.w.cfg.Log.Error("the checkpoints are gone from the store: if this state directory is lost now, so is the state; another is made",
				zap.Int32("raw partition", partition), zap.Stringer("store", c.repo))
		default:
			c.w.cfg.Log.Error("the raw topic begins after the newest checkpoint: if this state directory is lost now, so is the state; "+
				"see that checkpoints are made, and raise the topic's retention", zap.Int32("raw partition", partition),
				zap.Int64("log start", start), zap.Stringer("newest checkpoint", newest))
		}
		told[partition] = usable == 0
	}
	return nil
}

// lost takes note that the store has no checkpoint of a partition, and reports whether it had one.
func (c *checkpoints) lost(partition int32) bool {
	c.mu.Lock()
	p := c.open[partition]
	c.mu.Unlock()
	if p == nil || !p.stored.Load() {
		return false
	}
	p.gone.Store(true)
	return true
}

// notBeyond leaves out the positions that the group is not at yet: of checkpoints made before it was set back.
func (c *checkpoints) notBeyond(partition int32, positions []state.Position) []state.Position {
	c.mu.Lock()
	p := c.open[partition]
	c.mu.Unlock()
	if p == nil {
		return nil
	}
	at, _ := p.store.Position()
	return slices.DeleteFunc(positions, func(p state.Position) bool { return p.Compare(at) > 0 })
}
