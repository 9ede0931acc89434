package differential

import (
	"context"
	"fmt"
	"strings"

	gocql "github.com/apache/cassandra-gocql-driver/v2"
	"golang.org/x/sync/errgroup"
)

// phases is the number of parts of a workload: before each but the first, tables are altered.
const phases = 3

// writers is the number of connections, each with one write that waits for its answer.
const writers = 32

// write is one request: a statement or a batch.
type write struct {
	statements []statement
	batch      batchType
	// mutations is the least number of mutations that it makes.
	mutations int
	// consistency is that of a write to several replicas, or of a read; 0 is ONE of one. Where there are several, a
	// time-out is no error: what was done stands in the logs.
	consistency uint16
	// read says that it is a read.
	read bool
}

// next draws a write.
func (g *generator) next() write {
	t := pick(g, g.tables)
	if t.name == "viewed" && g.chance(0.8) {
		t = pick(g, g.tables)
	}
	gr := t.group
	key := pick(g, gr.keys)
	g.room = g.maxBlob
	switch {
	case t.counter:
		w := write{batch: counterBatch, mutations: 1}
		for range pick(g, []int{1, 1, 1, 4}) {
			w.statements = append(w.statements, g.statement(t, key, false))
		}
		return w
	case t.conditional && g.chance(0.03):
		return write{statements: []statement{g.statement(t, key, true)}}
	case g.chance(0.5):
		return write{statements: []statement{g.statement(t, key, false)}, mutations: 1}
	}
	w := write{batch: unloggedBatch, mutations: 1}
	if g.chance(0.05) {
		w.batch = loggedBatch
	}
	// Of one partition, over all tables of a group: one mutation. Or, seldom, of many partitions.
	g.room /= 2
	n, wide := 2+g.rng.IntN(6), g.chance(0.03)
	if g.chance(0.05) || wide {
		n = 20 + g.rng.IntN(60)
	}
	for range n {
		if wide {
			t = pick(g, g.tables)
			gr = t.group
			key = pick(g, gr.keys)
		} else {
			t = pick(g, gr.tables)
		}
		if !t.counter && t.name != "viewed" {
			w.statements = append(w.statements, g.statement(t, key, false))
		}
	}
	return w
}

// phase runs writes of at least so many mutations, and returns when all of them are answered.
func phase(ctx context.Context, clients []*client, g *generator, mutations int) error {
	eg, ctx := errgroup.WithContext(ctx)
	writes := make(chan write, writers)
	eg.Go(func() error {
		defer close(writes)
		for made := 0; made < mutations; {
			w := g.next()
			if len(w.statements) == 0 {
				continue
			}
			made += w.mutations
			select {
			case writes <- w:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		return nil
	})
	for _, c := range clients {
		eg.Go(func() error {
			for w := range writes {
				if err := c.run(&w); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return eg.Wait()
}

// String is what error messages quote.
func (w *write) String() string {
	var b strings.Builder
	for i, s := range w.statements {
		if i == 12 {
			fmt.Fprintf(&b, "and %d more\n", len(w.statements)-i)
			break
		}
		fmt.Fprintf(&b, "%s\n  with", s.cql)
		for _, v := range s.values {
			switch {
			case v.unset:
				b.WriteString(" unset")
			case v.bytes == nil:
				b.WriteString(" null")
			default:
				fmt.Fprintf(&b, " 0x%x", v.bytes[:min(len(v.bytes), 200)])
			}
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// exec runs a statement that changes the schema.
func exec(ctx context.Context, s *gocql.Session, cql string) error {
	if err := s.Query(cql).ExecContext(ctx); err != nil {
		return fmt.Errorf("%s: %w", cql, err)
	}
	return nil
}
