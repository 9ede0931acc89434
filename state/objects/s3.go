package objects

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
)

// S3Config says how to reach an S3-compatible store.
type S3Config struct {
	// Endpoint is its address, as http://127.0.0.1:9000. Empty is that of AWS.
	Endpoint string
	// Region is empty where the store tells it, or needs none.
	Region string
	// AccessKey and SecretKey are the credentials. If they are empty they are looked for as AWS's own tools do: in AWS_ACCESS_KEY_ID and
	// AWS_SECRET_ACCESS_KEY, in ~/.aws/credentials, and in the role of the machine.
	AccessKey, SecretKey string
}

const (
	awsEndpoint = "https://s3.amazonaws.com"
	// stallTimeout is how long a reader waits for the next bytes.
	stallTimeout = time.Minute
	// attempts is how often the client tries a request that failed in a way that may pass, with waits that grow to some
	// seconds.
	attempts = 5
)

// S3 keeps objects in a bucket. That a name is taken once is left to the store (If-None-Match), and holds with all that
// know conditional writes: AWS, MinIO, versitygw, Ceph.
type S3 struct {
	core           minio.Core
	bucket, prefix string
}

// NewS3 makes a store of the objects in a bucket whose names begin with prefix and a slash; with an empty prefix all of the
// bucket is.
func NewS3(bucket, prefix string, c S3Config) (*S3, error) {
	prefix = strings.TrimSuffix(prefix, "/")
	if bucket == "" {
		return nil, errors.New("the store s3:// names no bucket: expected s3://BUCKET/PREFIX")
	}
	if prefix != "" {
		if err := checkName(prefix); err != nil {
			return nil, fmt.Errorf("s3://%s/%s: %w", bucket, prefix, err)
		}
		prefix += "/"
	}
	if c.Endpoint == "" {
		c.Endpoint = awsEndpoint
	}
	endpoint, err := url.Parse(c.Endpoint)
	// The address is not repeated: someone may have put a password into it.
	if err != nil || endpoint.Host == "" || endpoint.Scheme != "http" && endpoint.Scheme != "https" ||
		endpoint.User != nil || strings.Trim(endpoint.Path, "/") != "" {
		return nil, errors.New("the endpoint of the S3 store: expected http://HOST:PORT or https://HOST:PORT, and credentials beside it")
	}
	if (c.AccessKey == "") != (c.SecretKey == "") {
		return nil, errors.New("the S3 store needs an access key and a secret key; one of them is missing")
	}
	secure := endpoint.Scheme == "https"
	transport, err := minio.DefaultTransport(secure)
	if err != nil {
		return nil, fmt.Errorf("s3://%s: %w", bucket, err)
	}
	creds := credentials.NewStaticV4(c.AccessKey, c.SecretKey, "")
	if c.AccessKey == "" {
		creds = credentials.NewChainCredentials([]credentials.Provider{
			&credentials.EnvAWS{}, &credentials.FileAWSCredentials{}, &credentials.IAM{Client: &http.Client{Transport: transport}},
		})
	}
	core, err := minio.NewCore(endpoint.Host, &minio.Options{
		Creds: creds, Secure: secure, Region: c.Region, Transport: transport, MaxRetries: attempts,
	})
	if err != nil {
		return nil, fmt.Errorf("s3://%s: %w", bucket, err)
	}
	return &S3{core: *core, bucket: bucket, prefix: prefix}, nil
}

func (s *S3) String() string { return "s3://" + s.bucket + "/" + s.prefix }

// failed says what went wrong, in the terms of [Store].
func (s *S3) failed(doing, name string, err error) error {
	switch answer := minio.ToErrorResponse(err); {
	case answer.StatusCode == http.StatusPreconditionFailed || answer.Code == minio.PreconditionFailed:
		err = ErrExists
	case answer.Code == minio.NoSuchKey:
		err = ErrNotFound
	case answer.Code == minio.NoSuchBucket:
		err = fmt.Errorf("%w; make the bucket, or name another", err)
	case answer.StatusCode == http.StatusForbidden:
		err = fmt.Errorf("%w; check the credentials, and that they allow s3:GetObject, s3:PutObject, s3:DeleteObject and s3:ListBucket", err)
	}
	return fmt.Errorf("object store %v: %s %s: %w", s, doing, name, err)
}

