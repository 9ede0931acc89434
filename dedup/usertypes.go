package dedup

import (
	"slices"

	"cassdelta/schema"
)

// userTypes are the user types in a table's definitions, by name: of each the version of the newest definition that has it, or
// one with more fields that begins with that one's. User types only ever get fields, so that version has a place for whatever
// was written with another; unless one was dropped, with all columns that had it, and created again: then the newest is another type.
type userTypes map[string]*schema.Type

// newestUserTypes are the user types of definitions, the newest of which comes first.
func newestUserTypes(definitions []*schema.Table) userTypes {
	u, seen := userTypes{}, map[*schema.Type]bool{}
	for _, d := range definitions {
		for _, c := range d.Columns {
			u.collect(c.Type, seen)
		}
		for _, c := range d.Dropped {
			u.collect(c.Type, seen)
		}
	}
	return u
}

// collect adds the user types in t. Types that were seen before are passed over: one can be in t in many places.
func (u userTypes) collect(t *schema.Type, seen map[*schema.Type]bool) {
	if seen[t] {
		return
	}
	seen[t] = true
	if known := u[t.Name]; t.Kind == schema.KindUDT && (known == nil || len(t.Elems) > len(known.Elems) && begins(t.Elems, known.Elems)) {
		u[t.Name] = t
	}
	for _, e := range t.Elems {
		u.collect(e, seen)
	}
}

// begins reports whether a list of types begins with another, but for what their user types are.
func begins(all, first []*schema.Type) bool {
	return slices.EqualFunc(all[:min(len(all), len(first))], first, sameType)
}

func sameType(a, b *schema.Type) bool {
	if a.Kind != b.Kind || a.Frozen != b.Frozen || a.Name != b.Name || a.Dimension != b.Dimension {
		return false
	}
	return a.Kind == schema.KindUDT || slices.EqualFunc(a.Elems, b.Elems, sameType)
}

// apply puts the versions in u into the types of a table's columns.
func (u userTypes) apply(spec *schema.Table) {
	if len(u) == 0 {
		return
	}
	made := map[*schema.Type]*schema.Type{}
	for i := range spec.Columns {
		spec.Columns[i].Type = u.in(spec.Columns[i].Type, made)
	}
	for i := range spec.Dropped {
		spec.Dropped[i].Type = u.in(spec.Dropped[i].Type, made)
	}
}

// in is t with the versions in u.
func (u userTypes) in(t *schema.Type, made map[*schema.Type]*schema.Type) *schema.Type {
	if done := made[t]; done != nil {
		return done
	}
	made[t] = t // ends a circle, which Cassandra does not make
	version := t
	if t.Kind == schema.KindUDT {
		version = u[t.Name]
	}
	elems := make([]*schema.Type, len(version.Elems))
	for i, e := range version.Elems {
		elems[i] = u.in(e, made)
	}
	result := t
	if !slices.Equal(elems, t.Elems) || !slices.Equal(version.Fields, t.Fields) {
		changed := *t
		changed.Elems, changed.Fields = elems, version.Fields
		result = &changed
	}
	made[t] = result
	return result
}
