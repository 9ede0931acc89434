package e2e

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// The tests of this file check the oracles against each other and the validators against what is broken, on raw records
// made up here.

// simulation is a run without servers: three hosts log a workload, agents copy the logs in some interleaving, and a
// faultless consumer makes the events that the raw model expects.
type simulation struct {
	phases     []*phase
	statements *statementModel // of the ordered phase alone
	last       *statementModel // of all, for the final rows
	model      *rawModel
	events     []*event
	hosts      []string
}

const (
	simulatedRawPartitions   = 8
	simulatedCleanPartitions = 4
)

func simulate(t *testing.T, seed uint64) *simulation {
	t.Helper()
	r := rand.New(rand.NewPCG(seed, 1))
	g := newGenerator(seed, 1_000_000)
	ordered := g.ordered("ordered", 1500)
	g.nextPartitions(25)
	free := g.free("free", 1500)
	sim := &simulation{phases: []*phase{ordered, free}, statements: newStatementModel(), last: newStatementModel()}
	for range 3 {
		sim.hosts = append(sim.hosts, fmt.Sprintf("%032x", r.Uint64()))
	}

	// What each host logs: the ordered phase in order; the free one in an order of its own, with operations that only
	// another host has.
	logs := make([][]*operation, len(sim.hosts))
	for i := range logs {
		logs[i] = slices.Clone(ordered.operations)
		for _, op := range free.operations {
			if i == 0 || r.IntN(5) > 0 {
				logs[i] = append(logs[i], op)
			}
		}
		part := logs[i][len(ordered.operations):]
		r.Shuffle(len(part), func(a, b int) { part[a], part[b] = part[b], part[a] })
	}

	sim.model = newRawModel(nil)
	offsets := map[int32]int64{}
	feed := func(rec *rawRecord) {
		t.Helper()
		p := rec.place.partition
		rec.place.offset = offsets[p]
		offsets[p]++
		if err := sim.model.fold(rec); err != nil {
			t.Fatal(err)
		}
	}
	for p := range int32(simulatedRawPartitions) {
		feed(&rawRecord{place: rawPlace{partition: p}, kind: "Init", init: &rawInit{partitions: simulatedRawPartitions}})
		for _, tab := range tracked() {
			feed(&rawRecord{place: rawPlace{partition: p}, kind: "Schema", definition: definitionOf(tab)})
		}
	}
	next := make([]int, len(logs))
	for {
		i := r.IntN(len(logs))
		if slices.Equal(next, []int{len(logs[0]), len(logs[1]), len(logs[2])}) {
			break
		}
		// An agent publishes in spurts, so others lag by many operations.
		for range 1 + r.IntN(200) {
			if next[i] == len(logs[i]) {
				break
			}
			for _, d := range mutationsOf(logs[i][next[i]]) {
				d.origin = rawOrigin{host: sim.hosts[i], segment: 1, offset: int64(next[i] + 1), update: int32(d.origin.update)}
				feed(&rawRecord{place: rawPlace{partition: int32(d.key[len(d.key)-1]) % simulatedRawPartitions}, kind: "Data", data: d})
			}
			next[i]++
		}
	}

	var all []*statement
	for _, p := range sim.phases {
		for _, op := range p.operations {
			for _, s := range op.statements {
				if p.ordered {
					sim.statements.run(s)
				}
				all = append(all, s)
			}
		}
	}
	slices.SortFunc(all, func(a, b *statement) int { return int(a.timestamp - b.timestamp) })
	for _, s := range all {
		sim.last.run(s)
	}

	ends := map[int32]int64{}
	index := int64(0)
	for i, e := range sim.model.events {
		copied := *e
		if i > 0 && sim.model.events[i-1].cause == e.cause {
			index++
		} else {
			index = 0
		}
		copied.index = index
		copied.partition = e.cause.partition % simulatedCleanPartitions
		copied.offset = ends[copied.partition]
		ends[copied.partition]++
		sim.events = append(sim.events, &copied)
	}
	return sim
}

func definitionOf(t *table) *rawDefinition {
	return &rawDefinition{hash: t.name, keyspace: keyspace, table: t.name, columns: names(t.columns())}
}

