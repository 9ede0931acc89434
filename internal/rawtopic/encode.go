package rawtopic

import (
	"encoding/binary"

	"cassdelta/commitlog"
)

// Append appends the encoding of r, single-object header included, and returns the extended slice. The field of r that
// Kind names must be set. Of a deleted cell the value, and of a deletion or liveness that does not exist the other
// fields, are not encoded.
func Append(dst []byte, r *Record) []byte {
	dst = append(dst, 0xc3, 0x01)
	dst = binary.LittleEndian.AppendUint64(dst, Fingerprint)
	dst = appendLong(dst, int64(r.Kind))
	switch r.Kind {
	case KindData:
		return appendData(dst, r.Data)
	case KindPart:
		dst = appendOrigin(dst, r.Part.Origin)
		dst = appendLong(dst, int64(r.Part.Index))
		dst = appendLong(dst, int64(r.Part.Count))
		return appendBytes(dst, r.Part.Bytes)
	case KindInit:
		dst = appendLong(dst, int64(len(r.Init.Cluster)))
		dst = append(dst, r.Init.Cluster...)
		dst = append(dst, r.Init.TopicID[:]...)
		dst = appendLong(dst, int64(r.Init.Partitions))
		return appendLong(dst, int64(r.Init.Version))
	case KindSchema:
		dst = append(dst, r.Schema.Hash[:]...)
		dst = appendBytes(dst, r.Schema.Definition)
		dst = appendLong(dst, r.Schema.AlteredAt)
		dst = append(dst, r.Schema.Host[:]...)
		return appendBool(dst, r.Schema.Created)
	case KindTick:
		return appendLong(dst, r.Tick.Watermark)
	case KindHeartbeat:
		dst = append(dst, r.Heartbeat.Host[:]...)
		return appendLong(dst, r.Heartbeat.Time)
	case KindTruncate:
		dst = appendOrigin(dst, r.Truncate.Origin)
		dst = append(dst, r.Truncate.Table[:]...)
		return appendLong(dst, r.Truncate.Timestamp)
	case KindDrop:
		dst = appendOrigin(dst, r.Drop.Origin)
		dst = append(dst, r.Drop.Table[:]...)
		return appendLong(dst, r.Drop.Timestamp)
	case KindSeedBegin:
		return appendSeed(dst, r.SeedBegin)
	case KindSeedEnd:
		return appendSeed(dst, r.SeedEnd)
	case KindAgentJoined:
		return append(dst, r.AgentJoined.Host[:]...)
	case KindAgentRetired:
		return append(dst, r.AgentRetired.Host[:]...)
	}
	panic("rawtopic: record of an unknown kind")
}

func appendData(dst []byte, d *Data) []byte {
	dst = appendOrigin(dst, d.Origin)
	dst = append(dst, d.Schema[:]...)
	dst = appendBytes(dst, d.Key)
	dst = appendOptionalDeletion(dst, d.Deletion)
	if d.Static == nil {
		dst = append(dst, branchNull)
	} else {
		dst = append(dst, branchValue)
		dst = appendRow(dst, d.Static)
	}
	dst = appendCount(dst, len(d.Rows))
	for i := range d.Rows {
		dst = appendRow(dst, &d.Rows[i])
	}
	dst = appendEnd(dst)
	dst = appendCount(dst, len(d.Ranges))
	for i := range d.Ranges {
		g := &d.Ranges[i]
		dst = appendBound(dst, &g.Start)
		dst = appendBound(dst, &g.End)
		dst = appendDeletion(dst, g.Deletion)
	}
	return appendEnd(dst)
}

func appendRow(dst []byte, r *commitlog.Row) []byte {
	dst = appendValues(dst, r.Clustering)
	if r.Liveness.Timestamp == commitlog.NoTimestamp {
		dst = append(dst, branchNull)
	} else {
		dst = append(dst, branchValue)
		dst = appendLong(dst, r.Liveness.Timestamp)
		dst = appendLong(dst, int64(r.Liveness.TTL))
		dst = appendOptionalTime(dst, r.Liveness.ExpiresAt)
	}
	dst = appendOptionalDeletion(dst, r.Deletion)
	dst = appendBool(dst, r.Shadowable)
	dst = appendCount(dst, len(r.Cells))
	for i := range r.Cells {
		c := &r.Cells[i]
		dst = appendLong(dst, int64(c.Column))
		dst = appendOptionalBytes(dst, c.Path)
		dst = appendLong(dst, c.Timestamp)
		dst = appendLong(dst, int64(c.TTL))
		dst = appendOptionalTime(dst, c.LocalTime)
		if c.Deleted {
			dst = append(dst, branchNull)
		} else {
			dst = append(dst, branchValue)
			dst = appendBytes(dst, c.Value)
		}
	}
	dst = appendEnd(dst)
	dst = appendCount(dst, len(r.ComplexDeletions))
	for i := range r.ComplexDeletions {
		dst = appendLong(dst, int64(r.ComplexDeletions[i].Column))
		dst = appendDeletion(dst, r.ComplexDeletions[i].Deletion)
	}
	return appendEnd(dst)
}

func appendBound(dst []byte, b *Bound) []byte {
	return appendBool(appendValues(dst, b.Prefix), b.Inclusive)
}

func appendOrigin(dst []byte, o Origin) []byte {
	dst = append(dst, o.Host[:]...)
	dst = appendLong(dst, o.Position.Segment)
	dst = appendLong(dst, o.Position.Offset)
	return appendLong(dst, int64(o.Update))
}

func appendSeed(dst []byte, s *Seed) []byte {
	dst = append(dst, s.ID[:]...)
	dst = append(dst, s.Table[:]...)
	dst = appendLong(dst, s.Start)
	return appendLong(dst, s.End)
}

func appendDeletion(dst []byte, d commitlog.Deletion) []byte {
	return appendLong(appendLong(dst, d.Timestamp), d.LocalTime)
}

func appendOptionalDeletion(dst []byte, d commitlog.Deletion) []byte {
	if d.IsLive() {
		return append(dst, branchNull)
	}
	return appendDeletion(append(dst, branchValue), d)
}

func appendOptionalTime(dst []byte, t int64) []byte {
	if t == commitlog.NoDeletionTime {
		return append(dst, branchNull)
	}
	return appendLong(append(dst, branchValue), t)
}

// appendValues writes an array of values of clustering columns, in which nil is null.
func appendValues(dst []byte, values [][]byte) []byte {
	dst = appendCount(dst, len(values))
	for _, v := range values {
		dst = appendOptionalBytes(dst, v)
	}
	return appendEnd(dst)
}

// The two branches of the unions with null, as they stand in the encoding.
const (
	branchNull  = 0x00
	branchValue = 0x02
)

func appendOptionalBytes(dst, b []byte) []byte {
	if b == nil {
		return append(dst, branchNull)
	}
	return appendBytes(append(dst, branchValue), b)
}

func appendBytes(dst, b []byte) []byte {
	return append(appendLong(dst, int64(len(b))), b...)
}

func appendBool(dst []byte, b bool) []byte {
	if b {
		return append(dst, 1)
	}
	return append(dst, 0)
}

// appendCount begins an array of n items in one block, appendEnd ends it. An empty array is the end alone.
func appendCount(dst []byte, n int) []byte {
	if n == 0 {
		return dst
	}
	return appendLong(dst, int64(n))
}

func appendEnd(dst []byte) []byte { return append(dst, 0) }

// appendLong writes an int or a long. Avro's encoding of them is that of [binary.AppendVarint].
func appendLong(dst []byte, v int64) []byte { return binary.AppendVarint(dst, v) }
