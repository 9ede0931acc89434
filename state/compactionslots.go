package state

import (
	"cmp"
	"slices"
	"sync"

	"github.com/cockroachdb/pebble/v2"
)

// CompactionSlots are how many compactions may run at a time in all stores of a process, one in each at most. If more stores have one
// to run, that which is first by Pebble's own order is next. Without, as many run as there are stores, and leave little of the cores to the stream.
//
// Flushes do not wait for a slot: a store that gets none for long stops its commits as one with a slow disk does, until it is the
// first.
//
// Pebble calls [pebble.CompactionScheduler] with the mutex of a database held in some methods, and takes it in those of
// [pebble.DBForCompaction]. So mu is never held while a database is called.
type CompactionSlots struct {
	slots int

	mu       sync.Mutex
	called   sync.Cond // a call to a database has ended
	running  int       // slots that are taken
	stores   []*compactions
	granting bool // a goroutine hands out free slots
	missed   bool // a store was refused meanwhile, or a slot came free
}

// NewCompactionSlots makes slots; 1 if it is told less.
func NewCompactionSlots(slots int) *CompactionSlots {
	c := &CompactionSlots{slots: max(1, slots)}
	c.called.L = &c.mu
	return c
}

// compactions are those of one store. It is both what Pebble asks for a slot, and the slot.
type compactions struct {
	shared *CompactionSlots
	db     pebble.DBForCompaction

	// Guarded by the mutex of shared.
	running bool
	calling bool // a method of db is under way
	closed  bool
}

var (
	_ pebble.CompactionScheduler   = (*compactions)(nil)
	_ pebble.CompactionGrantHandle = (*compactions)(nil)
)

// Register is called once when the database is opened.
func (s *compactions) Register(_ int, db pebble.DBForCompaction) {
	s.shared.mu.Lock()
	defer s.shared.mu.Unlock()
	s.db = db
	s.shared.stores = append(s.shared.stores, s)
}

// Unregister is called when the database is closed, which is called no more when it returns.
func (s *compactions) Unregister() {
	c := s.shared
	c.mu.Lock()
	defer c.mu.Unlock()
	s.closed = true
	for s.calling {
		c.called.Wait()
	}
	c.stores = slices.DeleteFunc(c.stores, func(other *compactions) bool { return other == s })
}

// TrySchedule asks for a slot. Pebble holds the mutex of the database until it has noted a refusal, so that grant, which asks
// the database, sees it.
func (s *compactions) TrySchedule() (bool, pebble.CompactionGrantHandle) {
	c := s.shared
	c.mu.Lock()
	defer c.mu.Unlock()
	if s.closed || s.running {
		return false, nil // Done grants the next
	}
	if c.running >= c.slots {
		c.missed = true
		return false, nil
	}
	c.running++
	s.running = true
	return true, s
}

// UpdateGetAllowedWithoutPermission says that a database may run more compactions than one, which it never does.
func (s *compactions) UpdateGetAllowedWithoutPermission() {}

// Done gives the slot back, and hands it on.
func (s *compactions) Done() {
	c := s.shared
	c.mu.Lock()
	s.running = false
	c.running--
	c.mu.Unlock()
	c.grant()
}

func (s *compactions) Started()                                          {}
func (s *compactions) MeasureCPU(pebble.CompactionGoroutineKind)         {}
func (s *compactions) CumulativeStats(pebble.CompactionGrantHandleStats) {}

// grant hands out the free slots, one goroutine at a time: another one makes the first look again.
func (c *CompactionSlots) grant() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.missed = true
	if c.granting {
		return
	}
	c.granting = true
	for c.missed && c.running < c.slots {
		c.missed = false
		c.running++ // it is taken while a store for it is sought
		if s := c.neediest(); s == nil || !c.schedule(s) {
			c.running--
		} else {
			c.missed = true // several slots may have come free since
		}
	}
	c.granting = false
}

// neediest is the store whose compaction comes first by Pebble's order; nil if none waits.
func (c *CompactionSlots) neediest() (best *compactions) {
	var most pebble.WaitingCompaction
	for _, s := range slices.Clone(c.stores) {
		if s.running {
			continue
		}
		var waiting bool
		var w pebble.WaitingCompaction
		c.call(s, func() { waiting, w = s.db.GetWaitingCompaction() })
		if waiting && (best == nil || compareNeed(w, most) > 0) {
			best, most = s, w
		}
	}
	return best
}

// schedule offers the slot to a store, and reports whether it takes it.
func (c *CompactionSlots) schedule(s *compactions) (accepted bool) {
	if s.running { // it got another one meanwhile
		c.missed = true
		return false
	}
	s.running = true
	c.call(s, func() { accepted = s.db.Schedule(s) })
	if !accepted {
		s.running = false
		c.missed = true // another one may want it
	}
	return accepted
}

// call calls the database of a store without the mutex, unless the store is closed.
func (c *CompactionSlots) call(s *compactions, method func()) {
	if s.closed {
		return
	}
	s.calling = true
	c.mu.Unlock()
	method()
	c.mu.Lock()
	s.calling = false
	c.called.Broadcast()
}

// compareNeed is positive if a comes before b.
func compareNeed(a, b pebble.WaitingCompaction) int {
	if a.Optional != b.Optional {
		if b.Optional {
			return 1
		}
		return -1
	}
	return cmp.Or(cmp.Compare(a.Priority, b.Priority), cmp.Compare(a.Score, b.Score))
}
