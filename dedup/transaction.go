package dedup

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"golang.org/x/sync/errgroup"
)

// errMoved says that the group has another generation than the one that gave the partitions of a transaction.
var errMoved = errors.New("the group was rebalanced")

// transaction folds what waits and what comes within the commit interval, and commits it. The tasks are those of the assignment.
func (s *session) transaction(ctx context.Context) error {
	s.produceErr.Store(nil)
	s.writing.Lock()
	clear(s.refusedNow)
	clear(s.firstParked)
	s.writing.Unlock()
	if err := s.group.Begin(); err != nil {
		return fmt.Errorf("begin a transaction: %w", err)
	}
	if err := s.w.crash(afterBegin); err != nil {
		return err
	}
	err := s.releaseParked(ctx)
	if err == nil {
		err = s.foldFor(ctx)
	}
	if err == nil {
		err = s.w.crash(afterFold)
	}
	if errors.Is(err, errCrash) {
		return err
	}
	if err == nil {
		err = s.commit(ctx)
	} else if abortErr := s.abort(ctx, s.foldCause(ctx, err)); abortErr != nil {
		return errors.Join(err, abortErr)
	}
	var again *againError
	if !errors.As(err, &again) || isFinal(err) {
		return err
	}
	if s.changed() || ctx.Err() != nil {
		return nil // it was interrupted, by the group or by the end
	}
	if again.err != nil {
		s.failed(again.err)
	} else if s.aborts++; s.aborts == manyAborts {
		s.failed(fmt.Errorf("the brokers refused the positions of %d transactions in a row", s.aborts))
	}
	waitCtx, cancel := s.waitContext(ctx, longestWait)
	defer cancel()
	s.backoff.wait(waitCtx)
	return nil
}

// manyAborts is how many transactions in a row may be aborted by the brokers before that is told: a few are, when the group
// is rebalanced or a broker restarts.
const manyAborts = 5

// againError says that a transaction was aborted, that all is as before it, and that it is to be tried again.
type againError struct{ err error } // err is nil if nothing is wrong

func (e *againError) Error() string {
	if e.err == nil {
		return errMoved.Error()
	}
	return e.err.Error()
}
func (e *againError) Unwrap() error { return e.err }

// foldFor folds until the commit interval is over, the transaction is full, or the session is to look up.
func (s *session) foldFor(ctx context.Context) error {
	foldCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), foldTimeout)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(stopGrace, cancel) })
	defer stop()
	s.mu.Lock()
	s.cancelTxn = cancel
	s.mu.Unlock()

	deadline := time.Now().Add(s.w.cfg.CommitInterval)
	for {
		full, err := s.foldRound(foldCtx, deadline)
		if err != nil {
			return err
		}
		left := time.Until(deadline)
		if full || left <= 0 || ctx.Err() != nil || s.changed() {
			return nil
		}
		if err := s.poll(ctx, left); err != nil {
			return err
		}
	}
}

// foldRound folds what waits, all partitions at once. Each has an equal share of what is left of the transaction; what some do
// not need, others have in the next round.
func (s *session) foldRound(ctx context.Context, deadline time.Time) (full bool, err error) {
	events, bytes := int64(s.w.cfg.MaxEventsPerTxn), maxTxnBytes
	var active []*task
	for _, t := range s.tasks {
		events -= t.spent
		if t.tx != nil {
			bytes -= t.tx.Bytes() + t.produced
		}
		if t.waiting() > 0 {
			active = append(active, t)
		}
	}
	if len(active) == 0 {
		return false, nil
	}
	if events <= 0 || bytes <= 0 {
		return true, nil
	}
	share := allowance{
		events:   max(1, events/int64(len(active))),
		bytes:    max(1, bytes/len(active)),
		deadline: deadline,
	}
	errs := make([]error, len(active))
	var group errgroup.Group
	group.SetLimit(runtime.GOMAXPROCS(0))
	for i, t := range active {
		group.Go(func() error {
			t.refusing = s.refusals.final
			if errs[i] = t.begin(ctx, s.produce); errs[i] == nil {
				errs[i] = t.advance(share)
			}
			return nil
		})
	}
	group.Wait()
	return false, errors.Join(errs...)
}

func (s *session) produce(r *kgo.Record) {
	// The context is not one that ends: a record of a transaction is written or the transaction is aborted, and a record given up
	// alone would leave a gap in the producer's sequence.
	s.group.Produce(context.Background(), r, s.produced)
}

