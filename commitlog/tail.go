package commitlog

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/fsnotify/fsnotify"
)

// Mode says how far a [Tail] reads a segment that its node is still writing.
type Mode int

const (
	// Durable reads what the node has flushed to disk: up to the offset in the segment's index file.
	Durable Mode = iota
	// Live reads up to the last valid sync marker in the page cache, at most 100 ms behind the node. An entry read
	// this way can be lost on this node by a power failure. A compressed or encrypted segment is written only when it is
	// flushed, so it is not read earlier than in Durable mode.
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
	// Keys finds the keys of encrypted segments; nil if there are none.
	Keys Keys
	// Static says that no node writes to the directory any more (a copy, a recording): what cannot grow is finished,
	// with or without a COMPLETED index, and nothing is waited for.
	Static bool
	// PollInterval is the time between two looks at the directory when the file system announces nothing; 0 means one
	// second in Durable mode and 50 ms in Live mode (a node's writes to a mapped file are never announced).
	PollInterval time.Duration
	// SettleTime is how long a later segment must have shown data before a segment whose index lacks COMPLETED is taken
	// for left behind by a crash and read to its end; 0 means 30 seconds.
	SettleTime time.Duration
	// Now is the clock of SettleTime and of [Tail.Seen]; nil means time.Now.
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
	// up to which it was read (offset 0: nothing of it), Err a [*GapError]. Version is 0 if it was never seen.
	Gap
)

