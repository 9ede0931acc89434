package dedup

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"cassdelta/internal/rawtopic"
	"cassdelta/state"
)

// WorkerConfig says what a worker reads, where it writes, and how much at a time.
type WorkerConfig struct {
	// ClientOpts are the options of every connection to Kafka: brokers, TLS, credentials, log.
	ClientOpts []kgo.Opt
	// RawTopic is the topic that agents write to.
	RawTopic string
	// Group is the consumer group. Workers of one group share the raw partitions; the group's positions say
	// which events are out.
	Group string
	// DeadLetterTopic takes what cannot be folded. It is made if it is not there, with DeadLetterReplication replicas; 0
	// leaves their number to the brokers.
	DeadLetterTopic       string
	DeadLetterReplication int16
	// StateDirectory holds the state of the partitions that this worker folds. It belongs to one process.
	StateDirectory string
	// MemoryBytes bounds the memory of the worker: of caches, of what is not written to disk yet, and, if Go's runtime is
	// told [HeapLimit], of all else. 0 is 1 GiB.
	MemoryBytes int64
	Emitter     Emitter
	// CommitInterval is how long a transaction collects records. It is the greatest part of the delay of an event. 0 is
	// 100 ms.
	CommitInterval time.Duration
	// TickInterval is the time between the ticks that let what has a TTL expire. 0: none are written, nothing expires.
	TickInterval time.Duration
	// SilentAfter is after what time without a heartbeat a host no longer holds the watermark. 0 is 10 minutes.
	SilentAfter time.Duration
	// MaxEventsPerTxn bounds the events of a transaction, 0 is 10,000. A record that makes more takes several.
	MaxEventsPerTxn int
	// Retention is how long what is dead is kept to hold off what comes late, for at least; longer for tables with a longer gc grace. 0 is 30 days.
	// It may be altered at any time, and counts for what is folded from then on.
	Retention time.Duration
	// Tables are options of tables, by keyspace.table.
	Tables map[string]TableOptions
	// Checkpoints are copies of the state elsewhere.
	Checkpoints CheckpointConfig
	// CleanTopics lists the topics that events are written to. If one has events and the group no position, its positions are lost, and the
	// worker does not begin at the start. Nil: that is not looked for.
	CleanTopics func(context.Context) ([]string, error)
	// WithoutState allows a group without a position to begin where the raw topic begins now, when there are events of it, which are then
	// written again, or its first records have expired: rows
	// whose past was in them are not complete.
	WithoutState bool
	// Sessions is how many transactions may be under way at once, each for its share of the partitions. 0 is 1.
	Sessions int
	Log      *zap.Logger
	// Registry takes the metrics. Nil: there are none.
	Registry prometheus.Registerer
}

const (
	// transactionTimeout is after what time the brokers abort a transaction.
	transactionTimeout = 60 * time.Second
	// foldTimeout bounds the folding of a transaction, and endTimeout its end. Together they are less than transactionTimeout.
	foldTimeout = 20 * time.Second
	endTimeout  = 30 * time.Second
	// stopGrace is how long the encoding of events may go on once the worker is told to stop.
	stopGrace = 2 * time.Second
	// leaveTimeout bounds how long the group is told that a member leaves.
	leaveTimeout = 5 * time.Second

	// maxTxnBytes bounds the memory of a transaction: overlays of the state and produced records.
	maxTxnBytes = 16 << 20

	defaultInterval = 100 * time.Millisecond
	defaultEvents   = 10_000
	defaultSilent   = 10 * time.Minute
	// leastSilent is some heartbeats long, so that one that is late does not make its host silent.
	leastSilent = 30 * time.Second
	// shortestRetention is longer than nodes keep hints by default.
	shortestRetention = 6 * time.Hour
)

// Worker folds raw partitions and writes their events, exactly once. docs/exactly-once.md has the protocol.
type Worker struct {
	cfg     WorkerConfig
	metrics *metrics

	// Set by Run.
	topic   RawTopic
	id      string // the group's name and the id of the state directory; begins transactional ids and the names of group members
	admin   *kgo.Client
	stores  state.Options
	shared  memory // how it is divided among the caches
	leases  leases
	replays *replaySlots // as many as there are processors
	newFold func(partition int32) folder
	// restoreGap is how many records behind the state on the disk may be before a nearer checkpoint is looked for.
	restoreGap int64
	// settings are those of the epoch that the worker begins if the last has others.
	settings Settings
	// checkpoints is nil if there are none, and standby if there are no copies of them.
	checkpoints *checkpoints
	standby     *standby

	ready atomic.Int64 // sessions that have all their partitions open

	parkedTopic string
	parkedMu    sync.Mutex
	parkedReady bool // the parked topic is there

	// crash is called at each step of the protocol. Tests end the worker there, as if its process died.
	crash func(at stage) error
}

