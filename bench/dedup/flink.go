package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	"cassdelta/bench"
	flinkjob "cassdelta/bench/flink"
	"cassdelta/internal/testparts"
)

const (
	flinkRaw   = "bench-flink-raw"
	flinkClean = "bench-flink-clean"
	flinkGroup = "bench-flink"
	// flinkManaged is the memory of RocksDB in megabytes: its caches and memtables.
	flinkManaged = 1536
)

// flink is the job that the worker is compared with. Its JVM is warm in the second phase.
type flink struct {
	o   *options
	dir string
	process
}

// run measures the job in the same phases as the worker, and prints the ratios of both.
func (f *flink) run(ctx context.Context, phases []phase, ours []*measurement, out io.Writer) (err error) {
	defer func() {
		if err != nil && f.cmd != nil {
			f.stop(syscall.SIGKILL)
		}
	}()
	for _, topic := range []string{flinkRaw, flinkClean} {
		if _, err := f.kafka.admin.CreateTopic(ctx, bench.FlinkPartitions, 1, nil, topic); err != nil {
			return err
		}
	}
	fmt.Fprintf(out, "\nApache Flink with a checkpoint each %v\n", f.o.flinkInterval)
	for i := range phases {
		err := phases[i].write(ctx, out, func(ctx context.Context, p *phase) (int, error) {
			return f.kafka.writeCopies(ctx, flinkRaw, p, func(m *bench.Mutation, replica int) ([]byte, int32) {
				pk, _ := bench.Key(m.Row)
				return bench.AppendCopy(nil, m, replica), bench.FlinkPartition(pk)
			})
		})
		if err != nil {
			return err
		}
	}
	if err := f.start(ctx); err != nil {
		return err
	}
	begin := int64(0)
	for i, p := range phases {
		m, err := f.follow(ctx, begin, begin+int64(p.records), nil)
		if err != nil {
			return err
		}
		begin += int64(p.records)
		fmt.Fprintf(out, "\n%s\n", p.name)
		fmt.Fprintf(out, "  rate             %.0f raw records/s (steady part, %.1f s)\n", m.rate, m.steady.Seconds())
		fmt.Fprintf(out, "  CPU              %.2f s per 1 M raw records (with start and end %.2f), broker %.2f\n", m.cpu, m.wholeCPU, m.broker)
		fmt.Fprintf(out, "  peak RSS         %.0f MB so far\n", float64(m.peak)/1e6)
		o := ours[i]
		fmt.Fprintf(out, "  cassdelta        %.2f times the rate, CPU time of Flink %.2f times, resident memory %.2f times its own\n", o.rate/m.rate, m.cpu/o.cpu, float64(m.peak)/float64(o.peak))
	}
	n := 0
	for _, p := range phases {
		n += p.n
	}
	found, err := f.events(ctx, n)
	if err != nil {
		return err
	}
	if err := compare(ctx, phases, found); err != nil {
		return err
	}
	fmt.Fprintf(out, "\nevents             %d, each once, sum %016x as it should be\n", found.N, found.Sum)
	return f.stop(syscall.SIGKILL)
}

// events reads n events: the job commits the positions of a checkpoint and its events in two steps, so some may come a moment later.
func (f *flink) events(ctx context.Context, n int) (found bench.Sum, err error) {
	seen := map[int32]int64{}
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(sampleEvery) {
		more, err := f.kafka.read(ctx, flinkClean, seen, func(value []byte) ([]byte, error) { return value, nil })
		found = bench.Sum{N: found.N + more.N, Bytes: found.Bytes + more.Bytes, Sum: found.Sum + more.Sum}
		if err != nil || found.N >= n || time.Now().After(deadline) {
			return found, err
		}
	}
}

// start compiles the job and starts it.
func (f *flink) start(ctx context.Context) error {
	program, err := testparts.CompileJava(ctx, "flink", flinkjob.Sources)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(f.dir, 0o755); err != nil {
		return err
	}
	java, classpath := program.Java()
	args := []string{"-c", f.o.workerCores, java, "-Xmx1g", "-Djava.io.tmpdir=" + f.dir, "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"}
	for _, p := range []string{"java.lang", "java.lang.invoke", "java.net", "java.nio", "java.time", "java.util", "java.util.concurrent"} {
		args = append(args, "--add-opens", "java.base/"+p+"=ALL-UNNAMED")
	}
	args = append(args, "-cp", classpath, "DedupJob", strings.Join(f.kafka.brokers, ","), flinkRaw, flinkClean, flinkGroup,
		f.dir, strconv.FormatInt(int64(f.o.flinkInterval/time.Millisecond), 10), strconv.Itoa(flinkManaged))
	return f.process.start(exec.CommandContext(ctx, "taskset", args...))
}
