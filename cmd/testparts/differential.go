package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"time"

	"cassdelta/internal/differential"
)

// differentialCmd prints a line for each variant. looks is how often a segment was read while the node wrote it, live what was
// read of all that way.
type differentialCmd struct {
	Seed      uint64   `help:"What schemas and writes follow from. Default: another one each time."`
	Mutations int      `help:"Least number of mutations for each variant." default:"20000"`
	Versions  []string `help:"Versions of Cassandra: ${versions}. Default: all." placeholder:"VERSION"`
	Variants  []string `help:"Forms of the commit log: ${forms}. Default: all." placeholder:"FORM"`
}

func (c *differentialCmd) Run(ctx context.Context) error {
	variants, err := differential.Variants(c.Versions, c.Variants)
	if err != nil {
		return err
	}
	if c.Seed == 0 {
		c.Seed = rand.Uint64N(1e9) + 1
	}
	fmt.Printf("seed %d\n%-18s %-10s %-4s %10s %10s %8s %8s %8s %8s %12s\n", c.Seed,
		"variant", "Cassandra", "log", "mutations", "lines", "MB", "looks", "live", "seconds", "differences")
	failed, mutations, lines, differences := 0, 0, 0, 0
	for _, v := range variants {
		dir, err := os.MkdirTemp("", "cassdelta-differential-")
		if err != nil {
			return err
		}
		r, err := differential.Run(ctx, differential.Options{Variant: v, Seed: c.Seed, Mutations: c.Mutations, Dir: dir})
		if ctx.Err() != nil {
			return err
		}
		if err != nil {
			failed++
			fmt.Printf("%-18s failed after %s: %v\n", v.Name(), r.Took.Round(time.Second), err)
			continue
		}
		mutations, lines, differences = mutations+r.Mutations, lines+r.Lines, differences+r.Differences
		fmt.Printf("%-18s %-10s %-4s %10d %10d %8.1f %8d %8d %8.0f %12d\n", v.Name(), r.Release, r.LogVersion, r.Mutations, r.Lines,
			float64(r.Bytes)/1e6, r.Watched.Looks, r.Watched.Mutations, r.Took.Seconds(), r.Differences)
		for _, d := range r.First {
			fmt.Println(d)
		}
		if r.Differences > 0 {
			failed++
			fmt.Printf("its files are kept in %s\n", dir)
		}
	}
	fmt.Printf("%-18s %-10s %-4s %10d %10d %8s %8s %8s %8s %12d\n", "all", "", "", mutations, lines, "", "", "", "", differences)
	if failed > 0 {
		return fmt.Errorf("%d of %d variants failed", failed, len(variants))
	}
	return nil
}
