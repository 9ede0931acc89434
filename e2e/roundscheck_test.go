package e2e

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// roundsCheck follows the raw topic and the clean ones over all rounds, and says what is wrong with the events.
type roundsCheck struct {
	raw, clean         *follower
	rawRead, cleanRead int // records that were decoded
	codec              *rawCodec
	reader             *cleanReader
	model              *rawModel
	events             []*event
}

func newRoundsCheck(raw, clean *follower, reader *cleanReader) (*roundsCheck, error) {
	codec, err := newRawCodec()
	if err != nil {
		return nil, err
	}
	return &roundsCheck{raw: raw, clean: clean, codec: codec, reader: reader, model: newRawModel(codec)}, nil
}

// read takes what was read since the last time.
func (c *roundsCheck) read(ctx context.Context) error {
	records, _, err := c.raw.from(c.rawRead)
	if err != nil {
		return err
	}
	c.rawRead += len(records)
	for _, r := range records {
		rec, err := c.codec.decode(rawPlace{r.Partition, r.Offset}, r.Value)
		if err == nil {
			err = c.model.fold(rec)
		}
		if err != nil {
			return fmt.Errorf("the raw topic: %w", err)
		}
	}
	records, _, err = c.clean.from(c.cleanRead)
	if err != nil {
		return err
	}
	c.cleanRead += len(records)
	for _, r := range records {
		if r.Topic == cleanPrefix+".schemas" {
			continue
		}
		e, err := c.reader.event(ctx, r)
		if err != nil {
			return fmt.Errorf("%s: %w", place(r), err)
		}
		c.events = append(c.events, e)
	}
	return nil
}

// verdict is what is wrong with all events so far.
type verdict struct {
	events, lost, doubled, broken int
	failures                      []failure
}

// validate compares the events with those that the raw records must make, row by row; the rows that they leave with those of
// the raw records; and looks at chains and order.
func (c *roundsCheck) validate() verdict {
	type change struct {
		row   rowID
		cause rawPlace
	}
	v := verdict{events: len(c.events)}
	left := map[change]int{} // how often it is there, less how often it is expected
	for _, e := range c.model.events {
		left[change{e.row, e.cause}]--
	}
	for _, e := range c.events {
		left[change{e.row, e.cause}]++
	}
	for _, n := range left {
		v.lost += max(0, -n)
		v.doubled += max(0, n)
	}
	chains := checkChains(c.events)
	v.broken = len(chains)
	v.failures = slices.Concat(
		checkEvents(c.events, c.model.events, true), chains, checkCauses(c.events),
		checkRows("clean topics folded against the raw topic folded", foldEvents(c.events), c.model.final()))
	return v
}

// arrivals are when the events of each raw partition could be read.
type arrivals struct {
	check *roundsCheck
	mu    sync.Mutex
	from  int // clean records looked at
	last  [rawPartitions][]arrival
}

type arrival struct {
	at     time.Time
	offset int64 // of the raw record
}

// look takes what was read since the last time.
func (a *arrivals) look() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	records, at, err := a.check.clean.from(a.from)
	if err != nil {
		return err
	}
	a.from += len(records)
	for i, r := range records {
		if r.Topic == cleanPrefix+".schemas" {
			continue
		}
		p, offset, err := causeOf(r)
		if err != nil {
			return err
		}
		a.last[p] = append(a.last[p], arrival{at[i], offset})
	}
	return nil
}

// causeOf is the place of the raw record that an event is of.
func causeOf(r *kgo.Record) (partition, offset int64, err error) {
	partition, offset = -1, -1
	for _, h := range r.Headers {
		var n int64
		switch h.Key {
		case "cassdelta.raw.partition", "cassdelta.raw.offset":
			if n, err = strconv.ParseInt(string(h.Value), 10, 64); err != nil {
				return 0, 0, fmt.Errorf("%s: header %s: %w", place(r), h.Key, err)
			}
		}
		switch h.Key {
		case "cassdelta.raw.partition":
			partition = n
		case "cassdelta.raw.offset":
			offset = n
		}
	}
	if partition < 0 || partition >= rawPartitions || offset < 0 {
		return 0, 0, fmt.Errorf("%s: its headers name no raw record", place(r))
	}
	return partition, offset, nil
}

// all says whether each raw partition has an event of a record at or behind its offset among ends.
func (a *arrivals) all(ends map[int32]int64) error {
	if err := a.look(); err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for p, list := range a.last {
		if len(list) == 0 || list[len(list)-1].offset < ends[int32(p)] {
			return fmt.Errorf("raw partition %d has no events since", p)
		}
	}
	return nil
}

