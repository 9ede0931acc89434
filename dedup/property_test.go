package dedup

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"sort"
	"strings"
	"testing"

	"cassdelta/commitlog"
	"cassdelta/internal/rawtopic"
	"cassdelta/schema"
	"cassdelta/state"
)

// Random writes in a small world, so that they meet: few partitions, rows, write times and values.
const (
	worldPartitions = 2
	worldC1         = 4
	worldC2         = "xyz"
	worldTimes      = 12
	worldEpoch      = 1000 // the second of the first write
)

type world struct {
	r      *rand.Rand
	wide   *schema.Table
	single *schema.Table
	ttl    bool
	ranges bool
}

func newWorld(t testing.TB, seed uint64) *world {
	return &world{
		r: rand.New(rand.NewPCG(seed, 1)),
		wide: tableOf(t, elementsTypes(t), wideTable, append(wideElements, "k int partition_key", "c1 int clustering", "c2 text desc",
			"s1 int static", "ts text static", "t1 text regular", "v1 int regular", "v2 int regular")...),
		single: mustTable(t, singleTable, append(singleElements, "k int partition_key", "t1 text regular", "v1 int regular")...),
		ttl:    seed%2 == 0, ranges: seed%3 != 0,
	}
}

func (w *world) chance(percent int) bool { return w.r.IntN(100) < percent }

func (w *world) time() int64 { return worldEpoch*microseconds + int64(w.r.IntN(worldTimes)) }

func (w *world) clustering() clustering {
	return clustering{w.r.IntN(worldC1), string(worldC2[w.r.IntN(len(worldC2))])}
}

// local is the local deletion time of a tombstone: never such that it could be the expiry of a cell.
func (w *world) local() int64 { return 500_000 + int64(w.r.IntN(3)) }

func (w *world) delete() commitlog.Deletion {
	return commitlog.Deletion{Timestamp: w.time(), LocalTime: w.local()}
}

// span is a time to live and its end.
func (w *world) span() (ttl int32, expiry int64) {
	ttl = int32(1 + w.r.IntN(6))
	return ttl, worldEpoch + int64(ttl) + int64(w.r.IntN(3))
}

func (w *world) mutation() *mutation {
	u := &mutation{table: wideTable, key: w.r.IntN(worldPartitions), deletion: commitlog.LiveDeletion}
	if w.chance(25) {
		u.table = singleTable
	}
	if w.chance(6) {
		u.deletion = w.delete()
	}
	if u.table == singleTable {
		if u.deletion.IsLive() || w.chance(30) {
			u.rows = append(u.rows, w.row(nil, []string{"l1", "m1"}, "t1", "v1"))
		}
		return u
	}
	if w.chance(15) {
		row := w.row(nil, []string{"y1"}, "s1", "ts")
		row.liveness, row.deletion = noLiveness.Liveness, commitlog.LiveDeletion
		u.static = &row
	}
	seen := map[string]bool{}
	for range w.r.IntN(4) {
		c := w.clustering()
		if !seen[fmt.Sprint(c)] {
			seen[fmt.Sprint(c)] = true
			u.rows = append(u.rows, w.row(c, []string{"m1", "u1", "x1"}, "t1", "v1", "v2"))
		}
	}
	slices.SortFunc(u.rows, func(a, b rowWrite) int { return a.clustering.compare(b.clustering) })
	if w.ranges && w.chance(15) {
		u.ranges = w.someRanges()
	}
	return u
}

// someRanges are one or two ranges in order.
func (w *world) someRanges() []rangeWrite {
	var ranges []rangeWrite
	for at := 0; at < worldC1 && len(ranges) < 2; {
		low := at + w.r.IntN(worldC1-at)
		high := low + w.r.IntN(worldC1-low)
		g := rangeWrite{from: clustering{low}, to: clustering{high}, fromIncl: w.chance(50), toIncl: w.chance(50), deletion: w.delete()}
		switch {
		case w.chance(10):
			g.to = nil
			high = worldC1
		case w.chance(30):
			g.to = append(g.to, w.clustering()[1])
		}
		if at == 0 && w.chance(10) {
			g.from = nil
		} else if w.chance(30) {
			g.from = append(g.from, w.clustering()[1])
		}
		at = high + 1
		// A range that ends before it begins is not one.
		if g.from != nil && g.to != nil {
			if order := g.from.compare(g.to); order > 0 || order == 0 && !(g.fromIncl && g.toIncl) {
				continue
			}
		}
		ranges = append(ranges, g)
	}
	return ranges
}

