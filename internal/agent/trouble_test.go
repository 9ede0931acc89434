package agent

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"cassdelta/commitlog"
	"cassdelta/internal/rawtopic"
	"cassdelta/schema"
)

// fail runs an agent that must end with an error that contains all of want.
func (r *rig) fail(want ...string) {
	r.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	err := r.agent().Run(ctx)
	if err == nil {
		r.Fatal("expected an error")
	}
	for _, w := range want {
		if !strings.Contains(err.Error(), w) {
			r.Errorf("error %q, expected %q in it", err, w)
		}
	}
}

// logged counts log lines with a text in the message.
func (r *rig) logged(text string) (n int) {
	for _, m := range r.messages() {
		if strings.Contains(m, text) {
			n++
		}
	}
	return n
}

func header(r *kgo.Record, key string) string {
	for _, h := range r.Headers {
		if h.Key == key {
			return string(h.Value)
		}
	}
	return ""
}

// blockPartition lets the broker refuse, in a way that is worth a retry, all that goes to one partition.
func blockPartition(k *kafka, p int32) *kfake.FaultHandle {
	return k.cluster.Fault(kfake.Fault{
		Keys: []kmsg.Key{kmsg.Produce}, Topic: rawTopic, Partitions: []int32{p}, Err: kerr.NotEnoughReplicas, Count: -1,
	})
}

// keysOf gives keys that go to a partition, and keys that do not.
func keysOf(p int32) (in, out []string) {
	for c := 'a'; c <= 'z'; c++ {
		if partitionOf(string(c)) == p {
			in = append(in, string(c))
		} else {
			out = append(out, string(c))
		}
	}
	return in, out
}

func TestPositionIsBehindAcknowledgements(t *testing.T) {
	a := newTable(t, "shop", "a", 1)
	n := newNode(t, 4096)
	k := startKafka(t)
	r := newRig(t, n, k, a)
	r.bounds.stop = 100 * time.Millisecond
	acks := make(chan struct{}, 1000)
	r.config.Observe = func(int) { acks <- struct{}{} }
	stop := r.start()
	in, out := keysOf(2)

	n.write(update{table: a, key: in[0]})
	before := n.write(update{table: a, key: out[0]})
	n.sync()
	<-acks
	<-acks

	blocked := blockPartition(k, 2)
	n.write(update{table: a, key: in[0]}) // not acknowledged, and all behind it is
	for i := range 200 {                  // over several segments
		n.write(update{table: a, key: out[i%len(out)], value: "long enough to fill segments"})
	}
	n.finish()
	for range 200 {
		<-acks
	}
	r.await("the position is stored", func() bool {
		return r.position().Segment == before.Segment && r.position().Offset >= before.Offset
	})
	if err := stop(); err == nil {
		if p := r.position(); p.Offset != before.Offset || p.Segment != before.Segment || len(p.Finished) > 0 {
			t.Errorf("position %+v, expected that of %+v", p, before)
		}
	} else {
		t.Error(err)
	}
	if files := r.files(); len(files) < 4 {
		t.Errorf("segments were removed, left are: %v", files)
	}
	blocked.Remove()
	r.config.Observe = nil
	r.config.UntilEnd = true
	r.run()
	if repeats := r.checkAtLeastOnce(n.written); repeats != 200 {
		t.Errorf("%d repeats, expected all that was acknowledged behind the gap", repeats)
	}
	if files := r.files(); len(files) != 0 {
		t.Errorf("left in the directory: %v", files)
	}
}

