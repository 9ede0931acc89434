// Package objects keeps objects in a directory or in an S3-compatible store. An object is a name and bytes, at least one: it is
// there as a whole or not at all, and is never altered.
//
// Names are paths with slashes, of letters, digits and - . _ = @. Other objects of the same bucket or directory do no harm as
// long as they are not under the same prefix.
package objects

import (
	"context"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

var (
	// ErrExists is returned, wrapped, for an object that is to be put under a name that is taken.
	ErrExists = errors.New("an object of that name exists")
	// ErrNotFound is returned, wrapped, for an object that is not there.
	ErrNotFound = errors.New("no such object")
)

// Store holds objects. Its methods may be called from any goroutine.
type Store interface {
	// Put stores the size bytes of content under name, unless that name is taken: then it returns [ErrExists] and
	// changes nothing. Of several that put the same name at once one succeeds. After an error other than ErrExists the object
	// may be there or not, but not a part of it; a caller that tries again and is told that it exists may have put it itself.
	Put(ctx context.Context, name string, content io.ReaderAt, size int64) error
	// Get opens an object from offset on; behind its end there is nothing to read. The reader fails when nothing comes
	// for a minute.
	Get(ctx context.Context, name string, offset int64) (io.ReadCloser, error)
	// List calls fn for each object whose name begins with prefix, which is empty or ends with a slash, in no order,
	// until fn returns an error, which is returned.
	List(ctx context.Context, prefix string, fn func(Info) error) error
	// Delete removes an object. It is no error if there is none.
	Delete(ctx context.Context, name string) error
	// String says where the objects are, without credentials.
	String() string
}

// Info is what a listing says of an object.
type Info struct {
	Name string
	Size int64
	// Modified is when it was put, by the clock of the store.
	Modified time.Time
}

// Config says where a store is.
type Config struct {
	// URL is s3://BUCKET/PREFIX, or the path of a directory.
	URL string
	S3  S3Config
	// FS is the file system of a directory; nil is the machine's.
	FS vfs.FS
	// Existing says that a directory is to be there, and something in it: it is not made.
	Existing bool
}

// schemePattern is the start of what is meant as an address. A letter alone is a drive of Windows.
var schemePattern = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9+.-]+:`)

// Open makes a store. It does not connect; a directory is made if it is not there, unless it is to be.
func Open(c Config) (Store, error) {
	if rest, ok := strings.CutPrefix(c.URL, "s3://"); ok {
		bucket, prefix, _ := strings.Cut(rest, "/")
		return NewS3(bucket, prefix, c.S3)
	}
	if schemePattern.MatchString(c.URL) {
		return nil, fmt.Errorf("the store %s is not known: expected s3://BUCKET/PREFIX, or the path of a directory, before which ./ is put if it has a colon", c.URL)
	}
	if c.FS == nil {
		c.FS = vfs.Default
	}
	if c.Existing && c.URL != "" {
		_, err := c.FS.Stat(c.URL)
		var names []string
		if err == nil {
			names, err = c.FS.List(c.URL)
		}
		if err == nil && len(names) == 0 {
			err = fmt.Errorf("%s is empty: maybe what belongs there is not mounted", c.URL)
		}
		if err != nil {
			return nil, fmt.Errorf("expected the directory of a store: %w; give the one that the workers have", err)
		}
	}
	return NewDirectory(c.URL, c.FS)
}

var (
	namePattern   = regexp.MustCompile(`^[A-Za-z0-9._=@-]+(/[A-Za-z0-9._=@-]+)*$`)
	prefixPattern = regexp.MustCompile(`^([A-Za-z0-9._=@-]+/)*$`)
)

// checkPut refuses what cannot be put.
func checkPut(name string, size int64) error {
	if size < 1 {
		return fmt.Errorf("the object %q has %d bytes, expected at least one", name, size)
	}
	return checkName(name)
}

// checkName refuses what is no name, and what would leave the directory.
func checkName(name string) error {
	if !namePattern.MatchString(name) {
		return fmt.Errorf("the name %q of an object: expected letters, digits and - . _ = @, with slashes between", name)
	}
	return checkParts(name)
}

func checkPrefix(prefix string) error {
	if !prefixPattern.MatchString(prefix) {
		return fmt.Errorf("the prefix %q of objects: expected names that end with a slash", prefix)
	}
	return checkParts(prefix)
}

func checkParts(name string) error {
	for part := range strings.SplitSeq(name, "/") {
		if part == "." || part == ".." {
			return fmt.Errorf("the name %q of an object: expected no part that is %s", name, part)
		}
	}
	return nil
}

// ReadAll reads a whole object that is expected to have at most limit bytes.
func ReadAll(ctx context.Context, s Store, name string, limit int64) ([]byte, error) {
	r, err := s.Get(ctx, name, 0)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	content, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		return nil, fmt.Errorf("%v: read %s: %w", s, name, err)
	}
	if int64(len(content)) > limit {
		return nil, fmt.Errorf("%v: %s has more than %d bytes", s, name, limit)
	}
	return content, nil
}
