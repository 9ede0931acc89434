package local

import (
	"context"
	"fmt"
	"regexp"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"cassdelta/internal/sink"
)

// reader follows the clean topics as any consumer does.
type reader struct {
	client *kgo.Client
	reader *sink.Reader
	topics *regexp.Regexp
	counts map[string]int64 // events by op

	mu    sync.Mutex
	until offsets                    // nil until the ends are known
	seen  map[string]map[int32]int64 // the offsets behind what was read
}

func newReader(opts []kgo.Opt, prefix string) (*reader, error) {
	topics := regexp.MustCompile(`^` + regexp.QuoteMeta(prefix) + `\.[^.]+\.[^.]+$`)
	client, err := kgo.NewClient(append(opts[:len(opts):len(opts)],
		kgo.ConsumeRegex(), kgo.ConsumeTopics(topics.String()),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.FetchMaxWait(100*time.Millisecond),
		// A topic is made when its first event comes, which is to be seen soon.
		kgo.MetadataMinAge(50*time.Millisecond), kgo.MetadataMaxAge(200*time.Millisecond),
		// The last record of a partition mostly is the end of a transaction; the end is reached when that was seen.
		kgo.KeepControlRecords())...)
	if err != nil {
		return nil, fmt.Errorf("kafka client: %w", err)
	}
	return &reader{
		client: client, reader: sink.NewReader(sink.ReaderConfig{Prefix: prefix, Opts: opts}), topics: topics,
		counts: map[string]int64{}, seen: map[string]map[int32]int64{},
	}, nil
}

func (r *reader) close() {
	r.reader.Close()
	r.client.Close()
}

// run calls print with each event until the ends that stopAtEnd found are reached.
func (r *reader) run(ctx context.Context, print func(*sink.Change) error) error {
	for !r.done() {
		wait, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
		fetches := r.client.PollFetches(wait)
		ended := wait.Err() != nil
		cancel()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		for _, e := range fetches.Errors() {
			if !ended {
				return fmt.Errorf("read topic %s, partition %d: %w", e.Topic, e.Partition, e.Err)
			}
		}
		for rec := range fetches.RecordsAll() {
			if !rec.Attrs.IsControl() {
				change, err := r.reader.Read(ctx, rec)
				if err != nil {
					return err
				}
				r.counts[change.Op]++
				if err := print(change); err != nil {
					return fmt.Errorf("print: %w", err)
				}
			}
			if r.seen[rec.Topic] == nil {
				r.seen[rec.Topic] = map[int32]int64{}
			}
			r.seen[rec.Topic][rec.Partition] = rec.Offset + 1
		}
	}
	return nil
}

func (r *reader) done() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.until == nil {
		return false
	}
	for topic, partitions := range r.until {
		for p, end := range partitions {
			if r.seen[topic][p] < end {
				return false
			}
		}
	}
	return true
}

// stopAtEnd lets run return once it has printed what the clean topics hold now.
func (r *reader) stopAtEnd(ctx context.Context, adm *kadm.Client) error {
	all, err := adm.ListTopics(ctx)
	if err != nil {
		return err
	}
	var clean []string
	for _, name := range all.Names() {
		if r.topics.MatchString(name) {
			clean = append(clean, name)
		}
	}
	until := offsets{}
	if len(clean) > 0 {
		if until, err = ends(ctx, adm, clean...); err != nil {
			return err
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.until = until
	return nil
}
