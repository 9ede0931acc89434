package cqlsource

import (
	"fmt"

	"cassdelta/schema"
)

// refusal is a table of which no [schema.Table] can be made.
type refusal struct {
	name
	id  schema.UUID
	err error
}

// build makes the tables of the rows.
func (r *schemaRows) build() (tables []*schema.Table, refused []refusal) {
	types := typeResolver{rows: r.types, made: map[name]*userType{}}
	for _, row := range r.tables {
		t, err := r.table(row, &types)
		if err != nil {
			refused = append(refused, refusal{row.name, row.id, err})
			continue
		}
		tables = append(tables, t)
	}
	return tables, refused
}

func (r *schemaRows) table(row tableRow, types *typeResolver) (*schema.Table, error) {
	spec := schema.Table{
		Keyspace: row.keyspace, Name: row.name.name, ID: row.id, GCGraceSeconds: row.gcGrace, CDC: row.cdc, Flags: row.flags,
		View: row.view, AlteredAt: row.written,
	}
	for _, c := range r.columns[row.name] {
		column := schema.Column{Name: c.name, Position: max(c.position, 0), Desc: c.order == "desc"}
		var err error
		var typeWritten int64
		if column.Kind, err = schema.ParseColumnKind(c.kind); err == nil {
			column.Type, typeWritten, err = types.parse(row.keyspace, c.typ)
		}
		if err != nil {
			return nil, fmt.Errorf("column %s: %w", c.name, err)
		}
		spec.AlteredAt = max(spec.AlteredAt, c.written, typeWritten)
		spec.Columns = append(spec.Columns, column)
	}
	for _, d := range r.dropped[row.name] {
		column := schema.DroppedColumn{Name: d.name, Kind: schema.Regular, DroppedAt: d.at.UnixMilli() * 1000}
		var err error
		if d.kind != "" { // Cassandra 3 wrote none
			column.Kind, err = schema.ParseColumnKind(d.kind)
		}
		if err == nil {
			column.Type, _, err = types.parse(row.keyspace, d.typ)
		}
		if err != nil {
			return nil, fmt.Errorf("dropped column %s: %w", d.name, err)
		}
		spec.AlteredAt = max(spec.AlteredAt, d.written)
		spec.Dropped = append(spec.Dropped, column)
	}
	return schema.NewTable(spec)
}

// typeResolver makes user types when they are first used, each once.
type typeResolver struct {
	rows map[name]typeRow
	made map[name]*userType
}

// userType is a user type, or why there is none.
type userType struct {
	typ *schema.Type
	// written is the write time of the newest among it and the types in it.
	written int64
	err     error
}

// parse reads the type of a column or field in a keyspace. written is the write time of the newest user type in it, 0 if
// there is none.
func (r *typeResolver) parse(keyspace, text string) (t *schema.Type, written int64, err error) {
	var failed error
	t, err = schema.ParseType(text, func(typeName string) *schema.Type {
		u := r.find(name{keyspace, typeName})
		if u == nil {
			return nil
		}
		if u.err != nil {
			failed = u.err
		}
		written = max(written, u.written)
		return u.typ
	})
	if failed != nil {
		err = failed
	}
	return t, written, err
}

// find is a user type; nil if there is no such type.
func (r *typeResolver) find(n name) *userType {
	if u, ok := r.made[n]; ok {
		return u
	}
	row, ok := r.rows[n]
	if !ok {
		return nil
	}
	u := &userType{written: row.written, err: fmt.Errorf("type %s.%s contains itself", n.keyspace, n.name)}
	r.made[n] = u
	var types []*schema.Type
	for _, text := range row.types {
		t, written, err := r.parse(n.keyspace, text)
		if err != nil {
			u.err = fmt.Errorf("type %s.%s: %w", n.keyspace, n.name, err)
			return u
		}
		u.written = max(u.written, written)
		types = append(types, t)
	}
	u.typ, u.err = schema.NewUDT(n.keyspace, n.name, row.fields, types)
	return u
}