// after is how long after a time the first event and the last partition's first event of a record behind ends could be read.
func (a *arrivals) after(start time.Time, ends map[int32]int64) (first, last time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	first = time.Hour
	for p, list := range a.last {
		for _, x := range list {
			if x.offset >= ends[int32(p)] && x.at.After(start) {
				first, last = min(first, x.at.Sub(start)), max(last, x.at.Sub(start))
				break
			}
		}
	}
	return first, last
}

// longestGap is the longest time between two events of a raw partition, from a time to another.
func (a *arrivals) longestGap(from, to time.Time) (gap time.Duration, partition int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for p, list := range a.last {
		last := from
		for _, x := range append(list[:len(list):len(list)], arrival{at: to}) {
			if x.at.Before(from) || x.at.After(to) {
				continue
			}
			if d := x.at.Sub(last); d > gap {
				gap, partition = d, p
			}
			last = x.at
		}
	}
	return gap, partition
}

// TestVerdict takes the validation of rounds apart: what is lost, doubled and broken is counted, and is a failure.
func TestVerdict(t *testing.T) {
	row := rowID{table: "accounts", partition: "1"}
	made := func(n int64) *event {
		e := change(row, image{"seq": fmt.Sprint(n - 1)}, image{"seq": fmt.Sprint(n)}, n)
		if n == 1 {
			e = change(row, nil, image{"seq": "1"}, n)
		}
		e.cause, e.offset = rawPlace{3, n}, n
		return e
	}
	model := &modelPartition{deletion: rawDeletion{timestamp: noDeletion}, rows: map[rowID]*mergedRow{row: {
		table: tableByName("accounts"), liveness: noDeletion, deletion: rawDeletion{timestamp: noDeletion},
		cells: map[string]rawCell{"seq": {timestamp: 3, value: encode("bigint", int64(3))}},
	}}}
	for _, test := range []struct {
		name                  string
		events                []*event
		lost, doubled, broken int
	}{
		{"as it should be", []*event{made(1), made(2), made(3)}, 0, 0, 0},
		{"one is lost", []*event{made(1), made(3)}, 1, 0, 1},
		{"the last is lost", []*event{made(1), made(2)}, 1, 0, 0},
		{"one is doubled", []*event{made(1), made(2), made(2), made(3)}, 0, 1, 2},
		{"one is of another record", []*event{made(1), made(2), made(3), {row: row, op: "u", before: image{"seq": "3"}, after: image{"seq": "3"}, cause: rawPlace{3, 4}, offset: 4}}, 0, 1, 0},
	} {
		c := &roundsCheck{model: &rawModel{events: []*event{made(1), made(2), made(3)}, partitions: map[partitionID]*modelPartition{{"accounts", "1"}: model}}, events: test.events}
		v := c.validate()
		right := test.lost+test.doubled+test.broken == 0
		if v.lost != test.lost || v.doubled != test.doubled || v.broken != test.broken || (len(v.failures) == 0) != right {
			t.Errorf("%s: %d lost, %d doubled, %d broken, failures %v; expected %d, %d and %d", test.name, v.lost, v.doubled, v.broken, v.failures, test.lost, test.doubled, test.broken)
		}
	}
}

func TestArrivals(t *testing.T) {
	start := time.UnixMilli(1000)
	at := func(ms int64, offset int64) arrival {
		return arrival{start.Add(time.Duration(ms) * time.Millisecond), offset}
	}
	a := &arrivals{}
	for p := range a.last {
		a.last[p] = []arrival{at(-50, 1), at(10, 2), at(100, 3), at(200, 4)}
	}
	a.last[5] = []arrival{at(-50, 1), at(20, 2), at(170, 3), at(200, 4)}
	ends := map[int32]int64{}
	for p := range int32(rawPartitions) {
		ends[p] = 3
	}
	if first, all := a.after(start, ends); first != 100*time.Millisecond || all != 170*time.Millisecond {
		t.Errorf("after %v and %v, expected 100 and 170 ms", first, all)
	}
	if gap, p := a.longestGap(start, start.Add(250*time.Millisecond)); gap != 150*time.Millisecond || p != 5 {
		t.Errorf("gap %v of partition %d, expected 150 ms of 5", gap, p)
	}
	if gap, _ := a.longestGap(start, start.Add(500*time.Millisecond)); gap != 300*time.Millisecond {
		t.Errorf("gap %v, expected the 300 ms up to the end", gap)
	}
}
