package cqlsource

import (
	"context"
	"fmt"

	gocql "github.com/apache/cassandra-gocql-driver/v2"

	"cassdelta/schema"
)

// Truncated reads system.local.truncated_at: of each table that the node has truncated, when and where in its log it did
// last, as Cassandra stores it. It gives nothing if another node than host answers.
func (s *Source) Truncated(ctx context.Context, host schema.UUID) (map[schema.UUID][]byte, error) {
	if err := s.acquire(ctx); err != nil {
		return nil, fmt.Errorf("read the truncations: %w", err)
	}
	defer s.release()
	var id gocql.UUID
	var found map[gocql.UUID][]byte
	err := s.do(ctx, func(session *gocql.Session) error {
		return session.Query("SELECT host_id, truncated_at FROM system.local WHERE key = 'local'").ScanContext(ctx, &id, &found)
	})
	if err != nil {
		return nil, fmt.Errorf("read the truncations: %w", err)
	}
	if schema.UUID(id) != host {
		return nil, nil
	}
	truncated := make(map[schema.UUID][]byte, len(found))
	for table, value := range found {
		truncated[schema.UUID(table)] = value
	}
	return truncated, nil
}
