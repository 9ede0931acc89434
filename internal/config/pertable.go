package config

import (
	"encoding"
	"fmt"
	"reflect"
	"strings"

	"go.yaml.in/yaml/v3"
)

// mapping is what a flag's value (a pointer to it) is if the flag takes a mapping of the file as a whole. As a flag, and
// in the environment, it takes the text of that mapping.
type mapping interface {
	encoding.TextUnmarshaler
	yaml.Unmarshaler
}

// lineError is an error in a line of the YAML text that was read.
type lineError struct {
	line int
	err  error
}

func (e *lineError) Error() string { return e.err.Error() }
func (e *lineError) Unwrap() error { return e.err }

func atLine(n *yaml.Node, format string, args ...any) error {
	return &lineError{n.Line, fmt.Errorf(format, args...)}
}

// PerTable has settings of single tables:
//
//	tables:
//	  shop.orders: {emit: changes}
//
// and as a flag --tables='{shop.orders: {emit: changes}}'. T is a struct whose fields have tags of the form
// yaml:"name"; there are no other keys. A table is keyspace.table, as it is in Cassandra, without quotes. Which tables
// there are is not known here.
type PerTable[T any] struct {
	// ByName has the settings by keyspace.table.
	ByName map[string]T
}

// UnmarshalText reads the text of the mapping.
func (p *PerTable[T]) UnmarshalText(text []byte) error {
	var doc yaml.Node
	if err := yaml.Unmarshal(text, &doc); err != nil {
		return err
	}
	if len(doc.Content) == 0 {
		return nil
	}
	return p.UnmarshalYAML(doc.Content[0])
}

// UnmarshalYAML reads the mapping.
func (p *PerTable[T]) UnmarshalYAML(node *yaml.Node) error {
	if node.Kind != yaml.MappingNode {
		return atLine(node, "expected a mapping of keyspace.table to settings, found %s", kindName(node))
	}
	p.ByName = map[string]T{}
	for i := 0; i+1 < len(node.Content); i += 2 {
		key, value := node.Content[i], node.Content[i+1]
		name := key.Value
		keyspace, table, dot := strings.Cut(name, ".")
		if !dot || keyspace == "" || table == "" || strings.ContainsAny(name, " \"") || strings.Contains(table, ".") {
			return atLine(key, "expected the name of a table as keyspace.table, found %q", name)
		}
		if _, twice := p.ByName[name]; twice {
			return atLine(key, "the settings of table %s are given twice", name)
		}
		var settings T
		if err := decodeSettings(value, name, &settings); err != nil {
			return err
		}
		p.ByName[name] = settings
	}
	return nil
}

// decodeSettings reads a mapping into the struct that settings points to.
func decodeSettings(node *yaml.Node, table string, settings any) error {
	if node.Kind == yaml.AliasNode {
		node = node.Alias
	}
	if node.Kind != yaml.MappingNode {
		return atLine(node, "%s: expected a mapping of settings, found %s", table, kindName(node))
	}
	target := reflect.ValueOf(settings).Elem()
	seen := map[string]bool{}
	for i := 0; i+1 < len(node.Content); i += 2 {
		key, value := node.Content[i], node.Content[i+1]
		if seen[key.Value] {
			return atLine(key, "%s.%s is set twice", table, key.Value)
		}
		seen[key.Value] = true
		var known []string
		var field reflect.Value
		for j := range target.NumField() {
			name := target.Type().Field(j).Tag.Get("yaml")
			if known = append(known, name); name == key.Value {
				field = target.Field(j)
			}
		}
		if !field.IsValid() {
			return atLine(key, "%s: unknown setting %s; there are: %s", table, key.Value, strings.Join(known, ", "))
		}
		if err := value.Decode(field.Addr().Interface()); err != nil {
			return atLine(value, "%s.%s: %w", table, key.Value, err)
		}
	}
	return nil
}
