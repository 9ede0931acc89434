package dedup

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"cassdelta/commitlog"
	"cassdelta/internal/foldmodel"
	"cassdelta/internal/rawtopic"
	"cassdelta/state"
)

var (
	propertyCases = flag.Int("cases", 20_000, "random cases of TestProperties")
	propertySeed  = flag.Uint64("seed", 1, "what the random cases of TestProperties follow from, each from this and its number")
	propertyCase  = flag.Int("case", -1, "the one case of TestProperties to run")
)

// TestProperties draws small sets of mutations, and lets them arrive in two orders: each several times, some cut in
// two, some merged with others, with ticks and definitions between. In each order
//
//   - each record makes the events that the model says, with its images, times and reasons: one for each row that it
//     changes;
//   - the before of an event is the after of the one before it of the same row;
//   - when all has been seen, nothing that comes again makes an event, whole, in parts, or merged, except that the deletion of a row
//     is told, once, which has lost all else with columns that were dropped since;
//   - at the end the rows are those of the model.
//
// Both orders lead to the same knowledge. The same records folded twice give the same bytes.
func TestProperties(t *testing.T) {
	first, cases := 0, *propertyCases
	if testing.Short() {
		cases = min(cases, 2000)
	}
	if *propertyCase >= 0 {
		first, cases = *propertyCase, 1
	}
	var next, failures atomic.Int64
	var total tally
	var lock sync.Mutex
	var workers sync.WaitGroup
	started := time.Now()
	for range runtime.GOMAXPROCS(0) {
		p := newProperties(t)
		workers.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= cases || failures.Load() >= 3 {
					break
				}
				if err := p.run(*propertySeed, uint64(first+i)); err != nil {
					failures.Add(1)
					t.Errorf("seed %d, case %d: %v", *propertySeed, first+i, err)
				}
				if i > 0 && i%100_000 == 0 {
					t.Logf("%d cases in %v", i, time.Since(started).Round(time.Second))
				}
			}
			lock.Lock()
			defer lock.Unlock()
			total.add(&p.tally, &p.fold.stats)
		})
	}
	workers.Wait()
	t.Logf("seed %d: %d cases on %d cores in %v\n%s", *propertySeed, cases, runtime.GOMAXPROCS(0), time.Since(started).Round(time.Millisecond), &total)
	if cases >= 2000 && !t.Failed() {
		total.complete(t)
	}
}

// tally counts what the cases were made of.
type tally struct {
	mutations, records, rowsAtEnd int64
	// events are by op and reason.
	events map[string]int64
	fold   Stats
}

func (c *tally) add(d *tally, s *Stats) {
	c.mutations, c.records, c.rowsAtEnd = c.mutations+d.mutations, c.records+d.records, c.rowsAtEnd+d.rowsAtEnd
	if c.events == nil {
		c.events = map[string]int64{}
	}
	for name, n := range d.events {
		c.events[name] += n
	}
	c.fold.Changed, c.fold.Silent, c.fold.Shadowed, c.fold.Copies = c.fold.Changed+s.Changed, c.fold.Silent+s.Silent, c.fold.Shadowed+s.Shadowed, c.fold.Copies+s.Copies
	c.fold.Unseen, c.fold.Late, c.fold.DroppedColumn = c.fold.Unseen+s.Unseen, c.fold.Late+s.Late, c.fold.DroppedColumn+s.DroppedColumn
}

func (c *tally) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d distinct mutations, %d records folded, %d rows at the end\nevents:", c.mutations, c.records, c.rowsAtEnd)
	for _, name := range slices.Sorted(maps.Keys(c.events)) {
		fmt.Fprintf(&b, " %s %d,", name, c.events[name])
	}
	s := &c.fold
	fmt.Fprintf(&b, " of them of unseen rows %d\nrecords: changed %d, silent %d, shadowed %d, copies %d; cells late %d, of dropped columns %d\n",
		s.Unseen, s.Changed, s.Silent, s.Shadowed, s.Copies, s.Late, s.DroppedColumn)
	return b.String()
}

