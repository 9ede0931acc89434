package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"cassdelta/internal/recording"
	"cassdelta/schema"
	"cassdelta/testdata/recordings"
)

// TestSegmentDump: a file with the tables and a running node make the same dump, and flags limit it.
func TestSegmentDump(t *testing.T) {
	r, err := recording.Open(recordings.Demo())
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := r.Unpack("node1", recording.FinalMoment, dir); err != nil {
		t.Fatal(err)
	}
	text, err := r.Schema()
	if err != nil {
		t.Fatal(err)
	}
	schemaFile := filepath.Join(t.TempDir(), "schema.cql")
	if err := os.WriteFile(schemaFile, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	parsed, err := schema.ParseCQL("schema.cql", text)
	if err != nil {
		t.Fatal(err)
	}
	dump := func(flags ...string) []string {
		t.Helper()
		code, stdout, stderr := program(t, append([]string{"segment", "dump", dir}, flags...)...)
		if code != exitOK {
			t.Fatalf("%q: exit code %d: %s", flags, code, stderr)
		}
		return strings.SplitAfter(stdout, "\n")
	}
	all := dump("--schema", schemaFile, "--values", "text")
	if len(all) < 50 || !strings.Contains(all[0], `"pk":{`) {
		t.Fatalf("%d lines, the first: %s", len(all), all[0])
	}
	node := startNode(t, schema.UUID{1}, parsed.Tables...)
	live := dump("--cassandra-contact-points", node.addr(), "--values", "text")
	if strings.Join(live, "") != strings.Join(all, "") {
		t.Errorf("by the node there are %d lines, by the file %d", len(live), len(all))
	}

	var segment, position int64
	if _, err := fmt.Sscanf(all[len(all)/2], `{"seg":%d,"pos":%d,`, &segment, &position); err != nil {
		t.Fatal(err)
	}
	at := fmt.Sprintf("%d:%d", segment, position)
	for _, flags := range [][]string{
		{"--from", at}, {"--to", at}, {"--from", at, "--to", at}, {"--table", "shop.orders"}, {"--since", "2024-02-29T12:00:00Z", "--key", "north"},
	} {
		chosen := dump(append(flags, "--schema", schemaFile, "--values", "text")...)
		if len(chosen) < 2 || len(chosen) >= len(all) {
			t.Errorf("%q: %d lines of %d", flags, len(chosen), len(all))
		}
	}
	for want, flags := range map[string][]string{
		"SEGMENT:OFFSET":          {"--from", "x"},
		"microseconds since 1970": {"--until", "soon"},
		"--values must be one of": {"--values", "words"},
	} {
		if code, _, stderr := program(t, append([]string{"segment", "dump", dir}, flags...)...); code != exitUsage || !strings.Contains(stderr, want) {
			t.Errorf("%q: exit code %d, %q, expected %q", flags, code, stderr, want)
		}
	}
}
