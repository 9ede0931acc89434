package dedup

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/zap"

	"cassdelta/state"
)

// opening is a partition on the way to being folded: its store is opened and brought to the group's position.
type opening struct {
	partition int32
	cancel    context.CancelFunc

	// Set when it has ended.
	task *task
	err  error
}

// openTask opens the state of a partition and brings it to the group's position. It is called once the group has given
// the partition to this session, so that no one else moves the position.
func (s *session) openTask(ctx context.Context, partition int32) (*task, error) {
	w := s.w
	giveBack, err := w.leases.acquire(ctx, partition)
	if err != nil {
		return nil, err
	}
	w.metrics.standby.forget(partition)
	dir := w.directory(partition)
	if err := s.prepare(ctx, partition, dir); err != nil {
		giveBack()
		return nil, err
	}
	store, err := state.Open(dir, state.Identity{
		Topic: w.topic.Name, TopicID: w.topic.ID, Partition: partition, Partitions: w.topic.Partitions,
	}, w.stores)
	if err != nil {
		giveBack()
		return nil, &stopError{err}
	}
	t := newTask(w, partition, store, giveBack, &s.pool)
	if err := w.crash(afterOpen); err != nil {
		return nil, errors.Join(err, t.close())
	}
	if err := s.resume(ctx, t, dir); err != nil {
		return nil, errors.Join(err, t.close())
	}
	return t, nil
}

// directory is where the state of a partition is.
func (w *Worker) directory(partition int32) string {
	return w.stores.FS.PathJoin(w.cfg.StateDirectory, path.Join(w.topic.Name, strconv.Itoa(int(partition))))
}

func (s *session) resume(ctx context.Context, t *task, dir string) error {
	w := s.w
	positions, err := fetchCommitted(ctx, w.admin, w.cfg.Group, w.topic, t.partition)
	if err != nil {
		return err
	}
	bounds, err := logBounds(ctx, kadm.NewClient(w.admin), w.topic.Name)
	if err != nil {
		return err
	}
	r := resumption{topic: w.topic, partition: t.partition, directory: dir, log: bounds[t.partition], withoutState: w.cfg.WithoutState}
	r.group, r.hasGroup = positions[t.partition]
	r.state, r.hasState = t.store.Position()
	if r.epochs, err = t.epochsOf(&r); err != nil {
		return &stopError{err}
	}
	if !r.hasGroup && !r.hasState && !r.withoutState {
		if r.written, err = w.written(ctx); err != nil {
			return err
		}
	}
	from, to, err := r.plan()
	if err != nil {
		return &stopError{err}
	}
	t.startIn(r.epochs, to)
	w.metrics.stores.add(t.partition, t.store)
	t.end = r.log.end
	w.metrics.progress.set(t.partition, partitionProgress{committed: to.Offset, end: t.end})
	if from != to.Position {
		if err := t.replay(ctx, from, to); err != nil {
			return err
		}
	}
	t.committed, t.done, t.read = to, to.Done, to.Offset
	t.ended()
	w.checkpoints.add(t.partition, t.store)
	t.parked = to.parkedTables()
	t.showParked(t.parked)
	return nil
}

// replay folds the records of [from, to) again. It emits nothing: the events are out.
func (t *task) replay(ctx context.Context, from state.Position, to committed) error {
	started := time.Now()
	t.log.Info("bringing the state to the group's position", zap.Stringer("state", from), zap.Stringer("group", to))
	t.committed = committed{Position: from, epoch: -1, topic: to.topic, epochs: to.epochs}
	t.done, t.read = from.Done, from.Offset
	said := started
	for t.committed.Position != to.Position {
		if err := t.replayTurn(ctx, to, func() {
			if time.Since(said) >= progressEvery {
				said = time.Now()
				t.log.Info("still bringing the state to the group's position", zap.Stringer("state", t.committed), zap.Stringer("group", to),
					zap.Int64("records per second", perSecond(t.committed.Offset-from.Offset, started)))
			}
		}); err != nil {
			return err
		}
	}
	// What was read beyond the position is read again from there.
	clear(t.records)
	t.records, t.next, t.bytes, t.decoded = t.records[:0], 0, 0, false
	t.log.Info("the state is at the group's position", zap.Stringer("position", to), zap.Duration("after", time.Since(started)))
	return nil
}

// replayTurn replays, with a client of its own, until the end or until one that waits for a slot has less left. It calls progress now and then.
func (t *task) replayTurn(ctx context.Context, to committed, progress func()) error {
	slots := t.w.replays
	if err := slots.acquire(ctx, to.Offset-t.read); err != nil {
		return err
	}
	defer slots.release()
	cl, err := kgo.NewClient(fetchOptions(t.w.cfg.ClientOpts, kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{
		t.w.topic.Name: {t.partition: kgo.NewOffset().At(t.read)},
	}))...)
	if err != nil {
		return fmt.Errorf("kafka client: %w", err)
	}
	defer cl.Close()
	for t.committed.Position != to.Position && !slots.overtaken(to.Offset-t.read) {
		fetches := cl.PollRecords(ctx, maxPoll)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := fetchError(fetches); err != nil {
			return err
		}
		for _, r := range fetches.Records() {
			if err := t.take(r); err != nil {
				return err
			}
		}
		if err := t.replayTaken(ctx, to); err != nil {
			return err
		}
		progress()
	}
	return nil
}

// replayTaken folds the records that were read, up to the position.
func (t *task) replayTaken(ctx context.Context, to committed) error {
	for t.waiting() > 0 && t.committed.Position != to.Position {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		err := t.begin(ctx, nil)
		if err != nil {
			return err
		}
		err = t.advance(allowance{events: int64(t.w.cfg.MaxEventsPerTxn), bytes: maxTxnBytes, deadline: time.Now().Add(foldTimeout), until: &to.Position})
		if err != nil {
			return err
		}
		at := committed{Position: t.at(), epoch: t.epoch(), topic: to.topic, epochs: to.epochs}
		if t.waiting() > 0 && at == t.committed && !t.moved {
			// No record begins at the position: it was set by hand, to a place between two records.
			at.Position = to.Position
		}
		if err := t.apply(at); err != nil {
			return err
		}
		if err := t.w.crash(duringReplay); err != nil {
			return err
		}
	}
	return nil
}
