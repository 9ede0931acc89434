package rawtopic

import "math/bits"

// Partition is the raw partition of a token, of n > 0: (token + 2^63) * n / 2^64. Each partition is a contiguous range
// of tokens, and the ranges differ in length by one token at most.
func Partition(token int64, n int32) int32 {
	p, _ := bits.Mul64(uint64(token)^1<<63, uint64(n))
	return int32(p)
}
