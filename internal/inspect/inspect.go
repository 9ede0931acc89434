// Package inspect shows the state of dedup: of a directory, of a checkpoint, or of a running worker. It prints a line of JSON for each thing it
// finds.
package inspect

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"cassdelta/commitlog"
	"cassdelta/dedup"
	"cassdelta/internal/rawtopic"
	"cassdelta/schema"
	"cassdelta/state"
)

// Source is where state is.
type Source interface {
	// Partitions lists the raw partitions that there are, in order.
	Partitions(ctx context.Context) ([]int32, error)
	// Open opens the state of one of them; close gives it back.
	Open(ctx context.Context, partition int32) (r *state.Reader, close func() error, err error)
}

// Query is what is asked for. Its zero value asks for the tables.
type Query struct {
	// Table is KEYSPACE.TABLE.
	Table string
	// Key is a partition key, as [schema.ParseKeyJSON] takes it, or 0x and the bytes of it. Empty: all.
	Key string
	// Row is a clustering, likewise in JSON. Empty: all of the partition.
	Row string
	// All asks for all rows of the table, if there is no key.
	All bool
	// Verify asks to hold all of the state to what it should be.
	Verify bool
}

// ErrNotFound says that the state has nothing of what was asked for.
var ErrNotFound = errors.New("the state knows nothing of it")

// elsewhereError is an [ErrNotFound] that says nothing of the row: the raw partition that has it, if there is one, was not looked into.
type elsewhereError struct{ partition int32 }

func (e *elsewhereError) Error() string {
	return fmt.Sprintf("the key is of raw partition %d, whose state is not here: ask the workers, or look into the state directory, of which there is", e.partition)
}

func (e *elsewhereError) Is(target error) bool { return target == ErrNotFound }

// Run answers a query.
func Run(ctx context.Context, from Source, q Query, out io.Writer) error {
	partitions, err := from.Partitions(ctx)
	if err != nil {
		return err
	}
	if len(partitions) == 0 {
		return fmt.Errorf("%w: there is no state of any raw partition", ErrNotFound)
	}
	a := &answer{q: q, out: out, tables: map[string]*usage{}}
	for _, p := range partitions {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if a.elsewhere(p) {
			continue
		}
		if err := a.partition(ctx, from, p); err != nil {
			return fmt.Errorf("raw partition %d: %w", p, err)
		}
	}
	if q.Table != "" {
		switch {
		case !a.known:
			return fmt.Errorf("%w: the table %s", ErrNotFound, q.Table)
		case q.Key != "" && a.found == 0 && !a.looked:
			return &elsewhereError{*a.home}
		case q.Key != "" && a.found == 0:
			return fmt.Errorf("%w: the row", ErrNotFound)
		}
		return nil
	}
	return a.sizes()
}

// answer is a query that is being answered.
type answer struct {
	q      Query
	out    io.Writer
	b      []byte
	known  bool // the table is
	found  int64
	home   *int32 // the raw partition that the key is of, once it is known
	looked bool   // into that
	tables map[string]*usage
}

type usage struct {
	Table        string `json:"table"`
	Rows         int64  `json:"rows"`
	StaticRows   int64  `json:"static_rows"`
	Ranges       int64  `json:"range_tombstones"`
	Partitions   int64  `json:"partition_deletions"`
	Bytes        int64  `json:"bytes"`
	RawPartition int    `json:"raw_partitions"`
}

func (u *usage) add(more *usage) {
	u.Rows += more.Rows
	u.StaticRows += more.StaticRows
	u.Ranges += more.Ranges
	u.Partitions += more.Partitions
	u.Bytes += more.Bytes
	u.RawPartition += more.RawPartition
}

// elsewhere reports whether a raw partition cannot have the key.
func (a *answer) elsewhere(partition int32) bool { return a.home != nil && *a.home != partition }

func (a *answer) partition(ctx context.Context, from Source, p int32) (err error) {
	r, closeReader, err := from.Open(ctx, p)
	if errors.Is(err, dedup.ErrNotHere) {
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeReader()) }()
	i, err := dedup.Inspect(r)
	if err != nil {
		return err
	}
	defer i.Close()
	if a.q.Table == "" {
		return a.usage(ctx, r, i)
	}
	tables, err := i.Tables()
	if err != nil {
		return err
	}
	for _, t := range tables {
		if t.FullName() != a.q.Table {
			continue
		}
		a.known = true
		if err := a.table(ctx, r, i, t); err != nil {
			return err
		}
	}
	return nil
}

