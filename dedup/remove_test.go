package dedup

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"cassdelta/commitlog"
	"cassdelta/internal/foldmodel"
	"cassdelta/internal/rawtopic"
	"cassdelta/schema"
)

// removals is a world in which tables are truncated, dropped and created again, as the logs of three nodes have it.
type removals struct {
	*mutations
	now    float64 // in seconds
	tables map[string]*schema.Table
	names  []string
	logs   [3][]logged
	// captured says that the agents have read the creation of all tables.
	captured bool
}

// logged is a place in a node's log.
type logged struct {
	at     float64 // in seconds
	table  *schema.Table
	record *rawtopic.Record
}

// newRemovals writes the logs. A statement reaches each node at a time of its own, so that of a write and a truncation one
// comes first here and the other there; but a truncation has ended everywhere before the next statement of its kind. The
// nodes' clocks are apart.
func newRemovals(t testing.TB, seed uint64, statements int) *removals {
	r := rand.New(rand.NewPCG(seed, 1))
	w := &removals{
		mutations: &mutations{r: r, keys: 2, times: 12, values: 3, ranges: seed%3 != 0, elements: true, partitions: true},
		now:       worldEpoch + 100, captured: seed%2 == 0, tables: map[string]*schema.Table{}, names: []string{"elements", "single"},
	}
	for _, t := range newWorld(t).tables {
		if slices.Contains(w.names, t.definitions[0].Name) {
			w.tables[t.definitions[0].Name] = t.definitions[0]
		}
	}
	skew := [3]float64{w.r.Float64() * 20, w.r.Float64() * 20, w.r.Float64() * 20}
	for n := range statements {
		w.now += w.r.Float64() * 2
		table := w.tables[w.names[w.r.IntN(2)]]
		switch chance := w.r.IntN(100); {
		case chance < 5:
			w.now += 4
			for host := range w.logs {
				w.log(host, 3, table, &rawtopic.Record{Kind: rawtopic.KindTruncate, Truncate: &rawtopic.Truncate{
					Table: table.ID, Timestamp: int64((w.now + skew[host]) * microseconds)}})
			}
			w.now += 4
		case chance < 8:
			w.now += 4
			for host := range w.logs {
				w.log(host, 3, table, &rawtopic.Record{Kind: rawtopic.KindDrop, Drop: &rawtopic.Drop{
					Table: table.ID, Timestamp: int64(w.now * microseconds)}})
			}
			w.now += 4
			w.create(t, table, n)
		default:
			w.of, w.table = worldTable{definitions: []*schema.Table{table}}, table
			d := w.data()
			for _, host := range w.r.Perm(3)[:1+w.r.IntN(3)] {
				spread := 3.0
				if w.chance(10) {
					spread = 60 // a hint
				}
				copied := *d
				w.log(host, spread, table, dataRecord(&copied))
			}
		}
	}
	for host := range w.logs {
		w.finish(host)
	}
	return w
}

// log puts a record into a node's log at a time of the next so many seconds.
func (w *removals) log(host int, spread float64, table *schema.Table, record *rawtopic.Record) {
	w.logs[host] = append(w.logs[host], logged{w.now + w.r.Float64()*spread, table, record})
}

// create makes the next table of a name. Its id tells that it is newer, or the time of its definition does.
func (w *removals) create(t testing.TB, old *schema.Table, n int) {
	spec := *old
	spec.AlteredAt = int64(w.now * microseconds)
	spec.ID = timeUUID(spec.AlteredAt, "node")
	if w.r.IntN(3) == 0 {
		spec.ID = schema.UUID{0: byte(w.r.Uint32()), 1: byte(n), 2: byte(n >> 8), 6: 0x40}
	}
	w.tables[spec.Name] = rebuild(t, spec)
}

// finish puts a node's log into its order, and gives it positions and definitions.
func (w *removals) finish(host int) {
	log := w.logs[host]
	slices.SortStableFunc(log, func(a, b logged) int { return int(max(-1, min(1, 1e9*(a.at-b.at)))) })
	var finished []logged
	announced := map[schema.UUID]bool{}
	id := schema.UUID{byte(host + 1)}
	for i, l := range log {
		origin := rawtopic.Origin{Host: id, Position: commitlog.Position{Segment: 1, Offset: int64(i + 1)}}
		switch l.record.Kind {
		case rawtopic.KindTruncate:
			l.record.Truncate.Origin = origin
		case rawtopic.KindDrop:
			l.record.Drop.Origin = origin
		case rawtopic.KindData:
			l.record.Data.Origin = origin
			if !announced[l.table.ID] {
				announced[l.table.ID] = true
				definition := schemaRecord(l.table)
				definition.Schema.Host, definition.Schema.Created = id, w.captured
				finished = append(finished, logged{l.at, l.table, definition})
			}
		}
		finished = append(finished, l)
	}
	w.logs[host] = finished
}