func TestBoundsWhatIsInFlight(t *testing.T) {
	a := newTable(t, "shop", "a", 1)
	n := newNode(t, 4096)
	k := startKafka(t)
	r := newRig(t, n, k, a)
	r.bounds.flight = flightBounds{bytes: 3000, records: 20}
	registry := prometheus.NewRegistry()
	r.config.Registerer = registry
	var acks atomic.Int64
	r.config.Observe = func(n int) { acks.Add(int64(n)) }
	stop := r.start()
	n.write(update{table: a, key: "a"})
	n.sync()
	r.await("the broker has the definition", func() bool { return acks.Load() == 1 })
	var blocked []*kfake.FaultHandle
	for p := range int32(partitions) {
		blocked = append(blocked, blockPartition(k, p))
	}
	for i := range 1000 {
		n.write(update{table: a, key: string(rune('a' + i%26)), value: "0123456789"})
	}
	n.finish()
	r.await("20 are in flight, and one waits", func() bool {
		return gather(t, registry, "in_flight_records") == 20 && gather(t, registry, "mutations_total") == 1+20+1
	})
	r.await("the log says that Kafka is waited for", func() bool {
		return r.logged("Kafka does not acknowledge") > r.logged("Kafka acknowledges records again")
	})
	records, bytes, mutations := gather(t, registry, "in_flight_records"), gather(t, registry, "in_flight_bytes"), gather(t, registry, "mutations_total")
	if records != 20 || bytes > 3000 || mutations != 1+20+1 {
		t.Errorf("%v records with %v bytes in flight, %v mutations read; expected 20 in flight and one that waits", records, bytes, mutations)
	}
	r.await("the directory is measured", func() bool {
		lag, size := gather(t, registry, "lag_bytes"), gather(t, registry, "cdc_raw_bytes")
		return lag >= 50_000 && lag <= size
	})
	for _, b := range blocked {
		b.Remove()
	}
	r.await("all is published", func() bool { return len(r.files()) == 0 })
	if err := stop(); err != nil {
		t.Error(err)
	}
	if repeats := r.checkAtLeastOnce(n.written); repeats != 0 {
		t.Errorf("%d repeats", repeats)
	}
	if stops, again := r.logged("Kafka does not acknowledge"), r.logged("Kafka acknowledges records again"); stops == 0 || stops != again {
		t.Errorf("log %v", r.messages())
	}
}

// gather gives the value of a metric without labels.
func gather(t *testing.T, g prometheus.Gatherer, name string) float64 {
	t.Helper()
	families, err := g.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == "cassdelta_agent_"+name {
			return f.Metric[0].GetGauge().GetValue() + f.Metric[0].GetCounter().GetValue()
		}
	}
	t.Fatalf("there is no metric %s", name)
	return 0
}

func TestFinalFailureStopsBeforeIt(t *testing.T) {
	a := newTable(t, "shop", "a", 1)
	n := newNode(t, 4096)
	k := startKafka(t)
	n.write(update{table: a, key: "a"})
	n.finish()
	r := newRig(t, n, k, a)
	r.run()
	before := r.position()
	n.open()
	in, _ := keysOf(3)
	n.write(update{table: a, key: in[0]})
	n.write(update{table: a, key: in[1]})
	n.finish()
	// The definition passes, what comes behind it does not.
	seen := 0
	k.cluster.Fault(kfake.Fault{
		Keys: []kmsg.Key{kmsg.Produce}, Topic: rawTopic, Partitions: []int32{3}, Err: kerr.MessageTooLarge, Count: -1,
		When: func(kmsg.Request) bool { seen++; return seen > 1 && seen < 4 },
	})
	r.fail("produce to topic raw", "MESSAGE_TOO_LARGE", "max.message.bytes")
	if p := r.position(); p.Segment != before.Segment || p.Offset != before.Offset {
		t.Errorf("position %+v, expected %+v", p, before)
	}
	if files := r.files(); len(files) != 2 {
		t.Errorf("files %v", files)
	}
	seen = 10
	r.run()
	r.checkAtLeastOnce(n.written)
}

func TestLargeUpdatesAreCut(t *testing.T) {
	a := newTable(t, "shop", "a", 1)
	n := newNode(t, 1<<20)
	for i := range 20 {
		n.write(update{table: a, key: string(rune('a' + i%3)), value: strings.Repeat(string(rune('0'+i)), 1<<(i%18))})
	}
	n.finish()
	r := newRig(t, n, startKafka(t), a)
	r.config.MaxRecordBytes = 1000
	r.run()
	if repeats := r.checkAtLeastOnce(n.written); repeats != 0 {
		t.Errorf("%d repeats", repeats)
	}
}