// Item is one thing that a [Tail] found.
type Item struct {
	Kind    ItemKind
	Segment int64
	Version Version
	// Position is the place behind the entry. For SegmentEnd it is the segment's end, with offset 0 if the segment was
	// finished before and not read again.
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
// # When a segment is finished
//
// A segment is read to its clean end, and its SegmentEnd yielded, when it cannot grow any more:
//
//   - its index file says COMPLETED; or
//   - its version is 6: Cassandra 3.11 moves segments here when they are closed; or
//   - its index file lacks COMPLETED although a later segment has been synced for the time SettleTime. A node syncs
//     its segments in order of their ids, and closes a segment, COMPLETED included, before it syncs the next one; so
//     the process that wrote the segment is dead. The time covers the moment in which a node has moved on to the next
//     segment and not yet closed the last; or
//   - it vanished while it was open; or the directory is Static.
//
// Neither the length of a file says anything (segments are preallocated) nor that there is a later file: a node
// creates one segment ahead. A segment without an index file holds no CDC data that its node has flushed. It is waited
// for as long as no later segment was synced, then passed, and looked at again as long as it is there.
//
// A Tail is for one goroutine. It holds one open file with a buffer of the size of its largest entry, whatever the
// size of the directory. Sections that are compressed or encrypted are decoded in pieces.
type Tail struct {
	c       TailConfig
	keys    *keyring
	watcher *fsnotify.Watcher // nil: polling only

	segments map[int64]*tailSegment
	order    []*tailSegment // segments by id
	foreign  map[string]bool
	scanned  bool
	settling bool
	stats    TailStats

	queue []Item // yielded before anything is read
	// The present walk over order: where it is, and whether it yielded anything. at is negative between walks.
	at       int
	yielded  bool
	prepared bool // order[at] was looked at in this walk
	// started is when it began; blind says that it may pass what was flushed by then.
	started time.Time
	blind   bool
	seen    time.Time

	spare *Reader // of the segment closed last, for the next one
}

// TailStats counts what a [Tail] saw.
type TailStats struct {
	// Foreign is the number of names in the directory that are none of Cassandra's.
	Foreign int
	// Gaps is the number of segments that vanished too early, Damaged that of entries and segments with damage.
	Gaps, Damaged int
	// Waiting is the number of segments in the directory whose SegmentEnd was not yielded yet.
	Waiting int
}

// tailSegment is what a Tail knows about one segment.
type tailSegment struct {
	id      int64
	version Version
	log     bool // the directory has the .log file
	idx     bool // the directory has the index file
	seen    bool // it had the .log file once
	indexed bool // it had the index file once

	done   bool  // its last item was yielded
	passed bool  // it had no index when a later segment was synced
	bound  int64 // greatest offset in an index without COMPLETED
	read   int64 // logical offset up to which it was read
	// synced says that the node has written a section of the segment.
	synced bool
	// openSince is when a later segment was first seen to be synced, or this one gone, although its index lacked
	// COMPLETED.
	openSince time.Time
	// wait keeps the walk from going on to later segments.
	wait bool

	file   *os.File
	reader *Reader
}

// NewTail starts to follow a directory. The directory must exist. Close the Tail when done.
func NewTail(c TailConfig) (*Tail, error) {
	if c.Finished == nil {
		c.Finished = func(int64) bool { return false }
	}
	if c.Notice == nil {
		c.Notice = func(error) {}
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.SettleTime == 0 {
		c.SettleTime = 30 * time.Second
	}
	if c.PollInterval == 0 {
		c.PollInterval = time.Second
		if c.Mode == Live {
			c.PollInterval = 50 * time.Millisecond
		}
	}
	info, err := os.Stat(c.Dir)
	if err != nil {
		return nil, fmt.Errorf("cdc_raw directory: %w; set it to cdc_raw_directory of the node's cassandra.yaml", err)
	}
	if !info.IsDir() {
		return nil, fmt.Errorf("cdc_raw directory: %s is a file; set it to cdc_raw_directory of the node's cassandra.yaml", c.Dir)
	}
	t := &Tail{c: c, keys: newKeyring(c.Keys), segments: map[int64]*tailSegment{}, foreign: map[string]bool{}, at: -1}
	if w, err := fsnotify.NewWatcher(); err != nil {
		c.Notice(fmt.Errorf("%s: cannot watch the directory, polling it every %v: %w", c.Dir, c.PollInterval, err))
	} else if err := w.Add(c.Dir); err != nil {
		c.Notice(fmt.Errorf("%s: cannot watch the directory, polling it every %v: %w", c.Dir, c.PollInterval, err))
		w.Close()
	} else {
		t.watcher = w
	}
	return t, nil
}

// Poll yields the next item without waiting; ok is false if there is nothing more at the moment, which is the end of
// the directory for a caller that does not follow it.
//
// An error says that the directory cannot be read, that a segment in it has a form that this package does not read
// ([*UnsupportedError]), or that its key is missing ([*KeyError]); nothing is skipped for it, and the next call tries
// again.
func (t *Tail) Poll() (item Item, ok bool, err error) {
	for {
		if t.at < 0 {
			t.started, t.blind = t.c.Now(), false
			if err := t.scan(); err != nil {
				return Item{}, false, err
			}
			t.at, t.yielded, t.prepared, t.settling = 0, false, false, false
		}
		if len(t.queue) > 0 {
			item, t.queue = t.queue[0], t.queue[1:]
			t.yielded = true
			return item, true, nil
		}
		ok, err := t.walk(&item)
		if err != nil {
			t.at = -1
			return Item{}, false, err
		}
		if ok {
			t.yielded = true
			return item, true, nil
		}
		t.at = -1
		if !t.blind && !t.settling {
			t.seen = t.started
		}
		if !t.yielded {
			return Item{}, false, nil
		}
	}
}

// Wait returns when the directory may have changed since the last Poll, at the latest after the poll interval. Its
// error is that of ctx.
func (t *Tail) Wait(ctx context.Context) error {
	timer := time.NewTimer(t.c.PollInterval)
	defer timer.Stop()
	var events chan fsnotify.Event
	var failures chan error
	if t.watcher != nil {
		events, failures = t.watcher.Events, t.watcher.Errors
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
	case <-events:
	case <-failures:
		// Events were lost, which is one more reason to look.
	}
	for {
		select {
		case <-events:
		case <-failures:
		default:
			return nil
		}
	}
}

// Next yields the next item and waits for it: Poll and Wait in turn.
func (t *Tail) Next(ctx context.Context) (Item, error) {
	for {
		if err := ctx.Err(); err != nil {
			return Item{}, err
		}
		if item, ok, err := t.Poll(); ok || err != nil {
			return item, err
		}
		if err := t.Wait(ctx); err != nil {
			return Item{}, err
		}
	}
}

// Stats counts what was seen so far.
func (t *Tail) Stats() TailStats {
	s := t.stats
	s.Foreign = len(t.foreign)
	for _, seg := range t.order {
		if !seg.done {
			s.Waiting++
		}
	}
	return s
}

// Settling reports whether the last Poll ended at a segment that a crash seems to have left behind, and that waits for
// the SettleTime; later segments have data. A caller that stops at the end of the directory waits for it.
func (t *Tail) Settling() bool { return t.settling }

// Seen is a time up to which the node's log was yielded: all that its node had flushed to the directory by then came out
// of Poll before its last call. It goes on while the node writes, and while it does not; not while a segment waits for
// the SettleTime. It is zero until the directory was walked through once.
func (t *Tail) Seen() time.Time { return t.seen }

// Close releases the files and the watch. It does not delete anything.
func (t *Tail) Close() error {
	for _, s := range t.order {
		t.closeSegment(s)
	}
	if t.watcher != nil {
		return t.watcher.Close()
	}
	return nil
}

// scan lists the directory and compares it with what is known.
func (t *Tail) scan() error {
	entries, err := os.ReadDir(t.c.Dir)
	if err != nil {
		return fmt.Errorf("cdc_raw directory: %w", err)
	}
	for _, s := range t.order {
		s.log, s.idx = false, false
	}
	foreign := map[string]bool{}
	for _, e := range entries {
		if v, id, ok := ParseSegmentName(e.Name()); ok && !e.IsDir() {
			s := t.segment(v, id)
			s.log, s.seen = true, true
		} else if v, id, ok := ParseIndexName(e.Name()); ok && !e.IsDir() {
			s := t.segment(v, id)
			s.idx, s.indexed = true, true
		} else {
			foreign[e.Name()] = true
			if !t.foreign[e.Name()] {
				t.c.Notice(&ForeignFileError{Dir: t.c.Dir, Name: e.Name()})
			}
		}
	}
	t.foreign = foreign
	t.order = slices.SortedFunc(maps.Values(t.segments), func(a, b *tailSegment) int { return cmp.Compare(a.id, b.id) })
	if !t.scanned {
		t.scanned = true
		t.checkStart()
	}
	t.order = slices.DeleteFunc(t.order, func(s *tailSegment) bool {
		if s.log || s.reader != nil {
			return false
		}
		t.vanished(s)
		if !s.idx {
			delete(t.segments, s.id)
		}
		return !s.idx
	})
	return nil
}

// segment finds a segment by its id, a new one if there is none.
func (t *Tail) segment(v Version, id int64) *tailSegment {
	s := t.segments[id]
	if s == nil {
		s = &tailSegment{id: id, version: v, passed: id < t.c.After.Segment}
		if id == t.c.After.Segment {
			s.read = t.c.After.Offset
		}
		t.segments[id] = s
	}
	return s
}

// checkStart reports the segment at which reading should go on, if it is not there any more.
func (t *Tail) checkStart() {
	id := t.c.After.Segment
	if s := t.segments[id]; id == 0 || s != nil && s.log || t.c.Finished(id) {
		return
	}
	t.gap(&tailSegment{id: id, read: t.c.After.Offset}, t.c.Mode == Live)
}

// vanished looks at a segment whose .log file is not there. A node deletes segments without CDC data; with an index,
// it is gone too early. An index alone is what a removal leaves that was cut short, or what is there for a moment while
// a node or an agent deletes both files.
func (t *Tail) vanished(s *tailSegment) {
	switch {
	case s.done:
		return
	case t.c.Finished(s.id):
		t.queue = append(t.queue, t.finish(s, nil))
	case s.seen && s.indexed:
		s.done = true
		t.gap(s, false)
	}
}

func (t *Tail) gap(s *tailSegment, possible bool) {
	t.stats.Gaps++
	t.queue = append(t.queue, Item{Kind: Gap, Segment: s.id, Version: s.version, Position: Position{s.id, s.read},
		Err: &GapError{Dir: t.c.Dir, Segment: s.id, Read: s.read, Possible: possible}})
}

// walk goes on with the present walk over the segments; ok is false at its end, and item is not set.
func (t *Tail) walk(item *Item) (ok bool, err error) {
	for ; t.at < len(t.order); t.at, t.prepared = t.at+1, false {
		s := t.order[t.at]
		if s.done || !s.log && s.reader == nil {
			continue
		}
		if ok, err := t.read(s, item); ok || err != nil {
			return ok, err
		}
		if s.wait {
			t.settling = !s.openSince.IsZero()
			break
		}
		if !s.indexed {
			s.passed = true
		}
		t.closeSegment(s)
	}
	return false, nil
}

// read yields the next item of a segment; ok is false if there is none at the moment, and item is not set.
func (t *Tail) read(s *tailSegment, item *Item) (ok bool, err error) {
	if !t.prepared {
		if s.reader == nil && t.c.Finished(s.id) {
			*item = t.finish(s, nil)
			return true, nil
		}
		readable, err := t.prepare(s)
		if err != nil || !readable {
			return false, err
		}
		t.prepared = true
	}
	payload, pos, err := s.reader.Next()
	s.read = max(s.read, s.reader.Offset())
	if err == nil {
		s.synced = true
		item.Kind, item.Segment, item.Version, item.Position, item.Payload = Entry, s.id, s.version, pos, payload
		return true, nil
	}
	var d *DamagedError
	switch {
	case err == ErrMore:
		return false, nil
	case err == ErrFinished:
		*item = t.finish(s, nil)
		return true, nil
	case errors.As(err, &d) && d.Resumable:
		t.stats.Damaged++
		*item = Item{Kind: BadEntry, Segment: s.id, Version: s.version, Position: pos, Payload: payload, Err: err}
		return true, nil
	case errors.As(err, &d):
		t.stats.Damaged++
		*item = t.finish(s, err)
		return true, nil
	}
	t.closeSegment(s)
	return false, err
}

// finish makes the last item of a segment.
func (t *Tail) finish(s *tailSegment, err error) Item {
	s.done = true
	t.closeSegment(s)
	return Item{Kind: SegmentEnd, Segment: s.id, Version: s.version, Position: Position{s.id, s.read}, Err: err}
}

// prepare finds out how far a segment can be read now, and opens it if there is a point in it. The index is read
// before the segment: what it promises is in the segment then.
func (t *Tail) prepare(s *tailSegment) (readable bool, err error) {
	limit, readable, err := t.limit(s)
	if err != nil || !readable {
		return false, err
	}
	if s.file == nil {
		f, err := os.Open(filepath.Join(t.c.Dir, SegmentName(s.version, s.id)))
		if errors.Is(err, os.ErrNotExist) {
			s.wait = false // the next scan says what that means
			return false, nil
		}
		if err != nil {
			return false, err
		}
		s.file = f
		if s.reader, t.spare = t.spare, nil; s.reader == nil {
			s.reader = &Reader{}
		}
		s.reader.Reset(f.Name(), f, 0)
		s.reader.keys = t.keys
		s.reader.SkipTo(s.read)
	}
	info, err := s.file.Stat()
	if err != nil {
		return false, err
	}
	if limit.Final && limit.Offset == info.Size() {
		// A crash replay puts the length of the file into the index, which says nothing about the end.
		limit.Offset = 0
	}
	s.reader.Extend(info.Size(), limit)
	return true, nil
}

// limit decides how far a segment can be read; readable is false if not at all.
func (t *Tail) limit(s *tailSegment) (l Limit, readable bool, err error) {
	s.wait = false
	if t.c.Static || !s.version.hasIndex() {
		return Limit{Final: true}, true, nil
	}
	if s.passed && !s.indexed {
		return Limit{}, false, nil
	}
	x, err := t.readIndex(s)
	if err != nil {
		return Limit{}, false, err
	}
	later := false
	if !x.Completed && s.log {
		if later = t.laterSynced(s); later {
			// The index can have been written since; a node writes it before it syncs a later segment.
			if x, err = t.readIndex(s); err != nil {
				return Limit{}, false, err
			}
		}
	}
	switch {
	case x.Completed:
		// The number is the end of the segment, or after a crash replay the length of the file.
		return Limit{Final: true, Offset: x.Offset}, true, nil
	case s.indexed || !s.log:
		if s.log && !later {
			s.openSince = time.Time{}
		} else if s.openSince.IsZero() {
			s.openSince = t.c.Now()
		} else if t.c.Now().Sub(s.openSince) >= t.c.SettleTime {
			return Limit{Final: true}, true, nil
		}
		s.wait = true
	default:
		s.wait = !later
	}
	if t.c.Mode == Live {
		return Limit{Offset: NoOffset}, true, nil
	}
	return Limit{Offset: s.bound}, s.bound > s.read, nil
}

// readIndex reads the index file of a segment; the zero Index if there is none, or none that can be read yet.
func (t *Tail) readIndex(s *tailSegment) (Index, error) {
	x, ok, err := ReadIndex(filepath.Join(t.c.Dir, IndexName(s.version, s.id)))
	if errors.Is(err, os.ErrNotExist) {
		return Index{}, nil
	}
	if err != nil {
		return Index{}, fmt.Errorf("index of segment %d: %w", s.id, err)
	}
	s.indexed = true
	if !ok {
		t.blind = true // what it said, and will say, is not known now
		return Index{}, nil
	}
	s.synced = true
	if !x.Completed {
		s.bound = max(s.bound, x.Offset)
	}
	return x, nil
}

// laterSynced reports whether the node has written a section of a later segment.
func (t *Tail) laterSynced(s *tailSegment) bool {
	i, _ := slices.BinarySearchFunc(t.order, s.id, func(s *tailSegment, id int64) int { return cmp.Compare(s.id, id) })
	for _, later := range t.order[i+1:] {
		if !later.synced && later.log {
			later.synced = hasSection(filepath.Join(t.c.Dir, SegmentName(later.version, later.id)))
		}
		if later.synced {
			return true
		}
	}
	return false
}

// hasSection reports whether a segment has a valid sync marker with something behind it.
func hasSection(file string) bool {
	f, err := os.Open(file)
	if err != nil {
		return false
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return false
	}
	r := NewReader(file, f, info.Size())
	r.Extend(info.Size(), Limit{Offset: NoOffset})
	return r.synced()
}

func (t *Tail) closeSegment(s *tailSegment) {
	if s.file != nil {
		s.file.Close()
		t.spare = s.reader
		s.file, s.reader = nil, nil
	}
}

// RemoveSegment deletes a finished segment: the .log file first, then its index, and syncs the directory after each,
// so that no crash leaves the segment without its index. One that leaves the index alone is made good by the next
// call, which a [Tail] asks for by yielding the SegmentEnd again. Files that are already gone are no error.
func RemoveSegment(dir string, v Version, id int64) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("remove segment %d: %w", id, err)
	}
	defer d.Close()
	for _, name := range []string{SegmentName(v, id), IndexName(v, id)} {
		if err := os.Remove(filepath.Join(dir, name)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("remove segment %d: %w", id, err)
		}
		if err := d.Sync(); err != nil {
			return fmt.Errorf("remove segment %d: sync of %s: %w", id, dir, err)
		}
	}
	return nil
}