// arrive is what the raw topic gets of the logs: each in its order, some of them late, and with repeats by agents that were
// started again. Time comes up to what all have told.
func (w *removals) arrive() []*rawtopic.Record {
	var records []*rawtopic.Record
	var next, told, restarts [3]int
	pace := [3]int{2 + w.r.IntN(20), 2 + w.r.IntN(20), 2 + w.r.IntN(20)}
	for left := true; left; {
		left = false
		watermark := w.now + 1000
		for host, log := range w.logs {
			for range w.r.IntN(pace[host]) {
				if next[host] < len(log) {
					records = append(records, log[next[host]].record)
					next[host]++
				}
			}
			told[host] = max(told[host], next[host])
			if restarts[host] < 3 && w.chance(4) {
				restarts[host]++
				next[host] = w.r.IntN(next[host] + 1)
			}
			left = left || next[host] < len(log)
			if told[host] < len(log) {
				watermark = min(watermark, log[told[host]].at)
			}
		}
		if w.chance(20) {
			records = append(records, tickRecord(int64(watermark)-1))
		}
	}
	return records
}

// survivors are the rows that the nodes have in the end: of the last table of each name, what each has behind its last
// truncation.
func (w *removals) survivors(t *testing.T) map[string]string {
	m := foldmodel.New()
	apply := func(rec *rawtopic.Record) {
		if _, err := m.Apply(rec); err != nil {
			t.Fatal(err)
		}
	}
	for _, table := range w.tables {
		apply(schemaRecord(table))
	}
	for _, log := range w.logs {
		from := map[schema.UUID]int{}
		for i, l := range log {
			if l.record.Kind == rawtopic.KindTruncate {
				from[l.table.ID] = i
			}
		}
		for i, l := range log {
			if l.record.Kind == rawtopic.KindData && i >= from[l.table.ID] && l.table == w.tables[l.table.Name] {
				apply(l.record)
			}
		}
	}
	rows := map[string]string{}
	for _, r := range m.Rows() {
		table := w.tables[strings.TrimPrefix(r.Table, "ks.")]
		partition, err := table.SplitPartitionKey(nil, r.Key)
		if err != nil {
			t.Fatal(err)
		}
		image := make([][]byte, len(table.Columns))
		for i, c := range table.Columns {
			if v, ok := r.Image[c.Name]; ok {
				image[i] = []byte(v)
			}
		}
		rows[rowName(table, partition, r.Static, r.Clustering)] = imageText(table, image)
	}
	return rows
}

