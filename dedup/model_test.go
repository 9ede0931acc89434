package dedup

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"slices"
	"sort"
	"strings"

	"cassdelta/commitlog"
)

// model says which events a run of writes makes. It remembers every write, merges nothing, and finds what a row is by
// looking through all of them again: slow, and with nothing in common with the fold but the rules.
type model struct {
	partitions map[string]*modelPartition
	now        int64 // seconds; time has come up to it
	unseen     int
}

// The tables of the model: "wide" has the clustering c1 int, c2 text DESC, "single" none. modelelements_test.go has
// their columns with elements.
const (
	wideTable   = "wide"
	singleTable = "single"
)

// mutation is an update of a partition, as the model has it.
type mutation struct {
	table    string
	key      int
	deletion commitlog.Deletion
	static   *rowWrite
	rows     []rowWrite
	ranges   []rangeWrite
}

type rowWrite struct {
	clustering clustering
	liveness   commitlog.Liveness
	deletion   commitlog.Deletion
	// elements are the deletions of columns' elements, by column.
	elements map[string]commitlog.Deletion
	// cells are by column, those of elements by column and path as in m1[5]. The number says which path it is.
	cells map[string]commitlog.Cell
}

// clustering is that of a row, or of a bound, which may have fewer values.
type clustering []any

// compare orders clusterings as far as both go.
func (c clustering) compare(d clustering) int {
	for i := range min(len(c), len(d)) {
		order := 0
		switch v := c[i].(type) {
		case int:
			order = cmp.Compare(v, d[i].(int))
		case string:
			order = -strings.Compare(v, d[i].(string)) // c2 is in descending order
		}
		if order != 0 {
			return order
		}
	}
	return 0
}

type rangeWrite struct {
	from, to         clustering
	fromIncl, toIncl bool
	deletion         commitlog.Deletion
}

func (r *rangeWrite) holds(c clustering) bool {
	a, b := c.compare(r.from), c.compare(r.to)
	return (a > 0 || a == 0 && (r.fromIncl || len(r.from) == 0)) && (b < 0 || b == 0 && (r.toIncl || len(r.to) == 0))
}

type modelPartition struct {
	name      string
	table     string
	deletions []commitlog.Deletion
	ranges    []rangeWrite
	rows      map[string]*modelRow // by text; "static" is the static row
}

type modelRow struct {
	clustering clustering
	static     bool
	writes     []rowWrite
}

func newModel() *model {
	return &model{partitions: map[string]*modelPartition{}, now: -1 << 62}
}

func (m *model) partition(table string, key int) *modelPartition {
	name := fmt.Sprintf("%s k=%d", table, key)
	p := m.partitions[name]
	if p == nil {
		p = &modelPartition{name: name, table: table, rows: map[string]*modelRow{}}
		m.partitions[name] = p
	}
	return p
}

func (m *model) clone() *model {
	c := newModel()
	c.now = m.now
	for name, p := range m.partitions {
		q := &modelPartition{name: p.name, table: p.table, deletions: slices.Clone(p.deletions), ranges: slices.Clone(p.ranges), rows: map[string]*modelRow{}}
		for id, r := range p.rows {
			q.rows[id] = &modelRow{clustering: r.clustering, static: r.static, writes: slices.Clone(r.writes)}
		}
		c.partitions[name] = q
	}
	return c
}

// deleted is the newest time at which the row was deleted.
func (p *modelPartition) deleted(r *modelRow) int64 {
	newest := p.covered(r.clustering, r.static)
	for _, w := range r.writes {
		newest = max(newest, w.deletion.Timestamp)
	}
	return newest
}

// deletedCell is the newest time at which a cell of the row was deleted together with others.
func (p *modelPartition) deletedCell(r *modelRow, name string) int64 {
	newest := p.deleted(r)
	column, _, _ := strings.Cut(name, "[")
	for _, w := range r.writes {
		if d, ok := w.elements[column]; ok {
			newest = max(newest, d.Timestamp)
		}
	}
	return newest
}

