package e2e

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.yaml.in/yaml/v3"

	"cassdelta/internal/testparts"
)

var (
	roundsNumber  = flag.Int("rounds", 0, "rounds of TestRounds; 0: the few of a short run")
	roundsSeed    = flag.Uint64("rounds-seed", 0, "what TestRounds draws its actions and writes from; 0: another one each time")
	roundsBrokers = flag.Int("rounds-brokers", 1, "brokers of TestRounds: with 3, one is killed now and then")
	roundsStore   = flag.String("rounds-checkpoints", "", "where the workers of TestRounds have checkpoints: directory, or s3, a server that is built the first time; empty: they have none")
	roundsStandby = flag.Bool("rounds-standby", false, "the workers of TestRounds keep copies of the newest checkpoints of all partitions")
	roundsActions = flag.String("rounds-actions", "", "the actions of TestRounds, by commas; empty: all, in a random order")
)

// rounds are dedup workers on real brokers to which something is done in each round, while raw records come. At the end of
// each round all events that there are must be those that the raw records make.
type rounds struct {
	t *testing.T
	// ctx ends with the test, and when a worker ends by itself.
	ctx      context.Context
	r        *rand.Rand
	dir      string
	kafka    *testparts.Kafka
	admin    *kadm.Client
	load     *rawLoad
	check    *roundsCheck
	arrivals *arrivals
	// checkpoints is what the configuration of a worker says of them; nil: nothing.
	checkpoints map[string]any
	workers     []*worker
	events      int // of former rounds
}

// worker is a dedup process with a state directory.
type worker struct {
	*program
	state string
}

const roundsWorkers = 3

// TestRounds does something to the workers in each round; see actions. Its line says what the round came to.
func TestRounds(t *testing.T) {
	seed := *roundsSeed
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	r := startRounds(t, seed)
	list := []string{"out", "kill"}
	switch {
	case *roundsActions != "":
		list = strings.Split(*roundsActions, ",")
	case *roundsNumber > 0:
		list = r.draw(*roundsNumber)
	}
	t.Logf("seed %d, %d rounds, %d brokers, %d raw partitions, checkpoints: %s, standby: %v", seed, len(list), *roundsBrokers, rawPartitions, cmp.Or(*roundsStore, "none"), *roundsStandby)
	for i, name := range list {
		line, err := r.round(name)
		if err != nil {
			t.Fatalf("seed %d, round %d, %s: %v", seed, i+1, name, r.cause(err))
		}
		t.Logf("round %2d  %s", i+1, line)
	}
	r.stopAll()
}

// draw draws actions: each before any comes again.
func (r *rounds) draw(n int) []string {
	var list []string
	for len(list) < n {
		for _, i := range r.r.Perm(len(actions)) {
			if actions[i].brokers <= *roundsBrokers && (!actions[i].checkpoints || *roundsStore != "") {
				list = append(list, actions[i].name)
			}
		}
	}
	return list[:n]
}

// startRounds starts the brokers and one worker.
func startRounds(t *testing.T, seed uint64) *rounds {
	t.Helper()
	if testing.Short() {
		t.Fatal("this test starts real servers and cannot be short: leave it out with -skip '^TestRounds'")
	}
	ctx, died := context.WithCancelCause(t.Context())
	t.Cleanup(func() { died(nil) })
	r := &rounds{t: t, ctx: ctx, r: rand.New(rand.NewPCG(seed, 0))}
	r.dir = makeDir(t)
	r.kafka = testparts.KafkaForTest(t, testparts.KafkaOptions{Brokers: *roundsBrokers})
	client, err := kgo.NewClient(kgo.SeedBrokers(r.kafka.Brokers...))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	r.admin = kadm.NewClient(client)
	if r.load, err = newRawLoad(ctx, r.kafka.Brokers, seed); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.load.client.Close)
	raw, clean := r.follow(rawTopicPattern, kgo.ReadUncommitted()), r.follow(cleanTopicPattern, kgo.ReadCommitted())
	if r.check, err = newRoundsCheck(raw, clean, newSchemaTopicReader(r.kafka.Brokers)); err != nil {
		t.Fatal(err)
	}
	r.arrivals = &arrivals{check: r.check}
	if err := r.startStore(); err != nil {
		t.Fatal(err)
	}
	binary, err := buildProduct(ctx, r.dir)
	if err != nil {
		t.Fatal(err)
	}
	for i := range roundsWorkers {
		r.workers = append(r.workers, r.makeWorker(binary, fmt.Sprintf("worker%d", i+1), died))
	}
	if err := r.workers[0].start(); err != nil {
		t.Fatal(err)
	}
	return r
}

func (r *rounds) follow(topics string, isolation kgo.IsolationLevel) *follower {
	r.t.Helper()
	f, err := follow(r.kafka.Brokers, topics, isolation)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(f.close)
	return f
}

func (r *rounds) makeWorker(binary, name string, died func(error)) *worker {
	r.t.Helper()
	state := filepath.Join(r.dir, name)
	config := map[string]any{
		"kafka":             map[string]any{"brokers": r.kafka.Brokers},
		"raw-topic":         rawTopic,
		"group":             group,
		"topic-prefix":      cleanPrefix,
		"dead-letter-topic": deadLetters,
		"state-directory":   state,
	}
	if r.checkpoints != nil {
		config["checkpoint"] = r.checkpoints
	}
	if *roundsStandby {
		config["standby"] = true
	}
	text, err := yaml.Marshal(config)
	if err != nil {
		r.t.Fatal(err)
	}
	file := filepath.Join(r.dir, name+".yaml")
	if err := os.WriteFile(file, text, 0o644); err != nil {
		r.t.Fatal(err)
	}
	w := &worker{newProgram(name, r.dir, died, binary, "dedup", "--config", file), state}
	r.t.Cleanup(w.close)
	return w
}

