package e2e

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// rawModel folds raw records and says which events each of them must cause. It is written from the contract:
//
//   - a cell, a liveness or a deletion with the greater write time wins; a deletion covers what is not newer than it;
//     of cells with equal write times a tombstone wins, then the greater value;
//   - a row exists if its liveness or one of its cells is alive;
//   - an update of a partition makes one event for each row whose live view it changes: the live cells with values and
//     write times, and the liveness, if the row exists before or after;
//   - where the past is not known, the deletion by its full key of a row that does not exist makes a d with an empty before, unless
//     the row's last event was a d.
//
// Rows, statics and partitions are maps; nothing is optimised and nothing is shared with the product.
type rawModel struct {
	definitions map[string]*rawDefinition
	partitions  map[partitionID]*modelPartition
	assemblers  map[int32]assembler
	codec       *rawCodec
	events      []*event
	// updates are the data records, put together, in the order they were read.
	updates []*rawUpdate
	ticks   []*rawRecord
	// initialized holds the raw partitions that have begun with an Init, announced the definitions that each of them has.
	initialized map[int32]*rawInit
	announced   map[int32]map[string]bool
	// fleeting is the hash of that table's definition, of whose records the model has none.
	fleeting string
}

// rawUpdate is a data record with its table and rows named.
type rawUpdate struct {
	place     rawPlace
	data      *rawData
	table     *table
	partition string
	// rows are those that it writes to; deletion of the partition aside.
	rows []rowID
}

type partitionID struct{ table, partition string }

type modelPartition struct {
	deletion rawDeletion
	rows     map[rowID]*mergedRow
}

// mergedRow is the merge of all that was seen of a row. Its last event was a d if told is set.
type mergedRow struct {
	table    *table
	told     bool
	liveness int64
	deletion rawDeletion
	cells    map[string]rawCell
}

func newRawModel(codec *rawCodec) *rawModel {
	return &rawModel{
		definitions: map[string]*rawDefinition{},
		partitions:  map[partitionID]*modelPartition{},
		assemblers:  map[int32]assembler{},
		codec:       codec,
		initialized: map[int32]*rawInit{},
		announced:   map[int32]map[string]bool{},
	}
}

// fold takes the next record of its raw partition.
func (m *rawModel) fold(r *rawRecord) error {
	p := r.place.partition
	if m.initialized[p] == nil && r.kind != "Init" {
		return fmt.Errorf("%s: %s before Init", r.place, r.kind)
	}
	switch r.kind {
	case "Init":
		if before := m.initialized[p]; before != nil && *before != *r.init {
			return fmt.Errorf("%s: Init %v after Init %v", r.place, *r.init, *before)
		}
		m.initialized[p] = r.init
	case "Schema":
		if r.definition.keyspace == keyspace && r.definition.table == fleeting.name {
			m.fleeting = r.definition.hash
			return nil
		}
		if t := tableByName(r.definition.table); r.definition.keyspace != keyspace || t == nil || !t.cdc {
			return fmt.Errorf("%s: a definition of %s.%s, which is not followed", r.place, r.definition.keyspace, r.definition.table)
		} else if !slices.Equal(r.definition.columns, names(t.columns())) {
			return fmt.Errorf("%s: the definition of %s has the columns %v, expected %v", r.place, t.name, r.definition.columns, names(t.columns()))
		}
		m.definitions[r.definition.hash] = r.definition
		if m.announced[p] == nil {
			m.announced[p] = map[string]bool{}
		}
		m.announced[p][r.definition.hash] = true
	case "Part":
		if m.assemblers[p] == nil {
			m.assemblers[p] = assembler{}
		}
		whole, err := m.assemblers[p].add(r.part)
		if err != nil {
			return fmt.Errorf("%s: %w", r.place, err)
		}
		if whole == nil {
			return nil
		}
		data, err := m.codec.decode(r.place, whole)
		if err != nil {
			return fmt.Errorf("parts put together: %w", err)
		}
		if data.kind != "Data" {
			return fmt.Errorf("%s: parts of a %s", r.place, data.kind)
		}
		return m.fold(data)
	case "Data":
		if r.data.schema == m.fleeting {
			return nil
		}
		if !m.announced[p][r.data.schema] {
			return fmt.Errorf("%s: the definition %s is not announced in its partition", r.place, r.data.schema)
		}
		return m.foldData(r)
	case "Tick":
		m.ticks = append(m.ticks, r)
	case "Heartbeat", "AgentJoined":
	default:
		return fmt.Errorf("%s: a %s, and nothing in the test makes one", r.place, r.kind)
	}
	return nil
}

