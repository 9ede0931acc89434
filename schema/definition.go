package schema

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"slices"
	"sort"
	"strings"
)

// definitionVersion is the version of the text that [Table.Definition] gives.
const definitionVersion = 1

// The canonical text of a definition: JSON without white space, keys in the order of these fields. User types come
// before the first type or column that uses them.
type definitionText struct {
	Version        int           `json:"v"`
	Keyspace       string        `json:"keyspace"`
	Table          string        `json:"table"`
	ID             string        `json:"id"`
	Types          []udtText     `json:"types,omitempty"`
	Columns        []columnText  `json:"columns"`
	Dropped        []droppedText `json:"dropped,omitempty"`
	GCGraceSeconds int32         `json:"gc_grace_seconds"`
	CDC            bool          `json:"cdc"`
	Flags          []string      `json:"flags"`
	View           bool          `json:"view,omitempty"`
}

type udtText struct {
	Keyspace string      `json:"keyspace"`
	Name     string      `json:"name"`
	Fields   []fieldText `json:"fields"`
}

type fieldText struct {
	Name string `json:"name"`
	Type string `json:"type"`
}

type columnText struct {
	Name string `json:"name"`
	Kind string `json:"kind"`
	Type string `json:"type"`
	Desc bool   `json:"desc,omitempty"`
}

type droppedText struct {
	Name      string `json:"name"`
	Kind      string `json:"kind"`
	Type      string `json:"type"`
	DroppedAt int64  `json:"dropped_at"`
}

var kindNames = [...]string{PartitionKey: "partition_key", Clustering: "clustering", Static: "static", Regular: "regular"}

// String gives the name that system_schema.columns uses.
func (k ColumnKind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return fmt.Sprintf("kind %d", uint8(k))
}

// ParseColumnKind reads the name that system_schema.columns uses.
func ParseColumnKind(name string) (ColumnKind, error) {
	for k, n := range kindNames {
		if n == name {
			return ColumnKind(k), nil
		}
	}
	return 0, fmt.Errorf("column kind %q: expected one of %s", name, strings.Join(kindNames[:], ", "))
}

// NewTable makes a table of the exported fields of spec. It puts columns, dropped columns and flags in order, and
// refuses what cannot be a table.
func NewTable(spec Table) (*Table, error) {
	t := &Table{
		Keyspace: spec.Keyspace, Name: spec.Name, ID: spec.ID, GCGraceSeconds: spec.GCGraceSeconds, CDC: spec.CDC, View: spec.View,
		AlteredAt: spec.AlteredAt,
		Columns:   slices.Clone(spec.Columns), Dropped: slices.Clone(spec.Dropped), Flags: slices.Clone(spec.Flags),
	}
	fail := func(format string, args ...any) (*Table, error) {
		return nil, fmt.Errorf("table %s: %s", spec.FullName(), fmt.Sprintf(format, args...))
	}
	if t.Keyspace == "" || t.Name == "" {
		return fail("it has no name")
	}
	if t.ID.IsZero() {
		return fail("it has no id")
	}
	sort.SliceStable(t.Columns, func(i, j int) bool {
		a, b := t.Columns[i], t.Columns[j]
		if a.Kind != b.Kind {
			return a.Kind < b.Kind
		}
		if a.Position != b.Position {
			return a.Position < b.Position
		}
		return a.Name < b.Name
	})
	sort.Slice(t.Dropped, func(i, j int) bool { return t.Dropped[i].Name < t.Dropped[j].Name })
	sort.Strings(t.Flags)
	t.Flags = slices.Compact(t.Flags)

	t.byName = make(map[string]int, len(t.Columns))
	counts := [len(kindNames)]int{}
	for i, c := range t.Columns {
		switch {
		case c.Name == "" || c.Type == nil:
			return fail("column %d has no name or no type", i)
		case c.Kind > Regular:
			return fail("column %s has no kind", c.Name)
		case c.Kind >= Static && c.Position != 0, c.Kind < Static && c.Position != counts[c.Kind]:
			return fail("column %s has position %d as %v column, expected %d", c.Name, c.Position, c.Kind, counts[min(c.Kind, Static)])
		case c.Desc && c.Kind != Clustering:
			return fail("column %s is descending but no clustering column", c.Name)
		case c.Kind < Static && c.Type.MultiCell():
			return fail("column %s is part of the primary key, its type %s must be frozen", c.Name, c.Type.CQL())
		}
		if _, twice := t.byName[c.Name]; twice {
			return fail("two columns are named %s", c.Name)
		}
		t.byName[c.Name] = i
		if c.Kind < Static {
			counts[c.Kind]++
		}
	}
	if counts[PartitionKey] == 0 {
		return fail("it has no partition key")
	}
	t.partition = counts[PartitionKey]
	t.clustering = t.partition + counts[Clustering]
	t.static = t.clustering
	for t.static < len(t.Columns) && t.Columns[t.static].Kind == Static {
		t.static++
	}
	t.droppedBy = make(map[string]int, len(t.Dropped))
	for i, d := range t.Dropped {
		if d.Name == "" || d.Type == nil || d.Kind != Static && d.Kind != Regular {
			return fail("dropped column %q has no name, no type or is part of the key", d.Name)
		}
		if _, twice := t.droppedBy[d.Name]; twice {
			return fail("two dropped columns are named %s", d.Name)
		}
		t.droppedBy[d.Name] = i
	}
	var err error
	if t.definition, err = encodeDefinition(t); err != nil {
		return fail("%v", err)
	}
	sum := sha256.Sum256(t.definition)
	copy(t.hash[:], sum[:])
	return t, nil
}

