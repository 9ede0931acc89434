package schema

import (
	"bytes"
	"errors"
	"slices"
	"strconv"
	"strings"
)

// maxQuotedMaps bounds how many maps a map can be within, each in a key of the next: the text of a key is quoted once
// for each of them, which doubles its backslashes.
const maxQuotedMaps = 8

var errTooQuoted = errors.New("keys of maps have maps in their keys more than " + strconv.Itoa(maxQuotedMaps) + " deep")

// nesting says where a value stands: in how many others, and in how many keys of maps.
type nesting struct{ depth, keys int }

// appendJSON appends a value of any type. After an error what it appended is of no use.
func (t *Type) appendJSON(dst, value []byte, n nesting) ([]byte, error) {
	switch {
	case value == nil:
		return append(dst, "null"...), nil
	case t.lexicalUUID() && (len(value) == 0 || len(value) == 16):
		return nativeTypes["uuid"].appendNativeJSON(dst, value)
	case t.Kind == KindCustom:
		return appendJSONHex(dst, value), nil
	case t.Kind == KindCounter:
		if len(value) == 0 {
			return append(dst, `""`...), nil
		}
		total, err := CounterTotal(value)
		return strconv.AppendInt(dst, total, 10), err
	case t.Native():
		return t.appendNativeJSON(dst, value)
	case len(value) == 0 && t.Kind != KindTuple && t.Kind != KindUDT:
		return append(dst, `""`...), nil
	}
	if n.depth == maxValueDepth {
		return dst, errTooDeep
	}
	p, err := t.parts(value)
	if err != nil {
		return dst, err
	}
	n.depth++
	opening, closing := byte('['), byte(']')
	if t.Kind == KindMap || t.Kind == KindUDT {
		opening, closing = '{', '}'
	}
	dst = append(dst, opening)
	for i := 0; ; i++ {
		typ, part, err := p.next()
		if err != nil {
			return dst, err
		}
		if typ == nil {
			return append(dst, closing), nil
		}
		isKey := t.Kind == KindMap && i%2 == 0
		switch {
		case t.Kind == KindMap && !isKey:
			dst = append(dst, ": "...)
		case i > 0:
			dst = append(dst, ", "...)
		}
		if t.Kind == KindUDT {
			dst = append(appendFieldName(dst, t.Fields[i]), ": "...)
		}
		if isKey {
			dst, err = typ.appendJSONKey(dst, part, n)
		} else {
			dst, err = typ.appendJSON(dst, part, n)
		}
		if err != nil {
			return dst, p.within(err)
		}
	}
}

// appendJSONKey appends a value as the key of a map: a text that is no string becomes one. Source: MapType.toJSONString.
func (t *Type) appendJSONKey(dst, value []byte, n nesting) ([]byte, error) {
	if n.keys++; n.keys > maxQuotedMaps {
		return dst, errTooQuoted
	}
	start := len(dst)
	dst, err := t.appendJSON(dst, value, n)
	if err != nil || dst[start] == '"' {
		return dst, err
	}
	// Only quotes and backslashes need an escape in JSON's own text. They are put in from the end.
	end := len(dst)
	escapes := bytes.Count(dst[start:], []byte{'"'}) + bytes.Count(dst[start:], []byte{'\\'})
	grown := end + escapes + 2
	dst = slices.Grow(dst, grown-end)[:grown]
	to := grown - 1
	dst[to] = '"'
	for from := end - 1; from >= start; from-- {
		c := dst[from]
		to--
		dst[to] = c
		if c == '"' || c == '\\' {
			to--
			dst[to] = '\\'
		}
	}
	dst[start] = '"'
	return dst, nil
}

// appendFieldName appends the name of a user type's field as a JSON string. A name with capitals has quotes in it, as
// CQL would need them; other names have none, even if CQL needs them. Source: UserType.toJSONString.
func appendFieldName(dst []byte, name string) []byte {
	if strings.ToLower(name) != name {
		name = `"` + name + `"`
	}
	return appendJSONString(dst, []byte(name))
}
