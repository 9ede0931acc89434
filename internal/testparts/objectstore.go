package testparts

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
)

const (
	objectStorePort = 9000
	// objectStoreVersion is that of versitygw, which is built by the Go command.
	objectStoreVersion = "v1.8.0"
)

// ObjectStoreOptions describe an object store.
type ObjectStoreOptions struct {
	// Dir holds everything that the store writes; it is created.
	Dir string
}

// ObjectStore is a server with the API of S3, versitygw, that keeps objects as files.
type ObjectStore struct {
	// URL is its endpoint. AccessKey and SecretKey are its only credentials.
	URL                  string
	AccessKey, SecretKey string
	LogPath              string

	dir         string
	argv        []string
	proc        *process
	net         *network
	releaseOnce sync.Once
}

// StartObjectStore builds the server if this machine has not yet, which takes some CPU minutes, starts it without any bucket, and returns when it
// answers. After an error nothing is left running.
func StartObjectStore(ctx context.Context, opts ObjectStoreOptions) (*ObjectStore, error) {
	if opts.Dir == "" {
		return nil, errors.New("no folder is given for the object store")
	}
	dir, err := filepath.Abs(opts.Dir)
	if err != nil {
		return nil, err
	}
	binary, err := buildObjectStore(ctx)
	if err != nil {
		return nil, err
	}
	data := filepath.Join(dir, "data")
	if err := os.MkdirAll(data, 0o755); err != nil {
		return nil, err
	}
	nw, err := reserveNetwork(1, objectStorePort)
	if err != nil {
		return nil, err
	}
	address := nw.host(1) + ":" + strconv.Itoa(objectStorePort)
	s := &ObjectStore{
		URL: "http://" + address, AccessKey: "test", SecretKey: rand.Text(), LogPath: filepath.Join(dir, "logs", "objectstore.log"),
		dir: dir, net: nw, argv: []string{binary, "--port", address, "--quiet", "posix", data},
	}
	if err := s.Start(ctx); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// buildObjectStore returns the path of the server.
func buildObjectStore(ctx context.Context) (string, error) {
	cache, err := CacheDir()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(cache, "versitygw-"+objectStoreVersion)
	binary := filepath.Join(dir, "versitygw")
	if _, err := os.Stat(binary); err == nil {
		return binary, nil
	}
	cmd := exec.CommandContext(ctx, "go", "install", "github.com/versity/versitygw/cmd/versitygw@"+objectStoreVersion)
	cmd.Dir = os.TempDir() // out of this module
	cmd.Env = append(os.Environ(), "GOBIN="+dir)
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the object store: %w: %s", err, out)
	}
	return binary, nil
}

// Start starts the store again after [ObjectStore.Kill], at the same address and with what it had.
func (s *ObjectStore) Start(ctx context.Context) error {
	if s.proc.running() {
		return errors.New("start object store: it is running")
	}
	var err error
	s.proc, err = startProcess("object store", s.dir, s.LogPath, s.argv, "ROOT_ACCESS_KEY="+s.AccessKey, "ROOT_SECRET_KEY="+s.SecretKey)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	return s.proc.await(ctx, "ready", func(ctx context.Context) error {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, s.URL, nil)
		if err != nil {
			return err
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			return err
		}
		return response.Body.Close() // it refuses who has no credentials, and that is an answer
	})
}

// Kill ends the store by SIGKILL.
func (s *ObjectStore) Kill() { s.proc.kill() }

// Close kills the store, if it is running, and gives its address up.
func (s *ObjectStore) Close() {
	s.Kill()
	s.releaseOnce.Do(s.net.release)
}
