package dedup

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/zap"
)

// This file brings parked tables back. Their events are read from the parked topic, from where each table's begin, and are
// written to the clean topics in transactions that move these places in the metadata of the group's position: an event is in the
// clean topic if and only if the place is behind it. New events of the table go on being parked until the reading has come to
// the end of the parked topic; only then is the table no longer parked. So the order is kept, and a crash anywhere leaves
// the place where the last transaction put it.
//
// Parked tables are tried when their partition is opened, and when someone asks for it (RequestRelease). One whose cause is still
// there stays parked.

const (
	// releaseBytes and releaseRecords bound what one transaction releases.
	releaseBytes   = 4 << 20
	releaseRecords = 10_000
	// askEvery is the time between two looks whether someone asks for a release, while tables are parked.
	askEvery = 2 * time.Second
	// releaseTimeout bounds the writing of what one transaction releases.
	releaseTimeout = foldTimeout / 2
)

// release is an attempt at bringing back the parked tables of a raw partition.
type release struct {
	cancel context.CancelFunc
	chunks chan *parkedChunk
	chunk  *parkedChunk // that was taken and is not written yet
	// tables are those that are tried. One whose cause is still there is taken out.
	tables map[string]bool
	// failed are those that the transaction under way takes out.
	failed map[string]error
	// lettered is the offset of the raw record that the last dead letter of the chunk is of.
	lettered int64

	decoder parkedDecoder
}

// parkedChunk is a piece of a partition of the parked topic.
type parkedChunk struct {
	records []*kgo.Record
	next    int64 // the offset behind it
	err     error // nothing more can be read
	// last is set when there was nothing behind it when it was taken.
	last bool
}

// startRelease begins to try the parked tables of a task.
func (s *session) startRelease(ctx context.Context, t *task) {
	if t.release != nil || len(t.parked) == 0 {
		return
	}
	// What was refused may be taken by now.
	s.refusals.reset()
	ctx, cancel := context.WithCancel(ctx)
	r := &release{cancel: cancel, chunks: make(chan *parkedChunk, 1), tables: map[string]bool{}, failed: map[string]error{}}
	for table := range t.parked {
		r.tables[table] = true
	}
	t.release = r
	from := slices.Min(slices.Collect(maps.Values(t.parked)))
	s.beside.Go(func() {
		defer cancel()
		s.readParked(ctx, t.partition, from, r.chunks)
	})
}

// stopRelease ends an attempt.
func (t *task) stopRelease() {
	if t.release != nil {
		t.release.cancel()
		t.release = nil
	}
}

// readParked reads a partition of the parked topic until ctx ends or reading fails.
func (s *session) readParked(ctx context.Context, partition int32, from int64, chunks chan<- *parkedChunk) {
	send := func(c *parkedChunk) bool {
		select {
		case chunks <- c:
			s.wake(false)
			return true
		case <-ctx.Done():
			return false
		}
	}
	cl, err := kgo.NewClient(fetchOptions(s.w.cfg.ClientOpts, kgo.KeepControlRecords(), kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{
		s.w.parkedTopic: {partition: kgo.NewOffset().At(from)},
	}))...)
	if err != nil {
		send(&parkedChunk{err: fmt.Errorf("kafka client: %w", err)})
		return
	}
	defer cl.Close()
	adm := kadm.NewClient(cl)
	for next := from; ; {
		end, err := partitionEnd(ctx, adm, s.w.parkedTopic, partition)
		chunk := &parkedChunk{next: next, err: err}
		for bytes := 0; chunk.err == nil && chunk.next < end && bytes < releaseBytes && len(chunk.records) < releaseRecords; {
			fetches := cl.PollRecords(ctx, releaseRecords-len(chunk.records))
			if ctx.Err() != nil {
				return
			}
			chunk.err = fetchError(fetches)
			fetches.EachRecord(func(r *kgo.Record) {
				// The marks of ended transactions tell how far the reading has come.
				chunk.next = r.Offset + 1
				if !r.Attrs.IsControl() && string(recordHeader(r, HeaderGroup)) == s.w.cfg.Group {
					chunk.records = append(chunk.records, r)
					bytes += len(r.Value)
				}
			})
		}
		next = chunk.next
		if !send(chunk) || chunk.err != nil {
			return
		}
	}
}

