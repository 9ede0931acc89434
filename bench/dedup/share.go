package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
)

// sharePeriod is over which time the kernel hands out a share of the processors, in microseconds.
const sharePeriod = 50_000

// limit lets a process have so much processor time as this many cores have, and no more: by a control group of its own, of version 1 or 2,
// which takes the rights of root. remove ends that once the process has ended.
func limit(pid int, cores float64) (remove func() error, err error) {
	quota := strconv.Itoa(int(cores * sharePeriod))
	name := "cassdelta-bench-" + strconv.Itoa(pid)
	dir := filepath.Join("/sys/fs/cgroup/cpu", name) // version 1
	settings := map[string]string{"cpu.cfs_period_us": strconv.Itoa(sharePeriod), "cpu.cfs_quota_us": quota}
	if _, err := os.Stat("/sys/fs/cgroup/cgroup.controllers"); err == nil { // version 2
		dir = filepath.Join("/sys/fs/cgroup", name)
		settings = map[string]string{"cpu.max": quota + " " + strconv.Itoa(sharePeriod)}
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		return nil, fmt.Errorf("-worker-share: control group: %w", err)
	}
	remove = func() error { return os.Remove(dir) }
	settings["cgroup.procs"] = strconv.Itoa(pid)
	for file, value := range settings {
		if err := os.WriteFile(filepath.Join(dir, file), []byte(value), 0o644); err != nil {
			return nil, errors.Join(fmt.Errorf("-worker-share: control group: %w", err), remove())
		}
	}
	return remove, nil
}
