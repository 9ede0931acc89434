package differential

import (
	"context"
	"fmt"
	"slices"
	"time"

	gocql "github.com/apache/cassandra-gocql-driver/v2"

	"cassdelta/schema"
)

// This file has what workloads do to tables as a whole. Truncations come between the writes of the phases in which all nodes
// are up, and race with them; the rest comes between phases.

// window is a time in microseconds since 1970, to the end of both.
type window struct{ from, to int64 }

func (w window) holds(time int64) bool { return time >= w.from && time <= w.to }

// uncaptured is what was written while cdc was off.
type uncaptured struct {
	when window
	// partitions are those that it was written to, by the table's full name and the key.
	partitions map[string]bool
}

func (u *uncaptured) has(table string, key []byte) bool { return u.partitions[table+" "+string(key)] }

// growing is the name of the user type that gets fields. A type in a primary key cannot, so it is in none.
const growing = "growing"

// makeGrowing makes the type that gets fields.
func (g *generator) makeGrowing() {
	g.grows = &schema.Type{Kind: schema.KindUDT, Keyspace: g.keyspace, Name: growing, Fields: []string{"Field 0"}, Elems: []*schema.Type{g.native(inKey)}}
}

// grown is t with another version of a user type in it.
func grown(t, version *schema.Type) *schema.Type {
	if t.Kind == schema.KindUDT && t.Name == version.Name {
		same := *version
		same.Frozen = t.Frozen
		return &same
	}
	if len(t.Elems) == 0 {
		return t
	}
	changed := *t
	changed.Elems = nil
	for _, e := range t.Elems {
		changed.Elems = append(changed.Elems, grown(e, version))
	}
	return &changed
}

// grow gives the user type another field, in all workloads.
func (w *workloads) grow(ctx context.Context, s *gocql.Session) error {
	old := w.units[0].g.grows
	version := *old
	field := fmt.Sprintf("Field %d", len(old.Fields))
	typ := w.units[0].g.native(inKey)
	version.Fields, version.Elems = append(slices.Clone(old.Fields), field), append(slices.Clone(old.Elems), typ)
	if err := exec(ctx, s, fmt.Sprintf("ALTER TYPE %s.%s ADD %s %s", quote(old.Keyspace), quote(old.Name), quote(field), typ.CQL())); err != nil {
		return err
	}
	for _, u := range w.units {
		u.g.grows, u.g.pool = &version, nil
		for _, t := range u.tables {
			t.templates = map[writeKind][]*template{}
			for _, columns := range [][]column{t.statics, t.regulars} {
				for i := range columns {
					columns[i].typ = grown(columns[i].typ, &version)
				}
			}
		}
	}
	return nil
}

// define alters some tables, and with DDL the user type, and drops some tables and creates them again.
func (w *workloads) define(ctx context.Context, name string) error {
	w.Progress("%s", name)
	s, err := w.cluster.Nodes[0].Session()
	if err != nil {
		return err
	}
	defer s.Close()
	if w.DDL {
		if err := w.grow(ctx, s); err != nil {
			return err
		}
	}
	for i, u := range w.units {
		if of := i % sharing; of > 0 {
			u.share(w.units[i-of])
			continue
		}
		statements := u.alter()
		if w.DDL {
			statements = append(statements, u.recreate()...)
		}
		for _, cql := range statements {
			if err := exec(ctx, s, cql); err != nil {
				return err
			}
		}
	}
	return nil
}

// recreate drops a table now and then, and creates another with its name and key.
func (u *unit) recreate() []string {
	g := u.g
	var statements []string
	for i, t := range u.tables {
		if u.switches && i == 0 || !g.chance(0.2) {
			continue
		}
		statements = append(statements, "DROP TABLE "+t.cql(g))
		t.templates = map[writeKind][]*template{}
		if !t.counter {
			used := u.group.used()
			for _, c := range append(slices.Clone(t.clustering), t.statics...) {
				used[c.name] = true
			}
			t.regulars = g.columns(used, 1+g.rng.IntN(4), "r", inColumn)
		}
		statements = append(statements, g.createTable(t))
	}
	return statements
}

// switchOff lets workloads write while the tables of some of them are not captured. Those write to one of their partitions
// only then: of the others all is known.
func (w *workloads) switchOff(ctx context.Context) error {
	s, err := w.cluster.Nodes[0].Session()
	if err != nil {
		return err
	}
	defer s.Close()
	turn := func(to string) error {
		for i, u := range w.units {
			if !w.DDL || !u.switches || i%sharing > 0 {
				continue
			}
			t := u.tables[0]
			if err := exec(ctx, s, fmt.Sprintf("ALTER TABLE %s WITH cdc = %s", t.cql(u.g), to)); err != nil {
				return err
			}
		}
		return nil
	}
	if err := turn("false"); err != nil {
		return err
	}
	w.uncaptured = uncaptured{when: window{from: time.Now().UnixMicro()}, partitions: map[string]bool{}}
	for _, u := range w.units {
		if !w.DDL || !u.switches {
			continue
		}
		u.keys, u.g.present = u.group.keys[:1], true
		spec := schema.Table{Keyspace: workloadKeyspace, Name: u.tables[0].name}
		key, err := u.joinKey(u.keys[0])
		if err != nil {
			return err
		}
		w.uncaptured.partitions[spec.FullName()+" "+string(key)] = true
	}
	if err := w.phase(ctx, "some tables are not captured", shareOff); err != nil {
		return err
	}
	w.uncaptured.when.to = time.Now().UnixMicro()
	for _, u := range w.units {
		u.keys, u.g.present = u.group.keys, false
	}
	return turn("true")
}

// joinKey is the partition key of these values.
func (u *unit) joinKey(values [][]byte) ([]byte, error) {
	spec := schema.Table{Keyspace: workloadKeyspace, Name: "t", ID: schema.UUID{1}, Flags: []string{"compound"}}
	for i, c := range u.group.partition {
		spec.Columns = append(spec.Columns, schema.Column{Name: c.name, Kind: schema.PartitionKey, Position: i, Type: c.typ})
	}
	t, err := schema.NewTable(spec)
	if err != nil {
		return nil, err
	}
	return t.JoinPartitionKey(nil, values), nil
}

// awaitSchema waits until all nodes that are up have one schema.
func (w *workloads) awaitSchema(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	for {
		found := map[gocql.UUID]bool{}
		for _, n := range w.cluster.Nodes {
			if !n.Running() {
				continue
			}
			s, err := n.Session()
			if err != nil {
				return err
			}
			var version gocql.UUID
			err = s.Query("SELECT schema_version FROM system.local").ScanContext(ctx, &version)
			s.Close()
			if err != nil {
				return err
			}
			found[version] = true
		}
		if len(found) == 1 {
			return nil
		}
		if err := sleepUntil(ctx, time.Now().Add(200*time.Millisecond)); err != nil {
			return fmt.Errorf("the nodes have %d schemas: %w", len(found), err)
		}
	}
}
