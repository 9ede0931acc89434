package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"time"

	gocql "github.com/apache/cassandra-gocql-driver/v2"
	"github.com/twmb/franz-go/pkg/kgo"

	"cassdelta/commitlog"
	"cassdelta/internal/rawtopic"
	"cassdelta/schema"
)

// rawLoad writes raw records as the agents of three nodes do, without nodes: each mutation comes three times, at times of
// its own. What it writes follows from its seed; when, from the clock.
type rawLoad struct {
	client  *kgo.Client
	r       *rand.Rand
	g       *generator
	tables  map[string]*schema.Table
	hosts   [3]schema.UUID
	pulses  [rawPartitions]*statement // of one row in each raw partition
	wide    int                       // partitions of many rows
	waiting []dueRecord
	offset  int64 // in the log of the hosts

	sent    atomic.Int64
	refused atomic.Pointer[error]
}

// dueRecord is a copy of a mutation, and when it is sent.
type dueRecord struct {
	at     time.Time
	record *kgo.Record
}

const (
	// loadMutations is how many random mutations are made per second. To each raw partition loadPulses more are.
	loadMutations = 150
	loadPulses    = 10
	// loadWideRows is how many rows a partition has that is deleted as a whole: more than a transaction takes events of one
	// partition, when others have some too.
	loadWideRows = 3000
)

// newRawLoad makes the raw topic, with all definitions in each partition.
func newRawLoad(ctx context.Context, brokers []string, seed uint64) (*rawLoad, error) {
	l := &rawLoad{r: rand.New(rand.NewPCG(seed, 1)), g: newGenerator(seed, time.Now().UnixMicro()), tables: map[string]*schema.Table{}}
	l.g.nextPartitions(150)
	l.g.consistencies = []gocql.Consistency{gocql.All} // of no meaning here
	for i := range l.hosts {
		l.hosts[i] = schema.UUID{byte(i + 1)}
	}
	var err error
	if l.client, err = kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerLinger(0)); err != nil {
		return nil, err
	}
	// Brokers that have just started may take a while to lead what they are told to.
	start, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	err = poll(start, "the raw topic is there", func() error {
		id, err := rawtopic.EnsureTopic(start, l.client, rawTopic, rawPartitions, -1)
		if err != nil {
			return err
		}
		return rawtopic.WriteInit(start, l.client, rawTopic, rawtopic.Init{Cluster: "rounds", TopicID: id, Partitions: rawPartitions, Version: rawtopic.Version})
	})
	if err == nil {
		err = l.define(ctx)
	}
	if err != nil {
		l.client.Close()
		return nil, err
	}
	l.findPulses()
	return l, nil
}

// define writes the definitions of the tables.
func (l *rawLoad) define(ctx context.Context) error {
	var records []*kgo.Record
	for i, t := range tracked() {
		name := t.name + ".cql"
		parsed, err := schema.ParseCQL(name, fmt.Sprintf("%s AND id = %s;", t.ddl(), schema.UUID{15: byte(i + 1)}))
		if err == nil && len(parsed.Tables) != 1 {
			err = fmt.Errorf("%s: expected a table, found %d", name, len(parsed.Tables))
		}
		if err != nil {
			return err
		}
		table := parsed.Tables[0]
		l.tables[t.name] = table
		value := rawtopic.Append(nil, &rawtopic.Record{Kind: rawtopic.KindSchema, Schema: &rawtopic.Schema{
			Hash: table.Hash(), Definition: table.Definition(), Host: l.hosts[0],
		}})
		for p := range int32(rawPartitions) {
			records = append(records, &kgo.Record{Topic: rawTopic, Partition: p, Value: value})
		}
	}
	return l.client.ProduceSync(ctx, records...).FirstErr()
}

// findPulses finds a row of accounts for each raw partition.
func (l *rawLoad) findPulses() {
	accounts := tableByName("accounts")
	for index, missing := 1_000_000, len(l.pulses); missing > 0; index++ {
		s := &statement{table: accounts, kind: update, partition: partitionKey(accounts, index)}
		if p := l.partition(s); l.pulses[p] == nil {
			l.pulses[p] = s
			missing--
		}
	}
}

func (l *rawLoad) partition(s *statement) int32 {
	return rawtopic.Partition(schema.Token(partitionKeyBytes(s.partition)), rawPartitions)
}

// run writes until ctx ends, and then what copies are left. Not before the definitions are followed by a partition of many
// rows, which is deleted.
func (l *rawLoad) run(ctx context.Context) error {
	var mutations, pulses float64
	last := time.Now()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	l.writeWide()
	for {
		var now time.Time
		select {
		case <-ctx.Done():
			l.send(time.Now().Add(time.Hour))
			err := l.client.Flush(context.WithoutCancel(ctx))
			if refused := l.refused.Load(); refused != nil {
				err = *refused
			}
			return err
		case now = <-tick.C:
		}
		passed := min(now.Sub(last).Seconds(), 0.1) // what a stall left out is not made up for
		last = now
		for mutations += passed * loadMutations; mutations >= 1; mutations-- {
			for _, s := range l.g.operation().statements {
				l.write(s)
			}
		}
		for pulses += passed * loadPulses; pulses >= 1; pulses-- {
			for _, of := range l.pulses {
				s := l.g.statement(of.table, of.kind, 0, -1)
				s.partition = of.partition
				s.sets = l.g.assignments(of.table.regular, s.sequence)
				l.write(s)
			}
		}
		l.send(now)
		if refused := l.refused.Load(); refused != nil {
			return *refused
		}
	}
}