func (m *rawModel) foldData(r *rawRecord) error {
	d, def := r.data, m.definitions[r.data.schema]
	t := tableByName(def.table)
	partition, err := partitionText(t, d.key)
	if err != nil {
		return fmt.Errorf("%s: %w", r.place, err)
	}
	u := &rawUpdate{place: r.place, data: d, table: t, partition: partition}
	pid := partitionID{t.name, partition}
	state := m.partitions[pid]
	if state == nil {
		state = &modelPartition{deletion: rawDeletion{timestamp: noDeletion}, rows: map[rowID]*mergedRow{}}
		m.partitions[pid] = state
	}
	rows := map[rowID]*rawRow{}
	for _, row := range append(slices.Clone(d.rows), d.static) {
		if row != nil && row.expires {
			return fmt.Errorf("%s: something in it expires, and the workload writes no TTL to %s", r.place, t.name)
		}
	}
	for _, row := range d.rows {
		clustering, err := keyText(t.clustering, row.clustering)
		if err != nil {
			return fmt.Errorf("%s: %w", r.place, err)
		}
		rows[rowID{table: t.name, partition: partition, clustering: clustering}] = row
	}
	if d.static != nil {
		rows[rowID{table: t.name, partition: partition, static: true}] = d.static
	}
	u.rows = slices.Collect(maps.Keys(rows))
	m.updates = append(m.updates, u)

	// All rows that may change: those written to, and all known ones if the partition is deleted.
	affected := map[rowID]bool{}
	for id := range rows {
		affected[id] = true
	}
	deletion := state.deletion
	if stronger(d.deletion, deletion) {
		deletion = d.deletion
		for id := range state.rows {
			affected[id] = true
		}
	}
	if len(t.clustering) == 0 && d.deletion.timestamp != noDeletion {
		affected[rowID{table: t.name, partition: partition}] = true
	}
	for _, id := range slices.SortedFunc(maps.Keys(affected), compareRows) {
		row := state.rows[id]
		if row == nil {
			row = &mergedRow{table: t, liveness: noDeletion, deletion: rawDeletion{timestamp: noDeletion}, cells: map[string]rawCell{}}
		}
		before := row.view(state.deletion)
		written := rows[id]
		if written != nil {
			if err := row.merge(def, written); err != nil {
				return fmt.Errorf("%s: %s: %w", r.place, id, err)
			}
		}
		state.rows[id] = row
		after := row.view(deletion)
		if err := m.emit(r.place, id, row, before, after, deletion); err != nil {
			return err
		}
		// What deletes a row by its full key is told if the row may have been there before; without clustering that is a deletion of
		// the partition.
		deleted := int64(noDeletion)
		if written != nil {
			deleted = written.deletion.timestamp
		}
		if len(t.clustering) == 0 {
			deleted = max(deleted, d.deletion.timestamp)
		}
		if !row.told && after.image == nil && deleted != noDeletion {
			row.told = true
			m.events = append(m.events, &event{row: id, op: "d", before: image{}, timestamp: deleted, cause: r.place})
		}
	}
	state.deletion = deletion
	return nil
}

// emit notes the event between two views of a row, if they differ.
func (m *rawModel) emit(place rawPlace, id rowID, row *mergedRow, before, after liveView, deletion rawDeletion) error {
	newest, changed := row.newestChange(before, after, deletion)
	if !changed {
		return nil
	}
	if before.err != nil || after.err != nil {
		return fmt.Errorf("%s: %s: %w", place, id, cmp.Or(before.err, after.err))
	}
	if e := change(id, before.image, after.image, newest); e != nil {
		e.cause = place
		m.events = append(m.events, e)
		row.told = e.op == "d"
	}
	return nil
}

// merge is last write wins.
func (row *mergedRow) merge(def *rawDefinition, w *rawRow) error {
	row.liveness = max(row.liveness, w.liveness)
	if stronger(w.deletion, row.deletion) {
		row.deletion = w.deletion
	}
	for _, c := range w.cells {
		if c.column < 0 || c.column >= len(def.columns) {
			return fmt.Errorf("column %d of %d", c.column, len(def.columns))
		}
		name := def.columns[c.column]
		if old, ok := row.cells[name]; !ok || wins(c, old) {
			row.cells[name] = c
		}
	}
	return nil
}

