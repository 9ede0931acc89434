package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// What the verb state says of a running worker, of a directory and of a checkpoint is the same; a savepoint is one to go back to.
func TestState(t *testing.T) {
	r := openDemo(t)
	store := filepath.Join(t.TempDir(), "checkpoints")
	disk := t.TempDir()
	p := startPipeline(t, unpack(t, r), demoTables(t), "--state-directory", disk, "--checkpoint-store", store)
	p.awaitFolded()
	p.await("the state has all that is committed", func() bool {
		text := p.metrics(p.dedup)
		committed := samples(text, "cassdelta_dedup_position_offset")
		return len(committed) == 4 && slices.Equal(committed, samples(text, "cassdelta_dedup_state_offset"))
	})
	ask := func(want int, args ...string) []string {
		t.Helper()
		code, stdout, stderr := program(t, append([]string{"state"}, args...)...)
		if code != want {
			t.Fatalf("state %v: exit code %d: %s", args, code, stderr)
		}
		lines := strings.Split(strings.TrimSpace(stdout), "\n")
		slices.Sort(lines)
		return lines
	}
	const table = "shop.customers"
	worker := []string{"--workers", p.address(p.dedup)}
	tables := ask(exitOK, append([]string{"tables"}, worker...)...)
	rows := ask(exitOK, append([]string{"scan", table}, worker...)...)
	if len(tables) < 2 || len(rows) < 5 {
		t.Fatalf("%d tables, %d rows", len(tables), len(rows))
	}
	var first struct {
		Partition json.RawMessage
		Exists    *bool
		Cells     []struct {
			Column    string
			Value     any
			Timestamp int64
			Written   string
		}
	}
	for _, line := range rows {
		if err := json.Unmarshal([]byte(line), &first); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		if first.Exists != nil && *first.Exists && len(first.Cells) > 0 {
			break
		}
	}
	if c := first.Cells[0]; c.Timestamp == 0 || c.Written == "" || c.Column == "" {
		t.Errorf("a cell: %+v", c)
	}
	of := func(lines []string, partition string) (found []string) {
		for _, line := range lines {
			if strings.Contains(line, `"partition":`+partition) {
				found = append(found, line)
			}
		}
		return found
	}
	got := ask(exitOK, append([]string{"get", table, string(first.Partition)}, worker...)...)
	if want := of(rows, string(first.Partition)); !slices.Equal(got, want) || len(got) == 0 {
		t.Errorf("get %s: %v, expected %v", first.Partition, got, want)
	}
	ask(exitFailed, append([]string{"get", table, "no such key"}, worker...)...)
	ask(exitFailed, append([]string{"scan", "shop.nothing"}, worker...)...)
	ask(exitFailed, append([]string{"tables", "--state-directory", disk}, worker...)...)
	ask(exitFailed, "tables", "--state-directory", disk) // a worker has it open

	if code, _, stderr := p.dedup.stop(); code != exitOK {
		t.Fatal(stderr)
	}
	directory, checkpoint := []string{"--state-directory", disk}, []string{"--checkpoint-store", store}
	for name, source := range map[string][]string{"directory": directory, "checkpoint": checkpoint} {
		if got := ask(exitOK, append([]string{"scan", table}, source...)...); !slices.Equal(got, rows) {
			t.Errorf("%s: %v\nexpected %v", name, got, rows)
		}
		if got := ask(exitOK, append([]string{"tables"}, source...)...); !slices.Equal(got, tables) {
			t.Errorf("%s: %v\nexpected %v", name, got, tables)
		}
		verified := ask(exitOK, append([]string{"verify"}, source...)...)
		if len(verified) != 4 || strings.Count(strings.Join(verified, ""), `"ok":true`) != 4 {
			t.Errorf("%s: %v", name, verified)
		}
	}

	// Where the raw partition of a key is missing, nothing is said of its row.
	missing := 0
	for n := range 4 {
		at, aside := filepath.Join(disk, "cassdelta.raw", fmt.Sprint(n)), filepath.Join(t.TempDir(), "aside")
		if err := os.Rename(at, aside); err != nil {
			t.Fatal(err)
		}
		code, _, stderr := program(t, append([]string{"state", "get", table, string(first.Partition)}, directory...)...)
		if code != exitOK {
			missing++
			if want := fmt.Sprintf("the key is of raw partition %d", n); !strings.Contains(stderr, want) {
				t.Errorf("%s, expected %s", stderr, want)
			}
		}
		if err := os.Rename(aside, at); err != nil {
			t.Fatal(err)
		}
	}
	if missing != 1 {
		t.Errorf("the row is in %d raw partitions, expected 1", missing)
	}

	saved := ask(exitOK, append([]string{"savepoint", "before"}, checkpoint...)...)
	if len(saved) != 4 {
		t.Errorf("%v", saved)
	}
	// One of that name is not altered, and nobody takes it for a new one.
	if again := ask(exitFailed, append([]string{"savepoint", "before"}, checkpoint...)...); len(again) != 4 {
		t.Errorf("%v", again)
	}
	list := strings.Join(ask(exitOK, append([]string{"checkpoints", "list"}, checkpoint...)...), "\n")
	if strings.Count(list, `"savepoint":"before"`) != 4 || strings.Count(list, `"usable":true`) < 8 {
		t.Errorf("%s", list)
	}
	ask(exitOK, append([]string{"checkpoints", "verify"}, checkpoint...)...)

	// A copy of the table for a new reader: its rows as they were left. Written again it is there already.
	exist := int64(strings.Count(strings.Join(rows, "\n"), `"exists":true`))
	for _, before := range []int64{0, exist} {
		var said struct{ Rows, Before int64 }
		emitted := ask(exitOK, append([]string{"emit", table, "--topic-prefix", "copy", "--replication", "1", "--savepoint", "before", "--kafka-brokers", p.kafka}, checkpoint...)...)
		if err := json.Unmarshal([]byte(emitted[0]), &said); err != nil || said.Rows != exist || said.Before != before {
			t.Errorf("emit: %v (error %v), expected %d rows, of which %d were there", emitted, err, exist, before)
		}
	}
	left := map[string]string{}
	for _, e := range p.events(table) {
		if left[e.Key.text()] = e.After.text(); e.After == nil {
			delete(left, e.Key.text())
		}
	}
	copied := p.events("--topic-prefix", "copy", table)
	for _, e := range copied {
		if e.Op != "r" || e.Before != nil || left[e.Key.text()] != e.After.text() {
			t.Errorf("the copy has %+v, expected the row %s", e, left[e.Key.text()])
		}
	}
	if len(copied) != len(left) || int64(len(left)) != exist {
		t.Errorf("the copy has %d rows, the clean topic %d, the state %d", len(copied), len(left), exist)
	}
	// One that was broken off is gone on with.
	records, whole := p.records("copy." + table)
	for _, from := range []struct{ partition, row int }{{0, 1}, {1, 0}, {2, 1}, {3, 1}} {
		kept := p.breakOff("copy."+table, records, from.partition, from.row)
		var said struct{ Rows, Before int64 }
		emitted := ask(exitOK, append([]string{"emit", table, "--topic-prefix", "copy", "--replication", "1", "--savepoint", "before", "--kafka-brokers", p.kafka}, checkpoint...)...)
		if err := json.Unmarshal([]byte(emitted[0]), &said); err != nil || said.Rows != exist || said.Before != int64(kept) {
			t.Errorf("emit: %v (error %v), expected %d rows, of which %d were there", emitted, err, exist, kept)
		}
		if _, again := p.records("copy." + table); again != whole {
			t.Errorf("broken off at %v, the copy is\n%s\nexpected\n%s", from, again, whole)
		}
	}
	ask(exitFailed, append([]string{"emit", table, "--topic-prefix", "cassdelta", "--kafka-brokers", p.kafka}, checkpoint...)...) // it has other events

	// Back to it, with a new disk: nothing is written again, as nothing came after it.
	before := len(p.events())
	ask(exitOK, append([]string{"restore", "before", "--kafka-brokers", p.kafka}, checkpoint...)...)
	ask(exitFailed, append([]string{"restore", "after", "--kafka-brokers", p.kafka}, checkpoint...)...)
	p.dedup = start(t, "dedup", "--kafka-brokers", p.kafka, "--state-directory", t.TempDir(), "--replication", "1", "--checkpoint-store", store, "--metrics-listen", "127.0.0.1:0")
	p.await("the state is restored", func() bool {
		return strings.Count(p.dedup.errors(), `"the state is restored"`) == 4 && strings.Count(p.dedup.errors(), `"folding"`) == 4
	})
	ask(exitFailed, append([]string{"restore", "before", "--kafka-brokers", p.kafka}, checkpoint...)...) // it has members
	if code, _, stderr := p.dedup.stop(); code != exitOK {
		t.Fatal(stderr)
	}
	if after := len(p.events()); after != before {
		t.Errorf("%d events, expected %d", after, before)
	}
	ask(exitFailed, append([]string{"checkpoints", "delete", "befor"}, checkpoint...)...) // there is none of that name
	ask(exitOK, append([]string{"checkpoints", "delete", "before"}, checkpoint...)...)
	if list := fmt.Sprint(ask(exitOK, append([]string{"checkpoints", "list"}, checkpoint...)...)); strings.Contains(list, "before") {
		t.Error(list)
	}
}

// samples are the labels and values of a metric, of the text of all metrics.
func samples(text, metric string) (found []string) {
	for line := range strings.Lines(text) {
		if sample, ok := strings.CutPrefix(line, metric+"{"); ok {
			found = append(found, sample)
		}
	}
	slices.Sort(found)
	return found
}