func TestUnknownTableHidesNothing(t *testing.T) {
	a, b := newTable(t, "shop", "a", 1), newTable(t, "shop", "b", 2)
	unknown := schema.UUID{0: 0x77, 6: 0x11, 15: 9}
	for _, static := range []bool{false, true} {
		n := newNode(t, 4096)
		n.write(update{table: a, key: "a"})
		at := n.write(update{table: a, key: "b"}, update{id: unknown, key: "b", value: "lost"}, update{table: b, key: "b"})
		n.write(update{id: unknown, key: "c"})
		n.write(update{table: b, key: "d"})
		n.finish()
		k := startKafka(t)
		r := newRig(t, n, k, a, b)
		r.config.Static = static
		r.run()
		if repeats := r.checkAtLeastOnce(n.written); repeats != 0 {
			t.Errorf("%d repeats", repeats)
		}
		dead := k.records(deadLetters)[0]
		if static {
			if len(dead) != 0 || r.source.reads != 1 || r.logged("not in the schema file") != 1 {
				t.Errorf("static: %d dead letters, %d readings, log %v", len(dead), r.source.reads, r.messages())
			}
			continue
		}
		if len(dead) != 2 {
			t.Fatalf("%d dead letters, expected 2", len(dead))
		}
		if want := mutation(update{table: a, key: "b"}, update{id: unknown, key: "b", value: "lost"}, update{table: b, key: "b"}); !bytes.Equal(dead[0].Value, want) {
			t.Errorf("dead letter %x, expected the mutation %x", dead[0].Value, want)
		}
		for key, want := range map[string]string{
			"cassdelta.host": host.String(), "cassdelta.segment": itoa(at.Segment), "cassdelta.position": itoa(at.Offset),
			"cassdelta.table-id": unknown.String(), "cassdelta.segment-version": "7", "cassdelta.reason": "unknown-table",
		} {
			if got := header(dead[0], key); got != want {
				t.Errorf("header %s is %q, expected %q", key, got, want)
			}
		}
		if !strings.Contains(header(dead[0], "cassdelta.error"), "no table has the id "+unknown.String()) {
			t.Errorf("header cassdelta.error is %q", header(dead[0], "cassdelta.error"))
		}
		// The second mutation does not ask again.
		if r.source.reads > 2+lookups || r.logged("written to the dead-letter topic") != 1 {
			t.Errorf("%d readings, log %v", r.source.reads, r.messages())
		}
	}
}

func TestNewTableIsLearned(t *testing.T) {
	a, b := newTable(t, "shop", "a", 1), newTable(t, "shop", "b", 2)
	wide := newTable(t, "shop", "a", 1, func(s *schema.Table) {
		s.Columns = append(s.Columns, schema.Column{Name: "w", Kind: schema.Regular, Type: newType(t, "blob")})
		s.AlteredAt = 7
	})
	n := newNode(t, 4096)
	n.write(update{table: a, key: "a"})
	n.write(update{table: b, key: "a"})
	n.write(update{table: wide, key: "a", column: "w"})
	n.write(update{table: b, key: "c"}) // of a table that is dropped when this is read
	n.finish()
	k := startKafka(t)
	r := newRig(t, n, k, a)
	// The contact point is behind the node: it knows the table, then the column, only when asked again.
	r.source.onRead = func(read int) {
		switch read {
		case 4:
			r.source.tables = []*schema.Table{a, b}
		case 5:
			r.source.err = errSource
		case 8:
			r.source.err = nil
			r.source.tables = []*schema.Table{wide} // b was dropped meanwhile
		}
	}
	r.run()
	if repeats := r.checkAtLeastOnce(n.written); repeats != 0 {
		t.Errorf("%d repeats", repeats)
	}
	if dead := k.records(deadLetters)[0]; len(dead) != 0 {
		t.Errorf("%d dead letters: %s", len(dead), header(dead[0], "cassdelta.error"))
	}
	if r.logged("the schema cannot be read") != 1 {
		t.Errorf("log %v", r.messages())
	}
}

