package differential

import (
	"encoding/binary"
	"fmt"
	"math"
	"strings"

	"cassdelta/schema"
)

// writeKind is a kind of statement.
type writeKind int

const (
	insert writeKind = iota
	insertStatic
	update
	deleteColumns
	deleteRow
	deleteRange
	deletePartition
	writeKinds
)

// mostTemplates bounds the statements of one kind for a table, so that the driver and the node can keep all of them
// prepared.
var mostTemplates = [writeKinds]int{insert: 5, insertStatic: 2, update: 7, deleteColumns: 3, deleteRow: 2, deleteRange: 7, deletePartition: 2}

// template is a statement with what draws its values.
type template struct {
	cql   string
	binds []bind
	// conditional says that it is a conditional write.
	conditional bool
}

// bind draws the value of a bind marker, given the partition key.
type bind func(key [][]byte) value

// statement is a template with values.
type statement struct {
	cql         string
	values      []value
	conditional bool
}

// statement draws a write to a partition of the table.
func (g *generator) statement(t *table, key [][]byte, conditional bool) statement {
	var tm *template
	for tm == nil {
		tm = g.template(t, g.writeKind(t), conditional)
	}
	s := statement{cql: tm.cql, conditional: tm.conditional}
	for _, b := range tm.binds {
		s.values = append(s.values, b(key))
	}
	return s
}

func (g *generator) writeKind(t *table) writeKind {
	kinds := []writeKind{insert, insert, insert, update, update, update, update, deleteColumns, deleteRow, deletePartition}
	if t.counter {
		kinds = []writeKind{update, update, update, update, update, update, update, update, deleteColumns, deleteRow}
	}
	if g.few > 0 && (t.counter || g.chance(0.4)) {
		// What follows the deletion of a counter is not defined in Cassandra. Of others, more is to stay than goes.
		kinds = []writeKind{insert, update}
	}
	if len(t.clustering) > 0 && !t.counter {
		kinds = append(kinds, insertStatic, deleteRange, deleteRange)
	}
	return pick(g, kinds)
}

// template gives a statement of a kind: a new one as long as there are few, then one of those. It is nil if the table
// has no statement of that kind.
func (g *generator) template(t *table, kind writeKind, conditional bool) *template {
	if conditional {
		return g.newTemplate(t, kind, true)
	}
	known := t.templates[kind]
	if len(known) > 0 && (len(known) >= mostTemplates[kind] || g.chance(0.8)) {
		return pick(g, known)
	}
	tm := g.newTemplate(t, kind, false)
	if tm != nil {
		t.templates[kind] = append(known, tm)
	}
	return tm
}

// builder puts a statement together.
type builder struct {
	g *generator
	t *table
	b strings.Builder
	template
}

func (b *builder) add(format string, args ...any) { fmt.Fprintf(&b.b, format, args...) }

func (b *builder) bind(f bind) { b.binds = append(b.binds, f) }

func (g *generator) newTemplate(t *table, kind writeKind, conditional bool) *template {
	b := &builder{g: g, t: t}
	b.conditional = conditional
	ok := true
	switch kind {
	case insert:
		ok = b.insert(false)
	case insertStatic:
		ok = len(t.statics) > 0 && b.insert(true)
	case update:
		ok = b.update()
	case deleteColumns:
		ok = b.deleteColumns()
	case deleteRow:
		b.delete("", len(t.clustering))
	case deleteRange:
		ok = !conditional && !t.compact && b.deleteRange()
	case deletePartition:
		ok = !conditional
		b.delete("", 0)
	}
	if !ok {
		return nil
	}
	b.cql = b.b.String()
	return &b.template
}

// some draws a part of the columns: all, one, about half or none of them.
func (b *builder) some(columns []column) []column {
	p := pick(b.g, []float64{0, 0.03, 0.5, 0.5, 0.95, 1})
	var cs []column
	for _, c := range columns {
		if b.g.chance(p) {
			cs = append(cs, c)
		}
	}
	b.g.rng.Shuffle(len(cs), func(i, j int) { cs[i], cs[j] = cs[j], cs[i] })
	return cs
}