func wins(c, old rawCell) bool {
	if c.timestamp != old.timestamp {
		return c.timestamp > old.timestamp
	}
	if (c.value == nil) != (old.value == nil) {
		return c.value == nil
	}
	if c.value == nil {
		return c.localTime > old.localTime
	}
	return bytes.Compare(c.value, old.value) > 0
}

func stronger(d, than rawDeletion) bool {
	return d.timestamp > than.timestamp || d.timestamp == than.timestamp && d.localTime > than.localTime
}

// liveView is what of a row is alive: its liveness, and the write time of each live cell. The image is nil if the row
// does not exist.
type liveView struct {
	liveness int64
	cells    map[string]rawCell
	image    image
	err      error
}

// view is what the row's own deletion and that of the partition leave of it.
func (row *mergedRow) view(partition rawDeletion) liveView {
	deleted := max(partition.timestamp, row.deletion.timestamp)
	v := liveView{liveness: noDeletion, cells: map[string]rawCell{}}
	if row.liveness > deleted {
		v.liveness = row.liveness
	}
	for name, c := range row.cells {
		if c.value != nil && c.timestamp > deleted {
			v.cells[name] = c
		}
	}
	if v.liveness == noDeletion && len(v.cells) == 0 {
		return v
	}
	v.image = image{}
	for name, c := range v.cells {
		s, err := text(row.table.typeOf(name), c.value)
		if err != nil {
			v.err = fmt.Errorf("column %s: %w", name, err)
		}
		v.image[name] = s
	}
	return v
}

// newestChange compares two views, and finds the newest write time among what made the difference: of what is there
// now, or of what removed what was there. Deletion is that of the partition.
func (row *mergedRow) newestChange(before, after liveView, deletion rawDeletion) (newest int64, changed bool) {
	newest = noDeletion
	deleted := max(deletion.timestamp, row.deletion.timestamp)
	if before.liveness != after.liveness {
		changed = true
		newest = after.liveness
		if newest == noDeletion {
			newest = deleted
		}
	}
	names := maps.Clone(before.cells)
	maps.Copy(names, after.cells)
	for name := range names {
		old, had := before.cells[name]
		now, has := after.cells[name]
		switch {
		case has && (!had || old.timestamp != now.timestamp || !bytes.Equal(old.value, now.value)):
			changed = true
			newest = max(newest, now.timestamp)
		case had && !has:
			changed = true
			removal := deleted
			if c := row.cells[name]; c.value == nil {
				removal = max(removal, c.timestamp)
			}
			newest = max(newest, removal)
		}
	}
	return newest, changed
}

// final is the rows that exist in the end.
func (m *rawModel) final() map[rowID]image {
	rows := map[rowID]image{}
	for _, p := range m.partitions {
		for id, row := range p.rows {
			if v := row.view(p.deletion); v.image != nil {
				rows[id] = v.image
			}
		}
	}
	return rows
}

// partitionText takes a serialized partition key apart: the value itself, or for several columns each with a length of
// two bytes before and a zero byte behind.
func partitionText(t *table, key []byte) (string, error) {
	if len(t.partition) == 1 {
		return keyText(t.partition, []cqlValue{key})
	}
	var values []cqlValue
	for rest := key; len(rest) > 0; {
		if len(rest) < 3 {
			return "", fmt.Errorf("partition key %x is cut", key)
		}
		n := int(binary.BigEndian.Uint16(rest))
		if len(rest) < 2+n+1 || rest[2+n] != 0 {
			return "", fmt.Errorf("partition key %x is cut", key)
		}
		values = append(values, cqlValue(rest[2:2+n]))
		rest = rest[2+n+1:]
	}
	return keyText(t.partition, values)
}

func compareRows(a, b rowID) int { return strings.Compare(a.String(), b.String()) }

// partitionKeyBytes serializes a partition key.
func partitionKeyBytes(values []cqlValue) []byte {
	if len(values) == 1 {
		return values[0]
	}
	var key []byte
	for _, v := range values {
		key = binary.BigEndian.AppendUint16(key, uint16(len(v)))
		key = append(append(key, v...), 0)
	}
	return key
}
