package e2e

import (
	"fmt"
	"path/filepath"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"cassdelta/internal/testparts"
)

const roundsBucket = "checkpoints"

// startStore starts where checkpoints are, if there are to be any, and writes down what the workers need to know of it.
func (r *rounds) startStore() error {
	// Often enough that each round has some.
	r.checkpoints = map[string]any{"interval": "3s"}
	switch *roundsStore {
	case "":
		r.checkpoints = nil
	case "directory":
		r.checkpoints["store"] = filepath.Join(r.dir, "store")
	case "s3":
		return r.startS3()
	default:
		return fmt.Errorf("checkpoints in %q: expected directory or s3", *roundsStore)
	}
	return nil
}

// startS3 starts a server with the API of S3, and makes a bucket in it.
func (r *rounds) startS3() error {
	s, err := testparts.StartObjectStore(r.ctx, testparts.ObjectStoreOptions{Dir: filepath.Join(r.dir, "s3")})
	if err != nil {
		return err
	}
	r.t.Cleanup(s.Close)
	client, err := minio.New(s.URL[len("http://"):], &minio.Options{Creds: credentials.NewStaticV4(s.AccessKey, s.SecretKey, "")})
	if err != nil {
		return err
	}
	if err := client.MakeBucket(r.ctx, roundsBucket, minio.MakeBucketOptions{}); err != nil {
		return err
	}
	r.checkpoints["store"] = "s3://" + roundsBucket + "/rounds"
	r.checkpoints["s3"] = map[string]any{"endpoint": s.URL, "access-key": s.AccessKey, "secret-key": s.SecretKey}
	return nil
}
