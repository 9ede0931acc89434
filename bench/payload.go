package bench

import "math/bits"

// Append appends the payload of the next mutation, as messaging versions 10 to 13 have it.
func (m *Mutations) Append(dst []byte) []byte {
	m.Next(&m.own)
	return m.own.appendPayload(dst)
}

func (m *Mutation) appendPayload(dst []byte) []byte {
	const (
		timestampEpoch = 1442880000000000
		hasRowEstimate = 0x10
		rowTimestamp   = 0x04
		rowAllColumns  = 0x20
		cellRowTime    = 0x08
		endOfPartition = 0x01
	)
	pk, ck := Key(m.Row)
	dst = appendUvint(dst, 1) // updates
	dst = append(dst, tableID[:]...)
	dst = appendUvint(dst, 8)
	dst = appendUint64(dst, uint64(pk))
	dst = append(dst, hasRowEstimate)
	dst = appendUvint(dst, uint64(m.Timestamp-timestampEpoch)) // least timestamp
	dst = append(dst, 0, 0)                                    // no deletion, no ttl
	dst = appendUvint(dst, uint64(bits.OnesCount(m.Mask)))
	for i := range Columns {
		if m.Mask>>i&1 == 1 {
			dst = append(dst, 2, 'c', '0'+byte(i))
		}
	}
	dst = appendUvint(dst, 1) // row estimate
	if m.Insert {
		dst = append(dst, rowAllColumns|rowTimestamp)
	} else {
		dst = append(dst, rowAllColumns)
	}
	dst = append(dst, 0) // no clustering value is null or empty
	dst = appendUint32(dst, uint32(ck))
	if m.Insert {
		dst = append(dst, 0) // the least timestamp
	}
	for i := range Columns {
		if m.Mask>>i&1 == 0 {
			continue
		}
		if m.Insert {
			dst = append(dst, cellRowTime)
		} else {
			dst = append(dst, 0, 0) // with the least timestamp
		}
		if i < textColumns {
			dst = appendUvint(dst, uint64(len(m.Values[i])))
		}
		dst = append(dst, m.Values[i]...)
	}
	return append(dst, endOfPartition)
}
