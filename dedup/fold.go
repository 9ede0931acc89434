package dedup

import (
	"errors"
	"fmt"

	"cassdelta/internal/rawtopic"
	"cassdelta/schema"
	"cassdelta/state"
)

// What the fold keeps in the state, by the spaces and kinds of package state; each file specifies its values:
//
//	meta             init, watermark (meta.go), how far a record in parts has come (parts.go), the past of tables and the
//	                 hosts (past.go), the names of tables (remove.go)
//	schema, joined   definitions of tables (joined.go)
//	part             slices of records that are not complete (parts.go)
//	timer            by second of expiry and row, one for each row that has something that expires; no value
//	purge            by the time to look, what is dead and may have become void (retention.go); no value
//	header, range    deletions of partitions and ranges (header.go); a range tombstone by its end
//	static, row      rows (rowencoding.go)
//
// In keys, a partition is its key as Cassandra serializes it, since partitions go by bytes, and a clustering or bound is
// the comparable forms of its values, since rows go by the comparator.

// FoldVersion is the version of the fold: of what it makes of records, and of the encodings of what it stores. A state
// belongs to the version that made it.
const FoldVersion = 1

// Fold is the state transition of one raw partition: what a raw record does to the rows, and the events that come of
// it. It is pure: no clock, no look-ups, no configuration, no order of maps; the same records give the same state and
// the same events, however they are cut into transactions. What a transition depends on besides is its [Settings].
//
// A Fold keeps things in memory that it derived from the transactions it was given; after one of them was discarded it
// must be told so with Use, or Reset. It is for one goroutine, and in the steady state it does not allocate.
type Fold struct {
	partition int32
	group     uint16
	settings  Settings
	stats     Stats
	// pastKnown says whether all that was ever written to a table is in the log. It is a field only for tests.
	pastKnown func(*table) bool

	// Derived from the state, and forgotten by Reset.
	loaded      bool
	init        rawtopic.Init
	initialized bool
	watermark   int64 // the greatest of all ticks, in microseconds; noWatermark before the first
	tables      map[schema.UUID]*table
	definitions map[schema.Hash]*definition
	pasts       map[schema.UUID]*past
	hosts       []schema.UUID // that have sent to the partition
	host        schema.UUID   // the one of them that did last
	cursor      cursor
	paused      bool // the last call ended with errPause
	rowsPerCall int
	copies      copies

	call  call
	work  work
	parts parts
}

// call is the call of Apply under way.
type call struct {
	tx     *state.Txn
	offset int64
	kind   rawtopic.Kind
	done   int64 // events of the record so far, those of this call included
	left   int64 // that may still be emitted
	rows   int   // that were looked at beyond those that the record names
	emit   func(*Event) error
}

// cursor is how far the last call came within a record that it did not finish. It saves work and is nothing but
// that: a record that is begun anew on top of its own traces goes through them without an event.
type cursor struct {
	// valid is set if the call before this one left this record unfinished. What was checked, decoded and computed of it
	// then still holds.
	valid        bool
	offset, done int64
	// row is the number of explicit rows that are finished, and key the last key of a scan that is.
	row  int
	scan int
	key  []byte
}

// NewFold makes the fold of a raw partition, by the default settings. Its first Apply reads what it needs from the transaction.
func NewFold(partition int32) *Fold {
	f := &Fold{partition: partition, group: uint16(partition), settings: DefaultSettings, rowsPerCall: rowsPerCall, pastKnown: func(t *table) bool { return t.past.complete() }}
	f.Reset()
	return f
}

var (
	// errFull ends a call of Apply that may emit no more.
	errFull = errors.New("the limit of events is reached")
	// errPause ends one that has looked at many rows: of such as make no events a record may mean any number as well.
	errPause = errors.New("the limit of rows is reached")
)

// rowsPerCall is how many rows one call of Apply looks at beyond those that the record names, which takes some ten milliseconds.
const rowsPerCall = 4096

// lookedAt counts a row.
func (f *Fold) lookedAt() error {
	if f.call.rows++; f.call.rows < f.rowsPerCall {
		return nil
	}
	return errPause
}

// Paused reports whether the last call of Apply has not finished its record and may have made no event, but is further within it. The
// position is the same then; begun anew the record goes through what is done already.
func (f *Fold) Paused() bool { return f.paused }

