package dedup

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"

	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/zap"
)

// reconcile makes the tasks those of the assignment.
func (s *session) reconcile(ctx context.Context) error {
	s.mu.Lock()
	s.dirty = false
	if err := errors.Join(s.groupErr, s.closeErr); err != nil {
		s.closeErr = nil
		s.mu.Unlock()
		return err // what is opened is closed with all else
	}
	opened := s.opened
	s.opened = nil
	s.mu.Unlock()
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
		errs = append(errs, s.attach(ctx, o))
	}
	var leaving []*task
	for p, t := range s.tasks {
		if !s.assigned.owned[p] || fresh[p] {
			s.drop(t)
			leaving = append(leaving, t)
		}
	}
	s.closeLeaving(leaving)
	if err := errors.Join(errs...); err != nil {
		return err
	}
	// Once for all that are opened now.
	first := sync.OnceFunc(func() { s.w.endAbandoned(ctx) })
	for p := range s.assigned.owned {
		if s.tasks[p] == nil && s.opening[p] == nil {
			s.open(ctx, p, first)
		}
	}
	s.setReady(s.assigned.valid && len(s.opening) == 0)
	// What the member's client has to tell is told by its hooks.
	//lint:ignore SA1012 nil is documented to return at once
	s.group.PollFetches(nil)
	return nil
}

// open begins to open a partition, after first.
func (s *session) open(ctx context.Context, partition int32, first func()) {
	ctx, cancel := context.WithCancel(ctx)
	o := &opening{partition: partition, cancel: cancel}
	s.opening[partition] = o
	s.beside.Go(func() {
		first()
		o.task, o.err = s.openTask(ctx, partition)
		s.mu.Lock()
		s.opened = append(s.opened, o)
		s.mu.Unlock()
		s.wake(false)
	})
}

// attach begins to read a partition that is open, unless it is not wanted any more.
func (s *session) attach(ctx context.Context, o *opening) error {
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
	s.startRelease(ctx, o.task)
	from := kgo.NewOffset().At(o.task.committed.Offset).WithEpoch(o.task.committed.epoch)
	s.fetch.AddConsumePartitions(map[string]map[int32]kgo.Offset{s.w.topic.Name: {o.partition: from}})
	s.log.Info("folding", zap.Int32("raw partition", o.partition), zap.Stringer("from", o.task.committed))
	return nil
}

// detach closes a partition that is not ours any more.
func (s *session) detach(t *task) error {
	s.drop(t)
	return t.close()
}

// drop stops reading and folding a partition, which is to be closed then.
func (s *session) drop(t *task) {
	partitions := map[string][]int32{s.w.topic.Name: {t.partition}}
	s.fetch.RemoveConsumePartitions(partitions)
	s.fetch.ResumeFetchPartitions(partitions)
	delete(s.tasks, t.partition)
	t.rewind()
	s.log.Info("no longer folding", zap.Int32("raw partition", t.partition))
}

// closeLeaving closes partitions beside the folding of those that stay: each writes what it has in memory to disk and waits for
// that. If one comes back meanwhile, its opening waits for the lease.
func (s *session) closeLeaving(tasks []*task) {
	if len(tasks) == 0 {
		return
	}
	s.beside.Go(func() {
		if err := closeAll(tasks); err != nil {
			s.mu.Lock()
			s.closeErr = errors.Join(s.closeErr, err)
			s.mu.Unlock()
			s.wake(true)
		}
	})
}

// closeTasks closes all partitions, those too that were opened meanwhile.
func (s *session) closeTasks() error {
	for _, o := range s.opened {
		if o.task != nil {
			s.tasks[o.partition] = o.task
		}
	}
	return closeAll(slices.Collect(maps.Values(s.tasks)))
}

// closeAll closes partitions, all at once.
func closeAll(tasks []*task) error {
	errs := make([]error, len(tasks))
	var closing sync.WaitGroup
	for i, t := range tasks {
		closing.Go(func() { errs[i] = t.close() })
	}
	closing.Wait()
	return errors.Join(errs...)
}
