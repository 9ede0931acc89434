package sink

import (
	"errors"
	"fmt"

	"cassdelta/schema"
)

// userTypes are the user types within the type of a column, by name.
type userTypes map[string]*schema.Type

// fieldOf reads a field of a record that stands for a column, or for a field of a user type or a tuple.
func (u userTypes) fieldOf(field any) (columnField, error) {
	object, _ := field.(map[string]any)
	c := columnField{}
	c.field, _ = object["name"].(string)
	if c.name, _ = object["cql.name"].(string); c.name == "" {
		c.name = c.field
	}
	_, c.nullable = object["type"].([]any)
	var err error
	if c.typ, err = u.typeOf(object["type"]); err != nil {
		return c, fmt.Errorf("field %q: %w", c.field, err)
	}
	return c, nil
}

// typeOf gives the type that the attribute cql of a type in Avro names. The records within have the fields of its user
// types.
func (u userTypes) typeOf(avro any) (*schema.Type, error) {
	object := notNull(avro)
	cql, ok := object["cql"].(string)
	if !ok {
		return nil, errors.New("it has no attribute cql, the type in CQL; it is not of a clean topic")
	}
	if err := u.collect(object); err != nil {
		return nil, err
	}
	typ, err := schema.ParseType(cql, func(name string) *schema.Type { return u[name] })
	if err != nil {
		return nil, fmt.Errorf("attribute cql: %w", err)
	}
	return typ, nil
}

// collect adds the user types that stand in a type in Avro.
func (u userTypes) collect(object map[string]any) error {
	for _, part := range []string{"items", "values"} {
		if inner := notNull(object[part]); inner != nil {
			if err := u.collect(inner); err != nil {
				return err
			}
		}
	}
	fields, _ := object["fields"].([]any)
	var names []string
	var types []*schema.Type
	for _, f := range fields {
		c, err := u.fieldOf(f)
		if err != nil {
			return err
		}
		names, types = append(names, c.name), append(types, c.typ)
	}
	cql, _ := object["cql"].(string)
	name := userTypeName(cql)
	if name == "" {
		return nil
	}
	typ, err := schema.NewUDT("", name, names, types)
	if err != nil {
		return err
	}
	u[name] = typ
	return nil
}

// userTypeName is the name of the user type that a type is, frozen or not; empty if it is none.
func userTypeName(cql string) string {
	typ, err := schema.ParseType(cql, func(name string) *schema.Type { return &schema.Type{Kind: schema.KindUDT, Name: name} })
	if err != nil || typ.Kind != schema.KindUDT {
		return ""
	}
	return typ.Name
}
