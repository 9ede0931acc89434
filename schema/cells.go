package schema

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"
)

// ElementCell is a live cell of a multi-cell column (see [Type.MultiCell]): one of its elements.
//
//	list       Path is a timeuuid, Value the element
//	set        Path is the element, Value nil or of no bytes
//	map        Path is the key, Value its value
//	user type  Path is the number of the field (2 bytes, from 0), Value its value
type ElementCell struct{ Path, Value []byte }

// JoinCells is [Type.AppendCells], and nil without cells, as such a column is null.
func (t *Type) JoinCells(cells []ElementCell) ([]byte, error) {
	if t.MultiCell() && len(cells) == 0 {
		return nil, nil
	}
	return t.AppendCells(nil, cells)
}

// AppendCells appends the value that a multi-cell column has by its cells, of which there is at least one: a value in
// the form of the frozen type, such as [Type.AppendJSON] takes. The cells can stand in any order, and are left as they
// are; of each path there is one. After an error dst is unchanged but for its capacity. Source:
// CollectionType.serializeForNativeProtocol, and that of UserType.
func (t *Type) AppendCells(dst []byte, cells []ElementCell) ([]byte, error) {
	if !t.MultiCell() {
		return dst, fmt.Errorf("a column of type %s has no cells of elements", t.CQL())
	}
	byPath := func(a, b ElementCell) int { return t.ComparePaths(a.Path, b.Path) }
	sorted := true // strictly
	for i := 1; i < len(cells) && sorted; i++ {
		sorted = byPath(cells[i-1], cells[i]) < 0
	}
	if !sorted {
		cells = slices.Clone(cells)
		slices.SortFunc(cells, byPath)
	}
	for i := range cells {
		if !sorted && i > 0 && byPath(cells[i-1], cells[i]) == 0 {
			return dst, fmt.Errorf("two cells of a %s have the path %x", t.kindName(), cells[i].Path)
		}
		if len(cells[i].Path) > math.MaxInt32 || len(cells[i].Value) > math.MaxInt32 {
			return dst, fmt.Errorf("a cell of a %s has more than %d bytes", t.kindName(), math.MaxInt32)
		}
	}
	if t.Kind == KindUDT {
		return t.appendFields(dst, cells)
	}
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(cells)))
	for _, c := range cells {
		switch t.Kind {
		case KindList:
			dst = appendPart(dst, c.Value)
		case KindSet:
			dst = appendPart(dst, c.Path)
		case KindMap:
			dst = appendPart(appendPart(dst, c.Path), c.Value)
		}
	}
	return dst, nil
}

// appendFields is AppendCells for a user type.
func (t *Type) appendFields(dst []byte, cells []ElementCell) ([]byte, error) {
	out := dst
	next := 0
	for _, c := range cells {
		field, err := t.field(c.Path)
		if err != nil {
			return dst, err
		}
		for ; next < field; next++ {
			out = appendPart(out, nil)
		}
		out = appendPart(out, c.Value)
		next++
	}
	for ; next < len(t.Elems); next++ {
		out = appendPart(out, nil)
	}
	return out, nil
}

// appendPart appends a value within a value of a type other than vector: its length in 4 bytes, -1 if it is null.
func appendPart(dst, part []byte) []byte {
	if part == nil {
		return append(dst, 0xff, 0xff, 0xff, 0xff)
	}
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(part)))
	return append(dst, part...)
}

// field reads a path of a user type's cell.
func (t *Type) field(path []byte) (int, error) {
	if len(path) != 2 {
		return 0, fmt.Errorf("a cell of a %s has a path of %d bytes, expected the number of a field in 2", t.kindName(), len(path))
	}
	n := int(int16(binary.BigEndian.Uint16(path)))
	if n < 0 || n >= len(t.Elems) {
		return 0, fmt.Errorf("a cell of a %s is of field %d, which the type does not have: it has %d", t.kindName(), n, len(t.Elems))
	}
	return n, nil
}

// AppendCellsJSON appends the text that SELECT JSON prints for a multi-cell column with these cells: see
// [Type.JoinCells] and [Type.AppendJSON].
func (t *Type) AppendCellsJSON(dst []byte, cells []ElementCell) ([]byte, error) {
	value, err := t.JoinCells(cells)
	if err != nil {
		return dst, err
	}
	return t.AppendJSON(dst, value)
}

// cellTypes gives the types of a path and of a value of a multi-cell column's cells. The path of a user type's cell,
// which is no value, has the type nil.
func (t *Type) cellTypes(path []byte) (pathType, valueType *Type, err error) {
	switch {
	case !t.MultiCell():
		return nil, nil, fmt.Errorf("a column of type %s has no cells of elements", t.CQL())
	case t.Kind == KindList:
		return nativeTypes["timeuuid"], t.Elems[0], nil
	case t.Kind == KindSet:
		return t.Elems[0], nativeTypes["empty"], nil
	case t.Kind == KindMap:
		return t.Elems[0], t.Elems[1], nil
	}
	field, err := t.field(path)
	if err != nil {
		return nil, nil, err
	}
	return nil, t.Elems[field], nil
}

// ValidateCell checks the path and the value of a multi-cell column's cell as [Type.Validate] does. The value of a
// tombstone is nil. Source: ColumnMetadata.validateCell.
func (t *Type) ValidateCell(path, value []byte) error {
	pathType, valueType, err := t.cellTypes(path)
	if err != nil {
		return err
	}
	if pathType != nil {
		if err := pathType.Validate(path); err != nil {
			return fmt.Errorf("path of a cell of a %s: %w", t.kindName(), err)
		}
	}
	if err := valueType.Validate(value); err != nil {
		return fmt.Errorf("cell of a %s: %w", t.kindName(), err)
	}
	return nil
}

// AppendPathJSON appends the path of a multi-cell column's cell: of a list the timeuuid, of a set the element, of a map
// the key, as a value of its type; of a user type the name of the field, as [Type.AppendJSON] prints it.
func (t *Type) AppendPathJSON(dst, path []byte) ([]byte, error) {
	pathType, _, err := t.cellTypes(path)
	if err != nil {
		return dst, err
	}
	if pathType != nil {
		return pathType.AppendJSON(dst, path)
	}
	field, err := t.field(path)
	if err != nil {
		return dst, err
	}
	return appendFieldName(dst, t.Fields[field]), nil
}

// AppendCellJSON appends the value of a multi-cell column's cell. That of a set's cell is the empty value.
func (t *Type) AppendCellJSON(dst, path, value []byte) ([]byte, error) {
	_, valueType, err := t.cellTypes(path)
	if err != nil {
		return dst, err
	}
	return valueType.AppendJSON(dst, value)
}
