package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"time"

	"cassdelta/internal/differential"
)

type workloadsCmd struct {
	Seed       uint64   `help:"What the workloads follow from. Default: another one each time."`
	Workloads  int      `help:"Number of workloads for each version." default:"10"`
	Statements int      `help:"Least number of statements of each." default:"300"`
	Version    []string `help:"Versions of Cassandra: ${versions}. Default: 4.0, 4.1 and 5.0." placeholder:"VERSION" default:"4.0,4.1,5.0"`
}

func (c *workloadsCmd) Run(ctx context.Context) error {
	if c.Seed == 0 {
		c.Seed = rand.Uint64N(1e9) + 1
	}
	fmt.Printf("seed %d\n", c.Seed)
	failed := 0
	for _, version := range c.Version {
		dir, err := os.MkdirTemp("", "cassdelta-workloads-")
		if err != nil {
			return err
		}
		start := time.Now()
		r, err := differential.RunWorkloads(ctx, differential.WorkloadOptions{
			Version: version, Seed: c.Seed, Workloads: c.Workloads, Statements: c.Statements, DDL: true, Dir: dir,
			Progress: func(format string, args ...any) {
				fmt.Printf("%s %4.0fs  %s\n", version, time.Since(start).Seconds(), fmt.Sprintf(format, args...))
			},
		})
		if ctx.Err() != nil {
			return err
		}
		fmt.Printf("%s (%s): %d workloads, %d statements, %d raw records, %d ticks, %d events (%d of rows truncated or dropped), %d rows and %d cells compared (%d rows were written while cdc was off), %d differences, %.0f s\n",
			version, r.Release, r.Workloads, r.Statements, r.RawRecords, r.Ticks, r.Events, r.Vanished, r.Rows, r.Cells, r.Unknown, r.Differences, r.Took.Seconds())
		for _, d := range r.First {
			fmt.Println(d)
		}
		if err != nil {
			fmt.Printf("%s failed: %v\n", version, err)
		}
		if err != nil || r.Differences > 0 {
			failed++
			fmt.Printf("its files are kept in %s\n", dir)
		}
	}
	if failed > 0 {
		return fmt.Errorf("%d of %d versions failed", failed, len(c.Version))
	}
	return nil
}
