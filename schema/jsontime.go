package schema

import (
	"encoding/binary"
	"fmt"
	"strconv"
)

const (
	dayMillis  = 24 * 60 * 60 * 1000
	hourNanos  = 60 * 60 * 1e9
	eraDays    = 146097 // days of 400 years of the Gregorian calendar
	epochShift = 719468 // days from 0000-03-01 to 1970-01-01
)

// civil gives the date of a day, counted from 1970-01-01, in the Gregorian calendar, which is applied to all times. The
// year before 1 is 0.
func civil(day int64) (year int64, month, dayOfMonth uint64) {
	// Years are counted from March, so that a leap day is the last day of its year.
	day += epochShift
	era := floorDiv(day, eraDays)
	ofEra := day - era*eraDays
	yearOfEra := (ofEra - ofEra/1460 + ofEra/36524 - ofEra/(eraDays-1)) / 365
	ofYear := ofEra - (365*yearOfEra + yearOfEra/4 - yearOfEra/100)
	fromMarch := (5*ofYear + 2) / 153
	dayOfMonth = uint64(ofYear - (153*fromMarch+2)/5 + 1)
	year = yearOfEra + 400*era
	if fromMarch < 10 {
		return year, uint64(fromMarch + 3), dayOfMonth
	}
	return year + 1, uint64(fromMarch - 9), dayOfMonth
}

func floorDiv(a, b int64) int64 {
	q := a / b
	if a%b < 0 {
		q--
	}
	return q
}

// appendDate appends a day, counted from 1970-01-01. ofEra says that years before 1 are printed as years of the era
// before it.
func appendDate(dst []byte, day int64, ofEra bool) []byte {
	year, month, dayOfMonth := civil(day)
	if ofEra && year < 1 {
		year = 1 - year
	}
	switch {
	case year < 0:
		dst = append(dst, '-')
		year = -year
	case year > 9999:
		dst = append(dst, '+')
	}
	dst = appendPadded(dst, uint64(year), 4)
	dst = append(dst, '-')
	dst = appendPadded(dst, month, 2)
	dst = append(dst, '-')
	return appendPadded(dst, dayOfMonth, 2)
}

// appendTimestamp appends a time in milliseconds since 1970.
func appendTimestamp(dst []byte, millis int64) []byte {
	day := floorDiv(millis, dayMillis)
	dst = appendDate(dst, day, true)
	dst = append(dst, ' ')
	dst = appendClock(dst, uint64(millis-day*dayMillis)*1e6, 3)
	return append(dst, 'Z')
}

// appendTime appends nanoseconds since midnight. Values outside of the day, which Cassandra can store but not print,
// get a sign, or more hours than there are in a day.
func appendTime(dst []byte, nanos int64) []byte {
	magnitude := uint64(nanos)
	if nanos < 0 {
		dst = append(dst, '-')
		magnitude = -magnitude
	}
	return appendClock(dst, magnitude, 9)
}

// appendClock appends HH:MM:SS and digits digits of the second's fraction.
func appendClock(dst []byte, nanos uint64, digits int) []byte {
	dst = appendPadded(dst, nanos/hourNanos, 2)
	dst = append(dst, ':')
	dst = appendPadded(dst, nanos/60e9%60, 2)
	dst = append(dst, ':')
	dst = appendPadded(dst, nanos/1e9%60, 2)
	dst = append(dst, '.')
	dst = appendPadded(dst, nanos%1e9, 9)
	return dst[:len(dst)-(9-digits)]
}

// parseDuration reads three signed variable-length integers. Source: DurationSerializer.validate.
func parseDuration(value []byte) (Duration, error) {
	var parts [3]int64
	rest := value
	for i := range parts {
		n, size := readVint(rest)
		if size == 0 {
			return Duration{}, fmt.Errorf("a duration of %d bytes ends within its %s", len(value), [...]string{"months", "days", "nanoseconds"}[i])
		}
		parts[i] = n
		rest = rest[size:]
	}
	if parts[0] != int64(int32(parts[0])) || parts[1] != int64(int32(parts[1])) {
		return Duration{}, fmt.Errorf("a duration has %d months and %d days, expected numbers of 32 bits", parts[0], parts[1])
	}
	if (parts[0] < 0 || parts[1] < 0 || parts[2] < 0) && (parts[0] > 0 || parts[1] > 0 || parts[2] > 0) {
		return Duration{}, fmt.Errorf("a duration has %d months, %d days and %d nanoseconds, expected one sign", parts[0], parts[1], parts[2])
	}
	return Duration{int32(parts[0]), int32(parts[1]), parts[2]}, nil
}

// readVint reads a signed variable-length integer: an unsigned one with the sign in its last bit. The size is 0 if b ends
// before it. Source: VIntCoding.readVInt.
func readVint(b []byte) (n int64, size int) {
	u, size := readUvint(b)
	return int64(u>>1) ^ -int64(u&1), size
}

// readUvint reads an unsigned variable-length integer: the number of leading ones of the first byte is the number of
// bytes behind it, and the other bits are the number. The size is 0 if b ends before it. Source:
// VIntCoding.readUnsignedVInt.
func readUvint(b []byte) (n uint64, size int) {
	if len(b) == 0 {
		return 0, 0
	}
	more := 0
	for more < 8 && b[0]&(0x80>>more) != 0 {
		more++
	}
	if len(b) < 1+more {
		return 0, 0
	}
	var room [8]byte
	copy(room[8-more:], b[1:1+more])
	n = binary.BigEndian.Uint64(room[:])
	if more < 8 {
		n |= uint64(b[0]&(0xff>>more)) << (8 * more)
	}
	return n, 1 + more
}

// append appends the duration's text; that of no time at all is empty. Unlike Duration.toString it has a text for the
// least numbers too.
func (d Duration) append(dst []byte) []byte {
	if d.Months < 0 || d.Days < 0 || d.Nanoseconds < 0 {
		dst = append(dst, '-')
	}
	months, nanos := magnitude(int64(d.Months)), magnitude(d.Nanoseconds)
	for _, part := range [...]struct {
		n    uint64
		unit string
	}{
		{months / 12, "y"}, {months % 12, "mo"}, {magnitude(int64(d.Days)), "d"},
		{nanos / hourNanos, "h"}, {nanos / 60e9 % 60, "m"}, {nanos / 1e9 % 60, "s"},
		{nanos / 1e6 % 1e3, "ms"}, {nanos / 1e3 % 1e3, "us"}, {nanos % 1e3, "ns"},
	} {
		if part.n != 0 {
			dst = strconv.AppendUint(dst, part.n, 10)
			dst = append(dst, part.unit...)
		}
	}
	return dst
}

func magnitude(n int64) uint64 {
	if n < 0 {
		return -uint64(n)
	}
	return uint64(n)
}
