package differential

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"

	"cassdelta/schema"
)

// generator draws a schema and writes for it. What it draws follows from the seed and the variant alone, but for the
// time of day in time stamps. It is for one goroutine.
type generator struct {
	rng      *rand.Rand
	keyspace string
	// vectors says that the version has vectors.
	vectors bool
	// lastExpiry is the last second since 1970 that the version can let something expire at. maxBlob is the length in
	// bytes that values of a mutation can have and leave room for its other ones, room what is left of that in the
	// present write.
	lastExpiry    int64
	maxBlob, room int
	// few, if not 0, is how many values of each type there are, which pool keeps by type: then writes meet. Write times
	// are few then too, from base on, and TTLs either short or long.
	few  int
	pool map[string][][]byte
	base int64
	// present says that write times are of the present phase only.
	present bool
	// now gives the time in microseconds since 1970.
	now func() int64

	deck   []schema.Kind
	udts   []*schema.Type
	grows  *schema.Type // nil if there is none
	groups []*group
	tables []*table
}

// group is tables that have the same partition key: a batch can write to several of them in one mutation.
type group struct {
	partition []column
	tables    []*table
	// keys are the partition keys that writes draw from.
	keys [][][]byte
}

// column is a column of a table.
type column struct {
	name string
	typ  *schema.Type
}

// table is a table of the schema.
type table struct {
	name       string
	group      *group
	clustering []column
	desc       []bool
	statics    []column
	regulars   []column
	counter    bool
	compact    bool
	// alters says that columns of it are dropped and added; conditional that it gets conditional writes.
	alters, conditional bool
	// options stand behind WITH.
	options string
	// values are those that writes draw from, for each clustering column.
	values [][][]byte
	// dropped are columns that could be added again, dropTimes the times of drops in microseconds. added counts the
	// columns that were not there at the start.
	dropped   []droppedColumn
	dropTimes []int64
	added     int

	templates map[writeKind][]*template
}

type droppedColumn struct {
	column
	static bool
}

func (g *generator) chance(p float64) bool { return g.rng.Float64() < p }

func pick[T any](g *generator, list []T) T { return list[g.rng.IntN(len(list))] }

// quote writes a name as CQL takes any.
func quote(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }

// strangeNames are names of columns that need quotes, sort in unusual ways, or are words of CQL.
var strangeNames = []string{
	"select", "primary", "static", "Upper", "with space", `with"quote`, "semi;colon", "-- comment", "it's", "<&>", `back\slash`,
	"ünïcode", "漢字", "🚲", "prefix_of_8", "prefix_of_8_", "prefix_of_80", "a", "B", "_", "0",
}

// columns draws columns whose names do not occur in the table yet.
func (g *generator) columns(used map[string]bool, n int, prefix string, p place) []column {
	var cs []column
	for i := range n {
		name := fmt.Sprintf("%s%d", prefix, i)
		if s := pick(g, strangeNames); g.chance(0.2) && !used[s] && (g.few == 0 || s[0] < 0x80) {
			name = s // Cassandra cannot read a table whose only multi-cell column has a name that begins beyond ASCII
		}
		used[name] = true
		cs = append(cs, column{name, g.columnType(p)})
	}
	return cs
}

// makeSchema draws the user types and tables, and gives the statements that make them.
func (g *generator) makeSchema() []string {
	g.makeUserTypes()
	for i := range 6 {
		gr := g.newGroup(1 + g.rng.IntN(3))
		for range 2 {
			t := g.randomTable(gr, fmt.Sprintf("t%d", len(g.tables)))
			switch i {
			case 0, 1:
				t.alters = true
			case 2, 3:
				t.conditional = true
			}
			if i == 5 && t.options == "" {
				t.options = pick(g, []string{"default_time_to_live = 86400", "gc_grace_seconds = 0", "cdc = false"})
			}
		}
	}
	g.nativesTable()
	g.wideTable()
	g.deepTable()
	g.counterTables()
	g.compactTables()
	statements := []string{
		fmt.Sprintf("CREATE KEYSPACE %s WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 1}", quote(g.keyspace)),
	}
	for _, t := range g.udts {
		statements = append(statements, createType(t))
	}
	for _, t := range g.tables {
		statements = append(statements, g.createTable(t))
	}
	return append(statements, g.viewTable()...)
}

func (g *generator) newGroup(n int) *group {
	gr := &group{partition: g.columns(map[string]bool{}, n, "p", inKey)}
	for range 60 {
		var key [][]byte
		for _, c := range gr.partition {
			v := g.value(c.typ)
			for len(v) == 0 && n == 1 { // a key of one column must not be empty
				v = g.value(c.typ)
			}
			key = append(key, v)
		}
		gr.keys = append(gr.keys, key)
	}
	g.groups = append(g.groups, gr)
	return gr
}

