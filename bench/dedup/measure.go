package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
)

// sample is how far the worker is at a time.
type sample struct {
	at          time.Time
	records     int64 // raw ones, of which the events are committed
	cpu, broker time.Duration
}

// measurement is what a run of the worker took.
type measurement struct {
	records  int64
	first    time.Duration // until events are committed: from the start of the worker, in its first phase
	whole    time.Duration // until all are
	steady   time.Duration // of the part that rates are of
	rate     float64       // raw records a second in that part
	cpu      float64       // seconds for a million raw records in that part, of the worker
	broker   float64       // and of the broker
	wholeCPU float64       // of all of it, for a million
	peak     int64         // resident set since the start, bytes
	metrics  map[string]float64
	parts    *breakdown
}

const (
	sampleEvery = 100 * time.Millisecond
	// The steady part of a run, in raw records: as in the figures that ours are compared with.
	steadyFrom = 0.25
	steadyTo   = 0.985
)

// committed is up to which offsets, in sum, a group has committed.
func (k *topics) committed(ctx context.Context, group string) (int64, error) {
	offsets, err := k.admin.FetchOffsets(ctx, group)
	for errors.Is(err, kerr.CoordinatorNotAvailable) && ctx.Err() == nil { // of the first group that there is
		time.Sleep(sampleEvery)
		offsets, err = k.admin.FetchOffsets(ctx, group)
	}
	if err != nil {
		return 0, err
	}
	sum := int64(0)
	offsets.Each(func(o kadm.OffsetResponse) { sum += max(0, o.At) })
	return sum, offsets.Error()
}

// ends is the sum of the ends of a topic's partitions.
func (k *topics) ends(ctx context.Context, topic string) (int64, error) {
	ends, err := k.admin.ListEndOffsets(ctx, topic)
	if err != nil {
		return 0, err
	}
	sum := int64(0)
	ends.Each(func(o kadm.ListedOffset) { sum += o.Offset })
	return sum, ends.Error()
}

// measure starts the worker, lets it fold what is in the raw topic, prints what each phase took, and stops the worker.
func (w *worker) measure(ctx context.Context, phases []phase, out io.Writer) (all []*measurement, err error) {
	end, err := w.kafka.ends(ctx, rawTopic)
	if err != nil {
		return nil, err
	}
	begin := end
	for _, p := range phases {
		begin -= int64(p.records)
	}
	if err := w.start(ctx); err != nil {
		return nil, err
	}
	before := map[string]float64{}
	for i, p := range phases {
		var profile func(context.Context) *profiler
		if w.o.profile != "" && i == len(phases)-1 {
			profile = w.profile
		}
		m, err := w.follow(ctx, begin, begin+int64(p.records), profile)
		if err == nil {
			m.metrics, err = w.scrape()
		}
		if err != nil {
			w.stop(syscall.SIGKILL)
			return nil, err
		}
		for name, value := range m.metrics {
			if strings.HasSuffix(name, "_bytes") || strings.Contains(name, "_bytes{") {
				continue // a gauge
			}
			m.metrics[name], before[name] = value-before[name], value
		}
		fmt.Fprintf(out, "\n%s\n", p.name)
		m.print(out)
		all, begin = append(all, m), begin+int64(p.records)
	}
	if err := w.stop(syscall.SIGTERM); err != nil {
		return nil, err
	}
	size, err := sizeOf(w.state)
	fmt.Fprintf(out, "\nstate on disk      %.0f MB\n", float64(size)/1e6)
	return all, err
}

// rates computes what the samples tell.
func (m *measurement) rates(samples []sample, begin int64) {
	share := func(s sample) float64 { return float64(s.records-begin) / float64(m.records) }
	from, to := samples[0], samples[len(samples)-1]
	m.wholeCPU = to.cpu.Seconds() / float64(m.records) * 1e6
	for _, s := range samples {
		if share(s) <= steadyFrom {
			from = s
		}
	}
	for i := len(samples) - 1; i >= 0 && share(samples[i]) >= steadyTo; i-- {
		to = samples[i]
	}
	millions := float64(to.records-from.records) / 1e6
	if m.steady = to.at.Sub(from.at); m.steady <= 0 || millions <= 0 {
		return
	}
	m.rate = millions * 1e6 / m.steady.Seconds()
	m.cpu = (to.cpu - from.cpu).Seconds() / millions
	m.broker = (to.broker - from.broker).Seconds() / millions
}

// scrape reads the worker's metrics. Those of one name are added up, and so are those of one name
// and one value of a label.
func (w *worker) scrape() (map[string]float64, error) {
	answer, err := http.Get("http://" + w.address + "/metrics")
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	all := map[string]float64{}
	for lines := bufio.NewScanner(answer.Body); lines.Scan(); {
		name, value, ok := strings.Cut(lines.Text(), " ")
		if i := strings.LastIndexByte(lines.Text(), ' '); i >= 0 {
			name, value = lines.Text()[:i], lines.Text()[i+1:]
		}
		if !ok || strings.HasPrefix(name, "#") {
			continue
		}
		v, err := strconv.ParseFloat(value, 64)
		if err != nil {
			return nil, fmt.Errorf("metrics: %q: %w", lines.Text(), err)
		}
		plain, labels, _ := strings.Cut(name, "{")
		all[plain] += v
		for _, label := range strings.Split(strings.TrimSuffix(labels, "}"), ",") {
			all[plain+"{"+label+"}"] += v
		}
	}
	return all, nil
}

func (m *measurement) print(out io.Writer) {
	const mb = 1e6
	metric := func(name string) float64 { return m.metrics["cassdelta_dedup_"+name] }
	fmt.Fprintf(out, "  rate             %.0f raw records/s, %.0f events/s (steady part, %.1f s)\n",
		m.rate, m.rate*metric("events_total")/max(1, metric("records_total")), m.steady.Seconds())
	fmt.Fprintf(out, "  CPU              %.2f s per 1 M raw records (with start and end %.2f), broker %.2f\n", m.cpu, m.wholeCPU, m.broker)
	fmt.Fprintf(out, "  first events     after %.2f s, all after %.1f s\n", m.first.Seconds(), m.whole.Seconds())
	fmt.Fprintf(out, "  peak RSS         %.0f MB so far\n", float64(m.peak)/mb)
	if n := metric("commit_seconds_count"); n > 0 {
		fmt.Fprintf(out, "  transactions     %.0f, end of folding to state stored %.0f ms on average\n", n, metric("commit_seconds_sum")/n*1000)
	}
	reads := func(from string) float64 { return m.metrics[`cassdelta_dedup_state_reads_total{from="`+from+`"}`] }
	if asked := reads("row_cache") + reads("pebble"); asked > 0 {
		fmt.Fprintf(out, "  reads of state   %.0f from transactions, of %.0f others %.1f %% from the row cache (%.0f MB)\n",
			reads("transaction"), asked, 100*reads("row_cache")/asked, m.metrics[`cassdelta_dedup_cache_bytes{cache="rows"}`]/mb)
	}
	m.parts.print(out)
}
