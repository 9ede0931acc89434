package differential

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	gocql "github.com/apache/cassandra-gocql-driver/v2"

	"cassdelta/commitlog"
	"cassdelta/internal/testparts"
	"cassdelta/schema"
)

// spaceValue is the size of the values that fill cdc_raw.
const spaceValue = 60 << 10

// spaceWriter writes rows of space.captured and space.other, whose keys ascend.
type spaceWriter struct {
	t        *testing.T
	session  *gocql.Session
	captured int // the keys 0 to captured-1 were acknowledged
}

// capture writes the next row of the table with cdc.
func (w *spaceWriter) capture() error {
	err := w.session.Query("INSERT INTO space.captured (id, v) VALUES (?, ?)", w.captured, make([]byte, spaceValue)).ExecContext(w.t.Context())
	if err == nil {
		w.captured++
	}
	return err
}

// spaceReader follows a node's cdc_raw as an agent does.
type spaceReader struct {
	t        *testing.T
	dir      string
	tail     *commitlog.Tail
	decoder  *commitlog.Decoder
	mutation commitlog.Mutation
	// seen are the keys of space.captured that were read; others counts what was read of space.other by segment.
	seen   map[int]bool
	others map[int64]int
	gaps   []error
	ended  []int64
}

func newSpaceReader(t *testing.T, dir, schemaFile string) *spaceReader {
	t.Helper()
	text, err := os.ReadFile(schemaFile)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := schema.ParseCQL(schemaFile, string(text))
	if err != nil {
		t.Fatal(err)
	}
	tail, err := commitlog.NewTail(commitlog.TailConfig{Dir: dir, Mode: commitlog.Live})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tail.Close() })
	return &spaceReader{t: t, dir: dir, tail: tail, decoder: commitlog.NewDecoder(parsed.Catalog(), nil), seen: map[int]bool{}, others: map[int64]int{}}
}

// read reads what there is, and removes finished segments.
func (r *spaceReader) read() {
	r.t.Helper()
	for r.one() {
	}
}

// one reads one item; it reports whether there was one.
func (r *spaceReader) one() bool {
	r.t.Helper()
	item, ok, err := r.tail.Poll()
	if err != nil {
		r.t.Fatal(err)
	}
	if !ok {
		return false
	}
	switch item.Kind {
	case commitlog.Entry:
		if r.decoder.Decode(item.Version, item.Payload, item.Position, &r.mutation) != nil {
			return true // of the system's tables
		}
		for _, u := range r.mutation.Updates {
			switch u.Table.Name {
			case "captured":
				key, err := u.Table.PartitionKeyColumns()[0].Type.Decode(u.Key)
				if err != nil {
					r.t.Fatal(err)
				}
				r.seen[int(key.(int32))] = true
			case "other":
				r.others[item.Segment]++
			}
		}
	case commitlog.SegmentEnd:
		if item.Err != nil {
			r.t.Fatal(item.Err)
		}
		r.ended = append(r.ended, item.Segment)
		if err := commitlog.RemoveSegment(r.dir, item.Version, item.Segment); err != nil {
			r.t.Fatal(err)
		}
	case commitlog.Gap:
		r.gaps = append(r.gaps, item.Err)
	default:
		r.t.Fatalf("found %+v", item)
	}
	return true
}

// missing are the acknowledged keys that were not read.
func (r *spaceReader) missing(acknowledged int) (keys []int) {
	for key := range acknowledged {
		if !r.seen[key] {
			keys = append(keys, key)
		}
	}
	return keys
}

// newestSegment is the greatest id of a segment in a directory that has more than its header: that being written.
func newestSegment(t *testing.T, dir string) int64 {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(dir, "CommitLog-*.log"))
	if err != nil {
		t.Fatal(err)
	}
	newest := int64(0)
	for _, path := range paths {
		_, id, _ := commitlog.ParseSegmentName(filepath.Base(path))
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		r := commitlog.NewBytesReader(path, b)
		r.Extend(int64(len(b)), commitlog.Limit{Offset: commitlog.NoOffset})
		if _, _, err := r.Next(); err == nil {
			newest = max(newest, id)
		}
	}
	return newest
}

// eventually asks until the answer is yes.
func eventually(t *testing.T, what string, ask func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for ticker := time.NewTicker(20 * time.Millisecond); !ask(); {
		select {
		case <-ctx.Done():
			t.Fatalf("after a minute still not: %s", what)
		case <-ticker.C:
		}
	}
}

