package checkpoint

import (
	"fmt"
	"math/rand/v2"
	"os"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"cassdelta/state/objects"
)

// Checkpoints on a real S3 server: see ./do s3.
func TestOnS3(t *testing.T) {
	endpoint := os.Getenv("CASSDELTA_TEST_S3")
	if endpoint == "" {
		t.Skip("there is no server: ./do s3 starts one")
	}
	bucket := fmt.Sprintf("checkpoints-%x", rand.Uint64())
	cl, err := minio.New(endpoint[len("http://"):], &minio.Options{Creds: credentials.NewEnvAWS()})
	if err != nil {
		t.Fatal(err)
	}
	if err := cl.MakeBucket(t.Context(), bucket, minio.MakeBucketOptions{}); err != nil {
		t.Fatal(err)
	}
	store, err := objects.Open(objects.Config{URL: "s3://" + bucket + "/a/prefix", S3: objects.S3Config{Endpoint: endpoint}})
	if err != nil {
		t.Fatal(err)
	}
	repo := NewRepository(store, testScope)
	fs := vfs.NewMem()
	s := openSource(t, fs, "state/3")
	defer s.store.Close()
	w := repo.NewWriter(testPartition, "worker", "cluster", fs)
	for _, at := range []int{100, 110, 120} {
		s.fold(at)
		result, err := w.Upload(t.Context(), s.link())
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%+v", result)
		e := find(t, repo, within)
		if e == nil || restore(t, repo, e) != at {
			t.Fatalf("found %v, expected that at %d", e, at)
		}
	}
	if _, _, err := repo.Save(t.Context(), testPartition, "kept"); err != nil {
		t.Fatal(err)
	}
	if removed, err := repo.Sweep(t.Context(), testPartition, 1); err != nil || removed != (Removed{}) {
		t.Errorf("removed %+v of what is young, %v", removed, err)
	}
	all, err := repo.List(t.Context(), testPartition)
	if err != nil || len(all) != 4 {
		t.Fatalf("%v, %v", all, err)
	}
	for _, e := range all {
		if err := repo.Verify(t.Context(), e, nil); err != nil {
			t.Error(err)
		}
	}
	scopes, err := Scopes(t.Context(), store)
	if err != nil || len(scopes) != 1 || scopes[0] != testScope {
		t.Errorf("%+v, %v", scopes, err)
	}
}
