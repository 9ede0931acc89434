package dedup

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// errFound ends reading.
var errFound = errors.New("found")

// written is a clean topic with events although the group has no position at all: its positions are lost, or another group writes there.
// Empty: it is a new group. Positions are asked for last: whoever writes the first events meanwhile commits one with them.
func (w *Worker) written(ctx context.Context) (topic string, err error) {
	if w.cfg.CleanTopics == nil {
		return "", nil
	}
	topics, err := w.cfg.CleanTopics(ctx)
	if err != nil {
		return "", err
	}
	for _, topic = range topics {
		if err = w.findEvent(ctx, topic); err != nil {
			break
		}
	}
	if !errors.Is(err, errFound) {
		return "", err
	}
	all := make([]int32, w.topic.Partitions)
	for p := range all {
		all[p] = int32(p)
	}
	group, err := fetchCommitted(ctx, w.admin, w.cfg.Group, w.topic, all...)
	if err != nil || len(group) > 0 {
		return "", err
	}
	return topic, nil
}

// findEvent reads what is committed in a topic until it finds an event, and returns errFound then.
func (w *Worker) findEvent(ctx context.Context, topic string) error {
	adm := kadm.NewClient(w.admin)
	starts, err := adm.ListStartOffsets(ctx, topic)
	var stable kadm.ListedOffsets
	if err == nil {
		stable, err = adm.ListCommittedOffsets(ctx, topic)
	}
	if err == nil {
		err = errors.Join(starts.Error(), stable.Error())
	}
	if errors.Is(err, kerr.UnknownTopicOrPartition) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("list the offsets of topic %s: %w", topic, err)
	}
	left := map[int32]int64{}
	stable.Each(func(end kadm.ListedOffset) {
		if start, _ := starts.Lookup(topic, end.Partition); end.Offset > start.Offset {
			left[end.Partition] = end.Offset
		}
	})
	return readCommitted(ctx, w.cfg.ClientOpts, topic, left, func(rec *kgo.Record) error {
		if slices.ContainsFunc(rec.Headers, func(h kgo.RecordHeader) bool { return h.Key == HeaderIndex }) {
			return errFound
		}
		return nil
	})
}

// readCommitted calls f for each committed record of a topic from its start up to an offset of each partition, which end holds. The marker
// that ends a transaction is a record too. An error of f ends it.
func readCommitted(ctx context.Context, opts []kgo.Opt, topic string, end map[int32]int64, f func(*kgo.Record) error) error {
	if len(end) == 0 {
		return nil
	}
	cl, err := kgo.NewClient(append(slices.Clone(opts), kgo.ConsumeTopics(topic), kgo.KeepControlRecords(),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))...)
	if err != nil {
		return fmt.Errorf("kafka client: %w", err)
	}
	defer cl.Close()
	for len(end) > 0 {
		fetches := cl.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			return fmt.Errorf("read topic %s: %w", topic, err)
		}
		for records := fetches.RecordIter(); !records.Done(); {
			rec := records.Next()
			if rec.Offset+1 >= end[rec.Partition] {
				delete(end, rec.Partition)
			}
			if err := f(rec); err != nil {
				return fmt.Errorf("topic %s, partition %d, offset %d: %w", topic, rec.Partition, rec.Offset, err)
			}
		}
	}
	return nil
}