func (w *world) row(c clustering, elements []string, columns ...string) rowWrite {
	row := rowWrite{clustering: c, liveness: noLiveness.Liveness, deletion: commitlog.LiveDeletion, cells: map[string]commitlog.Cell{}}
	at := w.time()
	ttl, expiry := w.span()
	expires := w.ttl && w.chance(30)
	if w.chance(50) {
		row.liveness.Timestamp = at
		if expires {
			row.liveness.TTL, row.liveness.ExpiresAt = ttl, expiry
		}
	}
	if w.chance(12) {
		row.deletion = w.delete()
	}
	for _, name := range columns {
		if w.chance(50) {
			continue
		}
		c := commitlog.Cell{Timestamp: at, LocalTime: commitlog.NoDeletionTime, Value: intValue(w.r.IntN(3))}
		if strings.HasPrefix(name, "t") {
			c.Value = []byte([]string{"", "a", "b"}[w.r.IntN(3)])
		}
		switch {
		case w.chance(15):
			c.Deleted, c.Value, c.LocalTime = true, nil, w.local()
		case expires:
			c.TTL, c.LocalTime = ttl, expiry
		}
		if w.chance(20) {
			c.Timestamp = w.time()
		}
		row.cells[name] = c
	}
	if !expires {
		ttl = 0
	}
	w.elementsRow(&row, at, ttl, expiry, elements...)
	return row
}

// record is the raw record of a mutation, as host sent it.
func (w *world) record(u *mutation, host byte) *rawtopic.Record {
	table := w.wide
	if u.table == singleTable {
		table = w.single
	}
	d := newData(table, intValue(u.key))
	d.Origin.Host[0] = host
	d.Deletion = u.deletion
	if u.static != nil {
		row := rawRow(table, u.static)
		d.Static = &row
	}
	for i := range u.rows {
		d.Rows = append(d.Rows, rawRow(table, &u.rows[i]))
	}
	for _, g := range u.ranges {
		d.Ranges = append(d.Ranges, rawtopic.Range{
			Start:    rawtopic.Bound{Prefix: rawClustering(g.from), Inclusive: g.fromIncl},
			End:      rawtopic.Bound{Prefix: rawClustering(g.to), Inclusive: g.toIncl},
			Deletion: g.deletion,
		})
	}
	return dataRecord(d)
}

func rawRow(t *schema.Table, w *rowWrite) commitlog.Row {
	row := newRow(rawClustering(w.clustering)...)
	row.Liveness, row.Deletion = w.liveness, w.deletion
	for _, name := range slices.Sorted(maps.Keys(w.cells)) {
		column, _, _ := strings.Cut(name, "[")
		rowBuilder{t, &row}.add(column, w.cells[name])
	}
	for _, column := range slices.Sorted(maps.Keys(w.elements)) {
		i, _ := t.ColumnIndex(column)
		row.ComplexDeletions = append(row.ComplexDeletions, commitlog.ComplexDeletion{Column: i, Deletion: w.elements[column]})
	}
	return row
}

func rawClustering(c clustering) (values [][]byte) {
	for _, v := range c {
		switch v := v.(type) {
		case int:
			values = append(values, intValue(v))
		case string:
			values = append(values, []byte(v))
		}
	}
	return values
}

// step is a record of a run, and what the model says of it.
type step struct {
	mutation *mutation
	tick     int64 // if there is no mutation
	record   *rawtopic.Record
}

// run is what arrives: each mutation from three hosts, delayed, some repeated, and ticks.
func (w *world) run(mutations int) []step {
	type arrival struct {
		at   float64
		step step
	}
	var arrivals []arrival
	for i := range mutations {
		u := w.mutation()
		copies := 3 + w.r.IntN(2)
		for host := range copies {
			at := float64(i) + w.r.Float64()*3
			if w.chance(10) {
				at += w.r.Float64() * float64(mutations)
			}
			arrivals = append(arrivals, arrival{at, step{mutation: u, record: w.record(u, byte(host%3))}})
		}
	}
	if w.ttl {
		for range mutations / 4 {
			at := w.r.Float64() * float64(mutations) * 1.2
			second := worldEpoch + int64(at/float64(mutations)*9)
			arrivals = append(arrivals, arrival{at, step{tick: second, record: tickRecord(second)}})
		}
	}
	slices.SortStableFunc(arrivals, func(a, b arrival) int {
		if a.at < b.at {
			return -1
		}
		return 1
	})
	var steps []step
	for _, a := range arrivals {
		steps = append(steps, a.step)
	}
	return steps
}

