package state

import (
	"bytes"
	"errors"
	"fmt"
	"hash/maphash"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

func openTest(t testing.TB, opts Options) *Store {
	t.Helper()
	if opts.FS == nil {
		opts.FS = vfs.NewMem()
	}
	s, err := Open("dir", testIdentity, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// firstKey and lastKey enclose the keys of tests.
var firstKey, lastKey = []byte{}, []byte{0xfe}

func contents(t testing.TB, tx *Txn) map[string]string {
	t.Helper()
	found, last := map[string]string{}, ""
	err := tx.Scan(firstKey, lastKey, func(key, value []byte) (bool, error) {
		if last != "" && string(key) <= last {
			t.Fatalf("scan went from %q to %q", last, key)
		}
		last = string(key)
		if last[0] == 'k' {
			found[last] = string(value)
		}
		return true, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// Whatever is done in whatever order, the transaction reads as a map would.
func TestTxnReadsAsAMap(t *testing.T) {
	r := newRand(t)
	s := openTest(t, Options{MemTableBytes: 256 << 10})
	committed := map[string]string{}
	for n := range 300 {
		s.missing = missing(r.IntN(mostMissing + 1))
		tx := s.Begin()
		model := maps.Clone(committed)
		for range r.IntN(60) {
			key := fmt.Sprintf("k%03d", r.IntN(200))
			switch r.IntN(11) {
			case 10:
				to := fmt.Sprintf("k%03d", r.IntN(200))
				if err := tx.DeleteRange([]byte(key), []byte(to)); err != nil {
					t.Fatal(err)
				}
				maps.DeleteFunc(model, func(k, _ string) bool { return k >= key && k < to })
			case 0, 1, 2:
				value := strings.Repeat("v", r.IntN(3)) + fmt.Sprint(r.IntN(1000))
				if r.IntN(10) == 0 {
					value = ""
				}
				if err := tx.Set([]byte(key), []byte(value)); err != nil {
					t.Fatal(err)
				}
				model[key] = value
			case 3, 4:
				if err := tx.Delete([]byte(key)); err != nil {
					t.Fatal(err)
				}
				delete(model, key)
			case 5:
				from, to := key, fmt.Sprintf("k%03d", r.IntN(200))
				checkScan(t, tx, model, from, to, 1+r.IntN(100))
			default:
				got, err := tx.Get([]byte(key))
				want, ok := model[key]
				if err != nil || string(got) != want || (got != nil) != ok {
					t.Fatalf("get %s: %q (nil: %v), %v; expected %q, %v", key, got, got == nil, err, want, ok)
				}
			}
		}
		if got := contents(t, tx); !maps.Equal(got, model) {
			t.Fatalf("transaction %d: %v, expected %v", n, got, model)
		}
		switch r.IntN(4) {
		case 0:
			tx.Discard()
		default:
			if err := tx.Commit(Position{Offset: int64(n)}); err != nil {
				t.Fatal(err)
			}
			committed = model
		}
		if r.IntN(20) == 0 {
			if err := s.Flush(); err != nil {
				t.Fatal(err)
			}
		}
	}
	m := s.Metrics()
	if m.Commits == 0 || m.Gets == 0 || m.GetsFromTxn == 0 || m.Flushes == 0 || m.DiskBytes == 0 {
		t.Fatalf("metrics %+v", m)
	}
}

func checkScan(t *testing.T, tx *Txn, model map[string]string, from, to string, limit int) {
	t.Helper()
	var got, want []string
	err := tx.Scan([]byte(from), []byte(to), func(key, value []byte) (bool, error) {
		got = append(got, string(key)+"="+string(value))
		return len(got) < limit, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range slices.Sorted(maps.Keys(model)) {
		if key >= from && key < to && len(want) < limit {
			want = append(want, key+"="+model[key])
		}
	}
	if !slices.Equal(got, want) {
		t.Fatalf("scan from %s to %s, at most %d: %v, expected %v", from, to, limit, got, want)
	}
}

// What Get returned stays as it is until the end of the transaction, whatever else is done in it.
func TestGetStaysValid(t *testing.T) {
	r := newRand(t)
	s := openTest(t, Options{})
	tx := s.Begin()
	for i := range 100 {
		if err := tx.Set(fmt.Appendf(nil, "k%d", i), fmt.Appendf(nil, "stored %d", i)); err != nil {
			t.Fatal(err)
		}
	}
	if err := tx.Commit(Position{}); err != nil {
		t.Fatal(err)
	}
	tx = s.Begin()
	type held struct{ got, want []byte }
	var all []held
	for i := range 20_000 {
		key := fmt.Appendf(nil, "k%d", r.IntN(100))
		got, err := tx.Get(key)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, held{got, bytes.Clone(got)})
		if err := tx.Set(key, fmt.Appendf(nil, "%d is a new value", i)); err != nil {
			t.Fatal(err)
		}
	}
	for _, h := range all {
		if !bytes.Equal(h.got, h.want) {
			t.Fatalf("%q became %q", h.want, h.got)
		}
	}
	tx.Discard()
}

func TestScanWithin(t *testing.T) {
	s := openTest(t, Options{})
	tx := s.Begin()
	for _, key := range []string{"ka", "kb", "kc"} {
		if err := tx.Set([]byte(key), nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := tx.Commit(Position{}); err != nil {
		t.Fatal(err)
	}
	tx = s.Begin()
	var seen []string
	err := tx.Scan([]byte("k"), []byte("l"), func(key, _ []byte) (bool, error) {
		seen = append(seen, string(key))
		if err := tx.Set([]byte("kd"), nil); err == nil {
			t.Fatal("a write during a scan went through")
		}
		if err := tx.Delete([]byte("kd")); err == nil {
			t.Fatal("a delete during a scan went through")
		}
		if _, err := tx.Get([]byte("kx")); err != nil {
			return false, err
		}
		return true, tx.Scan([]byte("kb"), []byte("kc"), func(key, _ []byte) (bool, error) {
			seen = append(seen, "-"+string(key))
			return true, nil
		})
	})
	if want := []string{"ka", "-kb", "kb", "-kb", "kc", "-kb"}; err != nil || !slices.Equal(seen, want) {
		t.Fatalf("%v, %v", seen, err)
	}
	failed := errors.New("failed")
	fail := func(_, _ []byte) (bool, error) { return true, failed }
	if err := tx.Scan([]byte("k"), []byte("l"), fail); !errors.Is(err, failed) {
		t.Fatal(err)
	}
	if err := tx.Set([]byte("kd"), nil); err != nil {
		t.Fatal(err)
	}
	if err := tx.Scan([]byte("l"), []byte("k"), fail); err != nil {
		t.Fatal(err)
	}
}

func TestOneTxnAtATime(t *testing.T) {
	s := openTest(t, Options{})
	first := s.Begin()
	second := s.Begin()
	if err := second.Set([]byte("k"), nil); !errors.Is(err, ErrBusy) {
		t.Fatal(err)
	}
	if err := second.Commit(Position{Offset: 1}); !errors.Is(err, ErrBusy) {
		t.Fatal(err)
	}
	second.Discard()
	if err := first.Commit(Position{Offset: 1}); err != nil {
		t.Fatal(err)
	}
	first.Discard()
	third := s.Begin()
	first.Discard() // must not end the third
	if err := first.Commit(Position{Offset: 2}); err == nil {
		t.Fatal("committed twice")
	}
	if err := third.Commit(Position{Offset: 3}); err != nil {
		t.Fatal(err)
	}
	if p, _ := s.Position(); p.Offset != 3 {
		t.Fatal(p)
	}
}

func TestCommitRefusesToGoBack(t *testing.T) {
	s := openTest(t, Options{})
	for _, step := range []struct {
		p  Position
		ok bool
	}{
		{Position{-1, 0}, false},
		{Position{0, -1}, false},
		{Position{5, 3}, true},
		{Position{5, 3}, true},
		{Position{5, 2}, false},
		{Position{4, 9}, false},
		{Position{5, 4}, true},
		{Position{6, 0}, true},
	} {
		tx := s.Begin()
		if err := tx.Set([]byte("k"), []byte(step.p.String())); err != nil {
			t.Fatal(err)
		}
		before, _ := s.Position()
		want := before
		err := tx.Commit(step.p)
		if (err == nil) != step.ok {
			t.Fatalf("from %v to %v: %v", before, step.p, err)
		}
		if step.ok {
			want = step.p
		}
		if p, _ := s.Position(); p != want {
			t.Fatalf("from %v to %v: at %v", before, step.p, p)
		}
		tx = s.Begin()
		if v, err := tx.Get([]byte("k")); err != nil || (v != nil && string(v) != want.String()) {
			t.Fatalf("from %v to %v: holds %s, %v", before, step.p, v, err)
		}
		tx.Discard()
	}
}

func TestTooLarge(t *testing.T) {
	s := openTest(t, Options{})
	tx := s.Begin()
	// What is not touched of a new slice takes no memory.
	tx.o.arena = make([]byte, maxArena-100, maxArena)
	if err := tx.Set([]byte("k"), make([]byte, 98)); err != nil {
		t.Fatal(err)
	}
	if err := tx.Set([]byte("k1"), make([]byte, 98)); !errors.Is(err, ErrTooLarge) {
		t.Fatal(err)
	}
	if err := tx.Commit(Position{Offset: 1}); !errors.Is(err, ErrTooLarge) {
		t.Fatal(err)
	}
	if _, ok := s.Position(); ok {
		t.Fatal("a part of a transaction was committed")
	}
	for i := range 50 {
		if err := s.Begin().Commit(Position{Offset: int64(i)}); err != nil {
			t.Fatal(err)
		}
	}
	if kept := cap(s.overlay.arena); kept > retainFactor*retainArena {
		t.Fatalf("%d bytes of a large transaction were kept through small ones", kept)
	}
}

func TestBytesGrow(t *testing.T) {
	s := openTest(t, Options{})
	tx := s.Begin()
	if tx.Bytes() != 0 {
		t.Fatal(tx.Bytes())
	}
	last := 0
	for i := range 100 {
		key := fmt.Appendf(nil, "k%d", i)
		if i%2 == 0 {
			if err := tx.Set(key, make([]byte, 100)); err != nil {
				t.Fatal(err)
			}
		} else if _, err := tx.Get(key); err != nil {
			t.Fatal(err)
		}
		if tx.Bytes() <= last {
			t.Fatalf("%d after %d", tx.Bytes(), last)
		}
		last = tx.Bytes()
	}
	tx.Discard()
	if tx.Bytes() != 0 {
		t.Fatal(tx.Bytes())
	}
}

// What the store is known not to have needs no tombstone.
func TestDeleteOfAbsent(t *testing.T) {
	s := openTest(t, Options{})
	size := func(do func(tx *Txn)) int64 {
		before := s.Metrics().CommittedBytes
		tx := s.Begin()
		do(tx)
		if err := tx.Commit(Position{}); err != nil {
			t.Fatal(err)
		}
		return s.Metrics().CommittedBytes - before
	}
	key := []byte("k")
	empty := size(func(tx *Txn) {})
	known := size(func(tx *Txn) {
		if v, err := tx.Get(key); v != nil || err != nil {
			t.Fatal(v, err)
		}
		if err := errors.Join(tx.Set(key, key), tx.Delete(key)); err != nil {
			t.Fatal(err)
		}
	})
	unknown := size(func(tx *Txn) {
		if err := tx.Delete(key); err != nil {
			t.Fatal(err)
		}
	})
	if known != empty || unknown <= empty {
		t.Errorf("%d bytes for nothing, %d for a delete of what is known to be absent, %d for a blind one",
			empty, known, unknown)
	}
}

// The order is kept up to date bit by bit as writes and scans alternate; it is that of sorting everything.
func TestOverlayOrder(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	for range 200 {
		o := newOverlay(maphash.MakeSeed())
		written := map[string]bool{}
		for range r.IntN(30) {
			for range r.IntN(30) {
				key := fmt.Sprintf("%d", r.IntN(500))
				o.setValue(o.write([]byte(key)), nil)
				written[key] = true
			}
			var got []string
			for _, index := range o.sorted() {
				got = append(got, string(o.keyOf(&o.entries[index])))
			}
			if want := slices.Sorted(maps.Keys(written)); !slices.Equal(got, want) {
				t.Fatalf("%v, expected %v", got, want)
			}
		}
	}
}