func encodeDefinition(t *Table) ([]byte, error) {
	text := definitionText{
		Version: definitionVersion, Keyspace: t.Keyspace, Table: t.Name, ID: t.ID.String(),
		GCGraceSeconds: t.GCGraceSeconds, CDC: t.CDC, Flags: t.Flags, View: t.View,
	}
	if text.Flags == nil {
		text.Flags = []string{}
	}
	seen := map[string]bool{}
	for _, c := range t.Columns {
		text.addTypes(c.Type, seen)
		text.Columns = append(text.Columns, columnText{c.Name, c.Kind.String(), c.Type.CQL(), c.Desc})
	}
	for _, d := range t.Dropped {
		text.addTypes(d.Type, seen)
		text.Dropped = append(text.Dropped, droppedText{d.Name, d.Kind.String(), d.Type.CQL(), d.DroppedAt})
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(text); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

func (d *definitionText) addTypes(t *Type, seen map[string]bool) {
	if t.Kind == KindUDT && seen[t.Name] {
		return
	}
	for _, e := range t.Elems {
		d.addTypes(e, seen)
	}
	if t.Kind != KindUDT {
		return
	}
	seen[t.Name] = true
	u := udtText{Keyspace: t.Keyspace, Name: t.Name}
	for i, e := range t.Elems {
		u.Fields = append(u.Fields, fieldText{t.Fields[i], e.CQL()})
	}
	d.Types = append(d.Types, u)
}

// ParseDefinition makes the table that a text of [Table.Definition] describes; its definition is that text again.
func ParseDefinition(text []byte) (*Table, error) {
	var d definitionText
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&d); err != nil {
		return nil, fmt.Errorf("table definition: %w", err)
	}
	if d.Version != definitionVersion {
		return nil, fmt.Errorf("table definition: version %d, expected %d; a newer cassdelta wrote it", d.Version, definitionVersion)
	}
	id, err := ParseUUID(d.ID)
	if err != nil {
		return nil, fmt.Errorf("table definition: %w", err)
	}
	spec := Table{
		Keyspace: d.Keyspace, Name: d.Table, ID: id,
		GCGraceSeconds: d.GCGraceSeconds, CDC: d.CDC, Flags: d.Flags, View: d.View,
	}
	udts := map[string]*Type{}
	parse := func(text string) (*Type, error) {
		return ParseType(text, func(name string) *Type { return udts[name] })
	}
	for _, u := range d.Types {
		var fields []string
		var types []*Type
		for _, f := range u.Fields {
			t, err := parse(f.Type)
			if err != nil {
				return nil, fmt.Errorf("definition of %s: field %s of type %s: %w", spec.FullName(), f.Name, u.Name, err)
			}
			fields, types = append(fields, f.Name), append(types, t)
		}
		if udts[u.Name], err = NewUDT(u.Keyspace, u.Name, fields, types); err != nil {
			return nil, fmt.Errorf("definition of %s: %w", spec.FullName(), err)
		}
	}
	positions := map[ColumnKind]int{}
	for _, c := range d.Columns {
		column := Column{Name: c.Name, Desc: c.Desc}
		if column.Kind, err = ParseColumnKind(c.Kind); err == nil {
			column.Type, err = parse(c.Type)
		}
		if err != nil {
			return nil, fmt.Errorf("definition of %s: column %s: %w", spec.FullName(), c.Name, err)
		}
		if column.Kind < Static {
			column.Position = positions[column.Kind]
			positions[column.Kind]++
		}
		spec.Columns = append(spec.Columns, column)
	}
	for _, c := range d.Dropped {
		column := DroppedColumn{Name: c.Name, DroppedAt: c.DroppedAt}
		if column.Kind, err = ParseColumnKind(c.Kind); err == nil {
			column.Type, err = parse(c.Type)
		}
		if err != nil {
			return nil, fmt.Errorf("definition of %s: dropped column %s: %w", spec.FullName(), c.Name, err)
		}
		spec.Dropped = append(spec.Dropped, column)
	}
	t, err := NewTable(spec)
	if err != nil {
		return nil, fmt.Errorf("table definition: %w", err)
	}
	if !bytes.Equal(t.definition, text) {
		return nil, fmt.Errorf("definition of %s: its text is not in canonical form", spec.FullName())
	}
	return t, nil
}
