package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"cassdelta/commitlog"
	"cassdelta/schema"
)

// touched is what one pass finds; the program in Java prints the same.
type touched struct {
	mutations, cells int
	sum              uint64
}

func (t *touched) add(m *commitlog.Mutation) {
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

// read reads the segments of a directory again and again. With cells every mutation is decoded and every cell looked at;
// without, mutations are decoded and counted.
func read(dir string, warmUp, runs int, cells bool) error {
	decoder, err := newDecoder(dir)
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
	var wall, cpu []time.Duration
	var t touched
	for pass := -warmUp; pass < runs; pass++ {
		start, cpuStart := time.Now(), cpuTime()
		t = touched{}
		for _, path := range paths {
			if err := t.segment(path, decoder, cells); err != nil {
				return err
			}
		}
		if pass >= 0 {
			wall, cpu = append(wall, time.Since(start)), append(cpu, cpuTime()-cpuStart)
		}
	}
	slices.Sort(wall)
	slices.Sort(cpu)
	fmt.Printf("mutations=%d cells=%d sum=%d wall_best_ns=%d wall_median_ns=%d cpu_best_ns=%d cpu_median_ns=%d\n", t.mutations, t.cells, int64(t.sum),
		wall[0].Nanoseconds(), wall[runs/2].Nanoseconds(), cpu[0].Nanoseconds(), cpu[runs/2].Nanoseconds())
	return nil
}

// segment reads one segment to its end.
func (t *touched) segment(path string, d *commitlog.Decoder, cells bool) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	r := commitlog.NewReader(path, f, info.Size())
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
		t.mutations++
		if cells {
			t.add(&m)
		}
	}
}

func newDecoder(dir string) (*commitlog.Decoder, error) {
	name := filepath.Join(dir, "schema.cql")
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	parsed, err := schema.ParseCQL(name, string(text))
	if err != nil {
		return nil, err
	}
	return commitlog.NewDecoder(parsed.Catalog(), nil), nil
}

// cpuTime is the time that the process has used, in user and in system mode.
func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
