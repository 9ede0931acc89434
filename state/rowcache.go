package state

import (
	"encoding/binary"
	"hash/maphash"
	"math/bits"
	"sync"
	"sync/atomic"
)

// RowCache keeps in memory what the stores of a process hold under keys of [SpaceRows], absence included, so that most reads do
// not ask Pebble, which costs some microseconds each. It only ever has what is committed: a transaction fills it when it
// commits, and never before. It is for any number of goroutines.
//
// A shard is an index and a ring. The ring has the entries one behind the other, and grows at its head; room is made at its tail,
// where an entry that was read since it was last there moves to the head, and another one goes. An entry that outgrows its place
// gets a new one at the head. The index is an array of buckets; an entry whose bucket is nearly full
// goes to a second one if that has more room; if both are full it takes the place of the oldest. Both are in memory outside of Go's heap, and hold no pointers.
//
// Of a store of which all is in the cache, what the cache does not have is not there: see [Store.Warm].
//
// An entry, in units of 8 bytes:
//
//	units   u16, the length of the entry in units; 0 says that nothing is there up to the end of the ring
//	key     u16, the length of the key
//	number  u32, of the store and the table
//	value   u32, its length plus 1; 0 if the store does not have the key
//	bucket  u32, where the index has it
//	        key: of the row's key what follows the token, which is that of the partition key
//	        value, and room for it to grow
type RowCache struct {
	seed   maphash.Seed
	shift  uint // the number of the shard are the bits of a hash above it
	shards []cacheShard
	memory []byte
	// most is more than the length of any value in it.
	most atomic.Int64

	mu     sync.RWMutex
	owners map[uint32]*owner // of stores that are open, by the numbers of their tables
	last   uint32            // of the numbers
}

// owner is a store that is open, as the cache knows it. What others had put, of the same directory too, is not its. It is for
// the goroutine of the store.
type owner struct {
	tables  [][tableLen]byte
	numbers []uint32
	// lost is set once something that the store had put is gone.
	lost atomic.Bool
}

