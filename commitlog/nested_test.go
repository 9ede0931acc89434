package commitlog

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"cassdelta/internal/recording"
	"cassdelta/schema"
)

// TestNestedValuesAreWhatCassandraPrints puts the rows of all tables in recorded segments together, cell by cell, and
// compares every column with what SELECT JSON printed.
func TestNestedValuesAreWhatCassandraPrints(t *testing.T) {
	for _, name := range []string{"nested-4.0", "nested-4.1", "nested-5.0", "types-4.0", "types-4.1", "types-5.0", "types-5.0-v8"} {
		t.Run(name, func(t *testing.T) {
			r, err := recording.Open(os.DirFS(filepath.Join("..", "testdata", "recordings", name)))
			if err != nil {
				t.Fatal(err)
			}
			rows := &nestedRows{map[string]*nestedRow{}, map[string]*nestedRow{}}
			tables := map[string]*schema.Table{}
			eachRecorded(t, r, func(table *schema.Table) bool { return table.CDC && !table.View }, func(u *Update) {
				tables[u.Table.FullName()] = u.Table
				rows.add(t, u)
			})
			checked := map[schema.Kind]int{}
			multiCell := 0
			for _, table := range r.Tables {
				def := tables[table.Keyspace+"."+table.Name]
				if def == nil || def.Unsupported() != "" && strings.Contains(def.Unsupported(), "COMPACT STORAGE") {
					continue
				}
				lines, err := r.FinalRows(table.Keyspace, table.Name)
				if err != nil {
					t.Fatal(err)
				}
				for _, line := range lines {
					printed := map[string]json.RawMessage{}
					if err := json.Unmarshal([]byte(line), &printed); err != nil {
						t.Fatal(err)
					}
					rowKey, staticKey := def.FullName(), def.FullName()
					for _, c := range def.Columns[:len(def.PartitionKeyColumns())+len(def.ClusteringColumns())] {
						rowKey += "/" + string(printedColumn(printed, c))
						if c.Kind == schema.PartitionKey {
							staticKey += "/" + string(printedColumn(printed, c))
						}
					}
					for i, c := range def.Columns {
						want := printedColumn(printed, c)
						checked[c.Type.Kind]++
						if c.Type.MultiCell() {
							multiCell++
						}
						key := rowKey
						if c.Kind == schema.Static {
							key = staticKey + "/static"
						}
						if c.Kind >= schema.Static {
							if got := rows.byText[key].text(t, c.Type, i); got != string(want) {
								t.Errorf("%s: column %s is %s in the log: %s", table.Name, c.Name, got, line)
							}
						}
					}
				}
			}
			kinds := []schema.Kind{schema.KindList, schema.KindSet, schema.KindMap, schema.KindUDT, schema.KindTuple, schema.KindCounter}
			if strings.Contains(name, "5.0") {
				kinds = append(kinds, schema.KindVector)
			}
			for _, kind := range kinds {
				if checked[kind] < 2 {
					t.Errorf("%d values of kind %d were checked", checked[kind], kind)
				}
			}
			if strings.HasPrefix(name, "nested") && multiCell < 150 {
				t.Errorf("only %d multi-cell columns were checked", multiCell)
			}
		})
	}
}

// printedColumn is a column's value as it was printed. SELECT JSON has names in quotes as CQL does.
func printedColumn(row map[string]json.RawMessage, c schema.Column) json.RawMessage {
	if text, ok := row[c.Name]; ok {
		return text
	}
	return row[`"`+c.Name+`"`]
}

// nestedRows are the rows of all tables.
type nestedRows struct {
	// byText finds rows by the JSON text of their keys, for each way of writing a key that was found. Static rows have
	// "/static" behind that of their partition.
	byText map[string]*nestedRow
	// byForm finds rows by partition key and comparable clustering.
	byForm map[string]*nestedRow
}

// nestedRow is what is left of a row, or of a static row: the newest cell of each column and path.
type nestedRow struct {
	cells map[int][]Cell // by column
	// deleted is the write time of the newest deletion of the row, and columns those of multi-cell columns.
	deleted int64
	columns map[int]int64
}

