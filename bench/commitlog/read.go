package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"cassdelta/bench"
	"cassdelta/commitlog"
	"cassdelta/schema"
)

// schemaFile is the name of the file with the table's definition.
const schemaFile = "schema.cql"

// touched is what one pass finds; the program in Java prints the same.
type touched struct {
	mutations, cells int
	sum              uint64
}

// add looks at every cell of a mutation.
func (t *touched) add(m *commitlog.Mutation) {
	t.mutations++
	for i := range m.Updates {
		u := &m.Updates[i]
		for j := range u.Unfiltereds {
			row := u.Unfiltereds[j].Row
			if row == nil {
				continue
			}
			for k := range row.Cells {
				c := &row.Cells[k]
				t.cells++
				t.sum += uint64(c.Timestamp) + uint64(len(c.Value)) + uint64(c.Value[0])
			}
		}
	}
}

// read reads the segments of a directory again and again. Mode cells decodes every mutation and looks at every cell;
// unwanted gives them to a decoder that does not want their table.
func read(dir, mode string, warmUp, runs int) error {
	if mode != "cells" && mode != "unwanted" {
		return fmt.Errorf("mode %q: expected cells or unwanted", mode)
	}
	decoder, err := newDecoder(dir, mode == "cells")
	if err != nil {
		return err
	}
	paths, err := filepath.Glob(filepath.Join(dir, "*.log"))
	if err != nil {
		return err
	}
	if len(paths) == 0 || runs < 1 {
		return fmt.Errorf("%s has no segments, or there is nothing to measure", dir)
	}
	slices.Sort(paths)
	wall := make([]time.Duration, runs)
	var cpuStart time.Duration
	var t touched
	var r commitlog.Reader
	for pass := -warmUp; pass < runs; pass++ {
		if pass == 0 {
			cpuStart = usage().cpu
		}
		start := time.Now()
		t = touched{}
		for _, path := range paths {
			if err := t.segment(&r, path, decoder); err != nil {
				return err
			}
		}
		if pass >= 0 {
			wall[pass] = time.Since(start)
		}
	}
	cpu := usage().cpu - cpuStart
	slices.Sort(wall)
	fmt.Printf("mutations=%d cells=%d sum=%d wall_best_ns=%d wall_median_ns=%d cpu_mean_ns=%d\n", t.mutations, t.cells, int64(t.sum),
		wall[0].Nanoseconds(), wall[runs/2].Nanoseconds(), cpu.Nanoseconds()/int64(runs))
	return nil
}

// segment reads one segment to its end.
func (t *touched) segment(r *commitlog.Reader, path string, d *commitlog.Decoder) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	r.Reset(path, f, info.Size())
	header, err := r.Header()
	if err != nil {
		return err
	}
	var m commitlog.Mutation
	for {
		payload, pos, err := r.Next()
		if err == commitlog.ErrFinished {
			return nil
		}
		if err != nil {
			return err
		}
		if err := d.Decode(header.Version, payload, pos, &m); err != nil {
			return err
		}
		t.add(&m)
	}
}

// follow reads the directory as an agent does that is started on it.
func follow(dir string) error {
	decoder, err := newDecoder(dir, true)
	if err != nil {
		return err
	}
	tail, err := commitlog.NewTail(commitlog.TailConfig{Dir: dir, Static: true, Keys: bench.Keys})
	if err != nil {
		return err
	}
	defer tail.Close()
	start := time.Now()
	var m commitlog.Mutation
	var t touched
	bytes, segments := 0, 0
	for {
		item, ok, err := tail.Poll()
		if err != nil {
			return err
		}
		if !ok {
			break
		}
		switch {
		case item.Err != nil:
			return item.Err
		case item.Kind == commitlog.SegmentEnd:
			segments++
		default:
			if err := decoder.Decode(item.Version, item.Payload, item.Position, &m); err != nil {
				return err
			}
			t.add(&m)
			bytes += len(item.Payload)
		}
	}
	u := usage()
	fmt.Printf("segments=%d mutations=%d payload_bytes=%d wall_ns=%d cpu_ns=%d peak_rss_bytes=%d\n",
		segments, t.mutations, bytes, time.Since(start).Nanoseconds(), u.cpu.Nanoseconds(), u.peak)
	return nil
}

func newDecoder(dir string, wanted bool) (*commitlog.Decoder, error) {
	name := filepath.Join(dir, schemaFile)
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	parsed, err := schema.ParseCQL(name, string(text))
	if err != nil {
		return nil, err
	}
	return commitlog.NewDecoder(parsed.Catalog(), func(*schema.Table) bool { return wanted }), nil
}

// resources is what the process has used.
type resources struct {
	cpu  time.Duration // in user and in system mode
	peak int64         // greatest resident set, in bytes
}

func usage() resources {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return resources{}
	}
	return resourcesOf(&u)
}

func resourcesOf(u *syscall.Rusage) resources {
	return resources{time.Duration(u.Utime.Nano() + u.Stime.Nano()), u.Maxrss * 1024}
}

// measure runs a command, and counts the bytes that it prints.
func measure(command []string) error {
	c := exec.Command(command[0], command[1:]...)
	c.Stderr = os.Stderr
	out, err := c.StdoutPipe()
	if err != nil {
		return err
	}
	start := time.Now()
	if err := c.Start(); err != nil {
		return err
	}
	printed, copyErr := io.Copy(io.Discard, out)
	if err := errors.Join(copyErr, c.Wait()); err != nil {
		return fmt.Errorf("%v: %w", command, err)
	}
	u, ok := c.ProcessState.SysUsage().(*syscall.Rusage)
	if !ok {
		return errors.New("this system does not say what a process used")
	}
	r := resourcesOf(u)
	fmt.Printf("wall_ns=%d cpu_ns=%d peak_rss_bytes=%d printed_bytes=%d\n", time.Since(start).Nanoseconds(), r.cpu.Nanoseconds(), r.peak, printed)
	return nil
}
