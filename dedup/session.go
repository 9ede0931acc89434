package dedup

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/zap"
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

	failing bool // whether the last attempt failed
	aborts  int  // in a row, for no reason that is known
	backoff backoff

	// Of one life, between two errors that end the clients.
	members    membership
	group      *kgo.GroupTransactSession
	fetch      *kgo.Client
	tasks      map[int32]*task
	opening    map[int32]*opening
	openers    sync.WaitGroup
	produced   func(*kgo.Record, error)
	produceErr atomic.Pointer[error] // why a record of the transaction was not written
	assigned   assignment            // that the tasks are of

	mu         sync.Mutex
	dirty      bool               // the assignment changed, or a partition is open
	cancelWait context.CancelFunc // of what waits for records
	cancelTxn  context.CancelFunc // of the folding of a transaction
	opened     []*opening
	groupErr   error // that ends the session
}

func newSession(w *Worker, name string) *session {
	s := &session{w: w, name: name, log: w.cfg.Log.With(zap.String("session", name))}
	s.produced = func(_ *kgo.Record, err error) {
		if err != nil {
			s.produceErr.CompareAndSwap(nil, &err)
		}
	}
	return s
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
		s.openers.Wait()
		s.fetch.Close()
		// Without the end of a transaction that is open: its outcome is for the brokers to tell. The next producer of this
		// name aborts it.
		s.group.Close()
		err = errors.Join(err, s.closeTasks())
	}()
	for {
		if err := s.reconcile(workCtx); err != nil {
			return err
		}
		if ctx.Err() != nil {
			return nil
		}
		switch {
		case !s.assigned.valid:
			waitCtx, cancel := s.waitContext(ctx, idleWait)
			<-waitCtx.Done()
			cancel()
		case s.waiting() == 0:
			if err := errors.Join(s.poll(ctx, idleWait), s.flush()); err != nil {
				return err
			}
		default:
			if err := s.transaction(ctx); err != nil {
				return err
			}
		}
	}
}

const (
	// idleWait is how long a session waits for records, or for the group, before it looks whether stores are to be flushed.
	idleWait = time.Second
	// maxPoll is how many records are read at a time, and none are while fullBytes or fullRecords wait.
	maxPoll     = 4096
	fullBytes   = 32 << 20
	fullRecords = 8 * maxPoll
	// A partition that is held up by a record of many transactions is not read while a share of that waits, so that the
	// others go on.
	pauseBytes   = fullBytes / 8
	pauseRecords = fullRecords / 8
	// fetchWait is how long the brokers may keep a fetch that finds nothing. A partition that is added is fetched only after it.
	fetchWait = 500 * time.Millisecond
)