func (rows *nestedRows) add(t *testing.T, u *Update) {
	t.Helper()
	values, err := u.Table.SplitPartitionKey(nil, u.Key)
	if err != nil {
		t.Fatal(err)
	}
	text := u.Table.FullName()
	for i, c := range u.Table.PartitionKeyColumns() {
		text += "/" + string(nestedText(t, c.Type, values[i]))
	}
	form := u.Table.FullName() + "/" + string(u.Key)
	if u.Static != nil {
		rows.row(text+"/static", form+"/static").add(t, u.Table, u.Static)
	}
	for _, x := range u.Unfiltereds {
		if x.Row == nil {
			continue
		}
		rowText, rowForm := text, []byte(form+"/row")
		for i, c := range u.Table.ClusteringColumns() {
			if x.Row.Clustering[i] == nil {
				continue // of tables with COMPACT STORAGE
			}
			rowText += "/" + string(nestedText(t, c.Type, x.Row.Clustering[i]))
			if rowForm, err = c.Type.AppendComparable(rowForm, x.Row.Clustering[i], c.Desc); err != nil {
				t.Fatal(err)
			}
		}
		rows.row(rowText, string(rowForm)).add(t, u.Table, x.Row)
	}
}

func (rows *nestedRows) row(text, form string) *nestedRow {
	row := rows.byForm[form]
	if row == nil {
		row = &nestedRow{map[int][]Cell{}, NoTimestamp, map[int]int64{}}
		rows.byForm[form] = row
	}
	rows.byText[text] = row
	return row
}

func (r *nestedRow) add(t *testing.T, table *schema.Table, written *Row) {
	t.Helper()
	if !written.Deletion.IsLive() {
		r.deleted = max(r.deleted, written.Deletion.Timestamp)
	}
	for _, d := range written.ComplexDeletions {
		if last, seen := r.columns[d.Column]; !d.IsLive() && (!seen || d.Timestamp > last) {
			r.columns[d.Column] = d.Timestamp
		}
	}
	for _, c := range written.Cells {
		if c.Column >= len(table.Columns) {
			continue // dropped
		}
		typ := table.Columns[c.Column].Type
		if !c.Deleted {
			err := typ.Validate(c.Value)
			if c.Path != nil {
				err = typ.ValidateCell(c.Path, c.Value)
			}
			if err != nil {
				t.Errorf("%s.%s: %v", table.Name, table.Columns[c.Column].Name, err)
			}
		}
		// The decoder uses its memory again.
		c.Path, c.Value = slices.Clone(c.Path), slices.Clone(c.Value)
		cells := r.cells[c.Column]
		// Paths are the same if the comparator says so, not only if their bytes are: a type can have got fields.
		i := slices.IndexFunc(cells, func(last Cell) bool { return c.Path == nil || typ.ComparePaths(last.Path, c.Path) == 0 })
		if i < 0 {
			r.cells[c.Column] = append(cells, c)
		} else if last := cells[i]; c.Timestamp > last.Timestamp || c.Timestamp == last.Timestamp && !last.Deleted && (c.Deleted || bytes.Compare(c.Value, last.Value) > 0) {
			cells[i] = c
		}
	}
}

// text is the JSON text of a column of the row.
func (r *nestedRow) text(t *testing.T, typ *schema.Type, column int) string {
	t.Helper()
	if r == nil {
		return "null"
	}
	deleted, seen := r.columns[column]
	if !seen || deleted < r.deleted {
		deleted = r.deleted
	}
	var cells []schema.ElementCell
	for _, c := range r.cells[column] {
		if c.Deleted || c.Timestamp <= deleted {
			continue
		}
		if c.Path == nil {
			return string(nestedText(t, typ, c.Value))
		}
		cells = append(cells, schema.ElementCell{Path: c.Path, Value: c.Value})
	}
	if !typ.MultiCell() {
		return "null"
	}
	text, err := typ.AppendCellsJSON(nil, cells)
	if err != nil {
		t.Error(err)
	}
	return string(text)
}

func nestedText(t *testing.T, typ *schema.Type, value []byte) []byte {
	t.Helper()
	text, err := typ.AppendJSON(nil, value)
	if err != nil {
		t.Error(err)
	}
	return text
}