// commit ends the transaction, with the positions up to which it folded, and then stores the state.
func (s *session) commit(ctx context.Context) error {
	started := time.Now()
	endCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), endTimeout)
	defer cancel()
	var moved []*task
	for _, t := range s.tasks {
		if t.tx != nil && (t.at() != t.committed.Position || t.moved) {
			moved = append(moved, t)
		}
	}
	if len(moved) == 0 {
		return s.abort(ctx, causeNothing)
	}
	// The client would commit in spite of records that could not be written.
	if err := s.group.Client().Flush(endCtx); err != nil {
		s.w.metrics.transactions.WithLabelValues(outcomeUnknown).Inc()
		return fmt.Errorf("write the events of a transaction: not done within %v: %w", endTimeout, err)
	}
	if failure := s.produceErr.Load(); failure != nil {
		err := fmt.Errorf("write the events of a transaction: %w", *failure)
		s.writing.Lock()
		s.refusals.note(s.refusedNow)
		s.writing.Unlock()
		if abortErr := s.abort(ctx, causeWrite); abortErr != nil {
			return errors.Join(err, abortErr)
		}
		return &againError{err}
	}
	if err := s.w.crash(beforeEnd); err != nil {
		return err
	}
	positions := make(map[int32]committed, len(moved))
	for _, t := range moved {
		parked, err := t.parkedText(s.firstParked)
		if err != nil {
			if abortErr := s.abort(ctx, causeWrite); abortErr != nil {
				return errors.Join(err, abortErr)
			}
			return &againError{err}
		}
		at := t.position(s.w.topic.ID)
		at.parked = parked
		positions[t.partition] = at
	}
	done, err := s.group.End(kgo.PreTxnCommitFnContext(endCtx, func(req *kmsg.TxnOffsetCommitRequest) error {
		if req.MemberID != s.assigned.member || req.Generation != s.assigned.generation {
			return errMoved
		}
		s.setPositions(req, positions)
		return nil
	}), kgo.TryCommit)
	if !done {
		return s.notCommitted(ctx, err)
	}
	if err := s.w.crash(afterEnd); err != nil {
		return err
	}
	if err := s.apply(moved, positions); err != nil {
		return err
	}
	s.w.metrics.transactions.WithLabelValues(outcomeCommitted).Inc()
	s.w.metrics.commits.Observe(time.Since(started).Seconds())
	s.recovered()
	clear(s.refusals.inRow)
	return s.w.crash(afterApply)
}

// setPositions makes positions those of the request.
func (s *session) setPositions(req *kmsg.TxnOffsetCommitRequest, positions map[int32]committed) {
	topic := kmsg.NewTxnOffsetCommitRequestTopic()
	topic.Topic, topic.TopicID = s.w.topic.Name, s.w.topic.ID
	for partition, c := range positions {
		p := kmsg.NewTxnOffsetCommitRequestTopicPartition()
		p.Partition, p.Offset, p.LeaderEpoch = partition, c.Offset, c.epoch
		p.Metadata = kmsg.StringPtr(c.metadata())
		topic.Partitions = append(topic.Partitions, p)
	}
	req.Topics = []kmsg.TxnOffsetCommitRequestTopic{topic}
}

// apply stores the state of a transaction that is committed.
func (s *session) apply(moved []*task, positions map[int32]committed) error {
	errs := make([]error, len(moved))
	var group errgroup.Group
	group.SetLimit(runtime.GOMAXPROCS(0))
	for i, t := range moved {
		group.Go(func() error {
			errs[i] = t.apply(positions[t.partition])
			return nil
		})
	}
	group.Wait()
	for _, t := range moved {
		t.showProgress()
	}
	return errors.Join(errs...)
}

// abort aborts the transaction; all tasks are as before it.
func (s *session) abort(ctx context.Context, cause string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), endTimeout)
	defer cancel()
	s.w.metrics.transactions.WithLabelValues(outcomeAborted).Inc()
	s.w.metrics.aborts.WithLabelValues(cause).Inc()
	if _, err := s.group.End(ctx, kgo.TryAbort); err != nil {
		return fmt.Errorf("abort a transaction: %w", err)
	}
	for _, t := range s.tasks {
		t.rewind()
	}
	return nil
}

// foldCause is why a transaction is aborted whose folding failed with err.
func (s *session) foldCause(ctx context.Context, err error) string {
	switch {
	case ctx.Err() != nil || s.changed():
		return causeInterrupted
	case isFinal(err):
		return causeFold
	}
	return causeEncode
}

// notCommitted is called when the client says that the transaction is not committed. It says so too when it merely
// could not learn the outcome, so the group's positions decide.
func (s *session) notCommitted(ctx context.Context, err error) error {
	if err != nil && !errors.Is(err, errMoved) {
		s.w.metrics.transactions.WithLabelValues(outcomeUnknown).Inc()
		return fmt.Errorf("commit a transaction: %w", err)
	}
	for _, t := range s.tasks {
		t.rewind()
	}
	endCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), endTimeout)
	defer cancel()
	positions, err := fetchCommitted(endCtx, s.w.admin, s.w.cfg.Group, s.w.topic, slices.Collect(maps.Keys(s.tasks))...)
	if err != nil {
		s.w.metrics.transactions.WithLabelValues(outcomeUnknown).Inc()
		return err
	}
	outcome := outcomeAborted
	for p, t := range s.tasks {
		if c, ok := positions[p]; ok && (c.Position != t.committed.Position || c.parked != t.committed.parked || c.epochs != t.committed.epochs) {
			// It was committed after all, or the partition has another owner by now. Either way it is opened anew if it is
			// ours.
			outcome = outcomeUnknown
			if err := s.detach(t); err != nil {
				return err
			}
			s.wake(false)
		}
	}
	s.w.metrics.transactions.WithLabelValues(outcome).Inc()
	if outcome == outcomeAborted {
		s.w.metrics.aborts.WithLabelValues(causeRefused).Inc()
	}
	return &againError{}
}
