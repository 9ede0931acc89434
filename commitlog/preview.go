package commitlog

import "cassdelta/schema"

// Preview is what a payload tells of itself without a schema: how many updates it has, and the start of the first.
type Preview struct {
	// Count is the number of updates.
	Count int
	// Table is the table id of the first update. All updates of a mutation are of one keyspace.
	Table schema.UUID
	// Key is the partition key, as serialized, which all updates have in common.
	Key []byte
	// LeastTimestamp is the least write time in the first update, in microseconds; NoTimestamp if it writes nothing.
	LeastTimestamp int64
}

// ParsePreview reads the start of a payload, and checks nothing of the rest. Key points into payload. The error is a
// [*DecodeError] without a position.
func ParsePreview(payload []byte) (Preview, error) {
	c := cursor{b: payload}
	p := Preview{Count: c.count(minUpdate, "number of updates"), LeastTimestamp: NoTimestamp}
	copy(p.Table[:], c.bytes(len(p.Table), "table id"))
	p.Key = c.vbytes("partition key")
	if c.u8("flags of the update")&updateEmpty == 0 {
		p.LeastTimestamp = int64(c.uvint("least timestamp") + timestampEpoch)
	}
	if c.failed() {
		return Preview{}, &DecodeError{Offset: c.err.off, Field: c.err.field, Reason: c.err.reason}
	}
	return p, nil
}
