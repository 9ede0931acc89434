package schema

import (
	"encoding/binary"
	"math/big"
	"strconv"
)

// The forms of varint and decimal: see comparable.go.
const (
	formNegative = 0x04
	formZero     = 0x05
	formPositive = 0x06

	// Of an integer: the form of the shortest one that is not negative, and of the shortest negative one; from
	// maxIntegerLead+1 bytes on the length has bytes of its own.
	formInteger     = 0x80
	maxIntegerLead  = 0x60
	formLongInteger = formInteger + maxIntegerLead
)

// shortest strips a two's complement number of the leading bytes that only repeat the sign. It is not empty.
func shortest(number []byte) []byte {
	for len(number) > 1 && (number[0] == 0x00 && number[1] < 0x80 || number[0] == 0xff && number[1] >= 0x80) {
		number = number[1:]
	}
	return number
}

// appendComparableInteger appends the form of a two's complement number, which is not empty.
func appendComparableInteger(dst, number []byte) []byte {
	number = shortest(number)
	start := len(dst)
	if n := len(number); n <= maxIntegerLead {
		dst = append(dst, formInteger+byte(n-1))
	} else {
		dst = append(dst, formLongInteger)
		dst = binary.BigEndian.AppendUint32(dst, uint32(n))
	}
	if number[0] >= 0x80 {
		invert(dst[start:])
	}
	return append(dst, number...)
}

// appendComparableDecimal appends the form of a decimal: its scale in 4 bytes and its unscaled value in two's
// complement. Only the unscaled value's digits take room, never the zeros that the scale stands for.
func appendComparableDecimal(dst, value []byte) []byte {
	scale := int64(int32(binary.BigEndian.Uint32(value)))
	var room [20]byte
	digits, negative := appendDigits(room[:0], value[4:])
	exponent := int64(len(digits)) - scale
	for len(digits) > 0 && digits[len(digits)-1] == '0' {
		digits = digits[:len(digits)-1]
	}
	if len(digits) == 0 {
		return append(dst, formZero)
	}
	if negative {
		dst = append(dst, formNegative)
	} else {
		dst = append(dst, formPositive)
	}
	start := len(dst)
	var number [8]byte
	binary.BigEndian.PutUint64(number[:], uint64(exponent))
	dst = appendComparableInteger(dst, number[:])
	for len(digits) > 1 {
		dst = append(dst, (digits[0]-'0')*10+(digits[1]-'0')+1)
		digits = digits[2:]
	}
	if len(digits) > 0 {
		dst = append(dst, (digits[0]-'0')*10+1)
	}
	dst = append(dst, 0)
	if negative {
		invert(dst[start:])
	}
	return dst
}

// appendDigits appends the decimal digits of a two's complement number without its sign, at least one. No bytes at all
// are zero.
func appendDigits(dst, number []byte) (digits []byte, negative bool) {
	if len(number) == 0 {
		return append(dst, '0'), false
	}
	number = shortest(number)
	negative = number[0] >= 0x80
	if len(number) <= 8 {
		magnitude := uint64(0)
		if negative {
			magnitude-- // all bits set
		}
		for _, b := range number {
			magnitude = magnitude<<8 | uint64(b)
		}
		if negative {
			magnitude = -magnitude
		}
		return strconv.AppendUint(dst, magnitude, 10), negative
	}
	n := bigInteger(number)
	return n.Abs(n).Append(dst, 10), negative
}

// bigInteger reads a two's complement number.
func bigInteger(number []byte) *big.Int {
	n := new(big.Int).SetBytes(number)
	if len(number) > 0 && number[0] >= 0x80 {
		n.Sub(n, new(big.Int).Lsh(big.NewInt(1), uint(8*len(number))))
	}
	return n
}
