package config

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Bytes is a setting that is a number of bytes, as 2GiB, 512MiB or 64KiB.
type Bytes int64

var units = []struct {
	name string
	size int64
}{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}}

// UnmarshalText takes a whole number with a unit.
func (b *Bytes) UnmarshalText(text []byte) error {
	for _, unit := range units {
		digits, ok := strings.CutSuffix(string(text), unit.name)
		if !ok {
			continue
		}
		n, err := strconv.ParseInt(digits, 10, 64)
		if err != nil || n < 0 || n > math.MaxInt64/unit.size {
			break
		}
		*b = Bytes(n * unit.size)
		return nil
	}
	return fmt.Errorf("expected a number of bytes as 2GiB, 512MiB or 64KiB, found %q", text)
}

// MarshalText gives the largest unit of which it is a whole number.
func (b Bytes) MarshalText() ([]byte, error) {
	for _, unit := range units {
		if n := int64(b); n%unit.size == 0 || unit.size == 1<<10 {
			return fmt.Appendf(nil, "%d%s", n/unit.size, unit.name), nil
		}
	}
	return nil, nil
}
