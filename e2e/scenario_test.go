package e2e

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	gocql "github.com/apache/cassandra-gocql-driver/v2"
	"github.com/twmb/franz-go/pkg/kgo"
)

// scenario is a run: a version of Cassandra, and the numbers of operations in each phase.
type scenario struct {
	version string
	// ordered is the phase at ALL, with all nodes up.
	ordered int
	// up is at ONE and QUORUM with all nodes up; down while one is down and the others keep hints for it; unhinted
	// while it is still down and one of the others keeps none, so that a repair has something to do; back while the
	// node is up again and gets its hints.
	up, down, unhinted, back int
}

func TestCassandra50(t *testing.T) {
	run(t, scenario{version: "5.0", ordered: 7500, up: 3000, down: 7000, unhinted: 1000, back: 2500})
}

func TestCassandra41(t *testing.T) {
	run(t, scenario{version: "4.1", ordered: 1000, up: 400, down: 800, unhinted: 200, back: 400})
}

func TestCassandra40(t *testing.T) {
	run(t, scenario{version: "4.0", ordered: 1000, up: 400, down: 800, unhinted: 200, back: 400})
}

// stoppedNode is the node that is down for a while. The agents that are killed are those of the other two.
const stoppedNode = 2

// run runs a scenario and checks everything.
func run(t *testing.T, s scenario) {
	// Much of a scenario is waiting for servers: two fit beside each other.
	t.Parallel()
	if testing.Short() {
		t.Fatal("this test starts real servers and cannot be short: leave it out with -skip '^TestCassandra'")
	}
	seed := seedOf(t)
	t.Logf("seed %d: repeat with CASSDELTA_E2E_SEED=%[1]d", seed)
	clock := &stopwatch{t: t, last: time.Now()}
	c := startServers(t, s.version)
	clock.lap("servers are ready")

	// What is published is followed from the start: the kills wait for it, and in the end what the followers saw is
	// compared with what is there.
	raw := c.follow(rawTopicPattern, kgo.ReadUncommitted())
	clean := c.follow(cleanTopicPattern, kgo.ReadCommitted())
	c.startPrograms()
	c.writeFleeting()

	g := newGenerator(seed, time.Now().UnixMicro())
	w := &writer{}
	var phases []*phase
	write := func(p *phase, gates ...gate) {
		t.Helper()
		phases = append(phases, p)
		w.sessions = c.connected()
		if err := w.run(c.ctx, p, gates...); err != nil {
			t.Fatal(c.cause(err))
		}
		clock.lap(fmt.Sprintf("phase %s: %d operations", p.name, len(p.operations)))
	}

	// dedup is killed once it has committed some events, and an agent once a part of the records is published, while
	// the workload is in its middle: it does not go on before they were.
	ordered := g.ordered("ordered", s.ordered)
	write(ordered,
		c.killWhen(c.dedup, clean, s.ordered/15).before(s.ordered/2),
		c.killWhen(c.agents[0], raw, s.ordered).before(s.ordered*4/5))

	g.nextPartitions(60)
	write(g.free("up", s.up))
	c.stopNode(stoppedNode)
	clock.lap("a node is stopped")
	write(g.free("down", s.down),
		c.killWhen(c.agents[1], raw, s.down/3).before(s.down/2),
		c.killWhen(c.dedup, clean, s.down/6).before(s.down*4/5))
	c.setHints(1, "disablehandoff")
	write(g.free("unhinted", s.unhinted))
	c.setHints(1, "enablehandoff")
	c.startNode(stoppedNode)
	clock.lap("the node is back")
	write(g.free("back", s.back))
	c.converge()
	clock.lap("the replicas are equal")
	rows, tokens, err := c.selectAll()
	if err != nil {
		t.Fatal(c.cause(err))
	}
	c.await("the row with a TTL has expired", func() error { return c.checkExpiry(clean) })
	clock.lap("the row with a TTL has expired")
	c.drain()
	clock.lap("the nodes are drained")

	c.await("the agents have nothing left", func() error { return c.unread(true) })
	c.await("dedup has caught up", c.caughtUp)
	clock.lap("the product is done")
	c.stopPrograms()
	clock.lap("the product is stopped")

	v := &verification{cluster: c, scenario: s, phases: phases, selected: rows, tokens: tokens}
	v.read(raw, clean)
	v.run()
	clock.lap("everything is checked")
	t.Logf("%d operations, %d of them repeated after an error; %s", w.done.Load(), w.retries.Load(), v.summary())
}

// seedOf is the seed of the environment, or a new one.
func seedOf(t *testing.T) uint64 {
	t.Helper()
	text := os.Getenv("CASSDELTA_E2E_SEED")
	if text == "" {
		return uint64(time.Now().UnixNano())
	}
	seed, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("CASSDELTA_E2E_SEED: %v", err)
	}
	return seed
}

// stopwatch logs how long each step takes.
type stopwatch struct {
	t    *testing.T
	last time.Time
}

