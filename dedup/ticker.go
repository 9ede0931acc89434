package dedup

import (
	"context"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/zap"

	"cassdelta/internal/rawtopic"
)

// tickLateness is how far ticks are behind the clock: the time that a write has to reach the raw topic before what
// expires at its moment does. Nodes flush their logs every 10 s by default, and agents follow in less than that. What comes
// later still is merged as ever; it only finds what has expired meanwhile gone.
const tickLateness = time.Minute

// ticker tells the folds the time, through the raw topic: the owner of a raw partition writes ticks into it, so that what
// the clock said once is in the log and the same at every replay. While a partition changes hands two owners may write, and a
// clock may go back: the fold heeds the greatest tick.
type ticker struct {
	topic    string
	interval time.Duration
	owned    func() []int32
	now      func() time.Time
	client   *kgo.Client
	log      *zap.Logger
}

// newTicker makes a ticker for the partitions that owned lists.
func newTicker(cfg *WorkerConfig, owned func() []int32) (*ticker, error) {
	client, err := kgo.NewClient(append(cfg.ClientOpts[:len(cfg.ClientOpts):len(cfg.ClientOpts)],
		kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.RequiredAcks(kgo.AllISRAcks()))...)
	if err != nil {
		return nil, fmt.Errorf("kafka client: %w", err)
	}
	return &ticker{topic: cfg.RawTopic, interval: cfg.TickInterval, owned: owned, now: time.Now, client: client, log: cfg.Log}, nil
}

func (t *ticker) close() { t.client.Close() }

// run writes ticks until ctx ends. One that cannot be written is left out: the next says more.
func (t *ticker) run(ctx context.Context) {
	clock := time.NewTicker(t.interval)
	defer clock.Stop()
	failing := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-clock.C:
		}
		err := t.tick(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil && !failing:
			t.log.Warn("no tick could be written to the raw topic; what has a TTL expires later", zap.Error(err))
		case err == nil && failing:
			t.log.Info("ticks are written again")
		}
		failing = err != nil
	}
}

// tick writes one to each partition that is owned.
func (t *ticker) tick(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, max(t.interval, time.Second))
	defer cancel()
	watermark := t.now().Add(-tickLateness).UnixMicro()
	value := rawtopic.Append(nil, &rawtopic.Record{Kind: rawtopic.KindTick, Tick: &rawtopic.Tick{Watermark: watermark}})
	var records []*kgo.Record
	for _, p := range t.owned() {
		records = append(records, &kgo.Record{Topic: t.topic, Partition: p, Value: value})
	}
	return t.client.ProduceSync(ctx, records...).FirstErr()
}