func (b *builder) insert(static bool) bool {
	if b.t.counter {
		return false
	}
	var names []string
	for i, c := range b.t.group.partition {
		names = append(names, quote(c.name))
		b.bind(func(key [][]byte) value { return value{bytes: key[i]} })
	}
	if !static {
		n := len(b.t.clustering)
		if b.t.compact && n > 1 && b.g.chance(0.3) { // the others are null
			n = 1 + b.g.rng.IntN(n-1)
		}
		for i, c := range b.t.clustering[:n] {
			names = append(names, quote(c.name))
			b.bind(b.clusteringValue(i))
		}
	}
	columns := b.some(b.t.statics)
	if !static {
		columns = append(columns, b.some(b.t.regulars)...)
	}
	if static && len(columns) == 0 {
		columns = b.t.statics
	}
	if b.t.compact && (len(b.t.clustering) > 0 || len(columns) == 0) {
		columns = b.t.regulars // which must be written
	}
	for _, c := range columns {
		names = append(names, quote(c.name))
		b.bind(b.value(c.typ))
	}
	b.add("INSERT INTO %s (%s) VALUES (?%s)", b.t.cql(b.g), strings.Join(names, ", "), strings.Repeat(", ?", len(names)-1))
	if b.conditional {
		b.add(" IF NOT EXISTS")
		return true
	}
	b.using(true)
	return true
}

// using draws USING TIMESTAMP and TTL.
func (b *builder) using(ttl bool) {
	g := b.g
	var parts []string
	if g.chance(0.6) && !b.t.counter && !b.conditional {
		parts = append(parts, "TIMESTAMP ?")
		b.bind(func([][]byte) value { return number(8, g.timestamp(b.t)) })
	}
	if g.chance(0.35) && ttl && !b.t.counter {
		parts = append(parts, "TTL ?")
		b.bind(func([][]byte) value { return number(4, g.ttl()) })
	}
	if len(parts) > 0 {
		b.add(" USING %s", strings.Join(parts, " AND "))
	}
}

// timestamp draws a write time: near now, at the drop of a column, or anything up to the extremes. The least number of
// all stands for none.
func (g *generator) timestamp(t *table) int64 {
	if g.few > 0 {
		return g.fewTimestamps(t)
	}
	if len(t.dropTimes) > 0 && g.chance(0.1) {
		return pick(g, t.dropTimes) + int64(g.rng.IntN(3)-1)
	}
	switch g.rng.IntN(12) {
	case 0:
		return int64(g.rng.IntN(2001) - 1000)
	case 1:
		return pick(g, []int64{math.MinInt64 + 1, math.MinInt64 + 2, math.MaxInt64, math.MaxInt64 - 1, 1442880000000000, 1442879999999999})
	case 2:
		return int64(g.rng.Uint64())&math.MaxInt64 - 1<<62
	}
	return g.now() + g.rng.Int64N(1e6) - 5e5
}

// fewTimestamps draws one of a few write times, most of them in the present phase. Of a table whose columns are dropped
// none is in the future: Cassandra cannot read a cell that is newer than the drop of its column.
func (g *generator) fewTimestamps(t *table) int64 {
	switch n := g.rng.IntN(50); {
	case g.present:
	case n == 0 && !t.alters:
		return g.now() + 3600e6
	case n == 1 && !t.alters:
		return pick(g, []int64{math.MaxInt64, math.MaxInt64 - 1})
	case n == 2:
		return int64(g.rng.IntN(5) - 2)
	case n < 15:
		return g.now() - g.rng.Int64N(1e6)
	}
	return g.base + int64(g.rng.IntN(8))
}

// number is an integer of size bytes.
func number(size int, n int64) value {
	return value{bytes: binary.BigEndian.AppendUint64(nil, uint64(n))[8-size:]}
}

