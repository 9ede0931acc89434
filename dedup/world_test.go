package dedup

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"cassdelta/commitlog"
	"cassdelta/internal/rawtopic"
	"cassdelta/schema"
)

// Random mutations in a small world, so that they meet: few partitions, rows, write times, values and forms of them.
const (
	worldEpoch = 1000                        // the second of the first write
	worldDrop  = worldEpoch*microseconds + 1 // when columns are dropped
)

// world is the tables that random mutations write to.
type world struct{ tables []worldTable }

// worldTable is a table with all of its definitions, in the order of their making.
type worldTable struct {
	definitions []*schema.Table
	// created says that its past is known.
	created bool
}

func newWorld(t testing.TB) *world {
	place := udt(t, "place", "a int", "b text", "c int")
	types := func(string) *schema.Type { return place }
	w := &world{}
	add := func(name string, columns ...string) *schema.Table {
		table := tableOf(t, types, name, columns...)
		w.tables = append(w.tables, worldTable{definitions: []*schema.Table{table}})
		return table
	}
	known := func(name string, columns ...string) {
		add(name, columns...)
		w.tables[len(w.tables)-1].created = true
	}
	// Little but the cells that meet.
	add("plain", "k int partition_key", "c int clustering", "v int regular", "w text regular")
	known("known", "k int partition_key", "c int clustering", "v int regular", "w text regular")
	add("single", "k int partition_key", "l list<int> regular", "m map<int,int> regular", "t text regular", "v int regular")
	known("keys", "k int partition_key", "c text desc", "s int static")
	add("elements", "k int partition_key", "c int clustering", "l list<int> regular", "m map<int,text> regular", "s set<int> static",
		"t text static", "u place regular", "v int regular", "x set<decimal> regular")
	add("views", "k int partition_key", "c int clustering", "v int regular", "w text regular")
	// Rows whose keys have several forms, and bounds on each of the prefixes.
	add("deep", "k int partition_key", "a decimal clustering", "b int desc", "c text clustering", "s int static", "v int regular")
	// Columns that are dropped, and come again.
	first := add("drops", "k int partition_key", "c int clustering", "m map<int,int> regular", "s int static", "v int regular", "w int regular")
	drop := func(from *schema.Table, at int64, names ...string) *schema.Table {
		spec := *from
		spec.AlteredAt = at
		spec.Columns = slices.DeleteFunc(slices.Clone(from.Columns), func(c schema.Column) bool {
			if slices.Contains(names, c.Name) {
				spec.Dropped = append(spec.Dropped, schema.DroppedColumn{Name: c.Name, Kind: c.Kind, Type: c.Type, DroppedAt: at})
				return true
			}
			return false
		})
		return rebuild(t, spec)
	}
	second := drop(first, worldDrop, "m", "s", "v")
	third := *second
	third.AlteredAt++
	for _, name := range []string{"m", "v"} {
		i, _ := first.ColumnIndex(name)
		third.Columns = append(slices.Clone(third.Columns), first.Columns[i])
	}
	w.tables[len(w.tables)-1].definitions = []*schema.Table{first, second, rebuild(t, third)}
	return w
}

// start is what every partition begins with: each table with its first definition.
func (w *world) start() []*rawtopic.Record {
	records := []*rawtopic.Record{initRecord()}
	for _, t := range w.tables {
		records = append(records, t.first())
	}
	return records
}

// first is the record of the first definition.
func (t *worldTable) first() *rawtopic.Record {
	rec := schemaRecord(t.definitions[0])
	rec.Schema.Created = t.created
	return rec
}

// long is a long run, over several tables.
func (w *world) long(r *rand.Rand) []*rawtopic.Record {
	records := w.start()
	for range 6 {
		m := w.mutations(r)
		var set []*rawtopic.Data
		for range 10 {
			set = append(set, m.data())
		}
		records = append(records, m.run(m.observed(set))...)
	}
	return records
}

// mutations draws writes to one table. What it may draw differs from case to case, so that some see much of little.
type mutations struct {
	r      *rand.Rand
	of     worldTable
	table  *schema.Table // the first definition
	keys   int           // partitions
	times  int           // write times
	values int           // of each column, and of each column of the clustering

	ttl, ranges, elements, partitions, disguise, extremes bool
	// shadowable is that rows are written as Cassandra 3 wrote those of views: with each liveness comes the whole row, its
	// cells as old as they are, and every deletion of a row is shadowable. Of other such rows, what a shadowable deletion
	// takes before it is void depends on what is merged first, in Cassandra too.
	shadowable bool
}

