package objects

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"
	"github.com/minio/minio-go/v7"
)

// stores runs a test on each kind of store. CASSDELTA_TEST_S3 is the endpoint of a real one, with credentials as AWS's tools
// take them: see ./do s3.
func stores(t *testing.T, test func(t *testing.T, s Store)) {
	t.Run("directory", func(t *testing.T) {
		s, err := Open(Config{URL: t.TempDir() + "/objects"})
		if err != nil {
			t.Fatal(err)
		}
		test(t, s)
	})
	t.Run("directory in memory", func(t *testing.T) {
		s, err := Open(Config{URL: "objects", FS: vfs.NewMem()})
		if err != nil {
			t.Fatal(err)
		}
		test(t, s)
	})
	t.Run("S3 in the process", func(t *testing.T) {
		server := httptest.NewServer(gofakes3.New(s3mem.New()).Server())
		t.Cleanup(server.Close)
		test(t, newBucket(t, S3Config{Endpoint: server.URL, AccessKey: "key", SecretKey: "secret"}))
	})
	if endpoint := os.Getenv("CASSDELTA_TEST_S3"); endpoint != "" {
		t.Run("S3", func(t *testing.T) { test(t, newBucket(t, S3Config{Endpoint: endpoint})) })
	}
}

// newBucket makes a bucket and a store in it.
func newBucket(t *testing.T, c S3Config) *S3 {
	bucket := fmt.Sprintf("cassdelta-%x", rand.Uint64())
	s, err := NewS3(bucket, "some/prefix/", c)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.core.MakeBucket(t.Context(), bucket, minio.MakeBucketOptions{}); err != nil {
		t.Fatal(err)
	}
	return s
}

func put(s Store, name, content string) error {
	return s.Put(context.Background(), name, strings.NewReader(content), int64(len(content)))
}

