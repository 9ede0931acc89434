package commitlog

import (
	"errors"
	"fmt"

	"cassdelta/schema"
)

// The three endings of reading a segment are ErrMore, ErrFinished and [*DamagedError].
var (
	// ErrMore says that there is nothing more in a segment yet; its node may still write to it.
	ErrMore = errors.New("nothing more in the segment yet")
	// ErrFinished says that a segment was read to its clean end.
	ErrFinished = errors.New("the segment is finished")
)

// DamagedError says that bytes of a segment are not what the format demands.
type DamagedError struct {
	// File is the path of the segment as it was given to the reader.
	File string
	// Offset is the place of the damage in the file, in bytes from its start. In a compressed segment it is the start
	// of the section.
	Offset int64
	// What names the field, Expected and Found its values.
	What, Expected, Found string
	// Resumable is set if reading can go on behind the damage: only one entry's payload is wrong.
	Resumable bool
	// Hint says what to do.
	Hint string
}

func (e *DamagedError) Error() string {
	s := fmt.Sprintf("%s: damaged at byte %d: %s: expected %s, found %s", e.File, e.Offset, e.What, e.Expected, e.Found)
	if e.Hint != "" {
		s += "; " + e.Hint
	}
	return s
}

// UnsupportedError says that a segment is intact, but of a form that this package does not read.
type UnsupportedError struct {
	File string
	// What names the form: the commit log version, the compressor, the cipher.
	What string
}

func (e *UnsupportedError) Error() string {
	return fmt.Sprintf("%s: %s is not supported", e.File, e.What)
}

// KeyError says that an encrypted segment cannot be read for want of its key. The segment may be intact.
type KeyError struct {
	File string
	// Alias names the key, as the segment's header does.
	Alias string
	// Err is why there is no key; nil if there is one that does not decrypt the segment.
	Err error
}

func (e *KeyError) Error() string {
	if e.Err != nil {
		return fmt.Sprintf("%s: no key %q to decrypt the segment: %v", e.File, e.Alias, e.Err)
	}
	return fmt.Sprintf("%s: the key %q does not decrypt the segment: expected the one that its node had when it wrote the segment; "+
		"if it is that, the segment is damaged at its start: move it out of cdc_raw and keep it", e.File, e.Alias)
}

func (e *KeyError) Unwrap() error { return e.Err }

var errNoKeys = errors.New("no keystore is configured: give the one that transparent_data_encryption_options in the node's cassandra.yaml names")

// GapError says that a segment vanished before it was read.
type GapError struct {
	Dir     string
	Segment int64
	// Read is the logical offset up to which it was read, 0 if not at all.
	Read int64
	// Possible says that the segment may as well have held no data of CDC tables; the node itself deletes those.
	Possible bool
}

func (e *GapError) Error() string {
	lost := "its remaining changes are lost on this node"
	if e.Possible {
		lost = "if it held more changes they are lost on this node"
	}
	return fmt.Sprintf("%s: segment %d vanished after it was read to offset %d; %s (cdc_block_writes: false, or deleted by "+
		"hand): raise cdc_total_space; the logs of other replicas have these writes, but for those that reached this node alone", e.Dir, e.Segment, e.Read, lost)
}

// ForeignFileError names a file in a cdc_raw directory that is none of Cassandra's. It is left alone.
type ForeignFileError struct {
	Dir, Name string
}

func (e *ForeignFileError) Error() string {
	return fmt.Sprintf("%s: ignoring %q: not a commit log segment; move it out of cdc_raw", e.Dir, e.Name)
}

// UnknownTableError says that an update is of a table that is not in the catalog. An update has no length, so
// whatever follows it in the mutation cannot be reached but by [Decoder.Resync].
type UnknownTableError struct {
	Position Position
	ID       schema.UUID
	// Index is that of the update in its mutation; if it is not 0 the mutation holds the updates before it.
	Index, Count int
	// Offset is where the update starts in the payload.
	Offset int
}

func (e *UnknownTableError) Error() string {
	return fmt.Sprintf("segment %d, position %d, update %d of %d: no table has the id %s; refresh the schema and try again",
		e.Position.Segment, e.Position.Offset, e.Index, e.Count, e.ID)
}

// UnknownColumnError says that an update names a column that its table has not, and did not drop.
type UnknownColumnError struct {
	Position Position
	// Table is keyspace.table.
	Table, Column string
	Index         int
	Offset        int
}

func (e *UnknownColumnError) Error() string {
	return fmt.Sprintf("segment %d, position %d, update %d: table %s has no column %q, not among the dropped ones either; "+
		"refresh the schema and try again", e.Position.Segment, e.Position.Offset, e.Index, e.Table, e.Column)
}

// DecodeError says that a payload with a right checksum is not a mutation of the tables known.
type DecodeError struct {
	Position Position
	// Table is keyspace.table, empty before the first table id.
	Table string
	Index int
	// Offset is the place in the payload, Field what was read there.
	Offset int
	Field  string
	// Reason says what was expected and found.
	Reason string
}

func (e *DecodeError) Error() string {
	at := ""
	if e.Table != "" {
		at = fmt.Sprintf(", update %d of table %s", e.Index, e.Table)
	}
	return fmt.Sprintf("segment %d, position %d%s: byte %d of the payload, %s: %s",
		e.Position.Segment, e.Position.Offset, at, e.Offset, e.Field, e.Reason)
}
