package differential

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"flag"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"cassdelta/commitlog"
	"cassdelta/dedup"
	"cassdelta/internal/rawtopic"
	"cassdelta/internal/testparts"
	"cassdelta/schema"
	"cassdelta/state"
)

var (
	mergeCases = flag.Int("merges", 3000, "random rows of TestMergeAgainstCassandra, for each version")
	orderCases = flag.Int("orders", 3000, "pairs of random values of TestMergeAgainstCassandra, for each version")
	mergeSeed  = flag.Uint64("merge-seed", seed, "what the random rows and values of TestMergeAgainstCassandra follow from")
)

// TestMergeAgainstCassandra merges random rows with the fold and with Cassandra's own classes, Row.Merger and Rows.merge, and
// compares what lives after each; and it orders random values of every type by the comparable forms that are the keys of
// the state, and by Cassandra's comparators. The rows are full of ties:
//
//	go test ./internal/differential -run TestMergeAgainstCassandra -v -merges 1000000 -orders 1000000
func TestMergeAgainstCassandra(t *testing.T) {
	for _, v := range versions {
		t.Run(v.name, func(t *testing.T) {
			program, err := testparts.CompileJava(t.Context(), "cassandra-"+v.cassandra, os.DirFS("merging"))
			if err != nil {
				t.Fatal(err)
			}
			dir := keptDir(t)
			config := filepath.Join(dir, "cassandra.yaml")
			if err := os.WriteFile(config, []byte(mergeConfig), 0o644); err != nil {
				t.Fatal(err)
			}
			cmd := program.Command(t.Context(), "MergeOracle", []string{"cassandra.config=file://" + config, "cassandra.storagedir=" + dir})
			questions, err := cmd.StdinPipe()
			if err != nil {
				t.Fatal(err)
			}
			answers, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			var complaints bytes.Buffer
			cmd.Stderr = &complaints
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			asked := make(chan error, 1)
			go func() {
				out := bufio.NewWriterSize(questions, 1<<16)
				newMergeRun(v).ask(out)
				asked <- out.Flush()
				questions.Close()
			}()
			run := newMergeRun(v)
			run.check(t, answers)
			if _, err := io.Copy(io.Discard, answers); err != nil {
				t.Error(err)
			}
			if err := <-asked; err != nil {
				t.Error(err)
			}
			if err := cmd.Wait(); err != nil {
				t.Fatalf("%v\n%s", err, complaints.Bytes())
			}
			t.Logf("seed %d: %d rows in %d merges, %d of them with a row that exists; %d pairs of values, %d of them equal in other bytes",
				*mergeSeed, *mergeCases, run.merges, run.exist, *orderCases, run.equal)
			if run.exist == 0 || run.exist == run.merges || run.equal == 0 {
				t.Error("some kind of case did not occur")
			}
		})
	}
}

// mergeConfig is what the classes ask for, in the form of 4.0, which later versions take as well.
const mergeConfig = `
partitioner: org.apache.cassandra.dht.Murmur3Partitioner
endpoint_snitch: SimpleSnitch
commitlog_sync: periodic
commitlog_sync_period_in_ms: 10000
seed_provider:
  - class_name: org.apache.cassandra.locator.SimpleSeedProvider
    parameters: [{seeds: 127.0.0.1}]
`

// mergeRun draws the questions: two of one seed draw the same.
type mergeRun struct {
	v version
	g *generator
	// Counts of what was checked.
	merges, exist, equal int
}

func newMergeRun(v version) *mergeRun {
	return &mergeRun{v: v, g: &generator{rng: rand.New(rand.NewPCG(*mergeSeed, 0)), vectors: v.vectors, keyspace: "ks", udts: []*schema.Type{tuple}}}
}

// tuple stands for user types, which have no other order.
var tuple = &schema.Type{Kind: schema.KindTuple, Elems: []*schema.Type{{Kind: schema.KindInt}, {Kind: schema.KindText}}, Frozen: true}

var (
	mergeTable = mergeTableOf("t", "a blob", "b blob", "l list<blob>", "m map<decimal, blob>", "s set<int>", "u place")
	countTable = mergeTableOf("counters", "n counter", "o counter")
)

