package schema

import (
	"bytes"
	"math"
	"math/big"
	"strconv"
)

// The text of float and double is that of Float.toString and Double.toString in Java 8 to 18; Cassandra up to 5.0 runs
// on no other. Mostly the digits are the fewest that no other number of the type is nearer to, as strconv has them and
// as Java prints them from version 19 on. Before that there can be one or more digits too many:
//
//   - Whole numbers below 2^63 have all their digits, but for those that stand for less than a quarter of the distance
//     to the next number.
//   - Of other numbers, digits that are exactly halfway to the next number are not enough; and with powers of two (where
//     the distance to the next number is half as great on one side) not even those that are a quarter of the greater
//     distance away.
//
// Some numbers around 10^25 remain, a few in 10000, where an overflow makes Java's last digit too small by one.

// appendFloat appends a float (bits is 32) or double (64) as Java prints it, and null for what is not finite.
func appendFloat(dst []byte, f float64, bits int) []byte {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return append(dst, "null"...)
	}
	if math.Signbit(f) {
		dst = append(dst, '-')
		f = -f
	}
	if f == 0 {
		return append(dst, "0.0"...)
	}
	var room [32]byte
	digits, exponent := floatDigits(room[:0], f, bits)
	switch {
	case exponent >= -3 && exponent < 0: // 0.001 to 1
		dst = append(dst, "0."...)
		for range -1 - exponent {
			dst = append(dst, '0')
		}
		return append(dst, digits...)
	case exponent >= 0 && exponent < 7: // 1 to 10^7
		for len(digits) < exponent+2 {
			digits = append(digits, '0')
		}
		dst = append(dst, digits[:exponent+1]...)
		dst = append(dst, '.')
		return append(dst, digits[exponent+1:]...)
	}
	dst = append(dst, digits[0], '.')
	if len(digits) == 1 {
		dst = append(dst, '0')
	}
	dst = append(dst, digits[1:]...)
	dst = append(dst, 'E')
	return strconv.AppendInt(dst, int64(exponent), 10)
}

// floatDigits appends the digits of f > 0, at least one, without zeros at the end; the exponent is that of the first.
func floatDigits(dst []byte, f float64, bits int) (digits []byte, exponent int) {
	_, exp := math.Frexp(f)
	if exp <= 63 && f == math.Trunc(f) {
		return wholeDigits(dst, uint64(f), exp, bits)
	}
	digits, _ = splitFloat(strconv.AppendFloat(dst, f, 'e', -1, bits))
	// There are two digits even where one is enough, as for 4.9E-324.
	n := max(len(digits), 2)
	for {
		digits, exponent = splitFloat(strconv.AppendFloat(dst, f, 'e', n-1, bits))
		if n == 17 || enoughDigits(digits, exponent, f, bits) {
			return digits, exponent
		}
		n++
	}
}

// wholeDigits appends the digits of the whole number n, which is at least 2^(exp-1) and less than 2^exp.
func wholeDigits(dst []byte, n uint64, exp, bits int) (digits []byte, exponent int) {
	precision := 53
	if bits == 32 {
		precision = 24
	}
	unit := uint64(1) // the greatest power of ten up to a quarter of the distance 2^(exp-precision)
	if excess := exp - precision - 2; excess > 0 {
		for unit*10 <= 1<<excess {
			unit *= 10
			exponent++
		}
	}
	dst = strconv.AppendUint(dst, (n+unit/2)/unit, 10)
	exponent += len(dst) - 1
	return bytes.TrimRight(dst, "0"), exponent
}

// enoughDigits reports whether digits, which no other number is nearer to than f, are near enough to f.
func enoughDigits(digits []byte, exponent int, f float64, bits int) bool {
	fraction, exp := math.Frexp(f)
	power := fraction == 0.5
	// Digits have to be compared exactly only of powers of two that have too many digits to print them all, and of
	// numbers that are great enough to have few digits halfway to the next, but not so great that there are none again.
	if power && exp >= -8 && exp <= 63 || !power && (exp <= 63 || f > 1e40) {
		return true
	}
	const precision = 200 // bits, ample
	text := string(digits) + "e" + strconv.Itoa(exponent-len(digits)+1)
	printed, _, err := big.ParseFloat(text, 10, precision, big.ToNearestEven)
	if err != nil {
		return true
	}
	exact := new(big.Float).SetPrec(precision).SetFloat64(f)
	distance := max(exp-53, -1074) // the distance to the next greater number is 2 to this
	if bits == 32 {
		distance = max(exp-24, -149)
	}
	limit := new(big.Float).SetMantExp(big.NewFloat(1), distance-1)
	if power {
		limit.SetMantExp(limit, -1)
	}
	printed.Sub(printed, exact)
	return printed.Abs(printed).Cmp(limit) < 0
}

// splitFloat takes a text of strconv's format 'e' apart, within its memory.
func splitFloat(text []byte) (digits []byte, exponent int) {
	e := bytes.IndexByte(text, 'e')
	exponent, _ = strconv.Atoi(string(text[e+1:]))
	digits = text[:1]
	if e > 2 {
		digits = append(digits, text[2:e]...)
	}
	return bytes.TrimRight(digits, "0"), exponent
}
