package e2e

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	gocql "github.com/apache/cassandra-gocql-driver/v2"
)

// statementKind is what a statement of the workload does.
type statementKind int

const (
	insert statementKind = iota
	update
	deleteCells
	deleteRow
	deletePartition
)

// assignment is a column with the value that a statement gives it; a nil value writes null. The columns that
// deleteCells names have nil values.
type assignment struct {
	column column
	value  cqlValue
}

// statement is one CQL statement. Sequence numbers them without a gap over the whole workload; it is also the value of
// the column seq, and with it the write time is made, so that each event and raw record leads back to its statement.
type statement struct {
	sequence int64
	table    *table
	kind     statementKind
	// partition is the partition key, clustering the clustering; the latter is nil where a statement is about the
	// partition or its static row alone.
	partition, clustering []cqlValue
	sets                  []assignment
	// timestamp is the write time in microseconds.
	timestamp int64
}

// operation is what is sent at once: a statement, or a batch of several.
type operation struct {
	statements  []*statement
	consistency gocql.Consistency
	// logged is set for batches that touch several partitions.
	logged bool
}

// phase is a part of the workload with a state of the cluster of its own.
type phase struct {
	name string
	// ordered: each operation waits until the operations on the same partitions before it are acknowledged by all
	// replicas. Otherwise operations run at once, and not in the order of their write times.
	ordered    bool
	operations []*operation
}

// tableWeights say how often each table is written to.
var tableWeights = map[string]int{"accounts": 4, "readings": 6, "orders": 6, "notes": 4, "natives": 3, "untracked": 1}

// generator makes operations. Everything follows from its seed, its base time and the calls.
type generator struct {
	r        *rand.Rand
	base     int64
	sequence int64
	weighted []*table
	// partitions is the size of the set of partition keys that an operation chooses from, firstPartition where it starts.
	firstPartition, partitions int
	// rows bounds the rows of a partition.
	rows int
	// consistencies are chosen from.
	consistencies []gocql.Consistency
}

// newGenerator makes a generator whose first write time is base + 1, in microseconds.
func newGenerator(seed uint64, base int64) *generator {
	g := &generator{r: rand.New(rand.NewPCG(seed, seed^0x9e3779b97f4a7c15)), base: base}
	for _, t := range tables {
		for range tableWeights[t.name] {
			g.weighted = append(g.weighted, t)
		}
	}
	return g
}

// ordered makes a phase of n operations at ALL, on partitions that no other phase touches, see phase.ordered.
func (g *generator) ordered(name string, n int) *phase {
	g.nextPartitions(40)
	g.consistencies = []gocql.Consistency{gocql.All}
	return &phase{name: name, ordered: true, operations: g.operations(n)}
}

// free makes a phase of n operations at ONE and QUORUM. Operations are out of order by up to 40 places, so that older
// writes arrive after newer ones on every replica, beside what concurrency does. Free phases share their partitions.
func (g *generator) free(name string, n int) *phase {
	g.consistencies = []gocql.Consistency{gocql.One, gocql.One, gocql.Quorum}
	p := &phase{name: name, operations: g.operations(n)}
	const window = 40
	for i := range p.operations {
		j := min(i+g.r.IntN(window), len(p.operations)-1)
		p.operations[i], p.operations[j] = p.operations[j], p.operations[i]
	}
	return p
}

// nextPartitions moves on to a fresh set of n partition keys a table.
func (g *generator) nextPartitions(n int) {
	g.firstPartition += g.partitions
	g.partitions = n
	g.rows = 10
}

func (g *generator) operations(n int) []*operation {
	list := make([]*operation, n)
	for i := range list {
		list[i] = g.operation()
	}
	return list
}