// NewWorker makes a worker. It asks for nothing yet.
func NewWorker(cfg WorkerConfig) (*Worker, error) {
	var missing []error
	for _, required := range []struct {
		name string
		set  bool
	}{
		{"raw-topic", cfg.RawTopic != ""}, {"group", cfg.Group != ""}, {"dead-letter-topic", cfg.DeadLetterTopic != ""},
		{"state-directory", cfg.StateDirectory != ""}, {"an emitter", cfg.Emitter != nil}, {"a log", cfg.Log != nil},
	} {
		if !required.set {
			missing = append(missing, fmt.Errorf("dedup: %s is not given", required.name))
		}
	}
	if cfg.CommitInterval < 0 || cfg.CommitInterval > foldTimeout/2 {
		missing = append(missing, fmt.Errorf("dedup: commit-interval: expected at most %v, found %v", foldTimeout/2, cfg.CommitInterval))
	}
	if cfg.SilentAfter != 0 && cfg.SilentAfter < leastSilent {
		missing = append(missing, fmt.Errorf("dedup: silent-after: expected at least %v, which is some heartbeats, found %v", leastSilent, cfg.SilentAfter))
	}
	if cfg.Retention != 0 && cfg.Retention < shortestRetention {
		missing = append(missing, fmt.Errorf("dedup: tombstone-retention: expected at least %v, in which hints come, found %v", shortestRetention, cfg.Retention))
	}
	if cfg.TickInterval < 0 || cfg.MaxEventsPerTxn < 0 || cfg.Sessions < 0 || cfg.MemoryBytes < 0 {
		missing = append(missing, fmt.Errorf("dedup: expected numbers that are not negative, found %v between ticks, %d events per transaction, %d sessions, %d bytes of memory",
			cfg.TickInterval, cfg.MaxEventsPerTxn, cfg.Sessions, cfg.MemoryBytes))
	}
	missing = append(missing, cfg.Checkpoints.Check())
	if err := errors.Join(missing...); err != nil {
		return nil, err
	}
	setDefault(&cfg.CommitInterval, defaultInterval)
	setDefault(&cfg.MaxEventsPerTxn, defaultEvents)
	setDefault(&cfg.Sessions, 1)
	setDefault(&cfg.SilentAfter, defaultSilent)
	setDefault(&cfg.Retention, defaultRetention)
	setDefault(&cfg.MemoryBytes, defaultMemory)
	setDefault(&cfg.DeadLetterReplication, -1)
	setDefault(&cfg.Checkpoints.Interval, defaultCheckpointInterval)
	setDefault(&cfg.Checkpoints.Retain, defaultRetain)
	return &Worker{
		cfg:     cfg,
		metrics: newMetrics(),
		replays: newReplaySlots(runtime.GOMAXPROCS(0)),
		stores: state.Options{
			FS: vfs.Default, Fatal: func(message string) { cfg.Log.Fatal(message) },
			Compactions: state.NewCompactionSlots(runtime.GOMAXPROCS(0)),
		},

		parkedTopic: rawtopic.ParkedTopic(cfg.RawTopic),

		settings: Settings{Fold: FoldVersion, Retention: int64(cfg.Retention / time.Second)},

		newFold:    func(partition int32) folder { return NewFold(partition) },
		restoreGap: restoreGap,
		crash:      func(stage) error { return nil },
	}, nil
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// Run works until ctx ends: then it ends the transaction under way, stores what it has, leaves the group and returns nil. It
// waits for the raw topic if an agent has not made it yet. It returns an error if no broker answers at the
// start, and if it cannot go on without losing or repeating events; what passes, it waits for. It is called once.
func (w *Worker) Run(ctx context.Context) (err error) {
	id, lock, err := openInstance(w.stores.FS, w.cfg.StateDirectory)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	w.id = w.cfg.Group + "-" + id

	w.topic, err = FindRawTopic(ctx, w.cfg.ClientOpts, w.cfg.RawTopic, w.cfg.Log)
	if err != nil {
		return unlessStopped(ctx, err)
	}
	if w.admin, err = kgo.NewClient(w.cfg.ClientOpts...); err != nil {
		return fmt.Errorf("kafka client: %w", err)
	}
	defer w.admin.Close()
	if err := w.ensureDeadLetterTopic(ctx); err != nil {
		return unlessStopped(ctx, err)
	}
	if w.checkpoints, err = newCheckpoints(w); err != nil {
		return err
	}
	if w.cfg.Checkpoints.Standby {
		w.standby = newStandby(w)
	}
	if err := w.checkRetention(ctx); err != nil {
		return err
	}
	unregister, err := w.metrics.register(w.cfg.Registry)
	if err != nil {
		return err
	}
	defer unregister()

	closeCaches, err := w.caches()
	if err != nil {
		return err
	}
	defer closeCaches()
	w.stores.Log = func(message string) { w.cfg.Log.Debug(message) }
	w.cfg.Log.Info("dedup starts", zap.String("raw topic", w.topic.Name), zap.Int32("raw partitions", w.topic.Partitions),
		zap.String("cluster", w.topic.Cluster), zap.String("group", w.cfg.Group), zap.String("id", w.id), zap.Int("sessions", w.cfg.Sessions))
	return w.runSessions(ctx)
}

// Ready says why the worker does not fold all partitions that the group gives it; nil if it does.
func (w *Worker) Ready() error {
	if ready := w.ready.Load(); ready < int64(w.cfg.Sessions) {
		return fmt.Errorf("%d of %d sessions are in the group and have all their partitions open", ready, w.cfg.Sessions)
	}
	return nil
}

// unlessStopped is nil if the error comes of ctx, which is how Run is told to stop.
func unlessStopped(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

func (w *Worker) ensureDeadLetterTopic(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	var wait backoff
	for {
		err := rawtopic.EnsureDeadLetterTopic(ctx, w.admin, w.cfg.DeadLetterTopic, w.cfg.DeadLetterReplication)
		if err == nil {
			return nil
		}
		if wait.wait(ctx); ctx.Err() != nil {
			return fmt.Errorf("dead-letter-topic: %w", err)
		}
	}
}

// runSessions runs the sessions until ctx ends or one of them cannot go on, which ends the others.
func (w *Worker) runSessions(ctx context.Context) error {
	group, sessionCtx := errgroup.WithContext(ctx)
	if w.checkpoints != nil {
		group.Go(func() error {
			w.checkpoints.run(sessionCtx)
			return nil
		})
		group.Go(func() error {
			w.checkpoints.watch(sessionCtx)
			return nil
		})
	}
	if w.standby != nil {
		group.Go(func() error { return w.standby.run(sessionCtx) })
	}
	if w.cfg.TickInterval > 0 {
		h := newHeartbeats(&w.cfg)
		t, err := newTicker(&w.cfg, w.metrics, w.metrics.stores.partitions, h.snapshot)
		if err != nil {
			return err
		}
		defer t.close()
		group.Go(func() error {
			h.run(sessionCtx)
			return nil
		})
		group.Go(func() error {
			t.run(sessionCtx)
			return nil
		})
	}
	group.Go(func() error {
		w.divideAgain(sessionCtx)
		return nil
	})
	var names []string
	for n := range w.cfg.Sessions {
		s := newSession(w, w.id+"-"+strconv.Itoa(n))
		names = append(names, s.name)
		group.Go(func() error { return s.run(sessionCtx) })
	}
	err := group.Wait()
	w.checkpoints.finish()
	if errors.Is(err, errCrash) {
		return err
	}
	w.leave(context.WithoutCancel(ctx), names)
	return err
}

// leave tells the group that its members are gone. Static members do not leave by closing their client. They do when the
// state is stored, so that others go on at once.
func (w *Worker) leave(ctx context.Context, members []string) {
	ctx, cancel := context.WithTimeout(ctx, leaveTimeout)
	defer cancel()
	answer, err := kadm.NewClient(w.admin).LeaveGroup(ctx, kadm.LeaveGroup(w.cfg.Group).InstanceIDs(members...))
	if err == nil {
		err = answer.Error()
	}
	if err != nil && !errors.Is(err, kerr.UnknownMemberID) && !errors.Is(err, kerr.GroupIDNotFound) {
		w.cfg.Log.Warn("the group was not told that this worker leaves; it notices after the session timeout", zap.Error(err))
	}
}

// stage is a place in the protocol.
type stage string

const (
	afterOpen    stage = "after the store is opened, before the positions are asked for"
	afterBegin   stage = "after the transaction began"
	afterFold    stage = "after folding, with events produced"
	beforeEnd    stage = "after the events are written, before the end of the transaction"
	afterEnd     stage = "after the end of the transaction, before the state is stored"
	afterApply   stage = "after the state is stored"
	duringReplay stage = "during replay"

	beforeCheckpoint stage = "before the files of a checkpoint are linked"
	duringCheckpoint stage = "after the files of a checkpoint are linked"
	afterRestore     stage = "after a checkpoint is restored"
	beforeSwap       stage = "after a checkpoint is copied for standby, before the copy is put in its place"
)

// errCrash is what a crash of a test returns, wrapped.
var errCrash = errors.New("crash")

// stopError says that a worker cannot go on.
type stopError struct{ err error }

func (e *stopError) Error() string { return e.err.Error() }
func (e *stopError) Unwrap() error { return e.err }

// isFinal says whether the error ends the worker; any other is taken to pass.
func isFinal(err error) bool {
	var stop *stopError
	return errors.As(err, &stop) || errors.Is(err, errCrash)
}
