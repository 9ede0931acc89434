package dedup

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"hash/fnv"
	"io"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/cryptotest"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"cassdelta/internal/rawtopic"
	"cassdelta/state"
	"cassdelta/state/checkpoint"
)

var (
	simulateSeed  = flag.Uint64("simulate.seed", 1, "the first seed of TestSimulation")
	simulateSeeds = flag.Int("simulate.seeds", 10, "how many seeds TestSimulation runs")
	simulateTrace = flag.Bool("simulate.trace", false, "print what happens in TestSimulation")
)

// simulated is set where the runtime lets time go on in spite of mutexes, see simruntime_test.go.
var simulated bool

// TestSimulation runs whole workers against brokers in the same process, in time that is not real, while everything happens to
// them that can: all of it follows from the seed.
func TestSimulation(t *testing.T) {
	if !simulated {
		t.Skip("it takes another runtime: ./do simulate")
	}
	for range 100 {
		runtime.Gosched() // what the runtime started has its turn, and is no part of what follows
	}
	for i := range *simulateSeeds {
		seed := *simulateSeed + uint64(i)
		started := time.Now()
		result := simulate(t, seed)
		took := time.Since(started)
		if len(result.faults) > 0 && !result.void {
			t.Fatalf("seed %d: %s\n./do simulate --seed %d --trace shows what led to it", seed, strings.Join(result.faults, "\n"), seed)
		}
		text := ""
		if result.void {
			text = ", VOID: " + strings.Join(result.faults, "; ")
		}
		t.Logf("seed %d: %s in %v%s", seed, result, took.Round(time.Millisecond), text)
	}
}

// forever is a channel that nothing is sent to.
var forever = make(chan struct{})

// simResult is what a seed came to.
type simResult struct {
	faults                          []string
	void                            bool // it says nothing of the workers: see rebalancing
	records, events, letters, kills int
	checkpoints, restores, standbys int
	parked                          int
	virtual                         time.Duration
	digest                          uint64
	trace                           []byte
}

func (r *simResult) String() string {
	return fmt.Sprintf("%d records, %d events, %d dead letters, %d kills, %d checkpoints, %d restores, %d standby copies, %d parked events, %v, %016x",
		r.records, r.events, r.letters, r.kills, r.checkpoints, r.restores, r.standbys, r.parked, r.virtual.Round(time.Second), r.digest)
}

// simulation is one seed.
type simulation struct {
	t       *testing.T
	r       *rand.Rand // of the schedule
	ctx     context.Context
	net     *kfake.VirtualNetwork
	cluster *kfake.Cluster
	opts    []kgo.Opt
	client  *kgo.Client // of the simulation itself: nothing happens to it
	log     *zap.Logger
	input   *simInput
	hosts   []*simHost
	topic   RawTopic
	started time.Time
	runs    []*simRun
	copies  sync.WaitGroup // of connections
	healed  chan struct{}  // closed at the end of all faults
	faults  []*kfake.FaultHandle
	kills   atomic.Int32
	void    bool          // what is wrong is of the embedded brokers
	refused bool          // the brokers have refused the records of a topic
	store   *simObjects   // nil if there are no checkpoints
	raw     []*kgo.Record // all that was written to the raw topic, of which records are deleted
	// checkpoints, restores and standbys are how many there were, of the last those that were ready to be put in their place.
	checkpoints, restores, standbys atomic.Int32
	parking                         *simParking // nil if no tables are parked
	// abandoned is set if a process ended itself, which leaves goroutines behind.
	abandoned atomic.Bool

	partitions    int32
	latency, late time.Duration
	maxEvents     int
	sessions      int
	nevers        bool
	encoding      atomic.Bool // fails

	mu     sync.Mutex
	trace  *bytes.Buffer // nil if there is none
	lines  int
	digest uint64
	wrong  []string
	acts   map[string]int
}

func simulate(t *testing.T, seed uint64) (result *simResult) {
	cryptotest.SetGlobalRandom(t, seed)
	results := make(chan *simResult, 1)
	go synctest.Test(t, func(t *testing.T) {
		s := newSimulation(t, seed)
		result := &simResult{faults: []string{"the test was ended"}}
		defer func() {
			results <- result
			if s.abandoned.Load() {
				<-forever // what is left of a process that ended itself waits for what never comes
			}
		}()
		result = s.all()
	})
	result = <-results
	if *simulateTrace {
		os.Stdout.Write(result.trace)
	}
	return result
}