// complete fails if some kind of thing did not occur: a change of the generator must not make the test empty.
func (c *tally) complete(t *testing.T) {
	for _, name := range []string{"c mutation", "u mutation", "d mutation", "u ttl", "d ttl"} {
		if c.events[name] == 0 {
			t.Errorf("no event %s", name)
		}
	}
	s := &c.fold
	if s.Unseen == 0 || s.Changed == 0 || s.Silent == 0 || s.Shadowed == 0 || s.Copies == 0 || s.Late == 0 || s.DroppedColumn == 0 || c.rowsAtEnd == 0 {
		t.Errorf("some kind of record did not occur:\n%s", c)
	}
}

// properties runs cases one after the other, each in a transaction of its own that is discarded.
type properties struct {
	*harness
	world  *world
	models *foldmodel.Model
	tally  tally
}

func newProperties(t *testing.T) *properties {
	p := &properties{harness: newHarness(t), world: newWorld(t), models: foldmodel.New(), tally: tally{events: map[string]int64{}}}
	for _, rec := range p.world.start() {
		p.apply(rec)
	}
	p.commit(state.Position{Offset: 1})
	return p
}

// run is one case: everything in it follows from the seed and its number.
func (p *properties) run(seed, number uint64) error {
	r := rand.New(rand.NewPCG(seed, number))
	m := p.world.mutations(r)
	var set []*rawtopic.Data
	for range 2 + r.IntN(3) {
		set = append(set, m.data())
	}
	records := m.observed(set)
	p.tally.mutations += int64(len(set))
	run := m.run(records)
	first, err := p.fully(m, run, records)
	if err != nil {
		return fmt.Errorf("%w\n%s", err, m.text(run))
	}
	if number%4 == 0 {
		second, err := p.fully(m, run, nil)
		if err != nil || first.dump != second.dump {
			return fmt.Errorf("folded again: the state is\n%x\nbefore it was\n%x\n%v\n%s", second.dump, first.dump, err, m.text(run))
		}
	}
	other := m.run(records)
	third, err := p.fully(m, other, records)
	if err != nil {
		return fmt.Errorf("%w\n%s", err, m.text(other))
	}
	if third.known != first.known {
		return fmt.Errorf("in one order the state is\n%s\nin the other\n%s\n%s\n%s", first.known, third.known, m.text(run), m.text(other))
	}
	return nil
}

// outcome is the state after a run: byte by byte, and what it knows at the end of time.
type outcome struct{ dump, known string }

// fully folds a run, then all records once more, and then lets time come to its end.
func (p *properties) fully(m *mutations, run, again []*rawtopic.Record) (outcome, error) {
	p.tx.Discard()
	p.fold.Reset()
	p.tx = p.store.Begin()
	model := p.models.Fresh()
	if _, err := model.Apply(m.of.first()); err != nil {
		return outcome{}, err
	}
	chain := chains{}
	if m.drops() {
		chain = nil // a column that is dropped takes its values from the images
	}
	for i, rec := range run {
		if _, err := p.step(rec, model, chain); err != nil {
			return outcome{}, fmt.Errorf("record %d: %w", i, err)
		}
	}
	o := outcome{dump: p.bytes()}
	if again == nil {
		return o, nil
	}
	for _, told := range []bool{!m.drops(), true} { // told: also of what was lost with columns
		for _, rec := range again {
			unseen := p.fold.stats.Unseen
			n, err := p.step(rec, model, chain)
			if !told {
				n -= int(p.fold.stats.Unseen - unseen)
			}
			if err == nil && n > 0 {
				err = fmt.Errorf("%d events", n)
			}
			if err != nil {
				return outcome{}, fmt.Errorf("once more: %w\n%s", err, m.text([]*rawtopic.Record{rec}))
			}
		}
		if !m.drops() {
			break
		}
	}
	if _, err := p.step(tickRecord(100_000), model, chain); err != nil { // everything that expires has, and nothing is absent
		return outcome{}, fmt.Errorf("the last tick: %w", err)
	}
	found, expected := p.rows(), map[string]string{}
	for _, row := range model.Rows() {
		e := foldmodel.Event{Table: row.Table, Key: row.Key, Static: row.Static, Clustering: row.Clustering}
		expected[e.Row()] = row.Image.String()
	}
	p.tally.rowsAtEnd += int64(len(expected))
	if !maps.Equal(found, expected) {
		return outcome{}, fmt.Errorf("the rows at the end are\n%v\nexpected\n%v", found, expected)
	}
	o.known = p.known()
	return o, nil
}

