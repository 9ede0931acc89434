package rawtopic

import (
	"math"
	"math/big"
	"math/rand/v2"
	"testing"
)

func TestPartition(t *testing.T) {
	for _, c := range []struct {
		token int64
		n     int32
		want  int32
	}{
		{math.MinInt64, 1, 0},
		{math.MaxInt64, 1, 0},
		{math.MinInt64, 32, 0},
		{math.MaxInt64, 32, 31},
		{-1, 2, 0}, // the last token of the lower half
		{0, 2, 1},  // the first of the upper half
		{math.MinInt64 + 1<<59 - 1, 32, 0},
		{math.MinInt64 + 1<<59, 32, 1},
		{math.MaxInt64 - 1<<59, 32, 30},
		{math.MaxInt64 - 1<<59 + 1, 32, 31},
		{math.MinInt64 + math.MaxInt64/3*2, 3, 0}, // 2^64/3 is no whole number: the border lies in between
		{math.MinInt64 + math.MaxInt64/3*2 + 2, 3, 1},
		{math.MaxInt64, math.MaxInt32, math.MaxInt32 - 1},
	} {
		if got := Partition(c.token, c.n); got != c.want {
			t.Errorf("token %d of %d partitions: expected partition %d, found %d", c.token, c.n, c.want, got)
		}
	}
}

// TestPartitionIsTheFormula compares with whole numbers of any size.
func TestPartitionIsTheFormula(t *testing.T) {
	g := rand.New(rand.NewPCG(1, 1))
	for range 10000 {
		token, n := int64(g.Uint64()), 1+g.Int32N(1000)
		want := new(big.Int).Add(big.NewInt(token), new(big.Int).Lsh(big.NewInt(1), 63))
		want.Mul(want, big.NewInt(int64(n))).Rsh(want, 64)
		if got := Partition(token, n); int64(got) != want.Int64() {
			t.Fatalf("token %d of %d partitions: expected partition %v, found %d", token, n, want, got)
		}
	}
}