func (s *stopwatch) lap(what string) {
	now := time.Now()
	s.t.Logf("%6.1f s  %s", now.Sub(s.last).Seconds(), what)
	s.last = now
}

var (
	rawTopicPattern   = "^" + strings.ReplaceAll(rawTopic, ".", `\.`) + "$"
	cleanTopicPattern = "^" + strings.ReplaceAll(cleanPrefix, ".", `\.`) + `\..*`
)

// follow starts a follower that ends with the test.
func (c *cluster) follow(topics string, isolation kgo.IsolationLevel) *follower {
	c.t.Helper()
	f, err := follow(c.kafka.Brokers, topics, isolation)
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(f.close)
	return f
}

// await waits for a condition for some minutes; the end of a process of the product ends the wait.
func (c *cluster) await(what string, condition func() error) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.ctx, 3*time.Minute)
	defer cancel()
	if err := poll(ctx, what, condition); err != nil {
		c.t.Fatal(err)
	}
}

// cause replaces an error that comes of the end of a process by what it left in its log.
func (c *cluster) cause(err error) error {
	if cause := context.Cause(c.ctx); cause != nil {
		return cause
	}
	return err
}

// writeFleeting writes the one row that expires.
func (c *cluster) writeFleeting() {
	c.t.Helper()
	statement := fmt.Sprintf("INSERT INTO %s (id, v) VALUES (1, 'of some seconds')", fleeting.fullName())
	if err := c.sessions[0].Query(statement).Consistency(gocql.All).ExecContext(c.ctx); err != nil {
		c.t.Fatalf("%s: %v", statement, err)
	}
}

// checkExpiry is an error unless the row that expires has its two events: that of its writing, which is there however late the
// agents are since time waits for them, and that of its expiry, at a second and for the reason that it is.
func (c *cluster) checkExpiry(clean *follower) error {
	reader, err := newCleanReader(c.registry.URL)
	if err != nil {
		return err
	}
	var events []*event
	for _, r := range clean.sorted() {
		if r.Topic != cleanTopic(fleeting) {
			continue
		}
		e, err := reader.event(c.ctx, r)
		if err != nil {
			return fmt.Errorf("%s: %w", place(r), err)
		}
		events = append(events, e)
	}
	if len(events) != 2 {
		return fmt.Errorf("the row has the events %v, expected that of its writing and that of its expiry", events)
	}
	written, expired := events[0], events[1]
	row := image{"v": `"of some seconds"`}
	at := (written.timestamp/1e6 + int64(fleetingTTL.Seconds())) * 1e6
	if written.op != "c" || !written.after.equal(row) || expired.op != "d" || expired.reason != "ttl" || !expired.before.equal(row) || expired.timestamp < at || expired.timestamp > at+60e6 {
		return fmt.Errorf("the row has the events %v with the reason %q, and %v with the reason %q, expected that of its writing and that of its expiry", written, written.reason, expired, expired.reason)
	}
	return nil
}

// setHints turns the hints that a node keeps for others off and on.
func (c *cluster) setHints(node int, command string) {
	c.t.Helper()
	if _, err := c.cassandra.Nodes[node].Nodetool(c.ctx, command); err != nil {
		c.t.Fatal(err)
	}
}

// kill is a SIGKILL that is done when a condition holds.
type kill struct{ done <-chan struct{} }

// killWhen kills a process once a follower has read n more records than now, and starts it again at once.
func (c *cluster) killWhen(p *program, f *follower, n int) kill {
	c.t.Helper()
	start, err := f.count()
	if err != nil {
		c.t.Fatal(err)
	}
	done := make(chan struct{})
	finished := make(chan struct{})
	c.t.Cleanup(func() { <-finished })
	go func() {
		defer close(finished)
		seen := 0
		err := poll(c.ctx, fmt.Sprintf("%s is to be killed, after %d records", p.name, n), func() error {
			count, err := f.count()
			if seen = count - start; err == nil && seen < n {
				err = fmt.Errorf("%d records were read", seen)
			}
			return err
		})
		if err == nil {
			err = p.kill()
		}
		if err == nil {
			err = p.start()
		}
		if err != nil {
			if c.t.Context().Err() == nil {
				c.t.Errorf("%v", c.cause(err))
			}
			return
		}
		c.t.Logf("%s was killed and started again after %d records", p.name, seen)
		close(done)
	}()
	return kill{done}
}

// before holds an operation of a phase back until the kill is done.
func (k kill) before(operation int) gate { return gate{operation, k.done} }

// kills counts the kills of each host's agent.
func (c *cluster) kills() map[string]int {
	counts := map[string]int{}
	for i, a := range c.agents {
		counts[c.rawHosts()[i]] = a.kills
	}
	return counts
}

// rawHosts are the host ids as raw records have them.
func (c *cluster) rawHosts() []string {
	list := slices.Clone(c.hosts)
	for i, id := range list {
		list[i] = strings.ReplaceAll(id, "-", "")
	}
	return list
}
