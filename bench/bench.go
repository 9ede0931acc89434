// Package bench makes the input of the benchmarks: mutations that are the same on every machine, as commit log segments,
// byte by byte what a node of Cassandra writes, and as the copies of a change that three replicas send. See README.md.
package bench

import (
	"fmt"
	"math"
	"math/bits"
	"sort"
)

// rng is SplitMix64. The zero value is the generator of seed 0.
type rng struct{ state uint64 }

const golden = 0x9e3779b97f4a7c15

func (r *rng) next() uint64 {
	r.state += golden
	return mix64(r.state)
}

// skip leaves n numbers out.
func (r *rng) skip(n uint64) { r.state += n * golden }

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

// Columns is the number of the regular columns: c0 and c1 text of 40 characters, c2 bigint, c3 double, c4 timestamp.
const Columns = 5

const (
	textColumns = 2 // the first ones
	textLength  = 40
	allColumns  = 1<<Columns - 1
	// insertDraws is how many numbers the values of all columns take.
	insertDraws = 11
	// rowsPerPartition rows have the same partition key.
	rowsPerPartition = 10
	// firstTime is the write time of the first mutation, in microseconds; each next one is timeStep later.
	firstTime = 1700000000000000
	timeStep  = 10
)

// Mutation writes one row.
type Mutation struct {
	// Row is the number of the row, see Key.
	Row uint64
	// Insert says that it is an INSERT of all columns; if not it is an UPDATE.
	Insert bool
	// Timestamp is the write time of the cells and, of an INSERT, of the row, in microseconds.
	Timestamp int64
	// Mask has the bit 1<<i set if column i is written.
	Mask uint
	// Values are those of the columns of Mask, in CQL's binary form.
	Values [Columns][]byte

	bytes [valuesLength]byte // of Values
}

const valuesLength = textColumns*textLength + (Columns-textColumns)*8

// Key is the primary key of a row.
func Key(row uint64) (pk int64, ck int32) {
	return int64(mix64(row/rowsPerPartition + 1)), int32(row % rowsPerPartition)
}

// draw makes the value of a column.
func (m *Mutation) draw(column int, r *rng) {
	if column < textColumns {
		text := m.bytes[column*textLength:][:textLength:textLength]
		for n := 0; n < textLength; {
			for x, i := r.next(), 0; i < 12 && n < textLength; i, n, x = i+1, n+1, x>>5 {
				text[n] = "abcdefghijklmnopqrstuvwxyz012345"[x&31]
			}
		}
		m.Values[column] = text
		return
	}
	var v uint64
	switch column {
	case 2:
		v = r.next()
	case 3:
		v = math.Float64bits(float64(r.next()>>11) / (1 << 53))
	default:
		v = 1700000000000 + r.below(31536000000)
	}
	number := m.bytes[textColumns*textLength+(column-textColumns)*8:][:8:8]
	for i := range number {
		number[i] = byte(v >> (56 - 8*i))
	}
	m.Values[column] = number
}

// Mutations draws mutations of the table, one row each, without end.
type Mutations struct {
	rows  uint64
	n     uint64 // of mutations so far
	first uint64 // how many mutations there were before, in write times
	draw  rng
	// insert says that they are those of Inserts.
	insert bool
	// sums are, of Zipf, the sums of the weights of the ranks up to each.
	sums []uint64

	own Mutation // that Append draws
}

// The scatter of rows: mutation i of Inserts is of row (i * scatter + insertOffset) mod rows.
const (
	scatter      = 2654435761
	insertOffset = 12345
	zipfOffset   = 777
)

// Inserts are INSERTs of all columns, 172 bytes each in a commit log. Every row of rows comes once, in a scattered order; then
// they begin anew.
func Inserts(rows uint64) *Mutations {
	return &Mutations{rows: rows, draw: rng{1001}, insert: true}
}

// Updates are UPDATEs of one or two columns of a row, about 85 bytes each in a commit log: 15 different column lists. They
// are written after Inserts of the same rows.
func Updates(rows uint64) *Mutations {
	return &Mutations{rows: rows, first: rows, draw: rng{1002}}
}

// Zipf are as Updates, of rows that are chosen by Zipf's law with the exponent 0.99.
func Zipf(rows uint64) *Mutations {
	m := &Mutations{rows: rows, first: rows, draw: rng{1003}, sums: make([]uint64, rows)}
	sum := uint64(0)
	for i := range m.sums {
		sum += uint64((1 << 32) * math.Pow(float64(i+1), -0.99))
		m.sums[i] = sum
	}
	return m
}

// Next draws the next mutation.
func (m *Mutations) Next(dst *Mutation) {
	*dst = Mutation{bytes: dst.bytes, Timestamp: int64(firstTime + timeStep*(m.first+m.n))}
	switch {
	case m.insert:
		dst.Row, dst.Insert, dst.Mask = (m.n*scatter+insertOffset)%m.rows, true, allColumns
	case m.sums != nil:
		x := m.draw.below(m.sums[m.rows-1])
		rank := sort.Search(len(m.sums), func(i int) bool { return m.sums[i] > x })
		dst.Row = (uint64(rank)*scatter + zipfOffset) % m.rows
	default:
		dst.Row = m.draw.below(m.rows)
	}
	if !m.insert {
		two := m.draw.next()>>63 == 1
		a := m.draw.below(Columns)
		dst.Mask = 1 << a
		if two {
			dst.Mask |= 1 << ((a + 1 + m.draw.below(Columns-1)) % Columns)
		}
	}
	for i := range Columns {
		if dst.Mask>>i&1 == 1 {
			dst.draw(i, &m.draw)
		}
	}
	m.n++
}
