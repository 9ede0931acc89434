package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"cassdelta/bench"
	"cassdelta/internal/testparts"
)

// phase is mutations of one kind. All are in the raw topic before the first is folded.
type phase struct {
	name      string
	records   int // that were written
	mutations func() *bench.Mutations
	n         int
	copies    bool
	delay     bench.Delay
}

func (o *options) phases() []phase {
	rows := uint64(o.rows)
	inserts := phase{name: "inserts", mutations: func() *bench.Mutations { return bench.Inserts(rows) }, n: int(o.rows), copies: !o.single, delay: bench.InsertDelay}
	updates := phase{name: "updates", mutations: func() *bench.Mutations { return bench.Updates(rows) }, n: int(o.updates), copies: true, delay: bench.UpdateDelay}
	if o.zipf {
		updates = phase{name: "zipf updates", mutations: func() *bench.Mutations { return bench.Zipf(rows) }, n: int(o.updates), copies: true, delay: bench.ZipfDelay}
	}
	return []phase{inserts, updates}
}

// run measures, and prints to out.
func run(ctx context.Context, o *options, out io.Writer) (err error) {
	dir, err := os.MkdirTemp(o.dir, "cassdelta-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	program := filepath.Join(dir, "cassdelta")
	if text, err := exec.CommandContext(ctx, "go", "build", "-o", program, "cassdelta/cmd/cassdelta").CombinedOutput(); err != nil {
		return fmt.Errorf("build cassdelta: %w\n%s", err, text)
	}
	kafka, err := testparts.StartKafka(ctx, testparts.KafkaOptions{Dir: filepath.Join(dir, "kafka")})
	if err != nil {
		return err
	}
	defer kafka.Close()
	if text, err := exec.CommandContext(ctx, "taskset", "-acp", o.brokerCores, strconv.Itoa(kafka.PID())).CombinedOutput(); err != nil {
		return fmt.Errorf("taskset: %w: %s", err, text)
	}
	k, err := openTopics(ctx, kafka.Brokers, int32(o.partitions))
	if err != nil {
		return err
	}
	defer k.close()
	w := &worker{o: o, program: program, state: filepath.Join(dir, "state"),
		process: process{name: "the worker", log: filepath.Join(dir, "worker.log"), group: group, kafka: k, broker: kafka.PID()}}
	fmt.Fprintf(out, "%d rows, %d partitions, transactions of %v, worker on %.0f %% of cores %s, broker on cores %s\n", o.rows, o.partitions, o.interval, 100*o.workerShare, o.workerCores, o.brokerCores)
	phases := o.phases()
	for i := range phases {
		if err := phases[i].write(ctx, out, k.write); err != nil {
			return err
		}
	}
	var ours []*measurement
	if o.kill {
		r, err := w.recover(ctx, phases)
		if err != nil {
			return err
		}
		r.print(out)
	} else if ours, err = w.measure(ctx, phases, out); err != nil {
		return err
	}
	started := time.Now()
	found, err := k.readEvents(ctx)
	if err != nil {
		return err
	}
	if err := compare(ctx, phases, found); err != nil {
		return err
	}
	fmt.Fprintf(out, "\nevents             %d, each once, sum %016x as it should be (compared in %.0f s)\n", found.N, found.Sum, time.Since(started).Seconds())
	if !o.flink {
		return nil
	}
	f := &flink{o: o, dir: filepath.Join(dir, "flink"),
		process: process{name: "the Flink job", log: filepath.Join(dir, "flink.log"), group: flinkGroup, kafka: k, broker: kafka.PID()}}
	return f.run(ctx, phases, ours, out)
}

// write writes the raw records of a phase with a function that returns how many they are.
func (p *phase) write(ctx context.Context, out io.Writer, write func(context.Context, *phase) (int, error)) (err error) {
	started := time.Now()
	if p.records, err = write(ctx, p); err != nil {
		return err
	}
	fmt.Fprintf(out, "%s: %d mutations, %d raw records written in %.0f s\n", p.name, p.n, p.records, time.Since(started).Seconds())
	return nil
}

// clientOptions are those of all clients.
func clientOptions(brokers []string) []kgo.Opt {
	return []kgo.Opt{kgo.SeedBrokers(brokers...)}
}