// TestSpaceRunsOut fills cdc_raw up to cdc_total_space, once with cdc_block_writes and once without.
//
// With it the node refuses writes to tables with cdc; the segment that it writes has no link in cdc_raw, and takes other
// writes. When space is freed the very same segment gets its link, with what it has by then, and all that was acknowledged is
// read. Without it the node deletes the oldest segments, read or not, and every loss shows as a gap.
func TestSpaceRunsOut(t *testing.T) {
	dir := keptDir(t)
	cluster, err := testparts.StartCassandra(t.Context(), testparts.CassandraOptions{
		Version: "5.0", Dir: dir, CDC: true, SyncPeriod: 100 * time.Millisecond, ExtraYAML: map[string]any{"cdc_total_space": "4MiB"},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer cluster.Close()
	node := cluster.Nodes[0]
	schemaFile := filepath.Join(dir, "schema.cql")
	w := &spaceWriter{t: t}
	connect := func() {
		t.Helper()
		if w.session, err = node.Session(); err != nil {
			t.Fatal(err)
		}
	}
	connect()
	for _, cql := range []string{
		"CREATE KEYSPACE space WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 1}",
		"CREATE TABLE space.captured (id int PRIMARY KEY, v blob) WITH cdc = true",
		"CREATE TABLE space.other (id int PRIMARY KEY, v blob)",
	} {
		if err := exec(t.Context(), w.session, cql); err != nil {
			t.Fatal(err)
		}
	}
	if err := describe(t.Context(), w.session, "space", schemaFile); err != nil {
		t.Fatal(err)
	}
	r := newSpaceReader(t, node.CDCRawDir(), schemaFile)

	// Until it is full.
	var refused error
	for refused == nil && w.captured < 500 {
		refused = w.capture()
	}
	log, err := os.ReadFile(node.LogPath)
	if err != nil {
		t.Fatal(err)
	}
	if refused == nil || !strings.Contains(string(log), "Rejecting mutation to keyspace space. Free up space in") {
		t.Fatalf("after %d writes: expected that the node refuses one for want of space, found %v", w.captured, refused)
	}
	t.Logf("%d writes, then: %v", w.captured, refused)
	const others = 3
	for i := range others {
		if err := w.session.Query("INSERT INTO space.other (id, v) VALUES (?, ?)", i, make([]byte, spaceValue)).ExecContext(t.Context()); err != nil {
			t.Fatalf("a table without cdc: %v", err)
		}
	}
	var forbidden int64
	eventually(t, "the segment being written holds the other writes", func() bool {
		forbidden = newestSegment(t, node.CommitLogDir())
		_, err := os.Stat(filepath.Join(node.CDCRawDir(), commitlog.SegmentName(commitlog.Version40, forbidden)))
		return os.IsNotExist(err)
	})
	if err := w.capture(); err == nil {
		t.Error("the node takes a write again, though nothing was freed")
	}

	// An agent reads, and frees space.
	full := w.captured
	eventually(t, "what was acknowledged is read", func() bool { r.read(); return len(r.missing(full)) == 0 })
	if len(r.ended) == 0 {
		t.Fatal("no segment was finished")
	}
	eventually(t, "the node takes writes", func() bool { return w.capture() == nil })
	if _, err := os.Stat(filepath.Join(node.CDCRawDir(), commitlog.SegmentName(commitlog.Version40, forbidden))); err != nil {
		t.Errorf("the segment that had no link has none now: %v", err)
	}
	eventually(t, "the write is read, and those that stand before it", func() bool {
		r.read()
		return len(r.missing(w.captured)) == 0 && r.others[forbidden] == others
	})
	if len(r.gaps) > 0 {
		t.Errorf("nothing was deleted, and these are gaps: %v", r.gaps)
	}

	// Without blocking.
	w.session.Close()
	if err := node.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := node.Configure(map[string]any{"cdc_block_writes": false}); err != nil {
		t.Fatal(err)
	}
	if err := node.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.read()
	connect()
	defer w.session.Close()
	first := w.captured
	write := func(n int) {
		t.Helper()
		for range n {
			if err := w.capture(); err != nil {
				t.Fatalf("after %d writes: %v", w.captured-first, err)
			}
		}
	}
	write(5)
	eventually(t, "the first writes are read", func() bool { r.read(); return len(r.missing(w.captured)) == 0 })
	// The reader sees a few segments, and then does not keep up.
	write(40)
	var indices []string
	eventually(t, "there are a few segments with an index", func() bool {
		var err error
		if indices, err = filepath.Glob(filepath.Join(node.CDCRawDir(), "*_cdc.idx")); err != nil {
			t.Fatal(err)
		}
		return len(indices) >= 2
	})
	r.one()
	write(150)
	if err := node.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	vanished := 0
	for _, index := range indices {
		if _, err := os.Stat(index); os.IsNotExist(err) {
			vanished++
		}
	}
	r.read()
	missing := r.missing(w.captured)
	t.Logf("without blocking: of %d writes %d are lost; %d of %d segments that were seen have vanished, %d gaps: %v", w.captured-first,
		len(missing), vanished, len(indices), len(r.gaps), r.gaps)
	// The segment that was open when it vanished is read to its end.
	if len(missing) == 0 || vanished == 0 || len(r.gaps) < vanished-1 {
		t.Error("expected that the node deleted what was not read, and a gap for each segment that was seen and vanished")
	}
	for _, err := range r.gaps {
		if gap := (*commitlog.GapError)(nil); !errors.As(err, &gap) {
			t.Errorf("a gap with the error %v", err)
		}
	}
}