// Put is that of [Store].
func (s *S3) Put(ctx context.Context, name string, content io.ReaderAt, size int64) error {
	if err := checkPut(name, size); err != nil {
		return err
	}
	// One request, so that the condition holds for the whole, and nothing is left of one that was given up.
	opts := minio.PutObjectOptions{ContentType: "application/octet-stream", DisableMultipart: true}
	opts.SetMatchETagExcept("*")
	section := io.NewSectionReader(content, 0, size)
	if _, err := s.core.Client.PutObject(ctx, s.bucket, s.prefix+name, section, size, opts); err != nil {
		return s.failed("put", name, err)
	}
	return nil
}

// Get is that of [Store].
func (s *S3) Get(ctx context.Context, name string, offset int64) (io.ReadCloser, error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	var opts minio.GetObjectOptions
	if offset > 0 {
		if err := opts.SetRange(offset, 0); err != nil {
			return nil, s.failed("get", name, err)
		}
	}
	ctx, cancel := context.WithCancelCause(ctx)
	stalled := time.AfterFunc(stallTimeout, func() { cancel(fmt.Errorf("nothing came for %v", stallTimeout)) })
	body, _, _, err := s.core.GetObject(ctx, s.bucket, s.prefix+name, opts)
	if err != nil {
		stalled.Stop()
		cancel(nil)
		if minio.ToErrorResponse(err).StatusCode == http.StatusRequestedRangeNotSatisfiable {
			return io.NopCloser(strings.NewReader("")), nil
		}
		return nil, s.failed("get", name, err)
	}
	return &body3{store: s, name: name, ctx: ctx, cancel: cancel, body: body, stalled: stalled}, nil
}

// body3 is an object that is being read.
type body3 struct {
	store   *S3
	name    string
	ctx     context.Context
	cancel  context.CancelCauseFunc
	body    io.ReadCloser
	stalled *time.Timer
}

func (b *body3) Read(p []byte) (int, error) {
	b.stalled.Reset(stallTimeout)
	n, err := b.body.Read(p)
	b.stalled.Stop()
	if err != nil && err != io.EOF {
		if cause := context.Cause(b.ctx); cause != nil {
			err = cause
		}
		err = b.store.failed("get", b.name, err)
	}
	return n, err
}

func (b *body3) Close() error {
	b.stalled.Stop()
	b.cancel(nil)
	return b.body.Close()
}

// List is that of [Store].
func (s *S3) List(ctx context.Context, prefix string, fn func(Info) error) error {
	if err := checkPrefix(prefix); err != nil {
		return err
	}
	for o := range s.core.ListObjectsIter(ctx, s.bucket, minio.ListObjectsOptions{Prefix: s.prefix + prefix, Recursive: true}) {
		if o.Err != nil {
			return s.failed("list", prefix, o.Err)
		}
		name := strings.TrimPrefix(o.Key, s.prefix)
		if strings.HasSuffix(name, "/") {
			continue // what some tools make to show a folder
		}
		if err := fn(Info{Name: name, Size: o.Size, Modified: o.LastModified}); err != nil {
			return err
		}
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return nil
}

// Delete is that of [Store].
func (s *S3) Delete(ctx context.Context, name string) error {
	if err := checkName(name); err != nil {
		return err
	}
	if err := s.core.RemoveObject(ctx, s.bucket, s.prefix+name, minio.RemoveObjectOptions{}); err != nil {
		if err = s.failed("delete", name, err); !errors.Is(err, ErrNotFound) {
			return err
		}
	}
	return nil
}