// number is that of the store and the table of a key.
func (c *RowCache) number(o *owner, key []byte) uint32 {
	table := [tableLen]byte(key[rowsAt:])
	for i := range o.tables {
		if o.tables[i] == table {
			return o.numbers[i]
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.last++; c.last == 0 {
		c.last++
	}
	c.owners[c.last] = o
	o.tables, o.numbers = append(o.tables, table), append(o.numbers, c.last)
	return c.last
}

// bucket is a line of the index. A slot is, from above, the place of the entry in units plus 1, 31 bits of the hash, and whether
// it was read since it was last moved; 0 is none.
type bucket [8]uint64

const (
	unit        = 8
	entryHeader = 16
	entrySlack  = 8 // so much may a value grow in its place
	// An entry is at most so long, and its key.
	maxUnits    = 1<<16 - 1
	maxCacheKey = 1<<16 - 1

	slotPlace = 32
	slotTag   = 1<<32 - 2
	slotRead  = 1

	// indexShare of the memory is the index: with entries of 200 bytes half of its slots are free.
	indexShare  = 9
	maxShards   = 64
	shardMemory = 1 << 20 // at least, if there are several
	// An entry goes to its second bucket if the first has fewer free slots than spillAt, and the second has more.
	spillAt = 3
	// maxMoves is how many entries may move to make room for one.
	maxMoves = 16
	// deadShare of the ring may be entries that nothing refers to any more; if it is more, others move rather than go.
	deadShare = 16
	// largestShare of the ring is the most that one entry may have.
	largestShare = 8
)

type cacheShard struct {
	mu      sync.Mutex
	buckets []bucket
	spilled []uint64 // bits by bucket: entries of it may be in the second one
	ring    []byte
	// head, tail, used and dead are in units.
	head, tail, used, dead int
	entries                int
	hits, misses, evicted  int64
	_                      [56]byte // to the end of a line of the processor's cache
}

// NewRowCache makes a cache of so many bytes, all included. Close it after the last store that uses it.
func NewRowCache(size int64) (*RowCache, error) {
	n := maxShards
	for n > 1 && size/int64(n) < shardMemory {
		n /= 2
	}
	c := &RowCache{seed: maphash.MakeSeed(), shift: uint(64 - bits.TrailingZeros(uint(n))), shards: make([]cacheShard, n), owners: map[uint32]*owner{}}
	return c, c.Resize(size)
}

// Resize empties the cache and gives it another size. It may be called while stores use it: what they had put is gone for all of them,
// and they know it.
func (c *RowCache) Resize(size int64) error {
	n := len(c.shards)
	lines := max(1, int(size)/n/indexShare/bucketBytes)
	ring := max(0, int(size)/n-lines*bucketBytes) / unit * unit
	memory, err := allocate(n * (lines*bucketBytes + ring))
	if err != nil {
		return err
	}
	rest := memory
	cut := func(size int) []byte {
		part := rest[:size:size]
		rest = rest[size:]
		return part
	}
	// With the mutexes of all shards nobody puts anything meanwhile, so that each owner that has something in the cache is told. Who puts
	// something holds one of them, and then c.mu.
	for i := range c.shards {
		c.shards[i].mu.Lock()
	}
	c.mu.RLock()
	for _, o := range c.owners {
		o.lost.Store(true)
	}
	c.mu.RUnlock()
	for i := range c.shards {
		s := &c.shards[i]
		s.buckets, s.ring = bucketsOf(cut(lines*bucketBytes)), cut(ring)
		s.spilled = make([]uint64, (lines+63)/64)
		s.head, s.tail, s.used, s.dead, s.entries = 0, 0, 0, 0, 0
	}
	c.most.Store(int64(min(ring/largestShare, maxUnits*unit)))
	memory, c.memory = c.memory, memory
	for i := range c.shards {
		c.shards[i].mu.Unlock()
	}
	if memory != nil {
		release(memory)
	}
	return nil
}

// Close gives the memory back.
func (c *RowCache) Close() {
	release(c.memory)
	c.memory, c.shards = nil, nil
}

// forget takes note that nothing of an owner is asked for any more.
func (c *RowCache) forget(o *owner) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, number := range o.numbers {
		delete(c.owners, number)
	}
}

// lose takes note that something with this number is gone, if its owner is still there.
func (c *RowCache) lose(number uint32) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if o := c.owners[number]; o != nil {
		o.lost.Store(true)
	}
}

// largest is more than the length of any value in it.
func (c *RowCache) largest() int { return int(c.most.Load()) }

// lock locks the shard of a hash, and finds the number of the bucket in it, and the tag.
func (c *RowCache) lock(hash uint64) (s *cacheShard, bucket uint32, tag uint64) {
	s = &c.shards[hash>>c.shift]
	s.mu.Lock()
	// The bits below those of the shard.
	at, _ := bits.Mul64(hash<<(64-c.shift), uint64(len(s.buckets)))
	return s, uint32(at), hash << 1 & slotTag
}

// get appends the value of key to dst. It reports whether the cache knows the key, and whether the store has it.
func (c *RowCache) get(hash uint64, number uint32, key, dst []byte) (value []byte, known, present bool) {
	s, bucket, tag := c.lock(hash)
	defer s.mu.Unlock()
	slot := s.find(bucket, tag, number, key)
	if slot == nil {
		s.misses++
		return dst, false, false
	}
	s.hits++
	*slot |= slotRead
	stored := s.valueAt(placeOf(*slot))
	return append(dst, stored...), true, stored != nil
}