// A table that gets cdc = true names itself in nothing that is unknown. The DDL is in the log.
func TestSchemaMutationIsHeeded(t *testing.T) {
	off, on := newTable(t, "shop", "a", 1, notCaptured), newTable(t, "shop", "a", 1)
	other := newTable(t, "other", "x", 2)
	ddl := newTable(t, "system_schema", "tables", 3, notCaptured)
	n := newNode(t, 4096)
	n.write(update{table: off, key: "a"})
	n.write(update{table: ddl, key: "shop"})
	n.write(update{table: ddl, key: "shop"})
	n.write(update{table: on, key: "b"})
	n.finish()
	r := newRig(t, n, startKafka(t), off, other, ddl)
	// The first reading is that of the start, the second that before the first mutation.
	r.source.onRead = func(read int) {
		if read >= 3 {
			r.source.tables = []*schema.Table{on, other, ddl}
		}
	}
	r.run()
	r.checkAtLeastOnce(n.written)
	if r.source.reads > 3 {
		t.Errorf("%d readings for two schema mutations in a row", r.source.reads)
	}
}

func TestUnsupportedTableIsNamed(t *testing.T) {
	a := newTable(t, "shop", "a", 1)
	list := newTable(t, "shop", "carts", 2, func(s *schema.Table) {
		s.Columns = append(s.Columns, schema.Column{Name: "items", Kind: schema.Regular, Type: newType(t, "list<counter>")})
	})
	n := newNode(t, 4096)
	n.write(update{table: a, key: "a"})
	n.append(mutation(update{table: list, key: "b"}))
	n.append(mutation(update{table: list, key: "b"}))
	n.write(update{table: a, key: "c"})
	n.finish()
	r := newRig(t, n, startKafka(t), a, list)
	r.run()
	r.checkAtLeastOnce(n.written)
	lines := r.logs.FilterField(zapTable("shop.carts")).All()
	if len(lines) != 1 || !strings.Contains(lines[0].Message, "items") || !strings.Contains(lines[0].Message, "list<counter>") {
		t.Errorf("log %v", r.messages())
	}
}

func TestNothingCapturedIsSaid(t *testing.T) {
	n := newNode(t, 4096)
	n.finish()
	r := newRig(t, n, startKafka(t), newTable(t, "shop", "a", 1, notCaptured))
	r.run()
	if r.logged("no table has cdc = true") != 1 {
		t.Errorf("log %v", r.messages())
	}
}

func TestDamage(t *testing.T) {
	a := newTable(t, "shop", "a", 1)
	n := newNode(t, 4096)
	n.write(update{table: a, key: "a"})
	bad := n.append(mutation(update{table: a, key: "bad", value: "flipped"}))
	n.b[len(n.b)-10] ^= 1
	n.write(update{table: a, key: "b"})
	n.rotate()
	first := n.id - 1
	// The second section of this segment cannot be found: its marker is wrong.
	n.write(update{table: a, key: "c"})
	n.sync()
	lost := len(n.written)
	n.write(update{table: a, key: "lost"})
	marker := n.marker
	n.sync()
	if _, err := n.f.WriteAt([]byte{1, 2, 3}, int64(marker)+1); err != nil {
		t.Fatal(err)
	}
	damaged := n.id
	n.written = n.written[:lost]
	n.rotate()
	n.write(update{table: a, key: "d"})
	n.finish()

	k := startKafka(t)
	r := newRig(t, n, k, a)
	for range 2 { // the second run reads nothing again
		r.run()
		if repeats := r.checkAtLeastOnce(n.written); repeats != 0 {
			t.Errorf("%d repeats", repeats)
		}
		left := r.files()
		slices.Sort(left)
		if want := []string{commitlog.SegmentName(7, damaged), commitlog.IndexName(7, damaged)}; !slices.Equal(left, want) {
			t.Errorf("left are %v, expected the damaged segment %v", left, want)
		}
		dead := k.records(deadLetters)[0]
		if len(dead) != 2 {
			t.Fatalf("%d dead letters, expected 2", len(dead))
		}
		if header(dead[0], "cassdelta.reason") != "damaged-entry" || header(dead[0], "cassdelta.segment") != itoa(first) ||
			header(dead[0], "cassdelta.position") != itoa(bad.Offset) || !bytes.Contains(dead[0].Value, []byte("bad")) {
			t.Errorf("dead letter %v %q", dead[0].Headers, dead[0].Value)
		}
		if header(dead[1], "cassdelta.reason") != "damaged-segment" || header(dead[1], "cassdelta.segment") != itoa(damaged) {
			t.Errorf("dead letter %v", dead[1].Headers)
		}
	}
	if p := r.position(); !slices.Equal(p.Damaged, []int64{damaged}) {
		t.Errorf("position %+v", p)
	}
}

