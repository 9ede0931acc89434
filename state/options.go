package state

import (
	"fmt"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// Options of [Open]. The zero value is fit for tests and small stores.
type Options struct {
	// Cache is shared by the stores of a process. Nil: the store makes a small one of its own.
	Cache *Cache
	// FS is the file system; nil means the machine's.
	FS vfs.FS
	// MemTableBytes is how much a store collects in memory before it writes a table; up to three times as much
	// may be in memory while it does. 0 means 64 MB. See the function [MemTableBytes].
	MemTableBytes int
	// FlushInterval is after which time FlushIfDue writes what was committed. 0 means 10 s.
	FlushInterval time.Duration
	// Log is given what Pebble has to tell, one line at a time. Nil discards it.
	Log func(message string)

	now func() time.Time
}

const (
	defaultMemTable      = 64 << 20
	minMemTable          = 4 << 20
	defaultFlushInterval = 10 * time.Second
	ownCacheBytes        = 8 << 20
)

// MemTableBytes divides a budget of memory for the memtables of a process among its stores: 64 MB each as long as
// that fits, and not less than 4 MB, below which compactions cost more than the memory is worth.
func MemTableBytes(budget, stores int) int {
	const tables = 3 // per store: one being filled, the others being written
	return min(defaultMemTable, max(minMemTable, budget/max(stores, 1)/tables))
}

// Cache keeps blocks of tables in memory, and the files of tables open, for all stores of a process.
type Cache struct {
	blocks *pebble.Cache
	files  *pebble.FileCache
}

// openFiles is how many tables are kept open per cache.
const openFiles = 2048

// NewCache makes a cache of so many bytes, which are for the blocks and for the memtables of the stores: memtables
// leave that much less for blocks, so their budget is to be a fraction. Close it after the last store that uses it.
func NewCache(bytes int64) *Cache {
	return &Cache{blocks: pebble.NewCache(bytes), files: pebble.NewFileCache(2, openFiles)}
}

// Close gives up the cache.
func (c *Cache) Close() {
	c.files.Unref()
	c.blocks.Unref()
}

// pebbleOptions are the settings that measured best for one get and one set per changed row: large and few
// tables in the upper levels (each row is rewritten about three times), Bloom filters because first inserts miss.
func (o *Options) pebbleOptions() *pebble.Options {
	p := &pebble.Options{
		FS:                          o.FS,
		FormatMajorVersion:          pebble.FormatNewest,
		DisableWAL:                  true,
		MemTableSize:                uint64(o.MemTableBytes),
		MemTableStopWritesThreshold: 3,
		L0CompactionThreshold:       8,
		L0StopWritesThreshold:       24,
		LBaseMaxBytes:               256 << 20,
		Logger:                      logger{o.Log},
	}
	p.Levels[0].FilterPolicy = bloom.FilterPolicy(10)
	for i := range p.Levels {
		p.Levels[i].BlockSize = 16 << 10
	}
	if o.Cache != nil {
		p.Cache, p.FileCache = o.Cache.blocks, o.Cache.files
	} else {
		p.CacheSize = ownCacheBytes
	}
	return p
}

// logger passes on what Pebble logs.
type logger struct {
	log func(string)
}

func (l logger) write(format string, args []any) {
	if l.log != nil {
		l.log(fmt.Sprintf(format, args...))
	}
}

func (l logger) Infof(format string, args ...any)  { l.write(format, args) }
func (l logger) Errorf(format string, args ...any) { l.write(format, args) }

// Fatalf is called when Pebble cannot go on, for instance because the disk refuses the manifest. It must not return.
// The process ends as in any other crash, which loses nothing: the log is folded again from the stored position.
func (l logger) Fatalf(format string, args ...any) {
	l.write(format, args)
	panic("state: pebble: " + fmt.Sprintf(format, args...))
}