func (g *generator) operation() *operation {
	op := &operation{consistency: pick(g.r, g.consistencies...)}
	switch g.r.IntN(30) {
	case 0: // one partition key, several tables: one mutation
		t := pick(g.r, tableByName("orders"), tableByName("notes"))
		index := g.partitionIndex()
		op.statements = append(op.statements, g.rowStatement(t, index, 0))
		op.statements = append(op.statements, g.rowStatement(tableByName("untracked"), index, 0))
		if t.name == "orders" {
			op.statements = append(op.statements, g.rowStatement(tableByName("notes"), index, 1))
		}
	case 1: // several rows of one partition
		t := pick(g.r, tableByName("orders"), tableByName("readings"), tableByName("natives"))
		index, first := g.partitionIndex(), g.r.IntN(g.rows)
		for i := range 2 + g.r.IntN(3) {
			s := g.rowStatement(t, index, first+i)
			if i > 0 {
				// Two writes to the static row in one mutation would be one.
				s.sets = slices.DeleteFunc(s.sets, func(a assignment) bool { return t.isStatic(a.column.name) })
			}
			op.statements = append(op.statements, s)
		}
	case 2: // several partitions
		t := pick(g.r, g.weighted...)
		first := g.partitionIndex()
		for i := range 2 + g.r.IntN(2) {
			op.statements = append(op.statements, g.rowStatement(t, g.firstPartition+(first-g.firstPartition+i)%g.partitions, g.r.IntN(g.rows)))
		}
		op.logged = true
	default:
		op.statements = []*statement{g.single()}
	}
	return op
}

// single makes a statement of any kind.
func (g *generator) single() *statement {
	t := pick(g.r, g.weighted...)
	index, row := g.partitionIndex(), g.r.IntN(g.rows)
	n := g.r.IntN(100)
	switch {
	case n < 2 && len(t.clustering) > 0:
		return g.statement(t, deletePartition, index, -1)
	case n < 10 && len(t.statics) > 0:
		return g.staticStatement(t, index)
	case n < 18:
		return g.statement(t, deleteRow, index, row)
	case n < 24:
		s := g.statement(t, deleteCells, index, row)
		s.sets = g.assignments(t.regular, 0)
		if g.r.IntN(4) == 0 {
			// A row that no INSERT made ends with its last cell.
			s.sets = nil
			for _, c := range t.regular {
				s.sets = append(s.sets, assignment{column: c})
			}
		}
		return s
	}
	return g.rowStatement(t, index, row)
}

// rowStatement makes an INSERT or an UPDATE of one row.
func (g *generator) rowStatement(t *table, index, row int) *statement {
	s := g.statement(t, pick(g.r, insert, update), index, row)
	s.sets = g.assignments(t.regular, s.sequence)
	if len(t.statics) > 0 && g.r.IntN(8) == 0 {
		s.sets = append(g.assignments(t.statics, 0), s.sets...)
		g.nullSome(s.sets)
	}
	return s
}

// staticStatement writes to the static row of a partition alone.
func (g *generator) staticStatement(t *table, index int) *statement {
	s := g.statement(t, pick(g.r, update, update, deleteCells), index, -1)
	s.sets = g.assignments(t.statics, 0)
	if s.kind == update {
		g.nullSome(s.sets)
	}
	return s
}

// assignments chooses some of the columns, at least one. With a sequence number they are for a row: the column seq has
// it, the others have random values and some are null. Without, all values are nil.
func (g *generator) assignments(columns []column, sequence int64) []assignment {
	var sets []assignment
	for _, c := range columns {
		switch {
		case c.name == "seq" && sequence != 0:
			sets = append(sets, assignment{c, encode(c.typ, sequence)})
		case c.name != "seq" && g.r.IntN(2) == 0:
			sets = append(sets, assignment{column: c})
		}
	}
	if len(sets) == 0 {
		for _, c := range columns {
			if c.name != "seq" {
				sets = append(sets, assignment{column: c})
				break
			}
		}
	}
	if sequence != 0 {
		g.nullSome(sets)
	}
	return sets
}

// nullSome gives the columns that have no value yet one, but leaves some at null.
func (g *generator) nullSome(sets []assignment) {
	for i := range sets {
		if sets[i].value == nil && g.r.IntN(7) > 0 {
			sets[i].value = randomValue(g.r, sets[i].column.typ)
		}
	}
}

func (g *generator) partitionIndex() int { return g.firstPartition + g.r.IntN(g.partitions) }

// statement numbers a statement and gives it its key. A negative row is none.
func (g *generator) statement(t *table, kind statementKind, index, row int) *statement {
	g.sequence++
	s := &statement{sequence: g.sequence, table: t, kind: kind, timestamp: g.base + g.sequence, partition: partitionKey(t, index)}
	if row >= 0 {
		s.clustering = clusteringKey(t, row)
	}
	return s
}

