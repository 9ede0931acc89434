package e2e

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kgo"
)

// verification is what a run left, and what the models make of it.
type verification struct {
	cluster  *cluster
	scenario scenario
	phases   []*phase
	// selected is what SELECT at ALL gave, tokens what Cassandra says of the partitions.
	selected map[rowID]image
	tokens   map[partitionID]int64

	rawRecords []*kgo.Record
	events     []*event // of the clean topics, by topic, partition and offset
	model      *rawModel
	ordered    *statementModel // of the ordered phase
	final      *statementModel // of all phases
	aborted    int
	failures   []failure
}

// read reads the topics after everything has stopped.
func (v *verification) read(raw, clean *follower) {
	c := v.cluster
	c.t.Helper()
	rawEnds, err := c.admin.ListEndOffsets(c.ctx, rawTopic)
	if err != nil {
		c.t.Fatal(err)
	}
	c.await("the raw topic is read", func() error { return raw.reached(rawEnds) })
	v.rawRecords = raw.sorted()

	topics, err := c.admin.ListTopics(c.ctx)
	if err != nil {
		c.t.Fatal(err)
	}
	var names, want []string
	for _, name := range topics.Names() {
		if strings.HasPrefix(name, cleanPrefix+".") {
			names = append(names, name)
		}
	}
	for _, t := range append(tracked(), fleeting) {
		want = append(want, cleanTopic(t))
	}
	slices.Sort(names)
	slices.Sort(want)
	if !slices.Equal(names, want) {
		c.t.Fatalf("the clean topics are %v, expected %v", names, want)
	}
	stable, err := c.admin.ListCommittedOffsets(c.ctx, names...)
	if err != nil {
		c.t.Fatal(err)
	}
	high, err := c.admin.ListEndOffsets(c.ctx, names...)
	if err != nil {
		c.t.Fatal(err)
	}
	v.add(checkNoOpenTransaction(stable, high))
	c.await("the clean topics are followed", func() error { return clean.reached(stable) })
	committed, err := readAll(c.ctx, c.kafka.Brokers, cleanTopicPattern, kgo.ReadCommitted(), stable)
	if err != nil {
		c.t.Fatal(err)
	}
	all, err := readAll(c.ctx, c.kafka.Brokers, cleanTopicPattern, kgo.ReadUncommitted(), high)
	if err != nil {
		c.t.Fatal(err)
	}
	aborted, failures := checkIsolation(clean.sorted(), committed, all)
	v.aborted = aborted
	v.add(failures)

	dead, err := c.admin.ListEndOffsets(c.ctx, deadLetters)
	if err == nil {
		err = dead.Error()
	}
	if err != nil {
		c.t.Fatalf("the dead-letter topic: %v", err)
	}
	if n := total(dead); n > 0 {
		v.add([]failure{fail(rowID{}, "%d records are in the dead-letter topic", n)})
	}

	reader, err := newCleanReader(c.registry.URL)
	if err != nil {
		c.t.Fatal(err)
	}
	for _, r := range committed {
		if r.Topic == cleanTopic(fleeting) {
			continue // checkExpiry has seen to it
		}
		e, err := reader.event(c.ctx, r)
		if err != nil {
			c.t.Fatalf("%s: %v", place(r), err)
		}
		v.events = append(v.events, e)
	}
}

func (v *verification) add(failures []failure) { v.failures = append(v.failures, failures...) }

// run computes the models and compares.
func (v *verification) run() {
	c := v.cluster
	c.t.Helper()
	codec, err := newRawCodec()
	if err != nil {
		c.t.Fatal(err)
	}
	v.model = newRawModel(codec)
	for _, r := range v.rawRecords {
		rec, err := codec.decode(rawPlace{r.Partition, r.Offset}, r.Value)
		if err == nil {
			err = v.model.fold(rec)
		}
		if err != nil {
			c.t.Fatalf("the raw topic: %v", err)
		}
	}
	v.ordered, v.final = newStatementModel(), newStatementModel()
	var statements []*statement
	for _, p := range v.phases {
		for _, op := range p.operations {
			for _, s := range op.statements {
				statements = append(statements, s)
				if p.ordered {
					v.ordered.run(s)
				}
			}
		}
	}
	slices.SortFunc(statements, func(a, b *statement) int { return int(a.sequence - b.sequence) })
	for _, s := range statements {
		v.final.run(s)
	}

	// The oracles first: if Cassandra has lost something, or the logs have, the product is not to blame.
	v.add(checkRows("SELECT at ALL against the statements", v.selected, v.final.final()))
	v.add(checkRaw(v.model.updates, v.phases, c.rawHosts()))
	v.add(checkRows("raw topic folded against SELECT at ALL", v.model.final(), v.selected))
	v.add(checkOrigins(v.model.updates, c.kills()))
	v.add(checkTicks(v.model.ticks, v.rawRecords, rawPartitions))
	v.add(checkTokens(v.model.updates, v.tokens, rawPartitions))

	v.add(checkChains(v.events))
	v.add(checkCauses(v.events))
	v.add(checkRows("clean topic folded against SELECT at ALL", foldEvents(v.events), v.selected))
	v.add(checkEvents(v.events, v.model.events, true))
	v.add(checkEvents(orderedEvents(v.events, v.phases), v.ordered.events, false))
	if err := c.unread(true); err != nil {
		v.add([]failure{fail(rowID{}, "%v", err)})
	}
	if len(v.failures) > 0 {
		v.report()
	}
}

