package e2e

import (
	"fmt"
	"maps"
	"math/bits"
	"reflect"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// A validator looks at one thing and says what is wrong with it. Nothing said means that all is well.

// failure is one thing that is wrong, with the row that it is about; the row is zero if it is about none.
type failure struct {
	row  rowID
	text string
}

func (f failure) String() string {
	if f.row == (rowID{}) {
		return f.text
	}
	return f.row.String() + ": " + f.text
}

func fail(row rowID, format string, args ...any) failure {
	return failure{row, fmt.Sprintf(format, args...)}
}

// checkChains checks what the events of a row say of each other: the first finds nothing, or is the deletion of a row
// never seen; each finds what the one before it left; operation and images agree; all are on one partition. Events
// come as they were read: the order within a partition is that of the topic.
func checkChains(events []*event) []failure {
	var failures []failure
	rows := byRow(events)
	for _, id := range slices.SortedFunc(maps.Keys(rows), compareRows) {
		var state image
		for n, e := range rows[id] {
			say := func(format string, args ...any) {
				failures = append(failures, fail(id, "event %d of %d, %s: %s", n+1, len(rows[id]), e, fmt.Sprintf(format, args...)))
			}
			first := rows[id][0]
			if e.partition != first.partition {
				say("it is on partition %d, the first one on %d", e.partition, first.partition)
			}
			if n > 0 && e.offset <= rows[id][n-1].offset {
				say("its offset %d is not behind that of the event before it, %d", e.offset, rows[id][n-1].offset)
			}
			unseen := n == 0 && e.op == "d" && e.before != nil && len(e.before) == 0 && !e.complete
			if !unseen && !e.before.equal(state) {
				say("its before is not what the event before it left: %s", state)
			}
			want := map[string][2]bool{"c": {false, true}, "u": {true, true}, "d": {true, false}}
			if images, ok := want[e.op]; !ok || images != [2]bool{e.before != nil, e.after != nil} {
				say("operation and images do not agree")
			}
			state = e.after
		}
	}
	return failures
}

// checkCauses checks that the events of each table and raw partition are in the order of their raw records, that the
// events of one record are numbered without a gap, and that no event is there twice. A table has a topic of its own, and a
// record is of one table.
func checkCauses(events []*event) []failure {
	type source struct {
		table     string
		partition int32
	}
	var failures []failure
	last := map[source]*event{}
	clean := map[source]int32{}
	for _, e := range events {
		p := source{e.row.table, e.cause.partition}
		before, ok := last[p]
		last[p] = e
		if !ok {
			clean[p] = e.partition
		} else if e.cause.offset < before.cause.offset || e.cause.offset == before.cause.offset && e.index <= before.index {
			failures = append(failures, fail(e.row, "%s, number %d of its record, comes after %s, number %d: doubled or out of order", e, e.index, before, before.index))
			continue
		}
		want := int64(0)
		if ok && before.cause == e.cause {
			want = before.index + 1
		}
		if e.index != want {
			failures = append(failures, fail(e.row, "%s has number %d in its record, expected %d: an event is lost", e, e.index, want))
		}
		if clean[p] != e.partition {
			failures = append(failures, fail(e.row, "%s: raw partition %d feeds clean partitions %d and %d", e, p.partition, clean[p], e.partition))
		}
	}
	return failures
}

// checkEvents compares the events of each row with those expected, one by one. Places in raw topic are compared if
// the expectation has them.
func checkEvents(got, want []*event, withCause bool) []failure {
	var failures []failure
	gotRows, wantRows := byRow(got), byRow(want)
	all := maps.Clone(wantRows)
	maps.Copy(all, gotRows)
	for _, id := range slices.SortedFunc(maps.Keys(all), compareRows) {
		g, w := gotRows[id], wantRows[id]
		for n := range max(len(g), len(w)) {
			var a, b *event
			if n < len(g) {
				a = g[n]
			}
			if n < len(w) {
				b = w[n]
			}
			if a != nil && b != nil && a.sameChange(b) && (!withCause || a.cause == b.cause) {
				continue
			}
			// The first difference of a row is the telling one.
			failures = append(failures, fail(id, "event %d of %d read, %d expected:\n    read     %s\n    expected %s", n+1, len(g), len(w), a, b))
			break
		}
	}
	return failures
}

// foldEvents is what the events leave: the last after of each row.
func foldEvents(events []*event) map[rowID]image {
	rows := map[rowID]image{}
	for _, e := range events {
		if e.after == nil {
			delete(rows, e.row)
		} else {
			rows[e.row] = e.after
		}
	}
	return rows
}

// checkRows compares two sets of rows, the second being right.
func checkRows(what string, got, want map[rowID]image) []failure {
	var failures []failure
	all := maps.Clone(want)
	maps.Copy(all, got)
	for _, id := range slices.SortedFunc(maps.Keys(all), compareRows) {
		if !got[id].equal(want[id]) {
			failures = append(failures, fail(id, "%s:\n    found    %s\n    expected %s", what, got[id], want[id]))
		}
	}
	return failures
}

// checkRaw checks that every acknowledged statement is in the raw topic: its write time stands in an update of its
// partition. Statements of an ordered phase must be there from each of the hosts.
func checkRaw(updates []*rawUpdate, phases []*phase, hosts []string) []failure {
	type written struct {
		id        partitionID
		timestamp int64
	}
	seen := map[written]map[string]bool{}
	var failures []failure
	for _, u := range updates {
		host := u.data.origin.host
		if !slices.Contains(hosts, host) {
			failures = append(failures, fail(rowID{}, "%s: host %s is none of the cluster's %v", u.place, host, hosts))
		}
		u.data.timestamps(func(timestamp int64) {
			w := written{partitionID{u.table.name, u.partition}, timestamp}
			if seen[w] == nil {
				seen[w] = map[string]bool{}
			}
			seen[w][host] = true
		})
	}
	for _, p := range phases {
		for _, op := range p.operations {
			for _, s := range op.statements {
				if !s.table.cdc {
					continue
				}
				id := s.row()
				from := seen[written{partitionID{id.table, id.partition}, s.timestamp}]
				if len(from) == 0 || p.ordered && len(from) < len(hosts) {
					failures = append(failures, fail(id, "the raw topic has %s, written at %s in phase %s, from %d of %d hosts", s, op.consistency, p.name, len(from), len(hosts)))
				}
			}
		}
	}
	return failures
}

// checkOrigins checks the raw records of each host: within a raw partition their places in the host's log ascend, since
// an agent reads the log once, from its start to its end. A restarted agent goes back to where its stored position
// was; it may do so as often as it was killed, and what it repeats must be what was there before. So the records of a
// host add up: those that are new, and those that it repeats.
func checkOrigins(updates []*rawUpdate, kills map[string]int) []failure {
	var failures []failure
	type log struct {
		host      string
		partition int32
	}
	last := map[log]rawOrigin{}
	steps := map[log]int{}
	first := map[rawOrigin]*rawUpdate{}
	for _, u := range updates {
		o := u.data.origin
		l := log{o.host, u.place.partition}
		if before, ok := last[l]; ok && !ascends(before, o) {
			steps[l]++
			if steps[l] > kills[o.host] {
				failures = append(failures, fail(rowID{}, "%s: %s comes after %s, and the agent was killed %d times only", u.place, o, before, kills[o.host]))
			}
		}
		last[l] = o
		if again := first[o]; again == nil {
			first[o] = u
		} else if !sameUpdate(again, u) {
			failures = append(failures, fail(rowID{}, "%s: %s, and %s are different updates from one place: %s", u.place, u.describe(), again.describe(), o))
		}
	}
	return failures
}

func ascends(a, b rawOrigin) bool {
	switch {
	case a.segment != b.segment:
		return a.segment < b.segment
	case a.offset != b.offset:
		return a.offset < b.offset
	}
	return a.update < b.update
}

func sameUpdate(a, b *rawUpdate) bool { return reflect.DeepEqual(a.data, b.data) }

// describe is an update for people.
func (u *rawUpdate) describe() string {
	s := fmt.Sprintf("%s(%s)", u.table.name, u.partition)
	if u.data.deletion.timestamp != noDeletion {
		s += fmt.Sprintf(" delete partition at %d", u.data.deletion.timestamp)
	}
	rows := u.data.rows
	if u.data.static != nil {
		rows = append(rows[:len(rows):len(rows)], u.data.static)
	}
	for _, row := range rows {
		clustering, _ := keyText(u.table.clustering, row.clustering)
		if row == u.data.static {
			clustering = "static"
		}
		s += " [" + clustering
		if row.liveness != noDeletion {
			s += fmt.Sprintf(" insert at %d", row.liveness)
		}
		if row.deletion.timestamp != noDeletion {
			s += fmt.Sprintf(" delete at %d", row.deletion.timestamp)
		}
		for _, c := range row.cells {
			value := "tombstone"
			if c.value != nil {
				value = fmt.Sprintf("0x%x", []byte(c.value))
			}
			s += fmt.Sprintf(" %d=%s at %d", c.column, shorten(value), c.timestamp)
		}
		s += "]"
	}
	return s
}

// checkTokens checks that each partition's updates are in the raw partition of its token, p = (token + 2^63) * N >> 64.
// Tokens are what Cassandra itself says; partitions that it does not have any more are passed over.
func checkTokens(updates []*rawUpdate, tokens map[partitionID]int64, rawPartitions int32) []failure {
	var failures []failure
	for _, u := range updates {
		token, ok := tokens[partitionID{u.table.name, u.partition}]
		if want := partitionOf(token, rawPartitions); ok && want != u.place.partition {
			failures = append(failures, fail(rowID{}, "%s: partition %s of %s has token %d, expected it on raw partition %d", u.place, u.partition, u.table.name, token, want))
		}
	}
	return failures
}

// checkTicks checks that the heartbeats of the agents let time go on in each raw partition, to a time at which the first record
// was there, less the minute that ticks are behind, and that no tick is less than that behind the brokers' time.
func checkTicks(ticks []*rawRecord, records []*kgo.Record, rawPartitions int32) []failure {
	appended := map[rawPlace]time.Time{}
	var first time.Time
	for _, r := range records {
		appended[rawPlace{r.Partition, r.Offset}] = r.Timestamp
		if first.IsZero() || r.Timestamp.Before(first) {
			first = r.Timestamp
		}
	}
	var failures []failure
	latest := map[int32]time.Time{}
	for _, t := range ticks {
		at := time.UnixMicro(t.watermark)
		if behind := appended[t.place].Sub(at); behind < time.Minute-time.Second {
			failures = append(failures, fail(rowID{}, "%s: a tick is %v behind the brokers' time, expected a minute", t.place, behind))
		}
		if at.After(latest[t.place.partition]) {
			latest[t.place.partition] = at
		}
	}
	for p := range rawPartitions {
		if least := first.Add(-time.Minute); !latest[p].After(least) {
			failures = append(failures, fail(rowID{}, "raw partition %d: time has come to %v, expected a time after %v", p, latest[p], least))
		}
	}
	return failures
}

// partitionOf is the raw partition of a token.
func partitionOf(token int64, n int32) int32 {
	high, _ := bits.Mul64(uint64(token)+1<<63, uint64(n))
	return int32(high)
}
