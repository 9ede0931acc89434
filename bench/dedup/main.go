// Command dedup measures `cassdelta dedup` on the mutations of package bench: a real broker on one core, the worker on others,
// raw records in and clean events out. It writes INSERTs of all rows and updates of them, and lets the worker fold all;
// of both parts it prints rates and what they cost, and compares the sum of the events with the one that is right. See README.md of
// package bench.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"cassdelta/bench"
)

// options are the flags.
type options struct {
	rows, updates            size
	zipf                     bool
	partitions               int
	single                   bool
	interval                 time.Duration
	memory                   string
	workerCores, brokerCores string
	workerShare              float64
	kill                     bool
	flink                    bool
	flinkInterval            time.Duration
	profile                  string
	dir                      string
	flags                    string
}

// size is a number that may end in k or m.
type size int

func (s *size) String() string { return strconv.Itoa(int(*s)) }

func (s *size) Set(text string) error {
	digits, unit := strings.ToLower(text), 1
	switch {
	case strings.HasSuffix(digits, "m"):
		digits, unit = digits[:len(digits)-1], 1_000_000
	case strings.HasSuffix(digits, "k"):
		digits, unit = digits[:len(digits)-1], 1000
	}
	n, err := strconv.Atoi(digits)
	if err != nil || n < 1 {
		return fmt.Errorf("expected a number as 20m, 500k or 1000")
	}
	*s = size(n * unit)
	return nil
}

func main() {
	o := options{rows: 1_000_000, updates: 2_000_000}
	flag.Var(&o.rows, "rows", "how many rows there are")
	flag.Var(&o.updates, "updates", "how many mutations are written to them; there are three copies of each")
	flag.BoolVar(&o.zipf, "zipf", false, "updates of rows by Zipf's law, exponent 0.99, instead of all alike")
	flag.IntVar(&o.partitions, "partitions", 8, "raw and clean partitions")
	flag.BoolVar(&o.single, "single", false, "one copy of each INSERT instead of three, to have many rows sooner")
	flag.DurationVar(&o.interval, "interval", 100*time.Millisecond, "commit-interval of the worker")
	flag.StringVar(&o.memory, "memory", "", "memory of the worker, as 2GiB")
	flag.StringVar(&o.workerCores, "worker-cores", "1", "the cores of the worker, as taskset -c takes them; GOMAXPROCS is their number")
	flag.Float64Var(&o.workerShare, "worker-share", 1, "how much of each of its cores the worker may use: with less than 1, workers of one and of two cores can be compared where the broker needs one of them")
	flag.StringVar(&o.brokerCores, "broker-cores", "0", "the cores of the broker")
	flag.BoolVar(&o.kill, "kill", false, "kill the worker amid the updates, and start it again: how long until new events are committed, instead of rates")
	flag.BoolVar(&o.flink, "flink", false, "do the same with a job of Apache Flink afterwards, of directory bench/flink, and print the ratios")
	flag.DurationVar(&o.flinkInterval, "flink-interval", time.Second, "interval of the Flink job's checkpoints, which are its transactions")
	flag.StringVar(&o.profile, "profile", "", "file for the CPU profile of the last updates; its breakdown is printed")
	flag.StringVar(&o.dir, "dir", "", "directory for the broker and the state, on a disk with room; removed at the end. Default: a temporary one")
	flag.StringVar(&o.flags, "flags", "", "further flags of the worker")
	flag.Parse()
	if o.workerShare <= 0 || o.workerShare > 1 || o.flink && o.workerShare < 1 {
		fmt.Fprintln(os.Stderr, "bench/dedup: -worker-share: expected more than 0 and at most 1, and 1 with -flink")
		os.Exit(2)
	}
	if o.flink && (o.kill || o.partitions != bench.FlinkPartitions) {
		fmt.Fprintf(os.Stderr, "bench/dedup: -flink: expected %d partitions and no -kill\n", bench.FlinkPartitions)
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, &o, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "bench/dedup:", err)
		os.Exit(1)
	}
}