// bytes is the rows and timers in the state.
func (h *harness) bytes() string {
	var b []byte
	for _, space := range []state.Space{state.SpaceRows, state.SpaceTimer} {
		from, to := state.SpaceSpan(nil, nil, 0, space)
		err := h.tx.Scan(from, to, func(key, value []byte) (bool, error) {
			b = append(append(append(append(b, byte(len(key))), key...), byte(len(value))), value...)
			return true, nil
		})
		if err != nil {
			h.t.Fatal(err)
		}
	}
	return string(b)
}

// step folds a record, holds its events to the model's, and returns how many they are.
func (p *properties) step(rec *rawtopic.Record, model *foldmodel.Model, chain chains) (int, error) {
	var found []*foldmodel.Event
	emit := func(e *Event) error {
		found = append(found, modelEvent(e))
		return nil
	}
	p.tally.records++
	_, finished, err := applyEncoded(p.fold, p.tx, 5, rec, 0, math.MaxInt64, emit)
	if err != nil || !finished {
		return 0, fmt.Errorf("finished %v: %w", finished, err)
	}
	expected, err := model.Apply(rec)
	if err != nil {
		return 0, err
	}
	if wrong := foldmodel.Same(found, expected, rec.Kind == rawtopic.KindTick); wrong != "" {
		return 0, errors.New(wrong)
	}
	for _, e := range found {
		p.tally.events[fmt.Sprintf("%c %s", e.Op, e.Reason)]++
		if err := chain.check(e); err != nil {
			return 0, err
		}
	}
	return len(found), nil
}

// modelEvent is an event as the model has them.
func modelEvent(e *Event) *foldmodel.Event {
	return &foldmodel.Event{
		Table: e.Table.FullName(), Key: bytes.Clone(e.Key), Static: e.Static, Clustering: foldmodel.Clone(e.Clustering), Op: byte(e.Op),
		Before: foldmodel.ImageOf(e.Table, e.Before), After: foldmodel.ImageOf(e.Table, e.After), Changed: foldmodel.Names(e.Table, e.Changed),
		Timestamp: e.Timestamp, Reason: string(e.Reason), Complete: e.Complete,
	}
}

// chains has the last image of each row. A nil one checks nothing.
type chains map[string]foldmodel.Image

func (c chains) check(e *foldmodel.Event) error {
	if c == nil {
		return nil
	}
	row := e.Row()
	last, seen := c[row]
	unseen := !seen && e.Op == 'd' && e.Before != nil && len(e.Before) == 0
	if !unseen && ((e.Before == nil) != (last == nil) || !maps.Equal(e.Before, last)) {
		return fmt.Errorf("%s: the event before it left %s", e, last)
	}
	c[row] = e.After
	return nil
}

// rows are the images of the rows that exist in the state.
func (h *harness) rows() map[string]string {
	rows := map[string]string{}
	err := h.fold.Rows(h.tx, func(r *StoredRow) error {
		e := foldmodel.Event{Table: r.Table.FullName(), Key: r.Key, Static: r.Static, Clustering: r.Clustering}
		rows[e.Row()] = foldmodel.ImageOf(r.Table, r.Image).String()
		return nil
	})
	if err != nil {
		h.t.Fatal(err)
	}
	return rows
}

