package dedup

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"cassdelta/commitlog"
	"cassdelta/internal/eventcheck"
	"cassdelta/internal/rawtopic"
	"cassdelta/schema"
)

// simInput draws what agents write: mutations of a small world, each from several replicas, in any order, much of it late;
// partitions of many rows, and their deletion; definitions and ticks; now and then a record that cannot be read or folded.
type simInput struct {
	r          *rand.Rand
	world      *world
	partitions int32
	// wide is that partitions of many rows are too large for the manifest of a checkpoint.
	wide bool

	sent    []map[schema.Hash]bool // by raw partition
	pending []*rawtopic.Record     // copies that come later
	known   []*rawtopic.Record     // what was written before, some of which comes again
	giants  int64                  // how many partitions of many rows were written
	second  int64                  // of the last tick
}

func newSimInput(t testing.TB, r *rand.Rand, partitions int32) *simInput {
	in := &simInput{r: r, world: newWorld(t), partitions: partitions, second: worldEpoch - 1}
	for range partitions {
		in.sent = append(in.sent, map[schema.Hash]bool{})
	}
	return in
}

// simWrite is a value for a raw partition.
type simWrite struct {
	partition int32
	value     []byte
}

// first is what comes after the Init of each partition.
func (in *simInput) first() (writes []simWrite) {
	for p := range in.partitions {
		for i := range in.world.tables {
			rec := in.world.tables[i].first()
			in.sent[p][rec.Schema.Hash] = true
			writes = append(writes, simWrite{p, rawtopic.Append(nil, rec)})
		}
	}
	return writes
}

// round is some more.
func (in *simInput) round() (writes []simWrite) {
	for range 1 + in.r.IntN(3) {
		m := in.world.mutations(in.r)
		var set []*rawtopic.Data
		for range 1 + in.r.IntN(6) {
			set = append(set, m.data())
		}
		in.pending = append(in.pending, m.observed(set)...)
	}
	if in.r.IntN(3) == 0 {
		in.giant()
	}
	in.r.Shuffle(len(in.pending), func(i, j int) { in.pending[i], in.pending[j] = in.pending[j], in.pending[i] })
	later := in.r.IntN(1 + len(in.pending)/2)
	now := slices.Clone(in.pending[later:])
	in.pending = in.pending[:later]
	in.known = append(in.known, now...)
	for range in.r.IntN(3) {
		now = append(now, in.known[in.r.IntN(len(in.known))])
	}
	for _, rec := range now {
		writes = append(writes, in.data(rec)...)
	}
	if in.r.IntN(3) == 0 {
		in.second += int64(in.r.IntN(4))
		writes = append(writes, in.everywhere(tickRecord(in.second))...)
	}
	if in.r.IntN(8) == 0 {
		whole := rawtopic.Append(nil, tickRecord(1<<40))
		writes = append(writes, simWrite{in.r.Int32N(in.partitions), whole[:len(whole)-1]})
	}
	if in.r.IntN(8) == 0 { // a definition that was never sent
		d := newData(in.world.tables[0].definitions[0], intValue(0))
		d.Schema = schema.Hash{9}
		writes = append(writes, simWrite{in.r.Int32N(in.partitions), rawtopic.Append(nil, dataRecord(d))})
	}
	return writes
}

// rest is all that was held back.
func (in *simInput) rest() (writes []simWrite) {
	for _, rec := range in.pending {
		writes = append(writes, in.data(rec)...)
	}
	in.pending = nil
	return append(writes, in.everywhere(tickRecord(100_000))...)
}

// giant writes a partition of many rows, or deletes one.
func (in *simInput) giant() {
	table := in.world.tables[0].definitions[0]
	at := worldEpoch*microseconds + 100*(1+in.giants)
	rows := 20 + in.r.IntN(200)
	if in.giants > 0 && in.r.IntN(2) == 0 {
		d := newData(table, intValue(100+in.r.IntN(2)))
		d.Deletion = commitlog.Deletion{Timestamp: at, LocalTime: 500_000}
		in.pending = append(in.pending, dataRecord(d), dataRecord(d))
		in.giants++
		return
	}
	key := intValue(100 + in.r.IntN(2))
	for rows > 0 {
		d := newData(table, key)
		for range min(rows, 50) {
			rows--
			row := newRow(intValue(rows))
			row.Liveness.Timestamp = at
			cells := rowBuilder{table, &row}.cell("v", at, intValue(rows))
			if in.wide {
				text := make([]byte, 300)
				for i := range text {
					text[i] = byte('0' + in.r.IntN(64)) // it cannot be compressed much
				}
				cells.cell("w", at, text)
			}
			d.Rows = append(d.Rows, row)
		}
		slices.Reverse(d.Rows)
		in.pending = append(in.pending, dataRecord(d), dataRecord(d))
	}
	in.giants++
}

// data is a data record for its partition, behind its definition.
func (in *simInput) data(rec *rawtopic.Record) (writes []simWrite) {
	p := rawtopic.Partition(schema.Token(rec.Data.Key), in.partitions)
	if hash := rec.Data.Schema; !in.sent[p][hash] {
		for _, t := range in.world.tables {
			for _, definition := range t.definitions {
				if definition.Hash() == hash {
					writes = append(writes, simWrite{p, rawtopic.Append(nil, schemaRecord(definition))})
				}
			}
		}
		in.sent[p][hash] = true
	}
	return append(writes, simWrite{p, rawtopic.Append(nil, rec)})
}

func (in *simInput) everywhere(rec *rawtopic.Record) (writes []simWrite) {
	for p := range in.partitions {
		writes = append(writes, simWrite{p, rawtopic.Append(nil, rec)})
	}
	return writes
}

// unchained are the tables that have columns dropped.
func (w *world) unchained() map[string]bool {
	names := map[string]bool{}
	for _, t := range w.tables {
		if len(t.definitions) > 1 {
			names[t.definitions[0].FullName()] = true
		}
	}
	return names
}

// simFold folds records of a raw partition in one go, without a broker or a crash. It returns the events in the order in which they must come,
// however the log is cut.
func simFold(t testing.TB, h *harness, log []eventcheck.Record) (events []*eventcheck.Event) {
	t.Helper()
	for _, rec := range log {
		if rec.Record == nil {
			continue
		}
		_, _, err := applyUnpaused(h.fold, h.tx, rec.Offset, rec.Record, 0, math.MaxInt64, func(e *Event) error {
			events = append(events, simEvent(e))
			return nil
		})
		if (err != nil) != rec.Refused {
			t.Fatalf("offset %d: refused %v, error %v", rec.Offset, rec.Refused, err)
		}
	}
	return events
}

// simEvent is an event as the simulation writes it.
func simEvent(e *Event) *eventcheck.Event {
	return &eventcheck.Event{
		Place: eventcheck.Place{Partition: e.RawPartition, Offset: e.RawOffset, Index: e.Index}, Event: *modelEvent(e),
	}
}
