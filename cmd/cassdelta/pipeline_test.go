package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sr/srfake"

	"cassdelta/commitlog"
	"cassdelta/schema"
)

// pipeline is all verbs that run for real, on the segments of the demo: an agent beside each node, and dedup.
type pipeline struct {
	t      *testing.T
	kafka  string
	client *kgo.Client
	dirs   []string
	agents []*process
	dedup  *process
}

// startPipeline starts agents on directories, and dedup. The nodes know the tables.
func startPipeline(t *testing.T, dirs []string, tables []*schema.Table, dedupArgs ...string) *pipeline {
	t.Helper()
	p := &pipeline{t: t, kafka: startKafka(t), dirs: dirs}
	var err error
	if p.client, err = kgo.NewClient(kgo.SeedBrokers(p.kafka), kgo.ConsumeTopics("cassdelta.dead-letters"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart())); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.client.Close)
	for i, dir := range dirs {
		node := startNode(t, schema.UUID{15: byte(i + 1)}, append(systemTables(t, dir, tables), tables...)...)
		p.agents = append(p.agents, start(t, "agent", "--cdc-raw-directory", dir, "--state-directory", t.TempDir(), "--kafka-brokers", p.kafka,
			"--raw-partitions", "4", "--replication", "1", "--cassandra-contact-points", node.addr(), "--metrics-listen", "127.0.0.1:0"))
	}
	p.dedup = start(t, append([]string{"dedup", "--kafka-brokers", p.kafka, "--state-directory", t.TempDir(), "--replication", "1", "--metrics-listen", "127.0.0.1:0"}, dedupArgs...)...)
	return p
}

// patience is how long the tests wait for what is to come: longer than any machine takes.
const patience = 2 * time.Minute