// mutationsOf is what an operation writes to the log: an update for each partition of each table that is followed.
func mutationsOf(op *operation) []*rawData {
	type target struct{ table, key string }
	updates := map[target]*rawData{}
	var order []*rawData
	for _, s := range op.statements {
		if !s.table.cdc {
			continue
		}
		key := partitionKeyBytes(s.partition)
		at := target{s.table.name, string(key)}
		d := updates[at]
		if d == nil {
			d = &rawData{origin: rawOrigin{update: int32(len(order))}, schema: s.table.name, key: key, deletion: rawDeletion{timestamp: noDeletion}}
			updates[at] = d
			order = append(order, d)
		}
		deletion := rawDeletion{s.timestamp, s.timestamp / 1_000_000}
		row := &rawRow{clustering: s.clustering, liveness: noDeletion, deletion: rawDeletion{timestamp: noDeletion}}
		switch s.kind {
		case insert:
			row.liveness = s.timestamp
		case deleteRow:
			row.deletion = deletion
		}
		// Cassandra logs the deletion of the one row of a partition without clustering as one of the partition.
		if s.kind == deletePartition || s.kind == deleteRow && s.clustering == nil {
			d.deletion = deletion
			continue
		}
		for _, a := range s.sets {
			cell := rawCell{column: slices.Index(names(s.table.columns()), a.column.name), timestamp: s.timestamp, value: a.value}
			if a.value == nil {
				cell.localTime = deletion.localTime
			}
			if !s.table.isStatic(a.column.name) {
				row.cells = append(row.cells, cell)
				continue
			}
			if d.static == nil {
				d.static = &rawRow{liveness: noDeletion, deletion: rawDeletion{timestamp: noDeletion}}
			}
			d.static.cells = append(d.static.cells, cell)
		}
		if s.clustering != nil || len(s.table.clustering) == 0 {
			d.rows = append(d.rows, row)
		}
	}
	return order
}

// orderedEvents are those of partitions that an ordered phase writes to.
func orderedEvents(events []*event, phases []*phase) []*event {
	partitions := map[partitionID]bool{}
	for _, p := range phases {
		for _, op := range p.operations {
			for _, s := range op.statements {
				if p.ordered {
					partitions[partitionID{s.table.name, s.row().partition}] = true
				}
			}
		}
	}
	var list []*event
	for _, e := range events {
		if partitions[partitionID{e.row.table, e.row.partition}] {
			list = append(list, e)
		}
	}
	return list
}

// TestOraclesAgree: for an ordered phase the two models give the same events, whatever the interleaving of the logs,
// and both give the same rows in the end. They share no code: one knows statements, the other time stamps.
func TestOraclesAgree(t *testing.T) {
	for seed := range uint64(4) {
		sim := simulate(t, seed)
		report := func(failures []failure) {
			t.Helper()
			for _, f := range failures[:min(len(failures), 3)] {
				t.Errorf("seed %d: %s", seed, f)
			}
		}
		report(checkEvents(orderedEvents(sim.events, sim.phases), sim.statements.events, false))
		report(checkRows("rows at the end", sim.model.final(), sim.last.final()))
		for _, f := range sim.all() {
			t.Errorf("seed %d: a run without a fault: %s", seed, f)
		}
		if len(sim.statements.events) == 0 || len(sim.events) <= len(sim.statements.events) {
			t.Errorf("seed %d: %d events, of them %d of the ordered phase", seed, len(sim.events), len(sim.statements.events))
		}
	}
}

// all runs all validators.
func (sim *simulation) all() []failure {
	return slices.Concat(
		checkChains(sim.events),
		checkCauses(sim.events),
		checkEvents(sim.events, sim.model.events, true),
		checkEvents(orderedEvents(sim.events, sim.phases), sim.statements.events, false),
		checkRows("fold", foldEvents(sim.events), sim.model.final()),
		checkRaw(sim.model.updates, sim.phases, sim.hosts),
		checkOrigins(sim.model.updates, nil),
	)
}

