package checkpoint

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"cassdelta/state"
	"cassdelta/state/objects"
)

// memory keeps objects in memory, with times by the clock of the test.
type memory struct {
	// before is called before each operation, after once it is done; an error is that of the operation.
	before, after func(ctx context.Context, op, name string) error

	mu      sync.Mutex
	objects map[string]object
	puts    int
}

type object struct {
	content  []byte
	modified time.Time
}

func newMemory() *memory {
	none := func(context.Context, string, string) error { return nil }
	return &memory{before: none, after: none, objects: map[string]object{}}
}

func (m *memory) do(ctx context.Context, op, name string, do func() error) error {
	if err := m.before(ctx, op, name); err != nil {
		return err
	}
	m.mu.Lock()
	err := do()
	m.mu.Unlock()
	return errors.Join(err, m.after(ctx, op, name))
}

func (m *memory) String() string { return "memory" }

func (m *memory) Put(ctx context.Context, name string, content io.ReaderAt, size int64) error {
	b, err := io.ReadAll(io.NewSectionReader(content, 0, size))
	if err != nil || int64(len(b)) != size || size == 0 {
		return fmt.Errorf("put %s: %d of %d bytes: %w", name, len(b), size, err)
	}
	return m.do(ctx, "put", name, func() error {
		if _, taken := m.objects[name]; taken {
			return objects.ErrExists
		}
		m.puts++
		m.objects[name] = object{b, time.Now()}
		return nil
	})
}

func (m *memory) Get(ctx context.Context, name string, offset int64) (r io.ReadCloser, err error) {
	err = m.do(ctx, "get", name, func() error {
		o, ok := m.objects[name]
		if !ok {
			return objects.ErrNotFound
		}
		r = io.NopCloser(bytes.NewReader(o.content[min(offset, int64(len(o.content))):]))
		return nil
	})
	return r, err
}

func (m *memory) List(ctx context.Context, prefix string, fn func(objects.Info) error) error {
	var found []objects.Info
	err := m.do(ctx, "list", prefix, func() error {
		for name, o := range m.objects {
			if strings.HasPrefix(name, prefix) {
				found = append(found, objects.Info{Name: name, Size: int64(len(o.content)), Modified: o.modified})
			}
		}
		return nil
	})
	for _, info := range found {
		if err == nil {
			err = fn(info)
		}
	}
	return err
}

func (m *memory) Delete(ctx context.Context, name string) error {
	return m.do(ctx, "delete", name, func() error {
		delete(m.objects, name)
		return nil
	})
}

// named returns the names of objects with a part.
func (m *memory) named(part string) (names []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for name := range m.objects {
		if strings.Contains(name, part) {
			names = append(names, name)
		}
	}
	return names
}

const testPartition = 3

var testScope = Scope{Group: "the group", Topic: "raw", TopicID: [16]byte{1}, Partitions: 8}

// source is a store whose contents at each position are known.
type source struct {
	t     testing.TB
	fs    vfs.FS
	store *state.Store
	links int
}

var testIdentity = state.Identity{Topic: "raw", TopicID: [16]byte{1}, Partition: testPartition, Partitions: 8}

func openSource(t testing.TB, fs vfs.FS, dir string) *source {
	t.Helper()
	store, err := state.Open(dir, testIdentity, state.Options{FS: fs, MemTableBytes: 4 << 20})
	if err != nil {
		t.Fatal(err)
	}
	return &source{t: t, fs: fs, store: store}
}

// fold folds the records up to a position, and writes them to disk. The same records do the same each time.
func (s *source) fold(to int) {
	s.t.Helper()
	p, _ := s.store.Position()
	for at := int(p.Offset); at < to; at++ {
		tx := s.store.Begin()
		for key, value := range written(at) {
			if err := tx.Set([]byte(key), []byte(value)); err != nil {
				s.t.Fatal(err)
			}
		}
		tx.SetEpoch("first")
		if err := tx.Commit(state.Position{Offset: int64(at + 1)}); err != nil {
			s.t.Fatal(err)
		}
	}
	if err := s.store.Flush(); err != nil {
		s.t.Fatal(err)
	}
}

// written is what the record at a position writes: keys that follow each other, so that tables do not all overlap, and one that
// all write.
func written(at int) map[string]string {
	r := rand.New(rand.NewPCG(uint64(at), 1))
	w := map[string]string{"\x00\x03\x06last": fmt.Sprint(at)}
	for i := range 30 {
		value := make([]byte, 1000) // does not compress
		for j := range value {
			value[j] = byte(r.Uint32())
		}
		w[fmt.Sprintf("\x00\x03\x06%06d-%d", at/10, i*r.IntN(10))] = string(value)
	}
	return w
}

// contentAt is what a store holds at a position.
func contentAt(at int) map[string]string {
	all := map[string]string{}
	for i := range at {
		maps.Copy(all, written(i))
	}
	return all
}

// link makes a copy to upload.
func (s *source) link() string {
	s.t.Helper()
	s.links++
	dir := fmt.Sprintf("links/%p-%d", s, s.links)
	if err := s.store.Link(dir); err != nil {
		s.t.Fatal(err)
	}
	return dir
}

// checkRestored opens a restored directory as a worker does, and compares it with what is known of its position.
func checkRestored(t testing.TB, fs vfs.FS, dir string) int {
	t.Helper()
	store, err := state.Open(dir, testIdentity, state.Options{FS: fs})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	p, ok := store.Position()
	if !ok || p.Done != 0 {
		t.Fatalf("restored at %v, %v", p, ok)
	}
	got := map[string]string{}
	tx := store.Begin()
	defer tx.Discard()
	err = tx.Scan([]byte("\x00\x03\x06"), []byte("\x00\x03\x07"), func(key, value []byte) (bool, error) {
		got[string(key)] = string(value)
		return true, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if want := contentAt(int(p.Offset)); !maps.Equal(got, want) {
		t.Fatalf("restored at %v: %d keys that are not the %d expected", p, len(got), len(want))
	}
	return int(p.Offset)
}
