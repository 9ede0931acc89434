package main

import (
	"context"
	"fmt"
	"sync/atomic"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"cassdelta/bench"
	"cassdelta/commitlog"
	"cassdelta/internal/rawtopic"
	"cassdelta/internal/sink"
	"cassdelta/schema"
)

const (
	rawTopic    = "bench-raw"
	group       = "bench-dedup"
	cluster     = "bench"
	cleanPrefix = "bench"
)

// topics writes raw records as agents would, and reads events.
type topics struct {
	brokers    []string
	partitions int32
	client     *kgo.Client
	admin      *kadm.Client
	table      *schema.Table
	clean      string
}

// openTopics makes the raw topic.
func openTopics(ctx context.Context, brokers []string, partitions int32) (*topics, error) {
	parsed, err := schema.ParseCQL("bench", bench.Schema())
	if err != nil {
		return nil, err
	}
	k := &topics{brokers: brokers, partitions: partitions, table: parsed.Tables[0]}
	if k.clean, err = sink.TopicName(cleanPrefix, bench.Keyspace, bench.Table); err != nil {
		return nil, err
	}
	k.client, err = kgo.NewClient(append(clientOptions(brokers), kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ProducerBatchCompression(kgo.Lz4Compression()), kgo.ProducerBatchMaxBytes(128<<10), kgo.MaxBufferedRecords(writeAhead))...)
	if err != nil {
		return nil, err
	}
	k.admin = kadm.NewClient(k.client)
	if err := k.setUp(ctx); err != nil {
		k.close()
		return nil, err
	}
	return k, nil
}

func (k *topics) close() { k.client.Close() }

// setUp does to the raw topic what an agent does.
func (k *topics) setUp(ctx context.Context) error {
	id, err := rawtopic.EnsureTopic(ctx, k.client, rawTopic, k.partitions, 1)
	if err != nil {
		return err
	}
	if err := rawtopic.EnsureHeartbeatTopic(ctx, k.client, rawTopic, 1); err != nil {
		return err
	}
	if err := rawtopic.WriteInit(ctx, k.client, rawTopic, rawtopic.Init{Cluster: cluster, TopicID: id, Partitions: k.partitions, Version: rawtopic.Version}); err != nil {
		return err
	}
	for replica := range bench.Replicas {
		value := rawtopic.Append(nil, &rawtopic.Record{Kind: rawtopic.KindSchema, Schema: &rawtopic.Schema{
			Hash: k.table.Hash(), Definition: k.table.Definition(), Host: host(replica), Created: true,
		}})
		var records []*kgo.Record
		for p := range k.partitions {
			records = append(records, &kgo.Record{Topic: rawTopic, Partition: p, Value: value})
		}
		if err := k.client.ProduceSync(ctx, records...).FirstErr(); err != nil {
			return err
		}
	}
	return nil
}

// host is the id of the node that is a replica.
func host(replica int) schema.UUID { return schema.UUID{0: 0xbe, 15: byte(replica) + 1} }

// writeAhead is how many raw records may wait for the broker.
const writeAhead = 1 << 16

// write writes the copies of a phase's mutations, and returns how many.
func (k *topics) write(ctx context.Context, p *phase) (int, error) {
	e := newRawEncoder(k.table)
	return k.writeCopies(ctx, rawTopic, p, func(m *bench.Mutation, replica int) ([]byte, int32) {
		value, token := e.encode(m, replica)
		return value, rawtopic.Partition(token, k.partitions)
	})
}

// writeCopies writes the copies of a phase's mutations as encode gives them, with their partitions, and returns how many.
func (k *topics) writeCopies(ctx context.Context, topic string, p *phase, encode func(m *bench.Mutation, replica int) ([]byte, int32)) (written int, err error) {
	var failed atomic.Pointer[error]
	promise := func(_ *kgo.Record, err error) {
		if err != nil {
			failed.CompareAndSwap(nil, &err)
		}
	}
	send := func(m *bench.Mutation, replica int) error {
		value, partition := encode(m, replica)
		written++
		k.client.Produce(ctx, &kgo.Record{Topic: topic, Partition: partition, Value: value}, promise)
		if err := failed.Load(); err != nil {
			return *err
		}
		return ctx.Err()
	}
	if p.copies {
		err = bench.Copies(p.mutations(), p.n, p.delay, send)
	} else {
		var m bench.Mutation
		for mutations, i := p.mutations(), 0; i < p.n && err == nil; i++ {
			mutations.Next(&m)
			err = send(&m, 0)
		}
	}
	if err == nil {
		err = k.client.Flush(ctx)
	}
	if failure := failed.Load(); err == nil && failure != nil {
		err = *failure
	}
	if err != nil {
		return written, fmt.Errorf("write raw records: %w", err)
	}
	return written, nil
}

// rawEncoder makes raw records of mutations.
type rawEncoder struct {
	data   rawtopic.Data
	row    commitlog.Row
	key    [8]byte
	ck     [4]byte
	offset int64
	chunk  []byte // of which values are cut
}

func newRawEncoder(t *schema.Table) *rawEncoder {
	e := &rawEncoder{}
	e.data = rawtopic.Data{Schema: t.Hash(), Key: e.key[:], Deletion: commitlog.LiveDeletion}
	e.row.Clustering = [][]byte{e.ck[:]}
	return e
}

// firstColumn is the index of c0 in the table's definition, behind pk and ck.
const firstColumn = 2

// encode makes the value of a copy's raw record; token is that of its partition key.
func (e *rawEncoder) encode(m *bench.Mutation, replica int) (value []byte, token int64) {
	pk, ck := bench.Key(m.Row)
	putInt(e.key[:], uint64(pk))
	putInt(e.ck[:], uint64(ck))
	e.offset += 200
	e.data.Origin = rawtopic.Origin{Host: host(replica), Position: commitlog.Position{Segment: 1700000000001, Offset: e.offset}}
	e.row.Deletion = commitlog.LiveDeletion
	e.row.Liveness = commitlog.Liveness{Timestamp: commitlog.NoTimestamp, ExpiresAt: commitlog.NoDeletionTime}
	if m.Insert {
		e.row.Liveness.Timestamp = m.Timestamp
	}
	e.row.Cells = e.row.Cells[:0]
	for i, v := range m.Values {
		if m.Mask>>i&1 == 1 {
			e.row.Cells = append(e.row.Cells, commitlog.Cell{Column: firstColumn + i, Timestamp: m.Timestamp, LocalTime: commitlog.NoDeletionTime, Value: v})
		}
	}
	e.data.Rows = append(e.data.Rows[:0], e.row)
	if cap(e.chunk)-len(e.chunk) < 1<<10 {
		e.chunk = make([]byte, 0, 1<<20)
	}
	at := len(e.chunk)
	e.chunk = rawtopic.Append(e.chunk, &rawtopic.Record{Kind: rawtopic.KindData, Data: &e.data})
	return e.chunk[at:len(e.chunk):len(e.chunk)], schema.Token(e.key[:])
}

// putInt writes v, big-endian, into all of dst.
func putInt(dst []byte, v uint64) {
	for i := len(dst) - 1; i >= 0; i, v = i-1, v>>8 {
		dst[i] = byte(v)
	}
}
