package main

import (
	"bytes"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestRun measures a few rows, which must all have their events.
func TestRun(t *testing.T) {
	o := options{workerShare: 1,
		rows: 2000, updates: 5000, partitions: 8, interval: 100 * time.Millisecond, workerCores: "0", brokerCores: "0",
		zipf: true, profile: filepath.Join(t.TempDir(), "cpu"), dir: t.TempDir(),
	}
	var out bytes.Buffer
	if err := run(t.Context(), &o, &out); err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	for _, want := range []string{"7000, each once", "inserts", "zipf updates", "raw records/s"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("expected %q in:\n%s", want, out.String())
		}
	}
}

func TestCores(t *testing.T) {
	for list, want := range map[string]int{"0": 1, "0,2-4": 4, "1-1": 1, "": 0, "2-1": 0, "a": 0} {
		if n, err := cores(list); n != want || (err != nil) != (want == 0) {
			t.Errorf("%q: expected %d, found %d, %v", list, want, n, err)
		}
	}
}
