package schema

import (
	"encoding/binary"
	"strconv"
)

// appendInteger appends a two's complement number.
func appendInteger(dst, number []byte) []byte {
	var room [20]byte
	digits, negative := appendDigits(room[:0], number)
	if negative {
		dst = append(dst, '-')
	}
	return append(dst, digits...)
}

// appendDecimal appends a decimal (see [appendComparableDecimal]) as BigDecimal.toString prints it: as it is if the
// scale is not negative and at most five zeros stand between the point and the first digit, otherwise with an exponent.
func appendDecimal(dst, value []byte) []byte {
	scale := int64(int32(binary.BigEndian.Uint32(value)))
	var room [20]byte
	digits, negative := appendDigits(room[:0], value[4:])
	if negative {
		dst = append(dst, '-')
	}
	exponent := int64(len(digits)) - 1 - scale // of the first digit
	if scale < 0 || exponent < -6 {
		dst = append(dst, digits[0])
		if len(digits) > 1 {
			dst = append(dst, '.')
			dst = append(dst, digits[1:]...)
		}
		dst = append(dst, 'E')
		if exponent > 0 {
			dst = append(dst, '+')
		}
		return strconv.AppendInt(dst, exponent, 10)
	}
	whole := len(digits) - int(scale) // digits before the point
	switch {
	case scale == 0:
		return append(dst, digits...)
	case whole > 0:
		dst = append(dst, digits[:whole]...)
		dst = append(dst, '.')
		return append(dst, digits[whole:]...)
	}
	dst = append(dst, "0."...)
	for range -whole {
		dst = append(dst, '0')
	}
	return append(dst, digits...)
}
