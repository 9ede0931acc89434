package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"cassdelta/internal/testparts"
	"cassdelta/schema"
)

// TestDevRecordings shows what real nodes of every version wrote: the events make the rows that they had at the end, and
// the tables that are not supported are named.
func TestDevRecordings(t *testing.T) {
	for _, name := range []string{"types-4.0", "types-4.1", "types-5.0", "types-5.0-v8", "nested-4.0", "nested-4.1", "nested-5.0", "crash-5.0", "demo"} {
		r, err := testparts.OpenRecording(name)
		if err != nil {
			t.Fatal(err)
		}
		file := recordedSchema(t, r)
		for _, indexes := range []bool{true, false} {
			t.Run(name+map[bool]string{true: "", false: " without indexes"}[indexes], func(t *testing.T) {
				t.Parallel()
				dirs := unpack(t, r)
				if !indexes {
					removeIndexes(t, dirs)
				}
				before := listing(t, dirs)
				code, stdout, stderr := program(t, append([]string{"dev", "--schema", file, "--until-end", "--json"}, dirs...)...)
				if code != exitOK {
					t.Fatalf("exit code %d: %s", code, stderr)
				}
				n, unsupported := checkRows(t, r, tablesOf(t, file), foldEvents(t, "dev", parseEvents(t, stdout)))
				if n == 0 {
					t.Error("no table has rows")
				}
				logged := parseLog(t, stderr)
				for _, table := range unsupported {
					if hasCounters(table) {
						told := 0
						for line, n := range logged {
							if line.Message == "there are no events of a table" && line.Table == table.FullName() && strings.Contains(line.Reason, "counters") {
								told = n
								delete(logged, line)
							}
						}
						if told == 0 {
							t.Errorf("it is not told that there are no events of %s:\n%s", table.FullName(), stderr)
						}
						continue
					}
					line := logLine{Level: "error", Message: "changes of this table are not published: " + table.Unsupported(), Table: table.FullName()}
					if logged[line] != len(r.Nodes) {
						t.Errorf("expected for each of %d directories %+v, found %d in\n%s", len(r.Nodes), line, logged[line], stderr)
					}
					delete(logged, line)
				}
				if len(logged) > 0 {
					t.Errorf("unexpected log lines: %+v", logged)
				}
				if after := listing(t, dirs); after != before {
					t.Errorf("the directories were changed, from\n%sto\n%s", before, after)
				}
			})
		}
	}
}

// unsupportedCustomers is the edit of the demo's schema that gives a column of shop.customers a type which this program
// cannot know.
var unsupportedCustomers = []string{"    tier text\n", "    tier 'org.example.Tier'\n"}

// TestDevSummary holds that the summary has a line for each directory, and one for what is left out.
func TestDevSummary(t *testing.T) {
	r := openDemo(t)
	dirs := unpack(t, r)
	file := recordedSchema(t, r, unsupportedCustomers...)
	code, stdout, stderr := program(t, append([]string{"dev", "--schema", file, "--until-end"}, dirs...)...)
	lines, text, _ := strings.Cut(stdout, "\n\n")
	if code != exitOK {
		t.Fatalf("exit code %d: %s", code, stderr)
	}
	s := parseSummary(t, text)
	if len(s) != 4 {
		t.Fatalf("expected four sums, found\n%s", text)
	}
	from, did, events, left := s[0], s[1], s[2], s[3]
	for _, dir := range dirs {
		if from.parts["from "+dir] == 0 {
			t.Errorf("nothing from %s: %+v", dir, from)
		}
	}
	if did.n != from.n {
		t.Errorf("raw records: %+v, folded: %+v", from, did)
	}
	if printed := strings.Count(lines, "\n") + 1; events.n != printed {
		t.Errorf("%+v, printed are %d lines", events, printed)
	}
	if left.n == 0 || !strings.HasPrefix(left.text, "writes to tables that are not supported were left out") || strings.Contains(lines, "shop.customers") {
		t.Errorf("%+v, printed:\n%s", left, lines)
	}
}

