package e2e

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"sort"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// follower reads topics from their start and keeps what it reads.
type follower struct {
	client *kgo.Client
	done   chan struct{}
	cancel context.CancelFunc

	mu      sync.Mutex
	records []*kgo.Record // without control records
	at      []time.Time   // when each of them was read
	next    map[string]map[int32]int64
	err     error
}

// follow starts to read all topics that match a regular expression, those made later too.
func follow(brokers []string, topics string, isolation kgo.IsolationLevel) (*follower, error) {
	client, err := kgo.NewClient(
		kgo.SeedBrokers(brokers...),
		kgo.ConsumeRegex(), kgo.ConsumeTopics(topics),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchIsolationLevel(isolation),
		// Control records are shown so that the end of a partition is seen, which is often one.
		kgo.KeepControlRecords(),
		kgo.MetadataMinAge(250*time.Millisecond), kgo.MetadataMaxAge(time.Second),
		kgo.FetchMaxWait(200*time.Millisecond),
	)
	if err != nil {
		return nil, fmt.Errorf("follow %s: %w", topics, err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	f := &follower{client: client, done: make(chan struct{}), cancel: cancel, next: map[string]map[int32]int64{}}
	go f.run(ctx)
	return f, nil
}

func (f *follower) run(ctx context.Context) {
	defer close(f.done)
	for ctx.Err() == nil {
		fetches := f.client.PollFetches(ctx)
		now := time.Now()
		f.mu.Lock()
		for _, e := range fetches.Errors() {
			if ctx.Err() == nil && f.err == nil {
				f.err = fmt.Errorf("read topic %s, partition %d: %w", e.Topic, e.Partition, e.Err)
			}
		}
		fetches.EachRecord(func(r *kgo.Record) {
			if f.next[r.Topic] == nil {
				f.next[r.Topic] = map[int32]int64{}
			}
			f.next[r.Topic][r.Partition] = r.Offset + 1
			if !r.Attrs.IsControl() {
				f.records = append(f.records, r)
				f.at = append(f.at, now)
			}
		})
		f.mu.Unlock()
	}
}

// from is what was read after the first n records, in the order of reading, and when.
func (f *follower) from(n int) ([]*kgo.Record, []time.Time, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.records[n:]), slices.Clone(f.at[n:]), f.err
}

// close ends the reading.
func (f *follower) close() {
	f.cancel()
	<-f.done
	f.client.Close()
}

// count is the number of records read so far.
func (f *follower) count() (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.records), f.err
}

// reached is an error unless all partitions were read up to the ends given.
func (f *follower) reached(ends kadm.ListedOffsets) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	err := f.err
	ends.Each(func(end kadm.ListedOffset) {
		if next := f.next[end.Topic][end.Partition]; next < end.Offset && err == nil {
			err = fmt.Errorf("topic %s, partition %d was read up to %d, and ends at %d", end.Topic, end.Partition, next, end.Offset)
		}
	})
	return err
}

// sorted is what was read, by topic, partition and offset.
func (f *follower) sorted() []*kgo.Record {
	f.mu.Lock()
	defer f.mu.Unlock()
	list := slices.Clone(f.records)
	sort.SliceStable(list, func(i, j int) bool {
		a, b := list[i], list[j]
		switch {
		case a.Topic != b.Topic:
			return a.Topic < b.Topic
		case a.Partition != b.Partition:
			return a.Partition < b.Partition
		}
		return a.Offset < b.Offset
	})
	return list
}

// readAll reads topics from start to the end that they have now: with ReadCommitted up to the first open transaction.
func readAll(ctx context.Context, brokers []string, topics string, isolation kgo.IsolationLevel, ends kadm.ListedOffsets) ([]*kgo.Record, error) {
	f, err := follow(brokers, topics, isolation)
	if err != nil {
		return nil, err
	}
	defer f.close()
	if err := poll(ctx, topics+" is read", func() error { return f.reached(ends) }); err != nil {
		return nil, err
	}
	return f.sorted(), nil
}

