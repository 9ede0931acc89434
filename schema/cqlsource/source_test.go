package cqlsource

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
)

// silent is the address of something that takes connections and never answers.
func silent(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l.Addr().String()
}

// closed is an address where nothing listens.
const closed = "127.0.0.1:1"

func newSource(t *testing.T, cfg Config) *Source {
	t.Helper()
	s, err := New(cfg, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func TestConfigErrors(t *testing.T) {
	for want, cfg := range map[string]Config{
		"no contact points: expected the address of at least one Cassandra node": {},
		"port 70000: expected 1 to 65535":                                        {ContactPoints: []string{"a"}, Port: 70000},
		"timeout -1s: expected more than 0":                                      {ContactPoints: []string{"a"}, Timeout: -time.Second},
		"a password is given without a user name":                                {ContactPoints: []string{"a"}, Password: "secret"},
		`contact point "": expected HOST or HOST:PORT`:                           {ContactPoints: []string{""}},
		`contact point "a:b:c": expected HOST or HOST:PORT`:                      {ContactPoints: []string{"a:b:c"}},
		`contact point "a/b": expected HOST or HOST:PORT`:                        {ContactPoints: []string{"a/b"}},
		`contact point "a:0": port "0": expected 1 to 65535`:                     {ContactPoints: []string{"a:0"}},
		`contact point "a:cql": port "cql": expected 1 to 65535`:                 {ContactPoints: []string{"a:cql"}},
	} {
		if _, err := New(cfg, zap.NewNop()); err == nil || err.Error() != want {
			t.Errorf("%+v: %v, expected %s", cfg, err, want)
		}
	}
}

func TestContactPoints(t *testing.T) {
	for text, want := range map[string]string{
		"db1": "db1:9042", "db1:1": "db1:1", " 10.0.0.1 ": "10.0.0.1:9042", "10.0.0.1:65535": "10.0.0.1:65535",
		"::1": "[::1]:9042", "[::1]": "[::1]:9042", "[::1]:7": "[::1]:7",
	} {
		if p, err := parseContactPoint(text, 9042); err != nil || p.String() != want {
			t.Errorf("%q: %v, %v, expected %s", text, p, err, want)
		}
	}
}

// TestFirstContactPointFirst: the first contact point is the node whose log is read, and alone knows its truncations. So it is asked again
// as soon as it is back; of the others, the one that answered in between.
func TestFirstContactPointFirst(t *testing.T) {
	s := newSource(t, Config{ContactPoints: []string{"127.0.0.1", "127.0.0.2", "127.0.0.3"}})
	for last, want := range map[string]string{
		"":               "127.0.0.1:9042 127.0.0.2:9042 127.0.0.3:9042",
		"127.0.0.1:9042": "127.0.0.1:9042 127.0.0.2:9042 127.0.0.3:9042",
		"127.0.0.2:9042": "127.0.0.1:9042 127.0.0.2:9042 127.0.0.3:9042",
		"127.0.0.3:9042": "127.0.0.1:9042 127.0.0.3:9042 127.0.0.2:9042",
	} {
		s.last = last
		var failures []error
		var order []string
		for _, a := range s.addresses(t.Context(), &failures) {
			order = append(order, a.dial)
		}
		if got := strings.Join(order, " "); got != want || len(failures) > 0 {
			t.Errorf("%q answered last: %s is asked, %v, expected %s", last, got, failures, want)
		}
	}
}

func TestNothingAnswers(t *testing.T) {
	a, b := closed, silent(t)
	s := newSource(t, Config{ContactPoints: []string{a, b, "no.such.host.invalid"}, Username: "u", Password: "s3cret", Timeout: 300 * time.Millisecond})
	start := time.Now()
	_, err := s.Read(t.Context())
	if err == nil {
		t.Fatal("a schema was read from nothing")
	}
	if d := time.Since(start); d > time.Minute {
		t.Errorf("it took %s with a timeout of 300 ms", d)
	}
	for _, want := range []string{"read the schema: no contact point can be read, 3 tried: ", a + ": ", "connection refused", b + ": ", "no.such.host.invalid:9042: ", "; check the contact points"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error does not say %q: %v", want, err)
		}
	}
	if strings.Contains(err.Error(), "s3cret") {
		t.Errorf("the error has the password in it: %v", err)
	}
}

func TestContextEndsConnecting(t *testing.T) {
	s := newSource(t, Config{ContactPoints: []string{silent(t)}, Timeout: 2 * time.Minute})
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	start := time.Now()
	_, err := s.Info(ctx)
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v, expected that the time is over", err)
	}
	if d := time.Since(start); d > time.Minute {
		t.Errorf("it took %s, expected 100 ms", d)
	}
}

// TestSilentNodeLeavesTime: a node that takes connections and answers nothing does not use up the time of those behind it.
func TestSilentNodeLeavesTime(t *testing.T) {
	a, b := silent(t), silent(t)
	s := newSource(t, Config{ContactPoints: []string{a, closed, b}, Timeout: 2 * time.Minute})
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	_, err := s.Read(ctx)
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("%v, expected that the time is over", err)
	}
	for _, want := range []string{a + ": ", closed + ": ", b} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error does not say %q: %v", want, err)
		}
	}
}

func TestContextEndsWaiting(t *testing.T) {
	s, err := New(Config{ContactPoints: []string{silent(t)}}, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Read(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("%v, expected that it is canceled", err)
	}
}