// start is what every partition begins with.
func (w *world) start() []*rawtopic.Record {
	return []*rawtopic.Record{initRecord(), schemaRecord(w.wide), schemaRecord(w.single)}
}

// TestModel holds the fold to the model, record by record: the events, their chains, and the rows at the end.
func TestModel(t *testing.T) {
	runs := 300
	if testing.Short() {
		runs = 40
	}
	total, unseen := 0, 0
	for seed := range uint64(runs) {
		if t.Failed() {
			return
		}
		w := newWorld(t, seed)
		h := newHarness(t)
		for _, rec := range w.start() {
			h.apply(rec)
		}
		m := newModel()
		steps := w.run(60)
		chain := map[string]string{}
		for i, s := range steps {
			h.apply(s.record)
			found := h.take()
			total += len(found)
			for _, e := range found {
				checkChain(t, chain, e)
			}
			var expected []string
			if s.mutation != nil {
				expected = m.fold(s.mutation)
				sort.Strings(found)
			} else {
				expected = m.tick(s.tick)
				found = sortSeconds(found)
			}
			if !slices.Equal(found, expected) {
				t.Errorf("seed %d, step %d of %d: %+v %d:\nfound\n%s\nexpected\n%s", seed, i, len(steps), s.mutation, s.tick,
					strings.Join(found, "\n"), strings.Join(expected, "\n"))
				break
			}
		}
		unseen += m.unseen
		if rows, expected := h.rows(), m.rows(); !maps.Equal(rows, expected) {
			t.Errorf("seed %d: the rows at the end are\n%v\nexpected\n%v", seed, rows, expected)
		}
		h.store.Close()
	}
	t.Logf("%d events, %d of them of unseen rows", total, unseen)
}

// sortSeconds orders the events of one second of expiry as texts. The seconds come in order.
func sortSeconds(events []string) []string {
	second := func(e string) string { return e[strings.LastIndex(e, "@"):] }
	for from := 0; from < len(events); {
		to := from
		for to < len(events) && second(events[to]) == second(events[from]) {
			to++
		}
		sort.Strings(events[from:to])
		from = to
	}
	return events
}

// checkChain holds an event's before to the after of the event before it of the same row.
func checkChain(t *testing.T, chain map[string]string, event string) {
	t.Helper()
	at := strings.IndexAny(event[2:], "{") + 2
	if none := strings.Index(event, " none -> "); none >= 0 && none < at {
		at = none + 1
	}
	row := event[2:at]
	before, rest, _ := strings.Cut(event[at:], " -> ")
	after, _, _ := strings.Cut(rest, " @")
	last, ok := chain[row]
	if !ok {
		last = "none"
	}
	if before != last && !(!ok && event[0] == 'd' && before == "{}") {
		t.Errorf("%s: the event before it left %s", event, last)
	}
	chain[row] = after
}

// rows are the rows that exist in the state, read without the fold's help but for the decoding of values.
func (h *harness) rows() map[string]string {
	rows := map[string]string{}
	from, to := state.SpaceSpan(nil, nil, 0, state.SpaceRows)
	err := h.tx.Scan(from, to, func(key, value []byte) (bool, error) {
		k, err := state.SplitKey(key)
		if err != nil || k.Kind != state.KindRow && k.Kind != state.KindStatic {
			return true, err
		}
		table := h.fold.tables[k.Table]
		columns := table.schema.ClusteringColumns()
		var r row
		n := len(columns)
		if k.Kind == state.KindStatic {
			n = 0
		}
		if err := decodeRow(value, n, &r); err != nil {
			return false, err
		}
		name := fmt.Sprintf("%s k=%s", table.schema.Name, valueText(table.schema.Columns[0].Type, k.Partition))
		if k.Kind == state.KindStatic {
			name += " static"
		}
		for i, v := range r.clustering {
			name += fmt.Sprintf(" %s=%s", columns[i].Name, valueText(columns[i].Type, v))
		}
		alive := r.liveness.alive()
		for _, c := range r.cells {
			alive = alive || c.alive()
		}
		if alive {
			w := work{table: table}
			image, err := w.appendImage(nil, &r)
			if err != nil {
				return false, err
			}
			rows[name] = imageText(table.schema, image)
		}
		return true, nil
	})
	if err != nil {
		h.t.Fatal(err)
	}
	return rows
}

