package dedup

import (
	"bytes"
	"fmt"

	"cassdelta/commitlog"
	"cassdelta/internal/rawtopic"
	"cassdelta/schema"
	"cassdelta/state"
)

// work is memory for the record under way, used again for the next.
type work struct {
	// What prepare makes of a data record.
	definition *definition
	table      *table
	data       *rawtopic.Data
	floor      int64 // the time up to which what was written is not in data, noTime if all is
	origin     rawtopic.Origin
	key        []byte   // of the partition
	partition  [][]byte // the values in it
	prefix     []byte   // what all keys of the partition start with
	arena      []byte   // comparable forms of clusterings and of bounds
	rows       []place  // by index in Data.Rows: the clustering in the arena
	ranges     []span   // in order

	horizon int64  // what died at or before this second reads as absent
	header  header // of the partition, before this record
	altered bool   // the state is
	beaten  bool   // something in the record is

	old, in, merged row
	before, after   [][]byte
	values          []byte               // of multi-cell columns in before and after
	cells           []schema.ElementCell // of one of them
	columns         []uint32             // of a change
	changed         []int                // of an event
	event           Event

	key1, key2, rowKey []byte
	purgeKey           []byte
	from, to           []byte
	value              []byte
	batch              batch
	pieces             []piece
}

// place is a slice of the arena.
type place struct{ from, to int }

// span is a range of clusterings: those whose comparable form is from or greater and less than to. Both are places in
// the arena.
type span struct {
	from, to place
	deletion commitlog.Deletion
}

// keptMemory bounds, in elements or bytes, what is kept of a slice from one record to the next, so that one giant does
// not occupy memory for ever.
const keptMemory = 1 << 16

func reuse[T any](s []T) []T {
	if cap(s) > keptMemory {
		return nil
	}
	return s[:0]
}

func (w *work) bytes(p place) []byte { return w.arena[p.from:p.to] }

// prepare makes work.data what counts of a data record, and checks it as a whole, before anything of it is folded. It
// returns false if nothing counts, or its table is not supported.
func (f *Fold) prepare(d *rawtopic.Data) (bool, error) {
	w := &f.work
	w.data, w.key, w.origin = d, d.Key, d.Origin
	if f.cursor.valid { // what was altered and beaten so far is so still
		if w.floor != noTime {
			w.data = writtenAfter(d, w.floor)
		}
		var err error
		w.partition, err = w.definition.schema.SplitPartitionKey(w.partition[:0], d.Key)
		return true, err
	}
	w.altered, w.beaten = false, false
	w.arena, w.rows, w.ranges = reuse(w.arena), reuse(w.rows), reuse(w.ranges)
	w.value, w.prefix = reuse(w.value), reuse(w.prefix)
	def, err := f.definition(d.Schema)
	if err != nil {
		return false, err
	}
	if def == nil {
		return false, f.refuse("", "expected the definition %v before it, found none; it cannot be decoded without", d.Schema)
	}
	w.definition, w.table, w.floor = def, def.table, noTime
	w.horizon = def.table.horizon(f.now())
	if f.whyNot(def.table) != "" {
		return false, nil
	}
	if !def.table.past.untouched() && !f.still(d) {
		return false, f.noteHost(d.Origin.Host)
	}
	token := schema.Token(d.Key)
	if p := rawtopic.Partition(token, f.init.Partitions); p != f.partition {
		return false, f.refuse(w.name(), "its partition key %x belongs into raw partition %d of %d", d.Key, p, f.init.Partitions)
	}
	if reason := w.check(); reason != "" {
		return false, f.refuse(w.name(), "%s", reason)
	}
	w.prefix = state.Partition(w.prefix, f.group, def.schema.ID, token, d.Key)
	return true, f.noteHost(d.Origin.Host)
}

// still reports whether anything of a data record counts after its table was truncated or dropped, and makes work.data
// what does.
func (f *Fold) still(d *rawtopic.Data) bool {
	w := &f.work
	if !w.table.alive() {
		f.stats.Dropped++
		return false
	}
	switch v, from := w.table.past.judge(&d.Origin, f.watermark); v {
	case countsNone:
		w.data = nil
	case countsNew:
		w.floor = from
		w.data = writtenAfter(d, w.floor)
	}
	if w.data == nil {
		f.stats.Truncated++
		return false
	}
	return true
}