// stored are the rows that exist in the state.
func (w *removals) stored(t *testing.T, h *harness) map[string]string {
	rows := map[string]string{}
	err := h.fold.Rows(h.tx, func(r *StoredRow) error {
		partition, err := r.Table.SplitPartitionKey(nil, r.Key)
		rows[rowName(r.Table, partition, r.Static, r.Clustering)] = imageText(r.Table, r.Image)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return rows
}

// TestRemovals folds the logs of three nodes with truncations, drops and tables created again, as they may arrive: the rows
// in the end are those that the nodes have, and every row that went was told of, as the model says.
func TestRemovals(t *testing.T) {
	runs := 400
	if testing.Short() {
		runs = 60
	}
	truncated, dropped, rows := 0, 0, 0
	for seed := range uint64(runs) {
		w := newRemovals(t, seed, 80)
		expected := w.survivors(t)
		rows += len(expected)
		for range 3 {
			h := newHarness(t)
			h.model = foldmodel.New()
			h.apply(initRecord())
			chain := map[string]string{}
			for _, rec := range w.arrive() {
				h.apply(rec)
				for _, e := range h.take() {
					checkChain(t, chain, e)
					truncated += strings.Count(e, " truncate")
					dropped += strings.Count(e, " drop")
				}
				if rec.Kind != rawtopic.KindData {
					// A row of which nothing is known any more may be told to be deleted once again.
					maps.DeleteFunc(chain, func(_, image string) bool { return image == "none" })
				}
			}
			if t.Failed() {
				t.Fatalf("seed %d", seed)
			}
			found := w.stored(t, h)
			if !maps.Equal(found, expected) {
				t.Fatalf("seed %d: the rows at the end are\n%v\nexpected\n%v", seed, found, expected)
			}
			for row, image := range chain {
				if row = strings.TrimSpace(row); image != "none" && found[row] != image {
					t.Fatalf("seed %d: the events end with %s %s, and the state with %q", seed, row, image, found[row])
				}
			}
			if t.Failed() {
				t.Fatalf("seed %d", seed)
			}
			h.store.Close()
		}
	}
	if truncated == 0 || dropped == 0 || rows == 0 {
		t.Errorf("%d rows truncated, %d dropped, %d left", truncated, dropped, rows)
	}
	t.Logf("%d rows truncated, %d dropped, %d left", truncated, dropped, rows)
}

// TestRemovalsInPieces is TestCuts for truncations and drops.
func TestRemovalsInPieces(t *testing.T) {
	runs := 100
	if testing.Short() {
		runs = 15
	}
	for seed := range uint64(runs) {
		w := newRemovals(t, seed, 60)
		records := append([]*rawtopic.Record{initRecord()}, w.arrive()...)
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

// TestShadowableBeforeTruncation: of a row whose shadowable deletion is of before a truncation the rest counts.
func TestShadowableBeforeTruncation(t *testing.T) {
	h := newHarness(t)
	table := mustTable(t, "t", "k int partition_key", "c int clustering", "v int regular")
	h.apply(initRecord())
	h.apply(schemaRecord(table))
	h.apply(&rawtopic.Record{Kind: rawtopic.KindTruncate, Truncate: &rawtopic.Truncate{
		Origin: rawtopic.Origin{Host: schema.UUID{1}, Position: commitlog.Position{Segment: 1, Offset: 1}}, Table: table.ID, Timestamp: 1000 * microseconds,
	}})
	row := newRow(intValue(1))
	row.Deletion, row.Shadowable = commitlog.Deletion{Timestamp: 5, LocalTime: 5}, true
	rowBuilder{table, &row}.cell("v", 2000*microseconds, intValue(7))
	d := newData(table, intValue(1))
	d.Origin = rawtopic.Origin{Host: schema.UUID{2}, Position: commitlog.Position{Segment: 1, Offset: 1}}
	d.Rows = []commitlog.Row{row}
	h.apply(dataRecord(d))
	if events, want := h.take(), []string{"c t k=1 c=1 none -> {v:7} @2000000000"}; !slices.Equal(events, want) {
		t.Errorf("found the events %q, expected %q", events, want)
	}
}

// TestPastEncoding: what is stored is read again, and nothing else is.
func TestPastEncoding(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 1000 {
		p := &past{created: r.IntN(2) == 0, missing: r.IntN(2) == 0, dropped: noTime}
		if r.IntN(2) == 0 {
			p.dropped = r.Int64()
		}
		for range r.IntN(2 * keptEpochs) {
			p.begin(r.Int64(), []schema.UUID{{byte(r.IntN(4))}})
			if r.IntN(2) == 0 {
				o := rawtopic.Origin{Host: schema.UUID{byte(r.IntN(6))}, Position: commitlog.Position{Segment: r.Int64(), Offset: r.Int64()}}
				p.passed(&o, p.epoch-uint64(r.IntN(int(p.epoch))), r.Int64())
			}
		}
		value := appendPast(nil, p)
		if value[0] != pastFormat {
			t.Fatalf("%x has another format than %d", value, pastFormat)
		}
		again, err := decodePast(value)
		if err != nil {
			t.Fatal(err)
		}
		if fmt.Sprintf("%+v", again) != fmt.Sprintf("%+v", p) {
			t.Fatalf("%+v, expected %+v", again, p)
		}
		for n := range value {
			if _, err := decodePast(value[:n]); err == nil {
				t.Fatalf("%x is read, a part of %x", value[:n], value)
			}
		}
		if _, err := decodePast(append(bytes.Clone(value), 0)); err == nil {
			t.Fatalf("%x with a byte more is read", value)
		}
	}
}

// TestPastOfFormat1: what was stored before there were times of hosts is read as it was.
func TestPastOfFormat1(t *testing.T) {
	var host, other schema.UUID
	host[0], other[0] = 1, 2
	stored := "0101" + "02" + "02d00fa01f" + "02" + "01" + strings.Repeat("00", 15) + "01" + "0214" + "02" + strings.Repeat("00", 15) + "00" + "0000"
	p, err := decodePast(unhex(t, stored))
	if err != nil {
		t.Fatal(err)
	}
	expected := &past{created: true, dropped: noTime, epoch: 2, times: []int64{1000, 2000}, hosts: []passage{
		{host: host, epoch: 1, position: commitlog.Position{Segment: 1, Offset: 10}, time: noTime}, {host: other, time: noTime},
	}}
	if fmt.Sprintf("%+v", p) != fmt.Sprintf("%+v", expected) {
		t.Errorf("found %+v, expected %+v", p, expected)
	}
	if v, _ := p.judge(&rawtopic.Origin{Host: host, Position: commitlog.Position{Segment: 1, Offset: 11}}, 0); v != countsNone {
		t.Errorf("an update of the host that is behind is judged %d", v)
	}
}
