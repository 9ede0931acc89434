// Package reemit writes the rows of a table from the state of dedup into a topic, each as an event of op r: what a new reader begins with, without a
// question to Cassandra.
//
// The events are those of a clean topic (package sink), under a prefix of their own. Raw partitions come one after the other, and the rows of each in the order of the state's keys,
// which is the same each time. The headers of an event have the state's position S and the number of the row, so the last record of a partition of
// the topic says how far an attempt before came: brokers and client see to it that what is written of a partition is the first so many of its records. An attempt
// that was broken off is gone on with, and one that was finished is repeated without a record.
package reemit

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/zap"

	"cassdelta/dedup"
	"cassdelta/internal/inspect"
	"cassdelta/schema"
	"cassdelta/state"
)

// HeaderState is the header of an event that says which state it is of: "1234+0", the position S of its raw partition. A reader goes on in the clean
// topic with the events of that raw partition whose offset and index are not before it.
const HeaderState = "cassdelta.state"

// Config says what is written where.
type Config struct {
	Source inspect.Source
	// Table is keyspace.table.
	Table string
	// ClientOpts are those of a connection to Kafka.
	ClientOpts []kgo.Opt
	// Topic is where Emitter writes events of the table to.
	Topic   string
	Emitter dedup.Emitter
	Log     *zap.Logger
}

// Result is what was written.
type Result struct {
	Table         string `json:"table"`
	Topic         string `json:"topic"`
	RawPartitions int32  `json:"raw_partitions"`
	// Rows are all; Before are those of them that an attempt before had written.
	Rows   int64 `json:"rows"`
	Before int64 `json:"before"`
}

const (
	// bufferedBytes bounds what waits to be written.
	bufferedBytes = 16 << 20
	progressEvery = 5 * time.Second
	lookTimeout   = 30 * time.Second
)

// place is which row of which state a record is of.
type place struct {
	partition int32
	state     string
	index     int64
}

// emission is one call of Run.
type emission struct {
	cfg    Config
	client *kgo.Client
	// written has the last record of each partition of the topic, by its number, as an attempt before left it.
	written map[int32]place
	// parts is how many partitions the topic has, 0 if it is not there.
	parts  int32
	failed atomic.Pointer[error]
	next   int64 // row of the raw partition
	result Result
	said   time.Time
}

// Run writes all rows, and returns when brokers have them.
func Run(ctx context.Context, cfg Config) (Result, error) {
	client, err := kgo.NewClient(append(cfg.ClientOpts[:len(cfg.ClientOpts):len(cfg.ClientOpts)],
		kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.RequiredAcks(kgo.AllISRAcks()), kgo.MaxBufferedBytes(bufferedBytes),
		kgo.ProducerBatchMaxBytesFn(cfg.Emitter.MaxBatchBytes))...)
	if err != nil {
		return Result{}, fmt.Errorf("kafka client: %w", err)
	}
	defer client.Close()
	e := &emission{cfg: cfg, client: client, written: map[int32]place{}, result: Result{Table: cfg.Table, Topic: cfg.Topic}, said: time.Now()}
	if err := e.look(ctx); err != nil {
		return Result{}, err
	}
	partitions, err := cfg.Source.Partitions(ctx)
	if err != nil {
		return Result{}, err
	}
	known := false
	for _, p := range partitions {
		has, err := e.partition(ctx, p, len(partitions))
		if err != nil {
			return Result{}, fmt.Errorf("raw partition %d: %w", p, err)
		}
		known = known || has
	}
	if !known {
		return Result{}, fmt.Errorf("%w: the table %s", inspect.ErrNotFound, cfg.Table)
	}
	if err := client.Flush(ctx); err != nil {
		return Result{}, err
	}
	if err := e.failed.Load(); err != nil {
		return Result{}, *err
	}
	e.result.RawPartitions = int32(len(partitions))
	return e.result, nil
}

