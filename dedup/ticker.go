package dedup

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/zap"

	"cassdelta/internal/rawtopic"
	"cassdelta/schema"
)

// ticker tells the folds the time, through the raw topic: the owner of a raw partition writes ticks into it, so that what
// was decided once is in the log and the same at every replay. All that the hosts had flushed before the watermark is in the
// raw topic when the decision is made, hence ahead of the tick. While a partition changes hands two owners may write, and one
// of them may know less: the fold heeds the greatest tick.
type ticker struct {
	topic       string
	interval    time.Duration
	silentAfter time.Duration
	owned       func() []int32
	heard       func() (hosts map[schema.UUID]heartbeat, ok bool)
	client      *kgo.Client
	metrics     *metrics
	log         *zap.Logger

	written map[int32]int64 // the watermark of the last tick in a partition
	silent  []schema.UUID
	warned  bool // that there are no heartbeats
	failing bool
}

// newTicker makes a ticker for the partitions that owned lists, by the heartbeats that heard gives.
func newTicker(cfg *WorkerConfig, m *metrics, owned func() []int32, heard func() (map[schema.UUID]heartbeat, bool)) (*ticker, error) {
	client, err := kgo.NewClient(append(cfg.ClientOpts[:len(cfg.ClientOpts):len(cfg.ClientOpts)],
		kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.RequiredAcks(kgo.AllISRAcks()))...)
	if err != nil {
		return nil, fmt.Errorf("kafka client: %w", err)
	}
	return &ticker{
		topic: cfg.RawTopic, interval: cfg.TickInterval, silentAfter: cfg.SilentAfter, owned: owned, heard: heard,
		client: client, metrics: m, log: cfg.Log, written: map[int32]int64{},
	}, nil
}

func (t *ticker) close() { t.client.Close() }

// run writes ticks until ctx ends. One that cannot be written is left out: the next says more.
func (t *ticker) run(ctx context.Context) {
	clock := time.NewTicker(t.interval)
	defer clock.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-clock.C:
		}
		w, ok := t.watermark()
		if !ok {
			continue
		}
		err := t.tick(ctx, w)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil && !t.failing:
			t.log.Warn("no tick could be written to the raw topic; what has a TTL expires later", zap.Error(err))
		case err == nil && t.failing:
			t.log.Info("ticks are written again")
		}
		t.failing = err != nil
	}
}

// watermark decides what time it is; ok is false if that is not known. What changes is logged.
func (t *ticker) watermark() (w int64, ok bool) {
	hosts, known := t.heard()
	w, silent, ok := watermark(hosts, t.silentAfter)
	if !ok && !t.warned {
		t.warned = true
		t.log.Warn("there are no heartbeats of agents, so time stands: what has a TTL does not expire; do the agents run, and may they write to the topic?",
			zap.String("topic", rawtopic.HeartbeatTopic(t.topic)))
	}
	if !ok || !known {
		return 0, false
	}
	for _, host := range silent {
		if !slices.Contains(t.silent, host) {
			t.log.Warn("an agent is silent, and holds time no longer: changes of its node that come later may find what had a TTL expired",
				zap.Stringer("host", host), zap.Time("last heartbeat", time.UnixMicro(hosts[host].appended)), zap.Duration("silent-after", t.silentAfter))
		}
	}
	for _, host := range t.silent {
		if _, heard := hosts[host]; heard && !slices.Contains(silent, host) {
			t.log.Info("a silent agent is back, and counts again", zap.Stringer("host", host))
		}
	}
	t.silent = silent
	t.metrics.silent.Set(float64(len(silent)))
	return w, w != noWatermark
}

// tick writes a watermark to each partition that is owned and has none as late.
func (t *ticker) tick(ctx context.Context, watermark int64) error {
	ctx, cancel := context.WithTimeout(ctx, max(t.interval, time.Second))
	defer cancel()
	value := rawtopic.Append(nil, &rawtopic.Record{Kind: rawtopic.KindTick, Tick: &rawtopic.Tick{Watermark: watermark}})
	var records []*kgo.Record
	owned := t.owned()
	for _, p := range owned {
		if last, ok := t.written[p]; !ok || last < watermark {
			records = append(records, &kgo.Record{Topic: t.topic, Partition: p, Value: value})
		}
	}
	for p := range t.written {
		if !slices.Contains(owned, p) {
			delete(t.written, p)
		}
	}
	var failed error
	for _, result := range t.client.ProduceSync(ctx, records...) {
		if result.Err != nil {
			failed = result.Err
			continue
		}
		t.written[result.Record.Partition] = watermark
		t.metrics.ticks.Inc()
	}
	if failed == nil && len(records) > 0 {
		t.metrics.watermark.Set(float64(watermark) / microseconds)
	}
	return failed
}
