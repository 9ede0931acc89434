package dedup

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// brokerFaults are what brokers may answer to a worker. A request that times out is carried out all the same.
var brokerFaults = []kfake.Fault{
	{Keys: []kmsg.Key{kmsg.TxnOffsetCommit}, Err: kerr.IllegalGeneration},
	{Keys: []kmsg.Key{kmsg.TxnOffsetCommit}, Err: kerr.RebalanceInProgress},
	{Keys: []kmsg.Key{kmsg.TxnOffsetCommit}, Err: kerr.UnknownServerError},
	{Keys: []kmsg.Key{kmsg.TxnOffsetCommit}, Err: kerr.CoordinatorNotAvailable},
	{Keys: []kmsg.Key{kmsg.TxnOffsetCommit}, Err: kerr.RequestTimedOut},
	{Keys: []kmsg.Key{kmsg.TxnOffsetCommit}, Err: kerr.GroupAuthorizationFailed},
	{Keys: []kmsg.Key{kmsg.EndTxn}, Err: kerr.RequestTimedOut},
	{Keys: []kmsg.Key{kmsg.EndTxn}, Err: kerr.UnknownServerError},
	{Keys: []kmsg.Key{kmsg.EndTxn}, Err: kerr.NotCoordinator},
	{Keys: []kmsg.Key{kmsg.EndTxn}, Err: kerr.ConcurrentTransactions},
	{Keys: []kmsg.Key{kmsg.EndTxn}, Err: kerr.ProducerFenced},
	{Keys: []kmsg.Key{kmsg.InitProducerID}, Err: kerr.ConcurrentTransactions},
	{Keys: []kmsg.Key{kmsg.InitProducerID}, Err: kerr.RequestTimedOut},
	{Keys: []kmsg.Key{kmsg.Produce}, Topic: cleanName, Err: kerr.NotLeaderForPartition},
	{Keys: []kmsg.Key{kmsg.Produce}, Topic: cleanName, Err: kerr.RequestTimedOut},
	{Keys: []kmsg.Key{kmsg.Produce}, Topic: cleanName, Err: kerr.MessageTooLarge},
	{Keys: []kmsg.Key{kmsg.Produce}, Topic: cleanName, Err: kerr.InvalidProducerEpoch},
	{Keys: []kmsg.Key{kmsg.Fetch}, Topic: rawName, Err: kerr.NotLeaderForPartition},
	{Keys: []kmsg.Key{kmsg.Fetch}, Topic: rawName, Err: kerr.UnknownServerError},
	{Keys: []kmsg.Key{kmsg.OffsetFetch}, Err: kerr.UnstableOffsetCommit},
	{Keys: []kmsg.Key{kmsg.OffsetFetch}, Err: kerr.CoordinatorLoadInProgress},
	{Keys: []kmsg.Key{kmsg.ListOffsets}, Topic: rawName, Err: kerr.LeaderNotAvailable},
	{Keys: []kmsg.Key{kmsg.Heartbeat}, Err: kerr.RebalanceInProgress},
	{Keys: []kmsg.Key{kmsg.Heartbeat}, Err: kerr.UnknownMemberID},
	{Keys: []kmsg.Key{kmsg.JoinGroup}, Err: kerr.CoordinatorNotAvailable},
	{Keys: []kmsg.Key{kmsg.SyncGroup}, Err: kerr.RebalanceInProgress},
}

func faultName(f kfake.Fault) string { return fmt.Sprintf("%s, %s", f.Keys[0].Name(), f.Err.Message) }

func TestFaultsOfBrokers(t *testing.T) {
	for _, f := range brokerFaults {
		t.Run(faultName(f), func(t *testing.T) {
			t.Parallel() // they mostly wait
			w := newRig(t)
			for p := range int32(rawParts) {
				w.write(p, 5, 250, 1, 0, 7)
			}
			f.Count = 2
			handle := w.cluster.Fault(f)
			r := w.start("a", vfs.NewCrashableMem())
			w.settle()
			if err := r.end(); err != nil {
				t.Fatal(err)
			}
			if f.Keys[0] != kmsg.Heartbeat && handle.Hits() == 0 {
				t.Error("the fault was not met")
			}
			handle.Remove()
			w.finished()
		})
	}
}

// TestSeededFaults mixes everything: workers that crash, and lose what they did not sync or their whole disk; that come and go;
// brokers that fail; records of many events, of none, and such that are refused.
func TestSeededFaults(t *testing.T) {
	for _, seed := range []uint64{1, uint64(time.Now().UnixNano())} {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			t.Logf("seed %d", seed)
			seededFaults(t, rand.New(rand.NewPCG(seed, 0)))
		})
	}
}

func seededFaults(t *testing.T, rnd *rand.Rand) {
	w := newRig(t)
	stages := []stage{afterBegin, afterFold, afterEnd, afterApply, duringReplay}
	names := []string{"a", "b"}
	disks := map[string]*vfs.MemFS{"a": vfs.NewCrashableMem(), "b": vfs.NewCrashableMem()}
	for round := range 12 {
		for p := range int32(rawParts) {
			for range rnd.IntN(4) {
				w.write(p, []int64{0, 1, 3, 250, -1}[rnd.IntN(5)])
			}
		}
		fault := brokerFaults[rnd.IntN(len(brokerFaults))]
		fault.Count = 1 + rnd.IntN(refusedFor-1) // with more refusals in a row a table is parked
		handle := w.cluster.Fault(fault)
		endings, workers := map[string]*ending{}, map[string]*running{}
		for _, name := range names {
			if rnd.IntN(4) == 0 { // a disk that is lost, and with it the worker's name
				disks[name] = vfs.NewCrashableMem()
				if err := nameInstance(disks[name], instanceOf(fmt.Sprint(name, round))); err != nil {
					t.Fatal(err)
				}
			}
			e := &ending{
				stage: stages[rnd.IntN(len(stages))], after: 1 + rnd.IntN(4), crash: rnd.IntN(2) == 0,
				disk: crashClone(disks[name], 50*rnd.IntN(3), rnd),
			}
			if rnd.IntN(4) > 0 {
				workers[name], endings[name] = w.startEnding(name, disks[name], e), e
			}
		}
		// Until all is done or no one is left.
		ctx, cancel := w.whileWorking(len(workers))
		if len(workers) > 0 {
			w.read(ctx)
		}
		cancel()
		for name, r := range workers {
			if err := r.end(); err != nil && !isCrash(err) {
				t.Fatalf("worker %s: %v", name, err)
			}
			if copied := endings[name].copy; copied != nil {
				disks[name] = copied
			}
		}
		handle.Remove()
	}
	r := w.start("a", disks["a"])
	w.settle()
	if err := r.end(); err != nil {
		t.Fatal(err)
	}
	w.finished()
}
