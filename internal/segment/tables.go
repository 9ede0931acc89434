package segment

import (
	"fmt"
	"os"

	"cassdelta/schema"
)

// tables are the definitions that segments are read by.
type tables struct {
	// catalog is nil without a schema.
	catalog *schema.Catalog
	system  map[schema.UUID]string
}

// loadTables reads the tables of a CQL file; none if the path is empty.
func loadTables(path string) (*tables, error) {
	t := &tables{system: systemTableNames()}
	if path == "" {
		return t, nil
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("schema: %w", err)
	}
	parsed, err := schema.ParseCQL(path, string(text))
	if err != nil {
		return nil, err
	}
	if err := parsed.MissingIDs(); err != nil {
		return nil, err
	}
	t.catalog = parsed.Catalog()
	return t, nil
}

// byID is the definition of a table, nil if there is none.
func (t *tables) byID(id schema.UUID) *schema.Table { return t.catalog.ByID(id) }

// name is keyspace.table, or the id of a table that is not known.
func (t *tables) name(id schema.UUID) string {
	if def := t.byID(id); def != nil {
		return def.FullName()
	}
	if name, ok := t.system[id]; ok {
		return name
	}
	return id.String()
}
