// Package config lets a command take its settings from one YAML file as well as from flags and the environment.
//
// Every flag is a key of the file: the flag --kafka-brokers is the key kafka-brokers, or brokers within a mapping
// named kafka. A flag wins over its environment variable, which wins over the file, which wins over the default.
// A key that is no flag of the command, and a value that its flag does not take, are errors that name the file and the
// line. A flag of the type [PerTable] takes the whole mapping under its key.
package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"slices"
	"sort"
	"strings"

	"github.com/alecthomas/kong"
	"go.yaml.in/yaml/v3"
)

// File is embedded in the struct of a command that reads a configuration file.
type File struct {
	Config string `help:"Configuration file (YAML); every flag is a key of it." placeholder:"FILE" type:"path"`
}

// BeforeResolve reads the file, checks its keys against the flags of the selected command, and gives kong its values.
func (File) BeforeResolve(kctx *kong.Context) error {
	flags := map[string]*kong.Flag{}
	for _, f := range kctx.Flags() {
		flags[f.Name] = f
	}
	path, _ := kctx.FlagValue(flags["config"]).(string)
	if path == "" {
		return nil
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("configuration file: %w", err)
	}
	entries, err := parse(path, text, flags)
	if err != nil {
		return err
	}
	var problems []error
	for name, e := range entries {
		if f := flags[name]; f == nil || notKeys[name] {
			problems = append(problems, unknownKey(path, e, flags))
		} else if err := e.check(f); err != nil {
			line := e.line
			if at := (*lineError)(nil); errors.As(err, &at) {
				line = at.line
			}
			problems = append(problems, fmt.Errorf("%s:%d: %s: %w", path, line, e.key, err))
		}
	}
	if len(problems) > 0 {
		sort.Slice(problems, func(i, j int) bool { return problems[i].Error() < problems[j].Error() })
		return errors.Join(problems...)
	}
	kctx.AddResolver(kong.ResolverFunc(func(_ *kong.Context, _ *kong.Path, flag *kong.Flag) (any, error) {
		e, ok := entries[flag.Name]
		if !ok {
			return nil, nil
		}
		for _, env := range flag.Envs {
			if _, set := os.LookupEnv(env); set {
				return nil, nil
			}
		}
		return e.value, nil
	}))
	return nil
}

// notKeys are the flags that are no keys of the file.
var notKeys = map[string]bool{"config": true, "help": true, "version": true}

// entry is one leaf of the file.
type entry struct {
	key   string // as written, with dots between the levels
	line  int
	value any // a string, or []any of strings for a sequence
	// node is the mapping that value is the text of, for a flag that takes one; otherwise nil.
	node *yaml.Node
}

// check is an error if the flag does not take the value.
func (e *entry) check(flag *kong.Flag) error {
	if list, ok := e.value.([]any); ok && !flag.IsSlice() {
		return errors.New("expected one value, found a list")
	} else if ok && len(list) == 0 {
		return errors.New("expected at least one value; without the key the default is used")
	}
	if items, _ := e.value.([]any); flag.Required && (e.value == "" || slices.Contains(items, any(""))) {
		return errors.New("expected a value, found an empty one")
	}
	scratch := reflect.New(flag.Target.Type()).Elem()
	if e.node != nil {
		return scratch.Addr().Interface().(mapping).UnmarshalYAML(e.node)
	}
	if scratch.Kind() == reflect.Pointer {
		scratch.Set(reflect.New(scratch.Type().Elem()))
	}
	scan := kong.Scan().PushTyped(e.value, kong.FlagValueToken)
	if err := flag.Mapper.Decode(&kong.DecodeContext{Value: flag.Value, Scan: scan}, scratch); err != nil {
		return err
	}
	if text, _ := e.value.(string); flag.Enum != "" && !slices.Contains(flag.EnumSlice(), text) {
		return fmt.Errorf("expected one of %s, found %q", strings.Join(flag.EnumSlice(), ", "), text)
	}
	return nil
}

