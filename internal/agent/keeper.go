package agent

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"time"

	"go.uber.org/zap"

	"cassdelta/commitlog"
)

const (
	// stallTicks is the number of looks without any acknowledgement after which the log says that Kafka is waited for.
	stallTicks = 10
	// measureTicks is the number of looks from one measuring of the directory to the next.
	measureTicks = 5
)

// keeper stores the position, removes the segments behind it, and measures.
type keeper struct {
	dir          string
	keepSegments bool
	interval     time.Duration
	state        *state
	ledger       *ledger
	metrics      *metrics
	log          *zap.Logger

	last stored // what the file holds
	// acknowledged is the count at the last look, idle the number of looks at which it was the same.
	acknowledged uint64
	idle         int
}

// run looks after the ledger until stop is closed, or something cannot be stored or removed.
func (k *keeper) run(stop <-chan struct{}) error {
	ticker := time.NewTicker(k.interval)
	defer ticker.Stop()
	for n := 0; ; {
		if n%measureTicks == 0 {
			k.measure()
		}
		select {
		case <-stop:
			return nil
		case <-ticker.C:
			n++
			k.watch()
		case <-k.ledger.ended:
		}
		if err := k.keep(); err != nil {
			return err
		}
	}
}

// finish looks after what is left when run has ended.
func (k *keeper) finish() error {
	err := k.keep()
	k.watch()
	k.measure()
	return err
}

// keep stores the position if it has moved, then removes the segments that are done.
func (k *keeper) keep() error {
	now, removable := k.ledger.snapshot()
	if !reflect.DeepEqual(now, k.last) {
		if err := k.state.store(now); err != nil {
			return err
		}
		k.last = now
	}
	k.metrics.segment.Set(float64(now.Segment))
	k.metrics.offset.Set(float64(now.Offset))
	if k.keepSegments {
		return nil
	}
	for _, s := range removable {
		if err := commitlog.RemoveSegment(k.dir, s.version, s.id); err != nil {
			return fmt.Errorf("%w; this user needs the right to delete files in %s", err, k.dir)
		}
		k.metrics.removed.Inc()
		k.log.Debug("removed a segment", zap.Int64("segment", s.id))
	}
	return nil
}

// watch logs once when Kafka stops to acknowledge, and once when it goes on.
func (k *keeper) watch() {
	records, bytes, acknowledged := k.ledger.flight()
	k.metrics.flightRecords.Set(float64(records))
	k.metrics.flightBytes.Set(float64(bytes))
	if records > 0 && acknowledged == k.acknowledged {
		k.idle++
		if k.idle == stallTicks {
			k.log.Warn("Kafka does not acknowledge records; waiting for it. The node's segments stay until it does",
				zap.Int("records", records), zap.Duration("for", stallTicks*k.interval))
		}
		return
	}
	if k.idle >= stallTicks {
		k.log.Info("Kafka acknowledges records again")
	}
	k.acknowledged, k.idle = acknowledged, 0
}

// measure sums up the directory. What it cannot read it leaves out: the reader complains about that.
func (k *keeper) measure() {
	entries, err := os.ReadDir(k.dir)
	if err != nil {
		return
	}
	now := k.last
	var total, lag int64
	for _, e := range entries {
		version, id, ok := commitlog.ParseSegmentName(e.Name())
		if !ok {
			continue
		}
		info, err := e.Info()
		if err != nil {
			continue // removed just now
		}
		total += info.Size()
		if k.ledger.isFinished(id) {
			continue
		}
		index, ok, err := commitlog.ReadIndex(filepath.Join(k.dir, commitlog.IndexName(version, id)))
		if err != nil && !errors.Is(err, os.ErrNotExist) || !ok {
			continue
		}
		if id == now.Segment {
			index.Offset -= now.Offset
		}
		lag += max(0, index.Offset)
	}
	k.metrics.directory.Set(float64(total))
	k.metrics.lag.Set(float64(lag))
}
