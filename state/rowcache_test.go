package state

import (
	"bytes"
	"fmt"
	"hash/maphash"
	"maps"
	"math/rand/v2"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

func newRows(t testing.TB, size int64) *RowCache {
	t.Helper()
	c, err := NewRowCache(size)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// check looks whether the books of the cache are right.
func (c *RowCache) check(t *testing.T) {
	t.Helper()
	for i := range c.shards {
		s := &c.shards[i]
		size := len(s.ring) / unit
		live := map[int]bool{}
		for _, line := range s.buckets {
			for _, slot := range line {
				if slot != 0 {
					live[int(slot>>slotPlace)-1] = true
				}
			}
		}
		if len(live) != s.entries {
			t.Fatalf("shard %d: expected %d entries, found %d", i, s.entries, len(live))
		}
		dead, used := 0, 0
		for at := s.tail; used < s.used; {
			n := s.unitsAt(at)
			if !live[at] {
				dead += n
			}
			delete(live, at)
			used += n
			if at += n; at == size {
				at = 0
			}
		}
		if used != s.used || dead != s.dead || len(live) > 0 {
			t.Fatalf("shard %d: expected %d units in use and %d dead, found %d and %d, and %d entries out of it", i, s.used, s.dead, used, dead, len(live))
		}
	}
}

// What the cache says is what was put last; and one that has room says it.
func TestRowCacheIsAMap(t *testing.T) {
	r := newRand(t)
	for _, size := range []int64{0, 100, 1000, 5000, 100_000, 4 << 20} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			c := newRows(t, size)
			owners := []uint32{1, 2}
			model := map[string][]byte{}
			known, asked := 0, 0
			for n := range 20_000 {
				owner := owners[r.IntN(2)]
				key := fmt.Appendf(nil, "%0*d", 1+r.IntN(2)*20, r.IntN(300))
				hash := maphash.Bytes(c.seed, key)
				name := fmt.Sprint(owner, string(key))
				if r.IntN(2) == 0 {
					var value []byte
					if r.IntN(4) > 0 {
						value = bytes.Repeat([]byte{byte(n)}, r.IntN(1+r.IntN(200)))
					}
					c.put(hash, owner, key, value)
					model[name] = value
				}
				got, hit, present := c.get(hash, owner, key, []byte("before"))
				want, put := model[name]
				if !put {
					if hit {
						t.Fatalf("%s was never put, and is known", name)
					}
					continue
				}
				asked++
				if hit {
					known++
					if present != (want != nil) || !bytes.Equal(got, append([]byte("before"), want...)) {
						t.Fatalf("%s: expected %x, found %x, %v", name, want, got, present)
					}
				}
				if n%1000 == 0 {
					c.check(t)
				}
			}
			c.check(t)
			if m := c.Metrics(); int(m.Hits) != known || m.Bytes > max(size, int64(bucketBytes)) {
				t.Errorf("expected %d hits and at most %d bytes, found %+v", known, size, m)
			}
			if size == 4<<20 && known < asked*99/100 {
				t.Errorf("%d of %d were known, with room for all", known, asked)
			}
		})
	}
}

// Rows that are read again and again stay while others come and go.
func TestRowCacheKeepsWhatIsRead(t *testing.T) {
	c := newRows(t, 64<<10)
	const owner = 1
	put := func(i int) {
		key := fmt.Appendf(nil, "key %06d", i)
		c.put(maphash.Bytes(c.seed, key), owner, key, make([]byte, 100))
	}
	lost := 0
	for i := range 20_000 {
		put(i)
		key := fmt.Appendf(nil, "key %06d", i%50)
		if _, known, _ := c.get(maphash.Bytes(c.seed, key), owner, key, nil); !known {
			lost++
			put(i % 50)
		}
	}
	if lost > 200 {
		t.Errorf("%d of 20000 reads of 50 rows missed", lost)
	}
}

func TestRowCacheDoesNotAllocate(t *testing.T) {
	c := newRows(t, 64<<10)
	key, value, dst := make([]byte, 42), make([]byte, 150), make([]byte, 0, 1000)
	n := byte(0)
	if allocs := testing.AllocsPerRun(5000, func() {
		n++
		key[7], key[8] = n, n*7
		hash := maphash.Bytes(c.seed, key)
		c.put(hash, 1, key, value)
		c.get(hash, 1, key, dst)
	}); allocs > 0 {
		t.Errorf("%v allocations", allocs)
	}
}

// A store with a cache reads as one without: through commits and discards, removed ranges, while it is warmed, when the cache gets another
// size, and when it is opened anew after others had the directory.
func TestStoreWithRowCache(t *testing.T) {
	r := newRand(t)
	for _, size := range []int64{0, 3000, 30_000, 4 << 20} {
		t.Run(fmt.Sprint(size), func(t *testing.T) { checkStoreWithRowCache(t, r, size) })
	}
}