// mergeTableOf is a table with a clustering column and these regular ones.
func mergeTableOf(name string, columns ...string) *schema.Table {
	place := &schema.Type{Kind: schema.KindUDT, Keyspace: "ks", Name: "place", Fields: []string{"a", "b", "c"},
		Elems: []*schema.Type{{Kind: schema.KindInt}, {Kind: schema.KindText}, {Kind: schema.KindInt}}}
	spec := schema.Table{Keyspace: "ks", Name: name, Flags: []string{"compound"}, CDC: true, GCGraceSeconds: 864000, AlteredAt: 1}
	copy(spec.ID[:], name)
	spec.Columns = append(spec.Columns,
		schema.Column{Name: "k", Kind: schema.PartitionKey, Type: &schema.Type{Kind: schema.KindInt}},
		schema.Column{Name: "c", Kind: schema.Clustering, Type: &schema.Type{Kind: schema.KindInt}})
	for _, column := range columns {
		name, typ, _ := strings.Cut(column, " ")
		parsed, err := schema.ParseType(typ, func(string) *schema.Type { return place })
		if err != nil {
			panic(err)
		}
		spec.Columns = append(spec.Columns, schema.Column{Name: name, Kind: schema.Regular, Type: parsed})
	}
	t, err := schema.NewTable(spec)
	if err != nil {
		panic(err)
	}
	return t
}

// ask writes all questions.
func (m *mergeRun) ask(w io.Writer) {
	for _, t := range []*schema.Table{mergeTable, countTable} {
		for _, c := range t.RegularColumns() {
			fmt.Fprintf(w, "column\t%s\t%s\n", c.Name, strings.TrimPrefix(c.Type.CQL(), "ks."))
		}
	}
	for range *orderCases {
		typ, a, b := m.values()
		fmt.Fprintf(w, "compare\t%s\tx%x\tx%x\n", typ.CQL(), a, b)
	}
	for range *mergeCases {
		fmt.Fprint(w, "merge\t")
		table, writes := m.writes()
		for i := range writes {
			m.words(w, table, &writes[i])
		}
		fmt.Fprintln(w)
	}
}

// check reads the answers.
func (m *mergeRun) check(t *testing.T, answers io.Reader) {
	lines := bufio.NewScanner(answers)
	lines.Buffer(nil, 1<<20)
	next := func() (string, bool) {
		for lines.Scan() {
			if answer, ok := strings.CutPrefix(lines.Text(), "= "); ok {
				return answer, true
			}
		}
		t.Errorf("Cassandra's answers end too early: %v", lines.Err())
		return "", false
	}
	for i := 0; i < *orderCases && !t.Failed(); i++ {
		typ, a, b := m.values()
		answer, ok := next()
		if !ok {
			return
		}
		if answer == "none" && strings.Contains(typ.CQL(), "decimal") {
			continue // it finds decimals of a scale alone valid, and cannot compare them
		}
		x, err := typ.AppendComparable(nil, a, false)
		if err != nil {
			t.Fatal(err)
		}
		y, err := typ.AppendComparable(nil, b, false)
		if err != nil {
			t.Fatal(err)
		}
		if found := bytes.Compare(x, y); fmt.Sprint(found) != answer || typ.Compare(a, b) != found {
			t.Errorf("pair %d: %s %x and %x: the forms %x and %x are in the order %d, the values in the order %d, expected %s",
				i, typ.CQL(), a, b, x, y, found, typ.Compare(a, b), answer)
		} else if found == 0 && !bytes.Equal(a, b) {
			m.equal++
		}
	}
	f := newMergeFold(t)
	defer f.store.Close()
	for i := 0; i < *mergeCases && !t.Failed(); i++ {
		table, writes := m.writes()
		answer, ok := next()
		if !ok {
			return
		}
		steps := strings.Split(answer, ";")[1:]
		if len(steps) != len(writes) {
			t.Fatalf("row %d: %d answers, expected %d", i, len(steps), len(writes))
		}
		f.begin()
		for n := range writes {
			m.merges++
			// The two ways of Cassandra may differ only in what is left of a shadowable deletion.
			expected, other, differ := strings.Cut(steps[n], "!")
			if found := f.apply(m, table, &writes[n]); found != sortedWords(expected) || differ {
				var words strings.Builder
				for j := range writes[:n+1] {
					m.words(&words, table, &writes[j])
				}
				t.Errorf("row %d, write %d:%s\nfound         %s\nby Row.Merger %s\nby Rows.merge %s", i, n,
					strings.ReplaceAll(words.String(), "R ", "\n  R "), found, sortedWords(expected), sortedWords(other))
				break
			}
			if strings.TrimSpace(expected) != "" {
				m.exist++
			}
		}
	}
}

