package rawtopic

import (
	"encoding/binary"

	"cassdelta/schema"
)

// Content gives of the value of a data record what does not depend on whose log it was read in: equal contents are copies
// of one update. It is a part of value. Not ok: it is no data record, or damaged.
func Content(value []byte) (content []byte, host schema.UUID, ok bool) {
	const hostAt = headerLen + 1
	if len(value) < hostAt+len(host) || value[0] != 0xc3 || value[1] != 0x01 || value[headerLen] != byte(KindData)<<1 ||
		binary.LittleEndian.Uint64(value[2:]) != Fingerprint {
		return nil, host, false
	}
	content = value[hostAt+copy(host[:], value[hostAt:]):]
	for range 3 { // segment, offset, update
		_, n := binary.Varint(content)
		if n <= 0 {
			return nil, host, false
		}
		content = content[n:]
	}
	return content, host, true
}
