package agent

import (
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"cassdelta/commitlog"
	"cassdelta/internal/rawtopic"
)

// beat is a heartbeat as a worker reads it.
type beat struct {
	at       time.Time // zero if the agent did not know
	appended time.Time
}

// heartbeats reads them from the start of their topic.
func (r *rig) heartbeats() (all []beat) {
	r.Helper()
	var decoder rawtopic.Decoder
	for _, kr := range r.kafka.records(rawtopic.HeartbeatTopic(rawTopic))[0] {
		var rec rawtopic.Record
		if err := decoder.Decode(kr.Value, &rec); err != nil {
			r.Fatal(err)
		}
		if rec.Kind != rawtopic.KindHeartbeat || rec.Heartbeat.Host != host || string(kr.Key) != host.String() {
			r.Fatalf("found %+v with the key %q", rec, kr.Key)
		}
		b := beat{appended: kr.Timestamp}
		if rec.Heartbeat.Time != 0 {
			b.at = time.UnixMicro(rec.Heartbeat.Time)
		}
		all = append(all, b)
	}
	return all
}

// awaitBeat waits for a heartbeat that says that all is published up to a time or later.
func (r *rig) awaitBeat(what string, at time.Time) {
	r.Helper()
	r.await(what, func() bool {
		all := r.heartbeats()
		return len(all) > 0 && !all[len(all)-1].at.Before(at)
	})
}

func newBeatingRig(t *testing.T, n *node) *rig {
	r := newRig(t, n, startKafka(t), newTable(t, "shop", "a", 1))
	r.bounds.beat = 20 * time.Millisecond
	return r
}

// TestHeartbeatsGoOn: with nothing in the directory, and beside a node that is idle, time goes on.
func TestHeartbeatsGoOn(t *testing.T) {
	t.Run("nothing in the directory", func(t *testing.T) {
		r := newBeatingRig(t, newNode(t, 4096))
		r.config.CDCRawDirectory = t.TempDir()
		r.start()
		for range 2 {
			r.awaitBeat("time goes on", time.Now())
		}
	})
	t.Run("an idle node", func(t *testing.T) {
		n := newNode(t, 4096)
		r := newBeatingRig(t, n)
		r.start()
		n.write(update{table: newTable(t, "shop", "a", 1), key: "k"})
		n.sync()
		for range 2 {
			r.awaitBeat("time goes on", time.Now())
		}
	})
}

// TestHeartbeatsWaitForAcknowledgements: while a record is not acknowledged time stands, whatever is acknowledged behind; and
// an agent that starts with a backlog says that it does not know.
func TestHeartbeatsWaitForAcknowledgements(t *testing.T) {
	a := newTable(t, "shop", "a", 1)
	n := newNode(t, 4096)
	r := newBeatingRig(t, n)
	in, out := keysOf(2)
	r.config.UntilEnd = true
	r.run() // makes the topics
	first := len(r.heartbeats())
	n.write(update{table: a, key: in[0]})
	n.sync()
	blocked := blockPartition(r.kafka, 2)
	r.start()
	r.await("some heartbeats", func() bool { return len(r.heartbeats()) > first+10 })
	for _, b := range r.heartbeats()[first:] {
		if !b.at.IsZero() {
			t.Fatalf("a heartbeat says %v, and nothing is published", b.at)
		}
	}
	blocked.Remove()
	r.awaitBeat("time goes on", time.Now())
	blocked = blockPartition(r.kafka, 2)
	n.write(update{table: a, key: in[0]})
	n.sync()
	flushed := time.Now()
	for range 50 {
		n.write(update{table: a, key: out[0]})
		n.sync()
	}
	before := len(r.heartbeats())
	r.await("some heartbeats", func() bool { return len(r.heartbeats()) > before+20 })
	for i, b := range r.heartbeats() {
		if b.at.After(flushed) {
			t.Fatalf("heartbeat %d says that all up to %v is published, and what was flushed before %v is not", i, b.at, flushed)
		}
	}
	blocked.Remove()
	r.awaitBeat("time goes on", time.Now())
}

// TestHeartbeatsUnderLoad: a node that never pauses does not hold time, and each heartbeat holds what it says.
func TestHeartbeatsUnderLoad(t *testing.T) {
	for _, mode := range []commitlog.Mode{commitlog.Durable, commitlog.Live} {
		a := newTable(t, "shop", "a", 1)
		n := newNode(t, 4096)
		r := newBeatingRig(t, n)
		r.config.Mode = mode
		var observed atomic.Int64
		r.config.Observe = func(n int) { observed.Add(int64(n)) }
		r.start()
		type flush struct {
			at      time.Time // not before it
			updates int
		}
		var flushes []flush
		end := make(chan struct{})
		writing := make(chan struct{})
		go func() {
			defer close(writing)
			for i := 0; ; i++ {
				select {
				case <-end:
					return
				default:
				}
				if i%5 == 0 && int64(i)-observed.Load() > 1000 {
					i--
					time.Sleep(time.Millisecond) // a node that is always faster would be followed further and further behind
					continue
				}
				n.write(update{table: a, key: string(rune('a' + i%20)), value: "something"})
				if i%5 == 4 {
					n.sync()
					flushes = append(flushes, flush{time.Now(), len(n.written)})
				}
			}
		}()
		for range 3 {
			r.awaitBeat("time goes on", time.Now())
		}
		close(end)
		<-writing
		beats := r.heartbeats() // before the records, as both go on
		var data []*kgo.Record
		for _, records := range r.kafka.records(rawTopic) {
			data = append(data, records...)
		}
		checked := 0
		for _, b := range beats {
			published := -2 * partitions // an Init and a Schema in each
			for _, d := range data {
				if !d.Timestamp.After(b.appended) {
					published++
				}
			}
			for _, f := range flushes {
				if f.at.Before(b.at) && published < f.updates {
					t.Fatalf("mode %v: a heartbeat says %v, when %d updates were flushed, and %d are published", mode, b.at, f.updates, published)
				}
				if f.at.Before(b.at) {
					checked++
				}
			}
		}
		if checked == 0 {
			t.Error("no heartbeat was checked")
		}
	}
}

// TestCopyHasNoHeartbeats: what a copied directory holds is of no time that anybody knows.
func TestCopyHasNoHeartbeats(t *testing.T) {
	n := newNode(t, 4096)
	n.write(update{table: newTable(t, "shop", "a", 1), key: "k"})
	n.finish()
	r := newBeatingRig(t, n)
	r.config.Copy, r.config.StateDirectory = true, filepath.Join(t.TempDir(), "state")
	r.run()
	if info := r.kafka.cluster.TopicInfo(rawtopic.HeartbeatTopic(rawTopic)); info != nil {
		t.Errorf("there is a topic for heartbeats: %+v", info)
	}
}
