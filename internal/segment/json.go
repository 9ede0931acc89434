package segment

import (
	"encoding/hex"
	"encoding/json"
	"strconv"

	"cassdelta/commitlog"
	"cassdelta/schema"
)

// ValueForm says how JSON lines have keys and values.
type ValueForm uint8

const (
	// HexValues are bytes in hexadecimal digits.
	HexValues ValueForm = iota
	// TextValues are JSON as SELECT JSON prints it.
	TextValues
)

// appendUpdate appends the JSON line of an update; the package comment has its form.
func (f ValueForm) appendUpdate(b []byte, m *commitlog.Mutation, u *commitlog.Update) []byte {
	b = appendPlace(b, m.Position, m.Size)
	b = appendNumber(b, `,"i":`, int64(u.Index))
	b = appendNumber(b, `,"n":`, int64(m.Count))
	b = appendString(append(b, `,"ks":`...), u.Table.Keyspace)
	b = appendString(append(b, `,"table":`...), u.Table.Name)
	b = append(u.Table.ID.Append(append(b, `,"id":"`...)), '"')
	b = f.appendKey(append(b, `,"pk":`...), u.Table, u.Key)
	if !u.Deletion.IsLive() {
		b = appendDeletion(append(b, `,"del":`...), u.Deletion)
	}
	if u.Static != nil {
		b = append(b, `,"static":{`...)
		b = append(f.appendCells(b, u.Table, u.Static), '}')
	}
	b = append(b, `,"rows":[`...)
	for i, x := range u.Unfiltereds {
		if i > 0 {
			b = append(b, ',')
		}
		if x.Row != nil {
			b = f.appendRow(b, u.Table, x.Row)
		} else {
			b = f.appendMarker(b, u.Table, x.Marker)
		}
	}
	return append(b, "]}\n"...)
}

// appendRaw appends the JSON line of a mutation that is not decoded.
func appendRaw(b []byte, payload []byte, pos commitlog.Position, p commitlog.Preview) []byte {
	b = appendPlace(b, pos, len(payload))
	b = appendNumber(b, `,"n":`, int64(p.Count))
	b = append(p.Table.Append(append(b, `,"id":"`...)), '"')
	b = appendHex(append(b, `,"pk":`...), p.Key)
	b = appendHex(append(b, `,"raw":`...), payload)
	return append(b, "}\n"...)
}

func appendPlace(b []byte, pos commitlog.Position, size int) []byte {
	b = appendNumber(b, `{"seg":`, pos.Segment)
	b = appendNumber(b, `,"pos":`, pos.Offset)
	return appendNumber(b, `,"size":`, int64(size))
}

func (f ValueForm) appendRow(b []byte, t *schema.Table, r *commitlog.Row) []byte {
	b = f.appendClustering(append(b, `{"ck":`...), t, r.Clustering)
	if l := r.Liveness; l.Timestamp != commitlog.NoTimestamp {
		b = appendNumber(b, `,"live":{"ts":`, l.Timestamp)
		if l.TTL != 0 {
			b = appendNumber(b, `,"ttl":`, int64(l.TTL))
			b = appendNumber(b, `,"exp":`, l.ExpiresAt)
		}
		b = append(b, '}')
	}
	if !r.Deletion.IsLive() {
		b = appendDeletion(append(b, `,"del":`...), r.Deletion)
		if r.Shadowable {
			b = append(b[:len(b)-1], `,"shadowable":1}`...)
		}
	}
	b = append(b, ',')
	return append(f.appendCells(b, t, r), '}')
}