// TestValidatorsSee breaks a faultless run in one way at a time; each validator that is said to see it must.
func TestValidatorsSee(t *testing.T) {
	chains := func(sim *simulation) []failure { return checkChains(sim.events) }
	causes := func(sim *simulation) []failure { return checkCauses(sim.events) }
	events := func(sim *simulation) []failure { return checkEvents(sim.events, sim.model.events, true) }
	statements := func(sim *simulation) []failure {
		return checkEvents(orderedEvents(sim.events, sim.phases), sim.statements.events, false)
	}
	fold := func(sim *simulation) []failure { return checkRows("fold", foldEvents(sim.events), sim.model.final()) }
	raw := func(sim *simulation) []failure { return checkRaw(sim.model.updates, sim.phases, sim.hosts) }
	origins := func(sim *simulation) []failure { return checkOrigins(sim.model.updates, nil) }
	type validator = func(*simulation) []failure

	base := simulate(t, 11)
	// An event of the ordered phase in the middle of its row's chain, and the last of that row.
	var middle, last int
	rows := byRow(base.events)
	for i, e := range base.events {
		chain := rows[e.row]
		if orderedEvents([]*event{e}, base.phases) != nil && len(chain) > 4 && e == chain[2] && e.op == "u" && chain[len(chain)-1].op != "d" {
			middle, last = i, slices.Index(base.events, chain[len(chain)-1])
			break
		}
	}
	if middle == 0 {
		t.Fatal("the simulation has no row with a chain as long as it is needed here")
	}
	for _, c := range []struct {
		name string
		harm func(*simulation)
		seen []validator
		// blind validators are those that cannot see it, which is why there are others.
		blind []validator
	}{
		{
			name: "an event in the middle is lost",
			harm: func(s *simulation) { s.events = slices.Delete(s.events, middle, middle+1) },
			seen: []validator{chains, events, statements}, blind: []validator{fold},
		},
		{
			name: "the last event of a row is lost",
			harm: func(s *simulation) { s.events = slices.Delete(s.events, last, last+1) },
			seen: []validator{events, statements, fold}, blind: []validator{chains},
		},
		{
			name: "an event is doubled",
			harm: func(s *simulation) {
				doubled := *s.events[middle]
				s.events = slices.Insert(s.events, middle+1, &doubled)
			},
			seen: []validator{chains, causes, events, statements}, blind: []validator{fold},
		},
		{
			name: "a change of nothing makes an event, as a copy that was not recognised does",
			harm: func(s *simulation) {
				e := *s.events[last]
				e.op, e.before, e.offset, e.cause.offset = "u", e.after, e.offset+1_000_000, e.cause.offset+1_000_000
				s.events = append(s.events, &e)
			},
			seen: []validator{events, statements}, blind: []validator{chains, fold},
		},
		{
			name: "a before is wrong",
			harm: func(s *simulation) { s.change(middle, func(e *event) { e.before = image{"seq": "0"} }) },
			seen: []validator{chains, events, statements}, blind: []validator{fold, causes},
		},
		{
			name: "an after is wrong",
			harm: func(s *simulation) { s.change(last, func(e *event) { e.after = image{"seq": "0"} }) },
			seen: []validator{events, statements, fold},
		},
		{
			name: "an update is called a create",
			harm: func(s *simulation) { s.change(middle, func(e *event) { e.op = "c" }) },
			seen: []validator{chains, events, statements}, blind: []validator{fold},
		},
		{
			name: "two events change places",
			harm: func(s *simulation) {
				next := middle + 1 + slices.IndexFunc(s.events[middle+1:], func(e *event) bool { return e.row == s.events[middle].row })
				s.events[middle], s.events[next] = s.events[next], s.events[middle]
			},
			seen: []validator{chains, causes, events, statements},
		},
		{
			name: "an event is on another partition",
			harm: func(s *simulation) { s.change(middle, func(e *event) { e.partition++ }) },
			seen: []validator{chains, causes}, blind: []validator{events, fold},
		},
		{
			name: "an event names another raw record",
			harm: func(s *simulation) { s.change(middle, func(e *event) { e.cause.offset++ }) },
			seen: []validator{events},
		},
		{
			name: "a write time is wrong",
			harm: func(s *simulation) { s.change(middle, func(e *event) { e.timestamp++ }) },
			seen: []validator{events, statements}, blind: []validator{chains},
		},
		{
			name: "a row of the table is not in the topic",
			harm: func(s *simulation) {
				row := s.events[last].row
				s.events = slices.DeleteFunc(s.events, func(e *event) bool { return e.row == row })
			},
			seen: []validator{events, statements, fold}, blind: []validator{chains},
		},
		{
			name: "an agent leaves a mutation of the ordered phase out",
			harm: func(s *simulation) {
				s.model.updates = slices.DeleteFunc(s.model.updates, func(u *rawUpdate) bool {
					return u.data.origin.host == s.hosts[1] && u.data.origin.offset == 700
				})
			},
			seen: []validator{raw}, blind: []validator{origins},
		},
		{
			name: "all copies of a mutation are missing",
			harm: func(s *simulation) {
				timestamp := s.phases[1].operations[500].statements[0].timestamp
				s.model.updates = slices.DeleteFunc(s.model.updates, func(u *rawUpdate) bool {
					found := false
					u.data.timestamps(func(ts int64) { found = found || ts == timestamp })
					return found
				})
			},
			seen: []validator{raw},
		},
		{
			name: "an agent that was not killed repeats itself",
			harm: func(s *simulation) { s.model.updates = append(s.model.updates, s.model.updates[10]) },
			seen: []validator{origins},
		},
		{
			name: "a host that is not of the cluster",
			harm: func(s *simulation) {
				d := *s.model.updates[10].data
				d.origin.host = strings.Repeat("f", 32)
				u := *s.model.updates[10]
				u.data = &d
				s.model.updates = append(s.model.updates, &u)
			},
			seen: []validator{raw},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			sim := *base
			sim.events = slices.Clone(base.events)
			model := *base.model
			model.updates = slices.Clone(base.model.updates)
			sim.model = &model
			c.harm(&sim)
			for i, v := range c.seen {
				if len(v(&sim)) == 0 {
					t.Errorf("validator %d of those that should see it does not", i+1)
				}
			}
			for i, v := range c.blind {
				if f := v(&sim); len(f) > 0 {
					t.Errorf("validator %d of those called blind sees it: %s", i+1, f[0])
				}
			}
		})
	}
}