// partitionKey is the index-th partition key of a table; tables with the same key columns have the same keys.
func partitionKey(t *table, index int) []cqlValue {
	switch t.name {
	case "accounts":
		return []cqlValue{encode("int", int32(index))}
	case "readings":
		return []cqlValue{encode("text", fmt.Sprintf("device %d", index/3)), encode("date", time.Date(2024, 1, 1+index%3, 0, 0, 0, 0, time.UTC))}
	case "natives":
		return []cqlValue{encode("bigint", int64(index)<<33), encode("ascii", string(rune('a'+index%5)))}
	}
	return []cqlValue{randomUUID(rand.New(rand.NewPCG(uint64(index), 7)), 4)}
}

// clusteringKey is the row-th clustering within any partition of a table.
func clusteringKey(t *table, row int) []cqlValue {
	switch t.name {
	case "accounts":
		return nil
	case "readings":
		return []cqlValue{encode("timestamp", time.UnixMilli(1_700_000_000_000+int64(row/2)*60_000)), encode("smallint", int16(row%2))}
	case "orders", "untracked":
		return []cqlValue{encode("int", int32(row-4))}
	case "notes":
		// Prefixes of each other, and an empty one.
		return []cqlValue{encode("text", strings.Repeat("é", row/2)+strings.Repeat("a", row%2))}
	case "natives":
		return []cqlValue{randomUUID(rand.New(rand.NewPCG(uint64(row), 9)), 1)}
	}
	panic("no clustering for table " + t.name)
}

// cql is the statement with its arguments.
func (s *statement) cql() (string, []any) {
	var args []any
	timestamp := s.timestamp
	var columns, assigns []string
	for _, a := range s.sets {
		columns = append(columns, a.column.name)
		assigns = append(assigns, a.column.name+" = ?")
	}
	key := s.table.partition
	if s.clustering != nil {
		key = s.table.key()
	}
	var where []string
	for _, c := range key {
		where = append(where, c.name+" = ?")
	}
	addKey := func() {
		for _, v := range s.partition {
			args = append(args, v)
		}
		for _, v := range s.clustering {
			args = append(args, v)
		}
	}
	addSets := func() {
		for _, a := range s.sets {
			args = append(args, a.value)
		}
	}
	condition := strings.Join(where, " AND ")
	switch s.kind {
	case insert:
		addKey()
		addSets()
		all := append(names(key), columns...)
		return fmt.Sprintf("INSERT INTO %s (%s) VALUES (%s) USING TIMESTAMP ?", s.table.fullName(), strings.Join(all, ", "),
			strings.TrimSuffix(strings.Repeat("?, ", len(all)), ", ")), append(args, timestamp)
	case update:
		args = append(args, timestamp)
		addSets()
		addKey()
		return fmt.Sprintf("UPDATE %s USING TIMESTAMP ? SET %s WHERE %s", s.table.fullName(), strings.Join(assigns, ", "), condition), args
	}
	args = append(args, timestamp)
	addKey()
	what := ""
	if s.kind == deleteCells {
		what = strings.Join(columns, ", ") + " "
	}
	return fmt.Sprintf("DELETE %sFROM %s USING TIMESTAMP ? WHERE %s", what, s.table.fullName(), condition), args
}

// String is the statement for people.
func (s *statement) String() string {
	query, _ := s.cql()
	var sets []string
	for _, a := range s.sets {
		v := "null"
		if a.value != nil {
			v = shorten(mustText(a.column.typ, a.value))
		}
		sets = append(sets, a.column.name+"="+v)
	}
	partition, _ := keyText(s.table.partition, s.partition)
	clustering := ""
	if s.clustering != nil {
		clustering, _ = keyText(s.table.clustering, s.clustering)
	}
	return fmt.Sprintf("#%d at %d: %s [%s / %s] %s", s.sequence, s.timestamp, strings.Fields(query)[0], partition, clustering, strings.Join(sets, " "))
}

// row is the row that the statement is about, static for one about a static row.
func (s *statement) row() rowID {
	partition, err := keyText(s.table.partition, s.partition)
	if err != nil {
		panic(err)
	}
	id := rowID{table: s.table.name, partition: partition}
	if s.clustering == nil && len(s.table.clustering) > 0 {
		id.static = true
		return id
	}
	if id.clustering, err = keyText(s.table.clustering, s.clustering); err != nil {
		panic(err)
	}
	return id
}

