package segment

import (
	"encoding/hex"
	"fmt"
	"strings"

	"cassdelta/commitlog"
	"cassdelta/schema"
)

// appendUpdateText appends an update for people: a line for the partition, and one for each thing that it writes there.
func appendUpdateText(b []byte, m *commitlog.Mutation, u *commitlog.Update) []byte {
	b = fmt.Appendf(b, "%10d  %s  %s", m.Position.Offset, u.Table.FullName(), partitionText(u.Table, u.Key))
	if m.Count > 1 {
		b = fmt.Appendf(b, "  (update %d of %d)", u.Index+1, m.Count)
	}
	b = append(b, '\n')
	if !u.Deletion.IsLive() {
		b = fmt.Appendf(b, "            delete the partition, %s\n", deletionText(u.Deletion))
	}
	if u.Static != nil {
		b = appendRowText(b, "static row", u.Table, u.Static)
	}
	for _, x := range u.Unfiltereds {
		if x.Row != nil {
			what := "row"
			if len(x.Row.Clustering) > 0 {
				what += " " + prefixText(u.Table, x.Row.Clustering)
			}
			b = appendRowText(b, what, u.Table, x.Row)
			continue
		}
		b = fmt.Appendf(b, "            %s %s", strings.ToLower(strings.ReplaceAll(boundName(x.Marker.Kind), "_", " ")), prefixText(u.Table, x.Marker.Prefix))
		if !x.Marker.End.IsLive() {
			b = fmt.Appendf(b, ", ends: %s", deletionText(x.Marker.End))
		}
		if !x.Marker.Start.IsLive() {
			b = fmt.Appendf(b, ", starts: %s", deletionText(x.Marker.Start))
		}
		b = append(b, '\n')
	}
	return b
}

func appendRowText(b []byte, what string, t *schema.Table, r *commitlog.Row) []byte {
	b = fmt.Appendf(b, "            %s", what)
	if l := r.Liveness; l.Timestamp != commitlog.NoTimestamp {
		b = fmt.Appendf(b, ", inserted %s%s", micros(l.Timestamp), ttlText(l.TTL))
	}
	if !r.Deletion.IsLive() {
		b = fmt.Appendf(b, ", deleted %s", deletionText(r.Deletion))
	}
	b = append(b, '\n')
	for _, d := range r.ComplexDeletions {
		if !d.IsLive() {
			b = fmt.Appendf(b, "              %s: all elements deleted, %s\n", columnName(t, d.Column), deletionText(d.Deletion))
		}
	}
	for i := range r.Cells {
		c := &r.Cells[i]
		b = fmt.Appendf(b, "              %s", columnName(t, c.Column))
		typ := columnType(t, c.Column)
		if c.Path != nil {
			b = fmt.Appendf(b, "[%s]", pathText(typ, c.Path))
		}
		switch {
		case c.Deleted:
			b = append(b, " deleted"...)
		case c.Path != nil && typ.Kind == schema.KindSet: // the path says it all
		default:
			b = fmt.Appendf(b, " = %s", cellText(typ, c))
		}
		b = fmt.Appendf(b, ", %s%s\n", micros(c.Timestamp), ttlText(c.TTL))
	}
	return b
}

func columnType(t *schema.Table, i int) *schema.Type {
	if i < len(t.Columns) {
		return t.Columns[i].Type
	}
	return t.Dropped[i-len(t.Columns)].Type
}

// partitionText is a partition key by column, or its bytes if it is not one.
func partitionText(t *schema.Table, key []byte) string {
	values, err := t.SplitPartitionKey(nil, key)
	if err != nil {
		return "key 0x" + hex.EncodeToString(key)
	}
	return columnsText(t.PartitionKeyColumns(), values)
}

// prefixText is a clustering, or the prefix of one.
func prefixText(t *schema.Table, values [][]byte) string {
	if len(values) == 0 {
		return "(the end of the partition)"
	}
	return columnsText(t.ClusteringColumns(), values)
}

func columnsText(columns []schema.Column, values [][]byte) string {
	var b strings.Builder
	for i, v := range values {
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "%s = %s", columns[i].Name, valueText(columns[i].Type, v))
	}
	return b.String()
}

// valueText is a value as SELECT JSON prints it, or its bytes if it is not one of its type.
func valueText(typ *schema.Type, v []byte) string {
	text, err := typ.AppendJSON(nil, v)
	if err != nil {
		return "0x" + hex.EncodeToString(v)
	}
	return string(text)
}

// pathText is the path of a cell as [schema.Type.AppendPathJSON] prints it, or its bytes.
func pathText(typ *schema.Type, path []byte) string {
	text, err := typ.AppendPathJSON(nil, path)
	if err != nil {
		return "0x" + hex.EncodeToString(path)
	}
	return string(text)
}

// cellText is the value of a cell as [valueText].
func cellText(typ *schema.Type, c *commitlog.Cell) string {
	if c.Path == nil {
		return valueText(typ, c.Value)
	}
	text, err := typ.AppendCellJSON(nil, c.Path, c.Value)
	if err != nil {
		return "0x" + hex.EncodeToString(c.Value)
	}
	return string(text)
}

func deletionText(d commitlog.Deletion) string {
	return fmt.Sprintf("%s (local time %d)", micros(d.Timestamp), d.LocalTime)
}

func ttlText(ttl int32) string {
	if ttl == 0 {
		return ""
	}
	return fmt.Sprintf(", ttl %d s", ttl)
}