// put makes value that of key; nil if the store does not have it.
func (c *RowCache) put(hash uint64, number uint32, key, value []byte) {
	s, bucket, tag := c.lock(hash)
	defer s.mu.Unlock()
	n := (entryHeader + len(key) + len(value) + unit - 1) / unit
	if slot := s.find(bucket, tag, number, key); slot != nil {
		place := placeOf(*slot)
		if room := s.unitsAt(place); n <= room && room <= 2*n {
			s.setValue(place, len(key), value)
			return
		}
		s.drop(slot)
	}
	if n += entrySlack / unit; n*unit*largestShare > len(s.ring) || n > maxUnits || len(key) > maxCacheKey {
		c.lose(number)
		return
	}
	at := s.room(n, c)
	slot, room := s.oldest(bucket)
	if room < spillAt {
		second := s.second(bucket, tag)
		if other, more := s.oldest(second); more > room {
			s.spilled[bucket/64] |= 1 << (bucket % 64)
			slot, bucket = other, second
		}
	}
	if *slot != 0 {
		c.lose(numberOf(s.ring[placeOf(*slot)*unit:]))
		s.drop(slot)
		s.evicted++
	}
	*slot = uint64(at+1)<<slotPlace | tag
	entry := s.ring[at*unit:]
	binary.LittleEndian.PutUint16(entry, uint16(n))
	binary.LittleEndian.PutUint16(entry[2:], uint16(len(key)))
	binary.LittleEndian.PutUint32(entry[4:], number)
	binary.LittleEndian.PutUint32(entry[12:], bucket)
	copy(entry[entryHeader:], key)
	s.setValue(at, len(key), value)
	s.entries++
}

// placeOf is where the entry of a slot begins, in units.
func placeOf(slot uint64) int { return int(slot>>slotPlace) - 1 }

// second is where an entry goes if its bucket has no room.
func (s *cacheShard) second(bucket uint32, tag uint64) uint32 {
	n := uint32(len(s.buckets))
	if n == 1 {
		return 0
	}
	return (bucket + 1 + uint32(tag>>1)%(n-1)) % n
}

// oldest returns a slot of a bucket that is free, or else the one whose entry was put or moved first, and how many are free.
func (s *cacheShard) oldest(bucket uint32) (oldest *uint64, free int) {
	line := &s.buckets[bucket]
	oldest = &line[0]
	for i := range line {
		switch slot := &line[i]; {
		case *slot == 0:
			free++
			oldest = slot
		case *oldest != 0 && s.age(*slot) > s.age(*oldest):
			oldest = slot
		}
	}
	return oldest, free
}

// find returns the slot of key, nil if there is none.
func (s *cacheShard) find(bucket uint32, tag uint64, number uint32, key []byte) *uint64 {
	if slot := s.findIn(bucket, tag, number, key); slot != nil || s.spilled[bucket/64]>>(bucket%64)&1 == 0 {
		return slot
	}
	return s.findIn(s.second(bucket, tag), tag, number, key)
}

func (s *cacheShard) findIn(bucket uint32, tag uint64, number uint32, key []byte) *uint64 {
	line := &s.buckets[bucket]
	for i := range line {
		if slot := line[i]; slot != 0 && slot&slotTag == tag {
			entry := s.ring[placeOf(slot)*unit:]
			if numberOf(entry) == number && string(entry[entryHeader:][:keyLenOf(entry)]) == string(key) {
				return &line[i]
			}
		}
	}
	return nil
}

func keyLenOf(entry []byte) int { return int(binary.LittleEndian.Uint16(entry[2:])) }

func numberOf(entry []byte) uint32 { return binary.LittleEndian.Uint32(entry[4:]) }

// unitsAt is the length of what is at a place of the ring.
func (s *cacheShard) unitsAt(place int) int {
	if n := int(binary.LittleEndian.Uint16(s.ring[place*unit:])); n > 0 {
		return n
	}
	return len(s.ring)/unit - place
}

// valueAt is the value of an entry, nil if it says that there is none.
func (s *cacheShard) valueAt(place int) []byte {
	entry := s.ring[place*unit:]
	n := int(binary.LittleEndian.Uint32(entry[8:]))
	if n == 0 {
		return nil
	}
	return entry[entryHeader+keyLenOf(entry):][: n-1 : n-1]
}

