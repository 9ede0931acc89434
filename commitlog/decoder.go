package commitlog

import "cassdelta/schema"

// Tables finds table definitions; [*schema.Catalog] is one.
type Tables interface {
	// ByID returns nil for an unknown table.
	ByID(id schema.UUID) *schema.Table
}

// Decoder decodes mutations into memory of its own that it uses again, without allocating in the steady state.
// It is for one goroutine.
type Decoder struct {
}

// NewDecoder makes a decoder for the tables given. Updates of tables for which wanted is false are left out of the
// mutations; nil wants all. After a change of the schema, make a new decoder.
func NewDecoder(tables Tables, wanted func(*schema.Table) bool) *Decoder { return nil }

// FirstTable reads the table id of the first update of a payload, without any check of the rest: the cheap way to pass
// over the entries of system tables, since all updates of a mutation are of one keyspace.
func FirstTable(payload []byte) (schema.UUID, error) { return schema.UUID{}, nil }

// Decode decodes one payload into m. What m holds points into payload and into the decoder, until the next call of
// Decode. An error is one of [*UnknownTableError], [*UnknownColumnError] and [*DecodeError]; m then holds the updates
// before the one that failed.
func (d *Decoder) Decode(v Version, payload []byte, pos Position, m *Mutation) error { return nil }

// Resync goes on behind an update of an unknown table, or one that cannot be decoded: it looks for the next place
// behind offset after that holds the id of a known table and from which the updates end exactly with the payload. It
// appends what it finds to m, and returns the offset where it went on, or -1 if there is no such place.
func (d *Decoder) Resync(v Version, payload []byte, after int, m *Mutation) int { return -1 }