// checkIsolation compares what three readers saw of the clean topics: one of committed records that followed while
// they were written, one of committed records afterwards, and one of all records. The first two must agree record by
// record; what they saw must be in order in the third, which may have more: the records of aborted transactions.
func checkIsolation(followed, committed, all []*kgo.Record) (aborted int, failures []failure) {
	if n, m := len(followed), len(committed); n != m {
		failures = append(failures, fail(rowID{}, "the reader that followed saw %d committed records, one afterwards sees %d", n, m))
	}
	for i := range min(len(followed), len(committed)) {
		if !sameRecord(followed[i], committed[i]) {
			failures = append(failures, fail(rowID{}, "record %d that the reader saw that followed is %s, afterwards it is %s", i, place(followed[i]), place(committed[i])))
			break
		}
	}
	i := 0
	for _, r := range all {
		if i < len(committed) && sameRecord(r, committed[i]) {
			i++
		} else {
			aborted++
		}
	}
	if i < len(committed) {
		failures = append(failures, fail(rowID{}, "the committed record %s is not among all records", place(committed[i])))
	}
	return aborted, failures
}

func sameRecord(a, b *kgo.Record) bool {
	return a.Topic == b.Topic && a.Partition == b.Partition && a.Offset == b.Offset && bytes.Equal(a.Key, b.Key) && bytes.Equal(a.Value, b.Value)
}

func place(r *kgo.Record) string { return fmt.Sprintf("%s/%d/%d", r.Topic, r.Partition, r.Offset) }

// total sums end offsets.
func total(offsets kadm.ListedOffsets) int64 {
	n := int64(0)
	offsets.Each(func(o kadm.ListedOffset) { n += o.Offset })
	return n
}

// checkNoOpenTransaction compares the ends that readers of committed records and of all records have. They differ while
// a transaction is open.
func checkNoOpenTransaction(stable, high kadm.ListedOffsets) []failure {
	var failures []failure
	high.Each(func(h kadm.ListedOffset) {
		if s, ok := stable.Lookup(h.Topic, h.Partition); !ok || s.Offset != h.Offset {
			failures = append(failures, fail(rowID{}, "topic %s, partition %d: committed up to %d, written up to %d: a transaction is open after the writers have stopped", h.Topic, h.Partition, s.Offset, h.Offset))
		}
	})
	return failures
}

func TestCheckIsolation(t *testing.T) {
	record := func(offset int64, value string) *kgo.Record {
		return &kgo.Record{Topic: "t", Offset: offset, Value: []byte(value)}
	}
	a, b, aborted, c := record(0, "a"), record(1, "b"), record(2, "aborted"), record(5, "c")
	for _, test := range []struct {
		name                     string
		followed, committed, all []*kgo.Record
		aborted, failures        int
	}{
		{"as it should be", []*kgo.Record{a, b, c}, []*kgo.Record{a, b, c}, []*kgo.Record{a, b, aborted, c}, 1, 0},
		{"the follower saw what was aborted", []*kgo.Record{a, b, aborted, c}, []*kgo.Record{a, b, c}, []*kgo.Record{a, b, aborted, c}, 1, 2},
		{"the follower saw something else", []*kgo.Record{a, record(1, "x"), c}, []*kgo.Record{a, b, c}, []*kgo.Record{a, b, c}, 0, 1},
		{"a committed record is nowhere", []*kgo.Record{a, b, c}, []*kgo.Record{a, b, c}, []*kgo.Record{a, c}, 1, 1},
	} {
		n, failures := checkIsolation(test.followed, test.committed, test.all)
		if n != test.aborted || len(failures) != test.failures {
			t.Errorf("%s: %d aborted, %v; expected %d and %d failures", test.name, n, failures, test.aborted, test.failures)
		}
	}
}

func TestCheckNoOpenTransaction(t *testing.T) {
	ends := func(n int64) kadm.ListedOffsets {
		return kadm.ListedOffsets{"t": {0: {Topic: "t", Partition: 0, Offset: n}}}
	}
	if f := checkNoOpenTransaction(ends(5), ends(5)); len(f) > 0 {
		t.Error(f)
	}
	for _, stable := range []kadm.ListedOffsets{ends(4), nil} {
		if f := checkNoOpenTransaction(stable, ends(5)); len(f) != 1 {
			t.Errorf("%d failures", len(f))
		}
	}
}