// change harms one event.
func (sim *simulation) change(i int, harm func(*event)) {
	e := *sim.events[i]
	harm(&e)
	sim.events[i] = &e
}

func TestPartsAreRecords(t *testing.T) {
	origin := rawOrigin{host: "h", segment: 1, offset: 2}
	other := rawOrigin{host: "g", segment: 1, offset: 2}
	a := assembler{}
	var wholes []string
	for _, p := range []*rawPart{
		{origin, 0, 3, []byte("ab")}, {origin, 1, 3, []byte("cd")},
		{other, 0, 2, []byte("12")},                                // another agent's in between
		{origin, 0, 3, []byte("ab")}, {origin, 1, 3, []byte("cd")}, // the agent was killed and repeats itself
		{other, 1, 2, []byte("34")}, {origin, 2, 3, []byte("e")},
	} {
		whole, err := a.add(p)
		if err != nil {
			t.Fatal(err)
		}
		if whole != nil {
			wholes = append(wholes, string(whole))
		}
	}
	if !slices.Equal(wholes, []string{"1234", "abcde"}) {
		t.Errorf("wholes %q", wholes)
	}
	if _, err := a.add(&rawPart{origin, 1, 2, nil}); err == nil {
		t.Error("a part without the one before it was taken")
	}
}

func TestCheckTokens(t *testing.T) {
	accounts := tableByName("accounts")
	updates := []*rawUpdate{{place: rawPlace{partition: 3}, table: accounts, partition: "1"}, {place: rawPlace{partition: 3}, table: accounts, partition: "gone"}}
	for token, want := range map[int64]int{0: 1, -1 << 62: 0} { // partitions 6 and 3 of 12
		if f := checkTokens(updates, map[partitionID]int64{{"accounts", "1"}: token}, rawPartitions); len(f) != want {
			t.Errorf("token %d: %v, expected %d failures", token, f, want)
		}
	}
}

func TestCheckTicks(t *testing.T) {
	start := time.Unix(1_700_000_000, 0)
	record := func(partition int32, offset, second int64) *kgo.Record {
		return &kgo.Record{Partition: partition, Offset: offset, Timestamp: start.Add(time.Duration(second) * time.Second)}
	}
	records := []*kgo.Record{record(0, 0, 0), record(1, 0, 1), record(0, 1, 70), record(1, 1, 70)}
	tick := func(partition int32, second int64) *rawRecord {
		return &rawRecord{place: rawPlace{partition, 1}, kind: "Tick", watermark: start.Add(time.Duration(second) * time.Second).UnixMicro()}
	}
	for _, c := range []struct {
		ticks []*rawRecord
		want  int
	}{
		{[]*rawRecord{tick(0, 9), tick(1, 10)}, 0},
		{[]*rawRecord{tick(0, 9), tick(1, 12)}, 1},    // too late a time
		{[]*rawRecord{tick(0, -60), tick(1, -90)}, 2}, // time stood
		{[]*rawRecord{tick(0, 30)}, 2},                // too late a time, and none in the other partition
		{nil, 2},
	} {
		if f := checkTicks(c.ticks, records, 2); len(f) != c.want {
			t.Errorf("%+v: %v, expected %d failures", c.ticks, f, c.want)
		}
	}
}

func TestPartitionOf(t *testing.T) {
	for _, c := range []struct {
		token int64
		n     int32
		want  int32
	}{{-1 << 63, 32, 0}, {1<<63 - 1, 32, 31}, {0, 32, 16}, {-1, 32, 15}, {-1 << 62, 4, 1}, {0, 1, 0}} {
		if got := partitionOf(c.token, c.n); got != c.want {
			t.Errorf("token %d of %d partitions: %d, expected %d", c.token, c.n, got, c.want)
		}
	}
}