// sortedWords puts cells in the order of their words: Cassandra has those of one element before others.
func sortedWords(words string) string {
	cells := strings.Split(words, " C ")
	slices.Sort(cells[1:])
	return strings.Join(cells, " C ")
}

// values draws a type and two values of it, which are often close.
func (m *mergeRun) values() (typ *schema.Type, a, b []byte) {
	g := m.g
	if typ = g.native(inKey); g.chance(0.4) {
		// Of types that are known by their class only there are no events.
		for typ = g.nested(inKey, 1); strings.Contains(typ.CQL(), marshal); {
			typ = g.nested(inKey, 1)
		}
	}
	a, b = g.value(typ), g.value(typ)
	for range 8 {
		changed := bytes.Clone(a)
		switch g.rng.IntN(5) {
		case 0:
			return typ, a, b
		case 1:
			if typ.Kind == schema.KindDecimal { // one value in two forms
				scale, n := uint32(g.rng.IntN(9)-4), g.rng.IntN(25)-12
				return typ, append(binary.BigEndian.AppendUint32(nil, scale), byte(n)), append(binary.BigEndian.AppendUint32(nil, scale+1), byte(10*n))
			}
		case 2:
			if typ.Kind == schema.KindVarint && len(a) > 0 {
				return typ, a, append([]byte{byte(int8(a[0]) >> 7)}, a...)
			}
		case 3:
			changed = changed[:g.rng.IntN(len(a)+1)]
		case 4:
			if len(changed) > 0 {
				changed[g.rng.IntN(len(changed))] ^= 1 << g.rng.IntN(8)
			}
		}
		// A collection of a size below 0 is valid, and fit for no key.
		if _, err := typ.AppendComparable(nil, changed, false); err == nil && typ.Validate(changed) == nil {
			return typ, a, changed
		}
	}
	return typ, a, b
}

// mergeWrite is one row that is merged into those before it, with a deletion of the partition or of a range around it.
type mergeWrite struct {
	row    commitlog.Row
	cover  commitlog.Deletion
	ranged bool
}

// writes draws a few rows in which everything meets. What Cassandra leaves open does not occur: elements that are equal but for
// the form, deletions that differ in being shadowable alone, and, where there are such, whether what a row has is covered by its own
// deletion before it is merged or after.
func (m *mergeRun) writes() (*schema.Table, []mergeWrite) {
	g := m.g
	table := mergeTable
	if g.chance(0.2) {
		table = countTable
	}
	times, shadows := 1+g.rng.IntN(4), g.chance(0.2)
	at := func() int64 { return 10 + int64(g.rng.IntN(times)) }
	local := func() int64 {
		if g.chance(0.1) {
			return m.v.lastExpiry - int64(g.rng.IntN(2))
		}
		return 1000 + int64(g.rng.IntN(3))
	}
	deletion := func() commitlog.Deletion { return commitlog.Deletion{Timestamp: at(), LocalTime: local()} }
	var writes []mergeWrite
	for range 2 + g.rng.IntN(3) {
		w := mergeWrite{cover: commitlog.LiveDeletion, row: commitlog.Row{
			Clustering: [][]byte{{0, 0, 0, 1}}, Deletion: commitlog.LiveDeletion,
			Liveness: commitlog.Liveness{Timestamp: commitlog.NoTimestamp, ExpiresAt: commitlog.NoDeletionTime},
		}}
		if g.chance(0.1) {
			w.cover, w.ranged = deletion(), g.chance(0.5)
		}
		if g.chance(0.25) {
			w.row.Deletion = deletion()
			w.row.Shadowable = shadows && w.row.Deletion.LocalTime%2 == 0
		}
		if table == mergeTable && g.chance(0.5) {
			w.row.Liveness.Timestamp = at()
			switch {
			case g.chance(0.1):
				w.row.Liveness.TTL, w.row.Liveness.ExpiresAt = commitlog.ExpiredLivenessTTL, local()
			case g.chance(0.5):
				w.row.Liveness.ExpiresAt = local()
				w.row.Liveness.TTL = m.ttl(w.row.Liveness.ExpiresAt)
			}
		}
		columns := table.Columns[2:]
		if shadows && !w.row.Deletion.IsLive() {
			columns = nil
		}
		for i, c := range columns {
			i += 2
			if c.Type.MultiCell() && g.chance(0.2) {
				w.row.ComplexDeletions = append(w.row.ComplexDeletions, commitlog.ComplexDeletion{Column: i, Deletion: deletion()})
			}
			paths := [][]byte{nil}
			switch c.Type.Kind {
			case schema.KindList:
				paths = [][]byte{{6: 0x10, 8: 0x80, 15: 1}, {6: 0x10, 8: 0x80, 15: 2}}
			case schema.KindMap: // 1, 1.0 and 2
				paths = [][]byte{{0, 0, 0, 0, 1}, {0, 0, 0, 1, 10}, {0, 0, 0, 0, 2}}
			case schema.KindSet:
				paths = [][]byte{{0, 0, 0, 0}, {0xff, 0xff, 0xff, 0xff}}
			case schema.KindUDT:
				paths = [][]byte{{0, 0}, {0, 1}, {0, 2}}
			}
			for _, path := range paths {
				if g.chance(0.6) {
					continue
				}
				if c.Type.Kind == schema.KindMap && slices.ContainsFunc(w.row.Cells, func(d commitlog.Cell) bool {
					return d.Column == i && c.Type.ComparePaths(d.Path, path) == 0
				}) {
					continue
				}
				w.row.Cells = append(w.row.Cells, m.cell(i, &c, path, at(), local))
			}
		}
		writes = append(writes, w)
	}
	return table, writes
}