// table prints what is asked for of a table.
func (a *answer) table(ctx context.Context, r *state.Reader, i *dedup.Inspector, t *schema.Table) error {
	print := func(k *dedup.Known) error {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		a.found++
		a.b = appendKnown(a.b[:0], k)
		_, err := a.out.Write(append(a.b, '\n'))
		return err
	}
	if a.q.Key == "" {
		return i.Table(t, print)
	}
	key, err := parseKey(t, a.q.Key)
	if err != nil {
		return err
	}
	home := rawtopic.Partition(schema.Token(key), r.Identity().Partitions)
	if a.home = &home; home != r.Identity().Partition {
		return nil
	}
	a.looked = true
	if a.q.Row == "" {
		return i.Partition(t, key, print)
	}
	wanted, err := schema.ParseKeyJSON(t.ClusteringColumns(), a.q.Row)
	if err != nil {
		return err
	}
	return i.Partition(t, key, func(k *dedup.Known) error {
		if k.Kind != state.KindRow {
			return nil
		}
		for n, c := range t.ClusteringColumns() {
			if n >= len(k.Clustering) || c.Type.Compare(k.Clustering[n], wanted[n]) != 0 {
				return nil
			}
		}
		return print(k)
	})
}

func parseKey(t *schema.Table, text string) ([]byte, error) {
	if digits, ok := cutHex(text); ok {
		return hex.DecodeString(digits)
	}
	values, err := schema.ParseKeyJSON(t.PartitionKeyColumns(), text)
	if err != nil {
		return nil, fmt.Errorf("%w; or give its bytes in hex after 0x", err)
	}
	return t.JoinPartitionKey(nil, values), nil
}

func cutHex(text string) (digits string, ok bool) {
	if len(text) < 2 || text[:2] != "0x" {
		return "", false
	}
	return text[2:], true
}

// usage adds up what tables take, and verifies if that is asked for.
func (a *answer) usage(ctx context.Context, r *state.Reader, i *dedup.Inspector) error {
	tables, others, err := i.Verify(ctx)
	if err != nil {
		return err
	}
	for t, u := range tables {
		s := a.tables[t.FullName()]
		if s == nil {
			s = &usage{Table: t.FullName()}
			a.tables[s.Table] = s
		}
		s.add(&usage{Rows: u.Rows, StaticRows: u.StaticRows, Ranges: u.Ranges, Partitions: u.Partitions, Bytes: u.Bytes, RawPartition: 1})
	}
	if !a.q.Verify {
		return nil
	}
	at, _ := r.Position()
	line := struct {
		RawPartition int32  `json:"raw_partition"`
		Of           int32  `json:"of"`
		Topic        string `json:"raw_topic"`
		Position     string `json:"position"`
		Epoch        string `json:"epoch"`
		Tables       int    `json:"tables"`
		Timers       int64  `json:"timers"`
		OK           bool   `json:"ok"`
	}{r.Identity().Partition, r.Identity().Partitions, r.Identity().Topic, at.String(), r.Epoch(), len(tables), 0, true}
	if u := others[state.SpaceTimer]; u != nil {
		line.Timers = u.Rows
	}
	return a.line(line)
}

// sizes prints what tables take.
func (a *answer) sizes() error {
	if a.q.Verify {
		return nil
	}
	var all []*usage
	for _, u := range a.tables {
		all = append(all, u)
	}
	slices.SortFunc(all, func(x, y *usage) int { return slices.Compare([]byte(x.Table), []byte(y.Table)) })
	for _, u := range all {
		if err := a.line(u); err != nil {
			return err
		}
	}
	return nil
}

func (a *answer) line(v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	_, err = a.out.Write(append(b, '\n'))
	return err
}

// appendKnown appends what is known of a row, or of a deletion.
func appendKnown(b []byte, k *dedup.Known) []byte {
	t := k.Table
	b = append(b, `{"table":`...)
	b = appendString(b, t.FullName())
	b = append(b, `,"partition":`...)
	if values, err := t.SplitPartitionKey(nil, k.Key); err == nil {
		b = appendColumns(b, t.PartitionKeyColumns(), values)
	} else {
		b = appendHex(b, k.Key)
	}
	switch k.Kind {
	case state.KindHeader:
		b = append(b, `,"kind":"partition deletion"`...)
	case state.KindRange:
		b = append(b, `,"kind":"range tombstone","from":`...)
		b = appendHex(b, k.From)
		b = append(b, `,"to":`...)
		b = appendHex(b, k.To)
	case state.KindStatic:
		b = append(b, `,"kind":"static row"`...)
	case state.KindRow:
		b = append(b, `,"kind":"row"`...)
		if len(k.Clustering) > 0 {
			b = append(b, `,"clustering":`...)
			b = appendColumns(b, t.ClusteringColumns(), k.Clustering)
		}
	}
	if k.Kind == state.KindRow || k.Kind == state.KindStatic {
		b = fmt.Appendf(b, `,"exists":%v`, k.Exists())
	}
	if k.Liveness.Timestamp != commitlog.NoTimestamp {
		b = append(b, `,"liveness":{`...)
		b = appendTimes(b, k.Liveness.Timestamp, k.Liveness.TTL, k.Liveness.ExpiresAt, k.Expired)
		b = append(b, '}')
	}
	if !k.Deletion.IsLive() {
		b = append(b, `,"deletion":{`...)
		b = appendDeletion(b, k.Deletion.Timestamp, k.Deletion.LocalTime)
		if k.Shadowable {
			b = append(b, `,"shadowable":true`...)
		}
		b = append(b, '}')
	}
	if len(k.Cells) > 0 {
		b = append(b, `,"cells":[`...)
		for i := range k.Cells {
			if i > 0 {
				b = append(b, ',')
			}
			b = appendCell(b, &k.Cells[i])
		}
		b = append(b, ']')
	}
	return append(b, '}')
}

