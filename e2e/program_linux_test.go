package e2e

import (
	"fmt"
	"syscall"
)

// childAttributes put a child into a process group of its own, and let the system kill it when this process dies.
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

// mountSmall mounts an empty file system of this many bytes.
func mountSmall(dir string, bytes int) error {
	if err := syscall.Mount("cassdelta", dir, "tmpfs", 0, fmt.Sprintf("size=%d", bytes)); err != nil {
		return fmt.Errorf("mount a small file system, which needs root: %w", err)
	}
	return nil
}

func unmount(dir string) error { return syscall.Unmount(dir, syscall.MNT_DETACH) }
