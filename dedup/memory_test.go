package dedup

import "testing"

// TestDivide: the parts are all there is, but for what the program itself takes.
func TestDivide(t *testing.T) {
	for _, mib := range []int64{128, 192, 256, 264, 384, 512, 1024, 2048, 64 << 10} {
		for _, stored := range []int64{0, mib << 20, mib << 30} {
			bytes := mib << 20
			m := divide(bytes, stored)
			own := bytes - m.heap - m.memTables - m.rows - m.blocks
			if least := min(max(ownBytes, bytes/16), bytes/3); own != least {
				t.Errorf("%d MiB, %d stored: %d bytes are left for the program, expected %d", mib, stored, own, least)
			}
			if m.heap <= 0 || m.memTables <= 0 || m.rows <= 0 || m.blocks <= 0 {
				t.Errorf("%d MiB, %d stored: %+v", mib, stored, m)
			}
		}
	}
}
