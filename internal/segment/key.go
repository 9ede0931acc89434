package segment

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"reflect"
	"strings"

	"cassdelta/schema"
)

// Key is a partition key that is looked for. It is given as
//
//	0x636174           the bytes of the key, those of composites included
//	{"id":1,"day":2}   an object with all columns of the key, as dump --values text prints it
//	[1, 2]             an array with the columns of a key of several
//	cat, 'cat', 42     a value of a key of one column, as CQL or SELECT JSON write it, quotes being optional
//
// Values are compared by their JSON texts, so decimals and the like are to have all their digits.
type Key struct {
	raw []byte // not nil if it is given as bytes
	// text is a value as it was given, without quotes of CQL.
	text string
	// value is the text as JSON, if isJSON says that it is some.
	value  any
	isJSON bool
}

// ParseKey reads a key.
func ParseKey(text string) (*Key, error) {
	if digits, ok := strings.CutPrefix(text, "0x"); ok {
		raw, err := hex.DecodeString(digits)
		if err != nil {
			return nil, fmt.Errorf("key %q: %w", text, err)
		}
		return &Key{raw: raw}, nil
	}
	k := &Key{text: text}
	if value, err := parseJSON([]byte(text)); err == nil {
		k.value, k.isJSON = value, true
	} else if len(text) >= 2 && text[0] == '\'' && text[len(text)-1] == '\'' {
		k.text = strings.ReplaceAll(text[1:len(text)-1], "''", "'")
	} else if strings.HasPrefix(text, "{") || strings.HasPrefix(text, "[") {
		return nil, fmt.Errorf("key %q: expected JSON: %w", text, err)
	}
	return k, nil
}

// parseJSON parses one JSON value; numbers stay as they are written.
func parseJSON(text []byte) (value any, err error) {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	if err := d.Decode(&value); err != nil {
		return nil, err
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, fmt.Errorf("more stands behind a value")
	}
	return value, nil
}

// matches reports whether a partition key of the table is the one that is looked for.
func (k *Key) matches(t *schema.Table, key []byte) bool {
	if k.raw != nil {
		return bytes.Equal(k.raw, key)
	}
	values, err := t.SplitPartitionKey(nil, key)
	if err != nil {
		return false
	}
	columns := t.PartitionKeyColumns()
	var parsed []any
	for i, c := range columns {
		text, err := c.Type.AppendJSON(nil, values[i])
		if err != nil {
			return false
		}
		value, err := parseJSON(text)
		if err != nil {
			return false
		}
		parsed = append(parsed, value)
	}
	if len(columns) == 1 && (k.isJSON && matchesValue(columns[0].Type, parsed[0], k.value) || matchesValue(columns[0].Type, parsed[0], k.text)) {
		return true
	}
	switch given := k.value.(type) {
	case []any:
		if len(columns) == 1 || len(given) != len(columns) {
			return false
		}
		for i, c := range columns {
			if !matchesValue(c.Type, parsed[i], given[i]) {
				return false
			}
		}
		return true
	case map[string]any:
		if len(given) != len(columns) {
			return false
		}
		for i, c := range columns {
			value, ok := given[c.Name]
			if !ok || !matchesValue(c.Type, parsed[i], value) {
				return false
			}
		}
		return true
	}
	return false
}

// matchesValue reports whether a value of a type, as JSON, is the given one. UUIDs and blobs can be in capitals, and
// addresses in any form.
func matchesValue(typ *schema.Type, value, given any) bool {
	if reflect.DeepEqual(value, given) {
		return true
	}
	a, ok := value.(string)
	b, given2 := given.(string)
	if !ok || !given2 {
		return false
	}
	switch typ.Kind {
	case schema.KindUUID, schema.KindTimeuuid, schema.KindBlob:
		return strings.EqualFold(a, b)
	case schema.KindInet:
		addressA, errA := netip.ParseAddr(a)
		addressB, errB := netip.ParseAddr(b)
		return errA == nil && errB == nil && addressA == addressB.Unmap()
	}
	return false
}
