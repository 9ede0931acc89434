// Package bench makes the input of the benchmarks: mutations that are the same on every machine, and commit log segments
// of them, byte by byte what a node of Cassandra writes. Cassandra's own reader reads them too, which is how the two are
// compared; see README.md.
package bench

import (
	"fmt"
	"math"
	"math/bits"
)

// rng is SplitMix64. The zero value is the generator of seed 0.
type rng struct{ state uint64 }

func (r *rng) next() uint64 {
	r.state += 0x9e3779b97f4a7c15
	return mix64(r.state)
}

// below draws an integer from 0 to n-1.
func (r *rng) below(n uint64) uint64 {
	high, _ := bits.Mul64(r.next(), n)
	return high
}

func mix64(z uint64) uint64 {
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// Keyspace and Table name the table that all mutations write.
const (
	Keyspace = "bench"
	Table    = "wide"
)

// tableID is the id of the table.
var tableID = [16]byte{0x8f, 0x1d, 0x2c, 0x60, 0x5d, 0x0e, 0x11, 0xf0, 0x9a, 0x3b, 0x4d, 0x6c, 0x7e, 0x21, 0x90, 0x55}

// Schema is the table as CQL, with its id, for cassdelta and for Cassandra.
func Schema() string {
	id := tableID
	return fmt.Sprintf(`CREATE TABLE %s.%s (
    pk bigint, ck int, c0 text, c1 text, c2 bigint, c3 double, c4 timestamp, PRIMARY KEY (pk, ck)
) WITH ID = '%x-%x-%x-%x-%x' AND cdc = true;
`, Keyspace, Table, id[0:4], id[4:6], id[6:8], id[8:10], id[10:16])
}

// columns is the number of the regular columns: c0 and c1 text of 40 characters, c2 bigint, c3 double, c4 timestamp.
const columns = 5

// firstTime is the write time of the first mutation, in microseconds; each next one is 10 later.
const firstTime = 1700000000000000

// Mutations draws mutations of the table, one row each.
type Mutations struct {
	rows uint64
	n    uint64
	draw rng
	next func(m *Mutations, dst []byte) []byte
}

// Inserts are INSERTs of all columns, 172 bytes each. Every row of rows comes once, in a scattered order; then
// they begin anew.
func Inserts(rows uint64) *Mutations {
	return &Mutations{rows: rows, draw: rng{1001}, next: func(m *Mutations, dst []byte) []byte {
		return m.append(dst, (m.n*2654435761+12345)%m.rows, 1<<columns-1, true)
	}}
}

// Updates are UPDATEs of one or two columns of a row, about 85 bytes each: 15 different column lists.
func Updates(rows uint64) *Mutations {
	return &Mutations{rows: rows, draw: rng{1002}, next: func(m *Mutations, dst []byte) []byte {
		row := m.draw.below(m.rows)
		two := m.draw.next()>>63 == 1
		a := m.draw.below(columns)
		mask := uint(1) << a
		if two {
			mask |= 1 << ((a + 1 + m.draw.below(columns-1)) % columns)
		}
		return m.append(dst, row, mask, false)
	}}
}

// Append appends the payload of the next mutation, as messaging versions 10 to 13 have it.
func (m *Mutations) Append(dst []byte) []byte {
	dst = m.next(m, dst)
	m.n++
	return dst
}

// append appends the mutation of one row, with fresh values for the columns of mask.
func (m *Mutations) append(dst []byte, row uint64, mask uint, insert bool) []byte {
	const (
		timestampEpoch = 1442880000000000
		hasRowEstimate = 0x10
		rowTimestamp   = 0x04
		rowAllColumns  = 0x20
		cellRowTime    = 0x08
		endOfPartition = 0x01
	)
	dst = appendUvint(dst, 1) // updates
	dst = append(dst, tableID[:]...)
	dst = appendUvint(dst, 8)
	dst = appendUint64(dst, mix64(row/10+1)) // pk: 10 rows share one
	dst = append(dst, hasRowEstimate)
	dst = appendUvint(dst, firstTime+10*m.n-timestampEpoch) // least timestamp
	dst = append(dst, 0, 0)                                 // no deletion, no ttl
	dst = appendUvint(dst, uint64(bits.OnesCount(mask)))
	for i := range columns {
		if mask>>i&1 == 1 {
			dst = append(dst, 2, 'c', '0'+byte(i))
		}
	}
	dst = appendUvint(dst, 1) // row estimate
	if insert {
		dst = append(dst, rowAllColumns|rowTimestamp)
	} else {
		dst = append(dst, rowAllColumns)
	}
	dst = append(dst, 0) // no clustering value is null or empty
	dst = appendUint32(dst, uint32(row%10))
	if insert {
		dst = append(dst, 0) // the least timestamp
	}
	for i := range columns {
		if mask>>i&1 == 0 {
			continue
		}
		if insert {
			dst = append(dst, cellRowTime)
		} else {
			dst = append(dst, 0, 0) // with the least timestamp
		}
		dst = m.appendValue(dst, i)
	}
	return append(dst, endOfPartition)
}

func (m *Mutations) appendValue(dst []byte, column int) []byte {
	switch column {
	case 0, 1:
		const length = 40
		dst = appendUvint(dst, length)
		for n := 0; n < length; {
			for x, i := m.draw.next(), 0; i < 12 && n < length; i, n, x = i+1, n+1, x>>5 {
				dst = append(dst, "abcdefghijklmnopqrstuvwxyz012345"[x&31])
			}
		}
		return dst
	case 2:
		return appendUint64(dst, m.draw.next())
	case 3:
		return appendUint64(dst, math.Float64bits(float64(m.draw.next()>>11)/(1<<53)))
	default:
		return appendUint64(dst, 1700000000000+m.draw.below(31536000000))
	}
}