func newSimulation(t *testing.T, seed uint64) *simulation {
	r := rand.New(rand.NewPCG(seed, 0))
	s := &simulation{
		t: t, r: r, ctx: context.Background(), net: &kfake.VirtualNetwork{}, started: time.Now(), healed: make(chan struct{}), acts: map[string]int{},
		partitions: 1 + r.Int32N(4),
		latency:    []time.Duration{0, time.Millisecond, 20 * time.Millisecond}[r.IntN(3)],
		late:       []time.Duration{0, 100 * time.Millisecond, 30 * time.Second}[r.IntN(3)],
		maxEvents:  []int{7, 40, 10_000}[r.IntN(3)],
		sessions:   1 + r.IntN(2)*r.IntN(2),
		nevers:     r.IntN(6) == 0,
	}
	if r.IntN(2) == 0 {
		var err error
		if s.store, err = newSimObjects(r); err != nil {
			t.Fatal(err)
		}
	}
	s.input = newSimInput(t, r, s.partitions)
	s.input.wide = s.store != nil
	if r.IntN(4) == 0 {
		s.parking = newSimParking(s.input.world)
	}
	s.log = zap.NewNop()
	if *simulateTrace {
		s.trace = &bytes.Buffer{} // to write it at once would be something else that happens
		s.log = zap.New(zapcore.NewCore(zapcore.NewConsoleEncoder(zapcore.EncoderConfig{MessageKey: "m", LevelKey: "l", NameKey: "n", EncodeLevel: zapcore.LowercaseLevelEncoder, ConsoleSeparator: " "}),
			zapcore.AddSync(simLines{s}), zap.DebugLevel))
	}
	return s
}

// simLines puts the log of workers into the trace.
type simLines struct{ s *simulation }

func (l simLines) Write(p []byte) (int, error) {
	l.s.mu.Lock()
	defer l.s.mu.Unlock()
	fmt.Fprintf(l.s.trace, "%12v     %s", time.Since(l.s.started), p)
	return len(p), nil
}

// note adds to the trace.
func (s *simulation) note(format string, args ...any) {
	line := fmt.Sprintf("%12v ", time.Since(s.started)) + fmt.Sprintf(format, args...) + "\n"
	s.mu.Lock()
	defer s.mu.Unlock()
	h := fnv.New64a()
	fmt.Fprintf(h, "%x", s.digest)
	io.WriteString(h, line)
	s.digest = h.Sum64()
	s.lines++
	if s.trace != nil {
		s.trace.WriteString(line)
	}
}

// fail notes that something is wrong.
func (s *simulation) fail(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	s.note("WRONG: %s", text)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.wrong = append(s.wrong, text)
}

func (s *simulation) failed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.wrong) > 0
}

func (s *simulation) count(at stage, act simAct) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.acts[fmt.Sprintf("%s: %d", at, act)]++
}

// never says which events can be written in no way.
func (s *simulation) never(partition int32, offset, index int64) bool {
	return s.nevers && (uint64(partition)*31+uint64(offset)*17+uint64(index)*7)%23 == 0
}