// Apply folds the record at offset, of which done events were emitted before (in earlier transactions), and calls
// emit for at most limit further ones, in order. It returns how many it emitted, and whether the record is finished; if
// not it is called again with done increased, in the same transaction or a later one.
//
// A *RecordError concerns this record alone: the transaction holds nothing of it, and the caller puts the record
// aside and goes on. Any other error, an error of emit too, is final for the transaction.
func (f *Fold) Apply(tx *state.Txn, offset int64, rec *rawtopic.Record, done int64, limit int64, emit func(*Event) error) (emitted int64, finished bool, err error) {
	f.call = call{tx: tx, offset: offset, kind: rec.Kind, done: done, left: limit, emit: emit}
	if !f.loaded {
		if err := f.load(tx); err != nil {
			return 0, false, err
		}
	}
	if !f.cursor.valid || f.cursor.offset != offset || f.cursor.done != done {
		f.cursor = cursor{key: f.cursor.key[:0]}
	}
	err = f.dispatch(rec)
	emitted = f.call.done - done
	f.paused = err == errPause
	f.cursor.valid = err == errFull || f.paused
	f.cursor.offset, f.cursor.done = offset, f.call.done
	switch {
	case f.cursor.valid:
		return emitted, false, nil
	case err != nil:
		return emitted, false, err
	}
	return emitted, true, nil
}

// dispatch folds a record; errFull says that it is not finished.
func (f *Fold) dispatch(rec *rawtopic.Record) error {
	if rec.Kind == rawtopic.KindInit {
		return f.applyInit(rec.Init)
	}
	if !f.initialized {
		return f.refuse("", "it comes before the partition's Init record; the raw topic does not start where it began, or an agent did not set it up")
	}
	switch rec.Kind {
	case rawtopic.KindHeartbeat:
		return nil
	case rawtopic.KindData:
		return f.applyData(rec.Data)
	case rawtopic.KindPart:
		return f.applyPart(rec.Part)
	}
	f.copies.forget()
	switch rec.Kind {
	case rawtopic.KindSchema:
		return f.applySchema(rec.Schema)
	case rawtopic.KindTick:
		return f.applyTick(rec.Tick)
	case rawtopic.KindTruncate:
		return f.applyTruncate(rec.Truncate)
	case rawtopic.KindDrop:
		return f.applyDrop(rec.Drop)
	}
	return f.refuse("", "this version does not handle such records; what it says is not in the state")
}

// Use makes the fold go by settings, those that the state was derived by last, and forgets what it derived.
func (f *Fold) Use(s Settings) {
	f.settings = s
	f.Reset()
}

// Enter makes the fold go by other settings from the next record on.
func (f *Fold) Enter(tx *state.Txn, s Settings) error {
	f.call = call{tx: tx}
	if !f.loaded {
		if err := f.load(tx); err != nil {
			return err
		}
	}
	if err := f.raiseRetention(s.Retention); err != nil {
		return err
	}
	f.Use(s)
	return nil
}

// Reset forgets what was derived from a discarded transaction.
func (f *Fold) Reset() {
	f.loaded = false
	f.tables = map[schema.UUID]*table{}
	f.definitions = map[schema.Hash]*definition{}
	f.pasts = map[schema.UUID]*past{}
	f.hosts, f.host = nil, schema.UUID{}
	f.copies.forget()
	f.cursor = cursor{key: f.cursor.key[:0]}
}

// Stats returns the counters. The caller must not change UnsupportedTables.
func (f *Fold) Stats() Stats { return f.stats }

// RecordError says that a record cannot be folded, and that nothing of it is in the state.
type RecordError struct {
	// Partition and Offset are those of the record in the raw topic.
	Partition int32
	Offset    int64
	Kind      rawtopic.Kind
	// Table is keyspace.table, empty if it is not known.
	Table string
	// Reason says what was expected and found.
	Reason string
}

func (e *RecordError) Error() string {
	of := ""
	if e.Table != "" {
		of = " of table " + e.Table
	}
	return fmt.Sprintf("raw partition %d, offset %d: %s record%s: %s", e.Partition, e.Offset, kindName(e.Kind), of, e.Reason)
}

var kindNames = [...]string{
	rawtopic.KindData: "Data", rawtopic.KindPart: "Part", rawtopic.KindInit: "Init", rawtopic.KindSchema: "Schema",
	rawtopic.KindTick: "Tick", rawtopic.KindHeartbeat: "Heartbeat", rawtopic.KindTruncate: "Truncate",
	rawtopic.KindDrop: "Drop", rawtopic.KindSeedBegin: "SeedBegin", rawtopic.KindSeedEnd: "SeedEnd",
	rawtopic.KindAgentJoined: "AgentJoined", rawtopic.KindAgentRetired: "AgentRetired",
}

func kindName(k rawtopic.Kind) string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return fmt.Sprintf("kind %d", k)
}

// refuse makes the error about the record under way.
func (f *Fold) refuse(table, format string, args ...any) error {
	return &RecordError{
		Partition: f.partition, Offset: f.call.offset, Kind: f.call.kind, Table: table, Reason: fmt.Sprintf(format, args...),
	}
}

// stored wraps what is wrong with a value of the state.
func (f *Fold) stored(key []byte, err error) error {
	return fmt.Errorf("raw partition %d, offset %d: the state is damaged: key %x: %w; "+
		"move its directory away, the state is then built again from the raw topic", f.partition, f.call.offset, key, err)
}
