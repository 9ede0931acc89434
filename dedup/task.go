package dedup

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/zap"

	"cassdelta/internal/rawtopic"
	"cassdelta/schema"
	"cassdelta/state"
)

// folder is what a task needs of a [Fold].
type folder interface {
	Use(Settings)
	Enter(*state.Txn, Settings) error
	Copy(value []byte) bool
	Apply(tx *state.Txn, offset int64, rec *rawtopic.Record, done, limit int64, emit func(*Event) error) (emitted int64, finished bool, err error)
	Paused() bool
	Stats() Stats
}

// task is one raw partition: its state, and the records of it that were read and are not committed. It is for one
// goroutine at a time.
type task struct {
	w         *Worker
	log       *zap.Logger
	partition int32
	store     *state.Store
	giveBack  func() // of the lease
	fold      folder
	decoder   rawtopic.Decoder
	record    rawtopic.Record // the decoded records[next], if decoded is set
	decoded   bool

	// committed is C; the store is at it too while no transaction is under way.
	committed committed
	// records are those from committed on; the first next of them are folded, and done events of the one after.
	records []*kgo.Record
	next    int
	done    int64
	bytes   int   // of the values of records
	read    int64 // offset after the last of records
	end     int64 // of the log, as of the last fetch
	paused  bool  // in the fetching client, because enough records wait

	// Of the transaction under way.
	tx       *state.Txn
	ctx      context.Context
	produce  func(*kgo.Record) // nil during replay: nothing is emitted
	emit     func(*Event) error
	emitErr  error // why emit failed last
	slab     slab
	produced int   // bytes
	spent    int64 // events and dead letters
	counts   txnCounts
	stats    Stats // of the fold when the transaction began
	lettered int64 // offset of the raw record that the last dead letter is of, -1 if there is none
	options  optionsOf
	reported int // how many unsupported tables the log has

	// epochs are those from the one on that the fold is in, as of the transaction under way, and before as of the last; known
	// are those that the position names. stored is the text of the one in the store.
	epochs, before, known epochs
	knownText, stored     string

	// parked are the tables whose events are parked, as of the transaction under way; committed has what they were before.
	parked   parked
	refusing map[string]error // topics that take no records
	shown    parked           // in the metrics
	release  *release         // nil unless parked tables are tried again
	request  string           // to release them, the last that was seen
	moved    bool             // the transaction altered where parked tables begin, or went on within a record, though its position may be the same
}

// txnCounts are published once the transaction is committed.
type txnCounts struct {
	records int64
	events  map[*schema.Table]opCounts
	left    int64            // events that the options of their tables leave out
	dead    map[string]int64 // by reason
	// deadOffset and deadError are of the first of them.
	deadOffset int64
	deadError  error
	// By table, events that were parked and released.
	parked, released map[string]int64
	newlyParked      []newlyParked
}

// opCounts are events by op.
type opCounts struct{ create, update, delete, read int64 }

func newTask(w *Worker, partition int32, store *state.Store, giveBack func(), pool *slabPool) *task {
	t := &task{
		w: w, log: w.cfg.Log.With(zap.Int32("raw partition", partition)), partition: partition,
		store: store, giveBack: giveBack, fold: w.newFold(partition), slab: slab{pool: pool}, lettered: -1,
		options: optionsOf{byName: w.cfg.Tables},
		counts:  txnCounts{events: map[*schema.Table]opCounts{}, dead: map[string]int64{}},
	}
	t.emit = t.emitEvent
	t.startIn(epochs{{number: 1, settings: w.settings}}, committed{})
	return t
}

// close stores what was committed and gives the partition free.
func (t *task) close() error {
	defer t.giveBack()
	t.stopRelease()
	t.showParked(nil)
	t.w.checkpoints.remove(t.partition)
	t.w.metrics.progress.remove(t.partition)
	t.w.metrics.stores.remove(t.partition)
	return t.store.Close()
}

// at is the position up to which records are folded.
func (t *task) at() state.Position {
	switch {
	case t.done > 0 && t.waiting() > 0:
		return state.Position{Offset: t.records[t.next].Offset, Done: t.done}
	case t.next > 0:
		return state.Position{Offset: t.records[t.next-1].Offset + 1}
	}
	return t.committed.Position
}

// position is what the transaction commits.
func (t *task) position(topic schema.UUID) committed {
	c := committed{Position: t.at(), epoch: t.epoch(), topic: topic, epochs: t.knownText}
	c.lettered = c.Done > 0 && t.lettered == c.Offset
	if c.Offset < t.committed.restored {
		c.restored = t.committed.restored
	}
	return c
}