func appendCell(b []byte, c *dedup.KnownCell) []byte {
	b = append(b, `{"column":`...)
	b = appendString(b, c.Name)
	if c.Dropped {
		b = append(b, `,"dropped":true`...)
	}
	if c.Path != nil {
		b = append(b, `,"element":`...)
		b = orHex(b, c.Path, func(b []byte) ([]byte, error) {
			if c.Type == nil {
				return b, errNoType
			}
			return c.Type.AppendPathJSON(b, c.Path)
		})
	}
	switch {
	case c.Elements:
		b = append(b, `,"elements_deleted":true,`...)
		b = appendDeletion(b, c.Timestamp, c.LocalTime)
	case c.Deleted:
		b = append(b, `,"deleted":true,`...)
		b = appendDeletion(b, c.Timestamp, c.LocalTime)
	default:
		if !c.Expired {
			b = append(b, `,"value":`...)
			b = orHex(b, c.Value, func(b []byte) ([]byte, error) {
				switch {
				case c.Type == nil:
					return b, errNoType
				case c.Path != nil:
					return c.Type.AppendCellJSON(b, c.Path, c.Value)
				}
				return c.Type.AppendJSON(b, c.Value)
			})
		}
		b = append(b, ',')
		b = appendTimes(b, c.Timestamp, c.TTL, c.LocalTime, c.Expired)
	}
	return append(b, '}')
}

var errNoType = errors.New("the column is dropped")

// appendTimes appends a write time and an expiry.
func appendTimes(b []byte, timestamp int64, ttl int32, expires int64, expired bool) []byte {
	b = appendWritten(b, timestamp)
	if ttl == 0 {
		return b
	}
	b = fmt.Appendf(b, `,"ttl":%d,"expires":`, ttl)
	b = appendSecond(b, expires)
	if expired {
		b = append(b, `,"expired":true`...)
	}
	return b
}

func appendDeletion(b []byte, timestamp, local int64) []byte {
	b = appendWritten(b, timestamp)
	b = append(b, `,"deleted_at":`...)
	return appendSecond(b, local)
}

// appendWritten appends a write time as Cassandra has it, in microseconds, and as people read it.
func appendWritten(b []byte, timestamp int64) []byte {
	b = fmt.Appendf(b, `"timestamp":%d,"written":`, timestamp)
	return appendString(b, time.UnixMicro(timestamp).UTC().Format("2006-01-02 15:04:05.000000Z"))
}

func appendSecond(b []byte, second int64) []byte {
	return appendString(b, time.Unix(second, 0).UTC().Format("2006-01-02 15:04:05Z"))
}

// appendColumns appends an object with the values of columns.
func appendColumns(b []byte, columns []schema.Column, values [][]byte) []byte {
	b = append(b, '{')
	for i, c := range columns {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendString(b, c.Name)
		b = append(b, ':')
		b = orHex(b, values[i], func(b []byte) ([]byte, error) { return c.Type.AppendJSON(b, values[i]) })
	}
	return append(b, '}')
}

// orHex appends the text of a value, or its bytes if it has none.
func orHex(b, value []byte, text func([]byte) ([]byte, error)) []byte {
	if out, err := text(b); err == nil {
		return out
	}
	return appendHex(b, value)
}

func appendHex(b, value []byte) []byte {
	b = append(b, `"0x`...)
	b = hex.AppendEncode(b, value)
	return append(b, '"')
}

func appendString(b []byte, s string) []byte {
	text, err := json.Marshal(s)
	if err != nil {
		return appendHex(b, []byte(s))
	}
	return append(b, text...)
}