// ttl draws the TTL of what expires at a second. Where two differ in the TTL alone, 4.1 and 5.0 have the one with the shorter win, and
// 4.0 has either.
func (m *mergeRun) ttl(expiry int64) int32 {
	if m.v.name == "4.0" {
		return int32(expiry%100 + 1)
	}
	return int32(1 + m.g.rng.IntN(2))
}

// cell draws a cell. Its value says the form of its path.
func (m *mergeRun) cell(column int, c *schema.Column, path []byte, at int64, local func() int64) commitlog.Cell {
	g := m.g
	cell := commitlog.Cell{Column: column, Path: path, Timestamp: at, LocalTime: commitlog.NoDeletionTime}
	switch {
	case g.chance(0.25):
		cell.Deleted, cell.LocalTime = true, local()
		return cell
	case c.Type.Kind == schema.KindCounter:
		cell.Value = m.counter()
		return cell
	case g.chance(0.4):
		cell.LocalTime = local()
		cell.TTL = m.ttl(cell.LocalTime)
	}
	mark := byte(0)
	if len(path) > 3 {
		mark = path[3]
	}
	switch {
	case c.Type.Kind == schema.KindSet:
		cell.Value = []byte{}
	case c.Type.Kind == schema.KindUDT && path[1] != 1:
		cell.Value = []byte{0, 0, byte(g.rng.IntN(2)), mark}
	case c.Type.Kind == schema.KindUDT:
		cell.Value = []byte{'a' + byte(g.rng.IntN(2)), mark}
	default:
		// Values of which one is the beginning of another, and bytes that are less than others only without a sign.
		cell.Value = append(pick(g, [][]byte{{}, {1}, {1, 0}, {0x80}, {0x7f}}), mark)
	}
	return cell
}

// counter draws a context. Of local shards, which versions before 2.1 wrote, Cassandra adds the counts: there are none here.
func (m *mergeRun) counter() []byte {
	var header, body []byte
	n := 0
	for id := range byte(3) {
		if m.g.chance(0.4) {
			continue
		}
		if m.g.chance(0.8) { // a global shard, otherwise a remote one
			header = binary.BigEndian.AppendUint16(header, uint16(n)|1<<15)
		}
		n++
		body = append(body, bytes.Repeat([]byte{id}, 16)...)
		body = binary.BigEndian.AppendUint64(body, 1+m.g.rng.Uint64N(3))
		body = binary.BigEndian.AppendUint64(body, m.g.rng.Uint64N(4)-1)
	}
	return append(binary.BigEndian.AppendUint16(nil, uint16(len(header)/2)), append(header, body...)...)
}

// seconds is a second as this version writes that there is none.
func (m *mergeRun) seconds(at int64) int64 {
	if at == commitlog.NoDeletionTime && m.v.cassandra != "5.0" {
		return math.MaxInt32
	}
	return at
}

