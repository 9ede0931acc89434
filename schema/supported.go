package schema

import (
	"fmt"
	"slices"
)

// Unsupported says why no events can be made of the table's changes, or "" if they can be. Whether the table has CDC
// enabled is another matter.
func (t *Table) Unsupported() string {
	if t.View {
		return "it is a materialized view: capture its base table instead"
	}
	// Source: TableMetadata.Flag.isCQLTable.
	if !slices.Contains(t.Flags, "compound") || slices.Contains(t.Flags, "dense") || slices.Contains(t.Flags, "super") {
		return "it has COMPACT STORAGE: remove that with ALTER TABLE ... DROP COMPACT STORAGE"
	}
	for _, c := range t.Columns {
		if !c.Type.supported() {
			return fmt.Sprintf("column %s has type %s, which is not supported yet", QuoteIdentifier(c.Name), c.Type.CQL())
		}
	}
	return ""
}

// supported reports whether values of the type can be put into events.
func (t *Type) supported() bool {
	return t.Native() && t.Kind != KindCounter && t.Kind != KindEmpty
}
