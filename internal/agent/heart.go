package agent

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/zap"

	"cassdelta/internal/rawtopic"
)

// heart tells the dedup workers up to when the agent has published the node's log. They let time go on by it, so it
// says nothing that is not acknowledged.
type heart struct {
	c        Config
	client   *kgo.Client
	ledger   *ledger
	metrics  *metrics
	log      *zap.Logger
	interval time.Duration

	// waiting says that a heartbeat is not acknowledged. There is one at a time.
	waiting atomic.Bool
	failing bool // only the change is logged; it belongs to the holder of waiting
}

func newHeart(c Config, client *kgo.Client, l *ledger, m *metrics, log *zap.Logger, interval time.Duration) *heart {
	return &heart{c: c, client: client, ledger: l, metrics: m, log: log, interval: interval}
}

// run beats until stop is closed: at once, since an agent that has much to catch up with holds time from its start.
func (h *heart) run(stop <-chan struct{}) {
	ticker := time.NewTicker(h.interval)
	defer ticker.Stop()
	for {
		h.beat()
		select {
		case <-stop:
			return
		case <-ticker.C:
		}
	}
}

// beat sends a heartbeat, unless the last one is still on its way. One that fails is left out: the next says more.
func (h *heart) beat() {
	at := int64(0)
	if published := h.ledger.published(); !published.IsZero() {
		at = published.UnixMicro()
	}
	h.metrics.published.Set(float64(at) / 1e6)
	if !h.waiting.CompareAndSwap(false, true) {
		return
	}
	value := rawtopic.Append(nil, &rawtopic.Record{Kind: rawtopic.KindHeartbeat, Heartbeat: &rawtopic.Heartbeat{Host: h.c.Host, Time: at}})
	record := &kgo.Record{Topic: rawtopic.HeartbeatTopic(h.c.RawTopic), Key: []byte(h.c.Host.String()), Value: value}
	h.client.Produce(context.Background(), record, func(_ *kgo.Record, err error) {
		defer h.waiting.Store(false)
		if err == nil {
			h.metrics.heartbeats.Inc()
		}
		switch {
		case errors.Is(err, kgo.ErrAborting): // the agent stops
		case err != nil && !h.failing:
			h.log.Warn("Kafka refuses heartbeats; without them what has a TTL does not expire in the clean topics", zap.Error(err))
		case err == nil && h.failing:
			h.log.Info("Kafka takes heartbeats again")
		}
		h.failing = err != nil
	})
}
