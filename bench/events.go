package bench

import "math/big"

// Events calls each with the events of the next n mutations, which come in order of their write times: one event each.
// Before Updates and Zipf there were Inserts of all rows. It keeps in memory the rows that were updated. The event is
// valid during the call.
func Events(m *Mutations, n int, each func(e *Event) error) error {
	var mutation Mutation
	var insert inserted
	insert.init(m.rows)
	updated := map[uint64]*[valuesLength]byte{}
	before, after := make(Image, Columns), make(Image, Columns)
	for range n {
		m.Next(&mutation)
		e := Event{Timestamp: mutation.Timestamp}
		e.PK, e.CK = Key(mutation.Row)
		row := updated[mutation.Row]
		if row == nil {
			row = &[valuesLength]byte{}
			if !m.insert {
				insert.values(mutation.Row, row)
				updated[mutation.Row] = row
			}
		}
		if !m.insert {
			old := *row
			e.Before = split(before, &old)
		}
		e.After = split(after, row)
		for i, v := range mutation.Values {
			copy(e.After[i], v)
		}
		if err := each(&e); err != nil {
			return err
		}
	}
	return nil
}

// split makes image the values of a row's columns.
func split(image Image, row *[valuesLength]byte) Image {
	at := 0
	for i := range image {
		length := 8
		if i < textColumns {
			length = textLength
		}
		image[i] = row[at : at+length : at+length]
		at += length
	}
	return image
}

// inserted finds what the INSERT of a row wrote.
type inserted struct {
	rows    uint64
	inverse uint64 // of scatter, modulo rows
	own     Mutation
}

func (f *inserted) init(rows uint64) {
	f.rows = rows
	modulus := new(big.Int).SetUint64(rows)
	f.inverse = new(big.Int).ModInverse(big.NewInt(scatter), modulus).Uint64() // scatter is a prime, and more than rows
}

// values makes dst the values that the INSERT of a row wrote.
func (f *inserted) values(row uint64, dst *[valuesLength]byte) {
	n := (row + f.rows - insertOffset%f.rows) % f.rows * f.inverse % f.rows
	draw := rng{1001}
	draw.skip(n * insertDraws)
	for i := range Columns {
		f.own.draw(i, &draw)
	}
	*dst = f.own.bytes
}
