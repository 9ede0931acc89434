package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
)

// worker is the `cassdelta dedup` that is measured.
type worker struct {
	o              *options
	program, state string
	address        string // of its metrics
	process
}

// cores is how many cores a list as that of taskset has: 0,2-4 are four.
func cores(list string) (int, error) {
	n := 0
	for _, part := range strings.Split(list, ",") {
		first, last, isRange := strings.Cut(part, "-")
		if !isRange {
			last = first
		}
		a, errFirst := strconv.Atoi(first)
		b, errLast := strconv.Atoi(last)
		if errFirst != nil || errLast != nil || b < a {
			return 0, fmt.Errorf("cores %q: expected a list as 0 or 0,2-3", list)
		}
		n += b - a + 1
	}
	return n, nil
}

// start starts the worker.
func (w *worker) start(ctx context.Context) error {
	n, err := cores(w.o.workerCores)
	if err != nil {
		return err
	}
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	w.address = free.Addr().String()
	free.Close()
	args := []string{"-c", w.o.workerCores, w.program, "dedup", "--kafka-brokers", strings.Join(w.kafka.brokers, ","),
		"--raw-topic", rawTopic, "--group", group, "--topic-prefix", cleanPrefix, "--state-directory", w.state, "--replication", "1",
		"--clean-partitions", strconv.Itoa(w.o.partitions), "--commit-interval", w.o.interval.String(),
		"--metrics-listen", w.address, "--metrics-profiles"}
	if w.o.memory != "" {
		args = append(args, "--memory", w.o.memory)
	}
	cmd := exec.CommandContext(ctx, "taskset", append(args, strings.Fields(w.o.flags)...)...)
	cmd.Env = append(os.Environ(), "GOMAXPROCS="+strconv.Itoa(n))
	if err := w.process.start(cmd); err != nil || w.o.workerShare == 1 {
		return err
	}
	w.release, err = limit(w.cmd.Process.Pid, w.o.workerShare*float64(n))
	if err != nil {
		return errors.Join(err, w.stop(syscall.SIGKILL))
	}
	return nil
}
