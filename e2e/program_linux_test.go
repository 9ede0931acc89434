package e2e

import "syscall"

// childAttributes put a child into a process group of its own, and let the system kill it when this process dies.
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
