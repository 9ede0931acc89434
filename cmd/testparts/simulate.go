package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

type simulateCmd struct {
	Seed  uint64 `help:"The first seed." default:"1"`
	Seeds int    `help:"How many seeds. Default: 2000, or 1 if --seed is given."`
	Exact bool   `help:"Build with a Go runtime whose own dice do not fall, so that a seed is the same each time. Without it, what Go leaves to chance differs." default:"true" negatable:""`
	Twice bool   `help:"Run each seed twice, and fail if the two differ in anything."`
	Trace bool   `help:"Print what happens."`
}

// simTest is what a process of the simulation runs.
const simTest = "^TestSimulation$"

// Run simulates seeds, several processes at a time.
func (c *simulateCmd) Run(ctx context.Context) error {
	if c.Seeds == 0 {
		c.Seeds = 1
		if c.Seed == 1 {
			c.Seeds = 2000
		}
	}
	dir, err := os.MkdirTemp("", "cassdelta-simulate-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	program := filepath.Join(dir, "simulate.test")
	if err := buildSimulation(ctx, dir, program, c.Exact, nil); err != nil {
		return err
	}
	batch := 1 // a process of its own for each seed, so that none depends on those before it
	if !c.Exact {
		batch = 25
	}
	s := &simulations{program: program, exact: c.Exact, trace: c.Trace, progress: true}
	started := time.Now()
	err = s.runAll(ctx, c.Seed, c.Seeds, batch, c.Twice)
	if idle := s.total.idle(); err == nil && idle != "" {
		err = fmt.Errorf("there was no %s in %d seeds: the simulation does not do what it is to do", idle, s.total.seeds)
	}
	violations := 0
	if err != nil {
		violations = 1
	}
	fmt.Printf("%d violations: %s, in %.0f s\n", violations, s.total, time.Since(started).Seconds())
	return err
}

// simulations are processes of the simulation.
type simulations struct {
	program                string
	exact, trace, progress bool
	mutant                 string

	mu    sync.Mutex
	total simTotal
}

// simTotal is what the seeds came to.
type simTotal struct {
	seeds, void, records, events, letters, kills int
	checkpoints, restores, standbys, parked      int
	virtual                                      time.Duration
}

func (t simTotal) String() string {
	return fmt.Sprintf("%d seeds as they must be, %d void since kfake did not end a rebalance, %d raw records, %d events, %d dead letters, %d kills, %d checkpoints, %d restores, %d standby copies, %d parked events, %.0f h",
		t.seeds, t.void, t.records, t.events, t.letters, t.kills, t.checkpoints, t.restores, t.standbys, t.parked, t.virtual.Hours())
}

// idle says what of all that is simulated did not happen, of so many seeds that it must; it is empty if all did.
func (t *simTotal) idle() string {
	if t.seeds < 100 {
		return ""
	}
	for _, happened := range []struct {
		what  string
		times int
	}{{"kill", t.kills}, {"checkpoint", t.checkpoints}, {"restore", t.restores}, {"standby copy", t.standbys}, {"parked event", t.parked}} {
		if happened.times == 0 {
			return happened.what
		}
	}
	return ""
}

// simLine is what a seed prints: numbers, and the sum of all that happened.
var simLine = regexp.MustCompile(`seed (\d+): (\d+) records, (\d+) events, (\d+) dead letters, (\d+) kills, (\d+) checkpoints, (\d+) restores, (\d+) standby copies, (\d+) parked events, (\S+), ([0-9a-f]{16}) in [^ ,\n]+(, VOID)?`)

// mostVoid is how many seeds may be void, and one of a hundred.
const mostVoid = 1

// simTimeout bounds a process for each of its seeds.
const simTimeout = 2 * time.Minute

// runAll runs seeds, as many processes at a time as there are cores, until one fails.
func (s *simulations) runAll(ctx context.Context, first uint64, seeds, batch int, twice bool) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	end := first + uint64(seeds)
	next := make(chan uint64)
	var workers sync.WaitGroup
	for range runtime.NumCPU() {
		workers.Go(func() {
			for from := range next {
				if err := s.run(ctx, from, min(batch, int(end-from)), twice); err != nil {
					cancel(err)
				}
			}
		})
	}
	for from := first; from < end && ctx.Err() == nil; from += uint64(batch) {
		select {
		case next <- from:
		case <-ctx.Done():
		}
	}
	close(next)
	workers.Wait()
	return context.Cause(ctx)
}