// cause replaces an error that comes of the end of a worker by what it left in its log.
func (r *rounds) cause(err error) error {
	if cause := context.Cause(r.ctx); cause != nil {
		return cause
	}
	return err
}

// round does something while raw records come, waits until all is folded, and checks all events.
func (r *rounds) round(name string) (line string, err error) {
	act, err := actionByName(name)
	if err != nil {
		return "", err
	}
	loadCtx, stopLoad := context.WithCancel(r.ctx)
	written := make(chan error, 1)
	go func() { written <- r.load.run(loadCtx) }()
	begun, acted, struck, ends, err := r.strike(act)
	stopLoad()
	if err := errors.Join(err, <-written); err != nil {
		return "", err
	}
	stopped := time.Now()
	if err := r.quiesce(); err != nil {
		return "", err
	}
	quiet := time.Now()
	if err := r.check.read(r.ctx); err != nil {
		return "", err
	}
	v := r.check.validate()
	gap, partition := r.arrivals.longestGap(begun, stopped)
	first, all := r.arrivals.after(struck, ends)
	line = fmt.Sprintf("%-10s %-32s %6d events, %d lost, %d doubled, %d broken; longest gap %.2f s (raw partition %d), "+
		"next event after %.2f s, of all partitions after %.2f s; quiet after %.1f s",
		name, acted, v.events-r.events, v.lost, v.doubled, v.broken, gap.Seconds(), partition, first.Seconds(), all.Seconds(), quiet.Sub(stopped).Seconds())
	r.events = v.events
	if len(v.failures) > 0 {
		return "", errors.New(line + "\n" + r.report(v.failures))
	}
	return line, nil
}

// strike waits until events flow, does what the round is about at a random moment, and waits until they flow again.
func (r *rounds) strike(act action) (begun time.Time, acted string, struck time.Time, ends map[int32]int64, err error) {
	if err := r.flows(); err != nil {
		return begun, "", struck, nil, err
	}
	begun = time.Now()
	moment := time.NewTimer(time.Duration(r.r.IntN(1000)) * time.Millisecond)
	defer moment.Stop()
	select {
	case <-moment.C:
	case <-r.ctx.Done():
	}
	if ends, err = r.rawEnds(); err != nil {
		return begun, "", struck, nil, err
	}
	struck = time.Now()
	if acted, err = act.do(r); err != nil {
		return begun, "", struck, nil, err
	}
	return begun, acted, struck, ends, r.flows()
}

// flows waits until each raw partition has events of records that are written from now on.
func (r *rounds) flows() error {
	ends, err := r.rawEnds()
	if err != nil {
		return err
	}
	return r.await("events of all partitions come", func() error { return r.arrivals.all(ends) })
}

// rawEnds are the ends of the raw partitions.
func (r *rounds) rawEnds() (map[int32]int64, error) {
	ends := map[int32]int64{}
	err := r.await("the ends of the raw topic are known", func() error {
		listed, err := r.admin.ListEndOffsets(r.ctx, rawTopic)
		if err == nil {
			err = listed.Error()
		}
		listed.Each(func(o kadm.ListedOffset) { ends[o.Partition] = o.Offset })
		return err
	})
	return ends, err
}

// quiesce waits until all raw records are folded, and all events are read.
func (r *rounds) quiesce() error {
	if err := r.await("dedup has caught up", func() error { return caughtUp(r.ctx, r.admin) }); err != nil {
		return err
	}
	return r.await("all is read", func() error {
		topics, err := r.admin.ListTopics(r.ctx)
		if err != nil {
			return err
		}
		var names []string
		for _, name := range topics.Names() {
			if strings.HasPrefix(name, cleanPrefix+".") {
				names = append(names, name)
			}
		}
		stable, err := r.admin.ListCommittedOffsets(r.ctx, names...)
		if err == nil {
			err = stable.Error()
		}
		if err != nil {
			return err
		}
		high, err := r.admin.ListEndOffsets(r.ctx, append(names, rawTopic)...)
		if err == nil {
			err = high.Error()
		}
		if err != nil {
			return err
		}
		raw := kadm.ListedOffsets{rawTopic: high[rawTopic]}
		delete(high, rawTopic)
		if open := checkNoOpenTransaction(stable, high); len(open) > 0 {
			return errors.New(open[0].text)
		}
		return errors.Join(r.check.clean.reached(stable), r.check.raw.reached(raw), r.arrivals.look())
	})
}

// await waits for a condition for some minutes; the end of a worker ends the wait.
func (r *rounds) await(what string, condition func() error) error {
	ctx, cancel := context.WithTimeout(r.ctx, 3*time.Minute)
	defer cancel()
	return poll(ctx, what, condition)
}

// report is the first failures.
func (r *rounds) report(failures []failure) string {
	const shown = 12
	var b strings.Builder
	for _, f := range failures[:min(len(failures), shown)] {
		fmt.Fprintln(&b, f)
	}
	fmt.Fprintf(&b, "%d failures; the logs of the workers are in %s", len(failures), r.dir)
	return b.String()
}

// stopAll stops the workers as an operator does, and looks for dead letters.
func (r *rounds) stopAll() {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.ctx, time.Minute)
	defer cancel()
	for _, w := range r.running() {
		if err := w.stop(ctx); err != nil {
			r.t.Error(err)
		}
	}
	dead, err := r.admin.ListEndOffsets(ctx, deadLetters)
	if err == nil {
		err = dead.Error()
	}
	if err != nil {
		r.t.Errorf("the dead-letter topic: %v", err)
	} else if n := total(dead); n > 0 {
		r.t.Errorf("%d records are in the dead-letter topic", n)
	}
}