// writeWide writes a partition of many rows, and deletes it.
func (l *rawLoad) writeWide() {
	orders := tableByName("orders")
	l.wide++
	index := 2_000_000 + l.wide
	var d rawtopic.Data
	for row := range loadWideRows {
		s := l.g.statement(orders, insert, index, row)
		s.sets = []assignment{{column: column{name: "seq", typ: "bigint"}, value: encode("bigint", s.sequence)}}
		one := l.data(s)
		d.Rows = append(d.Rows, one.Rows...)
		if len(d.Rows) == 100 || row == loadWideRows-1 {
			one.Rows, d.Rows = d.Rows, nil
			l.copies(one)
		}
	}
	l.write(l.g.statement(orders, deletePartition, index, -1))
}

// write gives the copies of a statement times to be sent at.
func (l *rawLoad) write(s *statement) {
	if s.table.cdc {
		l.copies(l.data(s))
	}
}

// copies lets each host have a mutation: the first at once, the others mostly soon.
func (l *rawLoad) copies(d *rawtopic.Data) {
	l.offset += 100
	partition := rawtopic.Partition(schema.Token(d.Key), rawPartitions)
	now := time.Now()
	for i, host := range l.r.Perm(len(l.hosts)) {
		d.Origin = rawtopic.Origin{Host: l.hosts[host], Position: commitlog.Position{Segment: 1, Offset: l.offset}}
		at := now
		if i > 0 {
			at = at.Add(time.Duration(l.r.IntN(100)) * time.Millisecond)
			if l.r.IntN(20) == 0 {
				at = at.Add(time.Duration(l.r.IntN(3000)) * time.Millisecond)
			}
		}
		value := rawtopic.Append(nil, &rawtopic.Record{Kind: rawtopic.KindData, Data: d})
		l.waiting = append(l.waiting, dueRecord{at, &kgo.Record{Topic: rawTopic, Partition: partition, Value: value}})
	}
}

// send sends what is due.
func (l *rawLoad) send(now time.Time) {
	slices.SortStableFunc(l.waiting, func(a, b dueRecord) int { return a.at.Compare(b.at) })
	n := 0
	for ; n < len(l.waiting) && !l.waiting[n].at.After(now); n++ {
		l.client.Produce(context.Background(), l.waiting[n].record, func(_ *kgo.Record, err error) {
			if err != nil {
				err = fmt.Errorf("write to the raw topic: %w", err)
				l.refused.CompareAndSwap(nil, &err)
				return
			}
			l.sent.Add(1)
		})
	}
	l.waiting = slices.Delete(l.waiting, 0, n)
}

// data is the update that a node logs for a statement.
func (l *rawLoad) data(s *statement) *rawtopic.Data {
	t := l.tables[s.table.name]
	d := &rawtopic.Data{Schema: t.Hash(), Key: partitionKeyBytes(s.partition), Deletion: commitlog.LiveDeletion}
	deletion := commitlog.Deletion{Timestamp: s.timestamp, LocalTime: s.timestamp / 1_000_000}
	// Without clustering, the deletion of a row is that of its partition.
	if s.kind == deletePartition || s.kind == deleteRow && len(s.table.clustering) == 0 {
		d.Deletion = deletion
		return d
	}
	row := newRow()
	for _, v := range s.clustering {
		row.Clustering = append(row.Clustering, v)
	}
	switch s.kind {
	case deleteRow:
		row.Deletion = deletion
	case insert:
		row.Liveness = commitlog.Liveness{Timestamp: s.timestamp, ExpiresAt: commitlog.NoDeletionTime}
	}
	for _, a := range s.sets {
		i, ok := t.ColumnIndex(a.column.name)
		if !ok {
			panic("no column " + a.column.name + " in " + t.Name) // a mistake in this package
		}
		c := commitlog.Cell{Column: i, Timestamp: s.timestamp, LocalTime: commitlog.NoDeletionTime, Value: a.value}
		if a.value == nil {
			c.Deleted, c.LocalTime = true, deletion.LocalTime
		}
		if !s.table.isStatic(a.column.name) {
			row.Cells = append(row.Cells, c)
			continue
		}
		if d.Static == nil {
			static := newRow()
			d.Static = &static
		}
		d.Static.Cells = append(d.Static.Cells, c)
	}
	for _, of := range []*commitlog.Row{&row, d.Static} {
		if of != nil {
			slices.SortFunc(of.Cells, func(a, b commitlog.Cell) int { return a.Column - b.Column })
		}
	}
	if !row.IsEmpty() {
		d.Rows = []commitlog.Row{row}
	}
	return d
}

func newRow() commitlog.Row {
	return commitlog.Row{
		Liveness: commitlog.Liveness{Timestamp: commitlog.NoTimestamp, ExpiresAt: commitlog.NoDeletionTime},
		Deletion: commitlog.LiveDeletion,
	}
}