func (w *world) mutations(r *rand.Rand) *mutations {
	m := &mutations{r: r, of: w.tables[r.IntN(len(w.tables))], keys: 1 + r.IntN(2), times: 1 + r.IntN(4), values: 1 + r.IntN(3)}
	m.table = m.of.definitions[0]
	m.ttl, m.ranges, m.elements, m.partitions = m.chance(50), m.chance(50), m.chance(70), m.chance(50)
	m.disguise = m.ttl && m.chance(30)
	m.extremes = m.chance(5)
	if m.shadowable = m.table.Name == "views"; m.shadowable {
		m.ttl, m.disguise, m.ranges, m.partitions, m.times = false, false, true, true, 4
	}
	return m
}

// drops reports whether columns of the table are dropped.
func (m *mutations) drops() bool { return len(m.of.definitions) > 1 }

func (m *mutations) chance(percent int) bool { return m.r.IntN(100) < percent }

func (m *mutations) time() int64 {
	if m.extremes && m.chance(20) {
		return []int64{-1 << 62, -1, 0, 1 << 62}[m.r.IntN(4)]
	}
	return worldEpoch*microseconds + int64(m.r.IntN(m.times))
}

// local is the local deletion time of a tombstone: such that it could be the expiry of a cell, or never such.
func (m *mutations) local() int64 {
	if m.disguise {
		return worldEpoch + int64(m.r.IntN(2))
	}
	return 500_000 + int64(m.r.IntN(2))
}

func (m *mutations) deletion() commitlog.Deletion {
	return commitlog.Deletion{Timestamp: m.time(), LocalTime: m.local()}
}

// value draws a value of a type.
func (m *mutations) value(t *schema.Type) []byte {
	n := m.r.IntN(m.values)
	switch t.Kind {
	case schema.KindText:
		return []byte([]string{"", "a", "ab"}[n])
	case schema.KindDecimal: // in one of two forms
		if m.chance(50) {
			return append(intValue(1), intValue(10*n)...)
		}
		return append(intValue(0), intValue(n)...)
	}
	return intValue(n)
}

// data draws a mutation.
func (m *mutations) data() *rawtopic.Data {
	definition := m.of.definitions[m.r.IntN(len(m.of.definitions))]
	d := newData(definition, intValue(m.r.IntN(m.keys)))
	if m.partitions && m.chance(15) {
		d.Deletion = m.deletion()
	}
	clustered := len(definition.ClusteringColumns()) > 0
	if clustered && m.chance(25) {
		row := newRow()
		m.cells(definition, &row, definition.StaticColumns())
		m.dropped(definition, &row, schema.Static)
		if len(row.Cells)+len(row.ComplexDeletions) > 0 {
			d.Static = &row
		}
	}
	rows := m.r.IntN(3)
	if !clustered {
		rows = min(rows, 1)
	}
	for range rows {
		row := m.row(definition)
		if !slices.ContainsFunc(d.Rows, func(r commitlog.Row) bool { return m.compare(r.Clustering, row.Clustering) == 0 }) {
			d.Rows = append(d.Rows, row)
		}
	}
	if clustered && m.ranges && m.chance(40) {
		d.Ranges = m.someRanges()
	}
	return d
}

func (m *mutations) row(definition *schema.Table) commitlog.Row {
	row := newRow()
	for _, c := range definition.ClusteringColumns() {
		row.Clustering = append(row.Clustering, m.value(c.Type))
	}
	if m.shadowable {
		m.viewRow(definition, &row)
		return row
	}
	if m.chance(15) {
		row.Deletion = m.deletion()
	}
	at, ttl, expiry := m.cells(definition, &row, definition.RegularColumns())
	m.dropped(definition, &row, schema.Regular)
	if m.chance(50) {
		row.Liveness.Timestamp = at
		switch {
		case ttl != 0:
			row.Liveness.TTL, row.Liveness.ExpiresAt = ttl, expiry
		case m.extremes && m.chance(10):
			row.Liveness.TTL, row.Liveness.ExpiresAt = commitlog.ExpiredLivenessTTL, worldEpoch
		}
	}
	return row
}

// viewRow makes row a row of a view that is there, or one that leaves it.
func (m *mutations) viewRow(definition *schema.Table, row *commitlog.Row) {
	if m.chance(40) {
		row.Deletion, row.Shadowable = m.deletion(), true
		if m.chance(50) {
			return
		}
	}
	row.Liveness.Timestamp = m.time()
	for i, c := range definition.Columns {
		if c.Kind == schema.Regular {
			rowBuilder{definition, row}.cell(c.Name, worldEpoch*microseconds+int64(i%2), intValue(int(row.Clustering[0][3])))
		}
	}
}

