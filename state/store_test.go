package state

import (
	"errors"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

var testIdentity = Identity{Topic: "raw", TopicID: [16]byte{1, 2}, Partition: 3, Partitions: 32, FoldVersion: 1}

func TestReopen(t *testing.T) {
	fs := vfs.NewMem()
	s, err := Open("dir", testIdentity, Options{FS: fs})
	if err != nil {
		t.Fatal(err)
	}
	if p, ok := s.Position(); ok {
		t.Fatalf("a new store is at %v", p)
	}
	tx := s.Begin()
	if err := tx.Set([]byte("key"), []byte("value")); err != nil {
		t.Fatal(err)
	}
	if v, err := tx.Get([]byte("key")); err != nil || string(v) != "value" {
		t.Fatalf("got %q, %v", v, err)
	}
	if err := tx.Commit(Position{Offset: 7, Done: 2}); err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Get([]byte("key")); !errors.Is(err, errEnded) {
		t.Fatalf("get after the end: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if s, err = Open("dir", testIdentity, Options{FS: fs}); err != nil {
		t.Fatal(err)
	}
	if p, ok := s.Position(); !ok || p != (Position{7, 2}) {
		t.Fatalf("reopened at %v, %v", p, ok)
	}
	if v, err := s.Begin().Get([]byte("key")); err != nil || string(v) != "value" {
		t.Fatalf("got %q, %v", v, err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}
