package foldmodel

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strings"

	"cassdelta/commitlog"
	"cassdelta/schema"
)

// Image is the values of a row by the names of columns, those that are not null; nil if the row does not exist.
type Image map[string]string

// ImageOf is the image with these values, by the index of the column; nil for nil.
func ImageOf(t *schema.Table, values [][]byte) Image {
	if values == nil {
		return nil
	}
	image := Image{}
	for i, v := range values {
		if v != nil {
			image[t.Columns[i].Name] = string(v)
		}
	}
	return image
}

// Names are those of columns.
func Names(t *schema.Table, columns []int) map[string]bool {
	names := map[string]bool{}
	for _, i := range columns {
		names[t.Columns[i].Name] = true
	}
	return names
}

// Clone copies the values of a clustering.
func Clone(clustering [][]byte) [][]byte { return clone(clustering) }

// Event is one change of one row. Its fields are those of dedup.Event.
type Event struct {
	Table         string // keyspace.table
	Key           []byte
	Static        bool
	Clustering    [][]byte
	Op            byte
	Before, After Image
	Changed       map[string]bool // columns
	Timestamp     int64
	Reason        string
	Complete      bool
}

// event is the difference between two views of a row, nil if nothing is to be told.
func (p *partition) event(r *row, before, after view) *Event {
	if before.table == nil {
		before = view{table: p.table, liveness: commitlog.Liveness{Timestamp: commitlog.NoTimestamp}}
	}
	written, expired := int64(commitlog.NoTimestamp), int64(commitlog.NoTimestamp)
	changed := false
	switch b, a := before.liveness, after.liveness; {
	case after.present() && (!before.present() || a.Timestamp != b.Timestamp || a.ExpiresAt != b.ExpiresAt):
		changed, written = true, a.Timestamp
	case before.present() && !after.present() && after.expired():
		changed, expired = true, a.ExpiresAt
	case before.present() && !after.present():
		changed, written = true, p.deleted(r)
	}
	columns := map[string]bool{}
	for i := range after.cells {
		a := &after.cells[i]
		b := &cell{}
		had := false
		if at := before.find(a); at >= 0 {
			b = &before.cells[at]
			had = before.alive(b)
		}
		has := after.alive(a)
		if !has && !had || has && had && a.Timestamp == b.Timestamp && a.LocalTime == b.LocalTime && bytes.Equal(a.Value, b.Value) && bytes.Equal(a.Path, b.Path) {
			continue
		}
		changed, columns[a.column] = true, true
		switch {
		case has:
			written = max(written, a.Timestamp)
		case a.TTL != 0:
			expired = max(expired, a.LocalTime)
		case isExpiry(a, b):
			expired = max(expired, b.LocalTime)
		default:
			written = max(written, a.Timestamp)
		}
	}
	for i := range before.cells {
		if b := &before.cells[i]; before.alive(b) && after.find(b) < 0 {
			changed, columns[b.column] = true, true
			written = max(written, p.deletedColumn(r, b.column))
		}
	}
	if !changed || !before.exists() && !after.exists() {
		return nil
	}
	e := &Event{
		Table: p.table.name, Key: p.key, Static: r.static, Clustering: r.clustering, Op: 'u',
		Before: before.image(), After: after.image(), Changed: columns, Timestamp: written, Reason: "mutation", Complete: p.table.past.complete(),
	}
	if e.Before == nil {
		e.Op = 'c'
	} else if e.After == nil {
		e.Op = 'd'
	}
	if written == commitlog.NoTimestamp {
		e.Timestamp, e.Reason = expired*1_000_000, "ttl"
	}
	return e
}

// Row names the row of the event: the same text for the same row of one model.
func (e *Event) Row() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %x", e.Table, e.Key)
	if e.Static {
		b.WriteString(" static")
	}
	for _, v := range e.Clustering {
		fmt.Fprintf(&b, " %x", v)
	}
	return b.String()
}

// String is all that the event says.
func (e *Event) String() string {
	text := fmt.Sprintf("%c %s %s -> %s changed %v @%d", e.Op, e.Row(), e.Before, e.After, slices.Sorted(maps.Keys(e.Changed)), e.Timestamp)
	if e.Reason != "mutation" {
		text += " " + e.Reason
	}
	if e.Complete {
		text += " complete"
	}
	return text
}

func (i Image) String() string {
	if i == nil {
		return "none"
	}
	var fields []string
	for _, name := range slices.Sorted(maps.Keys(i)) {
		fields = append(fields, fmt.Sprintf("%s:%x", name, i[name]))
	}
	return "{" + strings.Join(fields, " ") + "}"
}