// covered is the newest deletion of the partition or of a range over a clustering.
func (p *modelPartition) covered(c clustering, static bool) int64 {
	newest := int64(commitlog.NoTimestamp)
	for _, d := range p.deletions {
		newest = max(newest, d.Timestamp)
	}
	for _, g := range p.ranges {
		if !static && g.holds(c) {
			newest = max(newest, g.deletion.Timestamp)
		}
	}
	return newest
}

// modelView is what a reader sees of a row, with the cells that won even if they are dead.
type modelView struct {
	liveness *commitlog.Liveness
	live     map[string]commitlog.Cell
	winners  map[string]commitlog.Cell
	died     *commitlog.Liveness // a liveness that won and is expired
}

func (v *modelView) exists() bool { return v.liveness != nil || len(v.live) > 0 }

// view looks at a row at a second.
func (p *modelPartition) view(r *modelRow, now int64) modelView {
	v := modelView{live: map[string]commitlog.Cell{}, winners: map[string]commitlog.Cell{}}
	if r == nil {
		return v
	}
	deleted := p.deleted(r)
	var winner *commitlog.Liveness
	for _, w := range r.writes {
		if l := w.liveness; l.Timestamp > deleted && (winner == nil || livenessWins(l, *winner)) {
			winner = &l
		}
		for name, c := range w.cells {
			if old, ok := v.winners[name]; c.Timestamp > p.deletedCell(r, name) && (!ok || cellWins(c, old)) {
				v.winners[name] = c
			}
		}
	}
	if winner != nil {
		if winner.TTL != 0 && winner.ExpiresAt <= now {
			v.died = winner
		} else {
			v.liveness = winner
		}
	}
	for name, c := range v.winners {
		if !c.Deleted && (c.TTL == 0 || c.LocalTime > now) {
			v.live[name] = c
		}
	}
	return v
}

func livenessWins(l, old commitlog.Liveness) bool {
	return slices.Compare(
		[]int64{l.Timestamp, rank(l.TTL != 0), l.ExpiresAt},
		[]int64{old.Timestamp, rank(old.TTL != 0), old.ExpiresAt}) > 0
}

func cellWins(c, old commitlog.Cell) bool {
	mortal := func(c commitlog.Cell) bool { return c.Deleted || c.TTL != 0 }
	order := slices.Compare(
		[]int64{c.Timestamp, rank(mortal(c)), rank(c.Deleted), c.LocalTime},
		[]int64{old.Timestamp, rank(mortal(old)), rank(old.Deleted), old.LocalTime})
	return order > 0 || order == 0 && slices.Compare([]string{string(c.Value), string(c.Path)}, []string{string(old.Value), string(old.Path)}) > 0
}

