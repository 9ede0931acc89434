package dedup

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/zap"

	"cassdelta/internal/rawtopic"
	"cassdelta/schema"
)

// heartbeats reads what agents say of their progress. It knows the last heartbeat of each host.
type heartbeats struct {
	opts    []kgo.Opt
	topic   string
	log     *zap.Logger
	decoder rawtopic.Decoder

	mu    sync.Mutex
	hosts map[schema.UUID]heartbeat
	// known says that all that the topic held at the start was read: before, a host that holds time may be unknown.
	known bool
}

func newHeartbeats(cfg *WorkerConfig) *heartbeats {
	return &heartbeats{
		opts: cfg.ClientOpts, topic: rawtopic.HeartbeatTopic(cfg.RawTopic), log: cfg.Log, hosts: map[schema.UUID]heartbeat{},
	}
}

// snapshot gives the last heartbeats; ok is false while they are not all known.
func (h *heartbeats) snapshot() (hosts map[schema.UUID]heartbeat, ok bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return maps.Clone(h.hosts), h.known
}

// run reads until ctx ends. It waits for the topic, and for the right to read it.
func (h *heartbeats) run(ctx context.Context) {
	var wait backoff
	failing := false
	for ctx.Err() == nil {
		err := h.read(ctx, func() {
			wait.reset()
			if failing {
				h.log.Info("heartbeats can be read again")
			}
			failing = false
		})
		if ctx.Err() != nil {
			return
		}
		if !failing && !errors.Is(err, kerr.UnknownTopicOrPartition) { // an agent makes the topic
			failing = true
			h.log.Warn("the heartbeats of the agents cannot be read; what has a TTL expires later", zap.String("topic", h.topic), zap.Error(err))
		}
		wait.wait(ctx)
	}
}

// read reads until something fails. It calls ok when the start is made.
func (h *heartbeats) read(ctx context.Context, ok func()) error {
	cl, err := kgo.NewClient(append(h.opts[:len(h.opts):len(h.opts)],
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{h.topic: {0: kgo.NewOffset().AtStart()}}),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchMaxPartitionBytes(1<<20))...)
	if err != nil {
		return fmt.Errorf("kafka client: %w", err)
	}
	defer cl.Close()
	startCtx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	all, err := logBounds(startCtx, kadm.NewClient(cl), h.topic)
	if err != nil {
		return err
	}
	b := all[0]
	h.reached(b.start >= b.end)
	ok()
	for {
		fetches := cl.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			return err
		}
		for r := range fetches.RecordsAll() {
			h.take(r, b.end)
		}
	}
}

// take takes note of a record of the topic, which ended at end when reading began.
func (h *heartbeats) take(r *kgo.Record, end int64) {
	var rec rawtopic.Record
	if err := h.decoder.Decode(r.Value, &rec); err == nil && rec.Kind == rawtopic.KindHeartbeat {
		h.heard(rec.Heartbeat, r.Timestamp)
	} else {
		h.log.Warn("a record among the heartbeats is none", zap.String("topic", h.topic), zap.Int64("offset", r.Offset), zap.Error(err))
	}
	h.reached(r.Offset+1 >= end)
}

func (h *heartbeats) reached(end bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.known = h.known || end
}

func (h *heartbeats) heard(b *rawtopic.Heartbeat, appended time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	last, ok := h.hosts[b.Host]
	if at := appended.UnixMicro(); !ok || at >= last.appended { // the topic may be read again from its start
		h.hosts[b.Host] = heartbeat{published: b.Time, appended: at}
	}
}
