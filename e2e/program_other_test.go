//go:build !linux

package e2e

import (
	"errors"
	"syscall"
)

// childAttributes put a child into a process group of its own.
func childAttributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

func mountSmall(string, int) error { return errors.New("a small file system is mounted on Linux only") }

func unmount(string) error { return nil }
