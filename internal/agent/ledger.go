package agent

import (
	"context"
	"slices"
	"sync"
	"time"

	"cassdelta/commitlog"
)

// flightBounds bounds the records that are not acknowledged.
type flightBounds struct{ bytes, records int }

// ledger accounts for what was read: which records of it are acknowledged, and how far they are without a gap.
//
// Each mutation with records is an entry in a queue, with the number of its records that are not acknowledged; so is
// the end of a segment, with none. The position is that of the last entry that left the queue, and entries leave it at
// its head only. Mutations without records take no entry: they move the position of the entry before them.
type ledger struct {
	bounds flightBounds
	// ended gets a value when the end of a segment left the queue.
	ended chan struct{}
	// room gets a value when records were acknowledged. Only the reader waits for it.
	room chan struct{}

	mu       sync.Mutex
	ring     []entry // entry number n is ring[n % len]; the length is a power of two
	head     uint64  // number of the oldest entry
	next     uint64  // number of the next entry
	position commitlog.Position
	host     string
	finished recent
	damaged  recent
	// removable are the segments that can be removed once the ledger is stored.
	removable []segment

	bytes, records int
	// acknowledged counts the records that were acknowledged.
	acknowledged uint64

	// publishedAt is a time at which the node had flushed nothing that is not acknowledged. It becomes markedAt, unless that
	// is zero, when the entries before number marked have left the queue.
	publishedAt time.Time
	markedAt    time.Time
	marked      uint64
}

// segment names a segment's files.
type segment struct {
	version commitlog.Version
	id      int64
}

// entry is a mutation in flight, or the end of a segment.
type entry struct {
	position commitlog.Position
	// pending is the number of records that are not acknowledged, and 1 more until the reader is done with the mutation.
	pending int
	end     endKind
	segment segment // if end is set
}

type endKind uint8

const (
	noEnd endKind = iota
	endFinished
	endDamaged
)

func newLedger(s stored, bounds flightBounds) *ledger {
	return &ledger{
		bounds: bounds, ended: make(chan struct{}, 1), room: make(chan struct{}, 1), ring: make([]entry, 64),
		position: commitlog.Position{Segment: s.Segment, Offset: s.Offset}, host: s.HostID,
		finished: newRecent(s.Finished), damaged: newRecent(s.Damaged),
	}
}

func (l *ledger) at(n uint64) *entry { return &l.ring[n&uint64(len(l.ring)-1)] }

func (l *ledger) push(e entry) uint64 {
	if l.next-l.head == uint64(len(l.ring)) {
		grown := make([]entry, 2*len(l.ring))
		for n := l.head; n != l.next; n++ {
			grown[n&uint64(len(grown)-1)] = *l.at(n)
		}
		l.ring = grown
	}
	n := l.next
	l.next++
	*l.at(n) = e
	return n
}

// begin opens an entry for the mutation that ends at p. The reader closes it with done.
func (l *ledger) begin(p commitlog.Position) uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.push(entry{position: p, pending: 1})
}

// skip passes a mutation that gives no records.
func (l *ledger) skip(p commitlog.Position) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.head == l.next {
		l.advance(p)
		return
	}
	last := l.at(l.next - 1)
	if last.position.Compare(p) < 0 {
		last.position = p
	}
}

// end says that everything of a segment was read. It is finished, or damaged, once all before it is acknowledged.
func (l *ledger) end(s segment, p commitlog.Position, kind endKind) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.push(entry{position: p, end: kind, segment: s})
	l.settle()
}

// advance moves the position, never back: a segment whose index was made late is read after later ones.
func (l *ledger) advance(p commitlog.Position) {
	if l.position.Compare(p) < 0 {
		l.position = p
	}
}

// mark says that all that the node had flushed at a time was read, and that the ledger has it. Of marks that come while
// one is waiting for acknowledgements none is kept: another comes after it.
func (l *ledger) mark(at time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.markedAt.IsZero() {
		l.markedAt, l.marked = at, l.next
		l.settle()
	}
}

// published gives a time at which the node had flushed nothing that is not acknowledged now, zero if none is known.
func (l *ledger) published() time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.publishedAt
}

// acquire waits until another record of so many bytes may be in flight, and adds it to an entry.
func (l *ledger) acquire(ctx context.Context, n uint64, bytes int) error {
	for {
		l.mu.Lock()
		if l.records == 0 || l.records < l.bounds.records && l.bytes+bytes <= l.bounds.bytes {
			l.records++
			l.bytes += bytes
			l.at(n).pending++
			l.mu.Unlock()
			return nil
		}
		l.mu.Unlock()
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-l.room:
		}
	}
}

// release says that a record of so many bytes is acknowledged.
func (l *ledger) release(n uint64, bytes int) {
	l.mu.Lock()
	l.records--
	l.bytes -= bytes
	l.acknowledged++
	l.at(n).pending--
	l.settle()
	l.mu.Unlock()
	select {
	case l.room <- struct{}{}:
	default:
	}
}

// done says that the reader has no more records for an entry.
func (l *ledger) done(n uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.at(n).pending--
	l.settle()
}

// settle lets entries leave the queue.
func (l *ledger) settle() {
	for ; l.head != l.next && l.at(l.head).pending == 0; l.head++ {
		e := l.at(l.head)
		l.advance(e.position)
		switch e.end {
		case noEnd:
			continue
		case endFinished:
			l.finished.add(e.segment.id)
			l.removable = append(l.removable, e.segment)
		case endDamaged:
			l.damaged.add(e.segment.id)
		}
		select {
		case l.ended <- struct{}{}:
		default:
		}
	}
	if l.head >= l.marked && !l.markedAt.IsZero() {
		l.publishedAt, l.markedAt = l.markedAt, time.Time{}
	}
}

// isFinished reports whether a segment need not be read (again).
func (l *ledger) isFinished(id int64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.finished.has(id) || l.damaged.has(id)
}

// isDamaged reports whether a segment was found to be damaged.
func (l *ledger) isDamaged(id int64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.damaged.has(id)
}

// snapshot gives what is to be stored, and the segments that can be removed once it is; it gives each once.
func (l *ledger) snapshot() (stored, []segment) {
	l.mu.Lock()
	defer l.mu.Unlock()
	removable := l.removable
	l.removable = nil
	return stored{
		Version: positionVersion, HostID: l.host, Segment: l.position.Segment, Offset: l.position.Offset,
		Finished: slices.Clone(l.finished.ids), Damaged: slices.Clone(l.damaged.ids),
	}, removable
}

// flight gives the number of records in flight, their bytes, and the number of records acknowledged so far.
func (l *ledger) flight() (records, bytes int, acknowledged uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.records, l.bytes, l.acknowledged
}

// keptIDs bounds a list of segments. A node that replays its log after a crash links back at most what its commit log
// held: 256 segments, unless commitlog_total_space was raised.
const keptIDs = 1024

// recent is a set that forgets its oldest members.
type recent struct {
	ids []int64 // oldest first
	set map[int64]bool
}

func newRecent(ids []int64) recent {
	r := recent{set: map[int64]bool{}}
	for _, id := range ids {
		r.add(id)
	}
	return r
}

func (r *recent) has(id int64) bool { return r.set[id] }

func (r *recent) add(id int64) {
	if r.set[id] {
		return
	}
	r.set[id] = true
	r.ids = append(r.ids, id)
	if len(r.ids) > keptIDs {
		delete(r.set, r.ids[0])
		r.ids = slices.Delete(r.ids, 0, 1)
	}
}
