package rawtopic

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
)

type broker struct {
	opts []kgo.Opt
	cl   *kgo.Client
	adm  *kadm.Client
}

func startBroker(t *testing.T) broker {
	t.Helper()
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	opts := []kgo.Opt{kgo.SeedBrokers(cluster.ListenAddrs()...)}
	cl, err := kgo.NewClient(append(opts[:1:1], kgo.RecordPartitioner(kgo.ManualPartitioner()))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	return broker{opts, cl, kadm.NewClient(cl)}
}

func timeout(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func TestTopicIsMadeOnceAndBegun(t *testing.T) {
	b, ctx := startBroker(t), timeout(t)
	id, err := EnsureTopic(ctx, b.cl, "raw", 7, 1)
	if err != nil {
		t.Fatal(err)
	}
	if id.IsZero() {
		t.Error("the topic has no id")
	}
	again, err := EnsureTopic(ctx, b.cl, "raw", 7, 1)
	if err != nil || again != id {
		t.Errorf("the second time: id %v, error %v; expected %v", again, err, id)
	}

	// Agents that race write some inits twice, and each partition begins with one.
	init := Init{Cluster: "c", TopicID: id, Partitions: 7, Version: Version}
	var racers sync.WaitGroup
	for range 3 {
		racers.Go(func() {
			if err := WriteInit(ctx, b.cl, "raw", init); err != nil {
				t.Error(err)
			}
		})
	}
	racers.Wait()
	ends, err := b.adm.ListEndOffsets(ctx, "raw")
	if err != nil {
		t.Fatal(err)
	}
	if err := WriteInit(ctx, b.cl, "raw", init); err != nil {
		t.Fatal(err)
	}
	after, err := b.adm.ListEndOffsets(ctx, "raw")
	if err != nil {
		t.Fatal(err)
	}
	ends.Each(func(o kadm.ListedOffset) {
		if now, _ := after.Lookup("raw", o.Partition); o.Offset < 1 || now.Offset != o.Offset {
			t.Errorf("partition %d: %d records, then %d: expected at least one, and no more at a later start", o.Partition, o.Offset, now.Offset)
		}
	})
	checked, err := CheckInit(ctx, b.opts, "raw", init)
	if err != nil || checked != 7 {
		t.Errorf("checked %d partitions of 7, error %v", checked, err)
	}
}

func TestTopicRefusals(t *testing.T) {
	b, ctx := startBroker(t), timeout(t)
	begin := func(topic string, partitions int32) {
		if _, err := EnsureTopic(ctx, b.cl, topic, partitions, 1); err != nil {
			t.Fatal(err)
		}
		if err := WriteInit(ctx, b.cl, topic, Init{Cluster: "mine", Partitions: partitions, Version: Version}); err != nil {
			t.Fatal(err)
		}
	}
	foreign := func(topic string, value []byte) {
		if _, err := EnsureTopic(ctx, b.cl, topic, 1, 1); err != nil {
			t.Fatal(err)
		}
		if err := b.cl.ProduceSync(ctx, &kgo.Record{Topic: topic, Value: value}).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	begin("good", 2)
	foreign("foreign", []byte(`{"op":"c"}`))
	foreign("headless", Append(nil, &Record{Kind: KindTick, Tick: &Tick{}}))
	begin("grown", 2)
	if _, err := b.adm.UpdatePartitions(ctx, 3, "grown"); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name  string
		topic string
		want  Init
		says  string
	}{
		{"right", "good", Init{Cluster: "mine", Partitions: 2, Version: Version}, ""},
		{"another cluster", "good", Init{Cluster: "yours", Partitions: 2, Version: Version}, `raw topic good, partition 0: it belongs to the Cassandra cluster "mine", and this node is of "yours"`},
		{"another number of partitions", "good", Init{Cluster: "mine", Partitions: 4, Version: Version}, "raw topic good: expected 4 partitions, found 2"},
		{"partitions were added", "grown", Init{Cluster: "mine", Partitions: 3, Version: Version}, "partition 0: it was made with 2 partitions, and now has 3"},
		{"a later format", "good", Init{Cluster: "mine", Partitions: 2, Version: Version + 1}, "expected format version 2, found 1"},
		{"another program's topic", "foreign", Init{Cluster: "mine", Partitions: 1, Version: Version}, "partition 0: its first record cannot be read"},
		{"no init", "headless", Init{Cluster: "mine", Partitions: 1, Version: Version}, "expected that it begins with an init record, found a record of kind 4"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := EnsureTopic(ctx, b.cl, c.topic, c.want.Partitions, 1)
			if err == nil {
				_, err = CheckInit(ctx, b.opts, c.topic, c.want)
			}
			if c.says == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if te := (*TopicError)(nil); !errors.As(err, &te) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("expected a refusal with %q, found %v", c.says, err)
			}
		})
	}
}

// TestExpiredInitIsNoRefusal holds that a topic whose first records are gone by retention is still accepted.
func TestExpiredInitIsNoRefusal(t *testing.T) {
	b, ctx := startBroker(t), timeout(t)
	if _, err := EnsureTopic(ctx, b.cl, "raw", 1, 1); err != nil {
		t.Fatal(err)
	}
	init := Init{Cluster: "c", Partitions: 1, Version: Version}
	if err := WriteInit(ctx, b.cl, "raw", init); err != nil {
		t.Fatal(err)
	}
	tick := Append(nil, &Record{Kind: KindTick, Tick: &Tick{Watermark: 1 << 40}})
	// The first that is left may also be one that cannot be read.
	for i, value := range [][]byte{tick, tick[:len(tick)-1]} {
		if err := b.cl.ProduceSync(ctx, &kgo.Record{Topic: "raw", Value: value}).FirstErr(); err != nil {
			t.Fatal(err)
		}
		var upTo kadm.Offsets
		upTo.AddOffset("raw", 0, int64(1+i), -1)
		if _, err := b.adm.DeleteRecords(ctx, upTo); err != nil {
			t.Fatal(err)
		}
		checked, err := CheckInit(ctx, b.opts, "raw", init)
		if err != nil || checked != 0 {
			t.Errorf("checked %d partitions, error %v; expected none of both", checked, err)
		}
	}
}
