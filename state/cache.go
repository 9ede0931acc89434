package state

import (
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2"
)

// Cache keeps blocks of tables in memory, and the files of tables open, for all stores of a process, and has the budget of their memtables.
//
// Pebble takes what memtables have out of the room for blocks. They begin small, and have their size after some flushes only; if blocks
// had filled that room meanwhile, the holes that they leave in malloc's memory would stay, and the process had both. So what the
// memtables do not have yet is held for them.
type Cache struct {
	blocks *pebble.Cache
	files  *pebble.FileCache
	room   int64 // for blocks

	mu        sync.Mutex
	memTables int64            // the budget, in bytes
	taken     map[*Store]int64 // of it
	others    int64            // the room of blocks that something else has
	giveBack  func()           // what is held
}

const (
	// openFiles is how many tables are kept open per cache.
	openFiles = 2048
	// memTableLook is the time between two looks at what a store's memtables have.
	memTableLook = time.Second
)

// NewCache makes a cache of so many bytes for blocks, and so many beside them for the memtables of the stores. Close it after the last
// store that uses it.
func NewCache(blocks, memTables int64) *Cache {
	c := &Cache{
		blocks: pebble.NewCache(blocks + memTables), files: pebble.NewFileCache(2, openFiles), room: blocks, memTables: memTables,
		taken: map[*Store]int64{}, giveBack: func() {},
	}
	c.hold()
	return c
}

// take takes note of what the memtables of a store have; 0 once it is closed.
func (c *Cache) take(s *Store, bytes int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.taken[s] == bytes {
		return
	}
	if c.taken[s] = bytes; bytes == 0 {
		delete(c.taken, s)
	}
	c.hold()
}

// Share leaves so many bytes of the room for blocks to something else.
func (c *Cache) Share(bytes int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.others = bytes
	c.hold()
}

// hold holds what is left of the budget of memtables, and what something else has.
func (c *Cache) hold() {
	left := c.memTables + c.others
	for _, bytes := range c.taken {
		left -= bytes
	}
	c.giveBack()
	c.giveBack = c.blocks.Reserve(int(max(0, left)))
}

// Close gives up the cache.
func (c *Cache) Close() {
	c.giveBack()
	c.files.Unref()
	c.blocks.Unref()
}
