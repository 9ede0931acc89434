package dedup

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"cassdelta/internal/rawtopic"
	"cassdelta/schema"
)

// tickerRig is a ticker with a raw topic of four partitions, and an agent's way to beat.
type tickerRig struct {
	t      *testing.T
	client *kgo.Client
	cfg    WorkerConfig
	logs   *observer.ObservedLogs
}

func newTickerRig(t *testing.T) *tickerRig {
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(4, "raw"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	core, logs := observer.New(zapcore.DebugLevel)
	r := &tickerRig{t: t, logs: logs, cfg: WorkerConfig{
		ClientOpts: []kgo.Opt{kgo.SeedBrokers(cluster.ListenAddrs()...), kgo.MetadataMinAge(10 * time.Millisecond)},
		RawTopic:   "raw", TickInterval: time.Millisecond, SilentAfter: time.Minute, Log: zap.New(core),
	}}
	if r.client, err = kgo.NewClient(append(r.cfg.ClientOpts, kgo.RecordPartitioner(kgo.ManualPartitioner()))...); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.client.Close)
	return r
}

func (r *tickerRig) beat(host byte, published time.Time) {
	r.t.Helper()
	value := rawtopic.Append(nil, &rawtopic.Record{Kind: rawtopic.KindHeartbeat, Heartbeat: &rawtopic.Heartbeat{
		Host: schema.UUID{host}, Time: published.UnixMicro(),
	}})
	record := &kgo.Record{Topic: rawtopic.HeartbeatTopic("raw"), Key: []byte{host}, Value: value}
	if err := r.client.ProduceSync(r.t.Context(), record).FirstErr(); err != nil {
		r.t.Fatal(err)
	}
}

func (r *tickerRig) ticker(owned func() []int32, heard func() (map[schema.UUID]heartbeat, bool)) *ticker {
	r.t.Helper()
	ticker, err := newTicker(&r.cfg, newMetrics(), owned, heard)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(ticker.close)
	return ticker
}

// ticks reads the raw topic: the watermarks by partition.
func (r *tickerRig) ticks() map[int32][]int64 {
	r.t.Helper()
	ends, err := kadm.NewClient(r.client).ListEndOffsets(r.t.Context(), "raw")
	if err != nil {
		r.t.Fatal(err)
	}
	missing := int64(0)
	ends.Each(func(o kadm.ListedOffset) { missing += o.Offset })
	reader, err := kgo.NewClient(append(r.cfg.ClientOpts, kgo.ConsumeTopics("raw"))...)
	if err != nil {
		r.t.Fatal(err)
	}
	defer reader.Close()
	all := map[int32][]int64{}
	var decoder rawtopic.Decoder
	for missing > 0 {
		fetches := reader.PollFetches(r.t.Context())
		if err := fetches.Err(); err != nil {
			r.t.Fatal(err)
		}
		for kr := range fetches.RecordsAll() {
			missing--
			var rec rawtopic.Record
			if err := decoder.Decode(kr.Value, &rec); err != nil || rec.Kind != rawtopic.KindTick {
				r.t.Fatalf("found %+v, %v", rec, err)
			}
			all[kr.Partition] = append(all[kr.Partition], rec.Tick.Watermark)
		}
	}
	return all
}

// TestTickerTellsTheTime: each partition that is owned at the moment gets each watermark once, and none goes back.
func TestTickerTellsTheTime(t *testing.T) {
	r := newTickerRig(t)
	at := func(second int64) int64 { return (second - int64(tickLateness/time.Second)) * microseconds }
	steps := []struct {
		owned  []int32
		second int64 // of the one host, 0 for no host
	}{
		{[]int32{1, 3}, 0}, {[]int32{1, 3}, 1000}, {[]int32{1, 3}, 1000}, {[]int32{3}, 1000}, {[]int32{3}, 1010},
		{[]int32{3}, 990}, {[]int32{1, 3}, 1010}, {[]int32{1, 3}, 1020},
	}
	step := -1
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ticker := r.ticker(
		func() []int32 { return steps[step].owned },
		func() (map[schema.UUID]heartbeat, bool) {
			if step++; step == len(steps) {
				cancel()
				step--
			}
			if steps[step].second == 0 {
				return nil, true
			}
			return map[schema.UUID]heartbeat{{1}: {steps[step].second * microseconds, 2000 * microseconds}}, true
		})
	ticker.run(ctx)
	expected := map[int32][]int64{1: {at(1000), at(1010), at(1020)}, 3: {at(1000), at(1010), at(1020)}}
	if found := r.ticks(); fmt.Sprint(found) != fmt.Sprint(expected) {
		t.Errorf("found %v, expected %v", found, expected)
	}
	if n := r.logs.FilterMessageSnippet("no heartbeats").Len(); n != 1 {
		t.Errorf("%d warnings that there are no heartbeats, expected one", n)
	}
}

