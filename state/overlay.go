package state

import (
	"bytes"
	"hash/maphash"
	"slices"
)

// overlay is what a transaction knows: what it wrote, and what it read from the store, absence included, so that the
// copies of one write, which come close together, cost one read. It is a hash table over one byte slice that only
// grows until reset: slices of it stay valid until then, and the garbage collector has nothing to follow.
type overlay struct {
	seed    maphash.Seed
	arena   []byte
	entries []entry
	slots   []uint32 // open addressing: index into entries plus 1, 0 if free; the length is a power of two

	// Written entries by key, except for the ones written since the order was last asked for.
	order   []uint32
	pending []uint32

	peak int // recent size of the arena, falling slowly
}

// entry is one key and its value.
type entry struct {
	hash             uint64
	key, keyLen      uint32 // in the arena
	value, valueLen  uint32 // in the arena
	present, written bool
	absentBelow      bool // the store is known not to have the key
	cached           bool // the row cache had the key
}

const (
	entryBytes   = 44 // of an entry with its slots and its place in the order
	minSlots     = 1 << 10
	maxArena     = 1 << 30
	retainArena  = 1 << 20 // is kept in any case
	retainFactor = 4       // times the recent peak is kept
)

func newOverlay(seed maphash.Seed) *overlay {
	return &overlay{seed: seed}
}

// reset forgets everything, and keeps as much memory as was needed lately.
func (o *overlay) reset() {
	o.peak = max(len(o.arena), o.peak-o.peak/8)
	if cap(o.arena) > retainFactor*max(o.peak, retainArena) {
		*o = overlay{seed: o.seed, peak: o.peak}
		return
	}
	o.arena = o.arena[:0]
	o.entries = o.entries[:0]
	clear(o.slots)
	o.order = o.order[:0]
	o.pending = o.pending[:0]
}

func (o *overlay) bytes() int {
	return len(o.arena) + len(o.entries)*entryBytes
}

// fits says whether another key and value may be added.
func (o *overlay) fits(key, value []byte) bool { return o.hasRoom(len(key) + len(value)) }

func (o *overlay) hasRoom(bytes int) bool { return bytes <= maxArena-len(o.arena) }

func (o *overlay) hash(key []byte) uint64 {
	return maphash.Bytes(o.seed, key)
}

func (o *overlay) keyOf(e *entry) []byte {
	return o.arena[e.key:][:e.keyLen:e.keyLen]
}

func (o *overlay) valueOf(e *entry) []byte {
	return o.arena[e.value:][:e.valueLen:e.valueLen]
}

// find returns the index of the entry of key, -1 if there is none.
func (o *overlay) find(hash uint64, key []byte) int {
	if len(o.slots) == 0 {
		return -1
	}
	mask := uint64(len(o.slots) - 1)
	for at := hash & mask; o.slots[at] != 0; at = (at + 1) & mask {
		index := int(o.slots[at] - 1)
		e := &o.entries[index]
		if e.hash == hash && bytes.Equal(o.keyOf(e), key) {
			return index
		}
	}
	return -1
}

// add adds an entry for a key that has none, and returns its index.
func (o *overlay) add(hash uint64, key []byte) int {
	if 4*(len(o.entries)+1) > 3*len(o.slots) {
		o.grow()
	}
	o.entries = append(o.entries, entry{hash: hash, key: uint32(len(o.arena)), keyLen: uint32(len(key))})
	o.arena = append(o.arena, key...)
	index := len(o.entries) - 1
	o.place(uint32(index), hash)
	return index
}

func (o *overlay) place(index uint32, hash uint64) {
	mask := uint64(len(o.slots) - 1)
	at := hash & mask
	for o.slots[at] != 0 {
		at = (at + 1) & mask
	}
	o.slots[at] = index + 1
}

func (o *overlay) grow() {
	o.slots = make([]uint32, max(minSlots, 2*len(o.slots)))
	for i := range o.entries {
		o.place(uint32(i), o.entries[i].hash)
	}
}

// setValue copies value behind the arena; the value before stays where it is.
func (o *overlay) setValue(e *entry, value []byte) {
	e.value, e.valueLen, e.present = uint32(len(o.arena)), uint32(len(value)), true
	o.arena = append(o.arena, value...)
}

// write finds or adds the entry of key, which the caller is about to alter.
func (o *overlay) write(key []byte) *entry {
	hash := o.hash(key)
	index := o.find(hash, key)
	if index < 0 {
		index = o.add(hash, key)
	}
	e := &o.entries[index]
	if !e.written {
		e.written = true
		o.pending = append(o.pending, uint32(index))
	}
	return e
}

// sorted returns the written entries, as indexes, in the order of their keys.
func (o *overlay) sorted() []uint32 {
	if len(o.pending) == 0 {
		return o.order
	}
	slices.SortFunc(o.pending, func(a, b uint32) int {
		return bytes.Compare(o.keyOf(&o.entries[a]), o.keyOf(&o.entries[b]))
	})
	// Merge from the end: find each pending entry's place by bisection, and move what is behind it once.
	end := len(o.order)
	o.order = append(o.order, o.pending...)
	for left := len(o.pending); left > 0; left-- {
		next := o.pending[left-1]
		at := o.search(o.order[:end], o.keyOf(&o.entries[next]))
		copy(o.order[at+left:end+left], o.order[at:end])
		o.order[at+left-1] = next
		end = at
	}
	o.pending = o.pending[:0]
	return o.order
}

// search returns how many of the sorted entries have a key before key.
func (o *overlay) search(order []uint32, key []byte) int {
	at, _ := slices.BinarySearchFunc(order, key, func(index uint32, key []byte) int {
		return bytes.Compare(o.keyOf(&o.entries[index]), key)
	})
	return at
}
