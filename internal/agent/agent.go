// Package agent publishes the changes of one Cassandra node: it follows the node's cdc_raw directory, decodes the
// mutations in its segments, and writes those of tables with cdc = true to the raw topic.
//
// # Guarantee
//
// At least once, in the order of the log. The position moves only over a contiguous run of mutations whose records
// are all acknowledged; it is on disk (file and directory synced) before a segment behind it is removed. After a stop
// or a crash the agent goes on from the position, which repeats what came behind it. Repeats do no harm: the raw topic
// merges by write time.
//
// # Position file
//
// <state directory>/position.json, replaced as a whole (written beside, synced, renamed, directory synced):
//
//	version    1
//	host_id    the node's host id; an agent of another node refuses the file
//	segment    id of the segment, and
//	offset     logical offset in it, up to which everything is acknowledged; both 0 before the first
//	finished   ids of the segments read to their end, oldest first, at most 1024; they may be removed, and are not read
//	           again when a crash replay links them back under their old name
//	damaged    ids of the segments that could be read in part only; they are neither read again nor removed
//
// The file <state directory>/lock is locked (flock) while an agent runs.
//
// # Goroutines
//
// Run's own reads and produces. The Kafka client's calls the promises, which only do accounts (type ledger). Two more: the
// keeper stores the position, removes segments and measures; the heart says how far the agent is.
package agent

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/zap"

	"cassdelta/commitlog"
	"cassdelta/internal/rawtopic"
	"cassdelta/schema"
)

// Source tells the tables of the cluster, those of Cassandra's own keyspaces included, as they are now.
type Source interface {
	Read(ctx context.Context) (*schema.Catalog, error)
}

// Config says what an [Agent] reads and where it writes.
type Config struct {
	// ClientOpts are those of the connection to Kafka: brokers, TLS, SASL.
	ClientOpts []kgo.Opt
	// RawTopic is created if it is not there, with RawPartitions partitions (0 means 32) and Replication replicas
	// (0 leaves the number to the brokers). If it is there its number of partitions must be the same.
	RawTopic      string
	RawPartitions int32
	Replication   int16
	// DeadLetterTopic gets what cannot be decoded. It is created if it is not there.
	DeadLetterTopic string

	// CDCRawDirectory is cdc_raw_directory of the node's cassandra.yaml.
	CDCRawDirectory string
	// Copy says that no node writes to the directory any more: see [commitlog.TailConfig.Static]. There are no heartbeats
	// then: nobody knows what time it was.
	Copy bool
	// Mode says how far a segment is read that the node is still writing.
	Mode commitlog.Mode
	// Keys finds the keys of encrypted segments; nil if there are none.
	Keys commitlog.Keys
	// StateDirectory holds the position. It is created if it is not there.
	StateDirectory string

	// Source is where the schema comes from. Static says that it never tells anything new, as a file does.
	Source Source
	Static bool
	// Host is the host id of the node, Cluster the name of its cluster.
	Host    schema.UUID
	Cluster string

	// KeepSegments leaves finished segments in the directory.
	KeepSegments bool
	// UntilEnd lets Run return once the directory holds nothing more to read and all is acknowledged.
	UntilEnd bool
	// MaxRecordBytes bounds the values of Kafka records; 0 means [rawtopic.MaxValue]. Longer ones are cut into parts.
	MaxRecordBytes int
	// Observe, if not nil, is called with the number of updates that were acknowledged since its last call. It must
	// return soon.
	Observe func(published int)

	// Log may be nil for none, Registerer as well.
	Log        *zap.Logger
	Registerer prometheus.Registerer
}

// Bounds of an agent. They are fields only so that tests can be quick.
type bounds struct {
	// start is how long Kafka and the schema are waited for at the start.
	start time.Duration
	// stop is how long acknowledgements are waited for at the end.
	stop time.Duration
	// keep is the time between two looks of the keeper.
	keep time.Duration
	// beat is the time between two heartbeats.
	beat time.Duration
	// flight bounds the records that are not acknowledged.
	flight flightBounds
	schema schemaBounds
}

var defaultBounds = bounds{
	start:  30 * time.Second,
	stop:   10 * time.Second,
	keep:   time.Second,
	beat:   5 * time.Second,
	flight: flightBounds{bytes: 64 << 20, records: 1 << 16},
	schema: schemaBounds{read: 10 * time.Second, backoff: 500 * time.Millisecond, patience: time.Minute, slack: time.Minute, look: 10 * time.Second},
}

// Agent publishes the changes of one node.
type Agent struct {
	c       Config
	log     *zap.Logger
	bounds  bounds
	metrics *metrics
}