func rank(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

func (v *modelView) text() string {
	if !v.exists() {
		return "none"
	}
	columns := map[string]string{}
	for name, c := range v.live {
		if column, _, element := strings.Cut(name, "["); element {
			columns[column] = v.elementsText(column)
		} else {
			columns[name] = modelValue(name, c.Value)
		}
	}
	var fields []string
	for _, name := range slices.Sorted(maps.Keys(columns)) {
		fields = append(fields, name+":"+columns[name])
	}
	return "{" + strings.Join(fields, " ") + "}"
}

func modelValue(name string, v []byte) string {
	if strings.HasPrefix(name, "t") {
		return string(v)
	}
	return fmt.Sprint(int32(v[0])<<24 | int32(v[1])<<16 | int32(v[2])<<8 | int32(v[3]))
}

// event compares two views, "" if nothing is to be told.
func (p *modelPartition) event(r *modelRow, before, after modelView) string {
	written, expired := int64(commitlog.NoTimestamp), int64(commitlog.NoTimestamp)
	changed := false
	switch b, a := before.liveness, after.liveness; {
	case a != nil && (b == nil || b.Timestamp != a.Timestamp || b.ExpiresAt != a.ExpiresAt):
		changed, written = true, a.Timestamp
	case b != nil && a == nil && after.died != nil:
		changed, expired = true, after.died.ExpiresAt
	case b != nil && a == nil:
		changed, written = true, p.deleted(r)
	}
	names := map[string]bool{}
	for name := range before.live {
		names[name] = true
	}
	for name := range after.live {
		names[name] = true
	}
	for name := range names {
		b, had := before.live[name]
		a, has := after.live[name]
		winner, won := after.winners[name]
		deleted := p.deletedCell(r, name)
		switch {
		case has && had && a.Timestamp == b.Timestamp && a.LocalTime == b.LocalTime && bytes.Equal(a.Value, b.Value) && bytes.Equal(a.Path, b.Path):
		case has:
			changed, written = true, max(written, a.Timestamp)
		case won && winner.TTL != 0:
			changed, expired = true, max(expired, winner.LocalTime)
		case won:
			changed, written = true, max(written, winner.Timestamp, deleted)
		default:
			changed, written = true, max(written, deleted)
		}
	}
	if !changed || !before.exists() && !after.exists() {
		return ""
	}
	op := "u"
	if !before.exists() {
		op = "c"
	} else if !after.exists() {
		op = "d"
	}
	when := fmt.Sprint(written)
	if written == commitlog.NoTimestamp {
		when = fmt.Sprint(expired*microseconds, " ttl")
	}
	return fmt.Sprintf("%s %s%s %s -> %s @%s", op, p.name, r.text(), before.text(), after.text(), when)
}

func (r *modelRow) text() string {
	if r.static {
		return " static"
	}
	if len(r.clustering) == 0 {
		return ""
	}
	return fmt.Sprintf(" c1=%v c2=%v", r.clustering...)
}

// fold returns the events of a mutation, ordered as texts.
func (m *model) fold(u *mutation) []string {
	p := m.partition(u.table, u.key)
	old := m.clone().partition(u.table, u.key)
	if !u.deletion.IsLive() {
		p.deletions = append(p.deletions, u.deletion)
	}
	p.ranges = append(p.ranges, u.ranges...)
	write := func(id string, static bool, w rowWrite) {
		if p.rows[id] == nil {
			p.rows[id] = &modelRow{clustering: w.clustering, static: static}
		}
		p.rows[id].writes = append(p.rows[id].writes, w)
	}
	if u.static != nil {
		write("static", true, *u.static)
	}
	for _, w := range u.rows {
		write(fmt.Sprint(w.clustering), false, w)
	}
	if u.table == singleTable && !u.deletion.IsLive() {
		write("[]", false, rowWrite{liveness: noLiveness.Liveness, deletion: u.deletion})
	}
	var events []string
	for id, r := range p.rows {
		before, after := old.view(old.rows[id], m.now), p.view(r, m.now)
		if e := p.event(r, before, after); e != "" {
			events = append(events, e)
			continue
		}
		if old.rows[id] != nil || r.static || after.exists() {
			continue
		}
		// The row is deleted, and nothing was seen of it before.
		deletion := int64(commitlog.NoTimestamp)
		for _, w := range r.writes {
			deletion = max(deletion, w.deletion.Timestamp)
		}
		if deletion > old.covered(r.clustering, false) {
			m.unseen++
			events = append(events, fmt.Sprintf("d %s%s {} -> none @%d", p.name, r.text(), deletion))
		}
	}
	sort.Strings(events)
	return events
}

// tick returns the events of the time that passes until a second: in the order of the seconds, within one as texts.
func (m *model) tick(until int64) []string {
	if until <= m.now {
		return nil
	}
	moments := map[int64]bool{}
	for _, p := range m.partitions {
		for _, r := range p.rows {
			for _, w := range r.writes {
				moments[w.liveness.ExpiresAt] = true
				for _, c := range w.cells {
					moments[c.LocalTime] = true
				}
			}
		}
	}
	var events []string
	for _, now := range slices.Sorted(maps.Keys(moments)) {
		if now <= m.now || now > until {
			continue
		}
		var same []string
		for _, p := range m.partitions {
			for _, r := range p.rows {
				if e := p.event(r, p.view(r, now-1), p.view(r, now)); e != "" {
					same = append(same, e)
				}
			}
		}
		sort.Strings(same)
		events = append(events, same...)
	}
	m.now = until
	return events
}

// rows are the rows that exist.
func (m *model) rows() map[string]string {
	rows := map[string]string{}
	for _, p := range m.partitions {
		for _, r := range p.rows {
			if v := p.view(r, m.now); v.exists() {
				rows[p.name+r.text()] = v.text()
			}
		}
	}
	return rows
}