// cells adds cells of some of the columns, mostly of one write, and returns what its time and TTL are.
func (m *mutations) cells(definition *schema.Table, row *commitlog.Row, columns []schema.Column) (at int64, ttl int32, expiry int64) {
	at, expiry = m.time(), commitlog.NoDeletionTime
	if m.ttl && m.chance(60) {
		ttl = int32(1 + m.r.IntN(4))
		expiry = worldEpoch + int64(ttl)
		if !m.disguise || m.chance(50) {
			expiry += int64(m.r.IntN(2))
		}
	}
	for _, c := range columns {
		if m.chance(40) {
			continue
		}
		i, _ := definition.ColumnIndex(c.Name)
		if !c.Type.MultiCell() {
			m.cell(row, i, c.Type, nil, at, ttl, expiry)
		} else if m.elements {
			m.multiCell(row, i, c.Type, at, ttl, expiry)
		}
	}
	return at, ttl, expiry
}

// cell adds a cell, now and then one of another write than the rest of the row.
func (m *mutations) cell(row *commitlog.Row, column int, typ *schema.Type, path []byte, at int64, ttl int32, expiry int64) {
	c := commitlog.Cell{Column: column, Path: path, Timestamp: at, TTL: ttl, LocalTime: expiry}
	if m.chance(15) {
		c.Timestamp = m.time()
	}
	switch {
	case m.chance(20):
		c.Deleted, c.TTL, c.LocalTime = true, 0, m.local()
	case typ == nil:
		c.Value = []byte{}
	default:
		c.Value = m.value(typ)
	}
	row.Cells = append(row.Cells, c)
}

// multiCell adds cells of elements, and the deletion of all.
func (m *mutations) multiCell(row *commitlog.Row, column int, typ *schema.Type, at int64, ttl int32, expiry int64) {
	switch {
	case m.chance(25): // as a whole
		row.ComplexDeletions = append(row.ComplexDeletions,
			commitlog.ComplexDeletion{Column: column, Deletion: commitlog.Deletion{Timestamp: at - 1, LocalTime: m.local()}})
	case m.chance(15):
		row.ComplexDeletions = append(row.ComplexDeletions, commitlog.ComplexDeletion{Column: column, Deletion: m.deletion()})
	}
	for n := range m.values {
		if m.chance(50) {
			continue
		}
		switch typ.Kind {
		case schema.KindList:
			m.cell(row, column, typ.Elems[0], listPath(uint64(n)), at, ttl, expiry)
		case schema.KindMap:
			m.cell(row, column, typ.Elems[1], intValue(n), at, ttl, expiry)
		case schema.KindUDT:
			m.cell(row, column, typ.Elems[n], []byte{0, byte(n)}, at, ttl, expiry)
		case schema.KindSet:
			path := intValue(n)
			if typ.Elems[0].Kind == schema.KindDecimal {
				path = append(intValue(m.r.IntN(2)), intValue(n)...)
				if path[3] == 1 {
					path = append(path[:4], intValue(10*n)...)
				}
			}
			m.cell(row, column, nil, path, at, ttl, expiry)
		}
	}
}

// dropped adds cells of columns that the definition knows as dropped, as the commit log has them.
func (m *mutations) dropped(definition *schema.Table, row *commitlog.Row, kind schema.ColumnKind) {
	for i, c := range definition.Dropped {
		if _, again := definition.ColumnIndex(c.Name); c.Kind == kind && !again && m.chance(40) && (m.elements || !c.Type.MultiCell()) {
			if column := len(definition.Columns) + i; c.Type.MultiCell() {
				m.multiCell(row, column, c.Type, m.time(), 0, commitlog.NoDeletionTime)
			} else {
				m.cell(row, column, c.Type, nil, m.time(), 0, commitlog.NoDeletionTime)
			}
		}
	}
}

// compare orders clusterings, and bounds as far as both go.
func (m *mutations) compare(a, b [][]byte) int {
	for i := range min(len(a), len(b)) {
		c := m.table.ClusteringColumns()[i]
		order := c.Type.Compare(a[i], b[i])
		if c.Desc {
			order = -order
		}
		if order != 0 {
			return order
		}
	}
	return 0
}