// rows are those that the statement writes to: its row, the static row, or both. Of the deletion of a partition it is
// the static row.
func (s *statement) rows() []rowID {
	rows := []rowID{s.row()}
	for _, a := range s.sets {
		if s.table.isStatic(a.column.name) && !rows[0].static {
			static := rows[0]
			static.static, static.clustering = true, ""
			return append(rows, static)
		}
	}
	return rows
}

// keyOfPartition names what operations of an ordered phase wait for each other on: tables with the same partition key
// count as one, since a batch over them is one mutation.
func (s *statement) keyOfPartition() string {
	key := ""
	if s.table.partition[0].name != "customer" {
		key = s.table.name
	}
	for _, v := range s.partition {
		key += fmt.Sprintf("/%x", []byte(v))
	}
	return key
}

func TestWorkloadIsAFunctionOfItsSeed(t *testing.T) {
	workload := func(seed uint64) string {
		g := newGenerator(seed, 1000)
		var b strings.Builder
		for _, p := range []*phase{g.ordered("a", 300), g.free("b", 300)} {
			for _, op := range p.operations {
				fmt.Fprintln(&b, op.consistency, op.logged)
				for _, s := range op.statements {
					fmt.Fprintln(&b, s)
				}
			}
		}
		return b.String()
	}
	if first, second := workload(1), workload(1); first != second {
		t.Error("one seed made two workloads")
	}
	if workload(1) == workload(2) {
		t.Error("two seeds made one workload")
	}
}

// TestWorkloadCovers holds the workload to what it is for: a change of the weights must not make the test of the
// product empty.
func TestWorkloadCovers(t *testing.T) {
	g := newGenerator(7, 0)
	ordered := g.ordered("ordered", 4000)
	g.nextPartitions(60)
	free := g.free("free", 4000)
	seen := map[string]int{}
	sequences := map[int64]bool{}
	partitions := map[string]string{}
	inversions := 0
	for _, p := range []*phase{ordered, free} {
		last := int64(0)
		for _, op := range p.operations {
			seen[fmt.Sprintf("%s at %v", p.name, op.consistency)]++
			if len(op.statements) > 1 {
				seen[fmt.Sprintf("%s batch, logged %t", p.name, op.logged)]++
			}
			rows := map[rowID]bool{}
			for _, s := range op.statements {
				seen[fmt.Sprintf("%s %s kind %d", p.name, s.table.name, s.kind)]++
				if sequences[s.sequence] {
					t.Fatalf("sequence number %d twice", s.sequence)
				}
				sequences[s.sequence] = true
				if s.sequence < last {
					inversions++
				}
				last = s.sequence
				if other := partitions[s.keyOfPartition()]; other != "" && other != p.name {
					t.Fatalf("partition %s is in two phases", s.keyOfPartition())
				}
				partitions[s.keyOfPartition()] = p.name
				for _, row := range s.rows() {
					if rows[row] {
						t.Fatalf("a batch has two statements on %s, which the log shows as one", row)
					}
					rows[row] = true
				}
				for _, a := range s.sets {
					state := "value"
					if a.value == nil {
						state = "null"
					}
					seen[fmt.Sprintf("%s %s", a.column.typ, state)]++
				}
			}
		}
	}
	for i := int64(1); i <= g.sequence; i++ {
		if !sequences[i] {
			t.Fatalf("sequence number %d is missing", i)
		}
	}
	if inversions == 0 {
		t.Error("the free phase is in order")
	}
	var want []string
	for _, name := range []string{"ordered", "free"} {
		for _, tab := range tables {
			for kind := insert; kind <= deletePartition; kind++ {
				if kind == deletePartition && len(tab.clustering) == 0 {
					continue
				}
				want = append(want, fmt.Sprintf("%s %s kind %d", name, tab.name, kind))
			}
		}
		want = append(want, name+" batch, logged true", name+" batch, logged false")
	}
	want = append(want, "ordered at ALL", "free at ONE", "free at QUORUM")
	for _, typ := range nativeTypes {
		want = append(want, typ+" value", typ+" null")
	}
	for _, w := range want {
		if seen[w] == 0 {
			t.Errorf("the workload has no: %s", w)
		}
	}
}
