package segment

import (
	"cassdelta/commitlog"
	"cassdelta/schema"
)

// appendKey appends a partition key: as its bytes, or as an object with the columns.
func (f ValueForm) appendKey(b []byte, t *schema.Table, key []byte) []byte {
	if f == HexValues {
		return appendHex(b, key)
	}
	values, err := t.SplitPartitionKey(nil, key)
	if err != nil {
		return appendUnread(b, key)
	}
	return appendColumns(b, t.PartitionKeyColumns(), values)
}

// appendClustering appends a clustering or the prefix of one: as an array of bytes, or as an object with the columns.
func (f ValueForm) appendClustering(b []byte, t *schema.Table, values [][]byte) []byte {
	if f == TextValues {
		return appendColumns(b, t.ClusteringColumns(), values)
	}
	b = append(b, '[')
	for i, v := range values {
		if i > 0 {
			b = append(b, ',')
		}
		if v == nil {
			b = append(b, "null"...)
		} else {
			b = appendHex(b, v)
		}
	}
	return append(b, ']')
}

// appendPath appends the path of a cell.
func (f ValueForm) appendPath(b []byte, typ *schema.Type, path []byte) []byte {
	if f == HexValues {
		return appendHex(b, path)
	}
	out, err := typ.AppendPathJSON(b, path)
	if err != nil {
		return appendUnread(b, path)
	}
	return out
}

// appendValue appends the value of a cell.
func (f ValueForm) appendValue(b []byte, typ *schema.Type, c *commitlog.Cell) []byte {
	if f == HexValues {
		return appendHex(b, c.Value)
	}
	if c.Path == nil {
		return appendText(b, typ, c.Value)
	}
	out, err := typ.AppendCellJSON(b, c.Path, c.Value)
	if err != nil {
		return appendUnread(b, c.Value)
	}
	return out
}

// appendColumns appends an object with the values of the first columns.
func appendColumns(b []byte, columns []schema.Column, values [][]byte) []byte {
	b = append(b, '{')
	for i, v := range values {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(appendString(b, columns[i].Name), ':')
		b = appendText(b, columns[i].Type, v)
	}
	return append(b, '}')
}

// appendText appends a value as SELECT JSON prints it.
func appendText(b []byte, typ *schema.Type, v []byte) []byte {
	out, err := typ.AppendJSON(b, v)
	if err != nil {
		return appendUnread(b, v)
	}
	return out
}

// appendUnread appends the bytes of a value that is none of its type.
func appendUnread(b, v []byte) []byte {
	return append(appendHex(append(b, `{"hex":`...), v), '}')
}
