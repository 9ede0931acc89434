package state

// Metrics of a store. Counts are since it was opened.
type Metrics struct {
	// Commits is how many transactions were committed, and CommittedBytes the size of their keys and values.
	Commits, CommittedBytes int64
	// Gets is how often transactions asked Pebble for a key, GetsFromCache how often the row cache knew it, and GetsFromTxn how
	// often they knew it already.
	Gets, GetsFromCache, GetsFromTxn int64
	// DiskBytes is the size of all files, Tables the number of tables.
	DiskBytes, Tables uint64
	// MemTableBytes is the memory of memtables, also of those being written.
	MemTableBytes uint64
	// Flushes and Compactions that ended.
	Flushes, Compactions int64
	// CompactionDebt is an estimate of the bytes to compact until the tree has its shape. One that keeps growing means
	// a disk that is too slow.
	CompactionDebt uint64
	// ReadTables is how many tables a read looks at, at most, filters aside.
	ReadTables int
	// WriteAmplification is bytes written to disk per byte flushed.
	WriteAmplification float64
	// Stalls is how often a commit had to wait for a flush or a compaction.
	Stalls int64
}

// Metrics returns the store's metrics; zero once it is closed.
func (s *Store) Metrics() Metrics {
	s.life.RLock()
	defer s.life.RUnlock()
	if s.closed {
		return Metrics{}
	}
	p := s.db.Metrics()
	total := p.Total()
	m := Metrics{
		DiskBytes: p.DiskSpaceUsage(), Tables: uint64(total.TablesCount),
		MemTableBytes: p.MemTable.Size + p.MemTable.ZombieSize,
		Flushes:       p.Flush.Count, Compactions: p.Compact.Count,
		CompactionDebt: p.Compact.EstimatedDebt, ReadTables: p.ReadAmp(),
		WriteAmplification: total.WriteAmp(), Stalls: s.stalls.Load(),
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	m.Commits, m.CommittedBytes = s.published.commits, s.published.committedBytes
	m.Gets, m.GetsFromCache, m.GetsFromTxn = s.published.gets, s.published.getsFromCache, s.published.getsFromTxn
	return m
}

// counts are those of transactions. The goroutine of the transaction counts, and publishes at its end.
type counts struct {
	commits, committedBytes, gets, getsFromCache, getsFromTxn int64
}

// publish makes the counts visible to Metrics.
func (s *Store) publish() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.published = s.counts
}

// CacheMetrics are those of a [Cache], for all its stores.
type CacheMetrics struct {
	Bytes, Hits, Misses int64
}

// Metrics returns the cache's metrics.
func (c *Cache) Metrics() CacheMetrics {
	m := c.blocks.Metrics()
	return CacheMetrics{Bytes: m.Size, Hits: m.Hits, Misses: m.Misses}
}
