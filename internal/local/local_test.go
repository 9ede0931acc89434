package local_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/zap/zaptest"

	"cassdelta/internal/local"
	"cassdelta/internal/recording"
	"cassdelta/internal/sink"
	"cassdelta/schema"
	"cassdelta/testdata/recordings"
)

// demo is the configuration of a run on the recording named demo, with temporary files in a folder of the test.
func demo(t *testing.T) (c local.Config, temporary string) {
	t.Helper()
	r, err := recording.Open(recordings.Demo())
	if err != nil {
		t.Fatal(err)
	}
	text, err := r.Schema()
	if err != nil {
		t.Fatal(err)
	}
	tables, err := schema.ParseCQL("schema.cql", text)
	if err != nil {
		t.Fatal(err)
	}
	c = local.Config{
		Copy: true, UntilEnd: true, Cluster: r.Name, Prefix: "test", Source: local.FixedSource{Catalog: tables.Catalog()}, Static: true,
		Print: func(*sink.Change) error { return nil }, Log: zaptest.NewLogger(t),
	}
	for i, n := range r.Nodes {
		node := local.Node{Host: schema.UUID{15: byte(i + 1)}, Directory: filepath.Join(t.TempDir(), n.Name)}
		if err := r.Unpack(n.Name, recording.FinalMoment, node.Directory); err != nil {
			t.Fatal(err)
		}
		c.Nodes = append(c.Nodes, node)
	}
	temporary = t.TempDir()
	t.Setenv("TMPDIR", temporary)
	return c, temporary
}

func checkRemoved(t *testing.T, temporary string) {
	t.Helper()
	left, err := os.ReadDir(temporary)
	if err != nil || len(left) > 0 {
		t.Errorf("left behind are %v, %v", left, err)
	}
}

func TestRun(t *testing.T) {
	c, temporary := demo(t)
	printed := map[string]int64{}
	c.Print = func(e *sink.Change) error {
		printed[e.Op]++
		return nil
	}
	s, err := local.Run(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	if s.Unfolded() != 0 || s.Stopped || s.Refused+s.Unsupported+s.Undecoded != 0 || s.Folded["changed"] == 0 || s.Folded["copy"] == 0 {
		t.Errorf("%+v", s)
	}
	events := int64(0)
	for op, n := range s.Events {
		events += n
		if n != printed[op] {
			t.Errorf("%d events of the kind %s, printed are %d", n, op, printed[op])
		}
	}
	if events != s.Changes || events == 0 {
		t.Errorf("%d events of %d changes", events, s.Changes)
	}
	for i, n := range s.Nodes {
		if n == 0 {
			t.Errorf("nothing from node %d", i)
		}
	}
	checkRemoved(t, temporary)
}

// TestFailureStopsAll holds that the failure of one part ends the others, and is the error.
func TestFailureStopsAll(t *testing.T) {
	full := errors.New("no space left on device")
	for _, c := range []struct {
		name string
		edit func(*local.Config)
		want string
	}{
		{"printing", func(c *local.Config) { c.Print = func(*sink.Change) error { return full } }, full.Error()},
		{"an agent", func(c *local.Config) { c.Nodes[2].Directory += "x" }, "node3x does not exist"},
		{"an agent's settings", func(c *local.Config) { c.Nodes[2].Host = schema.UUID{} }, "host id is unknown"},
		{"dedup", func(c *local.Config) { c.Prefix = "a b" }, "prefix"},
	} {
		for _, untilEnd := range []bool{true, false} {
			t.Run(c.name, func(t *testing.T) {
				cfg, temporary := demo(t)
				cfg.UntilEnd = untilEnd
				c.edit(&cfg)
				if _, err := local.Run(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), c.want) {
					t.Errorf("error %v, expected %q", err, c.want)
				}
				checkRemoved(t, temporary)
			})
		}
	}
}

// TestStopBeforeTheStart holds that a run that is stopped at once ends, without an error.
func TestStopBeforeTheStart(t *testing.T) {
	c, temporary := demo(t)
	c.UntilEnd = false
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	s, err := local.Run(ctx, c)
	if err != nil || !s.Stopped {
		t.Errorf("%+v, %v", s, err)
	}
	checkRemoved(t, temporary)
}