// TestTickerKnowsAllHosts: before the topic of the heartbeats was read to its end nothing is decided, since a host that holds
// time may be the last in it; and a topic that is not there is waited for.
func TestTickerKnowsAllHosts(t *testing.T) {
	r := newTickerRig(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	h := newHeartbeats(&r.cfg)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		h.run(ctx)
	}()
	if _, known := h.snapshot(); known {
		t.Error("the hosts are known before the topic is there")
	}
	if err := rawtopic.EnsureHeartbeatTopic(ctx, r.client, "raw", 1); err != nil {
		t.Fatal(err)
	}
	start := time.Now().Truncate(time.Second)
	for i := range 3 {
		r.beat(byte(i), start.Add(time.Duration(-i)*time.Second))
	}
	r.beat(0, start.Add(time.Second))
	await := func(h *heartbeats) map[schema.UUID]heartbeat {
		for {
			if hosts, known := h.snapshot(); known && len(hosts) == 3 && hosts[schema.UUID{}].published == start.Add(time.Second).UnixMicro() {
				return hosts
			}
			select {
			case <-t.Context().Done():
				t.Fatal("the heartbeats do not come")
			case <-time.After(time.Millisecond):
			}
		}
	}
	hosts := await(h)
	if w, _, _ := watermark(hosts, time.Minute); w != start.Add(-2*time.Second-tickLateness).UnixMicro() {
		t.Errorf("the watermark is %v", time.UnixMicro(w))
	}
	cancel()
	<-ended

	// Another reader knows them once it has read all, and not before.
	second := newHeartbeats(&r.cfg)
	for offset := range int64(3) {
		if _, known := second.snapshot(); known {
			t.Errorf("the hosts are known before offset %d of 3", offset)
		}
		value := rawtopic.Append(nil, &rawtopic.Record{Kind: rawtopic.KindHeartbeat, Heartbeat: &rawtopic.Heartbeat{Host: schema.UUID{byte(offset)}, Time: 5}})
		second.take(&kgo.Record{Offset: offset, Value: value, Timestamp: start}, 3)
	}
	// What is older than what is known comes again when the topic is read again.
	second.take(&kgo.Record{Offset: 0, Value: rawtopic.Append(nil, &rawtopic.Record{
		Kind: rawtopic.KindHeartbeat, Heartbeat: &rawtopic.Heartbeat{Host: schema.UUID{2}, Time: 4},
	}), Timestamp: start.Add(-time.Second)}, 3)
	second.take(&kgo.Record{Offset: 1, Value: []byte("no heartbeat")}, 3)
	if hosts, known := second.snapshot(); !known || len(hosts) != 3 || hosts[schema.UUID{2}] != (heartbeat{5, start.UnixMicro()}) {
		t.Errorf("known %v: %v", known, hosts)
	}
	if n := r.logs.FilterMessageSnippet("is none").Len(); n != 1 {
		t.Errorf("%d lines about a record that is no heartbeat", n)
	}
}

// TestSilentHostIsNamedOnce holds the log lines about a host that is silent, and comes back.
func TestSilentHostIsNamedOnce(t *testing.T) {
	r := newTickerRig(t)
	hosts := map[schema.UUID]heartbeat{{1}: {1000 * microseconds, 1000 * microseconds}}
	ticker := r.ticker(nil, func() (map[schema.UUID]heartbeat, bool) { return hosts, true })
	var found []int64
	for _, second := range []int64{1010, 1050, 1061, 1100} {
		hosts[schema.UUID{2}] = heartbeat{second * microseconds, second * microseconds}
		w, _ := ticker.watermark()
		found = append(found, w/microseconds)
	}
	hosts[schema.UUID{1}] = heartbeat{1005 * microseconds, 1101 * microseconds}
	w, _ := ticker.watermark()
	found = append(found, w/microseconds)
	if expected := []int64{940, 940, 1001, 1040, 945}; !slices.Equal(found, expected) {
		t.Errorf("found %v, expected %v", found, expected)
	}
	for _, text := range []string{"an agent is silent", "a silent agent is back"} {
		if n := r.logs.FilterMessageSnippet(text).Len(); n != 1 {
			t.Errorf("%d lines %q, expected one", n, text)
		}
	}
}
