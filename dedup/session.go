package dedup

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/zap"
	"golang.org/x/sync/semaphore"
)

// session is one member of the group with one transactional producer. It folds the partitions that the group gives it, all in
// the same transaction.
//
// The member's client consumes nothing: it is paused from the start. A second client reads the partitions, each from a position
// that is set here, so that what is polled and what is committed have nothing to do with one another.
type session struct {
	w    *Worker
	name string // transactional id and group instance id
	log  *zap.Logger
	pool slabPool

	ready   bool // whether all partitions were open when it looked last
	failing bool // whether the last attempt failed
	aborts  int  // in a row, for no reason that is known
	backoff backoff

	// Of one life, between two errors that end the clients.
	members    membership
	group      *kgo.GroupTransactSession
	fetch      *kgo.Client
	tasks      map[int32]*task
	opening    map[int32]*opening
	beside     sync.WaitGroup // opens and closes partitions, and reads what is parked
	produced   func(*kgo.Record, error)
	produceErr atomic.Pointer[error] // why a record of the transaction was not written
	assigned   assignment            // that the tasks are of
	refusals   refusals
	asked      time.Time           // when requests to release parked tables were last looked for
	turns      *semaphore.Weighted // of partitions that read the parked topic

	// Of a transaction, while its records are written.
	writing     sync.Mutex
	refusedNow  map[string]error // topics of which records are refused
	firstParked firstParked

	mu         sync.Mutex
	dirty      bool               // the assignment changed, or a partition is open
	cancelWait context.CancelFunc // of what waits for records
	cancelTxn  context.CancelFunc // of the folding of a transaction
	opened     []*opening
	groupErr   error // that ends the session
	closeErr   error // likewise: of partitions that left
}

func newSession(w *Worker, name string) *session {
	s := &session{
		w: w, name: name, log: w.cfg.Log.With(zap.String("session", name)),
		refusedNow: map[string]error{}, firstParked: firstParked{}, turns: semaphore.NewWeighted(releaseTurns),
	}
	s.refusals.reset()
	s.produced = s.onProduced
	return s
}

// onProduced is called when a record of a transaction is written, or is not.
func (s *session) onProduced(r *kgo.Record, err error) {
	if err == nil && r.Topic != s.w.parkedTopic {
		return
	}
	s.writing.Lock()
	defer s.writing.Unlock()
	if err == nil {
		s.firstParked.note(r)
		return
	}
	if staysRefused(err) && r.Topic != s.w.parkedTopic && r.Topic != s.w.cfg.DeadLetterTopic {
		s.refusedNow[r.Topic] = err
	}
	err = fmt.Errorf("topic %s, partition %d: %w", r.Topic, r.Partition, err)
	s.produceErr.CompareAndSwap(nil, &err)
}

// run works until ctx ends or something final happens. After any other error it begins anew, from what Kafka and the stores hold.
func (s *session) run(ctx context.Context) error {
	defer func() {
		if s.failing {
			s.w.metrics.failing.Dec()
		}
	}()
	for {
		err := s.live(ctx)
		if err == nil || isFinal(err) {
			return err
		}
		if ctx.Err() != nil {
			if !errors.Is(err, context.Canceled) {
				s.log.Warn("stopped after an error; what was not finished is made again at the next start", zap.Error(err))
			}
			return nil
		}
		s.failed(err)
		s.backoff.wait(ctx)
	}
}

// failed notes that an attempt failed. Only the change is logged.
func (s *session) failed(err error) {
	if s.failing {
		s.log.Debug("failed again", zap.Error(err))
		return
	}
	s.failing = true
	s.w.metrics.failing.Inc()
	s.log.Warn("a transaction failed; trying again until it succeeds", zap.Error(err))
}

// setReady tells the worker whether all partitions are open.
func (s *session) setReady(ready bool) {
	switch {
	case ready && !s.ready:
		s.w.ready.Add(1)
	case !ready && s.ready:
		s.w.ready.Add(-1)
	}
	s.ready = ready
}

// recovered notes a success.
func (s *session) recovered() {
	s.backoff.reset()
	s.aborts = 0
	if s.failing {
		s.failing = false
		s.w.metrics.failing.Dec()
		s.log.Info("transactions succeed again")
	}
}