// someRanges are one or two ranges in order, with any bounds on any prefixes.
func (m *mutations) someRanges() []rawtopic.Range {
	bound := func() rawtopic.Bound {
		b := rawtopic.Bound{Inclusive: m.chance(50)}
		for _, c := range m.table.ClusteringColumns()[:m.r.IntN(len(m.table.ClusteringColumns())+1)] {
			b.Prefix = append(b.Prefix, m.value(c.Type))
		}
		return b
	}
	var ranges []rawtopic.Range
	for range 1 + m.r.IntN(2) {
		g := rawtopic.Range{Start: bound(), End: bound(), Deletion: m.deletion()}
		if order := m.compare(g.Start.Prefix, g.End.Prefix); order > 0 || order == 0 && !(g.Start.Inclusive && g.End.Inclusive) {
			continue
		}
		if n := len(ranges); n > 0 {
			// Behind the one before it, with something in between: an empty prefix is the end of the partition.
			last := ranges[n-1].End
			if len(last.Prefix) == 0 || len(g.Start.Prefix) == 0 || m.compare(last.Prefix, g.Start.Prefix) >= 0 {
				continue
			}
		}
		ranges = append(ranges, g)
	}
	return ranges
}

// halves cuts a mutation in two: each has a part of what it writes.
func (m *mutations) halves(d *rawtopic.Data) [2]*rawtopic.Data {
	var halves [2]*rawtopic.Data
	for i := range halves {
		halves[i] = newData(m.table, d.Key)
		halves[i].Schema = d.Schema
	}
	half := func() *rawtopic.Data { return halves[m.r.IntN(2)] }
	if !d.Deletion.IsLive() {
		half().Deletion = d.Deletion
	}
	for _, g := range d.Ranges {
		h := half()
		h.Ranges = append(h.Ranges, g)
	}
	cut := func(row *commitlog.Row) (cut [2]commitlog.Row) {
		for i := range cut {
			cut[i] = newRow(row.Clustering...)
		}
		part := func() *commitlog.Row { return &cut[m.r.IntN(2)] }
		part().Liveness = row.Liveness
		part().Deletion = row.Deletion
		for _, c := range row.Cells {
			p := part()
			p.Cells = append(p.Cells, c)
		}
		for _, c := range row.ComplexDeletions {
			p := part()
			p.ComplexDeletions = append(p.ComplexDeletions, c)
		}
		return cut
	}
	if d.Static != nil {
		for i, row := range cut(d.Static) {
			halves[i].Static = &row
		}
	}
	for i := range d.Rows {
		for j, row := range cut(&d.Rows[i]) {
			if !row.IsEmpty() {
				halves[j].Rows = append(halves[j].Rows, row)
			}
		}
	}
	return halves
}

// merged is two mutations of one partition and definition in one, as read repair and streams bring them; nil if they
// cannot be. What is covered in it may still be there.
func (m *mutations) merged(a, b *rawtopic.Data) *rawtopic.Data {
	if a.Schema != b.Schema || string(a.Key) != string(b.Key) || len(a.Ranges) > 0 && len(b.Ranges) > 0 {
		return nil
	}
	d := newData(m.table, a.Key)
	d.Schema = a.Schema
	d.Deletion = later(a.Deletion, b.Deletion)
	d.Ranges = append(slices.Clone(a.Ranges), b.Ranges...)
	join := func(row, other *commitlog.Row) commitlog.Row {
		joined := newRow(row.Clustering...)
		joined.Deletion = later(row.Deletion, other.Deletion)
		joined.Shadowable = row.Shadowable || other.Shadowable
		joined.Liveness = row.Liveness
		if a, b := row.Liveness, other.Liveness; b.Timestamp > a.Timestamp || b.Timestamp == a.Timestamp && b.TTL != 0 &&
			(a.TTL == 0 || b.TTL == commitlog.ExpiredLivenessTTL || a.TTL != commitlog.ExpiredLivenessTTL && b.ExpiresAt > a.ExpiresAt) {
			joined.Liveness = b
		}
		joined.Cells = append(slices.Clone(row.Cells), other.Cells...)
		joined.ComplexDeletions = append(slices.Clone(row.ComplexDeletions), other.ComplexDeletions...)
		return joined
	}
	switch {
	case a.Static == nil || b.Static == nil:
		d.Static = a.Static
		if b.Static != nil {
			d.Static = b.Static
		}
	default:
		row := join(a.Static, b.Static)
		d.Static = &row
	}
	d.Rows = slices.Clone(a.Rows)
	for i := range b.Rows {
		at := slices.IndexFunc(d.Rows, func(r commitlog.Row) bool { return m.compare(r.Clustering, b.Rows[i].Clustering) == 0 })
		if at < 0 {
			d.Rows = append(d.Rows, b.Rows[i])
		} else {
			d.Rows[at] = join(&d.Rows[at], &b.Rows[i])
		}
	}
	return d
}

func later(d, e commitlog.Deletion) commitlog.Deletion {
	if d.Timestamp > e.Timestamp || d.Timestamp == e.Timestamp && d.LocalTime > e.LocalTime {
		return d
	}
	return e
}

