package cqlsource

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"cassdelta/schema"
)

// LooksLikeRows reports whether a text is one for [ParseRows] rather than CQL.
func LooksLikeRows(text string) bool {
	for line := range strings.Lines(text) {
		if strings.HasPrefix(strings.TrimSpace(line), `{"`) {
			return true
		}
	}
	return false
}

// ParseRows makes tables of rows of system_schema as SELECT JSON prints them, one a line, in any order:
//
//	SELECT JSON * FROM system_schema.tables
//	SELECT JSON * FROM system_schema.views
//	SELECT JSON * FROM system_schema.columns
//	SELECT JSON * FROM system_schema.types
//	SELECT JSON * FROM system_schema.dropped_columns
//
// A row is known by its columns; rows of the other tables of system_schema are passed over, and so are empty lines and
// the lines that cqlsh prints around the rows. Of each keyspace, all rows must be there: what is missing of a table's
// columns cannot be seen, but a table without a partition key, and one with a type that is not there, can. Such tables
// are left out and named in refused. name is the file's name for errors, which give name:line.
func ParseRows(name, text string) (tables []*schema.Table, refused []error, err error) {
	rows := newSchemaRows()
	number := 0
	for line := range strings.Lines(text) {
		number++
		line = strings.TrimSpace(line)
		if !strings.HasPrefix(line, "{") {
			if aroundRows(line) {
				continue
			}
			return nil, nil, fmt.Errorf("%s:%d: expected a row of system_schema as SELECT JSON prints it, found %.60q", name, number, line)
		}
		if err := rows.addJSON(line); err != nil {
			return nil, nil, fmt.Errorf("%s:%d: %w", name, number, err)
		}
	}
	if len(rows.tables) == 0 {
		return nil, nil, fmt.Errorf("%s: expected rows of system_schema.tables, found none", name)
	}
	tables, left := rows.build()
	for _, r := range left {
		refused = append(refused, fmt.Errorf("%s: %s.%s: %w", name, r.keyspace, r.name.name, r.err))
	}
	return tables, refused, nil
}

// aroundRows reports whether a line is one of those that cqlsh prints around the rows of SELECT JSON: a title, a line of
// dashes, how many rows there are, and remarks on versions.
func aroundRows(line string) bool {
	return line == "" || line == "[json]" || strings.Trim(line, "-") == "" || strings.HasPrefix(line, "WARNING:") ||
		strings.HasPrefix(line, "(") && strings.HasSuffix(line, " rows)")
}

// jsonRow is a row of any table of system_schema; what its table does not have is nil.
type jsonRow struct {
	Keyspace *string `json:"keyspace_name"`

	Table   *string  `json:"table_name"`
	View    *string  `json:"view_name"`
	ID      string   `json:"id"`
	Flags   []string `json:"flags"`
	CDC     *bool    `json:"cdc"`
	GCGrace *int32   `json:"gc_grace_seconds"`

	Column   *string `json:"column_name"`
	Kind     *string `json:"kind"`
	Position int     `json:"position"`
	Order    string  `json:"clustering_order"`
	Type     string  `json:"type"`
	Dropped  *string `json:"dropped_time"`

	UserType   *string  `json:"type_name"`
	FieldNames []string `json:"field_names"`
	FieldTypes []string `json:"field_types"`

	// These are in the tables that are passed over.
	Replication  any     `json:"replication"`
	IndexName    *string `json:"index_name"`
	TriggerName  *string `json:"trigger_name"`
	FunctionName *string `json:"function_name"` // column_masks has it too
	Aggregate    *string `json:"aggregate_name"`
}

// addJSON adds the row of a line. Its errors do not name the line.
func (r *schemaRows) addJSON(line string) error {
	var row jsonRow
	if err := json.Unmarshal([]byte(line), &row); err != nil {
		return fmt.Errorf("expected a row of system_schema as JSON: %w", err)
	}
	if row.Keyspace == nil {
		return errors.New("expected a row of system_schema, found none: it has no keyspace_name")
	}
	switch {
	case row.Replication != nil, row.IndexName != nil, row.TriggerName != nil, row.FunctionName != nil, row.Aggregate != nil:
		return nil
	case row.UserType != nil:
		r.types[name{*row.Keyspace, *row.UserType}] = typeRow{fields: row.FieldNames, types: row.FieldTypes}
		return nil
	case row.View != nil:
		return r.addTable(&row, *row.View, []string{"compound"})
	case row.Table == nil:
		return errors.New("expected a row of tables, views, columns, types or dropped_columns of system_schema, found one without a name")
	case row.Column == nil:
		return r.addTable(&row, *row.Table, row.Flags)
	}
	table := name{*row.Keyspace, *row.Table}
	if row.Dropped == nil {
		r.columns[table] = append(r.columns[table], columnRow{name: *row.Column, kind: orZero(row.Kind), typ: row.Type, order: row.Order, position: row.Position})
		return nil
	}
	at, err := parseTimestamp(*row.Dropped)
	if err != nil {
		return fmt.Errorf("dropped_time of %s: %w", *row.Column, err)
	}
	r.dropped[table] = append(r.dropped[table], droppedRow{name: *row.Column, kind: orZero(row.Kind), typ: row.Type, at: at})
	return nil
}

// addTable adds the row of a table or view.
func (r *schemaRows) addTable(row *jsonRow, tableName string, flags []string) error {
	id, err := schema.ParseUUID(row.ID)
	if err != nil {
		return fmt.Errorf("id of %s.%s: %w", *row.Keyspace, tableName, err)
	}
	r.tables = append(r.tables, tableRow{
		name: name{*row.Keyspace, tableName}, id: id, flags: flags, cdc: orZero(row.CDC), gcGrace: orZero(row.GCGrace), view: row.View != nil,
	})
	return nil
}

// parseTimestamp reads a timestamp as SELECT JSON prints it: with a sign and more digits after the year 9999. Some system
// tables have dropped columns of the last microsecond that there is.
func parseTimestamp(text string) (time.Time, error) {
	digits, rest, _ := strings.Cut(strings.TrimPrefix(text, "+"), "-")
	year, err := strconv.Atoi(digits)
	if err != nil {
		return time.Time{}, fmt.Errorf("expected a time as SELECT JSON prints it, found %q", text)
	}
	at, err := time.Parse("2006-01-02 15:04:05.000Z", "2000-"+rest)
	if err != nil {
		return time.Time{}, fmt.Errorf("expected a time as SELECT JSON prints it, found %q: %w", text, err)
	}
	return at.AddDate(year-2000, 0, 0), nil
}
