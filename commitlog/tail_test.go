package commitlog

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestTail plays a node and an agent in one directory. The commands of a case are
//
//	create ID             link a segment: a header and zeros
//	write ID TEXT...      entries and their sync marker
//	unsynced ID TEXT      an entry whose section is open
//	flush ID              write the index file: the end of the last section
//	close ID              an empty section, and the index file with COMPLETED
//	idx ID QUOTED         write an index file as given
//	delete ID [log|idx]   delete both files, or one
//	relink ID             link a deleted segment again
//	crashreplay ID        link it again, with the length of the file and COMPLETED as index
//	flip ID OFFSET MASK   flip bits of a file
//	cut ID LENGTH         cut a file
//	foreign NAME          a file that is not Cassandra's
//	finished ID           what the agent has on record as finished
//	remove ID             what the agent does then
//	tail [mode=live] [static] [after=ID:OFFSET]    start a tail
//	advance DURATION      the clock goes on
//	poll                  everything that the tail yields now
//	next                  one item
//	seen                  up to when the log was yielded, since the start
//
// and these three print what they find.
func TestTail(t *testing.T) {
	runTextFile(t, "testdata/tail.txt", func(t *testing.T, c textCase) string {
		n := newTestNode(t)
		for _, line := range c.input {
			if err := n.do(line); err != nil {
				t.Fatalf("near line %d: %s: %v", c.line, line, err)
			}
		}
		return n.out.String()
	})
}

// testNode is a node's cdc_raw directory and the tail that follows it.
type testNode struct {
	t        *testing.T
	dir      string
	segments map[int64]*builder
	finished map[int64]bool
	now      time.Time
	tail     *Tail
	out      strings.Builder
}

func newTestNode(t *testing.T) *testNode {
	n := &testNode{t: t, dir: t.TempDir(), segments: map[int64]*builder{}, finished: map[int64]bool{}, now: testStart}
	t.Cleanup(func() {
		if n.tail != nil {
			n.tail.Close()
		}
	})
	return n
}

const testSegmentSize = 400

var testStart = time.Unix(1700000000, 0)

func (n *testNode) log(id int64) string { return filepath.Join(n.dir, SegmentName(7, id)) }
func (n *testNode) idx(id int64) string { return filepath.Join(n.dir, IndexName(7, id)) }

