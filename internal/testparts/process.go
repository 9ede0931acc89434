package testparts

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// process is a server that runs as a child, in a process group of its own.
type process struct {
	name string
	log  string
	pid  int
	// ended is done when the process has ended; its cause tells how.
	ended context.Context
}

// startProcess starts a server whose output is appended to the file log.
func startProcess(name, dir, log string, argv []string, env ...string) (*process, error) {
	if err := os.MkdirAll(filepath.Dir(log), 0o755); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	out, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), env...)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = childAttributes()

	ended, end := context.WithCancelCause(context.Background())
	p := &process{name: name, log: log, ended: ended}
	started := make(chan error)
	// The system ties the child to the thread that started it, so that thread must live as long as the child does.
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		out.Close()
		if err == nil {
			p.pid = cmd.Process.Pid
		}
		started <- err
		if err != nil {
			return
		}
		if err = cmd.Wait(); err == nil {
			err = errors.New("exit status 0")
		}
		end(err)
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	return p, nil
}

// running is false for nil and for a process that has ended.
func (p *process) running() bool {
	return p != nil && p.ended.Err() == nil
}

// stop asks the process to end and waits. When ctx is done first, it is killed and that is an error.
func (p *process) stop(ctx context.Context) error {
	if !p.running() {
		return nil
	}
	if err := syscall.Kill(p.pid, syscall.SIGTERM); err != nil && err != syscall.ESRCH {
		return fmt.Errorf("stop %s: %w", p.name, err)
	}
	select {
	case <-p.ended.Done():
		return nil
	case <-ctx.Done():
		p.kill()
		return p.explain(fmt.Errorf("stop %s: still running, killed: %w", p.name, ctx.Err()))
	}
}

// kill ends the process and all its children by SIGKILL and waits until it is gone.
func (p *process) kill() {
	if !p.running() {
		return
	}
	// ESRCH, that it has just ended by itself, is what we want as well.
	_ = syscall.Kill(-p.pid, syscall.SIGKILL)
	<-p.ended.Done()
}

// await polls until ready succeeds. The end of the process or of ctx is an error that quotes the log.
func (p *process) await(ctx context.Context, what string, ready func(context.Context) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(p.ended, cancel)()
	err := poll(ctx, 100*time.Millisecond, func() error { return ready(ctx) })
	switch {
	case err == nil:
		return nil
	case !p.running():
		return p.explain(fmt.Errorf("%s ended before it was %s: %w", p.name, what, context.Cause(p.ended)))
	default:
		return p.explain(fmt.Errorf("%s is not %s: %w", p.name, what, err))
	}
}

// explain adds the place and the end of the log to an error.
func (p *process) explain(err error) error {
	tail, readErr := readTail(p.log, 64<<10)
	if readErr != nil {
		return fmt.Errorf("%w (no log: %v)", err, readErr)
	}
	return fmt.Errorf("%w\nlog %s ends:\n%s", err, p.log, lastLines(tail, 20))
}

// poll calls f at intervals until it succeeds. When ctx is done the last error of f is in the result.
func poll(ctx context.Context, every time.Duration, f func() error) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		err := f()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w, last: %w", context.Cause(ctx), err)
		case <-tick.C:
		}
	}
}

// readTail reads at most n bytes from the end of a file.
func readTail(path string, n int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, err
	}
	if _, err := f.Seek(max(0, size-n), io.SeekStart); err != nil {
		return nil, err
	}
	return io.ReadAll(io.LimitReader(f, n))
}

// lastLines shortens a log to its last n lines of at most 300 bytes.
func lastLines(log []byte, n int) string {
	lines := bytes.Split(bytes.TrimRight(log, "\n"), []byte("\n"))
	var b strings.Builder
	for _, line := range lines[max(0, len(lines)-n):] {
		if len(line) > 300 {
			line = append(line[:300:300], "..."...)
		}
		fmt.Fprintf(&b, "  | %s\n", line)
	}
	return strings.TrimRight(b.String(), "\n")
}