// connect opens the clients and ends what a predecessor left open.
func (s *session) connect(ctx context.Context) (err error) {
	w := s.w
	s.tasks, s.opening, s.opened, s.groupErr = map[int32]*task{}, map[int32]*opening{}, nil, nil
	s.assigned = assignment{}
	s.members = membership{topic: w.topic.Name, changed: s.wake}
	s.fetch, err = kgo.NewClient(fetchOptions(w.cfg.ClientOpts)...)
	if err != nil {
		return &stopError{fmt.Errorf("kafka client: %w", err)}
	}
	opts := slices.Concat(baseOptions, w.cfg.ClientOpts, s.members.options(), []kgo.Opt{
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

// baseOptions come before those of the user, who may have others.
var baseOptions = []kgo.Opt{
	kgo.FetchMaxWait(fetchWait),
	// A leader that has moved is looked for after this time, while a transaction waits.
	kgo.MetadataMinAge(time.Second),
}

// fetchOptions are those of a client that reads raw partitions from positions it is given.
func fetchOptions(base []kgo.Opt, more ...kgo.Opt) []kgo.Opt {
	return slices.Concat(baseOptions, base, []kgo.Opt{
		kgo.ConsumeResetOffset(kgo.NoResetOffset()),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.FetchMaxBytes(16 << 20),
		kgo.FetchMaxPartitionBytes(4 << 20),
	}, more)
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

// reconcile makes the tasks those of the assignment.
func (s *session) reconcile(ctx context.Context) error {
	s.mu.Lock()
	s.dirty = false
	opened, err := s.opened, s.groupErr
	s.opened = nil
	s.mu.Unlock()
	if err != nil {
		return err
	}
	var fresh map[int32]bool
	s.assigned, fresh = s.members.take()
	for p, o := range s.opening {
		if !s.assigned.owned[p] || fresh[p] {
			o.cancel()
			delete(s.opening, p)
		}
	}
	var errs []error
	for _, o := range opened {
		errs = append(errs, s.attach(o))
	}
	for p, t := range s.tasks {
		if !s.assigned.owned[p] || fresh[p] {
			errs = append(errs, s.detach(t))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	for p := range s.assigned.owned {
		if s.tasks[p] == nil && s.opening[p] == nil {
			s.open(ctx, p)
		}
	}
	// What the member's client has to tell is told by its hooks.
	//lint:ignore SA1012 nil is documented to return at once
	s.group.PollFetches(nil)
	return nil
}

// open begins to open a partition.
func (s *session) open(ctx context.Context, partition int32) {
	ctx, cancel := context.WithCancel(ctx)
	o := &opening{partition: partition, cancel: cancel}
	s.opening[partition] = o
	s.openers.Go(func() {
		o.task, o.err = s.openTask(ctx, partition)
		s.mu.Lock()
		s.opened = append(s.opened, o)
		s.mu.Unlock()
		s.wake(false)
	})
}

// attach begins to read a partition that is open, unless it is not wanted any more.
func (s *session) attach(o *opening) error {
	o.cancel()
	wanted := s.opening[o.partition] == o
	if wanted {
		delete(s.opening, o.partition)
	}
	if o.err != nil {
		if wanted || isFinal(o.err) {
			return o.err
		}
		return nil
	}
	if !wanted {
		return o.task.close()
	}
	s.tasks[o.partition] = o.task
	from := kgo.NewOffset().At(o.task.committed.Offset).WithEpoch(o.task.committed.epoch)
	s.fetch.AddConsumePartitions(map[string]map[int32]kgo.Offset{s.w.topic.Name: {o.partition: from}})
	s.log.Info("folding", zap.Int32("raw partition", o.partition), zap.Stringer("from", o.task.committed))
	return nil
}

// detach closes a partition that is not ours any more.
func (s *session) detach(t *task) error {
	partitions := map[string][]int32{s.w.topic.Name: {t.partition}}
	s.fetch.RemoveConsumePartitions(partitions)
	s.fetch.ResumeFetchPartitions(partitions)
	delete(s.tasks, t.partition)
	t.rewind()
	s.w.metrics.lag.DeleteLabelValues(strconv.Itoa(int(t.partition)))
	s.log.Info("no longer folding", zap.Int32("raw partition", t.partition))
	return t.close()
}

// closeTasks closes all partitions, those too that were opened meanwhile.
func (s *session) closeTasks() error {
	for _, o := range s.opened {
		if o.task != nil {
			s.tasks[o.partition] = o.task
		}
	}
	all := slices.Collect(maps.Values(s.tasks))
	errs := make([]error, len(all))
	var closing sync.WaitGroup
	for i, t := range all {
		s.w.metrics.lag.DeleteLabelValues(strconv.Itoa(int(t.partition)))
		closing.Go(func() { errs[i] = t.close() })
	}
	closing.Wait()
	return errors.Join(errs...)
}

// waiting is how many records wait to be folded.
func (s *session) waiting() int {
	n := 0
	for _, t := range s.tasks {
		n += t.waiting()
	}
	return n
}

// flush writes stores to disk for which it is time.
func (s *session) flush() error {
	for _, t := range s.tasks {
		if err := t.store.FlushIfDue(); err != nil {
			return &stopError{err}
		}
	}
	return nil
}

// poll reads records. If some wait it only takes what is there; else it waits for d at most, or until the session is to look up.
func (s *session) poll(ctx context.Context, d time.Duration) error {
	s.pause()
	records, bytes := 0, 0
	for _, t := range s.tasks {
		records += t.waiting()
		bytes += t.bytes
	}
	if records >= fullRecords || bytes >= fullBytes {
		return nil
	}
	var fetches kgo.Fetches
	if records > 0 {
		//lint:ignore SA1012 nil is documented to return at once
		fetches = s.fetch.PollRecords(nil, maxPoll)
	} else {
		waitCtx, cancel := s.waitContext(ctx, d)
		fetches = s.fetch.PollRecords(waitCtx, maxPoll)
		cancel()
	}
	if err := fetchError(fetches); err != nil {
		return err
	}
	var err error
	fetches.EachPartition(func(p kgo.FetchTopicPartition) {
		t := s.tasks[p.Partition]
		if t == nil {
			return
		}
		t.end = max(t.end, p.HighWatermark)
		for _, r := range p.Records {
			if err == nil {
				err = t.take(r)
			}
		}
	})
	return err
}

// pause stops reading partitions that are held up, and goes on with those that are not any more.
func (s *session) pause() {
	for _, t := range s.tasks {
		paused := t.done > 0 && (t.waiting() >= pauseRecords || t.bytes >= pauseBytes) ||
			t.paused && (t.waiting() >= pauseRecords/2 || t.bytes >= pauseBytes/2)
		if paused == t.paused {
			continue
		}
		partitions := map[string][]int32{s.w.topic.Name: {t.partition}}
		if t.paused = paused; paused {
			s.fetch.PauseFetchPartitions(partitions)
		} else {
			s.fetch.ResumeFetchPartitions(partitions)
		}
	}
}

// fetchError returns what went wrong with a fetch that the client does not try again by itself.
func fetchError(fetches kgo.Fetches) error {
	var errs []error
	for _, e := range fetches.Errors() {
		var cut *kgo.ErrDataLoss
		switch {
		case errors.Is(e.Err, context.Canceled), errors.Is(e.Err, context.DeadlineExceeded):
		case errors.Is(e.Err, kerr.OffsetOutOfRange):
			errs = append(errs, &stopError{&PositionError{Topic: e.Topic, Partition: e.Partition, Reason: "records were deleted before they were folded, and the changes in them are lost: " +
				"raise the topic's retention; a restart says what can be done"}})
		case errors.As(e.Err, &cut):
			errs = append(errs, &stopError{&PositionError{Topic: e.Topic, Partition: e.Partition, Reason: fmt.Sprintf("the log was cut behind the position that was folded (%v): "+
				"an unclean leader election lost records; a restart says what can be done", cut)}})
		case errors.Is(e.Err, kerr.UnknownTopicID):
			errs = append(errs, &stopError{&PositionError{Topic: e.Topic, Partition: e.Partition, Reason: "the raw topic was deleted while it was read"}})
		default:
			errs = append(errs, fmt.Errorf("fetch topic %s, partition %d: %w", e.Topic, e.Partition, e.Err))
		}
	}
	return errors.Join(errs...)
}