func (w *work) name() string { return w.definition.schema.FullName() }

// check returns what is wrong with the record, "" if nothing is.
func (w *work) check() string {
	d, def := w.data, w.definition
	var err error
	if w.partition, err = def.schema.SplitPartitionKey(w.partition[:0], d.Key); err != nil {
		return err.Error()
	}
	for i := range w.partition {
		if err := def.schema.Columns[i].Type.Validate(w.partition[i]); err != nil {
			return fmt.Sprintf("partition key column %s: %v", def.schema.Columns[i].Name, err)
		}
	}
	clustering := len(def.schema.ClusteringColumns())
	if d.Static != nil {
		if !d.Static.Deletion.IsLive() || d.Static.Liveness.Timestamp != commitlog.NoTimestamp || len(d.Static.Clustering) > 0 {
			return "expected nothing but cells in the static row, found a clustering, a liveness or a deletion"
		}
		if reason := w.checkRow(d.Static, schema.Static); reason != "" {
			return "static row: " + reason
		}
	}
	if clustering == 0 && (len(d.Rows) > 1 || len(d.Ranges) > 0) {
		return fmt.Sprintf("expected at most one row in a table without clustering, found %d rows and %d ranges", len(d.Rows), len(d.Ranges))
	}
	for i := range d.Rows {
		r := &d.Rows[i]
		if len(r.Clustering) != clustering {
			return fmt.Sprintf("row %d: expected %d clustering values, found %d", i, clustering, len(r.Clustering))
		}
		at := len(w.arena)
		if reason := w.appendClustering(r.Clustering); reason != "" {
			return fmt.Sprintf("row %d: %s", i, reason)
		}
		w.rows = append(w.rows, place{at, len(w.arena)})
		if reason := w.checkRow(r, schema.Regular); reason != "" {
			return fmt.Sprintf("row %d: %s", i, reason)
		}
	}
	for i := range d.Ranges {
		if reason := w.checkRange(&d.Ranges[i]); reason != "" {
			return fmt.Sprintf("range %d: %s", i, reason)
		}
	}
	return ""
}

// appendClustering appends the comparable form of the clustering, or of its first columns, to the arena.
func (w *work) appendClustering(values [][]byte) string {
	columns := w.definition.schema.ClusteringColumns()
	for i, v := range values {
		c := &columns[i]
		if v == nil {
			return fmt.Sprintf("clustering column %s is null, as in tables with COMPACT STORAGE only", c.Name)
		}
		err := c.Type.Validate(v)
		if err == nil {
			w.arena, err = c.Type.AppendComparable(w.arena, v, c.Desc)
		}
		if err != nil {
			return fmt.Sprintf("clustering column %s: %v", c.Name, err)
		}
	}
	return ""
}

