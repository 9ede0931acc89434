package dedup

import (
	"context"
	"fmt"
	"math"
	"os"
	"path"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.uber.org/zap"

	"cassdelta/state"
)

const (
	defaultMemory = 1 << 30
	// mostHeap is the most that buffers of Kafka, transactions and the like take.
	mostHeap = 320 << 20
	// manyMemTables is from where on an eighth of the memory is enough for memtables: a quarter of 1 GiB.
	manyMemTables = 256 << 20
	// ownBytes are for the program itself, its stacks, and what Pebble needs to read and write tables, if that is more than 1/16.
	ownBytes = 88 << 20
	// divideEvery is how often it is looked whether the state has outgrown the row cache.
	divideEvery = 5 * time.Second
	// rowFactor is about how much larger a row is in the row cache than on disk.
	rowFactor = 1.6
)

// memory is how a worker divides what it may take, in bytes.
type memory struct {
	heap      int64 // Go's: buffers of Kafka, transactions, and their garbage
	memTables int64 // of all partitions
	rows      int64 // the row cache
	blocks    int64 // Pebble's cache, but for the memtables
}

// divide divides the memory of a worker with so many bytes of state on its disk. If the row cache has room for the state it
// is nearly all of the cache, since Pebble is hardly asked then. If it has not, half of it is for blocks: what is asked for most is best kept as
// rows, and the filters and indexes of the tables have to stay in memory.
func divide(bytes, stored int64) memory {
	m := memory{heap: min(mostHeap, bytes*3/10)}
	m.memTables = min(bytes/4, max(manyMemTables, bytes/8))
	own := min(max(ownBytes, bytes/16), bytes/3)
	cache := bytes - own - m.heap - m.memTables
	m.rows = cache * 7 / 8
	if float64(stored)*rowFactor > float64(m.rows) {
		m.rows = cache / 2
	}
	m.blocks = cache - m.rows
	return m
}

// HeapLimit is what [runtime/debug.SetMemoryLimit] is to be told for a worker with so much memory. 0 is the default.
func HeapLimit(bytes int64) int64 {
	setDefault(&bytes, defaultMemory)
	m := divide(bytes, 0)
	if state.OutsideHeap {
		return m.heap
	}
	return m.heap + m.memTables + max(m.blocks, divide(bytes, bytes).blocks)
}

// caches makes the caches that the stores of the worker share; the function gives them back.
func (w *Worker) caches() (close func(), err error) {
	stored, err := storedBytes(w.stores.FS, w.stores.FS.PathJoin(w.cfg.StateDirectory, w.topic.Name))
	if err != nil {
		return nil, fmt.Errorf("state-directory: %w", err)
	}
	m := divide(w.cfg.MemoryBytes, stored)
	rows, err := state.NewRowCache(m.rows)
	if err != nil {
		return nil, err
	}
	most := max(m.blocks, divide(w.cfg.MemoryBytes, math.MaxInt64).blocks)
	blocks := state.NewCache(most, m.memTables)
	blocks.Share(most - m.blocks)
	w.shared = m
	w.stores.Cache, w.stores.Rows = blocks, rows
	w.stores.MemTableBytes = state.MemTableBytes(int(m.memTables), int(w.topic.Partitions))
	w.metrics.stores.share(rows, blocks)
	return func() {
		w.metrics.stores.share(nil, nil)
		blocks.Close()
		rows.Close()
	}, nil
}

// divideAgain divides the memory again once the rows have outgrown the row cache: Pebble is asked then, and needs more for blocks. It does not go
// back while the worker runs.
func (w *Worker) divideAgain(ctx context.Context) {
	small := divide(w.cfg.MemoryBytes, math.MaxInt64)
	tick := time.NewTicker(divideEvery)
	defer tick.Stop()
	for w.shared.rows > small.rows {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if !w.stores.Rows.Full() {
			continue
		}
		if err := w.stores.Rows.Resize(small.rows); err != nil {
			w.cfg.Log.Warn("the row cache cannot be made smaller", zap.Error(err))
			return
		}
		w.stores.Cache.Share(0)
		w.shared = small
		w.cfg.Log.Info("the state is larger than the row cache: a larger part of the cache is for blocks of tables from now on", zap.Int64("bytes of the row cache", small.rows), zap.Int64("bytes for blocks", small.blocks))
	}
}

// storedBytes is the size of the files in the directories in dir. What goes away meanwhile does not count.
func storedBytes(fs vfs.FS, dir string) (total int64, err error) {
	partitions, err := fs.List(dir)
	if os.IsNotExist(err) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	for _, p := range partitions {
		files, err := fs.List(fs.PathJoin(dir, p))
		if err != nil {
			continue // a file
		}
		for _, name := range files {
			if info, err := fs.Stat(fs.PathJoin(dir, path.Join(p, name))); err == nil && !info.IsDir() {
				total += info.Size()
			}
		}
	}
	return total, nil
}