// look finds how far an attempt before came.
func (e *emission) look(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, lookTimeout, errors.New("the brokers did not answer in time"))
	defer cancel()
	adm := kadm.NewClient(e.client)
	starts, err := adm.ListStartOffsets(ctx, e.cfg.Topic)
	var ends kadm.ListedOffsets
	if err == nil {
		ends, err = adm.ListEndOffsets(ctx, e.cfg.Topic)
	}
	if err == nil {
		err = errors.Join(starts.Error(), ends.Error())
	}
	if errors.Is(err, kerr.UnknownTopicOrPartition) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("list the offsets of topic %s: %w", e.cfg.Topic, err)
	}
	from := map[int32]kgo.Offset{}
	ends.Each(func(end kadm.ListedOffset) {
		e.parts = max(e.parts, end.Partition+1)
		if start, _ := starts.Lookup(e.cfg.Topic, end.Partition); end.Offset > start.Offset {
			from[end.Partition] = kgo.NewOffset().At(end.Offset - 1)
		}
	})
	if len(from) == 0 {
		return nil
	}
	cl, err := kgo.NewClient(append(e.cfg.ClientOpts[:len(e.cfg.ClientOpts):len(e.cfg.ClientOpts)],
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{e.cfg.Topic: from}), kgo.KeepControlRecords())...)
	if err != nil {
		return fmt.Errorf("kafka client: %w", err)
	}
	defer cl.Close()
	for len(e.written) < len(from) {
		fetches := cl.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			return fmt.Errorf("read topic %s: %w", e.cfg.Topic, err)
		}
		for _, r := range fetches.Records() {
			if e.written[r.Partition], err = placeOf(r); err != nil {
				return fmt.Errorf("topic %s, partition %d, offset %d: %w; give a --topic-prefix that nothing else is written under", r.Topic, r.Partition, r.Offset, err)
			}
		}
	}
	return nil
}

var errNotOurs = errors.New("the record is not one of a state")

func placeOf(r *kgo.Record) (p place, err error) {
	number := func(text []byte) (n int64) {
		if n, err = strconv.ParseInt(string(text), 10, 64); err != nil {
			err = errNotOurs
		}
		return n
	}
	for _, h := range r.Headers {
		switch h.Key {
		case dedup.HeaderRawPartition:
			p.partition = int32(number(h.Value))
		case dedup.HeaderIndex:
			p.index = number(h.Value)
		case HeaderState:
			p.state = string(h.Value)
		}
		if err != nil {
			return p, err
		}
	}
	if p.state == "" {
		return p, errNotOurs
	}
	return p, nil
}

// partition writes the rows of a raw partition. It reports whether the state knows the table.
func (e *emission) partition(ctx context.Context, p int32, found int) (known bool, err error) {
	r, closeReader, err := e.cfg.Source.Open(ctx, p)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, closeReader()) }()
	if n := int(r.Identity().Partitions); n != found {
		return false, fmt.Errorf("the raw topic has %d partitions, and the state of %d is here: rows would be missing; take the checkpoints", n, found)
	}
	at, ok := r.Position()
	if !ok {
		return false, nil
	}
	i, err := dedup.Inspect(r)
	if err != nil {
		return false, err
	}
	defer i.Close()
	tables, err := i.Tables()
	if err != nil {
		return false, err
	}
	e.next = 0
	for _, t := range tables { // of which two have the name while one that was dropped and made again has rows left
		if t.FullName() != e.cfg.Table {
			continue
		}
		known = true
		if err := e.table(ctx, i, t, p, at); err != nil {
			return known, err
		}
	}
	return known, nil
}

func (e *emission) table(ctx context.Context, i *dedup.Inspector, t *schema.Table, p int32, at state.Position) error {
	done := int64(0) // rows that are there
	if e.parts > 0 {
		switch last, ok := e.written[p%e.parts]; {
		case !ok || last.partition < p:
		case last.partition > p:
			done = 1<<63 - 1
		case last.state != at.String():
			return fmt.Errorf("the topic %s has rows of the state at %s, and this one is at %s: go on with the savepoint with which it was begun, or give another --topic-prefix",
				e.cfg.Topic, last.state, at)
		default:
			done = last.index + 1
		}
	}
	header := kgo.RecordHeader{Key: HeaderState, Value: []byte(at.String())}
	return i.Reads(t, func(ev *dedup.Event) error {
		ev.Index = e.next
		e.next++
		e.result.Rows++
		if time.Since(e.said) >= progressEvery {
			e.said = time.Now()
			e.cfg.Log.Info("writing rows", zap.Int32("raw partition", p), zap.Int64("rows", e.result.Rows))
		}
		if err := e.failed.Load(); err != nil {
			return *err
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if ev.Index < done {
			e.result.Before++
			return nil
		}
		rec := new(kgo.Record)
		if _, err := e.cfg.Emitter.Encode(ctx, ev, rec, nil); err != nil {
			return fmt.Errorf("row %d cannot be written: %w", ev.Index, err)
		}
		rec.Headers = append(rec.Headers, header)
		e.client.Produce(ctx, rec, func(r *kgo.Record, err error) {
			if err != nil {
				err = fmt.Errorf("topic %s, partition %d: %w", r.Topic, r.Partition, err)
				e.failed.CompareAndSwap(nil, &err)
			}
		})
		return nil
	})
}
