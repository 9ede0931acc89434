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

// TestValuesAreWhatCassandraPrints compares the values in recorded segments with the rows that SELECT JSON printed: the
// newest cell of each column, found by the comparable form of its row's clustering, must have exactly the row's text.
func TestValuesAreWhatCassandraPrints(t *testing.T) {
	for _, name := range []string{"types-4.0", "types-4.1", "types-5.0", "types-5.0-v8"} {
		t.Run(name, func(t *testing.T) {
			r, err := recording.Open(os.DirFS(filepath.Join("..", "testdata", "recordings", name)))
			if err != nil {
				t.Fatal(err)
			}
			rows := recordedCells(t, r)
			checked := map[schema.Kind]int{}
			empty := 0
			for _, table := range r.Tables {
				lines, err := r.FinalRows(table.Keyspace, table.Name)
				if err != nil {
					t.Fatal(err)
				}
				cells := rows[table.Keyspace+"."+table.Name]
				if cells == nil {
					continue
				}
				for _, line := range lines {
					for i, text := range cells.columns(t, line) {
						column := cells.table.Columns[i]
						checked[column.Type.Kind]++
						if string(text) == `""` {
							empty++
						}
						if column.Kind < schema.Static {
							continue // the row was found by it
						}
						if found := cells.text(t, line, i); found != string(text) {
							t.Errorf("%s: column %s is %s in the log: %s", table.Name, column.Name, found, line)
						}
					}
				}
			}
			for kind := schema.KindASCII; kind <= schema.KindVarint; kind++ {
				if checked[kind] == 0 && kind != schema.KindCounter && kind != schema.KindEmpty {
					t.Errorf("no value of kind %d was checked", kind)
				}
			}
			if empty < 10 {
				t.Errorf("%d empty values were checked", empty)
			}
		})
	}
}

// tableCells is what a log holds of one table.
type tableCells struct {
	table *schema.Table
	// byKey finds rows by the text of their key's columns, for each way of writing a value that was found. The key of
	// the static row is that of its partition.
	byKey map[string]*rowCells
	// byForm finds rows by partition key and comparable clustering.
	byForm map[string]*rowCells
}

// rowCells are the newest cells of a row by column.
type rowCells map[int]Cell

// recordedCells gives the cells of the tables with cdc and without nested types that a recording holds, by full name.
func recordedCells(t *testing.T, r *recording.Recording) map[string]*tableCells {
	t.Helper()
	found := map[string]*tableCells{}
	nested := func(c schema.Column) bool { return !c.Type.Native() }
	wants := func(table *schema.Table) bool {
		return table.CDC && table.Unsupported() == "" && !slices.ContainsFunc(table.Columns, nested)
	}
	eachRecorded(t, r, wants, func(u *Update) {
		name := u.Table.FullName()
		if found[name] == nil {
			found[name] = &tableCells{table: u.Table, byKey: map[string]*rowCells{}, byForm: map[string]*rowCells{}}
		}
		found[name].add(t, u)
	})
	return found
}

// eachRecorded decodes all segments of a recording, and gives the updates of the tables that are wanted. The update is
// valid during the call.
func eachRecorded(t *testing.T, r *recording.Recording, wants func(*schema.Table) bool, f func(*Update)) {
	t.Helper()
	text, err := r.Schema()
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := schema.ParseCQL("schema.cql", text)
	if err != nil {
		t.Fatal(err)
	}
	decoder := NewDecoder(parsed.Catalog(), wants)
	for _, node := range r.Nodes {
		dir := t.TempDir()
		if err := r.Unpack(node.Name, recording.FinalMoment, dir); err != nil {
			t.Fatal(err)
		}
		segments, err := filepath.Glob(filepath.Join(dir, "*.log"))
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range segments {
			b, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			version, _, ok := ParseSegmentName(filepath.Base(file))
			if !ok {
				t.Fatalf("%s is no segment", file)
			}
			reader := NewBytesReader(filepath.Base(file), b)
			for {
				payload, position, err := reader.Next()
				if err != nil {
					break
				}
				var m Mutation
				// The system's tables are not known, and are in no mutation with others.
				_ = decoder.Decode(version, payload, position, &m)
				for i := range m.Updates {
					f(&m.Updates[i])
				}
			}
		}
	}
}