// epoch is that of the last record before at.
func (t *task) epoch() int32 {
	switch {
	case t.done > 0 && t.waiting() > 0:
		return t.records[t.next].LeaderEpoch
	case t.next > 0:
		return t.records[t.next-1].LeaderEpoch
	}
	return t.committed.epoch
}

// waiting is how many records are not folded.
func (t *task) waiting() int { return len(t.records) - t.next }

// take adds a record that was read. What was read before is left out: a fetch may repeat it.
func (t *task) take(r *kgo.Record) error {
	if r.Offset < t.read {
		return nil
	}
	if len(t.records) == 0 && t.committed.Done > 0 && r.Offset != t.committed.Offset {
		return &stopError{&PositionError{Topic: t.w.topic.Name, Partition: t.partition, Reason: fmt.Sprintf(
			"%d events of the record at offset %d are out, and the log now goes on at offset %d: the rest of that record was deleted before it was folded; "+
				"restore the topic, or start over with another group and an empty state directory", t.committed.Done, t.committed.Offset, r.Offset)}}
	}
	t.records = append(t.records, r)
	t.bytes += len(r.Value)
	t.read = r.Offset + 1
	return nil
}

// begin begins a transaction, or a run of a replay if produce is nil.
func (t *task) begin(ctx context.Context, produce func(*kgo.Record)) error {
	t.ctx, t.produce = ctx, produce
	if t.tx != nil {
		return nil
	}
	t.tx = t.store.Begin()
	t.stats = t.fold.Stats()
	if produce == nil {
		return nil
	}
	return t.switchEpoch()
}

// allowance bounds a call of advance.
type allowance struct {
	events   int64 // events and dead letters
	bytes    int   // of the overlay and of produced records
	deadline time.Time
	// until is where a replay ends; nil if it is none.
	until *state.Position
}

// applyLimit is how many events one call of the fold may make, so that their bytes are looked at now and then.
const applyLimit = 512

// clockEvery is how many calls of the fold there are between two looks at the clock, which takes as long as a copy does.
const clockEvery = 16

// advance folds records until none waits or the allowance is spent; some progress it makes in any case.
func (t *task) advance(a allowance) error {
	eventsEnd, bytesEnd := t.spent+a.events, t.tx.Bytes()+t.produced+a.bytes
	for n := 0; t.waiting() > 0 && t.spent < eventsEnd && t.tx.Bytes()+t.produced < bytesEnd; n++ {
		raw := t.records[t.next]
		limit := min(eventsEnd-t.spent, applyLimit)
		if a.until != nil {
			if a.until.Compare(state.Position{Offset: raw.Offset, Done: t.done}) <= 0 {
				return nil
			}
			if t.done == 0 {
				if err := t.enterDue(raw.Offset); err != nil {
					return err
				}
			}
			if raw.Offset == a.until.Offset {
				limit = min(limit, a.until.Done-t.done)
			}
		}
		finished, err := t.foldOne(raw, limit)
		if err != nil {
			return err
		}
		if finished && a.until != nil && raw.Offset == a.until.Offset {
			if t.done == a.until.Done {
				return nil // a position that was recovered from its last event; folded once more it makes none
			}
			return t.diverged(raw, fmt.Sprintf("%d events of it are out, and folding it again made only %d", a.until.Done, t.done))
		}
		if finished {
			t.next, t.done, t.decoded = t.next+1, 0, false
			t.counts.records++
		}
		if (n%clockEvery == clockEvery-1 || t.fold.Paused()) && !time.Now().Before(a.deadline) {
			return nil
		}
	}
	return nil
}

// foldOne folds one record, or goes on with it, for at most limit events.
func (t *task) foldOne(raw *kgo.Record, limit int64) (finished bool, err error) {
	if !t.decoded {
		if t.done == 0 && t.fold.Copy(raw.Value) {
			return true, nil
		}
		if err := t.decoder.Decode(raw.Value, &t.record); err != nil {
			return t.undecodable(raw, err)
		}
		t.decoded = true
	}
	emitted, finished, err := t.fold.Apply(t.tx, raw.Offset, &t.record, t.done, limit, t.emit)
	if err != nil {
		return t.refused(raw, emitted, err)
	}
	if t.fold.Paused() {
		t.moved = true
	} else if emitted == 0 && !finished {
		return false, t.diverged(raw, fmt.Sprintf("it is not finished after %d events, and makes no more", t.done))
	}
	t.done += emitted
	return finished, nil
}

