package schema

import (
	"encoding/binary"
	"math"
	"math/bits"
)

// Token is the token of a partition key as Murmur3Partitioner computes it: the first half of MurmurHash3 x64 128 with
// seed 0, in the variant of Cassandra, which sign-extends the bytes of the tail. It is never the minimum, but for the
// empty key. Source: Murmur3Partitioner.getToken, MurmurHash.hash3_x64_128.
func Token(key []byte) int64 {
	if len(key) == 0 {
		return math.MinInt64
	}
	const c1, c2 = 0x87c37b91114253d5, 0x4cf5ad432745937f
	var h1, h2 uint64
	tail := key
	for ; len(tail) >= 16; tail = tail[16:] {
		k1, k2 := binary.LittleEndian.Uint64(tail), binary.LittleEndian.Uint64(tail[8:])
		h1 ^= bits.RotateLeft64(k1*c1, 31) * c2
		h1 = (bits.RotateLeft64(h1, 27)+h2)*5 + 0x52dce729
		h2 ^= bits.RotateLeft64(k2*c2, 33) * c1
		h2 = (bits.RotateLeft64(h2, 31)+h1)*5 + 0x38495ab5
	}
	var k1, k2 uint64
	for i, b := range tail {
		extended := uint64(int64(int8(b)))
		if i < 8 {
			k1 ^= extended << (8 * i)
		} else {
			k2 ^= extended << (8 * (i - 8))
		}
	}
	h2 ^= bits.RotateLeft64(k2*c2, 33) * c1
	h1 ^= bits.RotateLeft64(k1*c1, 31) * c2
	h1 ^= uint64(len(key))
	h2 ^= uint64(len(key))
	h1 += h2
	h2 += h1
	h1, h2 = mix(h1), mix(h2)
	if token := int64(h1 + h2); token != math.MinInt64 {
		return token
	}
	return math.MaxInt64
}

func mix(k uint64) uint64 {
	k ^= k >> 33
	k *= 0xff51afd7ed558ccd
	k ^= k >> 33
	k *= 0xc4ceb9fe1a85ec53
	return k ^ k>>33
}
