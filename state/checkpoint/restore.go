package checkpoint

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"cassdelta/state/files"
	"cassdelta/state/objects"
)

const (
	// readAttempts is how often the rest of an object is asked for when its bytes end early.
	readAttempts = 5
	readPause    = time.Second
	// restoring is the end of the name of a directory that is not complete.
	restoring = ".restoring"
)

// Progress counts the bytes of the files of a checkpoint meanwhile. The zero value is ready.
type Progress struct {
	kept, fetched atomic.Int64
}

// Kept are the bytes of files that were there, and Fetched those that were not, as far as they have come.
func (p *Progress) Kept() int64    { return p.kept.Load() }
func (p *Progress) Fetched() int64 { return p.fetched.Load() }

func (p *Progress) keep(n int64) {
	if p != nil {
		p.kept.Add(n)
	}
}

func (p *Progress) fetch(n int) {
	if p != nil {
		p.fetched.Add(int64(n))
	}
}

// Restore makes the directory dir of a checkpoint, in place of what it holds, if anything. Tables in it that the checkpoint has too are kept, the
// rest is fetched; each is compared with its checksum. Until all are on disk the directory is not there, and neither is it after an error; what an
// attempt before left is removed. Done may be nil.
func (r *Repository) Restore(ctx context.Context, e *Entry, dir string, disk vfs.FS, done *Progress) error {
	temporary := dir + restoring
	if err := disk.RemoveAll(temporary); err != nil {
		return err
	}
	err := disk.Rename(dir, temporary)
	if errors.Is(err, fs.ErrNotExist) {
		err = files.MakeDirectory(temporary, disk)
	} else if err == nil {
		// Before anything in it is altered.
		err = files.SyncDirectory(disk.PathDir(dir), disk)
	}
	if err == nil {
		err = r.fill(ctx, e, temporary, disk, &Filling{Done: done})
	}
	if err == nil {
		err = disk.Rename(temporary, dir)
	}
	if err == nil {
		err = files.SyncDirectory(disk.PathDir(dir), disk)
	}
	if err != nil {
		return fmt.Errorf("restore %v from %v: %w", e, r, errors.Join(err, disk.RemoveAll(temporary)))
	}
	return nil
}

// Verify reads all files of a checkpoint and compares them with their checksums.
func (r *Repository) Verify(ctx context.Context, e *Entry, done *Progress) error {
	if e.Err != nil {
		return e.Err
	}
	for i := range e.Manifest.Files {
		if err := r.read(ctx, e.Partition, &e.Manifest.Files[i], io.Discard, done); err != nil {
			return err
		}
	}
	return nil
}

// read copies a file to w, and fails if it is not what the manifest says.
func (r *Repository) read(ctx context.Context, partition int32, f *File, w io.Writer, done *Progress) error {
	sums := sha256.New()
	if f.Object == "" {
		if _, err := copyCounted(io.MultiWriter(sums, w), bytes.NewReader(f.Content), done); err != nil {
			return err
		}
		return f.compare(sums, f.Size)
	}
	name := r.partition(partition) + filesFolder + f.Object
	var at int64
	for attempt := 1; ; attempt++ {
		n, err := r.readFrom(ctx, name, at, io.MultiWriter(sums, w), done)
		at += n
		if err == nil {
			return f.compare(sums, at)
		}
		if errors.Is(err, objects.ErrNotFound) {
			return fmt.Errorf("%w: %s is gone: %w", ErrUnusable, filesFolder+f.Object, err)
		}
		if ctx.Err() != nil || attempt == readAttempts {
			return err
		}
		select {
		case <-time.After(time.Duration(attempt) * readPause):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (r *Repository) readFrom(ctx context.Context, name string, at int64, w io.Writer, done *Progress) (int64, error) {
	body, err := r.store.Get(ctx, name, at)
	if err != nil {
		return 0, err
	}
	defer body.Close()
	return copyCounted(w, body, done)
}

// copyCounted copies, and counts the bytes as fetched.
func copyCounted(w io.Writer, from io.Reader, done *Progress) (n int64, err error) {
	buf := make([]byte, copyBuffer)
	for {
		read, err := from.Read(buf)
		if _, err := w.Write(buf[:read]); err != nil {
			return n, err
		}
		n += int64(read)
		done.fetch(read)
		if err == io.EOF {
			return n, nil
		}
		if err != nil {
			return n, err
		}
	}
}

// compare holds what was read to the manifest.
func (f *File) compare(sums hash.Hash, size int64) error {
	if got := hex.EncodeToString(sums.Sum(nil)); got != f.SHA256 || size != f.Size {
		return fmt.Errorf("%w: %s (object %q) has %d bytes with the SHA-256 %s, expected %d bytes with %s", ErrUnusable, f.Name, f.Object, size, got, f.Size, f.SHA256)
	}
	return nil
}