// run runs n seeds in a process. An error says which seed failed, and how.
func (s *simulations) run(ctx context.Context, from uint64, n int, twice bool) error {
	lines, err := s.process(ctx, from, n)
	if err != nil {
		return err
	}
	if twice {
		again, err := s.process(ctx, from, n)
		if err != nil {
			return fmt.Errorf("the second time: %w", err)
		}
		for i, line := range lines {
			if !slices.Equal(line[1:], again[i][1:]) { // without how long it took
				return fmt.Errorf("a seed is not the same twice:\n%s\n%s", line[0], again[i][0])
			}
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, line := range lines {
		number := func(i int) int { n, _ := strconv.Atoi(line[i]); return n }
		virtual, err := time.ParseDuration(line[10])
		if err != nil {
			return err
		}
		t := &s.total
		if line[12] != "" {
			if t.void++; t.void > mostVoid+(t.seeds+t.void)/100 {
				return fmt.Errorf("seed %s: the group is amid a rebalance for ever, as in %d seeds before", line[1], t.void-1)
			}
			continue
		}
		t.seeds, t.records, t.events, t.letters, t.kills = t.seeds+1, t.records+number(2), t.events+number(3), t.letters+number(4), t.kills+number(5)
		t.checkpoints, t.restores, t.standbys, t.parked = t.checkpoints+number(6), t.restores+number(7), t.standbys+number(8), t.parked+number(9)
		t.virtual += virtual
		if s.progress && t.seeds%200 == 0 {
			fmt.Println(s.total)
		}
	}
	return nil
}

// process returns what each seed printed.
func (s *simulations) process(ctx context.Context, from uint64, n int) ([][]string, error) {
	ctx, cancel := context.WithTimeout(ctx, simTimeout*time.Duration(n))
	defer cancel()
	cmd := exec.CommandContext(ctx, s.program, "-test.run", simTest, "-test.v", "-test.timeout", "0",
		"-simulate.seed", strconv.FormatUint(from, 10), "-simulate.seeds", strconv.Itoa(n), "-simulate.trace="+strconv.FormatBool(s.trace))
	cmd.Dir = "dedup"
	cmd.Env = append(os.Environ(), "GOMAXPROCS=1", "MUTANT="+s.mutant)
	if s.exact {
		cmd.Env = append(cmd.Env, "GOGC=off", "GOMEMLIMIT=1536MiB") // when garbage is collected depends on the machine
	}
	out, err := cmd.CombinedOutput()
	if s.trace {
		os.Stdout.Write(out)
	}
	lines := simLine.FindAllStringSubmatch(string(out), -1)
	if err == nil && len(lines) == n {
		return lines, nil
	}
	if err == nil {
		err = fmt.Errorf("it printed %d lines", len(lines))
	}
	seed := from + uint64(len(lines))
	if ctx.Err() != nil {
		err = fmt.Errorf("it did not end within %v", simTimeout)
	}
	return nil, &simFailure{seed: seed, out: out, err: err}
}

// simFailure is a seed that failed.
type simFailure struct {
	seed uint64
	out  []byte
	err  error
}

func (f *simFailure) Error() string {
	return fmt.Sprintf("seed %d: %v\n%s\n./do simulate --seed %d --trace shows what led to it", f.seed, f.err, f.reason(), f.seed)
}

// first is the first line of that.
func (f *simFailure) first() string {
	line, _, _ := strings.Cut(f.reason(), "\n")
	if _, text, ok := strings.Cut(line, fmt.Sprintf("seed %d: ", f.seed)); ok {
		line = text
	}
	if line == "" {
		line = f.err.Error()
	}
	return line[:min(len(line), 100)]
}

// reason is what the test said, without what comes before and after it.
func (f *simFailure) reason() string {
	var lines []string
	scanner := bufio.NewScanner(bytes.NewReader(f.out))
	scanner.Buffer(nil, 1<<24)
	for scanner.Scan() && len(lines) < 40 {
		line := scanner.Text()
		if len(lines) > 0 || strings.Contains(line, fmt.Sprintf("seed %d: ", f.seed)) || strings.HasPrefix(line, "panic:") {
			lines = append(lines, line[:min(len(line), 2000)])
		}
	}
	return strings.Join(lines, "\n")
}

// runtimePatches are what makes a seed the same each time, in a process of one core: what goroutines see of the runtime's random
// numbers is the same in each process, no goroutine is interrupted because the machine is busy, and nothing depends on
// how long a mutex was waited for.
var runtimePatches = map[string][]struct{ old, new string }{
	"proc.go": {
		{"const forcePreemptNS = 10 * 1000 * 1000", "const forcePreemptNS = 1 << 60"},
		{"stealOrder.start(cheaprand())", "stealOrder.start(0)"},
	},
	"rand.go": {
		{"	globalRand.state.Init(*seed)", "	*seed = [32]byte{1}\n	globalRand.state.Init(*seed)"},
		{"	c := &mp.chacha8\n", "	c := &oneRand\n"},
		{"	mp.cheaprand = rand()\n", "	mp.cheaprand = seed[1]\n"},
		{"	mp.chacha8.Init64(seed)\n", "	if !oneRandSet {\n		oneRandSet = true\n		oneRand.Init64(seed)\n	}\n"},
		{"// bootstrapRand returns a random uint64", oneDraw + "// bootstrapRand returns a random uint64"},
	},
	"select.go": {{"j := cheaprandn(uint32(norder + 1))", "j := oneDraw() % uint32(norder+1)"}},
	"time.go":   {{"t.rand = cheaprand()", "t.rand = oneDraw()"}},
	"sema.go": {
		{"s.ticket = cheaprand() | 1", "s.ticket = oneDraw() | 1"},
		{"func internal_sync_nanotime() int64 {\n	return nanotime()", "func internal_sync_nanotime() int64 {\n	return 1"},
	},
}

// oneDraw is the runtime's cheaprand for what goroutines see. The runtime draws from that itself, as often as threads meet.
const oneDraw = `
var (
	oneRand    chacha8rand.State
	oneRandSet bool
	oneCheap   uint64
)

func oneDraw() uint32 {
	oneCheap = oneCheap*6364136223846793005 + 1442695040888963407
	return uint32(oneCheap >> 33)
}

`

// patchRuntime writes the patched files into dir, and adds them to the overlay.
func patchRuntime(ctx context.Context, dir string, overlay map[string]string) error {
	root, err := exec.CommandContext(ctx, "go", "env", "GOROOT").Output()
	if err != nil {
		return fmt.Errorf("go env GOROOT: %w", err)
	}
	for file, patches := range runtimePatches {
		path := filepath.Join(strings.TrimSpace(string(root)), "src", "runtime", file)
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, p := range patches {
			if n := bytes.Count(text, []byte(p.old)); n != 1 {
				return fmt.Errorf("%s is another than that of Go 1.26: expected this once, found it %d times:\n%s\nuse --no-exact, or Go 1.26", path, n, p.old)
			}
			text = bytes.Replace(text, []byte(p.old), []byte(p.new), 1)
		}
		patched := filepath.Join(dir, "runtime-"+file)
		if err := os.WriteFile(patched, text, 0o644); err != nil {
			return err
		}
		overlay[path] = patched
	}
	return nil
}

// buildSimulation compiles the tests of package dedup for the simulation, with the files of an overlay.
func buildSimulation(ctx context.Context, dir, program string, exact bool, overlay map[string]string) error {
	files := map[string]string{}
	for path, replaced := range overlay {
		files[path] = replaced
	}
	if exact {
		if err := patchRuntime(ctx, dir, files); err != nil {
			return err
		}
		fmt.Println("compiling; the first time it takes minutes, as all of Go's library is compiled anew")
	}
	text, err := json.Marshal(map[string]any{"Replace": files})
	if err != nil {
		return err
	}
	overlayFile := filepath.Join(dir, "simulate.json")
	if err := os.WriteFile(overlayFile, text, 0o644); err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "go", "test", "-c", "-vet=off", "-tags", "simulate", "-ldflags=-checklinkname=0", "-overlay", overlayFile, "-o", program, "./dedup")
	if exact {
		// A call of C is a system call to the scheduler, and Pebble's memory is C's if it can.
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		return errors.Join(fmt.Errorf("compile the simulation: %w", err), errors.New(string(out)))
	}
	return nil
}