// TestOrder folds the same records in two orders, and compares all that the state knows: the deletions, and of each row
// what they leave of it.
func TestOrder(t *testing.T) {
	runs := 150
	if testing.Short() {
		runs = 20
	}
	for seed := range uint64(runs) {
		w := newWorld(t, seed)
		steps := w.run(40)
		var first string
		for range 3 {
			h := newHarness(t)
			for _, rec := range w.start() {
				h.apply(rec)
			}
			for _, s := range steps {
				h.apply(s.record)
			}
			h.apply(tickRecord(1 << 30)) // everything that expires has
			known := h.known()
			if first == "" {
				first = known
			}
			if known != first {
				t.Fatalf("seed %d: in one order the state is\n%s\nin another\n%s", seed, first, known)
			}
			h.store.Close()
			w.r.Shuffle(len(steps), func(i, j int) { steps[i], steps[j] = steps[j], steps[i] })
		}
	}
}

// known is what the state says, in a form that does not depend on what is void.
func (h *harness) known() string {
	var b strings.Builder
	from, to := state.SpaceSpan(nil, nil, 0, state.SpaceRows)
	type tombstone struct {
		prefix     string
		start, end string
		deletion   commitlog.Deletion
	}
	partitions := map[string]commitlog.Deletion{}
	var ranges []tombstone
	cover := func(prefix, clustering string) commitlog.Deletion {
		d, ok := partitions[prefix]
		if !ok {
			d = commitlog.LiveDeletion
		}
		for _, g := range ranges {
			if g.prefix == prefix && g.start <= clustering && clustering < g.end {
				d = strongest(d, g.deletion)
			}
		}
		return d
	}
	err := h.tx.Scan(from, to, func(key, value []byte) (bool, error) {
		k, err := state.SplitKey(key)
		if err != nil {
			return false, err
		}
		clustering := string(k.Clustering)
		prefix := string(key[:len(key)-len(clustering)-1])
		switch k.Kind {
		case state.KindHeader:
			head, err := decodeHeader(value)
			if err != nil {
				return false, err
			}
			partitions[prefix] = head.deletion
			fmt.Fprintf(&b, "%x deleted %v\n", prefix, head.deletion)
		case state.KindRange:
			d, start, err := decodeRange(value)
			if err != nil {
				return false, err
			}
			ranges = append(ranges, tombstone{prefix, string(start), clustering, d})
			if supersedes(d, partitions[prefix]) {
				fmt.Fprintf(&b, "%x from %x to %x deleted %v\n", prefix, start, clustering, d)
			}
		default:
			table := h.fold.tables[k.Table]
			n := len(table.schema.ClusteringColumns())
			deletion := cover(prefix, clustering)
			if k.Kind == state.KindStatic {
				n, deletion = 0, cover(prefix, "\xff\xff")
			}
			var r, nothing, rest row
			if err := decodeRow(value, n, &r); err != nil {
				return false, err
			}
			nothing.reset()
			rest.merge(table, &r, &nothing, deletion, 0)
			rest.multi = false // it may be set for what is void
			fmt.Fprintf(&b, "%x %+v\n", key, rest)
		}
		return true, nil
	})
	if err != nil {
		h.t.Fatal(err)
	}
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
		w := newWorld(t, seed)
		var records []*rawtopic.Record
		records = append(records, w.start()...)
		for _, s := range w.run(50) {
			records = append(records, s.record)
		}
		whole := newHarness(t)
		for _, rec := range records {
			whole.apply(rec)
		}
		cut := newHarness(t)
		cut.foldInPieces(w.r, records)
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
			n, finished, err := h.fold.Apply(h.tx, at.Offset, records[at.Offset], at.Done, limit, silent)
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
			n, finished, applyErr := h.fold.Apply(h.tx, at.Offset, records[at.Offset], at.Done, limit, keep)
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
