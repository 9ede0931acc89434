// Command commitlog is the half of bench/commitlog.sh that is written in Go: it makes segments, and reads them as the
// agent does.
package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"cassdelta/bench"
	"cassdelta/commitlog"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "commitlog:", err)
		os.Exit(1)
	}
}

const usage = `usage:
  commitlog generate DIR inserts|updates COUNT       COUNT segments of 32 MiB, and schema.cql
  commitlog read DIR WARMUP RUNS cells|mutations     read them so often, print the best and the median time`

func run(args []string) error {
	switch {
	case len(args) == 4 && args[0] == "generate":
		count, err := strconv.Atoi(args[3])
		if err != nil {
			return err
		}
		return generate(args[1], args[2], count)
	case len(args) == 5 && args[0] == "read":
		warmUp, err := strconv.Atoi(args[2])
		if err != nil {
			return err
		}
		runs, err := strconv.Atoi(args[3])
		if err != nil {
			return err
		}
		return read(args[1], warmUp, runs, args[4] == "cells")
	}
	return fmt.Errorf("wrong arguments\n%s", usage)
}

// generate writes segments and the schema of their table.
func generate(dir, workload string, count int) error {
	var m *bench.Mutations
	switch workload {
	case "inserts":
		m = bench.Inserts(1e6)
	case "updates":
		m = bench.Updates(1e6)
	default:
		return fmt.Errorf("workload %q: expected inserts or updates", workload)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "schema.cql"), []byte(bench.Schema()), 0o644); err != nil {
		return err
	}
	for i := range count {
		id := firstSegment + int64(i)
		segment, n := bench.Segment(id, bench.SegmentSize, m)
		name := commitlog.SegmentName(bench.Version, id)
		if err := os.WriteFile(filepath.Join(dir, name), segment, 0o644); err != nil {
			return err
		}
		fmt.Printf("%s: %d mutations\n", name, n)
	}
	return nil
}

// firstSegment is the id of the first segment.
const firstSegment = 1700000000001
