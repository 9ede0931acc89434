package dedup

import (
	"errors"
	"maps"
	"slices"
	"strconv"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"cassdelta/state"
)

// Outcomes of a transaction, as a label.
const (
	outcomeCommitted = "committed"
	// outcomeAborted: nothing of it was seen by anyone, and it is made again.
	outcomeAborted = "aborted"
	// outcomeUnknown: an error hides whether it was committed; the group's positions tell.
	outcomeUnknown = "unknown"
)

// Why something is in the dead-letter topic, as a label.
const (
	deadFormat = "format" // the raw value cannot be decoded
	deadRecord = "record" // the fold refuses the record
	deadEvent  = "event"  // an event of the record cannot be encoded
)

// metrics are those of a worker.
type metrics struct {
	records      prometheus.Counter
	folded       *prometheus.CounterVec // by result
	events       *prometheus.CounterVec // by table, op
	left         prometheus.Counter
	deadLetters  *prometheus.CounterVec // by reason
	transactions *prometheus.CounterVec // by outcome
	replayed     prometheus.Counter
	commits      prometheus.Histogram
	failing      prometheus.Gauge
	lag          *prometheus.GaugeVec // by partition
	ticks        prometheus.Counter
	watermark    prometheus.Gauge
	silent       prometheus.Gauge
	late         prometheus.Counter

	stores storeCollector
}

func newMetrics() *metrics {
	return &metrics{
		records: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "cassdelta_dedup_records_total",
			Help: "Raw records folded in committed transactions.",
		}),
		folded: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "cassdelta_dedup_data_records_total",
			Help: "Data records among them by what they did: changed rows; silent, altered the state and no row's live view; shadowed by newer writes; copies of what was known; unsupported tables; of before a truncation; of dropped tables.",
		}, []string{"result"}),
		events: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "cassdelta_dedup_events_total",
			Help: "Events committed to the clean topics.",
		}, []string{"table", "op"}),
		left: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "cassdelta_dedup_left_out_events_total",
			Help: "Events that were not emitted because of the options of their tables.",
		}),
		deadLetters: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "cassdelta_dedup_dead_letters_total",
			Help: "Raw records put into the dead-letter topic, by reason: their format, the fold refuses the record, or an event of it cannot be encoded.",
		}, []string{"reason"}),
		transactions: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "cassdelta_dedup_transactions_total",
			Help: "Kafka transactions by outcome. Unknown: an error hid it, and the group's positions told.",
		}, []string{"outcome"}),
		replayed: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "cassdelta_dedup_replayed_records_total",
			Help: "Raw records folded again, without events, to bring the state to the group's position.",
		}),
		commits: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "cassdelta_dedup_commit_seconds",
			Help:    "Time from the end of folding until the transaction is committed and the state stored.",
			Buckets: prometheus.ExponentialBuckets(0.001, 2, 15),
		}),
		failing: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "cassdelta_dedup_failing_sessions",
			Help: "Sessions whose last attempt at a transaction failed. They try again; the log says why.",
		}),
		lag: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "cassdelta_dedup_lag_records",
			Help: "Raw records behind the committed position, by raw partition, as of its last fetch.",
		}, []string{"partition"}),
		ticks: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "cassdelta_dedup_ticks_total",
			Help: "Ticks written to the raw topic.",
		}),
		watermark: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "cassdelta_dedup_watermark_seconds",
			Help: "Time of the last tick that was written, in seconds since 1970: what expires by then has expired.",
		}),
		silent: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "cassdelta_dedup_silent_hosts",
			Help: "Hosts whose agents are silent, and hold the watermark no longer.",
		}),
		late: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "cassdelta_dedup_late_cells_total",
			Help: "Cells and livenesses that were past their expiry when they came.",
		}),
		stores: storeCollector{open: map[int32]*state.Store{}},
	}
}

// collectors are all there is to register.
func (m *metrics) collectors() []prometheus.Collector {
	return []prometheus.Collector{
		m.records, m.folded, m.events, m.left, m.deadLetters, m.transactions, m.replayed, m.commits, m.failing, m.lag, &m.stores,
		m.ticks, m.watermark, m.silent, m.late,
	}
}

// register registers the metrics; the function it returns takes them back.
func (m *metrics) register(r prometheus.Registerer) (unregister func(), err error) {
	if r == nil {
		return func() {}, nil
	}
	var done []prometheus.Collector
	unregister = func() {
		for _, c := range done {
			r.Unregister(c)
		}
	}
	for _, c := range m.collectors() {
		if err := r.Register(c); err != nil {
			unregister()
			return nil, errors.Join(errors.New("dedup: metrics are registered already; one worker to a registry"), err)
		}
		done = append(done, c)
	}
	return unregister, nil
}

// publishFold adds what a fold did between two readings of its counters.
func (m *metrics) publishFold(before, after *Stats) {
	add := func(result string, n int64) {
		if n > 0 {
			m.folded.WithLabelValues(result).Add(float64(n))
		}
	}
	add("changed", after.Changed-before.Changed)
	add("silent", after.Silent-before.Silent)
	add("shadowed", after.Shadowed-before.Shadowed)
	add("copy", after.Copies-before.Copies)
	add("unsupported", after.Unsupported-before.Unsupported)
	m.late.Add(float64(after.Late - before.Late))
	add("truncated", after.Truncated-before.Truncated)
	add("dropped", after.Dropped-before.Dropped)
}

// storeCollector reads the metrics of the open stores when it is asked for them.
type storeCollector struct {
	mu   sync.Mutex
	open map[int32]*state.Store
}

func (c *storeCollector) add(partition int32, s *state.Store) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.open[partition] = s
}

// partitions lists the raw partitions whose stores are open, in order.
func (c *storeCollector) partitions() []int32 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Sorted(maps.Keys(c.open))
}

func (c *storeCollector) remove(partition int32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.open, partition)
}

var (
	partitionLabel = []string{"partition"}
	descDisk       = prometheus.NewDesc("cassdelta_dedup_state_disk_bytes", "Size of the files of a raw partition's state.", partitionLabel, nil)
	descMemory     = prometheus.NewDesc("cassdelta_dedup_state_memtable_bytes", "Memory of a raw partition's state that is not on disk yet.", partitionLabel, nil)
	descDebt       = prometheus.NewDesc("cassdelta_dedup_state_compaction_debt_bytes", "Estimate of the bytes that Pebble has to compact; it falls unless the disk is too slow.", partitionLabel, nil)
	descStalls     = prometheus.NewDesc("cassdelta_dedup_state_stalls_total", "How often a commit had to wait for the disk, since the state was opened.", partitionLabel, nil)
)

func (c *storeCollector) Describe(ch chan<- *prometheus.Desc) {
	ch <- descDisk
	ch <- descMemory
	ch <- descDebt
	ch <- descStalls
}

func (c *storeCollector) Collect(ch chan<- prometheus.Metric) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for partition, store := range c.open {
		m, label := store.Metrics(), strconv.Itoa(int(partition))
		ch <- prometheus.MustNewConstMetric(descDisk, prometheus.GaugeValue, float64(m.DiskBytes), label)
		ch <- prometheus.MustNewConstMetric(descMemory, prometheus.GaugeValue, float64(m.MemTableBytes), label)
		ch <- prometheus.MustNewConstMetric(descDebt, prometheus.GaugeValue, float64(m.CompactionDebt), label)
		ch <- prometheus.MustNewConstMetric(descStalls, prometheus.CounterValue, float64(m.Stalls), label)
	}
}