func (s *cacheShard) setValue(place, key int, value []byte) {
	entry := s.ring[place*unit:]
	n := uint32(0)
	if value != nil {
		n = uint32(len(value)) + 1
	}
	binary.LittleEndian.PutUint32(entry[8:], n)
	copy(entry[entryHeader+key:], value)
}

// age is how many units ago the entry of a slot was put at the head.
func (s *cacheShard) age(slot uint64) int {
	age := s.head - placeOf(slot)
	if age <= 0 {
		age += len(s.ring) / unit
	}
	return age
}

// drop clears a slot. Its entry stays in the ring until the tail comes to it.
func (s *cacheShard) drop(slot *uint64) {
	s.dead += s.unitsAt(placeOf(*slot))
	s.entries--
	*slot = 0
}

// room makes room for n units at the head, and returns where they begin.
func (s *cacheShard) room(n int, c *RowCache) int {
	size := len(s.ring) / unit
	for moves := 0; ; {
		rest := size - s.head
		switch {
		case rest >= n && size-s.used >= n:
			at := s.head
			s.head += n
			s.used += n
			return at
		case rest < n && size-s.used >= rest:
			if rest > 0 {
				binary.LittleEndian.PutUint16(s.ring[s.head*unit:], 0)
				s.used += rest
				s.dead += rest
			}
			s.head = 0
		default:
			if s.advance(c, moves < maxMoves) {
				moves++
			}
		}
	}
}

// advance moves the tail behind the entry at it. That goes, or moves to the head if it may and should, which is reported.
func (s *cacheShard) advance(c *RowCache, mayMove bool) (moved bool) {
	at := s.tail
	entry := s.ring[at*unit:]
	n := s.unitsAt(at)
	if s.tail += n; s.tail == len(s.ring)/unit {
		s.tail = 0
	}
	s.used -= n
	slot := (*uint64)(nil)
	if binary.LittleEndian.Uint16(entry) != 0 {
		line := &s.buckets[binary.LittleEndian.Uint32(entry[12:])]
		for i := range line {
			if placeOf(line[i]) == at {
				slot = &line[i]
			}
		}
	}
	if slot == nil {
		s.dead -= n
		return false
	}
	wanted := *slot&slotRead != 0 || s.dead*deadShare > len(s.ring)/unit
	if !mayMove || !wanted || s.head+n > len(s.ring)/unit {
		c.lose(numberOf(entry))
		*slot = 0
		s.entries--
		s.evicted++
		return false
	}
	copy(s.ring[s.head*unit:], s.ring[at*unit:(at+n)*unit])
	*slot = uint64(s.head+1)<<slotPlace | *slot&slotTag
	s.head += n
	s.used += n
	return true
}

// Full reports whether entries have to go for others, of most shards.
func (c *RowCache) Full() bool {
	n := 0
	for i := range c.shards {
		s := &c.shards[i]
		s.mu.Lock()
		if 10*(s.used-s.dead) > 9*len(s.ring)/unit {
			n++
		}
		s.mu.Unlock()
	}
	return 2*n > len(c.shards)
}

// RowCacheMetrics are those of a [RowCache]. Counts are since it was made.
type RowCacheMetrics struct {
	// Bytes is its size, Used what entries take of it, and Entries their number.
	Bytes, Used, Entries int64
	// Hits and Misses are reads of keys that it knew and did not know; Evicted are entries that had to go for others.
	Hits, Misses, Evicted int64
}

// Metrics returns the cache's metrics.
func (c *RowCache) Metrics() (m RowCacheMetrics) {
	for i := range c.shards {
		s := &c.shards[i]
		s.mu.Lock()
		m.Bytes += int64(len(s.ring) + len(s.buckets)*bucketBytes)
		m.Used += int64(s.used-s.dead) * unit
		m.Entries += int64(s.entries)
		m.Hits, m.Misses, m.Evicted = m.Hits+s.hits, m.Misses+s.misses, m.Evicted+s.evicted
		s.mu.Unlock()
	}
	return m
}
