package dedup

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strconv"
	"sync"

	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/zap"
)

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
