package agent

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"cassdelta/schema"
)

// workload writes random mutations to a node, over several segments.
type workload struct {
	rnd    *rand.Rand
	n      *node
	tables []*schema.Table // the last is not captured
}

func newWorkload(t *testing.T, rnd *rand.Rand) *workload {
	return &workload{rnd, newNode(t, 8192), workloadTables(t)}
}

func workloadTables(t testing.TB) []*schema.Table {
	return []*schema.Table{
		newTable(t, "shop", "a", 1), newTable(t, "shop", "b", 2), newTable(t, "shop", "plain", 3, notCaptured),
	}
}

func (w *workload) write(mutations int) {
	for range mutations {
		key := string(rune('a' + w.rnd.IntN(26)))
		var updates []update
		for _, table := range w.tables {
			if len(updates) == 0 || w.rnd.IntN(4) == 0 {
				updates = append(updates, update{table: table, key: key, ck: w.rnd.Int32(), value: strings.Repeat("v", w.rnd.IntN(200))})
			}
			w.rnd.Shuffle(len(w.tables), func(i, j int) { w.tables[i], w.tables[j] = w.tables[j], w.tables[i] })
		}
		w.n.write(updates...)
		if w.rnd.IntN(10) == 0 {
			w.n.sync()
		}
	}
	w.n.sync()
}

// faults makes the broker refuse some requests: some that were not heeded, and some that were and whose answer is lost.
func faults(k *kafka, rnd *rand.Rand) *kfake.FaultHandle {
	return k.cluster.Fault(
		kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: rawTopic, Partitions: []int32{rnd.Int32N(partitions)}, Err: kerr.NotEnoughReplicas, Count: 1 + rnd.IntN(20)},
		kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: rawTopic, Partitions: []int32{rnd.Int32N(partitions)}, Err: kerr.RequestTimedOut, Count: 1 + rnd.IntN(2)},
		kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: rawTopic, Partitions: []int32{rnd.Int32N(partitions)}, Err: kerr.NotLeaderForPartition, Count: 1},
	)
}

func TestStopsAndStarts(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 2))
	w := newWorkload(t, rnd)
	k := startKafka(t)
	r := newRig(t, w.n, k, w.tables...)
	r.bounds.flight.records = 8 // so that there are many requests
	for range 12 {
		w.write(1 + rnd.IntN(100))
		h := faults(k, rnd)
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		left := atomic.Int64{}
		left.Store(rnd.Int64N(150))
		r.config.Observe = func(n int) {
			if left.Add(-int64(n)) < 0 {
				cancel()
			}
		}
		r.bounds.stop = time.Duration(rnd.IntN(2)) * 10 * time.Second
		if err := r.agent().Run(ctx); err != nil {
			t.Fatal(err)
		}
		cancel()
		h.Remove()
	}
	w.n.finish()
	r.config.Observe = nil
	r.run()
	t.Logf("%d updates, %d repeats", len(w.n.written), r.checkAtLeastOnce(w.n.written))
	if files := r.files(); len(files) != 0 {
		t.Errorf("left in the directory: %v", files)
	}
}

// The environment of an agent in a process of its own.
const (
	childBrokers   = "CASSDELTA_TEST_BROKERS"
	childDirectory = "CASSDELTA_TEST_CDC_RAW"
	childState     = "CASSDELTA_TEST_STATE"
)

// TestMain runs an agent in place of the tests if the environment says so: one that can be killed.
func TestMain(m *testing.M) {
	if os.Getenv(childBrokers) == "" {
		os.Exit(m.Run())
	}
	if err := child(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func child() error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	a, err := New(Config{
		ClientOpts: clientOpts(os.Getenv(childBrokers)), RawTopic: rawTopic, RawPartitions: partitions,
		DeadLetterTopic: deadLetters, CDCRawDirectory: os.Getenv(childDirectory), StateDirectory: os.Getenv(childState),
		Source: &source{tables: workloadTables(&testing.B{})}, Host: host, Cluster: "test",
		Observe: func(int) { fmt.Println("published") },
	})
	if err != nil {
		return err
	}
	a.bounds.keep = 2 * time.Millisecond
	a.bounds.flight.records = 8
	return a.Run(ctx)
}

// startChild runs an agent in a process of its own. Each value of published is an acknowledged update.
func (r *rig) startChild() (c *exec.Cmd, published <-chan struct{}) {
	r.Helper()
	binary, err := os.Executable()
	if err != nil {
		r.Fatal(err)
	}
	c = exec.Command(binary)
	c.Env = append(os.Environ(), childBrokers+"="+r.kafka.cluster.ListenAddrs()[0], childDirectory+"="+r.node.dir, childState+"="+r.config.StateDirectory)
	c.Stderr = os.Stderr
	out, err := c.StdoutPipe()
	if err != nil {
		r.Fatal(err)
	}
	if err := c.Start(); err != nil {
		r.Fatal(err)
	}
	lines := make(chan struct{}, 1<<16)
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer close(lines)
		for s := bufio.NewScanner(out); s.Scan(); {
			lines <- struct{}{}
		}
	}()
	r.Cleanup(func() {
		end := syscall.SIGKILL
		if r.Failed() {
			end = syscall.SIGQUIT // it says what it was about
		}
		_ = c.Process.Signal(end)
		<-done
		c.Wait()
	})
	return c, lines
}

func TestKilled(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 3))
	w := newWorkload(t, rnd)
	k := startKafka(t)
	r := newRig(t, w.n, k, w.tables...)
	w.write(100)
	for range 8 {
		c, published := r.startChild()
		h := faults(k, rnd)
		for left := rnd.IntN(100); left > 0; left-- {
			if left%25 == 0 {
				w.write(30)
			}
			if _, ok := <-published; !ok {
				t.Fatal("the agent ended by itself")
			}
		}
		if err := c.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		c.Wait()
		h.Remove()
		w.write(30)
	}
	w.n.finish()
	c, _ := r.startChild()
	r.await("all segments are removed", func() bool { return len(r.files()) == 0 })
	if err := errors.Join(c.Process.Signal(syscall.SIGTERM), c.Wait()); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d updates, %d repeats", len(w.n.written), r.checkAtLeastOnce(w.n.written))
}