// Equal reports whether two events say the same.
func (e *Event) Equal(f *Event) bool {
	return e.Op == f.Op && e.Timestamp == f.Timestamp && e.Reason == f.Reason && e.Static == f.Static && e.Table == f.Table && e.Complete == f.Complete &&
		bytes.Equal(e.Key, f.Key) && slices.EqualFunc(e.Clustering, f.Clustering, bytes.Equal) &&
		(e.Before == nil) == (f.Before == nil) && maps.Equal(e.Before, f.Before) &&
		(e.After == nil) == (f.After == nil) && maps.Equal(e.After, f.After) && maps.Equal(e.Changed, f.Changed)
}

// Same compares the events of one record, which may come in any order; if the record is a tick, the seconds of expiry come
// in theirs. It returns what is wrong, "" if nothing is.
func Same(found, expected []*Event, tick bool) string {
	left := slices.Clone(expected)
	last := int64(commitlog.NoTimestamp)
	for _, e := range found {
		i := slices.IndexFunc(left, e.Equal)
		if i < 0 {
			return fmt.Sprintf("unexpected event\n  %s\nexpected are\n%s", e, list(expected))
		}
		left = slices.Delete(left, i, i+1)
		if tick && e.Timestamp < last {
			return fmt.Sprintf("the event of an earlier second comes later:\n  %s\nall are\n%s", e, list(found))
		}
		last = e.Timestamp
	}
	if len(left) > 0 {
		return fmt.Sprintf("missing events\n%sfound are\n%s", list(left), list(found))
	}
	return ""
}

func list(events []*Event) string {
	var b strings.Builder
	for _, e := range events {
		fmt.Fprintf(&b, "  %s\n", e)
	}
	return b.String()
}

// Row is a row that exists.
type Row struct {
	Table      string
	Key        []byte
	Static     bool
	Clustering [][]byte
	Image      Image
	// Liveness has the Timestamp NoTimestamp if there is none that is alive.
	Liveness commitlog.Liveness
	// Cells are the live ones.
	Cells []Cell
}

// Cell is a live cell of a column.
type Cell struct {
	Column string
	Type   *schema.Type // of the column
	commitlog.Cell
}

// History is all writes to a row, for people: those that its table, partition and clustering have in this order. It is
// empty if the row was never seen.
func (m *Model) History(table string, key []byte, static bool, clustering [][]byte) string {
	var b strings.Builder
	for _, p := range m.order {
		if p.table.name != table || !bytes.Equal(p.key, key) {
			continue
		}
		for _, d := range p.deletions {
			fmt.Fprintf(&b, "  delete partition @%d local %d\n", d.Timestamp, d.LocalTime)
		}
		r := p.static
		if !static {
			r = p.row(clustering)
		}
		if r == nil {
			continue
		}
		for _, g := range p.ranges {
			if !static && p.table.holds(&g, clustering) {
				fmt.Fprintf(&b, "  delete %x %v to %x %v @%d local %d\n",
					g.Start.Prefix, g.Start.Inclusive, g.End.Prefix, g.End.Inclusive, g.Deletion.Timestamp, g.Deletion.LocalTime)
			}
		}
		for _, w := range r.writes {
			fmt.Fprintf(&b, "  liveness @%d ttl %d until %d, delete @%d local %d shadowable %v\n",
				w.liveness.Timestamp, w.liveness.TTL, w.liveness.ExpiresAt, w.deletion.Timestamp, w.deletion.LocalTime, w.shadowable)
			for _, d := range w.elements {
				fmt.Fprintf(&b, "    %s: delete elements @%d local %d\n", d.column, d.Timestamp, d.LocalTime)
			}
			for _, c := range w.cells {
				fmt.Fprintf(&b, "    %s[%x] = %x deleted %v @%d ttl %d local %d\n", c.column, c.Path, c.Value, c.Deleted, c.Timestamp, c.TTL, c.LocalTime)
			}
		}
	}
	return b.String()
}

// Rows are the rows that exist.
func (m *Model) Rows() []*Row {
	var rows []*Row
	for _, p := range m.order {
		for _, r := range p.all() {
			v := p.view(r, m.now)
			if !v.exists() {
				continue
			}
			found := &Row{
				Table: p.table.name, Key: p.key, Static: r.static, Clustering: r.clustering, Image: v.image(),
				Liveness: commitlog.Liveness{Timestamp: commitlog.NoTimestamp},
			}
			if v.present() {
				found.Liveness = v.liveness
			}
			for _, c := range v.cells {
				if v.alive(&c) {
					found.Cells = append(found.Cells, Cell{c.column, p.table.columns[c.column].Type, c.Cell})
				}
			}
			rows = append(rows, found)
		}
	}
	return rows
}

// Name names the row as [Event.Row] does.
func (r *Row) Name() string {
	return (&Event{Table: r.Table, Key: r.Key, Static: r.Static, Clustering: r.Clustering}).Row()
}
