package testparts

import "syscall"

// childAttributes puts a child into its own process group, so that a terminal's Ctrl-C reaches only its parent, and
// has the system kill it when its parent dies.
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