func checkStoreWithRowCache(t *testing.T, r *rand.Rand, size int64) {
	fs := vfs.NewMem()
	opts := Options{FS: fs, Rows: newRows(t, size), MemTableBytes: 256 << 10}
	model := map[string]string{}
	key := func() []byte {
		return fmt.Appendf(appendSpace(nil, uint16(testIdentity.Partition), SpaceRows), "table %10d%8d%03d", r.IntN(2), 0, r.IntN(300))
	}
	position := int64(0)
	for range 12 {
		with := opts
		if r.IntN(4) == 0 {
			with.Rows = nil // another process has it meanwhile
		}
		s, err := Open("dir", testIdentity, with)
		if err != nil {
			t.Fatal(err)
		}
		for range 30 {
			runWithRowCache(t, r, s, model, key, &position)
			if _, err := s.Warm(r.IntN(100)); err != nil {
				t.Fatal(err)
			}
			if size > 1<<20 && with.Rows != nil && !s.owner.lost.Load() && r.IntN(30) == 0 {
				warmAll(t, s)
			}
			if r.IntN(40) == 0 {
				if err := opts.Rows.Resize(size * int64(1+r.IntN(4)) / 4); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		opts.Rows.check(t)
	}
}

func runWithRowCache(t *testing.T, r *rand.Rand, s *Store, model map[string]string, key func() []byte, position *int64) {
	s.missing = missing(r.IntN(mostMissing + 1))
	tx := s.Begin()
	now := maps.Clone(model)
	for range r.IntN(60) {
		k := key()
		switch r.IntN(12) {
		case 0:
			to := key()
			if err := tx.DeleteRange(k, to); err != nil {
				t.Fatal(err)
			}
			maps.DeleteFunc(now, func(k1, _ string) bool { return k1 >= string(k) && k1 < string(to) })
		case 1, 2:
			if err := tx.Delete(k); err != nil {
				t.Fatal(err)
			}
			delete(now, string(k))
		case 3, 4, 5, 6:
			value := bytes.Repeat([]byte{byte(r.IntN(256))}, r.IntN(100))
			if err := tx.Set(k, value); err != nil {
				t.Fatal(err)
			}
			now[string(k)] = string(value)
		default:
			value, err := tx.Get(k)
			want, present := now[string(k)]
			if err != nil || string(value) != want || (value != nil) != present {
				t.Fatalf("key %x: expected %x, %v, found %x, %v", k, want, present, value, err)
			}
		}
	}
	if r.IntN(4) == 0 {
		tx.Discard()
		return
	}
	*position++
	if err := tx.Commit(Position{Offset: *position}); err != nil {
		t.Fatal(err)
	}
	clear(model)
	maps.Copy(model, now)
}

// A cache gets another size while a store uses it, which has all its rows in it: nothing that is there is taken for absent.
func TestResizeMeanwhile(t *testing.T) {
	rows := newRows(t, 4<<20)
	resized := make(chan error, 1)
	stop := make(chan struct{})
	go func() {
		var err error
		for n := int64(0); err == nil; n++ {
			select {
			case <-stop:
				resized <- nil
				return
			default:
				err = rows.Resize(1<<20 + n%3<<20)
			}
		}
		resized <- err
	}()
	r := newRand(t)
	fs := vfs.NewMem()
	model := map[string]string{}
	key := func() []byte {
		return fmt.Appendf(appendSpace(nil, uint16(testIdentity.Partition), SpaceRows), "table %10d%8d%03d", r.IntN(2), 0, r.IntN(300))
	}
	position := int64(0)
	for range 100 {
		s, err := Open("dir", testIdentity, Options{FS: fs, Rows: rows, MemTableBytes: 256 << 10})
		if err != nil {
			t.Fatal(err)
		}
		for range 20 {
			if _, err := s.Warm(1000); err != nil {
				t.Fatal(err)
			}
			runWithRowCache(t, r, s, model, key, &position)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	close(stop)
	if err := <-resized; err != nil {
		t.Fatal(err)
	}
}

// warmAll warms to the end, and expects that what is read then comes from the cache.
func warmAll(t *testing.T, s *Store) {
	for done := false; !done; {
		var err error
		if done, err = s.Warm(50); err != nil {
			t.Fatal(err)
		}
	}
	tx := s.Begin()
	defer tx.Discard()
	asked := s.counts.gets
	from, to := SpaceSpan(nil, nil, uint16(testIdentity.Partition), SpaceRows)
	var keys [][]byte
	if err := tx.Scan(from, to, func(key, _ []byte) (bool, error) {
		keys = append(keys, bytes.Clone(key))
		return true, nil
	}); err != nil {
		t.Fatal(err)
	}
	for _, key := range keys {
		if value, err := tx.Get(key); err != nil || value == nil {
			t.Fatalf("key %x: %x, %v", key, value, err)
		}
	}
	for i := range 10 {
		if value, err := tx.Get(fmt.Appendf(bytes.Clone(from), "table %10d%8d absent %d", 0, 0, i)); err != nil || value != nil {
			t.Fatalf("expected nothing, found %x, %v", value, err)
		}
	}
	if asked != s.counts.gets {
		t.Errorf("Pebble was asked for %d of %d rows, all in the cache, and for 10 that do not exist", s.counts.gets-asked, len(keys))
	}
}

// As long as the ring has room no row is lost, however unevenly the hashes fill the index.
func TestRowCacheLosesNothingWithRoom(t *testing.T) {
	c := newRows(t, 64<<20)
	key := make([]byte, 15)
	value := make([]byte, 150)
	put := 0
	for m := c.Metrics(); m.Used < m.Bytes*13/16; put++ {
		key[3], key[4], key[5] = byte(put), byte(put>>8), byte(put>>16)
		c.put(maphash.Bytes(c.seed, key), 1, key, value)
		if put%100 == 0 {
			m = c.Metrics()
		}
	}
	c.check(t)
	if m := c.Metrics(); m.Evicted != 0 || int(m.Entries) != put {
		t.Errorf("of %d rows %d are there, and %d were evicted", put, m.Entries, m.Evicted)
	}
}
