package e2e

import (
	"maps"
	"slices"
	"testing"
)

// statementModel is what CQL says that statements do, run one after the other: rows that exist, their values, and an
// event for each that a statement changes. It knows no time stamps and no logs; the caller runs the statements in the
// order of their write times.
//
// What counts as a change of a row is the contract of the clean topic: its live cells, with their write times, or its
// primary key liveness. So a statement that gives a cell a value, equal or not, changes it, and an INSERT changes the
// row always; a null where there is nothing changes nothing. The deletion of a row that does not exist is told unless the
// row's last event was a d, since the row may have been there before all statements.
type statementModel struct {
	rows map[rowID]*modelRow
	// told holds the rows whose last event was a d.
	told map[rowID]bool
	// byPartition finds the rows that a deletion of a partition covers, by the table and the partition's text.
	byPartition map[[2]string]map[rowID]bool
	events      []*event
}

// modelRow exists if it was inserted or has a value.
type modelRow struct {
	inserted bool
	values   image
}

func newStatementModel() *statementModel {
	return &statementModel{rows: map[rowID]*modelRow{}, told: map[rowID]bool{}, byPartition: map[[2]string]map[rowID]bool{}}
}

// run runs a statement. Those on tables that are not followed are none of the model's business.
func (m *statementModel) run(s *statement) {
	if !s.table.cdc {
		return
	}
	id := s.row()
	partition := [2]string{id.table, id.partition}
	static := rowID{table: id.table, partition: id.partition, static: true}
	var staticSets, rowSets []assignment
	for _, a := range s.sets {
		if s.table.isStatic(a.column.name) {
			staticSets = append(staticSets, a)
		} else {
			rowSets = append(rowSets, a)
		}
	}
	switch s.kind {
	case insert, update, deleteCells:
		if len(staticSets) > 0 {
			m.set(static, staticSets, false, s.timestamp)
		}
		if len(rowSets) > 0 || s.kind == insert {
			m.set(id, rowSets, s.kind == insert, s.timestamp)
		}
	case deleteRow:
		m.remove(id, s.timestamp)
		if !m.told[id] {
			// The past of the tables is not known: the row may have been there.
			m.emit(&event{row: id, op: "d", before: image{}, timestamp: s.timestamp})
		}
	case deletePartition:
		for _, row := range slices.SortedFunc(maps.Keys(m.byPartition[partition]), compareRows) {
			m.remove(row, s.timestamp)
		}
	}
}

func (m *statementModel) set(id rowID, sets []assignment, inserted bool, timestamp int64) {
	m.touch(id)
	row := m.rows[id]
	if row == nil {
		row = &modelRow{values: image{}}
		m.rows[id] = row
	}
	before := row.image()
	changed := inserted
	row.inserted = row.inserted || inserted
	for _, a := range sets {
		if a.value != nil {
			row.values[a.column.name] = mustText(a.column.typ, a.value)
			changed = true
		} else if _, ok := row.values[a.column.name]; ok {
			delete(row.values, a.column.name)
			changed = true
		}
	}
	if changed {
		m.emit(change(id, before, row.image(), timestamp))
	}
}

func (m *statementModel) remove(id rowID, timestamp int64) {
	m.touch(id)
	row := m.rows[id]
	if row == nil {
		return
	}
	m.emit(change(id, row.image(), nil, timestamp))
	delete(m.rows, id)
}

func (m *statementModel) touch(id rowID) {
	partition := [2]string{id.table, id.partition}
	if m.byPartition[partition] == nil {
		m.byPartition[partition] = map[rowID]bool{}
	}
	m.byPartition[partition][id] = true
}

func (m *statementModel) emit(e *event) {
	if e != nil {
		m.events = append(m.events, e)
		m.told[e.row] = e.op == "d"
	}
}

// image is a copy of the row's values, nil if it does not exist.
func (r *modelRow) image() image {
	if !r.inserted && len(r.values) == 0 {
		return nil
	}
	return maps.Clone(r.values)
}

// final is the rows that exist in the end.
func (m *statementModel) final() map[rowID]image {
	rows := map[rowID]image{}
	for id, row := range m.rows {
		if im := row.image(); im != nil {
			rows[id] = im
		}
	}
	return rows
}

func TestStatementModel(t *testing.T) {
	orders := tableByName("orders")
	value := func(name, typ, v string) assignment {
		return assignment{column{name: name, typ: typ}, encode("text", v)}
	}
	null := func(name string) assignment { return assignment{column: column{name: name, typ: "text"}} }
	tier := assignment{orders.statics[1], encode("text", "gold")}
	m := newStatementModel()
	for i, step := range []struct {
		kind statementKind
		row  int
		sets []assignment
		want []string // operation and images of the events
	}{
		{update, 1, []assignment{null("a")}, nil},                                          // a null where there is nothing
		{update, 1, []assignment{value("a", "text", "x")}, []string{`c -: {a="x"}`}},       //
		{update, 1, []assignment{value("a", "text", "x")}, []string{`u {a="x"}: {a="x"}`}}, // equal value, newer write
		{deleteCells, 1, []assignment{null("a")}, []string{`d {a="x"}: -`}},                // its last cell
		{deleteCells, 1, []assignment{null("a")}, nil},                                     //
		{insert, 1, []assignment{null("a")}, []string{`c -: {}`}},                          // the key alone
		{insert, 1, nil, []string{`u {}: {}`}},                                             // again
		{update, 1, []assignment{value("a", "text", "y"), tier}, []string{`c -: {tier="gold"}`, `u {}: {a="y"}`}},
		{deleteCells, 1, []assignment{null("a")}, []string{`u {a="y"}: {}`}},         // an inserted row stays
		{deleteRow, 1, nil, []string{`d {}: -`}},                                     //
		{deleteRow, 1, nil, nil},                                                     //
		{deleteRow, 3, nil, []string{`d {}: -`}},                                     // never seen
		{deleteRow, 3, nil, nil},                                                     //
		{deleteCells, 4, []assignment{null("a")}, nil},                               // nothing is known to be gone
		{deleteRow, 4, nil, []string{`d {}: -`}},                                     // it may have been there
		{insert, 2, []assignment{value("a", "text", "z")}, []string{`c -: {a="z"}`}}, //
		{deletePartition, -1, nil, []string{`d {a="z"}: -`, `d {tier="gold"}: -`}},   // both rows, in the order of their names
		{deletePartition, -1, nil, nil},                                              //
	} {
		s := &statement{table: orders, kind: step.kind, partition: partitionKey(orders, 0), sets: step.sets, timestamp: int64(i)}
		if step.row >= 0 {
			s.clustering = clusteringKey(orders, step.row)
		}
		done := len(m.events)
		m.run(s)
		var got []string
		for _, e := range m.events[done:] {
			got = append(got, e.op+" "+e.before.String()+": "+e.after.String())
		}
		if !slices.Equal(got, step.want) {
			t.Errorf("step %d: events %q, expected %q", i, got, step.want)
		}
	}
	if final := m.final(); len(final) != 0 {
		t.Errorf("rows at the end: %v", final)
	}
}
