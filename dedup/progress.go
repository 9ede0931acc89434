package dedup

import (
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// progressCollector tells how far each raw partition is, as of when it is asked: also of a partition that does not get on.
type progressCollector struct {
	stores *storeCollector
	now    func() time.Time

	mu   sync.Mutex
	open map[int32]partitionProgress
}

// partitionProgress is how far a raw partition is.
type partitionProgress struct {
	committed int64     // offset of C
	end       int64     // of the log, as of the last fetch
	waiting   time.Time // when the first record that is read and not committed was written; zero if there is none
}

func (c *progressCollector) set(partition int32, p partitionProgress) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.open[partition] = p
}

func (c *progressCollector) remove(partition int32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.open, partition)
}

// showProgress makes the metrics what the task is at.
func (t *task) showProgress() {
	p := partitionProgress{committed: t.committed.Offset, end: t.end}
	if len(t.records) > 0 {
		p.waiting = t.records[0].Timestamp
	}
	t.w.metrics.progress.set(t.partition, p)
}

var (
	descLag        = prometheus.NewDesc("cassdelta_dedup_lag_records", "Raw records behind the committed position, by raw partition, as of its last fetch.", partitionLabel, nil)
	descLagSeconds = prometheus.NewDesc("cassdelta_dedup_lag_seconds", "Age of the first raw record that was read and whose events are not committed, 0 if there is none.", partitionLabel, nil)
	descCommitted  = prometheus.NewDesc("cassdelta_dedup_position_offset", "Offset up to which the events of a raw partition are committed: C.", partitionLabel, nil)
	descStored     = prometheus.NewDesc("cassdelta_dedup_state_offset", "Offset up to which the state of a raw partition is stored: S. It is at most C.", partitionLabel, nil)
	descGap        = prometheus.NewDesc("cassdelta_dedup_replay_gap_records", "Raw records that the state of a raw partition is behind its committed position: above 0 while it is replayed.", partitionLabel, nil)
)

func (c *progressCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{descLag, descLagSeconds, descCommitted, descStored, descGap} {
		ch <- d
	}
}

func (c *progressCollector) Collect(ch chan<- prometheus.Metric) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for partition, p := range c.open {
		label := strconv.Itoa(int(partition))
		gauge := func(d *prometheus.Desc, v float64) {
			ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, label)
		}
		gauge(descLag, float64(max(0, p.end-p.committed)))
		age := 0.0
		if !p.waiting.IsZero() {
			age = max(0, c.now().Sub(p.waiting).Seconds())
		}
		gauge(descLagSeconds, age)
		gauge(descCommitted, float64(p.committed))
		stored := c.stores.offset(partition)
		gauge(descStored, float64(stored))
		gauge(descGap, float64(max(0, p.committed-stored)))
	}
}

// offset is that of the position of a store, 0 if it has none.
func (c *storeCollector) offset(partition int32) int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s := c.open[partition]; s != nil {
		p, _ := s.Position()
		return p.Offset
	}
	return 0
}
