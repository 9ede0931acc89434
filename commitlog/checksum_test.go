package commitlog

import (
	"hash/crc32"
	"math/rand/v2"
	"testing"
)

// TestChecksum compares the checksums of all short lengths, and of some that the processor has instructions for, with
// those of hash/crc32, begun anew and continued.
func TestChecksum(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	b := make([]byte, 1100)
	for i := range b {
		b[i] = byte(rnd.Uint32())
	}
	for n := range 300 {
		for _, length := range []int{n, 800 + n} {
			start := rnd.IntN(len(b) - length + 1)
			part := b[start : start+length]
			for _, crc := range []uint32{0, rnd.Uint32()} {
				want := crc32.Update(crc, crc32.IEEETable, part)
				if found := checksum(crc, part); found != want {
					t.Fatalf("%d bytes behind %08x: expected %08x, found %08x", length, crc, want, found)
				}
				if found := checksumShort(crc, part); found != want {
					t.Fatalf("%d bytes behind %08x, by tables: expected %08x, found %08x", length, crc, want, found)
				}
			}
		}
	}
}