// partitionEnd is the offset behind the last record of a partition, open transactions included.
func partitionEnd(ctx context.Context, adm *kadm.Client, topic string, partition int32) (int64, error) {
	ends, err := adm.ListEndOffsets(ctx, topic)
	if err == nil {
		err = ends.Error()
	}
	if err != nil {
		return 0, fmt.Errorf("list the offsets of topic %s: %w", topic, err)
	}
	end, _ := ends.Lookup(topic, partition)
	return end.Offset, nil
}

func recordHeader(r *kgo.Record, key string) []byte {
	for i := range r.Headers {
		if r.Headers[i].Key == key {
			return r.Headers[i].Value
		}
	}
	return nil
}

// takeChunks takes what was read of the parked topic, one chunk of each partition. It is called between transactions.
func (s *session) takeChunks(ctx context.Context) {
	for _, t := range s.tasks {
		if t.release == nil || t.release.chunk != nil {
			continue
		}
		select {
		case c := <-t.release.chunks:
			if c.err == nil {
				var end int64
				end, c.err = partitionEnd(ctx, kadm.NewClient(s.w.admin), s.w.parkedTopic, t.partition)
				c.last = c.next >= end
			}
			if c.err != nil {
				t.log.Warn("parked events cannot be read; the tables stay parked. Remove the cause, then run: cassdelta group release",
					zap.String("parked topic", s.w.parkedTopic), zap.Error(c.err))
				t.stopRelease()
				continue
			}
			if len(c.records) > 0 || c.last {
				t.release.chunk = c
			}
		default:
		}
	}
}

// releasing reports whether parked events wait to be written.
func (s *session) releasing() bool {
	for _, t := range s.tasks {
		if t.release != nil && t.release.chunk != nil {
			return true
		}
	}
	return false
}