// put overwrites the bytes of a file in place, as a mapping does.
func (n *testNode) put(id int64) error {
	f, err := os.OpenFile(n.log(id), os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.WriteAt(n.segments[id].padded(testSegmentSize), 0)
	return err
}

func (n *testNode) do(line string) error {
	words := strings.Fields(line)
	var id int64
	if len(words) > 1 {
		id, _ = strconv.ParseInt(words[1], 10, 64)
	}
	s := n.segments[id]
	number := func(i int) int64 {
		v, err := strconv.ParseInt(words[i], 0, 64)
		if err != nil {
			n.t.Fatal(err)
		}
		return v
	}
	switch words[0] {
	case "create":
		n.segments[id] = newBuilder(7, id)
		return n.put(id)
	case "write", "unsynced":
		for _, text := range words[2:] {
			s.entry([]byte(fmt.Sprintf("%s%.*s", text, max(0, minEntry-len(text)), "..........")))
		}
		if words[0] == "write" {
			s.sync()
		}
		return n.put(id)
	case "flush":
		return os.WriteFile(n.idx(id), []byte(fmt.Sprint(s.marker)), 0o644)
	case "close":
		end := s.sync()
		if err := n.put(id); err != nil {
			return err
		}
		return os.WriteFile(n.idx(id), []byte(fmt.Sprintf("%d\nCOMPLETED", end)), 0o644)
	case "idx":
		text, err := strconv.Unquote(words[2])
		if err != nil {
			return err
		}
		return os.WriteFile(n.idx(id), []byte(text), 0o644)
	case "delete":
		if len(words) == 2 || words[2] == "log" {
			if err := os.Remove(n.log(id)); err != nil {
				return err
			}
		}
		if len(words) == 2 || words[2] == "idx" {
			return os.RemoveAll(n.idx(id))
		}
		return nil
	case "relink":
		return n.put(id)
	case "crashreplay":
		if err := n.put(id); err != nil {
			return err
		}
		return os.WriteFile(n.idx(id), []byte(fmt.Sprintf("%d\nCOMPLETED", testSegmentSize)), 0o644)
	case "flip":
		b, err := os.ReadFile(n.log(id))
		if err != nil {
			return err
		}
		b[number(2)] ^= byte(number(3))
		return os.WriteFile(n.log(id), b, 0o644)
	case "cut":
		return os.Truncate(n.log(id), number(2))
	case "foreign":
		return os.WriteFile(filepath.Join(n.dir, words[1]), []byte("what is this"), 0o644)
	case "finished":
		n.finished[id] = true
		return nil
	case "remove":
		return RemoveSegment(n.dir, 7, id)
	case "advance":
		d, err := time.ParseDuration(words[1])
		n.now = n.now.Add(d)
		return err
	case "tail":
		return n.start(words[1:])
	case "poll":
		n.poll()
		return nil
	case "next":
		item, ok, err := n.tail.Poll()
		if !ok || err != nil {
			return fmt.Errorf("found %v, %v", ok, err)
		}
		fmt.Fprintf(&n.out, "next\n  %s\n", n.describe(item))
		return nil
	case "seen":
		if seen := n.tail.Seen(); seen.IsZero() {
			fmt.Fprintf(&n.out, "seen nothing\n")
		} else {
			fmt.Fprintf(&n.out, "seen %v\n", seen.Sub(testStart))
		}
		return nil
	}
	return fmt.Errorf("unknown command")
}

func (n *testNode) start(options []string) error {
	c := TailConfig{Dir: n.dir, Finished: func(id int64) bool { return n.finished[id] }, Now: func() time.Time { return n.now },
		Notice: func(err error) { fmt.Fprintf(&n.out, "  notice: %v\n", n.clean(err)) }}
	for _, o := range options {
		k, v, _ := strings.Cut(o, "=")
		switch k {
		case "mode":
			c.Mode = Live
		case "static":
			c.Static = true
		case "after":
			if _, err := fmt.Sscanf(v, "%d:%d", &c.After.Segment, &c.After.Offset); err != nil {
				return err
			}
		}
	}
	if n.tail != nil {
		n.tail.Close()
	}
	var err error
	n.tail, err = NewTail(c)
	return err
}

func (n *testNode) clean(err error) string { return strings.ReplaceAll(err.Error(), n.dir, "DIR") }

func (n *testNode) poll() {
	fmt.Fprintf(&n.out, "poll\n")
	for range 100 {
		item, ok, err := n.tail.Poll()
		if err != nil {
			fmt.Fprintf(&n.out, "  error: %s\n", n.clean(err))
			return
		}
		if !ok {
			if n.tail.Settling() {
				fmt.Fprintf(&n.out, "  settling\n")
			}
			return
		}
		fmt.Fprintf(&n.out, "  %s\n", n.describe(item))
	}
	fmt.Fprintf(&n.out, "  NO END\n")
}

func (n *testNode) describe(item Item) string {
	var d *DamagedError
	switch item.Kind {
	case Entry:
		return fmt.Sprintf("%d:%d %s", item.Position.Segment, item.Position.Offset, strings.TrimRight(string(item.Payload), "."))
	case BadEntry:
		errors.As(item.Err, &d)
		return fmt.Sprintf("%d:%d bad entry %q %s", item.Position.Segment, item.Position.Offset, item.Payload, shortDamage(d))
	case SegmentEnd:
		if errors.As(item.Err, &d) {
			return fmt.Sprintf("%d ends at %d, damaged %s", item.Segment, item.Position.Offset, shortDamage(d))
		}
		return fmt.Sprintf("%d ends at %d", item.Segment, item.Position.Offset)
	case Gap:
		return fmt.Sprintf("gap: %s", n.clean(item.Err))
	}
	return fmt.Sprintf("%+v", item)
}

// TestTailSawTheStart: what is flushed while a directory is walked through may be missed, so the walk counts from its start.
func TestTailSawTheStart(t *testing.T) {
	n := newTestNode(t)
	for _, line := range []string{"create 1", "write 1 one", "flush 1"} {
		if err := n.do(line); err != nil {
			t.Fatal(err)
		}
	}
	var started time.Time
	tail, err := NewTail(TailConfig{Dir: n.dir, Now: func() time.Time {
		n.now = n.now.Add(time.Second)
		if started.IsZero() {
			started = n.now
		}
		return n.now
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer tail.Close()
	if _, ok, err := tail.Poll(); !ok || err != nil {
		t.Fatalf("found %v, %v", ok, err)
	}
	started = time.Time{}
	if _, ok, err := tail.Poll(); ok || err != nil {
		t.Fatalf("found %v, %v", ok, err)
	}
	if !tail.Seen().Equal(started) {
		t.Errorf("seen up to %v, and the last walk began at %v", tail.Seen(), started)
	}
}

func TestTailWaits(t *testing.T) {
	n := newTestNode(t)
	for _, line := range []string{"create 1", "write 1 one"} {
		if err := n.do(line); err != nil {
			t.Fatal(err)
		}
	}
	tail, err := NewTail(TailConfig{Dir: n.dir, PollInterval: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	defer tail.Close()
	if _, ok, err := tail.Poll(); ok || err != nil {
		t.Fatalf("found %v, %v", ok, err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	if err := n.do("flush 1"); err != nil { // announced, so the hour need not pass
		t.Fatal(err)
	}
	item, err := tail.Next(ctx)
	if err != nil || item.Kind != Entry || item.Segment != 1 {
		t.Fatalf("found %+v, %v", item, err)
	}
	cancel()
	if _, err := tail.Next(ctx); !errors.Is(err, context.Canceled) {
		t.Fatalf("found %v", err)
	}
}

func TestTailPollsWithoutAWatch(t *testing.T) {
	n := newTestNode(t)
	if err := n.do("create 1"); err != nil {
		t.Fatal(err)
	}
	tail, err := NewTail(TailConfig{Dir: n.dir, Mode: Live, PollInterval: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	defer tail.Close()
	tail.watcher.Close()
	tail.watcher = nil
	wrote := make(chan error, 1)
	go func() { wrote <- n.do("write 1 one") }()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	if item, err := tail.Next(ctx); err != nil || item.Kind != Entry {
		t.Fatalf("found %+v, %v", item, err)
	}
	if err := <-wrote; err != nil {
		t.Fatal(err)
	}
}

func TestTailNeedsItsDirectory(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, d := range []string{filepath.Join(dir, "missing"), file} {
		if _, err := NewTail(TailConfig{Dir: d}); err == nil || !strings.Contains(err.Error(), "cassandra.yaml") {
			t.Errorf("%s: found %v", d, err)
		}
	}
	tail, err := NewTail(TailConfig{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	defer tail.Close()
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if _, _, err := tail.Poll(); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("found %v", err)
	}
}

// TestTailIsBounded follows a large directory and looks at what the tail keeps.
func TestTailIsBounded(t *testing.T) {
	n := newTestNode(t)
	const segments, entries = 20, 64
	for id := int64(1); id <= segments; id++ {
		s := newBuilder(7, id)
		for range entries {
			s.entry(make([]byte, 64<<10))
			s.sync()
		}
		n.segments[id] = s
		if err := n.do(fmt.Sprintf("close %d", id)); err != nil {
			t.Fatal(err)
		}
	}
	tail, err := NewTail(TailConfig{Dir: n.dir})
	if err != nil {
		t.Fatal(err)
	}
	defer tail.Close()
	count := 0
	for {
		item, ok, err := tail.Poll()
		if err != nil {
			t.Fatal(err)
		}
		if !ok {
			break
		}
		if item.Kind == Entry {
			count++
		}
		open, kept := 0, 0
		for _, s := range tail.order {
			if s.reader != nil {
				open++
				kept += cap(s.reader.w.store)
			}
		}
		if open > 1 || kept > 2*readAhead {
			t.Fatalf("%d files open, %d bytes kept", open, kept)
		}
	}
	if count != segments*entries {
		t.Fatalf("found %d entries", count)
	}
}

func TestRemoveSegment(t *testing.T) {
	n := newTestNode(t)
	for _, line := range []string{"create 1", "close 1", "create 2", "close 2", "delete 2 log"} {
		if err := n.do(line); err != nil {
			t.Fatal(err)
		}
	}
	for _, id := range []int64{1, 2, 3} {
		if err := RemoveSegment(n.dir, 7, id); err != nil {
			t.Fatal(err)
		}
	}
	if left, _ := os.ReadDir(n.dir); len(left) != 0 {
		t.Fatalf("left over: %v", left)
	}
	if err := RemoveSegment(filepath.Join(n.dir, "missing"), 7, 1); !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("found %v", err)
	}
}