// addTable puts a table into a group and draws the values of its clustering.
func (g *generator) addTable(gr *group, t *table) *table {
	t.group, t.templates = gr, map[writeKind][]*template{}
	for range t.clustering {
		t.desc = append(t.desc, g.chance(0.5))
	}
	for _, c := range t.clustering {
		var values [][]byte
		for len(values) < 12 {
			v := g.value(c.typ)
			if len(v) > 0 || !t.compact { // which takes no empty ones
				values = append(values, v)
			}
		}
		t.values = append(t.values, values)
	}
	gr.tables = append(gr.tables, t)
	g.tables = append(g.tables, t)
	return t
}

// used are the names of a group's partition key.
func (gr *group) used() map[string]bool {
	used := map[string]bool{}
	for _, c := range gr.partition {
		used[c.name] = true
	}
	return used
}

func (g *generator) randomTable(gr *group, name string) *table {
	used := gr.used()
	t := &table{name: name}
	t.clustering = g.columns(used, g.rng.IntN(5), "c", inKey)
	if len(t.clustering) > 0 {
		t.statics = g.columns(used, g.rng.IntN(4), "s", inColumn)
	}
	t.regulars = g.columns(used, g.rng.IntN(9), "r", inColumn)
	return g.addTable(gr, t)
}

// nativesTable has a column of each native type, static and regular.
func (g *generator) nativesTable() {
	t := &table{name: "Natives", clustering: []column{{"c", g.native(inKey)}}, conditional: true}
	for _, kind := range natives {
		typ := &schema.Type{Kind: kind}
		t.statics = append(t.statics, column{"s_" + typ.CQL(), typ})
		t.regulars = append(t.regulars, column{"r_" + typ.CQL(), typ})
	}
	g.addTable(g.newGroup(1), t)
}

// wideTable has about as many columns as one word has bits, or more.
func (g *generator) wideTable() {
	gr := g.newGroup(2)
	t := &table{name: "wide", clustering: []column{{"c", g.native(inKey)}}}
	t.regulars = g.columns(gr.used(), pick(g, []int{63, 64, 65, 64 + g.rng.IntN(40)}), "r", inColumn)
	t.statics = g.columns(map[string]bool{}, 64, "s_", inValue)
	for i := range t.statics {
		t.statics[i].name = fmt.Sprintf("s_%d", i)
	}
	g.addTable(gr, t)
}

// deepTable has more clustering columns than one header of a clustering has room for.
func (g *generator) deepTable() {
	gr := g.newGroup(1)
	t := &table{name: "deep"}
	used := gr.used()
	for i := range 34 {
		name := fmt.Sprintf("c%d", i)
		used[name] = true
		t.clustering = append(t.clustering, column{name, g.native(inKey)})
	}
	t.regulars = g.columns(used, 2, "r", inColumn)
	g.addTable(gr, t)
}

func (g *generator) counterTables() {
	counter := &schema.Type{Kind: schema.KindCounter}
	gr := g.newGroup(1)
	for _, t := range []*table{
		{name: "counters", clustering: []column{{"c", g.native(inKey)}}, statics: []column{{"s", counter}}, regulars: []column{{"n", counter}, {"m", counter}}},
		{name: "plain_counters", regulars: []column{{"n", counter}}},
	} {
		t.counter = true
		g.addTable(gr, t)
	}
}

// compactTables are those of each kind that COMPACT STORAGE has: see [schema.Table.Unsupported] for why events are not
// made of them; their mutations are read all the same, as they may stand in front of others.
func (g *generator) compactTables() {
	value := func() *schema.Type { return g.native(inKey) }
	for _, t := range []*table{
		{name: "compact_dense", clustering: []column{{"c", value()}}, regulars: []column{{"v", value()}}},
		{name: "compact_composite", clustering: []column{{"c", value()}, {"d", value()}, {"e", value()}}, regulars: []column{{"v", value()}}},
		{name: "compact_keys", clustering: []column{{"c", value()}}},
		{name: "compact_static", regulars: []column{{"v", value()}, {"w", value()}, {"x", value()}}},
	} {
		t.compact = true
		t.options = "COMPACT STORAGE"
		g.addTable(g.newGroup(1), t)
	}
}

// viewTable makes a materialized view and its table, which gets few writes since each reads.
func (g *generator) viewTable() []string {
	gr := &group{partition: []column{{"p", &schema.Type{Kind: schema.KindInt}}}}
	for range 5 {
		gr.keys = append(gr.keys, [][]byte{g.integer(4)})
	}
	g.groups = append(g.groups, gr)
	t := g.addTable(gr, &table{
		name:       "viewed",
		clustering: []column{{"c", &schema.Type{Kind: schema.KindText}}},
		regulars:   []column{{"k", &schema.Type{Kind: schema.KindInt}}, {"v", g.native(inValue)}, {"w", g.nested(inColumn, 0)}},
	})
	for i := range t.values[0] {
		for len(t.values[0][i]) == 0 {
			t.values[0][i] = g.value(t.clustering[0].typ)
		}
	}
	ks := quote(g.keyspace)
	return []string{
		g.createTable(t),
		fmt.Sprintf(`CREATE MATERIALIZED VIEW %s.by_k AS SELECT * FROM %s.viewed WHERE k IS NOT NULL AND p IS NOT NULL AND c IS NOT NULL PRIMARY KEY (k, p, c)`, ks, ks),
		fmt.Sprintf(`CREATE MATERIALIZED VIEW %s.by_c AS SELECT p, c, v FROM %s.viewed WHERE p IS NOT NULL AND c IS NOT NULL PRIMARY KEY (c, p)`, ks, ks),
	}
}

