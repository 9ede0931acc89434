package dedup

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/zap"

	"cassdelta/internal/rawtopic"
)

// TestTickerTellsTheTime reads back what a ticker writes: into the partitions that are owned at the moment, and into no
// other, a watermark that is behind its clock.
func TestTickerTellsTheTime(t *testing.T) {
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(4, "raw"))
	if err != nil {
		t.Fatal(err)
	}
	defer cluster.Close()
	owned := make(chan []int32, 2)
	owned <- []int32{1, 3}
	owned <- []int32{3}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ticker, err := newTicker(&WorkerConfig{
		ClientOpts: []kgo.Opt{kgo.SeedBrokers(cluster.ListenAddrs()...)}, RawTopic: "raw", TickInterval: time.Millisecond, Log: zap.NewNop(),
	}, func() []int32 {
		select {
		case partitions := <-owned:
			return partitions
		default:
			cancel()
			return nil
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	defer ticker.close()
	ticker.now = func() time.Time { return time.Unix(1000, 0) }
	ticker.run(ctx)

	reader, err := kgo.NewClient(kgo.SeedBrokers(cluster.ListenAddrs()...), kgo.ConsumeTopics("raw"))
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	var partitions []int32
	var decoder rawtopic.Decoder
	for len(partitions) < 3 {
		fetches := reader.PollFetches(t.Context())
		if err := fetches.Err(); err != nil {
			t.Fatal(err)
		}
		for r := range fetches.RecordsAll() {
			var rec rawtopic.Record
			if err := decoder.Decode(r.Value, &rec); err != nil {
				t.Fatal(err)
			}
			if want := time.Unix(1000, 0).Add(-tickLateness).UnixMicro(); rec.Kind != rawtopic.KindTick || rec.Tick.Watermark != want {
				t.Errorf("expected a tick at %d, found %+v", want, rec)
			}
			partitions = append(partitions, r.Partition)
		}
	}
	if slices.Sort(partitions); !slices.Equal(partitions, []int32{1, 3, 3}) {
		t.Errorf("ticks in the partitions %v, expected 1, 3, 3", partitions)
	}
}
