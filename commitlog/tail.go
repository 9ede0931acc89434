package commitlog

import (
	"context"
	"time"
)

// Mode says how far a [Tail] reads a segment that its node is still writing.
type Mode int

const (
	// Durable reads what the node has flushed to disk: up to the offset in the segment's index file.
	Durable Mode = iota
	// Live reads up to the last valid sync marker in the page cache, at most 100 ms behind the node. An entry read
	// this way can be lost on this node by a power failure.
	Live
)

// TailConfig says what a [Tail] follows and where it starts.
type TailConfig struct {
	// Dir is the node's cdc_raw directory.
	Dir string
	// After is the position up to which everything was read before; the zero value reads everything.
	After Position
	// Finished reports whether all of a segment was read, and its records acknowledged, before. Such a segment, linked
	// back by a crash replay under its old name, is not read again; its [SegmentEnd] is yielded at once, so that it can
	// be removed again. A segment before After that has an index file and is not finished is read from its start: its
	// index was made late, by a crash replay. nil means that none is finished. It is called from Poll and Next.
	Finished func(segment int64) bool
	// Mode is Durable unless set.
	Mode Mode
	// Static says that no node writes to the directory any more (a copy, a recording): what cannot grow is finished,
	// with or without a COMPLETED index, and nothing is waited for.
	Static bool
	// PollInterval is the time between two looks at the directory when the file system announces nothing; 0 means one
	// second in Durable mode and 50 ms in Live mode (a node's writes to a mapped file are never announced).
	PollInterval time.Duration
	// SettleTime is how long a later segment must have shown data before a segment whose index lacks COMPLETED is taken
	// for left behind by a crash and read to its end; 0 means 30 seconds.
	SettleTime time.Duration
	// Now is the clock of SettleTime; nil means time.Now.
	Now func() time.Time
	// Notice is called with what is worth a log line but stops nothing: a [*ForeignFileError] once per foreign name, and
	// a failure to watch the directory, which leaves polling. nil ignores it. It is called from NewTail, Poll and Next.
	Notice func(error)
}

// ItemKind says what an [Item] is.
type ItemKind int

const (
	// Entry is an intact entry: Payload is one mutation, Position the place behind it.
	Entry ItemKind = iota + 1
	// BadEntry is an entry whose payload does not match its checksum. Payload has the bytes for a dead letter, Err is a
	// [*DamagedError]. Entries behind it follow as usual.
	BadEntry
	// SegmentEnd says that everything of Segment was yielded and nothing can follow. Once all its records are
	// acknowledged and the segment is on record as finished, it can be removed by [RemoveSegment].
	//
	// If Err is not nil it is a [*DamagedError]: from there on the segment cannot be read. It must not be removed before
	// somebody has looked at it.
	SegmentEnd
	// Gap says that Segment vanished before it was read to its end, with data of CDC tables in it. Position is the place
	// up to which it was read (offset 0: nothing of it), Err a [*GapError].
	Gap
)

// Item is one thing that a [Tail] found.
type Item struct {
	Kind    ItemKind
	Segment int64
	Version Version
	// Position is the place behind the entry. For SegmentEnd it is the segment's end.
	Position Position
	// Payload is valid until the next call of Poll or Next.
	Payload []byte
	Err     error
}

// Tail follows the cdc_raw directory of one node: segments in ascending id, their entries in order.
//
// Positions ascend, with one exception: a segment that was passed because it had no CDC data, and whose index file
// turns up later (Cassandra's crash replay writes it then), is yielded when it turns up. A consumer that keeps one
// position therefore keeps the greatest, and needs nothing else: after a restart such a segment is read again from
// its start unless Finished says that it is done.
//
// A Tail is for one goroutine. It holds one buffer of the size of the largest entry, and the open files of the
// segments in work, whatever the size of the directory.
type Tail struct {
}

// NewTail starts to follow a directory. The directory must exist. Close the Tail when done.
func NewTail(c TailConfig) (*Tail, error) { return nil, nil }

// Poll yields the next item without waiting; ok is false if there is nothing more at the moment, which is the end of
// the directory for a caller that does not follow it.
//
// An error says that the directory cannot be read, or that a segment in it has a form that this package does not read
// ([*UnsupportedError]); nothing is skipped for it, and the next call tries again.
func (t *Tail) Poll() (item Item, ok bool, err error) { return Item{}, false, nil }

// Wait returns when the directory may have changed since the last Poll, at the latest after the poll interval. Its
// error is that of ctx.
func (t *Tail) Wait(ctx context.Context) error { return nil }

// Next yields the next item and waits for it: Poll and Wait in turn.
func (t *Tail) Next(ctx context.Context) (Item, error) { return Item{}, nil }

// Close releases the files and the watch. It does not delete anything.
func (t *Tail) Close() error { return nil }

// RemoveSegment deletes a finished segment: the .log file first, then its index, then it syncs the directory. A crash
// in between leaves an index without a segment, which the next call removes. Files that are already gone are no error.
func RemoveSegment(dir string, v Version, id int64) error { return nil }