func (s *simulation) all() *simResult {
	result := &simResult{}
	defer func() {
		if s.client != nil {
			s.client.Close()
		}
		s.cluster.Close()
		if !s.abandoned.Load() {
			s.copies.Wait()
		}
	}()
	if err := s.begin(); err != nil {
		s.fail("%v", err)
	} else {
		s.work(result)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	result.faults, result.digest, result.void = s.wrong, s.digest, s.void
	if s.trace != nil {
		result.trace = s.trace.Bytes()
	}
	return result
}

func (s *simulation) work(result *simResult) {
	s.write(s.input.first())
	rounds := 3 + s.r.IntN(8)
	if s.store != nil || s.parking != nil {
		rounds += 3
	}
	for range rounds {
		if s.failed() {
			break
		}
		s.round()
	}
	s.heal()
	s.write(s.input.rest())
	s.settle()
	if h := s.stop(); h != nil && !s.failed() {
		h.start()
		s.opened(h)
		s.stop()
	}
	result.kills, result.virtual = int(s.kills.Load()), time.Since(s.started)
	result.checkpoints, result.restores, result.standbys = int(s.checkpoints.Load()), int(s.restores.Load()), int(s.standbys.Load())
	s.ended()
	if !s.failed() {
		s.check(result)
	}
}

// begin starts the brokers.
func (s *simulation) begin() (err error) {
	s.cluster, err = kfake.NewCluster(kfake.NumBrokers(2), kfake.Ports(9092, 9093), kfake.ListenFn(s.net.Listen), kfake.SeedTopics(cleanParts, s.cleanTopics()...))
	if err != nil {
		return err
	}
	s.cluster.Control(func(req kmsg.Request) (kmsg.Response, error, bool) {
		s.cluster.KeepControl()
		s.note("broker %d: request %d", s.cluster.CurrentNode(), req.Key())
		return nil, nil, false
	})
	s.opts = []kgo.Opt{kgo.SeedBrokers("127.0.0.1:9092", "127.0.0.1:9093"), kgo.Dialer(s.net.DialContext)}
	s.client, err = kgo.NewClient(append(slices.Clone(s.opts), kgo.RecordPartitioner(kgo.ManualPartitioner()))...)
	if err != nil {
		return err
	}
	id, err := rawtopic.EnsureTopic(s.ctx, s.client, rawName, s.partitions, 1)
	if err != nil {
		return err
	}
	s.topic = RawTopic{Name: rawName, ID: id, Partitions: s.partitions}
	if s.store != nil {
		s.store.repo = checkpoint.NewRepository(s.store, checkpoint.Scope{Group: groupName, Topic: rawName, TopicID: id, Partitions: s.partitions})
	}
	for _, name := range []string{"a", "b", "c"}[:1+s.r.IntN(3)] {
		s.hosts = append(s.hosts, newSimHost(s, name))
	}
	err = rawtopic.WriteInit(s.ctx, s.client, rawName, rawtopic.Init{Cluster: "c", TopicID: id, Partitions: s.partitions, Version: rawtopic.Version})
	s.raw = s.read(rawName)
	return err
}

func (s *simulation) write(writes []simWrite) {
	var records []*kgo.Record
	for _, w := range writes {
		records = append(records, &kgo.Record{Topic: rawName, Partition: w.partition, Value: w.value})
	}
	if err := s.client.ProduceSync(s.ctx, records...).FirstErr(); err != nil {
		s.fail("write to the raw topic: %v", err)
	}
	s.raw = append(s.raw, records...)
	s.note("wrote %d records", len(records))
}

// round lets some things happen.
func (s *simulation) round() {
	s.write(s.input.round())
	for _, h := range s.hosts {
		if !h.alive() {
			s.maybeStart(h)
		} else {
			s.trouble(h)
		}
	}
	for range s.r.IntN(3) {
		f := brokerFaults[s.r.IntN(len(brokerFaults))]
		f.Count = 1 + s.r.IntN(3)
		if s.parking != nil && f.Topic == cleanName {
			f.Topic = s.parking.topic(s.parking.tables[s.r.IntN(len(s.parking.tables))])
		} else if staysRefused(f.Err) {
			// A few in a row park tables, whose events are then elsewhere.
			if f.Count = 1; s.refused {
				continue
			}
			s.refused = true
		}
		s.note("fault: %s, %d times", faultName(f), f.Count)
		s.faults = append(s.faults, s.cluster.Fault(f))
	}
	switch s.r.IntN(8) {
	case 0:
		s.note("leaders move")
		s.cluster.ShufflePartitionLeaders()
	case 1:
		s.note("coordinators move")
		s.cluster.RehashCoordinators()
	case 2:
		s.note("the registry is down")
		s.encoding.Store(true)
		time.AfterFunc(time.Duration(s.r.IntN(25))*time.Second, func() { s.encoding.Store(false) })
	}
	if s.store != nil {
		s.storage()
	}
	if s.parking != nil {
		s.park()
	}
	time.Sleep(time.Duration(s.r.Int64N(int64([]time.Duration{300 * time.Millisecond, 5 * time.Second, 40 * time.Second}[s.r.IntN(3)]))))
}

// storage lets things happen that are for checkpoints: what they need not, goes.
func (s *simulation) storage() {
	if s.store.deletes && s.r.IntN(2) == 0 {
		s.deleteRaw()
	}
	if s.r.IntN(20) == 0 {
		s.night()
	}
}

// night lets no worker work for so long that what checkpoints do not need is removed after it.
func (s *simulation) night() {
	s.note("all workers stop for hours")
	for _, h := range s.hosts {
		if !h.alive() {
			continue
		}
		if s.r.IntN(2) == 0 {
			h.run.kill(s.r.IntN(101))
		} else {
			h.run.stop()
		}
	}
	for _, r := range s.runs {
		<-r.over
	}
	time.Sleep(4 * time.Hour)
}

func (s *simulation) maybeStart(h *simHost) {
	if h.run != nil {
		select {
		case <-h.run.over:
		default:
			return // it is dead and does not know
		}
	}
	if s.r.IntN(4) == 0 {
		return
	}
	often := 12
	if s.store != nil {
		often = 4
	}
	if s.r.IntN(often) == 0 {
		s.note("%s: its disk is replaced", h.name)
		h.disk = &simDisk{mem: vfs.NewCrashableMem(), rnd: h.rnd}
	}
	h.disk.heal()
	h.start()
	s.trouble(h)
}

// trouble lets something happen to a worker, or not.
func (s *simulation) trouble(h *simHost) {
	pause := []time.Duration{3 * time.Second, 50 * time.Second, 100 * time.Second}[s.r.IntN(3)]
	stages := simStages
	if s.store != nil {
		stages = slices.Concat(stages, storeStages)
	}
	at := stages[s.r.IntN(len(stages))]
	nth := 1 + s.r.IntN(6)
	switch s.r.IntN(14) {
	case 0, 1, 2, 3:
		h.run.arm(at, nth, simCrash, 0)
	case 4:
		h.run.arm(at, nth, simPause, pause)
	case 5:
		h.run.arm(at, nth, simStall, pause)
	case 6:
		h.run.arm(at, nth, simCutOff, pause)
	case 7:
		h.run.kill(s.r.IntN(101))
	case 8:
		s.note("%s: is told to stop", h.name)
		h.run.stop()
	case 9:
		s.note("%s: its connections are closed", h.name)
		h.run.link.cut()
	case 10, 11:
		h.disk.mu.Lock()
		h.disk.left = 1 + s.r.IntN(1+s.r.IntN(300))
		h.disk.mu.Unlock()
	case 12:
		s.note("%s: the disk is full", h.name)
		h.disk.mu.Lock()
		h.disk.full = true
		h.disk.mu.Unlock()
	case 13:
		s.note("%s: syncs fail", h.name)
		h.disk.mu.Lock()
		h.disk.failSyncs = 1 + s.r.IntN(2)
		h.disk.mu.Unlock()
	}
}

func (s *simulation) cutOff(l *simLink, d time.Duration) {
	end := l.freeze()
	time.AfterFunc(d, end)
}

// heal ends all faults.
func (s *simulation) heal() {
	s.note("all faults end")
	close(s.healed)
	for _, f := range s.faults {
		f.Remove()
	}
	s.encoding.Store(false)
	if s.parking != nil {
		s.parking.heal()
	}
	for _, h := range s.hosts {
		h.disk.heal()
		if h.run != nil {
			h.run.mu.Lock()
			h.run.act = 0
			h.run.mu.Unlock()
			h.run.link.freeze()()
		}
	}
}

// settle waits until all is folded.
func (s *simulation) settle() {
	for second := range 1200 {
		if s.failed() || s.unfolded() == "" {
			return
		}
		if s.parking != nil && second%10 == 0 {
			s.release()
		}
		for _, h := range s.hosts {
			if !h.alive() && (h.run == nil || isClosed(h.run.over)) {
				h.disk.heal()
				h.start()
			}
		}
		time.Sleep(time.Second)
	}
	s.void = !s.failed() && s.rebalancing()
	s.fail("20 minutes after the last fault not all is folded: %s", s.unfolded())
}

// stop tells all workers to stop, waits until they have, and returns one that could not store its state, for an earlier fault of its disk.
func (s *simulation) stop() (unstored *simHost) {
	for _, h := range s.hosts {
		if h.alive() {
			h.run.stop()
		}
	}
	for _, r := range s.runs {
		<-r.over
		if r.err != nil && r == r.host.run {
			unstored = r.host
		}
	}
	return unstored
}

// opened waits until the one worker that runs has the state of all partitions, where the group is.
func (s *simulation) opened(h *simHost) {
	for range 1200 {
		if s.failed() || h.run.worker.Ready() == nil && h.run.worker.metrics.stores.count() == int(s.partitions) {
			return
		}
		time.Sleep(time.Second)
	}
	s.fail("20 minutes after its start %s has not opened all partitions", h.name)
}

// rebalancing reports whether the group is amid a rebalance. Brokers end one after the rebalance timeout, whatever the
// members do; kfake, of v0.0.0-20260918, now and then does not, and lets everybody wait for ever who joins.
func (s *simulation) rebalancing() bool {
	groups, err := kadm.NewClient(s.client).DescribeGroups(s.ctx, groupName)
	return err == nil && strings.HasSuffix(groups[groupName].State, "Rebalance")
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// unfolded says what is left to be folded.
func (s *simulation) unfolded() string {
	ends, err := kadm.NewClient(s.client).ListEndOffsets(s.ctx, rawName)
	if err != nil {
		return err.Error()
	}
	var all []int32
	for p := range s.partitions {
		all = append(all, p)
	}
	group, err := tryFetchCommitted(s.ctx, s.client, groupName, s.topic, all)
	if err != nil {
		return err.Error()
	}
	for p := range s.partitions {
		end, _ := ends.Lookup(rawName, p)
		if c := group[p]; c.Position != (state.Position{Offset: end.Offset}) {
			return fmt.Sprintf("partition %d: the group is at %v, the log ends at %d", p, c, end.Offset)
		} else if c.parked != "" {
			return fmt.Sprintf("partition %d: parked is %s", p, c.parked)
		}
	}
	return ""
}