func TestLongDeadLettersAreCut(t *testing.T) {
	a := newTable(t, "shop", "a", 1)
	n := newNode(t, 1<<16)
	payload := mutation(update{id: schema.UUID{5}, key: "k", value: strings.Repeat("0123456789", 500)})
	n.append(payload)
	n.finish()
	k := startKafka(t)
	r := newRig(t, n, k, a)
	r.config.MaxRecordBytes = 1000
	r.run()
	var whole []byte
	dead := k.records(deadLetters)[0]
	for i, d := range dead {
		if got := header(d, "cassdelta.part"); got != itoa(int64(i+1))+"/"+itoa(int64(len(dead))) {
			t.Errorf("part %q is number %d of %d", got, i+1, len(dead))
		}
		whole = append(whole, d.Value...)
	}
	if !bytes.Equal(whole, payload) {
		t.Errorf("%d records have %d bytes, expected the %d of the mutation", len(dead), len(whole), len(payload))
	}
}

func TestGapIsReported(t *testing.T) {
	a := newTable(t, "shop", "a", 1)
	n := newNode(t, 4096)
	n.write(update{table: a, key: "a"})
	n.sync()
	r := newRig(t, n, startKafka(t), a)
	r.run()
	lost, index := n.path(), n.index()
	n.rotate()
	if err := errors.Join(os.Remove(lost), os.Remove(index)); err != nil {
		t.Fatal(err)
	}
	n.write(update{table: a, key: "b"})
	n.finish()
	r.run()
	r.checkAtLeastOnce(n.written)
	if r.logged("changes of this node are missing") != 1 {
		t.Errorf("log %v", r.messages())
	}
}

// The index of a segment that was passed turns up after a crash replay, when later segments were read.
func TestLateSegment(t *testing.T) {
	a := newTable(t, "shop", "a", 1)
	n := newNode(t, 4096)
	n.write(update{table: a, key: "late"})
	n.sync()
	late := n.index()
	content, err := os.ReadFile(late)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(late); err != nil {
		t.Fatal(err)
	}
	n.check(n.f.Close())
	n.open()
	n.write(update{table: a, key: "early"})
	n.finish()
	r := newRig(t, n, startKafka(t), a)
	r.run()
	if p := r.position(); p.Segment != n.id {
		t.Errorf("position %+v", p)
	}
	if err := os.WriteFile(late, append(content, "\nCOMPLETED"...), 0o644); err != nil {
		t.Fatal(err)
	}
	r.run()
	if p := r.position(); p.Segment != n.id || len(p.Finished) != 2 {
		t.Errorf("position %+v", p)
	}
	if files := r.files(); len(files) != 0 {
		t.Errorf("files %v", files)
	}
	for p, got := range r.published() {
		for _, c := range got {
			if c.key != "late" && c.key != "early" {
				t.Errorf("partition %d: %+v", p, c)
			}
		}
	}
}

// A segment is removed only behind a position that is on disk.
func TestNoRemovalWithoutAPosition(t *testing.T) {
	n := newNode(t, 4096)
	n.finish()
	s, err := openState(filepath.Join(t.TempDir(), "state"), host)
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	l := newLedger(s.stored, defaultBounds.flight)
	l.end(segment{segmentVersion, n.id}, commitlog.Position{Segment: n.id, Offset: 100}, endFinished)
	m, err := newMetrics(nil)
	if err != nil {
		t.Fatal(err)
	}
	k := &keeper{dir: n.dir, state: s, ledger: l, metrics: m, last: s.stored}
	if err := os.RemoveAll(s.dir); err != nil {
		t.Fatal(err)
	}
	if err := k.keep(); err == nil || !strings.Contains(err.Error(), "position file") {
		t.Errorf("error %v", err)
	}
	if _, err := os.Stat(n.path()); err != nil {
		t.Errorf("the segment was removed: %v", err)
	}
}

func TestMaxRecordIsThatOfTheTopic(t *testing.T) {
	if r := newRig(t, newNode(t, 4096), startKafka(t)); r.agent().c.MaxRecordBytes != rawtopic.MaxValue {
		t.Error("the default is not that of the format")
	}
}