// refused puts a record aside that cannot be folded, and ends the transaction for any other reason.
func (t *task) refused(raw *kgo.Record, emitted int64, err error) (finished bool, _ error) {
	if t.emitErr != nil {
		return false, t.emitErr
	}
	var refused *RecordError
	if errors.As(err, &refused) && t.done == 0 && emitted == 0 {
		return true, t.putAside(raw, deadRecord, err)
	}
	return false, &stopError{fmt.Errorf("raw topic %s, partition %d, offset %d: %w", t.w.topic.Name, t.partition, raw.Offset, err)}
}

func (t *task) diverged(raw *kgo.Record, what string) error {
	return &stopError{fmt.Errorf("raw topic %s, partition %d: the fold of the record at offset %d is not the same twice: %s; "+
		"this is a fault in the program, please report it; the state directory and the record are needed to find it", t.w.topic.Name, t.partition, raw.Offset, what)}
}

// undecodable puts a record aside that is damaged. One in a form that is not known may well mean something to
// another version of the program, so it is never skipped.
func (t *task) undecodable(raw *kgo.Record, err error) (finished bool, _ error) {
	var unknown *rawtopic.FingerprintError
	if errors.As(err, &unknown) {
		return false, &stopError{fmt.Errorf("raw topic %s, partition %d, offset %d: %w; if agents are newer than this program, update it",
			t.w.topic.Name, t.partition, raw.Offset, err)}
	}
	return true, t.putAside(raw, deadFormat, err)
}

// putAside produces the dead letter of a record, unless there is one.
func (t *task) putAside(raw *kgo.Record, reason string, err error) error {
	if t.lettered == raw.Offset {
		return nil
	}
	t.lettered = raw.Offset
	return t.letter(raw, -1, reason, err)
}

// letter produces a dead letter; index is that of [deadLetter].
func (t *task) letter(raw *kgo.Record, index int64, reason string, err error) error {
	if t.produce == nil {
		return nil
	}
	rec, _ := t.slab.next()
	deadLetter(rec, t.w.cfg.DeadLetterTopic, t.w.cfg.Group, raw, index, err)
	t.slab.keep(nil)
	t.produce(rec)
	t.produced += len(rec.Value)
	t.spent++
	t.counts.dead[reason]++
	if t.counts.deadError == nil {
		t.counts.deadOffset, t.counts.deadError = raw.Offset, err
	}
	return nil
}

// emitEvent encodes and produces an event.
func (t *task) emitEvent(e *Event) error {
	t.spent++
	if t.produce == nil {
		return nil
	}
	if t.options.table(e.Table).leaves(e) {
		t.counts.left++
		return nil
	}
	if len(t.parked) > 0 {
		table := tableName(e.Table)
		if _, isParked := t.parked[table]; isParked {
			return t.park(table, e)
		}
	}
	if err := t.write(e); err != nil {
		return t.unencodable(e, err)
	}
	t.count(e)
	return nil
}

// write encodes and produces an event.
func (t *task) write(e *Event) error {
	rec, buf := t.slab.next()
	buf, err := t.w.cfg.Emitter.Encode(t.ctx, e, rec, buf)
	if err != nil {
		return err
	}
	if len(t.refusing) > 0 {
		if err := t.refusing[rec.Topic]; err != nil {
			return &TableError{Table: tableName(e.Table), Err: err}
		}
	}
	t.slab.keep(buf)
	t.produced += len(buf)
	t.produce(rec)
	return nil
}

func (t *task) count(e *Event) {
	counts := t.counts.events[e.Table]
	switch e.Op {
	case Create:
		counts.create++
	case Update:
		counts.update++
	case Delete:
		counts.delete++
	case Read:
		counts.read++
	}
	t.counts.events[e.Table] = counts
}

// unencodable deals with an event that could not be written.
func (t *task) unencodable(e *Event, err error) error {
	var table *TableError
	switch {
	case isNever(err):
		return t.letterOnce(e, err)
	case errors.As(err, &table):
		name := tableName(e.Table)
		if t.emitErr = t.parkTable(name, table.Err); t.emitErr != nil {
			return t.emitErr
		}
		return t.park(name, e)
	}
	t.emitErr = &againError{fmt.Errorf("encode events: %w", err)}
	return t.emitErr
}

