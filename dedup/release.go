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
//
// A release takes a part of a transaction, over all partitions of the session, and a commit interval: folding goes on beside it. What
// is read of the parked topic and not written yet is bounded over all partitions too: they read it in turns.

const (
	// releaseBytes and releaseRecords bound what is read of a partition in one turn. The last fetch may be more.
	releaseBytes   = 4 << 20
	releaseRecords = 10_000
	// releaseTurns is how many partitions of a session have a turn at once: what one read is written while the other reads.
	releaseTurns = 2
	// turnTimeout is how long a partition that can read nothing keeps its turn. An open transaction may hold it up, or a broker.
	turnTimeout = 5 * time.Second
	// foldShare is the part of the events and bytes of a transaction that is left for folding: one in so many. It is less than half, so that
	// what goes on being parked meanwhile is caught up with.
	foldShare = 4
	// askEvery is the time between two looks whether someone asks for a release, while tables are parked.
	askEvery = 2 * time.Second
	// releaseTimeout bounds the writing of what one transaction releases.
	releaseTimeout = foldTimeout / 2
)

// release is an attempt at bringing back the parked tables of a raw partition.
type release struct {
	cancel context.CancelFunc
	chunks chan *parkedChunk
	// written ends the turn that a chunk was read in.
	written chan struct{}
	chunk   *parkedChunk // that was taken and is not written yet
	// at is how far the chunk is written, as of the transaction under way, and before as of the last.
	at, before releasePlace
	// tables are those that are tried. One whose cause is still there is taken out.
	tables map[string]bool
	// failed are those that the transaction under way takes out.
	failed map[string]error

	decoder parkedDecoder
}

// releasePlace is a place in what is released.
type releasePlace struct {
	next int // of the records of the chunk
	// lettered is the offset of the raw record that the last dead letter is of, -1 if there is none.
	lettered int64
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
	r := &release{
		cancel: cancel, chunks: make(chan *parkedChunk, 1), written: make(chan struct{}, 1), tables: map[string]bool{}, failed: map[string]error{},
		at: releasePlace{lettered: -1}, before: releasePlace{lettered: -1},
	}
	for table := range t.parked {
		r.tables[table] = true
	}
	t.release = r
	from := slices.Min(slices.Collect(maps.Values(t.parked)))
	s.beside.Go(func() {
		defer cancel()
		s.readParked(ctx, t.partition, from, r)
	})
}

// stopRelease ends an attempt.
func (t *task) stopRelease() {
	if t.release != nil {
		t.release.cancel()
		t.release = nil
	}
}

// readParked reads a partition of the parked topic, a chunk in each turn, until ctx ends or reading fails.
func (s *session) readParked(ctx context.Context, partition int32, from int64, r *release) {
	for next := from; ; {
		// Who waits longest is next.
		if s.turns.Acquire(ctx, 1) != nil {
			return
		}
		chunk := s.readChunk(ctx, partition, next)
		over := s.handOver(ctx, chunk, r)
		s.turns.Release(1)
		if over || chunk.err != nil {
			return
		}
		next = chunk.next
	}
}

// handOver gives a chunk to the session and waits until it is written. It is over if ctx ends.
func (s *session) handOver(ctx context.Context, c *parkedChunk, r *release) (over bool) {
	select {
	case r.chunks <- c:
		s.wake(false)
	case <-ctx.Done():
		return true
	}
	select {
	case <-r.written:
		return false
	case <-ctx.Done():
		return true
	}
}

// readChunk reads one chunk. Its client ends with it, so that no client keeps what it fetched while others have their turn.
func (s *session) readChunk(ctx context.Context, partition int32, from int64) *parkedChunk {
	chunk := &parkedChunk{next: from}
	cl, err := kgo.NewClient(fetchOptions(s.w.cfg.ClientOpts, kgo.KeepControlRecords(), kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{
		s.w.parkedTopic: {partition: kgo.NewOffset().At(from)},
	}))...)
	if err != nil {
		chunk.err = fmt.Errorf("kafka client: %w", err)
		return chunk
	}
	defer cl.Close()
	end, err := partitionEnd(ctx, kadm.NewClient(cl), s.w.parkedTopic, partition)
	chunk.err = err
	turn, cancel := context.WithTimeout(ctx, turnTimeout)
	defer cancel()
	for bytes := 0; chunk.err == nil && turn.Err() == nil && chunk.next < end && bytes < releaseBytes && len(chunk.records) < releaseRecords; {
		fetches := cl.PollRecords(turn, releaseRecords-len(chunk.records))
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
	return chunk
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
				t.release.take(c)
			} else {
				t.release.written <- struct{}{}
			}
		default:
		}
	}
}