// summary is what there was to check.
func (v *verification) summary() string {
	perHost := map[string]int{}
	for _, u := range v.model.updates {
		perHost[u.data.origin.host]++
	}
	var b strings.Builder
	sum := 0
	for i, host := range v.cluster.rawHosts() {
		fmt.Fprintf(&b, "%d raw updates of node%d, ", perHost[host], i+1)
		sum += perHost[host]
	}
	fmt.Fprintf(&b, "%d in all, of which came %d events (%d of them of the ordered phase) and %d rows; %d records of aborted transactions",
		sum, len(v.events), len(v.ordered.events), len(v.selected), v.aborted)
	if sum != len(v.model.updates) {
		v.cluster.t.Errorf("the updates of the nodes are %d, and those in the raw topic %d", sum, len(v.model.updates))
	}
	return b.String()
}

// report says what is wrong: the first failures, and all that is known of the first row among them. The rest is in
// files.
func (v *verification) report() {
	t := v.cluster.t
	t.Helper()
	const shown = 12
	for _, f := range v.failures[:min(len(v.failures), shown)] {
		t.Error(f)
	}
	dir := filepath.Join(v.cluster.dir, "findings")
	if err := v.write(dir); err != nil {
		t.Error(err)
	}
	t.Errorf("%d failures; all of them, the statements, the raw updates and the events are in %s", len(v.failures), dir)
	for _, f := range v.failures {
		if f.row != (rowID{}) {
			t.Logf("all about %s:\n%s", f.row, v.about(f.row))
			return
		}
	}
}

// about tells the history of a row.
func (v *verification) about(id rowID) string {
	var b strings.Builder
	samePartition := func(other rowID) bool { return other.table == id.table && other.partition == id.partition }
	fmt.Fprintln(&b, "  statements on its partition that concern it:")
	for _, p := range v.phases {
		for _, op := range p.operations {
			for _, s := range op.statements {
				row := s.row()
				if samePartition(row) && (s.kind == deletePartition || slices.Contains(s.rows(), id)) {
					fmt.Fprintf(&b, "    %s, %s at %s\n", s, p.name, op.consistency)
				}
			}
		}
	}
	fmt.Fprintln(&b, "  raw updates:")
	for _, u := range v.model.updates {
		if u.table.name == id.table && u.partition == id.partition && (u.data.deletion.timestamp != noDeletion || slices.Contains(u.rows, id)) {
			fmt.Fprintf(&b, "    %s %s: %s\n", u.place, u.data.origin, shortenLine(u.describe()))
		}
	}
	fmt.Fprintln(&b, "  events expected:")
	for _, e := range v.model.events {
		if e.row == id {
			fmt.Fprintf(&b, "    %s\n", e)
		}
	}
	fmt.Fprintln(&b, "  events read:")
	for _, e := range v.events {
		if e.row == id {
			fmt.Fprintf(&b, "    %d/%d %s\n", e.partition, e.offset, e)
		}
	}
	fmt.Fprintf(&b, "  SELECT: %s\n", v.selected[id])
	return b.String()
}

// write writes everything as text.
func (v *verification) write(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for name, lines := range map[string]func(func(any)){
		"failures.txt": func(line func(any)) {
			for _, f := range v.failures {
				line(f)
			}
		},
		"statements.txt": func(line func(any)) {
			for _, p := range v.phases {
				for _, op := range p.operations {
					for _, s := range op.statements {
						line(fmt.Sprintf("%s %s logged=%t %s %s", p.name, op.consistency, op.logged, s.table.name, s))
					}
				}
			}
		},
		"raw.txt": func(line func(any)) {
			for _, u := range v.model.updates {
				line(fmt.Sprintf("%s %s %s", u.place, u.data.origin, u.describe()))
			}
		},
		"expected.txt": func(line func(any)) {
			for _, e := range v.model.events {
				line(e)
			}
		},
		"events.txt": func(line func(any)) {
			for _, e := range v.events {
				line(fmt.Sprintf("%d/%d %s", e.partition, e.offset, e))
			}
		},
	} {
		if err := writeLines(filepath.Join(dir, name), lines); err != nil {
			return err
		}
	}
	return nil
}

func writeLines(path string, lines func(func(any))) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	w := bufio.NewWriter(f)
	lines(func(v any) { fmt.Fprintln(w, v) })
	if err := w.Flush(); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}