// isNever reports whether an event can never be written.
func isNever(err error) bool {
	var never *schema.AvroError
	var large *TooLargeError
	return errors.As(err, &never) || errors.As(err, &large)
}

// letterOnce puts the record aside of an event that can never be written; once, if it makes many such.
func (t *task) letterOnce(e *Event, err error) error {
	return t.putAside(t.records[t.next], deadEvent, fmt.Errorf("event %d of the record: %w", e.Index, err))
}

// apply puts what the transaction did into the store. It is called once its positions are committed.
func (t *task) apply(c committed) error {
	tx := t.tx
	t.tx = nil
	if t.stored == "" || t.epochs[0] != t.before[0] {
		t.stored = t.epochs[0].text()
		tx.SetEpoch(t.stored)
	}
	if err := tx.Commit(c.Position); err != nil {
		return &stopError{fmt.Errorf("raw topic %s, partition %d: the events up to %v are out and the state is not stored: %w; "+
			"nothing is lost: at the next start these records are folded again without events", t.w.topic.Name, t.partition, c, err)}
	}
	if t.produce != nil && t.epochs[0] != t.before[0] {
		t.log.Info("the fold goes by other settings", zap.String("epoch", t.epochs[0].text()), zap.String("before", t.before[0].text()))
	}
	t.committed, t.before = c, t.epochs
	t.chunkWritten()
	for _, r := range t.records[:t.next] {
		t.bytes -= len(r.Value)
	}
	left := copy(t.records, t.records[t.next:])
	clear(t.records[left:])
	t.records, t.next = t.records[:left], 0
	t.publish()
	t.ended()
	return t.tend()
}

// warmRows is how many rows are read into the row cache at a time, which takes some milliseconds.
const warmRows = 4096

// tend does what is due for the store while no transaction is open.
func (t *task) tend() error {
	if _, err := t.store.Warm(warmRows); err != nil {
		return &stopError{err}
	}
	if err := t.store.FlushIfDue(); err != nil {
		return &stopError{err}
	}
	return nil
}

// rewind forgets what the transaction did: the task is at the committed position again.
func (t *task) rewind() {
	if t.tx != nil {
		t.tx.Discard()
		t.tx = nil
		t.startIn(t.before, t.committed)
	}
	t.next, t.done, t.decoded = 0, t.committed.Done, false
	t.parked = t.committed.parkedTables()
	if t.release != nil {
		clear(t.release.failed)
		t.release.at = t.release.before
	}
	t.ended()
}

// ended clears what belongs to one transaction. The client must be done with its records.
func (t *task) ended() {
	t.slab.release()
	t.ctx, t.produce, t.emitErr = nil, nil, nil
	t.produced, t.spent = 0, 0
	t.lettered = -1
	if t.committed.lettered {
		t.lettered = t.committed.Offset
	}
	t.moved = false
	t.counts.records, t.counts.left, t.counts.deadError = 0, 0, nil
	clear(t.counts.events)
	clear(t.counts.dead)
	clear(t.counts.parked)
	clear(t.counts.released)
	t.counts.newlyParked = t.counts.newlyParked[:0]
}

// publish adds the transaction to the metrics.
func (t *task) publish() {
	m := t.w.metrics
	if t.produce == nil {
		m.replayed.Add(float64(t.counts.records))
		return
	}
	m.records.Add(float64(t.counts.records))
	m.left.Add(float64(t.counts.left))
	for table, n := range t.counts.events {
		name := table.FullName()
		for op, count := range map[Op]int64{Create: n.create, Update: n.update, Delete: n.delete, Read: n.read} {
			if count > 0 {
				m.events.WithLabelValues(name, string(op)).Add(float64(count))
			}
		}
	}
	var letters int64
	for reason, n := range t.counts.dead {
		m.deadLetters.WithLabelValues(reason).Add(float64(n))
		letters += n
	}
	if letters > 0 {
		t.log.Warn("records were put into the dead-letter topic", zap.Int64("records", letters),
			zap.Int64("first raw offset", t.counts.deadOffset), zap.NamedError("first error", t.counts.deadError))
	}
	t.publishParked()
	stats := t.fold.Stats()
	m.publishFold(&t.stats, &stats)
	for ; t.reported < len(stats.UnsupportedTables); t.reported++ {
		u := stats.UnsupportedTables[t.reported]
		t.log.Warn("there are no events of a table", zap.String("table", u.Table), zap.String("reason", u.Reason))
	}
}