// take begins a chunk.
func (r *release) take(c *parkedChunk) {
	r.chunk = c
	r.at.next, r.before.next = 0, 0
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

// releaseParked writes what was read of the parked topic, as far as there is room in the transaction. It is the first that a transaction
// does, so that what it folds comes behind.
func (s *session) releaseParked(ctx context.Context) error {
	var active []*task
	for _, t := range s.tasks {
		if t.release != nil && t.release.chunk != nil {
			active = append(active, t)
		}
	}
	if len(active) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), releaseTimeout)
	defer cancel()
	deadline := time.Now().Add(s.w.cfg.CommitInterval)
	events, bytes := int64(s.w.cfg.MaxEventsPerTxn), maxTxnBytes
	events, bytes = events-events/foldShare, bytes-bytes/foldShare
	for i, t := range active {
		// What one does not need the next have.
		left := len(active) - i
		share := allowance{events: max(1, events/int64(left)), bytes: max(1, bytes/left), deadline: deadline}
		t.refusing = s.refusals.final
		err := t.begin(ctx, s.produce)
		spent, produced := t.spent, t.produced
		if err == nil {
			err = t.releaseChunk(share)
		}
		if err != nil {
			return err
		}
		events -= t.spent - spent
		bytes -= t.produced - produced
	}
	return nil
}

// releaseChunk writes the events of a chunk whose tables are tried, until the allowance is spent; some progress it makes in any case. What is
// left is for the next transactions.
func (t *task) releaseChunk(a allowance) error {
	r := t.release
	eventsEnd, bytesEnd := t.spent+a.events, t.produced+a.bytes
	begun := t.spent
	for ; r.at.next < len(r.chunk.records); r.at.next++ {
		if t.spent > begun && (t.spent >= eventsEnd || t.produced >= bytesEnd || !time.Now().Before(a.deadline)) {
			break
		}
		rec := r.chunk.records[r.at.next]
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
	whole := r.at.next == len(r.chunk.records)
	next := r.chunk.next
	if !whole {
		next = r.chunk.records[r.at.next].Offset
	}
	for table := range r.tables {
		switch {
		case r.failed[table] != nil:
		case whole && r.chunk.last:
			delete(t.parked, table)
		default:
			t.parked[table] = max(t.parked[table], next)
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
		if t.release.at.lettered == e.RawOffset {
			return nil
		}
		t.release.at.lettered = e.RawOffset
		raw := &kgo.Record{Topic: t.w.topic.Name, Partition: e.RawPartition, Offset: e.RawOffset, Value: t.w.rawValue(t.ctx, e.RawPartition, e.RawOffset)}
		if err := t.letter(raw, e.Index, deadEvent, fmt.Errorf("event %d of the record: %w", e.Index, err)); err != nil {
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

// chunkWritten is called once a transaction is committed that wrote a chunk, or a part of it.
func (t *task) chunkWritten() {
	r := t.release
	if r == nil || r.chunk == nil {
		return
	}
	r.before = r.at
	for table, err := range r.failed {
		delete(r.tables, table)
		t.log.Warn("a table stays parked; remove the cause, then run: cassdelta group release", zap.String("table", table), zap.Error(err))
	}
	clear(r.failed)
	if len(r.tables) == 0 {
		t.stopRelease()
		return
	}
	if r.at.next < len(r.chunk.records) {
		// What the transaction parked is behind the chunk.
		r.chunk.last = false
		return
	}
	if r.chunk.last {
		for table := range r.tables {
			t.log.Info("a table is no longer parked", zap.String("table", table))
		}
		t.stopRelease()
		return
	}
	r.chunk = nil
	r.written <- struct{}{}
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