// parse flattens the file: a nested key a: {b: 1} becomes the flag name a-b, but where the flag a takes a mapping.
func parse(path string, text []byte, flags map[string]*kong.Flag) (map[string]entry, error) {
	var doc, next yaml.Node
	entries := map[string]entry{}
	documents := yaml.NewDecoder(bytes.NewReader(text))
	switch err := documents.Decode(&doc); {
	case err == io.EOF || err == nil && len(doc.Content) == 0:
		return entries, nil
	case err != nil:
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	switch err := documents.Decode(&next); {
	case err == nil:
		return nil, fmt.Errorf("%s:%d: expected one document, found another behind ---", path, next.Line)
	case err != io.EOF:
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return entries, flatten(path, nil, doc.Content[0], flags, entries)
}

func flatten(path string, keys []string, node *yaml.Node, flags map[string]*kong.Flag, entries map[string]entry) error {
	if node.Kind != yaml.MappingNode {
		return fmt.Errorf("%s:%d: expected a mapping of keys to values, found %s", path, node.Line, kindName(node))
	}
	for i := 0; i+1 < len(node.Content); i += 2 {
		key, value := node.Content[i], node.Content[i+1]
		at := append(keys[:len(keys):len(keys)], key.Value)
		e := entry{key: strings.Join(at, "."), line: key.Line}
		name := strings.Join(at, "-")
		switch value.Kind {
		case yaml.MappingNode:
			if !takesMapping(flags[name]) {
				if err := flatten(path, at, value, flags, entries); err != nil {
					return err
				}
				continue
			}
			text, err := yaml.Marshal(value)
			if err != nil {
				return fmt.Errorf("%s:%d: %s: %w", path, e.line, e.key, err)
			}
			e.value, e.node = string(text), value
		case yaml.SequenceNode:
			items := []any{}
			for _, item := range value.Content {
				if item.Kind != yaml.ScalarNode {
					return fmt.Errorf("%s:%d: %s: expected a list of plain values, found %s", path, item.Line, e.key, kindName(item))
				}
				items = append(items, item.Value)
			}
			e.value = items
		case yaml.ScalarNode:
			if value.Tag == "!!null" {
				continue
			}
			e.value = value.Value
		default:
			return fmt.Errorf("%s:%d: %s: expected a value, found %s", path, value.Line, e.key, kindName(value))
		}
		if old, twice := entries[name]; twice {
			return fmt.Errorf("%s:%d: %s is already set by %s in line %d", path, e.line, e.key, old.key, old.line)
		}
		entries[name] = e
	}
	return nil
}

// takesMapping reports whether a flag, if there is one, takes a mapping of the file.
func takesMapping(flag *kong.Flag) bool {
	if flag == nil {
		return false
	}
	_, ok := reflect.New(flag.Target.Type()).Interface().(mapping)
	return ok
}

func kindName(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	case yaml.ScalarNode:
		return fmt.Sprintf("the value %q", n.Value)
	case yaml.AliasNode:
		return fmt.Sprintf("the alias *%s; write out what it stands for", n.Value)
	}
	return "something else"
}

// unknownKey names the nearest known key, if one is near.
func unknownKey(path string, e entry, flags map[string]*kong.Flag) error {
	name := strings.ReplaceAll(e.key, ".", "-")
	best, bestDistance := "", 4
	names := make([]string, 0, len(flags))
	for n := range flags {
		names = append(names, n)
	}
	sort.Strings(names)
	for _, n := range names {
		if d := distance(name, n); d < bestDistance && !notKeys[n] {
			best, bestDistance = n, d
		}
	}
	if best != "" {
		return fmt.Errorf("%s:%d: unknown key %s; did you mean %s?", path, e.line, e.key, best)
	}
	return fmt.Errorf("%s:%d: unknown key %s; --help lists the flags, and each flag is a key", path, e.line, e.key)
}

// distance is the number of letters to insert, remove or replace to make b of a.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		diagonal := row[0]
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := diagonal
			if a[i-1] != b[j-1] {
				cost++
			}
			diagonal = row[j]
			row[j] = min(cost, row[j]+1, row[j-1]+1)
		}
	}
	return row[len(b)]
}
