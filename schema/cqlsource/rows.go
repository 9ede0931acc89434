package cqlsource

import (
	"context"
	"fmt"
	"time"

	gocql "github.com/apache/cassandra-gocql-driver/v2"

	"cassdelta/schema"
)

// pageSize is the number of rows that a node is asked for at once.
const pageSize = 1000

// name is a table's or a type's.
type name struct{ keyspace, name string }

// schemaRows are the rows of system_schema that make tables.
type schemaRows struct {
	tables  []tableRow // those of system_schema.tables, then those of views
	columns map[name][]columnRow
	dropped map[name][]droppedRow
	types   map[name]typeRow
}

func newSchemaRows() *schemaRows {
	return &schemaRows{columns: map[name][]columnRow{}, dropped: map[name][]droppedRow{}, types: map[name]typeRow{}}
}

// A written time is the WRITETIME of a row in microseconds, 0 if it has none.

type tableRow struct {
	name
	id      schema.UUID
	flags   []string
	cdc     bool
	gcGrace int32
	view    bool
	written int64
}

type columnRow struct {
	name, kind, typ, order string
	position               int
	written                int64
}

type droppedRow struct {
	name, kind, typ string
	at              time.Time // to the millisecond
	written         int64
}

type typeRow struct {
	fields, types []string
	written       int64
}

func schemaVersion(ctx context.Context, session *gocql.Session) (version gocql.UUID, err error) {
	err = session.Query("SELECT schema_version FROM system.local WHERE key = 'local'").ScanContext(ctx, &version)
	if err != nil {
		return version, fmt.Errorf("read system.local: %w", err)
	}
	return version, nil
}

// readRows reads the tables before what belongs to them: see [Source.refresh].
func readRows(ctx context.Context, session *gocql.Session) (*schemaRows, error) {
	r := newSchemaRows()
	var n name
	var id gocql.UUID
	var flags []string
	var cdc *bool
	var gcGrace *int32
	var written *int64
	table := func(view bool) {
		r.tables = append(r.tables, tableRow{
			name: n, id: schema.UUID(id), flags: flags, cdc: cdc != nil && *cdc, gcGrace: orZero(gcGrace), view: view, written: orZero(written),
		})
		flags = nil // the next row is to have its own
	}
	if err := each(ctx, session, "SELECT keyspace_name, table_name, id, flags, cdc, gc_grace_seconds, WRITETIME(id) FROM system_schema.tables",
		func() { table(false) }, &n.keyspace, &n.name, &id, &flags, &cdc, &gcGrace, &written); err != nil {
		return nil, err
	}
	if err := each(ctx, session, "SELECT keyspace_name, view_name, id, cdc, gc_grace_seconds, WRITETIME(id) FROM system_schema.views",
		func() { flags = []string{"compound"}; table(true) }, &n.keyspace, &n.name, &id, &cdc, &gcGrace, &written); err != nil {
		return nil, err
	}
	var c columnRow
	if err := each(ctx, session, "SELECT keyspace_name, table_name, column_name, kind, position, clustering_order, type, WRITETIME(type) FROM system_schema.columns",
		func() { c.written = orZero(written); r.columns[n] = append(r.columns[n], c) },
		&n.keyspace, &n.name, &c.name, &c.kind, &c.position, &c.order, &c.typ, &written); err != nil {
		return nil, err
	}
	var d droppedRow
	if err := each(ctx, session, "SELECT keyspace_name, table_name, column_name, kind, type, dropped_time, WRITETIME(dropped_time) FROM system_schema.dropped_columns",
		func() { d.written = orZero(written); r.dropped[n] = append(r.dropped[n], d) },
		&n.keyspace, &n.name, &d.name, &d.kind, &d.typ, &d.at, &written); err != nil {
		return nil, err
	}
	var t typeRow
	if err := each(ctx, session, "SELECT keyspace_name, type_name, field_names, field_types, WRITETIME(field_types) FROM system_schema.types",
		func() { t.written = orZero(written); r.types[n] = t; t = typeRow{} },
		&n.keyspace, &n.name, &t.fields, &t.types, &written); err != nil {
		return nil, err
	}
	return r, nil
}

// each calls f for every row of a query, with the row in dest.
func each(ctx context.Context, session *gocql.Session, query string, f func(), dest ...any) error {
	iter := session.Query(query).PageSize(pageSize).IterContext(ctx)
	for iter.Scan(dest...) {
		f()
	}
	if err := iter.Close(); err != nil {
		return fmt.Errorf("%s: %w", query, err)
	}
	return nil
}

func orZero[T any](v *T) (zero T) {
	if v == nil {
		return zero
	}
	return *v
}

// halfWritten is the write time of the newest row that is newer than the row of its table, or has none; 0 if there is
// no such row.
func (r *schemaRows) halfWritten() int64 {
	written := make(map[name]int64, len(r.tables))
	for _, t := range r.tables {
		written[t.name] = t.written
	}
	newest := int64(0)
	for n, columns := range r.columns {
		for _, c := range columns {
			if c.written > written[n] {
				newest = max(newest, c.written)
			}
		}
	}
	for n, dropped := range r.dropped {
		for _, d := range dropped {
			if d.written > written[n] {
				newest = max(newest, d.written)
			}
		}
	}
	return newest
}
