package e2e

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// buildProduct builds cmd/cassdelta into dir.
func buildProduct(ctx context.Context, dir string) (string, error) {
	binary := filepath.Join(dir, "cassdelta")
	cmd := exec.CommandContext(ctx, "go", "build", "-o", binary, "../cmd/cassdelta")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build ../cmd/cassdelta: %w\n%s", err, out)
	}
	return binary, nil
}

// program is a process of the product. It can be started again after it was killed or stopped; its output is appended to
// one log.
type program struct {
	name string
	argv []string
	log  string

	pid   int
	ended chan struct{} // closed when the process has ended
	state *os.ProcessState
	// expected is set before this test ends the process.
	expected atomic.Bool
	// died is called with the reason when the process ends otherwise.
	died func(error)
	// kills counts the ends by SIGKILL.
	kills int
}

func newProgram(name, dir string, died func(error), argv ...string) *program {
	return &program{name: name, argv: argv, log: filepath.Join(dir, name+".log"), died: died}
}

// start starts the process.
func (p *program) start() error {
	if p.running() {
		return fmt.Errorf("start %s: it is running", p.name)
	}
	out, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("start %s: %w", p.name, err)
	}
	cmd := exec.Command(p.argv[0], p.argv[1:]...)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = childAttributes()
	started, ended := make(chan error), make(chan struct{})
	p.expected.Store(false)
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
		_ = cmd.Wait() // what it says is in ProcessState
		p.state = cmd.ProcessState
		expected := p.expected.Load() // before whoever waits for the end starts the process again
		close(ended)
		if !expected {
			p.died(p.explain("it ended by itself: " + p.state.String()))
		}
	}()
	if err := <-started; err != nil {
		return fmt.Errorf("start %s: %w", p.name, err)
	}
	p.ended = ended
	return nil
}

func (p *program) running() bool {
	if p.ended == nil {
		return false
	}
	select {
	case <-p.ended:
		return false
	default:
		return true
	}
}

// kill is SIGKILL. That the process had ended before is an error: a test that kills something dead shows nothing.
func (p *program) kill() error {
	if !p.running() {
		return p.explain("it had ended before it was to be killed")
	}
	p.expected.Store(true)
	if err := syscall.Kill(p.pid, syscall.SIGKILL); err != nil {
		return fmt.Errorf("kill %s: %w", p.name, err)
	}
	<-p.ended
	if status, ok := p.state.Sys().(syscall.WaitStatus); !ok || status.Signal() != syscall.SIGKILL {
		return p.explain("it ended by itself at the moment it was to be killed")
	}
	p.kills++
	return nil
}

// pause is SIGSTOP, and resume goes on: what a process sees whose machine is moved.
func (p *program) pause() error  { return p.signal(syscall.SIGSTOP) }
func (p *program) resume() error { return p.signal(syscall.SIGCONT) }

func (p *program) signal(s syscall.Signal) error {
	if !p.running() {
		return p.explain("it had ended before it was to get " + s.String())
	}
	if err := syscall.Kill(p.pid, s); err != nil {
		return fmt.Errorf("%s to %s: %w", s, p.name, err)
	}
	return nil
}

// stop is SIGTERM, after which the process must end by itself, without an error.
func (p *program) stop(ctx context.Context) error {
	if !p.running() {
		return p.explain("it had ended before it was to be stopped")
	}
	p.expected.Store(true)
	if err := syscall.Kill(p.pid, syscall.SIGTERM); err != nil {
		return fmt.Errorf("stop %s: %w", p.name, err)
	}
	select {
	case <-p.ended:
	case <-ctx.Done():
		return p.explain("it is still running after SIGTERM: " + ctx.Err().Error())
	}
	if !p.state.Success() {
		return p.explain("after SIGTERM it ended with " + p.state.String())
	}
	return nil
}

// close ends the process whatever it does.
func (p *program) close() {
	p.expected.Store(true)
	if p.running() {
		_ = syscall.Kill(p.pid, syscall.SIGKILL) // it may have ended by itself since
		<-p.ended
	}
}

// explain makes an error with the end of the log.
func (p *program) explain(problem string) error {
	return fmt.Errorf("%s: %s\nlog %s ends:\n%s", p.name, problem, p.log, logEnd(p.log))
}

// logEnd is the last lines of a log.
func logEnd(path string) string {
	f, err := os.Open(path)
	if err != nil {
		return err.Error()
	}
	defer f.Close()
	const size, count = 16 << 10, 25
	if end, err := f.Seek(0, io.SeekEnd); err != nil {
		return err.Error()
	} else if _, err := f.Seek(max(0, end-size), io.SeekStart); err != nil {
		return err.Error()
	}
	text, err := io.ReadAll(f)
	if err != nil {
		return err.Error()
	}
	lines := bytes.Split(bytes.TrimRight(text, "\n"), []byte("\n"))
	var b strings.Builder
	for _, line := range lines[max(0, len(lines)-count):] {
		fmt.Fprintf(&b, "  | %s\n", shortenLine(string(line)))
	}
	return b.String()
}

func shortenLine(s string) string {
	if len(s) > 400 {
		return s[:400] + "..."
	}
	return s
}

// poll waits until a condition holds; the last error of it is in the result if ctx ends first. There is no announcement
// of the conditions that it is used for.
func poll(ctx context.Context, what string, condition func() error) error {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		err := condition()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting until %s: %w: %w", what, context.Cause(ctx), err)
		case <-tick.C:
		}
	}
}

func TestProgram(t *testing.T) {
	dir := t.TempDir()
	died := make(chan error, 1)
	for _, c := range []struct {
		name, script string
		end          func(*program) error
		want         string // of the error
	}{
		{"killed", "sleep 100", (*program).kill, ""},
		{"stopped", "trap 'kill $!; exit 0' TERM; echo ready; sleep 100 & wait", func(p *program) error { return p.stop(t.Context()) }, ""},
		{"fails", "trap 'kill $!; echo no; exit 3' TERM; echo ready; sleep 100 & wait", func(p *program) error { return p.stop(t.Context()) }, "exit status 3"},
		{"ended", "echo gone; exit 1", func(*program) error { return <-died }, "it ended by itself: exit status 1"},
		{"dead", "exit 0", func(p *program) error { <-died; return p.kill() }, "had ended before"},
	} {
		p := newProgram(c.name, dir, func(err error) { died <- err }, "sh", "-c", c.script)
		if err := p.start(); err != nil {
			t.Fatal(err)
		}
		if strings.Contains(c.script, "ready") {
			err := poll(t.Context(), "it is ready", func() error {
				if !strings.Contains(logEnd(p.log), "ready") {
					return os.ErrNotExist
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		err := c.end(p)
		if got := fmt.Sprint(err); c.want == "" && err != nil || c.want != "" && !strings.Contains(got, c.want) {
			t.Errorf("%s: %v, expected %q", c.name, err, c.want)
		}
		p.close()
	}
}