// createTable is the CQL of a table. All tables have cdc on unless their options say otherwise.
func (g *generator) createTable(t *table) string {
	var b strings.Builder
	fmt.Fprintf(&b, "CREATE TABLE %s (", t.cql(g))
	names := func(cs []column) string {
		var quoted []string
		for _, c := range cs {
			quoted = append(quoted, quote(c.name))
		}
		return strings.Join(quoted, ", ")
	}
	for _, part := range []struct {
		columns []column
		suffix  string
	}{{t.group.partition, ""}, {t.clustering, ""}, {t.statics, " static"}, {t.regulars, ""}} {
		for _, c := range part.columns {
			fmt.Fprintf(&b, "%s %s%s, ", quote(c.name), c.typ.CQL(), part.suffix)
		}
	}
	fmt.Fprintf(&b, "PRIMARY KEY ((%s)", names(t.group.partition))
	if len(t.clustering) > 0 {
		fmt.Fprintf(&b, ", %s", names(t.clustering))
	}
	b.WriteString("))")
	var options []string
	if len(t.clustering) > 0 {
		var order []string
		for i, c := range t.clustering {
			order = append(order, quote(c.name)+map[bool]string{false: " ASC", true: " DESC"}[t.desc[i]])
		}
		options = append(options, fmt.Sprintf("CLUSTERING ORDER BY (%s)", strings.Join(order, ", ")))
	}
	if t.options != "" {
		options = append(options, t.options)
	}
	if !strings.Contains(t.options, "cdc") {
		options = append(options, "cdc = true")
	}
	return b.String() + " WITH " + strings.Join(options, " AND ")
}

// cql is the table's name.
func (t *table) cql(g *generator) string { return quote(g.keyspace) + "." + quote(t.name) }

// alter draws changes of the tables whose columns change, and gives their statements. What was dropped is added again
// now and then, with its type or one that its values are values of too.
func (g *generator) alter() []string {
	var statements []string
	for _, t := range g.tables {
		if !t.alters {
			continue
		}
		t.templates = map[writeKind][]*template{}
		readded := t.dropped
		t.dropped = nil
		for _, d := range readded {
			if g.chance(0.4) {
				t.dropped = append(t.dropped, d)
				continue
			}
			d.typ = g.widened(d.typ)
			statements = append(statements, g.addColumn(t, d))
		}
		statements = append(statements, g.dropColumns(t, &t.regulars, false)...)
		statements = append(statements, g.dropColumns(t, &t.statics, true)...)
		for range 1 + g.rng.IntN(2) {
			t.added++
			d := droppedColumn{column{fmt.Sprintf("added %d", t.added), g.columnType(inColumn)}, len(t.clustering) > 0 && g.chance(0.3)}
			statements = append(statements, g.addColumn(t, d))
		}
	}
	return statements
}

func (g *generator) addColumn(t *table, d droppedColumn) string {
	s := fmt.Sprintf("ALTER TABLE %s ADD %s %s", t.cql(g), quote(d.name), d.typ.CQL())
	if d.static {
		t.statics = append(t.statics, d.column)
		return s + " static"
	}
	t.regulars = append(t.regulars, d.column)
	return s
}

// dropColumns drops about a third of the columns. A multi-cell user type cannot be dropped.
func (g *generator) dropColumns(t *table, columns *[]column, static bool) []string {
	var statements []string
	var kept []column
	for _, c := range *columns {
		if c.typ.Kind == schema.KindUDT && c.typ.MultiCell() || !g.chance(0.35) {
			kept = append(kept, c)
			continue
		}
		s := fmt.Sprintf("ALTER TABLE %s DROP %s", t.cql(g), quote(c.name))
		if g.chance(0.7) {
			// The schema tables keep milliseconds; a time in the future also hides what is written later.
			hour := int64(3600e6)
			at := g.now() + pick(g, []int64{0, hour, -hour})
			at -= at % 1000
			t.dropTimes = append(t.dropTimes, at)
			s += fmt.Sprintf(" USING TIMESTAMP %d", at)
		}
		statements = append(statements, s)
		if !hasUDT(c.typ) { // whose dropped form is a tuple, which it is not compatible with
			t.dropped = append(t.dropped, droppedColumn{c, static})
		}
	}
	*columns = kept
	return statements
}

// widened gives a type that a dropped column can be added again with.
func (g *generator) widened(t *schema.Type) *schema.Type {
	wider := map[schema.Kind]schema.Kind{
		schema.KindASCII: schema.KindText, schema.KindText: schema.KindBlob, schema.KindBigint: schema.KindTimestamp,
	}
	if kind, ok := wider[t.Kind]; ok && g.chance(0.5) {
		return &schema.Type{Kind: kind}
	}
	return t
}

func hasUDT(t *schema.Type) bool {
	return t.Kind == schema.KindUDT || slices.ContainsFunc(t.Elems, hasUDT)
}
