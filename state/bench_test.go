package state

import (
	"encoding/binary"
	"math/rand/v2"
	"syscall"
	"testing"
	"time"
)

const (
	benchRows  = 1_000_000
	benchValue = 150
	benchTxn   = 10_000 // rows per transaction
)

// benchStore is a store of benchRows rows, compacted, on the machine's disk, and a function that makes the key of one.
func benchStore(b *testing.B) (*Store, func(n uint64) []byte) {
	b.Helper()
	cache := NewCache(256<<20, 256<<20)
	b.Cleanup(cache.Close)
	s, err := Open(b.TempDir(), testIdentity, Options{Cache: cache})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { s.Close() })
	var key, partition []byte
	keyOf := func(n uint64) []byte {
		token := n * 0x9e3779b97f4a7c15 // as good as Murmur3 at spreading
		partition = binary.BigEndian.AppendUint64(partition[:0], token)
		key = Row(key[:0], 3, [16]byte{1, 2, 3}, int64(token), partition, []byte{1, 0, 0, 0, 7})
		return key
	}
	value := make([]byte, benchValue)
	r := rand.NewChaCha8([32]byte{})
	tx := s.Begin()
	for n := range uint64(benchRows) {
		r.Read(value)
		if err := tx.Set(keyOf(n), value); err != nil {
			b.Fatal(err)
		}
		if n%benchTxn == benchTxn-1 {
			if err := tx.Commit(Position{Offset: int64(n)}); err != nil {
				b.Fatal(err)
			}
			tx = s.Begin()
		}
	}
	tx.Discard()
	if err := s.Flush(); err != nil {
		b.Fatal(err)
	}
	// Benchmarks start from the same tree, whatever compactions happened to do meanwhile.
	if err := s.db.Compact(b.Context(), []byte{0}, []byte{0xff, 0xff, 0xff}, false); err != nil {
		b.Fatal(err)
	}
	return s, keyOf
}

// reportCPU reports the CPU time of the process, compactions included, which on a busy machine says more than the
// time that passed. The function it returns ends the measurement.
func reportCPU(b *testing.B) func() {
	start := cpuTime(b)
	b.ReportAllocs()
	return func() {
		b.ReportMetric(float64(cpuTime(b)-start)/float64(b.N), "cpu-ns/op")
	}
}

func cpuTime(b *testing.B) time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		b.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// BenchmarkRow is what the fold does for each mutation: three copies ask for a random row, the first of them alters
// it; a transaction has benchTxn mutations.
func BenchmarkRow(b *testing.B) {
	s, keyOf := benchStore(b)
	value := make([]byte, benchValue)
	rand.NewChaCha8([32]byte{1}).Read(value)
	r := rand.New(rand.NewPCG(1, 2))
	offset := int64(benchRows)
	tx := s.Begin()
	commit := func() {
		if err := tx.Commit(Position{Offset: offset}); err != nil {
			b.Fatal(err)
		}
		offset++
	}
	defer reportCPU(b)()
	for i := 0; b.Loop(); i++ {
		key := keyOf(r.Uint64N(benchRows))
		for copy := range 3 {
			old, err := tx.Get(key)
			if err != nil || len(old) != benchValue {
				b.Fatalf("%d bytes, %v", len(old), err)
			}
			if copy == 0 {
				value[i%benchValue]++
				if err := tx.Set(key, value); err != nil {
					b.Fatal(err)
				}
			}
		}
		if i%benchTxn == benchTxn-1 {
			commit()
			tx = s.Begin()
		}
	}
	commit()
	m := s.Metrics()
	b.ReportMetric(m.WriteAmplification, "writeamp")
}

// BenchmarkGet asks for a random row that the transaction does not know.
func BenchmarkGet(b *testing.B) {
	s, keyOf := benchStore(b)
	r := rand.New(rand.NewPCG(1, 2))
	tx := s.Begin()
	defer reportCPU(b)()
	for i := 0; b.Loop(); i++ {
		if old, err := tx.Get(keyOf(r.Uint64N(benchRows))); err != nil || old == nil {
			b.Fatal(err)
		}
		if i%benchTxn == benchTxn-1 {
			tx.Discard()
			tx = s.Begin()
		}
	}
	tx.Discard()
}

// BenchmarkGetAbsent asks for rows that do not exist, as inserts do.
func BenchmarkGetAbsent(b *testing.B) {
	s, keyOf := benchStore(b)
	tx := s.Begin()
	defer reportCPU(b)()
	for i := 0; b.Loop(); i++ {
		if old, err := tx.Get(keyOf(benchRows + uint64(i))); err != nil || old != nil {
			b.Fatal(err)
		}
		if i%benchTxn == benchTxn-1 {
			tx.Discard()
			tx = s.Begin()
		}
	}
	tx.Discard()
}

// BenchmarkGetAgain asks for rows that the transaction knows: the second and third copies of a mutation.
func BenchmarkGetAgain(b *testing.B) {
	s, keyOf := benchStore(b)
	tx := s.Begin()
	for i := range uint64(benchTxn) {
		if _, err := tx.Get(keyOf(i)); err != nil {
			b.Fatal(err)
		}
	}
	r := rand.New(rand.NewPCG(1, 2))
	defer reportCPU(b)()
	for b.Loop() {
		if old, err := tx.Get(keyOf(r.Uint64N(benchTxn))); err != nil || old == nil {
			b.Fatal(err)
		}
	}
	tx.Discard()
}

// BenchmarkSetCommit writes random rows without reading them.
func BenchmarkSetCommit(b *testing.B) {
	s, keyOf := benchStore(b)
	value := make([]byte, benchValue)
	rand.NewChaCha8([32]byte{1}).Read(value)
	r := rand.New(rand.NewPCG(1, 2))
	tx := s.Begin()
	defer reportCPU(b)()
	for i := 0; b.Loop(); i++ {
		if err := tx.Set(keyOf(r.Uint64N(benchRows)), value); err != nil {
			b.Fatal(err)
		}
		if i%benchTxn == benchTxn-1 {
			if err := tx.Commit(Position{Offset: int64(benchRows + i)}); err != nil {
				b.Fatal(err)
			}
			tx = s.Begin()
		}
	}
	tx.Discard()
}

// BenchmarkScan goes through the rows of a partition that has one, with a transaction that wrote others.
func BenchmarkScan(b *testing.B) {
	s, keyOf := benchStore(b)
	tx := s.Begin()
	for i := range uint64(benchTxn) {
		if err := tx.Set(keyOf(i), nil); err != nil {
			b.Fatal(err)
		}
	}
	r := rand.New(rand.NewPCG(1, 2))
	var from, to []byte
	found := 0
	count := func(_, _ []byte) (bool, error) { found++; return true, nil }
	defer reportCPU(b)()
	for b.Loop() {
		k, err := SplitKey(keyOf(r.Uint64N(benchRows)))
		if err != nil {
			b.Fatal(err)
		}
		from, to = RowsSpan(from[:0], to[:0], k.Group, k.Table, k.Token, k.Partition)
		if err := tx.Scan(from, to, count); err != nil {
			b.Fatal(err)
		}
	}
	if found != b.N {
		b.Fatalf("%d rows in %d scans", found, b.N)
	}
	tx.Discard()
}
