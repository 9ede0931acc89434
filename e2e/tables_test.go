package e2e

import (
	"fmt"
	"strings"
	"time"
)

// keyspace is that of all tables of the workload.
const keyspace = "shop"

// column is a column of a table of the workload. Its type is a native CQL type.
type column struct {
	name, typ string
	desc      bool
}

// table is a table of the workload. Its static columns are in the order of their names, its regular ones as well, as
// Cassandra has them.
type table struct {
	name                                    string
	partition, clustering, statics, regular []column
	cdc                                     bool
}

// tables have every shape of primary key, and between them every native type but counter.
//
// orders, notes and untracked have the same partition key, so a batch on one key is one mutation that writes to all
// three; only two of them are followed.
var tables = []*table{
	{
		name:      "accounts",
		partition: []column{{name: "id", typ: "int"}},
		regular: []column{
			{name: "active", typ: "boolean"}, {name: "balance", typ: "decimal"}, {name: "name", typ: "text"},
			{name: "opened", typ: "date"}, {name: "seq", typ: "bigint"},
		},
		cdc: true,
	},
	{
		name:       "readings",
		partition:  []column{{name: "device", typ: "text"}, {name: "day", typ: "date"}},
		clustering: []column{{name: "at", typ: "timestamp", desc: true}, {name: "channel", typ: "smallint"}},
		regular: []column{
			{name: "payload", typ: "blob"}, {name: "quality", typ: "tinyint"}, {name: "seq", typ: "bigint"}, {name: "value", typ: "double"},
		},
		cdc: true,
	},
	{
		name:       "orders",
		partition:  []column{{name: "customer", typ: "uuid"}},
		clustering: []column{{name: "number", typ: "int", desc: true}},
		statics:    []column{{name: "credit", typ: "varint"}, {name: "tier", typ: "text"}},
		regular:    []column{{name: "placed", typ: "timestamp"}, {name: "seq", typ: "bigint"}, {name: "total", typ: "decimal"}},
		cdc:        true,
	},
	{
		name:       "notes",
		partition:  []column{{name: "customer", typ: "uuid"}},
		clustering: []column{{name: "title", typ: "text"}},
		regular:    []column{{name: "body", typ: "text"}, {name: "seq", typ: "bigint"}, {name: "stars", typ: "tinyint"}},
		cdc:        true,
	},
	{
		name:       "natives",
		partition:  []column{{name: "id", typ: "bigint"}, {name: "kind", typ: "ascii"}},
		clustering: []column{{name: "version", typ: "timeuuid", desc: true}},
		regular:    nativeColumns(),
		cdc:        true,
	},
	{
		name:       "untracked",
		partition:  []column{{name: "customer", typ: "uuid"}},
		clustering: []column{{name: "number", typ: "int"}},
		regular:    []column{{name: "seq", typ: "bigint"}},
	},
}

// fleeting is a table beside those of the workload, whose rows expire. Of the models none knows it, since time is none of their
// business; see cluster.checkExpiry.
var fleeting = &table{name: "fleeting", partition: []column{{name: "id", typ: "int"}}, regular: []column{{name: "v", typ: "text"}}, cdc: true}

// fleetingTTL is its default_time_to_live.
const fleetingTTL = 10 * time.Second

// nativeColumns is one column for each native type, named c_<type>, and seq.
func nativeColumns() []column {
	var columns []column
	for _, typ := range nativeTypes {
		columns = append(columns, column{name: "c_" + typ, typ: typ})
	}
	return append(columns, column{name: "seq", typ: "bigint"})
}

// tableByName finds a table of the workload; nil if there is none.
func tableByName(name string) *table {
	for _, t := range tables {
		if t.name == name {
			return t
		}
	}
	return nil
}

// tracked are the tables that events are expected of.
func tracked() []*table {
	var list []*table
	for _, t := range tables {
		if t.cdc {
			list = append(list, t)
		}
	}
	return list
}

// key is the columns of the primary key.
func (t *table) key() []column {
	return append(t.partition[:len(t.partition):len(t.partition)], t.clustering...)
}

// columns is all columns: partition key, clustering, static, regular.
func (t *table) columns() []column {
	return append(append(t.key(), t.statics...), t.regular...)
}

func (t *table) isStatic(name string) bool {
	for _, c := range t.statics {
		if c.name == name {
			return true
		}
	}
	return false
}

// typeOf is the type of a column, empty if there is none.
func (t *table) typeOf(name string) string {
	for _, c := range t.columns() {
		if c.name == name {
			return c.typ
		}
	}
	return ""
}

func (t *table) fullName() string { return keyspace + "." + t.name }

// ddl is the statement that makes the table.
func (t *table) ddl() string {
	var b strings.Builder
	fmt.Fprintf(&b, "CREATE TABLE %s (", t.fullName())
	for _, c := range t.columns() {
		fmt.Fprintf(&b, "%s %s", c.name, c.typ)
		if t.isStatic(c.name) {
			b.WriteString(" STATIC")
		}
		b.WriteString(", ")
	}
	fmt.Fprintf(&b, "PRIMARY KEY ((%s)", strings.Join(names(t.partition), ", "))
	for _, c := range t.clustering {
		b.WriteString(", " + c.name)
	}
	b.WriteString("))")
	if len(t.clustering) > 0 {
		var order []string
		for _, c := range t.clustering {
			direction := "ASC"
			if c.desc {
				direction = "DESC"
			}
			order = append(order, c.name+" "+direction)
		}
		fmt.Fprintf(&b, " WITH CLUSTERING ORDER BY (%s) AND cdc = %t", strings.Join(order, ", "), t.cdc)
	} else {
		fmt.Fprintf(&b, " WITH cdc = %t", t.cdc)
	}
	return b.String()
}

func names(columns []column) []string {
	list := make([]string, len(columns))
	for i, c := range columns {
		list[i] = c.name
	}
	return list
}
