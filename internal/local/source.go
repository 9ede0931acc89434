package local

import (
	"context"

	"cassdelta/schema"
)

// FixedSource gives tables that are known from a file.
type FixedSource struct{ Catalog *schema.Catalog }

// Read never fails.
func (s FixedSource) Read(context.Context) (*schema.Catalog, error) { return s.Catalog, nil }