// checkRow checks the content of a row.
func (w *work) checkRow(r *commitlog.Row, kind schema.ColumnKind) string {
	if r.Shadowable && r.Deletion.IsLive() {
		return "a newer liveness is to make its deletion void, and it has none"
	}
	l := &r.Liveness
	if l.TTL < 0 || (l.TTL != 0) != (l.ExpiresAt != commitlog.NoDeletionTime) || l.TTL != 0 && l.Timestamp == commitlog.NoTimestamp {
		return fmt.Sprintf("expected a liveness with a TTL and an expiry or with neither, found %d and %d", l.TTL, l.ExpiresAt)
	}
	for i := range r.Cells {
		c := &r.Cells[i]
		if c.Column >= len(w.definition.columns) {
			return fmt.Sprintf("cell %d: expected a column number below %d, found %d", i, len(w.definition.columns), c.Column)
		}
		ref := &w.definition.columns[c.Column]
		if ref.kind != kind {
			return fmt.Sprintf("cell %d: expected a %v column, found the %v column %s", i, kind, ref.kind, ref.name)
		}
		reason := ""
		switch {
		case c.Timestamp == commitlog.NoTimestamp:
			reason = "it has no write time"
		case w.table.columns[ref.id].gone(c.Timestamp):
		case c.Path != nil && !ref.typ.MultiCell():
			reason = "it has a path, as cells of collections and user types that are not frozen have"
		case c.Path == nil && ref.typ.MultiCell():
			reason = "it has no path, as cells of collections and user types that are not frozen have"
		case w.table.columns[ref.id].multi() != ref.typ.MultiCell():
			reason = "its type is frozen in one definition of the table, and not in another"
		case c.TTL < 0 || c.TTL != 0 && (c.Deleted || c.LocalTime == commitlog.NoDeletionTime):
			reason = fmt.Sprintf("its TTL is %d, expected one with an expiry and a value, or 0", c.TTL)
		case c.TTL == 0 && !c.Deleted && c.LocalTime != commitlog.NoDeletionTime:
			reason = "it has an expiry and no TTL"
		case !c.Deleted && c.Value == nil:
			reason = "it has no value and is no tombstone"
		case ref.typ.Kind == schema.KindCounter && c.TTL != 0:
			reason = "it is a counter with a TTL"
		case ref.typ.Kind == schema.KindCounter && !c.Deleted:
			if err := schema.ValidateCounter(c.Value); err != nil {
				reason = err.Error()
			}
		case c.Path != nil:
			if err := ref.typ.ValidateCell(c.Path, c.Value); err != nil {
				reason = err.Error()
			}
		case !c.Deleted:
			if err := ref.typ.Validate(c.Value); err != nil {
				reason = err.Error()
			}
		}
		if reason != "" {
			return fmt.Sprintf("column %s: %s", ref.name, reason)
		}
	}
	for _, c := range r.ComplexDeletions {
		if c.Column >= len(w.definition.columns) {
			return fmt.Sprintf("expected a column number below %d, found %d", len(w.definition.columns), c.Column)
		}
		ref := &w.definition.columns[c.Column]
		switch {
		case ref.kind != kind:
			return fmt.Sprintf("expected %v columns, found a deletion of the elements of the %v column %s", kind, ref.kind, ref.name)
		case c.IsLive():
			return fmt.Sprintf("column %s has a deletion of its elements without a write time", ref.name)
		case w.table.columns[ref.id].gone(c.Timestamp):
		case !ref.typ.MultiCell() || !w.table.columns[ref.id].multi():
			return fmt.Sprintf("column %s has a deletion of its elements, and its type is %s", ref.name, ref.typ.CQL())
		}
	}
	return ""
}

// boundAfter stands behind the comparable form of a prefix: greater than the clusterings that begin with the prefix, and
// not greater than any that follows them.
const boundAfter = 0xff

// checkRange puts the bounds of a range into the arena, unless it is empty. The ranges of a record are in order and do
// not overlap.
func (w *work) checkRange(r *rawtopic.Range) string {
	if r.Deletion.IsLive() {
		return "it has no deletion"
	}
	var bounds [2]place
	for i, b := range [2]*rawtopic.Bound{&r.Start, &r.End} {
		if n := len(w.definition.schema.ClusteringColumns()); len(b.Prefix) > n {
			return fmt.Sprintf("a bound has %d values, and the table %d clustering columns", len(b.Prefix), n)
		}
		at := len(w.arena)
		if reason := w.appendClustering(b.Prefix); reason != "" {
			return reason
		}
		// A start is before what it includes, an end after.
		if after := b.Inclusive == (i == 1); after || i == 1 && len(b.Prefix) == 0 {
			w.arena = append(w.arena, boundAfter)
		}
		bounds[i] = place{at, len(w.arena)}
	}
	s := span{from: bounds[0], to: bounds[1], deletion: r.Deletion}
	if len(r.Start.Prefix) == 0 {
		s.from.to = s.from.from // everything is after the start of the partition
	}
	if bytes.Compare(w.bytes(s.from), w.bytes(s.to)) >= 0 {
		return ""
	}
	if n := len(w.ranges); n > 0 && bytes.Compare(w.bytes(w.ranges[n-1].to), w.bytes(s.from)) > 0 {
		return "it begins before the end of the range before it"
	}
	w.ranges = append(w.ranges, s)
	return ""
}
