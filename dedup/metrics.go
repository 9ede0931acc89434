package dedup

import (
	"errors"
	"maps"
	"slices"
	"strconv"
	"sync"
	"time"

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

// Why a transaction was aborted, as a label.
const (
	causeInterrupted = "interrupted" // by the group, or by the end
	causeEncode      = "encode"      // events could not be encoded
	causeWrite       = "write"       // events could not be written
	causeFold        = "fold"        // the fold cannot go on
	causeRefused     = "refused"     // the brokers did not take the positions
	causeNothing     = "nothing"     // nothing was folded
)

// Why something is in the dead-letter topic, as a label.
const (
	deadFormat = "format" // the raw value cannot be decoded
	deadRecord = "record" // the fold refuses the record
	deadEvent  = "event"  // an event of the record cannot be encoded
)

// metrics are those of a worker.
type metrics struct {
	records          prometheus.Counter
	folded           *prometheus.CounterVec // by result
	events           *prometheus.CounterVec // by table, op
	left             prometheus.Counter
	deadLetters      *prometheus.CounterVec // by reason
	parked           *prometheus.CounterVec // by table
	released         *prometheus.CounterVec // by table
	transactions     *prometheus.CounterVec // by outcome
	replayed         prometheus.Counter
	commits          prometheus.Histogram
	failing          prometheus.Gauge
	aborts           *prometheus.CounterVec // by cause
	parkedPartitions *prometheus.GaugeVec   // by table
	ticks            prometheus.Counter
	watermark        prometheus.Gauge
	silent           prometheus.Gauge
	late             prometheus.Counter

	stores      storeCollector
	progress    progressCollector
	checkpoints checkpointMetrics
	standby     standbyMetrics
}

func newMetrics() *metrics {
	m := &metrics{
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
		parked: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "cassdelta_dedup_parked_events_total",
			Help: "Events put into the parked topic, because those of their table cannot be written.",
		}, []string{"table"}),
		released: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "cassdelta_dedup_released_events_total",
			Help: "Parked events that were written to their clean topics later. They are among the events then.",
		}, []string{"table"}),
		parkedPartitions: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "cassdelta_dedup_parked_partitions",
			Help: "Raw partitions of this worker in which a table is parked.",
		}, []string{"table"}),
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
		aborts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "cassdelta_dedup_aborts_total",
			Help: "Aborted transactions by cause: interrupted by the group or the end; events that could not be encoded, or written; the fold cannot go on; positions that the brokers refused; nothing was folded.",
		}, []string{"cause"}),
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
		stores:      storeCollector{open: map[int32]*state.Store{}},
		checkpoints: newCheckpointMetrics(),
		standby:     newStandbyMetrics(),
	}
	m.progress = progressCollector{stores: &m.stores, now: time.Now, open: map[int32]partitionProgress{}}
	// A counter that is first seen above 0 has not increased for Prometheus, so that the first dead letter would alert nobody.
	for counter, labels := range map[*prometheus.CounterVec][]string{
		m.deadLetters:  {deadFormat, deadRecord, deadEvent},
		m.transactions: {outcomeCommitted, outcomeAborted, outcomeUnknown},
		m.aborts:       {causeInterrupted, causeEncode, causeWrite, causeFold, causeRefused, causeNothing},
		m.folded:       foldResults,
	} {
		for _, label := range labels {
			counter.WithLabelValues(label)
		}
	}
	return m
}

// collectors are all there is to register.
func (m *metrics) collectors() []prometheus.Collector {
	return append(append(m.checkpoints.collectors(), m.standby.collectors()...),
		m.records, m.folded, m.events, m.left, m.deadLetters, m.transactions, m.replayed, m.commits, m.failing, m.aborts, &m.stores, &m.progress,
		m.parked, m.released, m.parkedPartitions,
		m.ticks, m.watermark, m.silent, m.late,
	)
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

// foldResults are what a data record did, as labels.
var foldResults = []string{"changed", "silent", "shadowed", "copy", "unsupported", "truncated", "dropped"}

// publishFold adds what a fold did between two readings of its counters.
func (m *metrics) publishFold(before, after *Stats) {
	for i, n := range []int64{
		after.Changed - before.Changed, after.Silent - before.Silent, after.Shadowed - before.Shadowed, after.Copies - before.Copies,
		after.Unsupported - before.Unsupported, after.Truncated - before.Truncated, after.Dropped - before.Dropped,
	} {
		if n > 0 {
			m.folded.WithLabelValues(foldResults[i]).Add(float64(n))
		}
	}
	m.late.Add(float64(after.Late - before.Late))
}

// storeCollector reads the metrics of the open stores when it is asked for them.
type storeCollector struct {
	mu     sync.Mutex
	open   map[int32]*state.Store
	rows   *state.RowCache // of all of them
	blocks *state.Cache
}

// share says which caches the stores have; nil once they are closed.
func (c *storeCollector) share(rows *state.RowCache, blocks *state.Cache) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.rows, c.blocks = rows, blocks
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
	descReads      = prometheus.NewDesc("cassdelta_dedup_state_reads_total", "Reads of a raw partition's state, since it was opened, by what answered them: the transaction, the row cache, or Pebble.", []string{"partition", "from"}, nil)
	descCached     = prometheus.NewDesc("cassdelta_dedup_cache_bytes", "Memory in use by a cache: of rows, or of Pebble's blocks.", []string{"cache"}, nil)
	descEvicted    = prometheus.NewDesc("cassdelta_dedup_row_cache_evictions_total", "Rows that left the row cache to make room for others.", nil, nil)
	descBlocks     = prometheus.NewDesc("cassdelta_dedup_block_cache_reads_total", "Reads of Pebble's blocks, by whether its cache had them.", []string{"result"}, nil)
	descStalls     = prometheus.NewDesc("cassdelta_dedup_state_stalls_total", "How often a commit had to wait for the disk, since the state was opened.", partitionLabel, nil)
)

func (c *storeCollector) Describe(ch chan<- *prometheus.Desc) {
	ch <- descDisk
	ch <- descMemory
	ch <- descDebt
	ch <- descStalls
	ch <- descReads
	ch <- descCached
	ch <- descEvicted
	ch <- descBlocks
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
		ch <- prometheus.MustNewConstMetric(descReads, prometheus.CounterValue, float64(m.GetsFromTxn), label, "transaction")
		ch <- prometheus.MustNewConstMetric(descReads, prometheus.CounterValue, float64(m.GetsFromCache), label, "row_cache")
		ch <- prometheus.MustNewConstMetric(descReads, prometheus.CounterValue, float64(m.Gets), label, "pebble")
	}
	if c.rows != nil {
		m := c.rows.Metrics()
		ch <- prometheus.MustNewConstMetric(descCached, prometheus.GaugeValue, float64(m.Used), "rows")
		ch <- prometheus.MustNewConstMetric(descEvicted, prometheus.CounterValue, float64(m.Evicted))
	}
	if c.blocks != nil {
		m := c.blocks.Metrics()
		ch <- prometheus.MustNewConstMetric(descCached, prometheus.GaugeValue, float64(m.Bytes), "blocks")
		ch <- prometheus.MustNewConstMetric(descBlocks, prometheus.CounterValue, float64(m.Hits), "hit")
		ch <- prometheus.MustNewConstMetric(descBlocks, prometheus.CounterValue, float64(m.Misses), "miss")
	}
}
