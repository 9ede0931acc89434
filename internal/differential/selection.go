package differential

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"

	"cassdelta/schema"
	"cassdelta/schema/cqlsource"
)

// selection is what Cassandra answers at ALL: the rows of all tables that have cdc on.
type selection struct {
	tables []*schema.Table
	// rows are by form.
	rows         map[string]*selectedRow
	began, ended time.Time
	uncaptured   *uncaptured
}

// selectedRow is a row, or a static row.
type selectedRow struct {
	table      *schema.Table
	key        []byte
	static     bool
	clustering [][]byte
	// columns are those of the row.
	columns []schema.Column
	values  map[string][]byte
	// timed has the columns whose write times and TTLs were asked for; those are one for each cell.
	timed       map[string]bool
	times, ttls map[string][][]byte
}

// selectAll reads all tables.
func (w *workloads) selectAll(ctx context.Context) (*selection, error) {
	n := w.cluster.Nodes[0]
	source, err := cqlsource.New(cqlsource.Config{ContactPoints: []string{n.Addr}}, zap.NewNop())
	if err != nil {
		return nil, err
	}
	defer source.Close()
	catalog, err := source.Read(ctx)
	if err != nil {
		return nil, err
	}
	c, err := dial(ctx, net.JoinHostPort(n.Addr, strconv.Itoa(n.CQLPort)), &preparedIDs{byCQL: map[string]*preparedID{}})
	if err != nil {
		return nil, err
	}
	defer c.close()
	s := &selection{rows: map[string]*selectedRow{}, began: time.Now(), uncaptured: &w.uncaptured}
	for _, t := range catalog.Tables() {
		if t.Keyspace != workloadKeyspace || !t.CDC {
			continue
		}
		s.tables = append(s.tables, t)
		if err := s.read(c, t, w.version.cassandra == "5.0"); err != nil {
			return nil, err
		}
	}
	s.ended = time.Now()
	return s, nil
}

// read reads a table. Before 5.0 the write times of elements cannot be asked for, those of counters never.
func (s *selection) read(c *client, t *schema.Table, elements bool) error {
	var what []string
	timed := map[string]bool{}
	for _, column := range t.Columns {
		name := quote(column.Name)
		what = append(what, name)
		if column.Kind >= schema.Static && column.Type.Kind != schema.KindCounter && (!column.Type.MultiCell() || elements && column.Type.Kind != schema.KindUDT) {
			timed[column.Name] = true
			what = append(what, "WRITETIME("+name+")", "TTL("+name+")")
		}
	}
	rows, err := c.query(fmt.Sprintf("SELECT %s FROM %s.%s", strings.Join(what, ", "), quote(t.Keyspace), quote(t.Name)))
	if err != nil {
		return err
	}
	for _, values := range rows {
		row := &selectedRow{
			table: t, columns: t.RegularColumns(), values: map[string][]byte{}, timed: timed, times: map[string][][]byte{}, ttls: map[string][][]byte{},
		}
		static := *row
		static.static, static.columns = true, t.StaticColumns()
		var key [][]byte
		statics := false
		for _, column := range t.Columns {
			v := values[0]
			values = values[1:]
			switch column.Kind {
			case schema.PartitionKey:
				key = append(key, v)
				continue
			case schema.Clustering:
				row.clustering = append(row.clustering, v)
				continue
			case schema.Static:
				statics = statics || v != nil
			}
			row.values[column.Name] = v
			if !timed[column.Name] {
				continue
			}
			times, ttls := values[0], values[1]
			values = values[2:]
			switch {
			case v == nil:
			case column.Type.MultiCell():
				row.times[column.Name], row.ttls[column.Name] = listed(times), listed(ttls)
			default:
				row.times[column.Name], row.ttls[column.Name] = [][]byte{times}, [][]byte{ttls}
			}
		}
		row.key = t.JoinPartitionKey(nil, key)
		static.key = row.key
		if statics {
			s.rows[s.form(t.FullName(), static.key, true, nil)] = &static
		}
		// A partition that has nothing but a static row is a row with null clustering.
		if len(row.clustering) == 0 || row.clustering[0] != nil {
			s.rows[s.form(t.FullName(), row.key, false, row.clustering)] = row
		}
	}
	return nil
}

// listed are the elements of a list.
func listed(v []byte) [][]byte {
	if v == nil {
		return nil
	}
	r := reply{v}
	var all [][]byte
	for range r.u32() {
		if n := int32(r.u32()); n < 0 {
			all = append(all, nil)
		} else {
			all = append(all, r.bytes(int(n)))
		}
	}
	return all
}

func (s *selection) table(name string) *schema.Table {
	for _, t := range s.tables {
		if t.FullName() == name {
			return t
		}
	}
	return nil
}

// form is a name for a row that is the same for all forms of its key.
func (s *selection) form(table string, key []byte, static bool, clustering [][]byte) string {
	form := binary.AppendUvarint([]byte(table+" "), uint64(len(key)))
	form = append(form, key...)
	if static {
		return string(append(form, "static"...))
	}
	if t := s.table(table); t != nil {
		for i, c := range t.ClusteringColumns() {
			// A value that has no form was never written.
			form, _ = c.Type.AppendComparable(form, clustering[i], c.Desc)
		}
	}
	return string(form)
}
