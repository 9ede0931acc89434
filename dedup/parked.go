package dedup

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/zap"

	"cassdelta/internal/rawtopic"
	"cassdelta/schema"
)

// This file parks tables. If the events of one table cannot be written until someone changes something outside (a right, a
// schema, a topic), they go to the parked topic instead, in their order and in the same transactions, and the other tables go
// on. The fold and the state know nothing of it: a transition does not depend on where its event goes, so a replay has nothing
// to do for parked tables, and a state that is lost loses no parked event.
//
// Which tables are parked is in the metadata of the group's position, and so moves with the events: [committed].
// release.go brings them back.

// TableError says that no event of a table can be written until someone changes something outside: the table is parked.
type TableError struct {
	// Table is keyspace.table.
	Table string
	// Err says what is wrong, and what to do.
	Err error
}

func (e *TableError) Error() string { return fmt.Sprintf("table %s: %v", e.Table, e.Err) }
func (e *TableError) Unwrap() error { return e.Err }

// refusedFor is after how many transactions in a row in which the brokers refused records of a topic its table is parked: they may
// refuse some for a moment, while rights or the topic are altered.
const refusedFor = 3

// staysRefused reports whether brokers that refuse a record with err will do so until someone changes something about its
// topic.
func staysRefused(err error) bool {
	for _, e := range []error{
		kerr.TopicAuthorizationFailed, kerr.MessageTooLarge, kerr.RecordListTooLarge, kerr.InvalidTopicException, kerr.PolicyViolation,
		kerr.InvalidRecord, kerr.UnknownTopicOrPartition,
	} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// refusals are the topics of which the brokers refuse records.
type refusals struct {
	// inRow counts transactions.
	inRow map[string]int
	// final are those of whose tables no more records are tried, and why.
	final map[string]error
}

// note counts what a transaction met.
func (r *refusals) note(topics map[string]error) {
	for topic, err := range topics {
		if r.inRow[topic]++; r.inRow[topic] >= refusedFor {
			r.final[topic] = err
		}
	}
}

// reset lets all topics be tried again.
func (r *refusals) reset() { r.inRow, r.final = map[string]int{}, map[string]error{} }

// parked are the tables of a raw partition whose events are parked, by keyspace.table: since which offset in the same partition of
// the parked topic. The offset is unwritten for one that the transaction under way parks.
type parked map[string]int64

const unwritten = -1

// maxParkedText bounds what the metadata of a position says of parked tables, in bytes. Brokers take 4096 of metadata
// (offset.metadata.max.bytes).
const maxParkedText = 3500

// text is what the metadata of a position says of parked tables.
func (p parked) text() string {
	var b strings.Builder
	for i, table := range slices.Sorted(maps.Keys(p)) {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(url.QueryEscape(table))
		b.WriteByte('@')
		b.WriteString(strconv.FormatInt(p[table], 10))
	}
	return b.String()
}

func parseParked(text string) (parked, error) {
	p := parked{}
	if text == "" {
		return p, nil
	}
	for part := range strings.SplitSeq(text, ",") {
		name, at, _ := strings.Cut(part, "@")
		table, err := url.QueryUnescape(name)
		if err != nil || table == "" {
			return nil, fmt.Errorf("%q is no table", name)
		}
		if p[table], err = strconv.ParseInt(at, 10, 64); err != nil {
			return nil, err
		}
		if p[table] < 0 {
			return nil, strconv.ErrRange
		}
	}
	return p, nil
}

// room reports whether one more table can be parked.
func (p parked) room(table string) bool {
	return len(p.text())+len(url.QueryEscape(table))+len(",@9223372036854775807") <= maxParkedText
}

// newlyParked is a table that a transaction parks, for the log.
type newlyParked struct {
	table string
	err   error
}

// parkTable begins to park a table.
func (t *task) parkTable(table string, err error) error {
	if !t.parked.room(table) {
		return &againError{fmt.Errorf("%d tables are parked already, no more can be, and %s cannot be written: %w", len(t.parked), table, err)}
	}
	if err := t.w.ensureParkedTopic(t.ctx); err != nil {
		return &againError{err}
	}
	t.parked[table] = unwritten
	t.counts.newlyParked = append(t.counts.newlyParked, newlyParked{table, err})
	return nil
}

// park puts an event of a parked table aside.
func (t *task) park(table string, e *Event) error {
	rec, buf := t.slab.next()
	start := len(buf)
	buf = appendParkedEvent(buf, e)
	if size := len(buf) - start; size > parkedRoom-recordRoom {
		return t.letterOnce(e, &TooLargeError{Topic: t.w.parkedTopic, Size: size, Room: parkedRoom - recordRoom})
	}
	*rec = kgo.Record{
		Topic: t.w.parkedTopic, Partition: t.partition, Key: []byte(table), Value: buf[start:],
		Headers: append(rec.Headers[:0],
			kgo.RecordHeader{Key: HeaderGroup, Value: []byte(t.w.cfg.Group)},
			kgo.RecordHeader{Key: HeaderRawPartition, Value: strconv.AppendInt(nil, int64(e.RawPartition), 10)},
			kgo.RecordHeader{Key: HeaderRawOffset, Value: strconv.AppendInt(nil, e.RawOffset, 10)},
			kgo.RecordHeader{Key: HeaderIndex, Value: strconv.AppendInt(nil, e.Index, 10)}),
	}
	t.slab.keep(buf)
	t.produced += len(buf)
	t.produce(rec)
	if t.counts.parked == nil {
		t.counts.parked = map[string]int64{}
	}
	t.counts.parked[table]++
	return nil
}

// HeaderGroup is the header of a parked event, and of a dead letter, that says which consumer group wrote it.
const HeaderGroup = "cassdelta.group"

const (
	// parkedRoom is max.message.bytes of the parked topic: more than that of a clean topic, whose events it takes.
	parkedRoom = 48 << 20
	// recordRoom is more than a batch with one record has around its value.
	recordRoom = 1 << 10
)

// ensureParkedTopic makes the parked topic when it is needed for the first time.
func (w *Worker) ensureParkedTopic(ctx context.Context) error {
	w.parkedMu.Lock()
	defer w.parkedMu.Unlock()
	if w.parkedReady {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	if err := rawtopic.EnsureParkedTopic(ctx, w.admin, w.cfg.RawTopic, w.topic.Partitions, w.cfg.DeadLetterReplication, parkedRoom); err != nil {
		return fmt.Errorf("events of a table cannot be written, and there is no topic to park them in: %w", err)
	}
	w.parkedReady = true
	return nil
}

// maxBatchBytes is how large a batch of records a topic takes.
func (w *Worker) maxBatchBytes(topic string) int32 {
	if topic == w.parkedTopic {
		return parkedRoom
	}
	return w.cfg.Emitter.MaxBatchBytes(topic)
}

// firstParked is where in the parked topic the first event of each table is that a transaction wrote, by raw partition and
// table.
type firstParked map[parkedKey]int64

type parkedKey struct {
	partition int32
	table     string
}

func (f firstParked) note(r *kgo.Record) {
	key := parkedKey{r.Partition, string(r.Key)}
	if first, ok := f[key]; !ok || r.Offset < first {
		f[key] = r.Offset
	}
}

// parkedText is what the metadata of the position says once the transaction is committed. All its records are written.
func (t *task) parkedText(first firstParked) (string, error) {
	if len(t.parked) == 0 {
		return "", nil
	}
	for table, at := range t.parked {
		if at != unwritten {
			continue
		}
		at, ok := first[parkedKey{t.partition, table}]
		if !ok || at < 0 {
			// Only letters came of its events so far, or the brokers did not say where they are.
			if t.counts.parked[table] == 0 {
				delete(t.parked, table)
				continue
			}
			return "", fmt.Errorf("the brokers did not say where in topic %s they wrote the events of table %s", t.w.parkedTopic, table)
		}
		t.parked[table] = at
	}
	return t.parked.text(), nil
}

// publishParked tells what the transaction parked and released.
func (t *task) publishParked() {
	for _, p := range t.counts.newlyParked {
		t.log.Warn("a table is parked: its events cannot be written, and are kept in the parked topic; other tables go on. "+
			"Remove the cause, then run: cassdelta group release",
			zap.String("table", p.table), zap.String("parked topic", t.w.parkedTopic), zap.Error(p.err))
	}
	for table, n := range t.counts.parked {
		t.w.metrics.parked.WithLabelValues(table).Add(float64(n))
	}
	for table, n := range t.counts.released {
		t.w.metrics.released.WithLabelValues(table).Add(float64(n))
	}
	t.showParked(t.parked)
}

// showParked makes the gauge of parked tables what is parked.
func (t *task) showParked(now parked) {
	gauge := t.w.metrics.parkedPartitions
	for table := range now {
		if _, ok := t.shown[table]; !ok {
			gauge.WithLabelValues(table).Inc()
		}
	}
	for table := range t.shown {
		if _, ok := now[table]; !ok {
			gauge.WithLabelValues(table).Dec()
		}
	}
	t.shown = maps.Clone(now)
}

// tableName is the name that an event's table is parked by. A table that is dropped and made again keeps its topic, and so
// its place.
func tableName(t *schema.Table) string { return t.FullName() }
