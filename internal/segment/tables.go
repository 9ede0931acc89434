package segment

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"go.uber.org/zap"

	"cassdelta/schema"
	"cassdelta/schema/cqlsource"
)

// schemaTimeout bounds the time that a node has to tell its schema.
const schemaTimeout = time.Minute

// tables are the definitions that segments are read by.
type tables struct {
	// catalog is nil without a schema.
	catalog *schema.Catalog
	// from says where the schema is from, for remarks.
	from string
	// names are those of Cassandra's own tables, and those that were asked for.
	names map[schema.UUID]string
}

// loadTables reads the tables of a file, or of a running node; none if neither is named. It remarks on tables that are
// left out.
func loadTables(ctx context.Context, o *Options) (*tables, error) {
	t := &tables{names: systemTableNames(), from: o.Schema}
	var err error
	switch {
	case o.Schema != "":
		t.catalog, err = readSchemaFile(o.Schema, o.Notes)
	case len(o.Cassandra.ContactPoints) > 0:
		t.from = "the schema at " + strings.Join(o.Cassandra.ContactPoints, ", ")
		t.catalog, err = readLiveSchema(ctx, o.Cassandra)
	}
	if err != nil {
		return nil, err
	}
	return t, nil
}

// readSchemaFile reads a file of CQL, or of rows of system_schema.
func readSchemaFile(path string, notes io.Writer) (*schema.Catalog, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("schema: %w", err)
	}
	text := string(content)
	if cqlsource.LooksLikeRows(text) {
		found, refused, err := cqlsource.ParseRows(path, text)
		if err != nil {
			return nil, err
		}
		for _, r := range refused {
			fmt.Fprintf(notes, "a table is left out: %v\n", r)
		}
		return schema.NewCatalog(found), nil
	}
	parsed, err := schema.ParseCQL(path, text)
	if err != nil {
		return nil, err
	}
	if err := parsed.MissingIDs(); err != nil {
		return nil, err
	}
	return parsed.Catalog(), nil
}

// readLiveSchema asks a node.
func readLiveSchema(ctx context.Context, c cqlsource.Config) (*schema.Catalog, error) {
	source, err := cqlsource.New(c, zap.NewNop())
	if err != nil {
		return nil, err
	}
	defer source.Close()
	ctx, cancel := context.WithTimeoutCause(ctx, schemaTimeout, errors.New("the node took too long"))
	defer cancel()
	return source.Read(ctx)
}

// byID is the definition of a table, nil if there is none.
func (t *tables) byID(id schema.UUID) *schema.Table { return t.catalog.ByID(id) }

// name is keyspace.table, or the id of a table that is not known.
func (t *tables) name(id schema.UUID) string {
	name, ok := t.names[id]
	if ok {
		return name
	}
	if name = id.String(); t.byID(id) != nil {
		name = t.byID(id).FullName()
	}
	if len(t.names) < maxNames {
		t.names[id] = name
	}
	return name
}

// maxNames bounds the names that are kept.
const maxNames = 10_000

// check refuses a keyspace and names of tables of which there cannot be an update. An empty keyspace is any.
func (t *tables) check(keyspace string, names []string) error {
	if keyspace != "" && !t.hasKeyspace(keyspace) {
		if t.catalog == nil {
			return fmt.Errorf("keyspace %s: no names of its tables are known: name a --schema, or a node by --cassandra-contact-points", keyspace)
		}
		return fmt.Errorf("keyspace %s: expected one with tables in %s, found none", keyspace, t.from)
	}
	if t.catalog == nil {
		for _, name := range names {
			if _, err := schema.ParseUUID(name); err != nil && !strings.HasPrefix(name, "system") { // those have fixed ids
				return fmt.Errorf("table %s: expected the id of a table, since no names are known: name a --schema, or a node by --cassandra-contact-points", name)
			}
		}
		return nil
	}
	for _, name := range names {
		if !t.known(name) {
			return fmt.Errorf("table %s: expected KEYSPACE.TABLE or the id of one in %s, found none", name, t.from)
		}
	}
	return nil
}

// hasKeyspace reports whether a table of a keyspace is known, Cassandra's own ones included.
func (t *tables) hasKeyspace(name string) bool {
	for _, def := range t.catalog.Tables() {
		if def.Keyspace == name {
			return true
		}
	}
	return systemTables[name] != nil
}

func (t *tables) known(name string) bool {
	for _, def := range t.catalog.Tables() {
		if def.FullName() == name || def.ID.String() == name {
			return true
		}
	}
	return false
}