// observed is what arrives of a set of mutations: each at least once as a whole or in two parts, and some merged.
func (m *mutations) observed(set []*rawtopic.Data) []*rawtopic.Record {
	var records []*rawtopic.Record
	add := func(d *rawtopic.Data, host int) {
		copied := *d
		copied.Origin.Host[0] = byte(host)
		records = append(records, dataRecord(&copied))
	}
	for i, d := range set {
		copies := 1 + m.r.IntN(2)
		if m.chance(20) && !m.shadowable {
			for _, half := range m.halves(d) {
				add(half, copies)
			}
		}
		for host := range copies {
			add(d, host)
		}
		if i > 0 && m.chance(30) {
			if both := m.merged(d, set[m.r.IntN(i)]); both != nil {
				add(both, 9)
			}
		}
	}
	return records
}

// run is an order in which they arrive, with ticks if time matters, and definitions before their first use.
func (m *mutations) run(records []*rawtopic.Record) []*rawtopic.Record {
	run := slices.Clone(records)
	if m.ttl {
		for range 1 + m.r.IntN(4) {
			run = append(run, tickRecord(worldEpoch+int64(m.r.IntN(7))))
		}
	}
	m.r.Shuffle(len(run), func(i, j int) { run[i], run[j] = run[j], run[i] })
	if !m.drops() {
		return run
	}
	sent := map[schema.Hash]bool{m.table.Hash(): true}
	var with []*rawtopic.Record
	for _, rec := range run {
		if m.chance(10) {
			with = append(with, schemaRecord(m.of.definitions[m.r.IntN(len(m.of.definitions))]))
		}
		if rec.Kind == rawtopic.KindData && !sent[rec.Data.Schema] {
			sent[rec.Data.Schema] = true
			i := slices.IndexFunc(m.of.definitions, func(t *schema.Table) bool { return t.Hash() == rec.Data.Schema })
			with = append(with, schemaRecord(m.of.definitions[i]))
		}
		with = append(with, rec)
	}
	for _, t := range m.of.definitions {
		with = append(with, schemaRecord(t))
	}
	return with
}

// text names the records of a run, for a case that failed.
func (m *mutations) text(run []*rawtopic.Record) string {
	text := ""
	for i, rec := range run {
		switch rec.Kind {
		case rawtopic.KindTick:
			text += fmt.Sprintf("%d: tick %d\n", i, rec.Tick.Watermark/microseconds)
		case rawtopic.KindSchema:
			text += fmt.Sprintf("%d: definition %v\n", i, rec.Schema.Hash)
		case rawtopic.KindData:
			d := rec.Data
			text += fmt.Sprintf("%d: %s k=%x %v\n", i, m.table.Name, d.Key, d.Schema)
			if !d.Deletion.IsLive() {
				text += fmt.Sprintf("    delete @%d local %d\n", d.Deletion.Timestamp, d.Deletion.LocalTime)
			}
			for _, g := range d.Ranges {
				text += fmt.Sprintf("    delete %x %v to %x %v @%d local %d\n",
					g.Start.Prefix, g.Start.Inclusive, g.End.Prefix, g.End.Inclusive, g.Deletion.Timestamp, g.Deletion.LocalTime)
			}
			if d.Static != nil {
				text += "    static " + writtenText(d.Static)
			}
			for i := range d.Rows {
				text += "    " + writtenText(&d.Rows[i])
			}
		}
	}
	return text
}

func writtenText(r *commitlog.Row) string {
	text := fmt.Sprintf("row %x", r.Clustering)
	if l := r.Liveness; l.Timestamp != commitlog.NoTimestamp {
		text += fmt.Sprintf(" liveness @%d ttl %d until %d", l.Timestamp, l.TTL, l.ExpiresAt)
	}
	if !r.Deletion.IsLive() {
		text += fmt.Sprintf(" delete @%d local %d shadowable %v", r.Deletion.Timestamp, r.Deletion.LocalTime, r.Shadowable)
	}
	text += "\n"
	for _, d := range r.ComplexDeletions {
		text += fmt.Sprintf("        column %d: delete elements @%d local %d\n", d.Column, d.Timestamp, d.LocalTime)
	}
	for _, c := range r.Cells {
		what := fmt.Sprintf("= %x", c.Value)
		if c.Deleted {
			what = "tombstone"
		}
		text += fmt.Sprintf("        column %d [%x] %s @%d ttl %d local %d\n", c.Column, c.Path, what, c.Timestamp, c.TTL, c.LocalTime)
	}
	return text
}