// longestTTL is what Cassandra takes at most, in seconds. Source: Attributes.MAX_TTL.
const longestTTL = 20 * 365 * 86400

// ttl draws a TTL in seconds. It leaves a write half a minute to arrive.
func (g *generator) ttl() int64 {
	if g.few > 0 {
		return pick(g, []int64{0, 1, 3, shortTTL, longTTL, 2 * longTTL})
	}
	longest := min(longestTTL, g.lastExpiry-g.now()/1e6-30)
	return pick(g, []int64{0, 1, 60, 86400, 86400, longest, 1 + g.rng.Int64N(longest)})
}

// value draws the values of a column: now and then null or unset, seldom very long.
func (b *builder) value(t *schema.Type) bind {
	g := b.g
	required := b.t.compact
	return func([][]byte) value {
		switch {
		case required:
			return value{bytes: g.value(t)}
		case g.chance(0.06):
			return value{}
		case g.chance(0.05):
			return value{unset: true}
		case (t.Kind == schema.KindBlob || t.Kind == schema.KindText) && g.chance(0.002) && g.room > 0:
			return value{bytes: g.large()}
		}
		return value{bytes: g.value(t)}
	}
}

// large draws a text of up to as many bytes as there is room for: the shorter, the more often.
func (g *generator) large() []byte {
	n := int(math.Exp(g.rng.Float64() * math.Log(float64(g.room))))
	g.room -= n
	b := make([]byte, n)
	for i := range b {
		b[i] = byte('a' + i%26)
	}
	return b
}

// element draws values that cannot be null.
func (b *builder) element(t *schema.Type) bind {
	g := b.g
	return func([][]byte) value { return value{bytes: g.value(t)} }
}

func (b *builder) clusteringValue(i int) bind {
	g, values := b.g, b.t.values[i]
	return func([][]byte) value { return value{bytes: pick(g, values)} }
}

// where appends the condition on the partition key and on the first n clustering columns.
func (b *builder) where(n int) {
	b.add(" WHERE ")
	for i, c := range b.t.group.partition {
		if i > 0 {
			b.add(" AND ")
		}
		b.add("%s = ?", quote(c.name))
		b.bind(func(key [][]byte) value { return value{bytes: key[i]} })
	}
	for i, c := range b.t.clustering[:n] {
		b.add(" AND %s = ?", quote(c.name))
		b.bind(b.clusteringValue(i))
	}
}

func (b *builder) update() bool {
	regulars, statics := b.some(b.t.regulars), b.some(b.t.statics)
	if len(b.t.clustering) > 0 && len(regulars) > 0 && len(statics) > 0 && b.conditional {
		statics = nil
	}
	columns := append(statics, regulars...)
	if len(columns) == 0 {
		if len(b.t.regulars) == 0 {
			return false
		}
		regulars = b.t.regulars[:1]
		columns = regulars
	}
	b.add("UPDATE %s", b.t.cql(b.g))
	b.using(true)
	b.add(" SET ")
	for i, c := range columns {
		if i > 0 {
			b.add(", ")
		}
		b.assignment(c)
	}
	n := len(b.t.clustering)
	if len(regulars) == 0 {
		n = 0
	}
	b.where(n)
	if b.conditional {
		b.condition(columns[0])
	}
	return true
}

