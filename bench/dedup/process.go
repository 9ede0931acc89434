package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// process is a program that reads raw records and writes events, and is measured.
type process struct {
	name, log string
	group     string
	kafka     *topics
	broker    int // process id

	cmd     *exec.Cmd
	ended   chan error
	release func() error // what limits it, once it has ended; may be nil
}

// start starts it; what it prints goes into the log.
func (p *process) start(cmd *exec.Cmd) error {
	out, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer out.Close()
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		return err
	}
	p.cmd, p.ended = cmd, make(chan error, 1)
	go func(ended chan error) { ended <- cmd.Wait() }(p.ended)
	return nil
}

// stop ends the process with a signal and waits.
func (p *process) stop(signal syscall.Signal) error {
	if err := p.cmd.Process.Signal(signal); err != nil {
		return err
	}
	err := <-p.ended
	if p.release != nil {
		if err := p.release(); err != nil {
			return err
		}
	}
	if err != nil && signal == syscall.SIGTERM {
		return p.explain(err)
	}
	return nil
}

// explain adds the end of the log to an error.
func (p *process) explain(err error) error {
	text, _ := os.ReadFile(p.log)
	return fmt.Errorf("%s: %w; its log ends:\n%s", p.name, err, text[max(0, len(text)-2000):])
}

// alive is an error once the process has ended.
func (p *process) alive() error {
	select {
	case err := <-p.ended:
		p.ended <- err
		return p.explain(errors.Join(errors.New("it has ended"), err))
	default:
		return nil
	}
}

// follow samples until all is folded.
func (p *process) follow(ctx context.Context, begin, end int64, profile func(context.Context) *profiler) (m *measurement, err error) {
	started := time.Now()
	m = &measurement{records: end - begin}
	var samples []sample
	var profiles *profiler
	defer func() { profiles.stop() }()
	tick := time.NewTicker(sampleEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-tick.C:
		}
		if err := p.alive(); err != nil {
			return nil, err
		}
		s, err := p.sample(ctx)
		if err != nil {
			return nil, err
		}
		samples = append(samples, s)
		done := float64(s.records-begin) / float64(m.records)
		if m.first == 0 && s.records > begin {
			m.first = s.at.Sub(started)
		}
		if done >= steadyFrom && done < steadyTo && profiles == nil && profile != nil {
			profiles = profile(ctx)
		}
		if done >= steadyTo {
			if err := profiles.stop(); err != nil {
				return nil, err
			}
		}
		if s.records >= end {
			break
		}
	}
	m.parts, m.whole = profiles.result(), samples[len(samples)-1].at.Sub(started)
	m.rates(samples, begin)
	m.peak, err = peakOf(p.cmd.Process.Pid)
	return m, err
}

func (p *process) sample(ctx context.Context) (s sample, err error) {
	if s.records, err = p.kafka.committed(ctx, p.group); err != nil {
		return s, err
	}
	s.at = time.Now()
	if s.cpu, err = cpuOf(p.cmd.Process.Pid); err != nil {
		return s, err
	}
	s.broker, err = cpuOf(p.broker)
	return s, err
}

// cpuOf is the time that a process has had of processors.
func cpuOf(pid int) (time.Duration, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	// The name, which may have blanks, is in parentheses; behind it are the state and ten more fields, then utime and stime.
	fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	if len(fields) < 13 {
		return 0, fmt.Errorf("/proc/%d/stat: expected more fields", pid)
	}
	user, errUser := strconv.ParseInt(fields[11], 10, 64)
	system, errSystem := strconv.ParseInt(fields[12], 10, 64)
	const tick = time.Second / 100
	return time.Duration(user+system) * tick, errors.Join(errUser, errSystem)
}

// peakOf is the greatest resident set of a process, in bytes.
func peakOf(pid int) (int64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for _, line := range strings.Split(string(text), "\n") {
		if value, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			n, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(value, "kB")), 10, 64)
			return n << 10, err
		}
	}
	return 0, fmt.Errorf("/proc/%d/status has no VmHWM", pid)
}

// sizeOf is the size of all files in a directory.
func sizeOf(dir string) (size int64, err error) {
	err = filepath.WalkDir(dir, func(_ string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		info, err := e.Info()
		if err == nil {
			size += info.Size()
		}
		return err
	})
	return size, err
}
