package dedup

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

const (
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
	}, more)
}

// waiting is how many records wait to be folded.
func (s *session) waiting() int {
	n := 0
	for _, t := range s.tasks {
		n += t.waiting()
	}
	return n
}

// tend does what is due for the stores.
func (s *session) tend() error {
	for _, t := range s.tasks {
		if err := t.tend(); err != nil {
			return err
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
		t.showProgress()
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
