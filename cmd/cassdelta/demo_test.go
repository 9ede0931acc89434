package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// TestDemo holds that the summary of the demo adds up, by adding it up, and that it is about the events that were
// printed.
func TestDemo(t *testing.T) {
	code, stdout, stderr := program(t, "demo")
	if code != exitOK || stderr != "" {
		t.Fatalf("exit code %d, standard error %q", code, stderr)
	}
	head, rest, _ := strings.Cut(stdout, "\n\n")
	if !strings.Contains(head, "3 real nodes of Cassandra 5.0") {
		t.Errorf("it begins with %q", head)
	}
	lines, text, _ := strings.Cut(rest, "\n\n")
	ops := map[string]int{}
	for line := range strings.Lines(lines + "\n") {
		change := regexp.MustCompile(`^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} ([cud]) shop\.(stock|customers|orders) \w+=`).FindStringSubmatch(line)
		if change == nil {
			t.Fatalf("no change: %q", line)
		}
		ops[change[1]]++
	}
	s := parseSummary(t, text)
	if len(s) != 3 {
		t.Fatalf("expected three sums, found\n%s", text)
	}
	from, did, events := s[0], s[1], s[2]
	if len(from.parts) != 3 || from.parts["from node1"] == 0 || from.parts["from node2"] == 0 || from.parts["from node3"] == 0 {
		t.Errorf("raw records: %+v", from)
	}
	if from.n != did.n || did.parts["changed rows"] == 0 || did.parts["were copies of what was known"] == 0 {
		t.Errorf("%d raw records, folded: %+v", from.n, did)
	}
	if fmt.Sprint(events.parts) != fmt.Sprintf("map[rows created:%d rows deleted:%d rows updated:%d]", ops["c"], ops["d"], ops["u"]) {
		t.Errorf("%+v, printed were %v", events, ops)
	}
	if !strings.Contains(events.text, fmt.Sprintf("the %d records", did.parts["changed rows"])) {
		t.Errorf("%+v, by %d records", events, did.parts["changed rows"])
	}
}

// sum is a number of a summary with its parts.
type sum struct {
	n     int
	text  string
	parts map[string]int
}

// parseSummary reads a summary, and adds up its parts.
func parseSummary(t *testing.T, text string) (sums []sum) {
	t.Helper()
	for block := range strings.SplitSeq(strings.TrimSpace(text), "\n\n") {
		s := sum{parts: map[string]int{}}
		total := 0
		for i, line := range strings.Split(block, "\n") {
			number, meaning, _ := strings.Cut(strings.TrimSpace(line), "  ")
			n, err := strconv.Atoi(number)
			if err != nil {
				t.Fatalf("%q: %v", line, err)
			}
			if i == 0 {
				s.n, s.text = n, meaning
				continue
			}
			s.parts[meaning] = n
			total += n
		}
		if len(s.parts) > 0 && total != s.n {
			t.Errorf("the parts make %d:\n%s", total, block)
		}
		sums = append(sums, s)
	}
	return sums
}

// TestDemoIntoClosedPipe holds that the demo ends quietly when nobody reads on, and leaves nothing behind.
func TestDemoIntoClosedPipe(t *testing.T) {
	temporary := t.TempDir()
	t.Setenv("TMPDIR", temporary)
	stderr, err := os.Create(filepath.Join(t.TempDir(), "stderr"))
	if err != nil {
		t.Fatal(err)
	}
	defer stderr.Close()
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer write.Close()
	read.Close()
	if code := run(t.Context(), []string{"demo"}, write, stderr); code != exitPipe {
		t.Errorf("exit code %d, expected %d", code, exitPipe)
	}
	if said, err := os.ReadFile(stderr.Name()); err != nil || len(said) > 0 {
		t.Errorf("standard error %q, %v", said, err)
	}
	if left, err := os.ReadDir(temporary); err != nil || len(left) > 0 {
		t.Errorf("left behind are %v, %v", left, err)
	}
}

// TestDemoJSON holds that the events are the changes, all of them and each once: together they make the rows that the
// recorded cluster had at the end.
func TestDemoJSON(t *testing.T) {
	code, stdout, stderr := program(t, "demo", "--json")
	if code != exitOK || stderr != "" {
		t.Fatalf("exit code %d, standard error %q", code, stderr)
	}
	n, unsupported := checkRows(t, openDemo(t), demoTables(t), foldEvents(t, "demo", parseEvents(t, stdout)))
	if n == 0 || len(unsupported) > 0 {
		t.Errorf("%d rows, unsupported: %v", n, unsupported)
	}
}
