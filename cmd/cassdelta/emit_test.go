package main

import (
	"fmt"
	"strconv"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"cassdelta/dedup"
)

// records reads all of a topic, and gives as text, by partition, what is the same whenever it is written: all but the time in the value.
func (p *pipeline) records(topic string) (all []*kgo.Record, text string) {
	p.t.Helper()
	ends, err := kadm.NewClient(p.client).ListEndOffsets(p.t.Context(), topic)
	if err != nil {
		p.t.Fatal(err)
	}
	from, n := map[int32]kgo.Offset{}, 0
	ends.Each(func(end kadm.ListedOffset) {
		from[end.Partition] = kgo.NewOffset().AtStart()
		n += int(end.Offset)
	})
	client, err := kgo.NewClient(kgo.SeedBrokers(p.kafka), kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: from}))
	if err != nil {
		p.t.Fatal(err)
	}
	defer client.Close()
	parts := make([][]*kgo.Record, len(from))
	for read := 0; read < n; {
		fetches := client.PollFetches(p.t.Context())
		if err := fetches.Err(); err != nil {
			p.t.Fatal(err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			parts[r.Partition] = append(parts[r.Partition], r)
			read++
		})
	}
	for _, part := range parts {
		for _, r := range part {
			all = append(all, r)
			text += fmt.Sprintf("%d %x %d bytes %s\n", r.Partition, r.Key, len(r.Value), r.Headers)
		}
	}
	return all, text
}

// breakOff leaves in a topic what an emission has written when it comes to a row of a raw partition, and reports how many rows that are.
func (p *pipeline) breakOff(topic string, all []*kgo.Record, partition, row int) int {
	p.t.Helper()
	adm := kadm.NewClient(p.client)
	details, err := adm.ListTopics(p.t.Context(), topic)
	if err != nil {
		p.t.Fatal(err)
	}
	if _, err := adm.DeleteTopic(p.t.Context(), topic); err != nil {
		p.t.Fatal(err)
	}
	if _, err := adm.CreateTopic(p.t.Context(), int32(len(details[topic].Partitions)), 1, nil, topic); err != nil {
		p.t.Fatal(err)
	}
	client, err := kgo.NewClient(kgo.SeedBrokers(p.kafka), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		p.t.Fatal(err)
	}
	defer client.Close()
	kept := 0
	for _, r := range all {
		number := func(name string) int {
			n, err := strconv.Atoi(header(r, name))
			if err != nil {
				p.t.Fatal(err)
			}
			return n
		}
		if raw := number(dedup.HeaderRawPartition); raw > partition || raw == partition && number(dedup.HeaderIndex) >= row {
			continue
		}
		again := &kgo.Record{Topic: topic, Partition: r.Partition, Key: r.Key, Value: r.Value, Headers: r.Headers}
		if err := client.ProduceSync(p.t.Context(), again).FirstErr(); err != nil {
			p.t.Fatal(err)
		}
		kept++
	}
	return kept
}