// await waits until a condition holds; there is no announcement of those that it is used for.
func (p *pipeline) await(what string, condition func() bool) {
	p.t.Helper()
	deadline := time.Now().Add(patience)
	for !condition() {
		for _, process := range append(p.agents[:len(p.agents):len(p.agents)], p.dedup) {
			select {
			case <-process.ended:
				p.t.Fatalf("it ended by itself, with exit code %d:\n%s", process.code, process.errors())
			default:
			}
		}
		if time.Now().After(deadline) {
			p.t.Fatalf("waited in vain until %s; dedup says\n%s", what, p.dedup.errors())
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// awaitFolded waits until the directories hold nothing but what is to be left, and dedup has folded all that was in them.
func (p *pipeline) awaitFolded(left ...string) {
	p.t.Helper()
	p.await("the agents have removed what they published", func() bool {
		var found []string
		for _, dir := range p.dirs {
			entries, err := os.ReadDir(dir)
			if err != nil {
				p.t.Fatal(err)
			}
			for _, e := range entries {
				found = append(found, e.Name())
			}
		}
		return slices.Equal(found, left)
	})
	adm := kadm.NewClient(p.client)
	ends, err := adm.ListEndOffsets(p.t.Context(), "cassdelta.raw")
	if err != nil {
		p.t.Fatal(err)
	}
	p.await("dedup has folded all", func() bool {
		committed, err := adm.FetchOffsets(p.t.Context(), "cassdelta-dedup")
		if err != nil && !errors.Is(err, kerr.GroupIDNotFound) {
			p.t.Fatal(err)
		}
		done := true
		ends.Each(func(end kadm.ListedOffset) {
			at, ok := committed.Lookup(end.Topic, end.Partition)
			done = done && ok && at.At >= end.Offset
		})
		return done
	})
}

// events are those of the clean topics.
func (p *pipeline) events(args ...string) []event {
	p.t.Helper()
	code, stdout, stderr := program(p.t, append([]string{"tail", "--kafka-brokers", p.kafka, "--until-end", "--json"}, args...)...)
	if code != exitOK || stderr != "" {
		p.t.Fatalf("tail: exit code %d: %s", code, stderr)
	}
	return parseEvents(p.t, stdout)
}

// stop stops all as Ctrl-C does.
func (p *pipeline) stop() {
	p.t.Helper()
	for _, process := range append(p.agents, p.dedup) {
		if code, stdout, stderr := process.stop(); code != exitOK || stdout != "" || said(stderr) != "" {
			p.t.Errorf("after a stop: exit code %d, standard output %q, standard error\n%s", code, stdout, stderr)
		}
	}
}

// metrics are the metrics that a process serves at this moment.
func (p *pipeline) metrics(of *process) string {
	p.t.Helper()
	response, err := http.Get("http://" + p.address(of) + "/metrics")
	if err != nil {
		p.t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		p.t.Fatal(err)
	}
	return string(text)
}

// address is where a process serves its metrics.
func (p *pipeline) address(of *process) string {
	p.t.Helper()
	for line := range strings.Lines(of.errors()) {
		var l struct{ Msg, Address string }
		if json.Unmarshal([]byte(line), &l) == nil && l.Msg == "serving metrics" {
			return l.Address
		}
	}
	p.t.Fatalf("no address of the metrics in\n%s", of.errors())
	return ""
}

// TestBadInput holds that what is wrong in a cdc_raw directory is said, counted and kept, and that everything else goes
// its way: with a copy of each write from another node, the tables are what they were.
func TestBadInput(t *testing.T) {
	r := openDemo(t)
	dirs := unpack(t, r)
	tables := tablesOf(t, recordedSchema(t, r, unsupportedCustomers...))
	if err := os.WriteFile(filepath.Join(dirs[0], "notes.txt"), []byte("not a segment"), 0o644); err != nil {
		t.Fatal(err)
	}
	payload, at := breakMutation(t, dirs[1], tables)
	truncated := truncateSegment(t, dirs[2])

	p := startPipeline(t, dirs, tables)
	p.awaitFolded("notes.txt", truncated, strings.TrimSuffix(truncated, ".log")+"_cdc.idx")
	n, unsupported := checkRows(t, r, tables, foldEvents(t, "cassdelta", p.events()))
	if n == 0 || len(unsupported) != 1 {
		t.Errorf("%d rows, unsupported: %v", n, unsupported)
	}
	named := logLine{Level: "error", Message: `changes of this table are not published: column tier has type 'org.example.Tier', which is not supported yet`, Table: "shop.customers"}
	const deadLetter = "written to the dead-letter topic; more of the kind are only counted"
	for i, says := range [][]logLine{
		{named, {Level: "warn", Message: dirs[0] + `: ignoring "notes.txt": not a commit log segment; move it out of cdc_raw`}},
		{named, {Level: "error", Message: deadLetter, Reason: "undecodable"}},
		{
			named, {Level: "error", Message: deadLetter, Reason: "damaged-segment"},
			{Level: "error", Message: "a segment is damaged: what is in it behind the damage is not published, and the file is left in place"},
		},
	} {
		said := map[logLine]int{}
		for line, n := range parseLog(t, p.agents[i].errors()) {
			if line.Level != "info" {
				if line.Reason != "" && line.Error == "" {
					t.Errorf("agent %d does not say why: %+v", i, line)
				}
				line.Error = ""
				said[line] += n
			}
		}
		for _, line := range says {
			if said[line] != 1 {
				t.Errorf("agent %d: %d times %+v", i, said[line], line)
			}
			delete(said, line)
		}
		if len(said) > 0 {
			t.Errorf("agent %d: unexpected: %+v", i, said)
		}
	}
	for i, counted := range []string{
		`cassdelta_agent_updates_unsupported_total{table="shop.customers"} `,
		`cassdelta_agent_dead_letters_total{reason="undecodable"} 1`,
		`cassdelta_agent_damaged_segments_total 1`,
	} {
		if text := p.metrics(p.agents[i]); !strings.Contains(text, "\n"+counted) {
			t.Errorf("agent %d: expected %s among the metrics:\n%s", i, counted, text)
		}
	}
	checkDeadLetters(t, p, payload, at)
	p.stop()
}

// checkDeadLetters holds that there are two: the mutation with its bytes and position, and the damage of the segment.
func checkDeadLetters(t *testing.T, p *pipeline, payload []byte, at commitlog.Position) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	letters := map[string]*kgo.Record{}
	for len(letters) < 2 {
		fetches := p.client.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			t.Fatalf("%d dead letters, expected 2: %v", len(letters), err)
		}
		fetches.EachRecord(func(r *kgo.Record) { letters[header(r, "cassdelta.reason")] = r })
	}
	letter := letters["undecodable"]
	if letter == nil || letters["damaged-segment"] == nil {
		t.Fatalf("dead letters %v", letters)
	}
	if !bytes.Equal(letter.Value, payload) {
		t.Errorf("the dead letter is %x, expected %x", letter.Value, payload)
	}
	for name, want := range map[string]string{
		"cassdelta.segment": fmt.Sprint(at.Segment), "cassdelta.position": fmt.Sprint(at.Offset), "cassdelta.segment-version": "7",
		"cassdelta.host": schema.UUID{15: 2}.String(),
	} {
		if found := header(letter, name); found != want {
			t.Errorf("header %s is %q, expected %q", name, found, want)
		}
	}
}

func header(r *kgo.Record, name string) string {
	for _, h := range r.Headers {
		if h.Key == name {
			return string(h.Value)
		}
	}
	return ""
}

// systemTables are stand-ins for the tables in a directory's segments that are Cassandra's own.
func systemTables(t *testing.T, dir string, tables []*schema.Table) (system []*schema.Table) {
	t.Helper()
	known := map[schema.UUID]bool{}
	for _, table := range tables {
		known[table.ID] = true
	}
	eachMutation(t, dir, func(item commitlog.Item, first schema.UUID) bool {
		if known[first] {
			return true
		}
		known[first] = true
		text := fmt.Sprintf("CREATE TABLE system.t%d (id int PRIMARY KEY) WITH ID = %s;", len(system), first)
		parsed, err := schema.ParseCQL("system.cql", text)
		if err != nil {
			t.Fatal(err)
		}
		system = append(system, parsed.Tables...)
		return true
	})
	return system
}

// eachMutation calls f with the mutations in a directory's segments until it returns false.
func eachMutation(t *testing.T, dir string, f func(item commitlog.Item, first schema.UUID) (more bool)) {
	t.Helper()
	tail, err := commitlog.NewTail(commitlog.TailConfig{Dir: dir, Static: true})
	if err != nil {
		t.Fatal(err)
	}
	defer tail.Close()
	for {
		item, ok, err := tail.Poll()
		if err != nil {
			t.Fatal(err)
		}
		if !ok {
			return
		}
		if item.Kind != commitlog.Entry {
			continue
		}
		if first, err := commitlog.FirstTable(item.Payload); err != nil || !f(item, first) {
			return
		}
	}
}

// breakMutation makes a mutation of shop.orders one that cannot be decoded, with a right checksum. It gives its bytes and
// its position.
func breakMutation(t *testing.T, dir string, tables []*schema.Table) (payload []byte, at commitlog.Position) {
	t.Helper()
	orders := tables[slices.IndexFunc(tables, func(t *schema.Table) bool { return t.FullName() == "shop.orders" })]
	var path string
	eachMutation(t, dir, func(item commitlog.Item, first schema.UUID) bool {
		if first != orders.ID {
			return true
		}
		path, payload, at = filepath.Join(dir, commitlog.SegmentName(item.Version, item.Segment)), slices.Clone(item.Payload), item.Position
		return false
	})
	file, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	// An entry is the length, its checksum, the payload, and the checksum of length and payload.
	end := int(at.Offset)
	begin := end - 4 - len(payload)
	if !bytes.Equal(file[begin:end-4], payload) {
		t.Fatalf("%s: the payload is not at %d", path, begin)
	}
	for i := 17; i < len(payload); i++ { // behind the number of updates and the table
		payload[i] = 0xff
	}
	copy(file[begin:], payload)
	binary.BigEndian.PutUint32(file[end-4:], crc32.Update(crc32.ChecksumIEEE(file[begin-8:begin-4]), crc32.IEEETable, payload))
	if err := os.WriteFile(path, file, 0o644); err != nil {
		t.Fatal(err)
	}
	return payload, at
}

// truncateSegment cuts the second segment of a directory in the midst of its data, and gives its name.
func truncateSegment(t *testing.T, dir string) string {
	t.Helper()
	logs, err := filepath.Glob(filepath.Join(dir, "*.log"))
	if err != nil || len(logs) < 2 {
		t.Fatalf("segments %v: %v", logs, err)
	}
	index, err := os.ReadFile(strings.TrimSuffix(logs[1], ".log") + "_cdc.idx")
	if err != nil {
		t.Fatal(err)
	}
	var end int64
	if _, err := fmt.Sscanf(string(index), "%d\nCOMPLETED", &end); err != nil {
		t.Fatalf("index %q: %v", index, err)
	}
	if err := os.Truncate(logs[1], end/2); err != nil {
		t.Fatal(err)
	}
	return filepath.Base(logs[1])
}

// TestRegistryComesBack holds that dedup waits for a registry that has gone since the start, and then goes on.
func TestRegistryComesBack(t *testing.T) {
	fake := srfake.New()
	defer fake.Close()
	target, err := url.Parse(fake.URL())
	if err != nil {
		t.Fatal(err)
	}
	pass := httputil.NewSingleHostReverseProxy(target)
	var refused atomic.Int64
	var up atomic.Bool
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !up.Load() && r.URL.Path != "/config" {
			refused.Add(1)
			http.Error(w, "down", http.StatusServiceUnavailable)
			return
		}
		pass.ServeHTTP(w, r)
	}))
	defer proxy.Close()
	r := openDemo(t)
	p := startPipeline(t, unpack(t, r), demoTables(t), "--registry-url", proxy.URL)
	p.await("the registry is asked", func() bool { return refused.Load() >= 3 })
	up.Store(true)
	p.awaitFolded()
	n, _ := checkRows(t, r, demoTables(t), foldEvents(t, "cassdelta", p.events("--registry-url", proxy.URL)))
	if n == 0 {
		t.Error("no rows")
	}
	p.stop()
}