// assignment appends how a column is set. Those that Cassandra reads for, it does not get: a column that was dropped and
// written in the future breaks its reads.
func (b *builder) assignment(c column) {
	name := quote(c.name)
	g := b.g
	if b.t.counter {
		b.add("%s = %s + ?", name, name)
		b.bind(func([][]byte) value { return number(8, int64(g.rng.IntN(2001)-1000)) })
		return
	}
	if !c.typ.MultiCell() || g.chance(0.3) {
		b.add("%s = ?", name)
		b.bind(b.value(c.typ))
		return
	}
	switch c.typ.Kind {
	case schema.KindUDT:
		i := g.rng.IntN(len(c.typ.Fields))
		b.add("%s.%s = ?", name, quote(c.typ.Fields[i]))
		b.bind(b.value(c.typ.Elems[i]))
	case schema.KindList:
		b.add(pick(g, []string{"%s = %s + ?", "%s = ? + %[1]s"}), name, name)
		b.bind(b.element(c.typ))
	case schema.KindSet:
		b.add("%s = %s %s ?", name, name, pick(g, []string{"+", "-"}))
		b.bind(b.element(c.typ))
	case schema.KindMap:
		switch g.rng.IntN(3) {
		case 0:
			b.add("%s = %s + ?", name, name)
			b.bind(b.element(c.typ))
		case 1:
			b.add("%s = %s - ?", name, name)
			b.bind(b.element(&schema.Type{Kind: schema.KindSet, Elems: c.typ.Elems[:1]}))
		default:
			b.add("%s[?] = ?", name)
			b.bind(b.element(c.typ.Elems[0]))
			b.bind(b.value(c.typ.Elems[1]))
		}
	}
}

// condition appends the condition of a conditional update or deletion.
func (b *builder) condition(c column) {
	if b.g.chance(0.5) {
		b.add(" IF EXISTS")
		return
	}
	b.add(" IF %s %s ?", quote(c.name), pick(b.g, []string{"=", "!="}))
	b.bind(func([][]byte) value { return value{} })
}

// delete appends a deletion of what, "" for all, below a prefix of the clustering.
func (b *builder) delete(what string, n int) {
	b.add("DELETE %s FROM %s", what, b.t.cql(b.g))
	b.using(false)
	b.where(n)
	if b.conditional && what == "" {
		b.add(" IF EXISTS")
	}
}

func (b *builder) deleteColumns() bool {
	columns, n := b.some(b.t.regulars), len(b.t.clustering)
	if b.g.chance(0.3) {
		columns, n = b.some(b.t.statics), 0
	}
	if len(columns) == 0 || b.t.compact && n > 0 {
		return false
	}
	var what []string
	for _, c := range columns {
		name := quote(c.name)
		if !c.typ.MultiCell() || b.g.chance(0.5) {
			what = append(what, name)
			continue
		}
		switch c.typ.Kind {
		case schema.KindUDT:
			what = append(what, name+"."+quote(pick(b.g, c.typ.Fields)))
		case schema.KindSet, schema.KindMap:
			what = append(what, name+"[?]")
			b.bind(b.element(c.typ.Elems[0]))
		default:
			what = append(what, name)
		}
	}
	b.delete(strings.Join(what, ", "), n)
	if b.conditional {
		b.condition(columns[0])
	}
	return true
}

// deleteRange appends a deletion of rows by a prefix, a range of one or more columns, or a list of values.
func (b *builder) deleteRange() bool {
	n := len(b.t.clustering)
	if n == 0 {
		return false
	}
	g := b.g
	prefix := g.rng.IntN(n)
	if g.chance(0.2) {
		b.delete("", prefix)
		return true
	}
	b.delete("", prefix)
	rest := b.t.clustering[prefix:]
	if g.chance(0.15) {
		b.add(" AND %s IN (?, ?)", quote(rest[0].name))
		b.bind(b.clusteringValue(prefix))
		b.bind(b.clusteringValue(prefix))
		return true
	}
	lower, upper := pick(g, []string{">", ">="}), pick(g, []string{"<", "<="})
	bounds := pick(g, [][]string{{lower}, {upper}, {lower, upper}})
	columns := 1
	// A comparison of several columns at once needs one order for all of them to be a single range.
	for g.chance(0.4) && columns < len(rest) && b.t.desc[prefix+columns] == b.t.desc[prefix] {
		columns++
	}
	var names []string
	for _, c := range rest[:columns] {
		names = append(names, quote(c.name))
	}
	for _, bound := range bounds {
		b.add(" AND (%s) %s (?%s)", strings.Join(names, ", "), bound, strings.Repeat(", ?", columns-1))
		for i := range columns {
			b.bind(b.clusteringValue(prefix + i))
		}
	}
	return true
}
