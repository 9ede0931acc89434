package main

import (
	"fmt"
	"os"
	"path/filepath"

	"cassdelta/bench"
	"cassdelta/commitlog"
)

// firstSegment is the id of the first segment.
const firstSegment = 1700000000001

// rows is the number of rows that are written again and again.
const rows = 1000000

// generate writes segments, and the schema of their table.
func generate(dir, workload, form string, count int) error {
	var mutations *bench.Mutations
	switch workload {
	case "inserts":
		mutations = bench.Inserts(rows)
	case "updates":
		mutations = bench.Updates(rows)
	default:
		return fmt.Errorf("workload %q: expected inserts or updates", workload)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, schemaFile), []byte(bench.Schema()), 0o644); err != nil {
		return err
	}
	for i := range count {
		id := firstSegment + int64(i)
		segment, _ := bench.Segment(id, bench.SegmentSize, mutations)
		segment, err := bench.Form(segment, form)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, commitlog.SegmentName(bench.Version, id)), segment, 0o644); err != nil {
			return err
		}
	}
	return nil
}
