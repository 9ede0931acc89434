package main

import (
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"

	"cassdelta/internal/recording"
	"cassdelta/schema"
	"cassdelta/testdata/recordings"
)

// process is a run of the program within this one.
type process struct {
	t      *testing.T
	cancel context.CancelFunc
	ended  chan struct{}
	code   int
	out    buffer
	stderr *os.File
}

// start runs the program with arguments, in a context that is a signal's when stop is called.
func start(t *testing.T, args ...string) *process {
	t.Helper()
	stderr, err := os.Create(filepath.Join(t.TempDir(), "stderr"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	p := &process{t: t, cancel: cancel, ended: make(chan struct{}), stderr: stderr}
	go func() {
		defer close(p.ended)
		p.code = run(ctx, args, &p.out, stderr)
	}()
	t.Cleanup(func() {
		cancel()
		<-p.ended
		stderr.Close()
	})
	return p
}

// stop is what Ctrl-C does.
func (p *process) stop() (code int, stdout, stderr string) {
	p.cancel()
	return p.wait()
}

// wait waits for the end.
func (p *process) wait() (code int, stdout, stderr string) {
	<-p.ended
	return p.code, p.out.String(), p.errors()
}

// errors is what was written to standard error so far.
func (p *process) errors() string {
	p.t.Helper()
	text, err := os.ReadFile(p.stderr.Name())
	if err != nil {
		p.t.Fatal(err)
	}
	return string(text)
}

// program runs the program to its end.
func program(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	return start(t, args...).wait()
}

// buffer can be read while it is written.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

var _ io.Writer = (*buffer)(nil)

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func testLog(t *testing.T) *zap.Logger { return zaptest.NewLogger(t, zaptest.Level(zap.WarnLevel)) }

// openDemo opens the recording that is part of the program.
func openDemo(t *testing.T) *recording.Recording {
	t.Helper()
	r, err := recording.Open(recordings.Demo())
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// recordedSchema writes the schema of a recording to a file, edited, and gives the path.
func recordedSchema(t *testing.T, r *recording.Recording, edits ...string) string {
	t.Helper()
	text, err := r.Schema()
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(edits); i += 2 {
		if !strings.Contains(text, edits[i]) {
			t.Fatalf("the schema of %s does not have %q", r.Name, edits[i])
		}
	}
	path := filepath.Join(t.TempDir(), "schema.cql")
	if err := os.WriteFile(path, []byte(strings.NewReplacer(edits...).Replace(text)), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// tablesOf reads the tables of a CQL file.
func tablesOf(t *testing.T, path string) []*schema.Table {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := schema.ParseCQL(path, string(text))
	if err != nil {
		t.Fatal(err)
	}
	return parsed.Tables
}

func demoTables(t *testing.T) []*schema.Table { return tablesOf(t, recordedSchema(t, openDemo(t))) }

// unpack unpacks the nodes of a recording at the end, each into a directory of its own.
func unpack(t *testing.T, r *recording.Recording) (dirs []string) {
	t.Helper()
	for _, n := range r.Nodes {
		dir := filepath.Join(t.TempDir(), n.Name)
		if err := r.Unpack(n.Name, recording.FinalMoment, dir); err != nil {
			t.Fatal(err)
		}
		dirs = append(dirs, dir)
	}
	return dirs
}
