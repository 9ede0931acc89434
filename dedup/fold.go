package dedup

import (
	"cassdelta/internal/rawtopic"
	"cassdelta/state"
)

// Fold is the state transition of one raw partition: what a raw record does to the rows, and the events that come of
// it. It is pure: no clock, no look-ups, no configuration, no order of maps; the same records give the same state and
// the same events, however they are cut into transactions.
//
// A Fold keeps things in memory that it derived from the transaction it was given last; after that transaction was
// discarded it must be told so with Reset.
type Fold interface {
	// Apply folds the record at offset, of which done events were emitted before (in earlier transactions), and calls
	// emit for at most limit further ones, in order. It returns how many it emitted, and whether the record is finished; if
	// not it is called again with done increased, in the same transaction or a later one.
	//
	// A *RecordError concerns this record alone: the transaction holds nothing of it, and the caller puts the record
	// aside and goes on. Any other error, an error of emit too, is final for the transaction.
	Apply(tx *state.Txn, offset int64, rec *rawtopic.Record, done int64, limit int64, emit func(*Event) error) (emitted int64, finished bool, err error)

	// Reset forgets what was derived from a discarded transaction.
	Reset()
}