// words writes a row in the words of the Java program.
func (m *mergeRun) words(w io.Writer, t *schema.Table, write *mergeWrite) {
	fmt.Fprint(w, "R ")
	if r := &write.row; r.Liveness.Timestamp != commitlog.NoTimestamp {
		fmt.Fprintf(w, "L %d %d %d ", r.Liveness.Timestamp, r.Liveness.TTL, m.seconds(r.Liveness.ExpiresAt))
	}
	if r := &write.row; !r.Deletion.IsLive() {
		shadowable := 0
		if r.Shadowable {
			shadowable = 1
		}
		fmt.Fprintf(w, "D %d %d %d ", r.Deletion.Timestamp, r.Deletion.LocalTime, shadowable)
	}
	if !write.cover.IsLive() {
		fmt.Fprintf(w, "P %d %d ", write.cover.Timestamp, write.cover.LocalTime)
	}
	for _, d := range write.row.ComplexDeletions {
		fmt.Fprintf(w, "E %s %d %d ", t.Columns[d.Column].Name, d.Timestamp, d.LocalTime)
	}
	for _, c := range write.row.Cells {
		fmt.Fprintf(w, "C %s %d %d %d %s %s ", t.Columns[c.Column].Name, c.Timestamp, c.TTL, m.seconds(c.LocalTime), hexWord(c.Path), hexWord(c.Value))
	}
}

func hexWord(b []byte) string {
	if b == nil {
		return "-"
	}
	return fmt.Sprintf("x%x", b)
}

// mergeFold folds the writes.
type mergeFold struct {
	t      *testing.T
	store  *state.Store
	tx     *state.Txn
	fold   *dedup.Fold
	offset int64
}

func newMergeFold(t *testing.T) *mergeFold {
	store, err := state.Open("state", state.Identity{Topic: "raw", Partitions: 1}, state.Options{FS: vfs.NewMem()})
	if err != nil {
		t.Fatal(err)
	}
	f := &mergeFold{t: t, store: store, tx: store.Begin(), fold: dedup.NewFold(0)}
	f.record(&rawtopic.Record{Kind: rawtopic.KindInit, Init: &rawtopic.Init{Cluster: "merges", Partitions: 1, Version: 1}})
	for _, table := range []*schema.Table{mergeTable, countTable} {
		f.record(&rawtopic.Record{Kind: rawtopic.KindSchema, Schema: &rawtopic.Schema{
			Hash: table.Hash(), Definition: table.Definition(), AlteredAt: table.AlteredAt, Created: true,
		}})
	}
	if err := f.tx.Commit(state.Position{Offset: f.offset}); err != nil {
		t.Fatal(err)
	}
	f.tx = store.Begin()
	return f
}

func (f *mergeFold) record(rec *rawtopic.Record) {
	f.t.Helper()
	if _, finished, err := f.fold.Apply(f.tx, f.offset, rec, 0, math.MaxInt64, func(*dedup.Event) error { return nil }); err != nil || !finished {
		f.t.Fatal(finished, err)
	}
	f.offset++
}

// begin forgets the row before.
func (f *mergeFold) begin() {
	f.tx.Discard()
	f.fold.Reset()
	f.tx = f.store.Begin()
}

// apply folds a write, and returns what lives then, in words.
func (f *mergeFold) apply(m *mergeRun, table *schema.Table, w *mergeWrite) string {
	d := &rawtopic.Data{Schema: table.Hash(), Key: []byte{0, 0, 0, 1}, Deletion: commitlog.LiveDeletion, Rows: []commitlog.Row{w.row}}
	if w.ranged {
		bound := rawtopic.Bound{Prefix: w.row.Clustering, Inclusive: true}
		d.Ranges = []rawtopic.Range{{Start: bound, End: bound, Deletion: w.cover}}
	} else {
		d.Deletion = w.cover
	}
	f.record(&rawtopic.Record{Kind: rawtopic.KindData, Data: d})
	words := ""
	err := f.fold.Rows(f.tx, func(r *dedup.StoredRow) error {
		if l := r.Liveness; l.Timestamp != commitlog.NoTimestamp {
			words += fmt.Sprintf(" L %d %d %d", l.Timestamp, l.TTL, m.seconds(l.ExpiresAt))
		}
		for _, c := range r.Cells {
			column := &r.Table.Columns[c.Column]
			words += fmt.Sprintf(" C %s %d %d %d %s x%x", column.Name, c.Timestamp, c.TTL, m.seconds(c.LocalTime), hexWord(c.Path), c.Value)
			if column.Type.Kind == schema.KindCounter {
				total, err := schema.CounterTotal(c.Value)
				if err != nil {
					return err
				}
				words += fmt.Sprintf("=%d", total)
			}
		}
		return nil
	})
	if err != nil {
		f.t.Fatal(err)
	}
	return sortedWords(words)
}
