package cqlsource

import (
	"context"
	"fmt"

	gocql "github.com/apache/cassandra-gocql-driver/v2"
)

// Setting reads one setting of cassandra.yaml of the node that answers, as system_views.settings prints it; "" if it has
// none of that name.
func (s *Source) Setting(ctx context.Context, name string) (value string, err error) {
	if err := s.acquire(ctx); err != nil {
		return "", fmt.Errorf("read the setting %s: %w", name, err)
	}
	defer s.release()
	err = s.do(ctx, func(session *gocql.Session) error {
		iter := session.Query("SELECT value FROM system_views.settings WHERE name = ?", name).IterContext(ctx)
		value = ""
		iter.Scan(&value)
		return iter.Close()
	})
	if err != nil {
		return "", fmt.Errorf("read the setting %s: %w", name, err)
	}
	return value, nil
}
