package state

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// TestDamagedTableIsNamed alters the blocks of a table. Who reads it learns which file it is.
func TestDamagedTableIsNamed(t *testing.T) {
	fs := vfs.NewMem()
	s := openTest(t, Options{FS: fs})
	key := []byte("k")
	tx := s.Begin()
	if err := errors.Join(tx.Set(key, []byte("v")), tx.Commit(Position{Offset: 1}), s.Close()); err != nil {
		t.Fatal(err)
	}
	damageTables(t, fs, "dir")
	r, err := OpenReader("dir", Options{FS: fs})
	if err == nil {
		t.Cleanup(func() { r.Close() })
		_, err = r.Get(key)
	}
	wantError(t, err, "dir/0", ".sst is damaged", "checksum")
	if !pebble.IsCorruptionError(err) || strings.Contains(err.Error(), "carrier") || strings.Contains(err.Error(), "\n") {
		t.Errorf("%q: expected a corruption error in one line", err)
	}
}

func TestFullDisk(t *testing.T) {
	s := &Store{dir: "dir", failed: make(chan struct{})}
	err := s.breakWith("flushing", syscall.ENOSPC)
	wantError(t, err, "dir", "flushing", "no space left", "make room")
	wantError(t, s.broken, "make room")
}

// damageTables alters a byte near the start of each table in a directory.
func damageTables(t *testing.T, fs *vfs.MemFS, dir string) {
	t.Helper()
	names, err := fs.List(dir)
	if err != nil {
		t.Fatal(err)
	}
	damaged := false
	for _, n := range names {
		if !strings.HasSuffix(n, ".sst") {
			continue
		}
		damaged = true
		path := fs.PathJoin(dir, n)
		f, err := fs.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		var b bytes.Buffer
		if _, err := io.Copy(&b, f); err != nil {
			t.Fatal(err)
		}
		b.Bytes()[5] ^= 0x40
		out, err := fs.Create(path, vfs.WriteCategoryUnspecified)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := out.Write(b.Bytes()); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(f.Close(), out.Close()); err != nil {
			t.Fatal(err)
		}
	}
	if !damaged {
		t.Fatalf("%s has no table, but %q", dir, names)
	}
}
