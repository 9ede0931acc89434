// Package cqlsource reads table definitions from a running Cassandra 4.0, 4.1 or 5.0: from system_schema, by CQL.
//
// It is made to run beside a database. Nothing is open and nothing runs between two calls: a call connects to one node,
// the first contact point if it can, and disconnects when it is done (gocql needs two connections for that, one of
// them for itself). It registers for no events and never looks for other nodes. As long as the schema's version stays
// the same, a call reads two rows; callers are to call some times a minute, or when they meet a table that they do not
// know.
package cqlsource

import (
	"context"
	"fmt"
	"time"

	gocql "github.com/apache/cassandra-gocql-driver/v2"
	"go.uber.org/zap"

	"cassdelta/schema"
)

const (
	// maxReads bounds how often one call reads the schema because it changed meanwhile.
	maxReads = 5
	// settleTime is the time that a change of the schema gets before the schema is read again.
	settleTime = 200 * time.Millisecond
)

// Source reads the schema of one cluster. Its methods may be called by several goroutines: one call runs at a time.
type Source struct {
	cfg    Config
	points []contactPoint
	log    *zap.Logger

	busy chan struct{} // holds a value during a call; it guards what follows
	// last is the address that answered last, "" before.
	last string
	// catalog is what was read last, of the schema's version.
	catalog *schema.Catalog
	version gocql.UUID
	// refused are the tables that were logged as left out, with the reason.
	refused map[schema.UUID]string
}

// New makes a source; it does not connect. Its error is about cfg.
func New(cfg Config, log *zap.Logger) (*Source, error) {
	points, err := cfg.check()
	if err != nil {
		return nil, err
	}
	return &Source{cfg: cfg, points: points, log: log, busy: make(chan struct{}, 1), refused: map[schema.UUID]string{}}, nil
}

// Close waits for a call that runs. The source can be used no longer.
func (s *Source) Close() { s.busy <- struct{}{} }

// acquire begins a call. It gives up when ctx ends, after Close too.
func (s *Source) acquire(ctx context.Context) error {
	select {
	case s.busy <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *Source) release() { <-s.busy }

// Read reads all tables and materialized views, Cassandra's own too, as they were at one moment. Of a schema that did
// not change since the last call it gives the same catalog. A table that [schema.NewTable] refuses is logged once and
// left out.
func (s *Source) Read(ctx context.Context) (*schema.Catalog, error) {
	if err := s.acquire(ctx); err != nil {
		return nil, fmt.Errorf("read the schema: %w", err)
	}
	defer s.release()
	err := s.do(ctx, func(session *gocql.Session) error { return s.refresh(ctx, session) })
	if err != nil {
		return nil, fmt.Errorf("read the schema: %w", err)
	}
	return s.catalog, nil
}

// refresh brings the catalog up to date.
//
// A node changes the rows of system_schema first, not all at once, and the version behind them. So the version must be
// the same before and after, and no row of a table's columns may be newer than the row of the table, which comes first:
// every change of a table writes that row too (SchemaKeyspace.makeUpdateTableMutation). Rows that stay that way, which
// an upgrade might leave behind, are taken as they are.
func (s *Source) refresh(ctx context.Context, session *gocql.Session) error {
	var half int64
	for read := range maxReads {
		if read > 0 {
			if err := sleep(ctx, settleTime); err != nil {
				return err
			}
		}
		before, err := schemaVersion(ctx, session)
		if err != nil {
			return err
		}
		if s.catalog != nil && before == s.version {
			return nil
		}
		rows, err := readRows(ctx, session)
		if err != nil {
			return err
		}
		after, err := schemaVersion(ctx, session)
		if err != nil {
			return err
		}
		newest := rows.halfWritten()
		if before != after || newest != half {
			half = newest
			continue
		}
		s.catalog, s.version = schema.NewCatalog(s.tables(rows)), after
		return nil
	}
	return fmt.Errorf("it changed %d times while it was read: try again when no tables are being created or altered", maxReads)
}

// tables makes the tables of the rows.
func (s *Source) tables(rows *schemaRows) []*schema.Table {
	tables, refused := rows.build()
	for _, r := range refused {
		if reason := r.err.Error(); s.refused[r.id] != reason {
			s.refused[r.id] = reason
			s.log.Warn("a table is left out of the schema: its changes cannot be read",
				zap.String("keyspace", r.keyspace), zap.String("table", r.name.name), zap.Stringer("table_id", r.id), zap.Error(r.err))
		}
	}
	return tables
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