func (c *tableCells) add(t *testing.T, u *Update) {
	t.Helper()
	keys, err := c.table.SplitPartitionKey(nil, u.Key)
	if err != nil {
		t.Fatal(err)
	}
	form := string(u.Key) + "/"
	var text []byte
	for i, column := range c.table.PartitionKeyColumns() {
		text = appendColumn(t, text, column, keys[i])
	}
	if u.Static != nil {
		c.addRow(t, form, string(text), u.Static)
	}
	for _, unfiltered := range u.Unfiltereds {
		row := unfiltered.Row
		if row == nil {
			continue
		}
		var form, text = []byte(form), bytes.Clone(text)
		for i, column := range c.table.ClusteringColumns() {
			if form, err = column.Type.AppendComparable(form, row.Clustering[i], column.Desc); err != nil {
				t.Fatal(err)
			}
			text = appendColumn(t, text, column, row.Clustering[i])
		}
		c.addRow(t, string(form), string(text), row)
	}
}

func (c *tableCells) addRow(t *testing.T, form, text string, row *Row) {
	t.Helper()
	cells := c.byForm[form]
	if cells == nil {
		cells = &rowCells{}
		c.byForm[form] = cells
	}
	c.byKey[text] = cells
	for _, cell := range row.Cells {
		if cell.Column >= len(c.table.Columns) {
			continue // dropped
		}
		if err := c.table.Columns[cell.Column].Type.Validate(cell.Value); err != nil {
			t.Errorf("%s.%s: %v", c.table.Name, c.table.Columns[cell.Column].Name, err)
		}
		last, seen := (*cells)[cell.Column]
		if !seen || cell.Timestamp > last.Timestamp || cell.Timestamp == last.Timestamp && (cell.Deleted || bytes.Compare(cell.Value, last.Value) > 0) {
			// The decoder uses its memory again.
			cell.Value = append(cell.Value[:0:0], cell.Value...)
			(*cells)[cell.Column] = cell
		}
	}
}

// columns gives the text of each column of a row, but for those that are null.
func (c *tableCells) columns(t *testing.T, line string) map[int]json.RawMessage {
	t.Helper()
	var byName map[string]json.RawMessage
	if err := json.Unmarshal([]byte(line), &byName); err != nil {
		t.Fatal(err)
	}
	columns := map[int]json.RawMessage{}
	for name, text := range byName {
		i, ok := c.table.ColumnIndex(strings.Trim(name, `"`)) // SELECT JSON quotes names as CQL does
		if !ok {
			t.Fatalf("%s has no column %s: %s", c.table.Name, name, line)
		}
		if string(text) != "null" {
			columns[i] = text
		}
	}
	return columns
}

// text is the JSON text of the newest cell of a column of the row printed.
func (c *tableCells) text(t *testing.T, line string, column int) string {
	t.Helper()
	key := c.table.PartitionKeyColumns()
	if c.table.Columns[column].Kind == schema.Regular {
		key = c.table.Columns[:len(key)+len(c.table.ClusteringColumns())]
	}
	printed := c.columns(t, line)
	var text []byte
	for i := range key {
		text = append(append(text, printed[i]...), '/')
	}
	row := c.byKey[string(text)]
	if row == nil {
		return "in no row " + string(text)
	}
	cell, ok := (*row)[column]
	if !ok {
		return "absent"
	}
	found, err := c.table.Columns[column].Type.AppendJSON(nil, cell.Value)
	if err != nil {
		t.Error(err)
	}
	return string(found)
}

func appendColumn(t *testing.T, dst []byte, column schema.Column, value []byte) []byte {
	t.Helper()
	dst, err := column.Type.AppendJSON(dst, value)
	if err != nil {
		t.Error(err)
	}
	return append(dst, '/')
}
