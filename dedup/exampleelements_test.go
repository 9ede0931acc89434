package dedup

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"cassdelta/commitlog"
	"cassdelta/schema"
)

// What examples say of values within values, and of columns that have a cell for each element.

// defineType reads "NAME FIELD TYPE, ...".
func (x *example) defineType(text string) error {
	name, rest, _ := strings.Cut(text, " ")
	var names []string
	var types []*schema.Type
	for _, field := range splitOutside(rest, ',') {
		words := strings.Fields(field)
		if len(words) != 2 {
			return fmt.Errorf("%q is no field", field)
		}
		typ, err := schema.ParseType(words[1], x.userType)
		if err != nil {
			return err
		}
		names, types = append(names, words[0]), append(types, typ)
	}
	typ, err := schema.NewUDT("ks", name, names, types)
	x.types[name] = typ
	return err
}

// splitOutside splits a text at separators that are in no brackets.
func splitOutside(text string, separator rune) (parts []string) {
	depth, from := 0, 0
	for i, c := range text {
		switch {
		case strings.ContainsRune("<([{", c):
			depth++
		case strings.ContainsRune(">)]}", c):
			depth--
		case c == separator && depth == 0:
			parts, from = append(parts, text[from:i]), i+1
		}
	}
	return append(parts, text[from:])
}

// exampleParts splits what is in brackets.
func exampleParts(text string) ([]string, error) {
	if len(text) < 2 || !strings.ContainsRune("([{", rune(text[0])) {
		return nil, fmt.Errorf("%q is in no brackets", text)
	}
	if len(text) == 2 {
		return nil, nil
	}
	return splitOutside(text[1:len(text)-1], ','), nil
}

// examplePair splits key:value.
func examplePair(text string) (key, value string) {
	parts := splitOutside(text, ':')
	return parts[0], strings.Join(parts[1:], ":")
}

// exampleNested reads a value of a type that others are nested in.
func exampleNested(t *schema.Type, text string) ([]byte, error) {
	parts, err := exampleParts(text)
	if err != nil {
		return nil, err
	}
	value := []byte{}
	if t.Kind == schema.KindList || t.Kind == schema.KindSet || t.Kind == schema.KindMap {
		value = intValue(len(parts))
	}
	add := func(typ *schema.Type, text string) error {
		v, err := exampleValue(typ, text)
		switch {
		case err != nil:
			return err
		case t.Kind == schema.KindVector && typ.FixedLength() < 0:
			value = append(value, byte(len(v)))
		case t.Kind == schema.KindVector:
		case v == nil:
			value = append(value, 0xff, 0xff, 0xff, 0xff)
		default:
			value = append(value, intValue(len(v))...)
		}
		value = append(value, v...)
		return nil
	}
	for i, part := range parts {
		key, of := examplePair(part)
		switch t.Kind {
		case schema.KindMap:
			if err = add(t.Elems[0], key); err == nil {
				err = add(t.Elems[1], of)
			}
		case schema.KindUDT: // the fields in their order, none left out before another
			err = add(t.Elems[i], of)
		case schema.KindTuple:
			err = add(t.Elems[i], part)
		default:
			err = add(t.Elems[0], part)
		}
		if err != nil {
			return nil, err
		}
	}
	return value, nil
}

// listPath is a timeuuid of a time in units of 100 ns since 1582.
func listPath(at uint64) []byte {
	path := binary.BigEndian.AppendUint32(nil, uint32(at))
	path = binary.BigEndian.AppendUint16(path, uint16(at>>32))
	path = binary.BigEndian.AppendUint16(path, uint16(at>>48)|1<<12)
	return append(path, 0x80, 0, 0, 0, 0, 0, 0, 1)
}

// examplePath reads a path of an element.
func examplePath(t *schema.Type, text string) ([]byte, error) {
	switch t.Kind {
	case schema.KindList:
		n, err := strconv.ParseUint(text, 10, 60)
		return listPath(n), err
	case schema.KindUDT:
		i := slices.Index(t.Fields, text)
		if i < 0 {
			i = len(t.Fields) // the next that the type gets
		}
		return binary.BigEndian.AppendUint16(nil, uint16(i)), nil
	}
	return exampleValue(t.Elems[0], text)
}

// element writes one element of a multi-cell column.
func (w *exampleWrite) element(row *commitlog.Row, c *schema.Column, path, value string) error {
	cell := commitlog.Cell{Timestamp: w.at, LocalTime: commitlog.NoDeletionTime, TTL: w.ttl, Value: []byte{}}
	var err error
	if cell.Path, err = examplePath(c.Type, path); err != nil {
		return err
	}
	if w.ttl != 0 {
		cell.LocalTime = w.expiry()
	}
	switch {
	case value == "null":
		cell.Deleted, cell.Value, cell.LocalTime, cell.TTL = true, nil, w.local, 0
	case c.Type.Kind == schema.KindUDT:
		cell.Value, err = exampleValue(c.Type.Elems[max(0, slices.Index(c.Type.Fields, path))], value)
	case c.Type.Kind != schema.KindSet:
		cell.Value, err = exampleValue(c.Type.Elems[len(c.Type.Elems)-1], value)
	}
	rowBuilder{w.table, row}.add(c.Name, cell)
	return err
}

// whole writes a multi-cell column: a deletion of its elements before, and the new ones.
func (w *exampleWrite) whole(row *commitlog.Row, c *schema.Column, value string) error {
	i, _ := w.table.ColumnIndex(c.Name)
	row.ComplexDeletions = append(row.ComplexDeletions,
		commitlog.ComplexDeletion{Column: i, Deletion: commitlog.Deletion{Timestamp: w.at - 1, LocalTime: w.local}})
	if value == "null" {
		return nil
	}
	parts, err := exampleParts(value)
	if err != nil {
		return err
	}
	for n, part := range parts {
		path, of := examplePair(part)
		if c.Type.Kind == schema.KindList {
			path, of = strconv.FormatInt(w.at*100+int64(n), 10), part
		}
		if err := w.element(row, c, path, of); err != nil {
			return err
		}
	}
	return nil
}

// shard writes a shard of a counter, into the context that the row may have already.
func (w *exampleWrite) shard(row *commitlog.Row, column int, node byte, text string) error {
	clock, count, _ := strings.Cut(text, ":")
	at, err := strconv.ParseInt(clock, 10, 64)
	if err != nil {
		return err
	}
	n, err := strconv.ParseInt(count, 10, 64)
	if err != nil {
		return err
	}
	context := counterShard(node, at, n)
	if last := len(row.Cells) - 1; last >= 0 && row.Cells[last].Column == column {
		row.Cells[last].Value, _ = schema.AppendMergedCounter(nil, row.Cells[last].Value, context)
		return nil
	}
	rowBuilder{w.table, row}.cell(w.table.Columns[column].Name, w.at, context)
	return nil
}
