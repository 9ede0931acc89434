package agent

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are those of one agent.
type metrics struct {
	mutations      prometheus.Counter
	updates        *prometheus.CounterVec // by table
	unsupported    *prometheus.CounterVec // by table
	suspects       prometheus.Counter
	bytes          prometheus.Counter
	deadLetters    *prometheus.CounterVec // by reason
	unknown        *prometheus.CounterVec // by table id
	gaps           prometheus.Counter
	damaged        prometheus.Counter
	schemaFailures prometheus.Counter
	removed        prometheus.Counter

	segment       prometheus.Gauge
	offset        prometheus.Gauge
	flightRecords prometheus.Gauge
	flightBytes   prometheus.Gauge
	lag           prometheus.Gauge
	directory     prometheus.Gauge
	published     prometheus.Gauge
	heartbeats    prometheus.Counter
}

// newMetrics registers the metrics, nowhere if r is nil.
func newMetrics(r prometheus.Registerer) (*metrics, error) {
	var all []prometheus.Collector
	counter := func(name, help string) prometheus.Counter {
		c := prometheus.NewCounter(prometheus.CounterOpts{Name: "cassdelta_agent_" + name, Help: help})
		all = append(all, c)
		return c
	}
	counters := func(name, help, label string) *prometheus.CounterVec {
		c := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "cassdelta_agent_" + name, Help: help}, []string{label})
		all = append(all, c)
		return c
	}
	gauge := func(name, help string) prometheus.Gauge {
		g := prometheus.NewGauge(prometheus.GaugeOpts{Name: "cassdelta_agent_" + name, Help: help})
		all = append(all, g)
		return g
	}
	m := &metrics{
		mutations:      counter("mutations_total", "Mutations read from segments, those of tables without CDC included."),
		updates:        counters("updates_published_total", "Updates acknowledged by Kafka.", "table"),
		unsupported:    counters("updates_unsupported_total", "Updates left out because their table is not supported.", "table"),
		suspects:       counter("suspect_columns_total", "Multi-cell columns whose deletion Cassandra may have left out of the log (CASSANDRA-20449)."),
		bytes:          counter("published_bytes_total", "Bytes of raw records and dead letters acknowledged by Kafka, before compression."),
		deadLetters:    counters("dead_letters_total", "Mutations, or entries that are none, written to the dead-letter topic.", "reason"),
		unknown:        counters("unknown_table_mutations_total", "Mutations with an update of a table that is not in the schema.", "table_id"),
		gaps:           counter("gaps_total", "Segments that vanished before they were read."),
		damaged:        counter("damaged_segments_total", "Segments that could be read in part only. They are left in place."),
		schemaFailures: counter("schema_read_failures_total", "Failed readings of the schema."),
		removed:        counter("segments_removed_total", "Segments removed after everything in them was acknowledged."),
		segment:        gauge("position_segment", "Id of the segment up to which all is acknowledged and stored."),
		offset:         gauge("position_offset", "Offset in that segment."),
		flightRecords:  gauge("in_flight_records", "Records that Kafka has not acknowledged."),
		flightBytes:    gauge("in_flight_bytes", "Bytes of records that Kafka has not acknowledged."),
		lag:            gauge("lag_bytes", "Bytes that the node has flushed to cdc_raw and that are not acknowledged."),
		directory:      gauge("cdc_raw_bytes", "Bytes of the segments in cdc_raw; at cdc_total_space the node blocks writes or drops segments."),
		published:      gauge("published_time_seconds", "Time, in seconds since 1970, at which the node had flushed nothing that is not acknowledged now; 0 if none is known."),
		heartbeats:     counter("heartbeats_total", "Heartbeats acknowledged by Kafka."),
	}
	if r == nil {
		return m, nil
	}
	for _, c := range all {
		if err := r.Register(c); err != nil {
			return nil, fmt.Errorf("register the metrics of the agent: %w", err)
		}
	}
	return m, nil
}