// releaseParked writes what was read of the parked topic. It is the first that a transaction does, so that what it folds comes
// behind.
func (s *session) releaseParked(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), releaseTimeout)
	defer cancel()
	for _, t := range s.tasks {
		if t.release == nil || t.release.chunk == nil {
			continue
		}
		t.refusing = s.refusals.final
		err := t.begin(ctx, s.produce)
		if err == nil {
			err = t.releaseChunk()
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// releaseChunk writes the events of a chunk whose tables are tried.
func (t *task) releaseChunk() error {
	r := t.release
	r.lettered = -1
	for _, rec := range r.chunk.records {
		table := string(rec.Key)
		at, isParked := t.parked[table]
		if !isParked || !r.tables[table] || r.failed[table] != nil || rec.Offset < at {
			continue
		}
		if err := t.releaseOne(table, rec); err != nil {
			var cause *TableError
			if !errors.As(err, &cause) {
				return &againError{fmt.Errorf("release the events of table %s: %w", table, err)}
			}
			r.failed[table] = cause.Err
			t.parked[table] = rec.Offset
		}
	}
	for table := range r.tables {
		switch {
		case r.failed[table] != nil:
		case r.chunk.last:
			delete(t.parked, table)
		default:
			t.parked[table] = max(t.parked[table], r.chunk.next)
		}
	}
	t.moved = true
	return nil
}

// releaseOne writes one parked event.
func (t *task) releaseOne(table string, rec *kgo.Record) error {
	var e Event
	if err := t.release.decoder.decode(rec.Value, &e); err != nil {
		return &TableError{Table: table, Err: fmt.Errorf("topic %s, partition %d, offset %d: %w", rec.Topic, rec.Partition, rec.Offset, err)}
	}
	t.spent++
	switch err := t.write(&e); {
	case isNever(err):
		if t.release.lettered == e.RawOffset {
			return nil
		}
		t.release.lettered = e.RawOffset
		raw := &kgo.Record{Topic: t.w.topic.Name, Partition: e.RawPartition, Offset: e.RawOffset, Value: t.w.rawValue(t.ctx, e.RawPartition, e.RawOffset)}
		if err := t.letter(raw, deadEvent, fmt.Errorf("event %d of the record: %w", e.Index, err)); err != nil {
			return err
		}
	case err != nil:
		return err
	default:
		t.count(&e)
	}
	if t.counts.released == nil {
		t.counts.released = map[string]int64{}
	}
	t.counts.released[table]++
	return nil
}

// rawValueTimeout bounds the reading of one raw record for a dead letter.
const rawValueTimeout = 3 * time.Second

// rawValue reads the value of a raw record, nil if the topic has it no longer: its dead letter still says which it was.
func (w *Worker) rawValue(ctx context.Context, partition int32, offset int64) []byte {
	ctx, cancel := context.WithTimeout(ctx, rawValueTimeout)
	defer cancel()
	cl, err := kgo.NewClient(fetchOptions(w.cfg.ClientOpts, kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{
		w.topic.Name: {partition: kgo.NewOffset().At(offset)},
	}))...)
	if err != nil {
		return nil
	}
	defer cl.Close()
	for _, r := range cl.PollRecords(ctx, 1).Records() {
		if r.Offset == offset {
			return r.Value
		}
	}
	return nil
}

// chunkWritten is called once the transaction that wrote a chunk is committed.
func (t *task) chunkWritten() {
	r := t.release
	if r == nil || r.chunk == nil {
		return
	}
	last := r.chunk.last
	r.chunk = nil
	for table, err := range r.failed {
		delete(r.tables, table)
		t.log.Warn("a table stays parked; remove the cause, then run: cassdelta group release", zap.String("table", table), zap.Error(err))
	}
	clear(r.failed)
	if last {
		for table := range r.tables {
			t.log.Info("a table is no longer parked", zap.String("table", table))
		}
	}
	if last || len(r.tables) == 0 {
		t.stopRelease()
	}
}

// releaseGroup is the consumer group whose committed positions in the parked topic are requests to try its tables again. The
// metadata of a position is what tells one request from another.
func releaseGroup(group string) string { return group + "-release" }

// askedToRelease begins the releases that someone asked for.
func (s *session) askedToRelease(ctx context.Context) {
	var partitions []int32
	for p, t := range s.tasks {
		if len(t.parked) > 0 {
			partitions = append(partitions, p)
		}
	}
	if len(partitions) == 0 || time.Since(s.asked) < askEvery {
		return
	}
	s.asked = time.Now()
	requests, err := releaseRequests(ctx, kadm.NewClient(s.w.admin), s.w.cfg.Group, s.w.parkedTopic)
	if err != nil {
		s.log.Debug("cannot ask whether parked tables are to be released", zap.Error(err))
		return
	}
	for _, p := range partitions {
		if t := s.tasks[p]; requests[p] != t.request {
			t.request = requests[p]
			s.startRelease(ctx, t)
		}
	}
}

// releaseRequests are the last requests of each partition.
func releaseRequests(ctx context.Context, adm *kadm.Client, group, parkedTopic string) (map[int32]string, error) {
	ctx, cancel := context.WithTimeout(ctx, leaveTimeout)
	defer cancel()
	answer, err := adm.FetchOffsets(ctx, releaseGroup(group))
	if errors.Is(err, kerr.GroupIDNotFound) {
		return nil, nil
	}
	if err == nil {
		err = answer.Error()
	}
	if err != nil {
		return nil, fmt.Errorf("fetch the positions of group %s: %w", releaseGroup(group), err)
	}
	requests := map[int32]string{}
	for p, o := range answer[parkedTopic] {
		requests[p] = o.Metadata
	}
	return requests, nil
}
