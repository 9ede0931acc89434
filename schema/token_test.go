package schema

import (
	"encoding/binary"
	"math"
	"testing"
)

// The tokens are what SELECT token(id) gives for an int key.
func TestTokenOfIntKeys(t *testing.T) {
	for id, want := range map[uint32]int64{0: -3485513579396041028, 1: -4069959284402364209, 2: -3248873570005575792, 3: 9010454139840013625} {
		if got := Token(binary.BigEndian.AppendUint32(nil, id)); got != want {
			t.Errorf("token(%d) = %d, want %d", id, got, want)
		}
	}
	if got := Token(nil); got != math.MinInt64 {
		t.Errorf("token of the empty key = %d", got)
	}
}