// appendCells appends the keys cells and cdel.
func (f ValueForm) appendCells(b []byte, t *schema.Table, r *commitlog.Row) []byte {
	b = append(b, `"cells":[`...)
	for i := range r.Cells {
		if i > 0 {
			b = append(b, ',')
		}
		b = f.appendCell(b, t, &r.Cells[i])
	}
	b = append(b, ']')
	first := true
	for _, d := range r.ComplexDeletions {
		if d.IsLive() {
			continue
		}
		if first {
			b = append(b, `,"cdel":[`...)
		} else {
			b = append(b, ',')
		}
		first = false
		b = appendString(append(b, `{"c":`...), columnName(t, d.Column))
		b = appendNumber(b, `,"ts":`, d.Timestamp)
		b = append(appendNumber(b, `,"ldt":`, d.LocalTime), '}')
	}
	if !first {
		b = append(b, ']')
	}
	return b
}

func (f ValueForm) appendCell(b []byte, t *schema.Table, c *commitlog.Cell) []byte {
	b = appendString(append(b, `{"c":`...), columnName(t, c.Column))
	if c.Path != nil {
		b = f.appendPath(append(b, `,"p":`...), columnType(t, c.Column), c.Path)
	}
	b = appendNumber(b, `,"ts":`, c.Timestamp)
	if c.Deleted {
		return append(appendNumber(b, `,"ldt":`, c.LocalTime), `,"x":1}`...)
	}
	if c.TTL != 0 {
		b = appendNumber(b, `,"ttl":`, int64(c.TTL))
		b = appendNumber(b, `,"ldt":`, c.LocalTime)
	}
	return append(f.appendValue(append(b, `,"v":`...), columnType(t, c.Column), c), '}')
}

func (f ValueForm) appendMarker(b []byte, t *schema.Table, m *commitlog.Marker) []byte {
	b = appendString(append(b, `{"rt":`...), boundName(m.Kind))
	b = f.appendClustering(append(b, `,"ck":`...), t, m.Prefix)
	switch {
	case m.Start.IsLive():
		b = appendDeletion(append(b, `,"del":`...), m.End)
	case m.End.IsLive():
		b = appendDeletion(append(b, `,"del":`...), m.Start)
	default:
		b = appendDeletion(append(b, `,"end":`...), m.End)
		b = appendDeletion(append(b, `,"start":`...), m.Start)
	}
	return append(b, '}')
}

// boundName is the name of a bound in ClusteringPrefix.Kind.
func boundName(k commitlog.BoundKind) string {
	switch k {
	case commitlog.ExclEndBound:
		return "EXCL_END_BOUND"
	case commitlog.InclStartBound:
		return "INCL_START_BOUND"
	case commitlog.ExclEndInclStartBoundary:
		return "EXCL_END_INCL_START_BOUNDARY"
	case commitlog.InclEndExclStartBoundary:
		return "INCL_END_EXCL_START_BOUNDARY"
	case commitlog.InclEndBound:
		return "INCL_END_BOUND"
	case commitlog.ExclStartBound:
		return "EXCL_START_BOUND"
	}
	return strconv.Itoa(int(k))
}

// columnName is the name of a column as raw records number it.
func columnName(t *schema.Table, i int) string {
	if i < len(t.Columns) {
		return t.Columns[i].Name
	}
	return t.Dropped[i-len(t.Columns)].Name
}

func appendDeletion(b []byte, d commitlog.Deletion) []byte {
	b = appendNumber(b, `{"ts":`, d.Timestamp)
	return append(appendNumber(b, `,"ldt":`, d.LocalTime), '}')
}

func appendNumber(b []byte, key string, n int64) []byte {
	return strconv.AppendInt(append(b, key...), n, 10)
}

func appendHex(b, v []byte) []byte {
	b = append(b, '"')
	return append(hex.AppendEncode(b, v), '"')
}

// appendString appends a JSON string. Names are nearly always plain ASCII.
func appendString(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c >= 0x7f || c == '"' || c == '\\' || c == '<' || c == '>' || c == '&' {
			quoted, err := json.Marshal(s)
			if err != nil {
				return strconv.AppendQuoteToASCII(b, s) // a string always marshals
			}
			return append(b, quoted...)
		}
	}
	b = append(append(b, '"'), s...)
	return append(b, '"')
}
