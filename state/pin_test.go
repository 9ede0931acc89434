package state

import (
	"context"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// TestTablesPinned holds transactions to keeping the tables that they read until they have ended, for reads of all kinds, also
// after a compaction that ended meanwhile, and no longer.
func TestTablesPinned(t *testing.T) {
	key := []byte("key")
	reads := map[string]func(*Store, *Txn) error{
		"get": func(_ *Store, tx *Txn) error { _, err := tx.Get(key); return err },
		"look": func(s *Store, tx *Txn) error {
			for !s.missing.probably() {
				s.missing.note(true)
			}
			_, err := tx.Get(key)
			return err
		},
		"scan": func(_ *Store, tx *Txn) error {
			return tx.Scan([]byte("a"), []byte("z"), func(_, _ []byte) (bool, error) { return true, nil })
		},
	}
	for name, read := range reads {
		t.Run(name, func(t *testing.T) {
			fs := vfs.NewMem()
			s, err := Open("dir", testIdentity, Options{FS: fs})
			if err != nil {
				t.Fatal(err)
			}
			var at int64
			write := func() {
				tx := s.Begin()
				at++
				if err := tx.Set(key, []byte{byte(at)}); err != nil {
					t.Fatal(err)
				}
				if err := tx.Commit(Position{Offset: at}); err != nil {
					t.Fatal(err)
				}
				if err := s.Flush(); err != nil {
					t.Fatal(err)
				}
			}
			compact := func() {
				if err := s.db.Compact(context.Background(), []byte{0}, []byte{0xff}, false); err != nil {
					t.Fatal(err)
				}
			}
			write()
			write()
			tx := s.Begin()
			if err := read(s, tx); err != nil {
				t.Fatal(err)
			}
			compact()
			// Zombies are what Pebble calls tables that are read though another version has replaced them.
			if n := s.db.Metrics().Table.ZombieCount; n != 2 {
				t.Errorf("a transaction that has not ended keeps %d tables, expected the 2 that were compacted", n)
			}
			// The version after the compaction is kept as well, once it is read.
			if _, err := tx.Get([]byte("other key")); err != nil {
				t.Fatal(err)
			}
			if s.replaced.Load() {
				t.Error("a read after a compaction keeps the version before it")
			}
			tx.Discard()
			s.closing.Wait()
			if n := s.db.Metrics().Table.ZombieCount; n != 0 {
				t.Errorf("%d tables are kept after the end of the transaction", n)
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
		})
	}
}
