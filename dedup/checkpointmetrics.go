package dedup

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
)

// checkpointMetrics are those of checkpoints.
type checkpointMetrics struct {
	made, failures, uploaded, removed, restored prometheus.Counter
	duration, link                              prometheus.Histogram
	// By partition.
	time, bytes, offset, usable, margin *prometheus.GaugeVec
}

func newCheckpointMetrics() checkpointMetrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "cassdelta_dedup_" + name, Help: help})
	}
	gauge := func(name, help string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "cassdelta_dedup_" + name, Help: help}, partitionLabel)
	}
	return checkpointMetrics{
		made:     counter("checkpoints_total", "Checkpoints that were made."),
		failures: counter("checkpoint_failures_total", "Checkpoints, and removals of old ones, that failed. They are tried again; the log says why."),
		uploaded: counter("checkpoint_uploaded_bytes_total", "Bytes of files that were uploaded for checkpoints."),
		removed:  counter("checkpoint_removed_bytes_total", "Bytes of files of old checkpoints that were removed from the store."),
		restored: counter("restored_bytes_total", "Bytes of checkpoints that state was restored from."),
		duration: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "cassdelta_dedup_checkpoint_seconds", Help: "Time that a checkpoint took, beside the folding.", Buckets: prometheus.ExponentialBuckets(0.01, 2, 17),
		}),
		link: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "cassdelta_dedup_checkpoint_link_seconds", Help: "Time that it took to link the files of a store for a checkpoint: the part in which the store has to do with it.",
			Buckets: prometheus.ExponentialBuckets(0.001, 2, 15),
		}),
		time:   gauge("checkpoint_time_seconds", "When the newest checkpoint of a raw partition was made by this worker, or seen to be up to date, in seconds since 1970."),
		bytes:  gauge("checkpoint_bytes", "Size of the newest checkpoint of a raw partition, with the files that it shares."),
		offset: gauge("checkpoint_offset", "Offset of the position of the newest checkpoint of a raw partition."),
		usable: gauge("usable_checkpoints", "Checkpoints of a raw partition whose position the raw topic still has, and the group has come to. At 0 the state is lost if the worker's disk is."),
		margin: gauge("checkpoint_margin_records", "Raw records that may still be removed from the start of a raw partition before its newest checkpoint is of no use."),
	}
}

func (m *checkpointMetrics) collectors() []prometheus.Collector {
	return []prometheus.Collector{
		m.made, m.failures, m.uploaded, m.removed, m.restored, m.duration, m.link, m.time, m.bytes, m.offset, m.usable, m.margin,
	}
}

// forget removes what is said of a partition that another worker folds now.
func (m *checkpointMetrics) forget(partition int32) {
	label := strconv.Itoa(int(partition))
	for _, g := range []*prometheus.GaugeVec{m.time, m.bytes, m.offset, m.usable, m.margin} {
		g.DeleteLabelValues(label)
	}
}