func list(t *testing.T, s Store, prefix string) map[string]int64 {
	t.Helper()
	found := map[string]int64{}
	err := s.List(t.Context(), prefix, func(i Info) error {
		if i.Modified.IsZero() {
			t.Errorf("%s has no time", i.Name)
		}
		found[i.Name] = i.Size
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func TestStore(t *testing.T) {
	stores(t, func(t *testing.T, s Store) {
		ctx := t.Context()
		large := make([]byte, 20<<20) // more than one part of a client that cuts
		rand.NewChaCha8([32]byte{1}).Read(large)
		want := map[string]int64{"a/b/one": 3, "a/b/two": 4, "a/bc": 1, "large": int64(len(large))}
		for _, err := range []error{
			put(s, "a/b/one", "one"), put(s, "a/b/two", "zwei"), put(s, "a/bc", "x"),
			s.Put(ctx, "large", bytes.NewReader(large), int64(len(large))),
		} {
			if err != nil {
				t.Fatal(err)
			}
		}
		if got := list(t, s, ""); !maps.Equal(got, want) {
			t.Errorf("listed %v, expected %v", got, want)
		}
		if got := list(t, s, "a/b/"); !maps.Equal(got, map[string]int64{"a/b/one": 3, "a/b/two": 4}) {
			t.Errorf("listed %v under a/b/", got)
		}
		if got := list(t, s, "none/"); len(got) != 0 {
			t.Errorf("listed %v under a prefix of none", got)
		}
		if err := put(s, "a/b/one", "other"); !errors.Is(err, ErrExists) {
			t.Errorf("put of a name that is taken: %v", err)
		}
		if got, err := ReadAll(ctx, s, "a/b/one", 3); err != nil || string(got) != "one" {
			t.Errorf("read %q, %v", got, err)
		}
		if _, err := ReadAll(ctx, s, "a/b/one", 2); err == nil {
			t.Error("an object larger than the limit was read")
		}
		for _, offset := range []int64{0, 1, 17 << 20, int64(len(large))} {
			r, err := s.Get(ctx, "large", offset)
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(r)
			if err != nil || !bytes.Equal(got, large[offset:]) {
				t.Errorf("from %d: %d bytes, %v; expected %d", offset, len(got), err, len(large)-int(offset))
			}
			if err := r.Close(); err != nil {
				t.Error(err)
			}
		}
		if _, err := s.Get(ctx, "a/b/three", 0); !errors.Is(err, ErrNotFound) {
			t.Errorf("get of what is not there: %v", err)
		}
		for range 2 {
			if err := s.Delete(ctx, "a/b/one"); err != nil {
				t.Error(err)
			}
		}
		if err := put(s, "a/b/one", "again"); err != nil {
			t.Error(err)
		}
		if err := put(s, "empty", ""); err == nil {
			t.Error("an object of no bytes was taken")
		}
		stop := errors.New("stop")
		if err := s.List(ctx, "", func(Info) error { return stop }); err != stop {
			t.Errorf("list returned %v", err)
		}
		for _, name := range []string{"", "/", "a/", "/a", "a//b", "../a", "a/../b", "a/.", "a b", `a\b`} {
			if err := put(s, name, "x"); err == nil {
				t.Errorf("%q was taken for a name", name)
			}
			if name == "" || name == "a/" {
				continue // the prefixes of all, and of a
			}
			if err := s.List(ctx, name, func(Info) error { return nil }); err == nil {
				t.Errorf("%q was taken for a prefix", name)
			}
		}
	})
}

// Of many that put the same name at once one wins, and what is there is its object.
func TestOneWins(t *testing.T) {
	stores(t, func(t *testing.T, s Store) {
		if _, fake := s.(*S3); fake && strings.Contains(t.Name(), "in_the_process") {
			t.Skip("the store in the process looks and puts in two steps")
		}
		for round := range 10 {
			name := fmt.Sprintf("race/%d", round)
			var winner atomic.Int64
			var wins atomic.Int64
			var all sync.WaitGroup
			for i := range 8 {
				all.Go(func() {
					switch err := put(s, name, fmt.Sprint(i)); {
					case err == nil:
						wins.Add(1)
						winner.Store(int64(i))
					case !errors.Is(err, ErrExists):
						t.Error(err)
					}
				})
			}
			all.Wait()
			got, err := ReadAll(t.Context(), s, name, 10)
			if err != nil || wins.Load() != 1 || string(got) != fmt.Sprint(winner.Load()) {
				t.Fatalf("%d winners, found %q, %v, expected that of %d", wins.Load(), got, err, winner.Load())
			}
		}
	})
}

// A crash before any operation on a file leaves the object whole, or not there; once Put has returned it is there.
func TestDirectoryCrash(t *testing.T) {
	content := strings.Repeat("0123456789", 100_000)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	there := 0
	for at := 1; ; at++ {
		disk, operations := vfs.NewCrashableMem(), 0
		var after *vfs.MemFS
		s, err := NewDirectory("objects", errorfs.Wrap(disk, errorfs.InjectorFunc(func(op errorfs.Op) error {
			if op.Kind.ReadOrWrite() != errorfs.OpIsRead {
				if operations++; operations == at {
					after = disk.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: r.IntN(101), RNG: r})
				}
			}
			return nil
		})))
		if err == nil {
			err = put(s, "a/b/c", content)
		}
		if err != nil {
			t.Fatal(err)
		}
		done := after == nil
		if done {
			after = disk.CrashClone(vfs.CrashCloneCfg{})
		}
		s, err = NewDirectory("objects", after)
		if err != nil {
			t.Fatal(err)
		}
		got, err := ReadAll(t.Context(), s, "a/b/c", 1<<30)
		switch {
		case errors.Is(err, ErrNotFound) && !done:
		case err != nil || string(got) != content:
			t.Fatalf("after a crash before operation %d: %d bytes, %v", at, len(got), err)
		default:
			there++
		}
		if done {
			break
		}
	}
	if there < 2 {
		t.Error("the object was never there before the end: the test tests little")
	}
}

func TestCredentialsStayUnsaid(t *testing.T) {
	for _, c := range []S3Config{
		{Endpoint: "https://name:secret@host"}, {Endpoint: "secret"}, {Endpoint: "http://host/secret"}, {Endpoint: "http://host", SecretKey: "secret"},
		{Endpoint: "http://127.0.0.1:1", AccessKey: "key", SecretKey: "secret"},
	} {
		s, err := NewS3("bucket", "", c)
		if err == nil {
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			err = s.List(ctx, "", func(Info) error { return nil })
		}
		if err == nil || strings.Contains(err.Error(), "secret@") || strings.Contains(err.Error(), "/secret") || strings.Contains(err.Error(), `"secret`) {
			t.Errorf("%+v: %v", c, err)
		}
	}
	for url, want := range map[string]bool{"s3://": false, "s3:///a": false, "s3://b": true, "s3://b/a/b/": true, "gs://b": false, "": false,
		"s3:/b/a": false, "s3:b": false, "file:/a": false, "a": true, "a/s3:": true, "C:/a": true} {
		_, err := Open(Config{URL: url, FS: vfs.NewMem()})
		if (err == nil) != want {
			t.Errorf("%q: %v", url, err)
		}
	}
}

// A directory that is gone, as that of a disk that is not mounted any more, is not taken for a store without objects.
func TestDirectoryGone(t *testing.T) {
	disk := vfs.NewMem()
	s, err := Open(Config{URL: "a/b", FS: disk})
	if err != nil {
		t.Fatal(err)
	}
	if got := list(t, s, "c/"); len(got) != 0 {
		t.Errorf("listed %v", got)
	}
	if err := disk.RemoveAll("a/b"); err != nil {
		t.Fatal(err)
	}
	if err := disk.MkdirAll("a/b", 0o755); err != nil { // where it was mounted
		t.Fatal(err)
	}
	for _, prefix := range []string{"", "c/"} {
		if err := s.List(t.Context(), prefix, func(Info) error { return nil }); err == nil || !strings.Contains(err.Error(), "the directory of the store is gone") {
			t.Errorf("list of %q: error %v, expected that the directory is gone", prefix, err)
		}
	}
	if _, err := s.Get(t.Context(), "c/d", 0); err == nil || errors.Is(err, ErrNotFound) {
		t.Errorf("get: error %v, expected that the directory is gone", err)
	}
}

// A store that is only looked into is not made.
func TestExistingDirectory(t *testing.T) {
	disk := vfs.NewMem()
	if _, err := Open(Config{URL: "a/b", FS: disk, Existing: true}); err == nil || !strings.Contains(err.Error(), "a/b") {
		t.Errorf("error %v, expected that there is no directory a/b", err)
	}
	if names, err := disk.List(""); err != nil || len(names) > 0 {
		t.Errorf("%q was made, error %v", names, err)
	}
	for _, existing := range []bool{false, true} {
		if _, err := Open(Config{URL: "a/b", FS: disk, Existing: existing}); err != nil {
			t.Error(err)
		}
	}
	// Where nothing is mounted is no store: what is made there would be taken for it by a worker that has lost its disk.
	if err := disk.MkdirAll("mount", 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(Config{URL: "mount", FS: disk, Existing: true}); err == nil || !strings.Contains(err.Error(), "mounted") {
		t.Errorf("error %v, expected that the directory is empty", err)
	}
	if names, err := disk.List("mount"); err != nil || len(names) > 0 {
		t.Errorf("%q was made in an empty directory, error %v", names, err)
	}
}
