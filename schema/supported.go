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
		if c.Type.spell(maxSpelled) < 0 {
			return fmt.Sprintf("column %s has type %s, which more than %d types are nested in: the schema of its values would be too long",
				QuoteIdentifier(c.Name), c.Type.CQL(), maxSpelled)
		}
		if c.Type.Kind != KindCounter && !c.Type.supported() {
			return fmt.Sprintf("column %s has type %s, which is not supported yet", QuoteIdentifier(c.Name), c.Type.CQL())
		}
	}
	return ""
}

// maxSpelled bounds how many types a column's can have nested in it, in all, as Avro spells them out. User types that
// have others more than once can have more than any schema holds.
const maxSpelled = 10_000

// supported reports whether values of the type can be put into events.
func (t *Type) supported() bool {
	switch t.Kind {
	case KindCounter, KindCustom, KindEmpty:
		return false
	}
	return !slices.ContainsFunc(t.Elems, func(e *Type) bool { return !e.supported() })
}

// spell takes the number of types in t, t among them, from left. Negative is that there are more.
func (t *Type) spell(left int) int {
	left--
	for i := 0; i < len(t.Elems) && left >= 0; i++ {
		left = t.Elems[i].spell(left)
	}
	return left
}
