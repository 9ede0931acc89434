package dedup

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"cassdelta/commitlog"
	"cassdelta/schema"
)

// The columns with elements of the model's tables. Their paths are numbers, from 0 on: of a list a time, of a map a key, of
// a set of decimals an element, with a scale that makes no difference to which one it is, of a user type a field.
var (
	wideElements   = []string{"m1 map<int,int> regular", "u1 place regular", "x1 set<decimal> regular", "y1 set<int> static"}
	singleElements = []string{"l1 list<int> regular", "m1 map<int,int> regular"}
)

const elementPaths = 3

func elementsTypes(t testing.TB) schema.UDTs {
	place := udt(t, "place", "a int", "b int", "c int")
	return func(string) *schema.Type { return place }
}

// modelPath gives a path for its number.
func (w *world) modelPath(column string, n int) []byte {
	switch column[0] {
	case 'l':
		return listPath(uint64(n))
	case 'u':
		return []byte{0, byte(n)}
	case 'x':
		scale := w.r.IntN(3)
		digits := n
		for range scale {
			digits *= 10
		}
		return append(intValue(scale), intValue(digits)...)
	}
	return intValue(n)
}

// elementsRow adds elements to a write, of columns that others may have been written to before.
func (w *world) elementsRow(row *rowWrite, at int64, ttl int32, expiry int64, columns ...string) {
	row.elements = map[string]commitlog.Deletion{}
	for _, column := range columns {
		if w.chance(60) {
			continue
		}
		switch {
		case w.chance(30): // as a whole
			row.elements[column] = commitlog.Deletion{Timestamp: at - 1, LocalTime: w.local()}
		case w.chance(15):
			row.elements[column] = w.delete()
		}
		for n := range elementPaths {
			if w.chance(60) {
				continue
			}
			c := commitlog.Cell{Path: w.modelPath(column, n), Timestamp: at, LocalTime: commitlog.NoDeletionTime, Value: intValue(w.r.IntN(3))}
			if column[0] == 'x' || column[0] == 'y' {
				c.Value = []byte{}
			}
			switch {
			case w.chance(25):
				c.Deleted, c.Value, c.LocalTime = true, nil, w.local()
			case ttl != 0:
				c.TTL, c.LocalTime = ttl, expiry
			}
			if w.chance(20) {
				c.Timestamp = w.time()
			}
			row.cells[fmt.Sprintf("%s[%d]", column, n)] = c
		}
	}
}

// elementsText prints a column as SELECT JSON does.
func (v *modelView) elementsText(column string) string {
	type element struct {
		n    int
		cell commitlog.Cell
	}
	var elements []element
	for name, c := range v.live {
		if rest, ok := strings.CutPrefix(name, column+"["); ok {
			n, _ := strconv.Atoi(strings.TrimSuffix(rest, "]"))
			elements = append(elements, element{n, c})
		}
	}
	slices.SortFunc(elements, func(a, b element) int { return cmp.Compare(a.n, b.n) })
	var parts []string
	switch column[0] {
	case 'u':
		for i, name := range []string{"a", "b", "c"} {
			value := "null"
			for _, e := range elements {
				if e.n == i {
					value = modelValue("", e.cell.Value)
				}
			}
			parts = append(parts, fmt.Sprintf("%q: %s", name, value))
		}
	case 'm':
		for _, e := range elements {
			parts = append(parts, fmt.Sprintf(`"%d": %s`, e.n, modelValue("", e.cell.Value)))
		}
	case 'l':
		for _, e := range elements {
			parts = append(parts, modelValue("", e.cell.Value))
		}
	case 'x':
		for _, e := range elements {
			text := strconv.Itoa(e.n)
			if scale := int(e.cell.Path[3]); scale > 0 {
				text += "." + strings.Repeat("0", scale)
			}
			parts = append(parts, text)
		}
	default:
		for _, e := range elements {
			parts = append(parts, strconv.Itoa(e.n))
		}
	}
	text := strings.Join(parts, ", ")
	if column[0] == 'u' || column[0] == 'm' {
		return "{" + text + "}"
	}
	return "[" + text + "]"
}