// live opens the clients, works, and closes all.
func (s *session) live(ctx context.Context) (err error) {
	if err := s.connect(ctx); err != nil {
		return err
	}
	workCtx, cancel := context.WithCancel(ctx)
	defer func() {
		cancel()
		s.setReady(false)
		s.beside.Wait()
		s.fetch.Close()
		// Without the end of a transaction that is open: its outcome is for the brokers to tell. The next producer of this
		// name aborts it.
		s.group.Close()
		err = errors.Join(err, s.closeErr, s.closeTasks())
	}()
	for {
		if err := s.reconcile(workCtx); err != nil {
			return err
		}
		if ctx.Err() != nil {
			return nil
		}
		s.askedToRelease(workCtx)
		s.takeChunks(ctx)
		switch {
		case !s.assigned.valid:
			waitCtx, cancel := s.waitContext(ctx, idleWait)
			<-waitCtx.Done()
			cancel()
		case s.waiting() == 0 && !s.releasing():
			if err := errors.Join(s.poll(ctx, idleWait), s.tend()); err != nil {
				return err
			}
		default:
			if err := s.transaction(ctx); err != nil {
				return err
			}
		}
	}
}

// idleWait is how long a session waits for records, or for the group, before it looks what is due for the stores.
const idleWait = time.Second

// connect opens the clients and ends what a predecessor left open.
func (s *session) connect(ctx context.Context) (err error) {
	w := s.w
	s.tasks, s.opening, s.opened, s.groupErr, s.closeErr = map[int32]*task{}, map[int32]*opening{}, nil, nil, nil
	s.assigned = assignment{}
	s.members = membership{topic: w.topic.Name, changed: s.wake}
	s.fetch, err = kgo.NewClient(fetchOptions(w.cfg.ClientOpts)...)
	if err != nil {
		return &stopError{fmt.Errorf("kafka client: %w", err)}
	}
	opts := slices.Concat(baseOptions, memberOptions, w.cfg.ClientOpts, s.members.options(), []kgo.Opt{
		kgo.ConsumerGroup(w.cfg.Group),
		kgo.ConsumeTopics(w.topic.Name),
		kgo.InstanceID(s.name),
		kgo.DisableAutoCommit(),
		kgo.ConsumeResetOffset(kgo.NoResetOffset().AtStart()),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.TransactionalID(s.name),
		kgo.TransactionTimeout(transactionTimeout),
		kgo.RequiredAcks(kgo.AllISRAcks()),
		kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ProducerBatchMaxBytesFn(w.maxBatchBytes),
		kgo.ProducerBatchCompression(kgo.SnappyCompression(), kgo.NoCompression()),
		// Never reached: a transaction is smaller. So producing never blocks.
		kgo.MaxBufferedRecords(4 * (w.cfg.MaxEventsPerTxn + applyLimit)),
		kgo.WithHooks(groupErrors{s}),
	})
	s.group, err = kgo.NewGroupTransactSession(opts...)
	if err != nil {
		s.fetch.Close()
		return &stopError{fmt.Errorf("kafka client: %w", err)}
	}
	s.group.Client().PauseFetchTopics(w.topic.Name)
	// This aborts the transaction that the former producer of this name left open, if any. Until then the positions in it would be
	// waited for.
	if err := s.initProducer(ctx); err != nil {
		s.group.Close()
		s.fetch.Close()
		return fmt.Errorf("init of the producer %s: %w", s.name, err)
	}
	return nil
}

func (s *session) initProducer(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, endTimeout)
	defer cancel()
	_, _, err := s.group.Client().ProducerID(ctx)
	return err
}

// groupErrors hears why the member is not in the group.
type groupErrors struct{ s *session }

func (g groupErrors) OnGroupManageError(err error) {
	s := g.s
	if errors.Is(err, kerr.FencedInstanceID) {
		s.end(&stopError{fmt.Errorf("another worker is in the group %s under the name %s: %w; "+
			"the state directory may be a copy: remove the file %s in it, and the copy gets a name of its own", s.w.cfg.Group, s.name, err, instanceFile)})
		return
	}
	s.log.Debug("not in the group", zap.Error(err))
}

// end makes the session end with an error, soon.
func (s *session) end(err error) {
	s.mu.Lock()
	if s.groupErr == nil {
		s.groupErr = err
	}
	s.mu.Unlock()
	s.wake(true)
}

// wake ends what the session waits for; if something was revoked, also the transaction, which can only be aborted.
func (s *session) wake(revoked bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dirty = true
	if s.cancelWait != nil {
		s.cancelWait()
	}
	if revoked && s.cancelTxn != nil {
		s.cancelTxn()
	}
}

// changed says whether there is something to reconcile.
func (s *session) changed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.dirty
}

// waitContext is one that ends when the session is to look up.
func (s *session) waitContext(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithTimeout(ctx, d)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cancelWait = cancel
	if s.dirty {
		cancel()
	}
	return ctx, cancel
}