// TestDevBadInput holds that what cannot be read is counted, and everything else shown.
func TestDevBadInput(t *testing.T) {
	r := openDemo(t)
	dirs, file := unpack(t, r), recordedSchema(t, r)
	breakMutation(t, dirs[1], tablesOf(t, file))
	truncateSegment(t, dirs[2])
	args := append([]string{"dev", "--schema", file, "--until-end"}, dirs...)
	code, stdout, stderr := program(t, args...)
	_, text, _ := strings.Cut(stdout, "\n\n")
	s := parseSummary(t, text)
	if code != exitOK || len(s) != 4 || s[3].n != 2 || !strings.HasPrefix(s[3].text, "places in segments could not be read") {
		t.Errorf("exit code %d, %+v, %s", code, s, stderr)
	}
	code, stdout, stderr = program(t, append(args, "--json")...)
	if code != exitOK {
		t.Errorf("exit code %d, %s", code, stderr)
	}
	checkRows(t, r, tablesOf(t, file), foldEvents(t, "dev", parseEvents(t, stdout)))
}

// TestDevStop holds that Ctrl-C ends with a summary that adds up, whenever it comes: before anything was read, in the
// midst, or when all was shown.
func TestDevStop(t *testing.T) {
	r := openDemo(t)
	file := recordedSchema(t, r)
	for _, lines := range []int{0, 1, 20, 64} {
		t.Run(fmt.Sprint(lines), func(t *testing.T) {
			t.Parallel()
			p := start(t, append([]string{"dev", "--schema", file}, unpack(t, r)...)...)
			for strings.Count(p.out.String(), "\n") < lines {
				select {
				case <-p.ended:
					t.Fatalf("it ended by itself: %s", p.errors())
				case <-time.After(time.Millisecond):
				}
			}
			code, stdout, stderr := p.stop()
			if code != exitOK || stderr != "" {
				t.Fatalf("exit code %d: %s", code, stderr)
			}
			printed, text, _ := strings.Cut("\n"+stdout, "\n\n")
			s := parseSummary(t, text)
			if len(s) != 3 || s[0].n != s[1].n || s[2].n != strings.Count(printed, "\n") || s[2].n < lines {
				t.Errorf("stopped after %d lines:\n%s", lines, stdout)
			}
		})
	}
}

// TestNothingCaptured holds that a cluster without a table that has CDC is no error: there may be one later.
func TestNothingCaptured(t *testing.T) {
	var tables []*schema.Table
	for _, table := range demoTables(t) {
		spec := *table
		spec.CDC = false
		table, err := schema.NewTable(spec)
		if err != nil {
			t.Fatal(err)
		}
		tables = append(tables, table)
	}
	node := startNode(t, schema.UUID{1}, tables...)
	code, stdout, stderr := program(t, "dev", "--until-end", "--cassandra-contact-points", node.addr(), t.TempDir())
	want := map[logLine]int{{Level: "warn", Message: "no table has cdc = true, so there is nothing to publish yet: ALTER TABLE ... WITH cdc = true"}: 1}
	if found := parseLog(t, stderr); code != exitOK || !maps.Equal(found, want) {
		t.Errorf("exit code %d, log %+v, output %q", code, found, stdout)
	}
}

// logLine is what a test looks at in a line of the log.
type logLine struct {
	Level   string
	Message string `json:"msg"`
	Table   string
	Reason  string
	Error   string
}

// parseLog counts the lines of a log.
func parseLog(t *testing.T, text string) map[logLine]int {
	t.Helper()
	lines := map[logLine]int{}
	for line := range strings.Lines(text) {
		var l logLine
		if err := json.Unmarshal([]byte(line), &l); err != nil {
			t.Fatalf("no line of a log: %s: %v", line, err)
		}
		lines[l]++
	}
	return lines
}

// listing names the files of directories with their sizes and times.
func listing(t *testing.T, dirs []string) string {
	t.Helper()
	var b strings.Builder
	for _, dir := range dirs {
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			info, err := e.Info()
			if err != nil {
				t.Fatal(err)
			}
			fmt.Fprintln(&b, e.Name(), info.Size(), info.ModTime().UnixNano())
		}
	}
	return b.String()
}

// removeIndexes deletes all index files.
func removeIndexes(t *testing.T, dirs []string) {
	t.Helper()
	for _, dir := range dirs {
		files, err := filepath.Glob(filepath.Join(dir, "*_cdc.idx"))
		if err != nil || len(files) == 0 {
			t.Fatalf("%s has no index files: %v", dir, err)
		}
		for _, f := range files {
			if err := os.Remove(f); err != nil {
				t.Fatal(err)
			}
		}
	}
}