// eachRow calls f with each row of the state, without what belongs to dropped columns.
func (h *harness) eachRow(f func(k state.Key, t *table, r *row)) {
	from, to := state.SpaceSpan(nil, nil, 0, state.SpaceRows)
	err := h.tx.Scan(from, to, func(key, value []byte) (bool, error) {
		k, err := state.SplitKey(key)
		if err != nil || k.Kind != state.KindRow && k.Kind != state.KindStatic {
			return true, err
		}
		t := h.fold.tables[k.Table]
		n := len(t.schema.ClusteringColumns())
		if k.Kind == state.KindStatic {
			n = 0
		}
		var r row
		if err := decodeRow(value, n, &r); err != nil {
			return false, err
		}
		r.forget(t)
		f(k, t, &r)
		return true, nil
	})
	if err != nil {
		h.t.Fatal(err)
	}
}

// known is what the state says, in a form that does not depend on what is void, nor on the numbers of columns and on
// which form of a row's key came first.
func (h *harness) known() string {
	var b strings.Builder
	type tombstone struct {
		start, end string
		deletion   commitlog.Deletion
	}
	partitions := map[string]commitlog.Deletion{}
	ranges := map[string][]tombstone{}
	name := func(k state.Key) string { return fmt.Sprintf("%x %x", k.Table, k.Partition) }
	from, to := state.SpaceSpan(nil, nil, 0, state.SpaceRows)
	err := h.tx.Scan(from, to, func(key, value []byte) (bool, error) {
		k, err := state.SplitKey(key)
		if err != nil {
			return false, err
		}
		switch k.Kind {
		case state.KindHeader:
			head, err := decodeHeader(value)
			if err != nil {
				return false, err
			}
			partitions[name(k)] = head.deletion
			fmt.Fprintf(&b, "%s deleted %v\n", name(k), head.deletion)
		case state.KindRange:
			d, start, err := decodeRange(value)
			if err != nil {
				return false, err
			}
			ranges[name(k)] = append(ranges[name(k)], tombstone{string(start), string(k.Clustering), d})
			if supersedes(d, partitions[name(k)]) {
				fmt.Fprintf(&b, "%s from %x to %x deleted %v\n", name(k), start, k.Clustering, d)
			}
		}
		return true, nil
	})
	if err != nil {
		h.t.Fatal(err)
	}
	h.eachRow(func(k state.Key, t *table, r *row) {
		deletion, ok := partitions[name(k)]
		if !ok {
			deletion = commitlog.LiveDeletion
		}
		for _, g := range ranges[name(k)] {
			if k.Kind == state.KindRow && g.start <= string(k.Clustering) && string(k.Clustering) < g.end {
				deletion = strongest(deletion, g.deletion)
			}
		}
		var nothing, rest row
		nothing.reset()
		rest.merge(t, r, &nothing, deletion, 0)
		fmt.Fprintf(&b, "%s %d %x: %+v deleted %v\n", name(k), k.Kind, k.Clustering, rest.liveness, rest.deletion)
		var parts []string
		for _, d := range rest.elements {
			parts = append(parts, fmt.Sprintf("    %s deleted %v\n", t.columns[d.id].name, d.Deletion))
		}
		for _, c := range rest.cells {
			name := t.columns[c.id].name
			c.id = 0
			parts = append(parts, fmt.Sprintf("    %s: %+v\n", name, c))
		}
		slices.Sort(parts)
		b.WriteString(strings.Join(parts, ""))
	})
	return b.String()
}

