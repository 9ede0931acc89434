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
	// Rows is the cache of rows of the stores of a process. Nil: there is none.
	Rows *RowCache
	// Compactions are the slots that the stores of a process share. Nil: the store compacts whenever it has to.
	Compactions *CompactionSlots
	// FS is the file system; nil means the machine's.
	FS vfs.FS
	// MemTableBytes is how much a store collects in memory before it writes a table; up to twice as much
	// may be in memory while it does. 0 means 64 MB. See the function [MemTableBytes].
	MemTableBytes int
	// FlushInterval is after which time FlushIfDue writes what was committed. 0 means 10 s.
	FlushInterval time.Duration
	// Log is given what Pebble has to tell, one line at a time. Nil discards it.
	Log func(message string)
	// Fatal is called when Pebble cannot go on, for instance because the disk refuses the manifest, and does not return. The process is
	// to end as in any other crash, which loses nothing: the log is folded again from the stored position. Nil panics.
	Fatal func(message string)

	now func() time.Time
}

const (
	memTables            = 2
	defaultMemTable      = 64 << 20
	minMemTable          = 4 << 20
	defaultFlushInterval = 10 * time.Second
	ownCacheBytes        = 8 << 20
	// Tables have a size between these. A look-up reads the filter of a table as a whole, which is about a hundredth of it and has
	// to stay in the cache: so the larger of the two is for large caches. They do not grow with the level, so that compactions, and with
	// them what a checkpoint uploads, come in small pieces.
	leastTable   = 2 << 20
	mostTable    = 16 << 20
	cachedTables = 32 // that would fill the cache
)

// MemTableBytes divides a budget of memory for the memtables of a process among its stores: 64 MB each as long as
// that fits, and not less than 4 MB, below which compactions cost more than the memory is worth.
func MemTableBytes(budget, stores int) int {
	const tables = memTables // per store: one being filled, the other being written
	return min(defaultMemTable, max(minMemTable, budget/max(stores, 1)/tables))
}

// pebbleOptions are the settings that measured best for one get and one set per changed row: many memtables come together before they
// are merged with the base level, since that is most of what is written; few and large tables, since a lookup that goes from one
// to another has to open it; small blocks, since a row that is in no cache costs a whole one; Bloom filters because first inserts miss.
func (o *Options) pebbleOptions() *pebble.Options {
	p := &pebble.Options{
		FS:                          o.FS,
		FormatMajorVersion:          pebble.FormatNewest,
		DisableWAL:                  true,
		MemTableSize:                uint64(o.MemTableBytes),
		MemTableStopWritesThreshold: memTables,
		L0CompactionThreshold:       12,
		L0StopWritesThreshold:       36,
		LBaseMaxBytes:               128 << 20,
		MaxManifestFileSize:         1 << 20, // each checkpoint has a copy
		Logger:                      logger{o.Log, o.Fatal},
	}
	room := int64(ownCacheBytes)
	if o.Cache != nil {
		room = o.Cache.room
	}
	for i := range p.TargetFileSizes {
		p.TargetFileSizes[i] = min(max(leastTable, room/cachedTables), mostTable)
	}
	p.Levels[0].FilterPolicy = bloom.FilterPolicy(10)
	for i := range p.Levels {
		p.Levels[i].BlockSize = 8 << 10
		p.Levels[i].IndexBlockSize = 1 << 20 // one for a table
	}
	if o.Cache != nil {
		p.Cache, p.FileCache = o.Cache.blocks, o.Cache.files
	} else {
		p.CacheSize = ownCacheBytes
	}
	if o.Compactions != nil {
		p.Experimental.CompactionScheduler = &compactions{shared: o.Compactions}
	}
	return p
}

// logger passes on what Pebble logs.
type logger struct{ log, fatal func(string) }

func (l logger) write(format string, args []any) {
	if l.log != nil {
		l.log(fmt.Sprintf(format, args...))
	}
}

func (l logger) Infof(format string, args ...any)  { l.write(format, args) }
func (l logger) Errorf(format string, args ...any) { l.write(format, args) }

// Fatalf is called when Pebble cannot go on, see [Options]. It must not return.
func (l logger) Fatalf(format string, args ...any) {
	l.write(format, args)
	message := "state: pebble: " + fmt.Sprintf(format, args...)
	if l.fatal != nil {
		l.fatal(message)
	}
	panic(message)
}
