package dedup

import (
	"sync"

	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	slabRecords = 256
	slabBytes   = 64 << 10
	// slabRoom is the least room in a chunk that an event is encoded into. One that needs more gets an array of its own.
	slabRoom = 4 << 10
)

// slabPool holds the memory of produced records between the transactions of a session: as much as the largest
// transaction so far needed, which is bounded.
type slabPool struct {
	mu      sync.Mutex
	records [][]kgo.Record
	chunks  [][]byte
}

// slab is the memory of the records that one task produces in a transaction. The client owns a record until the
// transaction has ended; only then may release be called. It is for one goroutine.
type slab struct {
	pool    *slabPool
	records [][]kgo.Record // the last one is partly used
	chunks  [][]byte       // their lengths are what is used
}

// next returns an empty record, with an array for headers, and a buffer to encode into. The record is taken by keep, and
// is the same again if that is not called.
func (s *slab) next() (*kgo.Record, []byte) {
	if n := len(s.records); n == 0 || len(s.records[n-1]) == slabRecords {
		s.records = append(s.records, s.pool.block())
	}
	if n := len(s.chunks); n == 0 || cap(s.chunks[n-1])-len(s.chunks[n-1]) < slabRoom {
		s.chunks = append(s.chunks, s.pool.chunk())
	}
	block, chunk := s.records[len(s.records)-1], s.chunks[len(s.chunks)-1]
	rec := &block[:len(block)+1][len(block)]
	*rec = kgo.Record{Headers: rec.Headers[:0]}
	return rec, chunk[len(chunk):]
}

// keep takes the record that next returned, and the bytes that were put behind its buffer.
func (s *slab) keep(buf []byte) {
	last := &s.records[len(s.records)-1]
	*last = (*last)[:len(*last)+1]
	chunk := &s.chunks[len(s.chunks)-1]
	used, room := len(*chunk), cap(*chunk)-len(*chunk)
	// An array that had to grow is not the chunk's any more.
	if len(buf) > 0 && len(buf) <= room && &buf[0] == &(*chunk)[:used+1][used] {
		*chunk = (*chunk)[:used+len(buf)]
	}
}

// release gives the memory back.
func (s *slab) release() {
	s.pool.mu.Lock()
	defer s.pool.mu.Unlock()
	for _, block := range s.records {
		s.pool.records = append(s.pool.records, block[:0])
	}
	for _, chunk := range s.chunks {
		s.pool.chunks = append(s.pool.chunks, chunk[:0])
	}
	clear(s.records)
	clear(s.chunks)
	s.records, s.chunks = s.records[:0], s.chunks[:0]
}

func (p *slabPool) block() []kgo.Record {
	p.mu.Lock()
	defer p.mu.Unlock()
	if n := len(p.records); n > 0 {
		block := p.records[n-1]
		p.records = p.records[:n-1]
		return block
	}
	return make([]kgo.Record, 0, slabRecords)
}

func (p *slabPool) chunk() []byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	if n := len(p.chunks); n > 0 {
		chunk := p.chunks[n-1]
		p.chunks = p.chunks[:n-1]
		return chunk
	}
	return make([]byte, 0, slabBytes)
}