// TestCuts folds the same records in one go, and cut into transactions at random: with limits that break records into
// pieces, transactions that are discarded, stores that are closed with or without what Kafka has already. The state is
// the same, byte by byte, and so are the events with their places.
func TestCuts(t *testing.T) {
	runs := 120
	if testing.Short() {
		runs = 15
	}
	for seed := range uint64(runs) {
		r := rand.New(rand.NewPCG(seed, 1))
		records := newWorld(t).long(r)
		whole := newHarness(t)
		for _, rec := range records {
			whole.apply(rec)
		}
		cut := newHarness(t)
		cut.foldInPieces(r, records)
		if !slices.Equal(cut.events, whole.events) || !slices.Equal(cut.places, whole.places) {
			t.Fatalf("seed %d: cut into transactions the events are\n%s\nin one\n%s", seed,
				zip(cut.places, cut.events), zip(whole.places, whole.events))
		}
		if a, b := cut.dump(), whole.dump(); a != b {
			t.Fatalf("seed %d: cut into transactions the state is\n%s\nin one\n%s", seed, a, b)
		}
		cut.store.Close()
		whole.store.Close()
	}
}

func zip(places, events []string) string {
	var b strings.Builder
	for i := range events {
		fmt.Fprintf(&b, "%s %s\n", places[i], events[i])
	}
	return b.String()
}

var errStop = errors.New("stop here")

// foldInPieces does with the records what a worker does that often fails: the events it keeps are those of transactions
// that Kafka committed.
func (h *harness) foldInPieces(r *rand.Rand, records []*rawtopic.Record) {
	h.t.Helper()
	var kafka state.Position // what Kafka has
	silent := func(*Event) error { return nil }
	for {
		// What Kafka has and the state has not is folded without its events.
		at, _ := h.store.Position()
		for at.Compare(kafka) < 0 {
			limit := int64(math.MaxInt64)
			if at.Offset == kafka.Offset {
				limit = kafka.Done - at.Done
			}
			limit = min(limit, 1+r.Int64N(5))
			n, finished, err := applyEncoded(h.fold, h.tx, at.Offset, records[at.Offset], at.Done, limit, silent)
			if err != nil {
				h.t.Fatal(err)
			}
			if at.Done += n; finished {
				at = state.Position{Offset: at.Offset + 1}
			}
		}
		if at.Offset == int64(len(records)) {
			h.commit(at)
			return
		}
		// Fold some more.
		var events, places []string
		keep := func(e *Event) error {
			events = append(events, eventText(e))
			places = append(places, fmt.Sprintf("%d+%d", e.RawOffset, e.Index))
			if r.IntN(200) == 0 {
				return errStop
			}
			return nil
		}
		var err error
		for range r.IntN(12) {
			if at.Offset == int64(len(records)) {
				break
			}
			limit := r.Int64N(4)
			n, finished, applyErr := applyEncoded(h.fold, h.tx, at.Offset, records[at.Offset], at.Done, limit, keep)
			if err = applyErr; err != nil {
				break
			}
			if n > limit {
				h.t.Fatalf("offset %d: %d events, the limit was %d", at.Offset, n, limit)
			}
			if at.Done += n; finished {
				at = state.Position{Offset: at.Offset + 1}
			}
		}
		outcome := r.IntN(10)
		switch {
		case err != nil || outcome == 0: // aborted
			if err != nil && !errors.Is(err, errStop) {
				h.t.Fatal(err)
			}
			h.tx.Discard()
			h.fold.Reset()
			h.tx = h.store.Begin()
			continue
		case outcome == 1: // committed in Kafka, and then a crash
			h.tx.Discard()
			h.fold.Reset()
			h.tx = h.store.Begin()
		case outcome == 2: // committed, and begun again by another process
			h.commit(at)
			h.tx.Discard()
			if err := h.store.Close(); err != nil {
				h.t.Fatal(err)
			}
			h.open()
			h.fold = NewFold(0)
		default:
			h.commit(at)
		}
		kafka = at
		h.events, h.places = append(h.events, events...), append(h.places, places...)
	}
}