// New checks the configuration. It touches neither files nor network.
func New(c Config) (*Agent, error) {
	for _, s := range []struct{ name, value string }{
		{"raw-topic", c.RawTopic},
		{"dead-letter-topic", c.DeadLetterTopic},
		{"cdc-raw-directory", c.CDCRawDirectory},
		{"state-directory", c.StateDirectory},
	} {
		if s.value == "" {
			return nil, fmt.Errorf("%s is not set", s.name)
		}
	}
	if c.RawPartitions == 0 {
		c.RawPartitions = 32
	}
	if c.RawPartitions < 0 {
		return nil, fmt.Errorf("raw-partitions: expected a positive number, found %d", c.RawPartitions)
	}
	if c.Replication == 0 {
		c.Replication = -1
	}
	if c.MaxRecordBytes == 0 {
		c.MaxRecordBytes = rawtopic.MaxValue
	}
	if c.MaxRecordBytes < 1000 {
		return nil, fmt.Errorf("the most bytes of a record: expected at least 1000, found %d", c.MaxRecordBytes)
	}
	if c.Source == nil {
		return nil, errors.New("there is no source of the schema")
	}
	if c.Host.IsZero() {
		return nil, errors.New("the node's host id is unknown")
	}
	if c.Log == nil {
		c.Log = zap.NewNop()
	}
	m, err := newMetrics(c.Registerer)
	if err != nil {
		return nil, err
	}
	return &Agent{c: c, log: c.Log, bounds: defaultBounds, metrics: m}, nil
}

// Run publishes until ctx ends, or the end of the directory if that was asked for; it then waits for what is in flight
// and stores the position. Any other reason to end is its error. It is called once.
func (a *Agent) Run(ctx context.Context) error {
	err := a.run(ctx)
	if err != nil && ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		return nil
	}
	return err
}

func (a *Agent) run(parent context.Context) error {
	state, err := openState(a.c.StateDirectory, a.c.Host)
	if err != nil {
		return err
	}
	defer state.close()
	if err := checkDirectory(a.c.CDCRawDirectory); err != nil {
		return err
	}

	ctx, fail := context.WithCancelCause(parent)
	defer fail(nil)
	history, err := openHistory(a.c.StateDirectory, a.c.Host)
	if err != nil {
		return err
	}
	tables, err := a.readTables(ctx, history)
	if err != nil {
		return err
	}
	client, err := a.openKafka(ctx)
	if err != nil {
		return err
	}
	defer client.Close()

	ledger := newLedger(state.stored, a.bounds.flight)
	publisher := newPublisher(a.c, client, ledger, tables, a.metrics, a.log, fail)
	keeper := &keeper{
		dir: a.c.CDCRawDirectory, keepSegments: a.c.KeepSegments, interval: a.bounds.keep,
		state: state, ledger: ledger, metrics: a.metrics, log: a.log, last: state.stored,
	}
	keeping, stopKeeping := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(keeping)
		if err := keeper.run(stopKeeping); err != nil {
			fail(err)
		}
	}()
	var beating sync.WaitGroup
	stopBeating := make(chan struct{})
	if !a.c.Copy {
		h := newHeart(a.c, client, ledger, a.metrics, a.log, a.bounds.beat)
		beating.Go(func() { h.run(stopBeating) })
	}
	a.log.Info("reading", zap.String("directory", a.c.CDCRawDirectory), zap.Stringer("host", a.c.Host),
		zap.Int64("segment", state.stored.Segment), zap.Int64("offset", state.stored.Offset))
	err = a.read(ctx, state.stored, ledger, publisher)
	if err == nil {
		err = publisher.flush(ctx)
	}
	close(stopBeating)
	beating.Wait()
	publisher.stop(a.bounds.stop)
	close(stopKeeping)
	<-keeping
	if kept := keeper.finish(); kept != nil {
		return kept
	}
	a.log.Info("stopped", zap.Int64("segment", keeper.last.Segment), zap.Int64("offset", keeper.last.Offset))
	return err
}

// read publishes what the directory holds until ctx ends, or the end of the directory if that was asked for.
func (a *Agent) read(ctx context.Context, stored stored, ledger *ledger, publisher *publisher) error {
	tail, err := commitlog.NewTail(commitlog.TailConfig{
		Dir:      a.c.CDCRawDirectory,
		After:    commitlog.Position{Segment: stored.Segment, Offset: stored.Offset},
		Finished: ledger.isFinished,
		Mode:     a.c.Mode,
		Keys:     a.c.Keys,
		Static:   a.c.Copy,
		Notice:   func(err error) { a.log.Warn(err.Error()) },
	})
	if err != nil {
		return err
	}
	defer tail.Close()
	var seen time.Time
	for {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		item, ok, err := tail.Poll()
		if at := tail.Seen(); at != seen {
			seen = at
			ledger.mark(at) // before the item, which came out later
		}
		switch {
		case err != nil:
			return err
		case ok:
			if err := publisher.item(ctx, &item); err != nil {
				return err
			}
		case a.c.UntilEnd && !tail.Settling():
			if a.c.Copy {
				return publisher.ended(ctx)
			}
			return nil
		default:
			if err := publisher.caughtUp(ctx, seen); err != nil {
				return err
			}
			if err := tail.Wait(ctx); err != nil {
				return context.Cause(ctx)
			}
		}
	}
}
