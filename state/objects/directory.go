package objects

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"cassdelta/state/files"
)

// Directory keeps objects as files. The file system must have hard links: link(2) is what makes a name taken once, on a
// disk and on NFS.
type Directory struct {
	root string
	fs   vfs.FS
}

const (
	// unfinished is where files are written before they get their name.
	unfinished = ".unfinished"
	// abandonedAfter is when a file there is taken to be of a process that ended.
	abandonedAfter = 24 * time.Hour
	copyBuffer     = 256 << 10
)

// NewDirectory makes a store in the directory root, which is made if it is not there.
func NewDirectory(root string, disk vfs.FS) (*Directory, error) {
	if root == "" {
		return nil, errors.New("the directory of the store has no name")
	}
	d := &Directory{root: root, fs: disk}
	if err := files.MakeDirectory(disk.PathJoin(root, unfinished), disk); err != nil {
		return nil, d.failed("make", unfinished, err)
	}
	return d, d.clean()
}

// clean removes what processes left that ended while they put an object.
func (d *Directory) clean() error {
	dir := d.fs.PathJoin(d.root, unfinished)
	names, err := d.fs.List(dir)
	if err != nil {
		return d.failed("list", unfinished, err)
	}
	for _, name := range names {
		path := d.fs.PathJoin(dir, name)
		info, err := d.fs.Stat(path)
		if err == nil && time.Since(info.ModTime()) > abandonedAfter {
			err = d.fs.Remove(path)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return d.failed("remove", name, err)
		}
	}
	return nil
}

func (d *Directory) String() string { return d.root }

func (d *Directory) failed(doing, name string, err error) error {
	return fmt.Errorf("object store %s: %s %s: %w", d.root, doing, name, err)
}

func (d *Directory) path(name string) string {
	return d.fs.PathJoin(append([]string{d.root}, strings.Split(name, "/")...)...)
}

// Put is that of [Store].
func (d *Directory) Put(ctx context.Context, name string, content io.ReaderAt, size int64) error {
	if err := checkPut(name, size); err != nil {
		return err
	}
	path := d.path(name)
	temporary := d.fs.PathJoin(d.root, unfinished, rand.Text())
	err := d.write(ctx, temporary, content, size)
	if err == nil {
		err = files.MakeDirectory(d.fs.PathDir(path), d.fs)
	}
	if err == nil {
		err = d.fs.Link(temporary, path)
		if errors.Is(err, fs.ErrExist) {
			err = ErrExists
		}
	}
	if err == nil {
		err = files.SyncDirectory(d.fs.PathDir(path), d.fs)
	}
	if removed := d.fs.Remove(temporary); err == nil && !errors.Is(removed, fs.ErrNotExist) {
		err = removed
	}
	if err != nil {
		return d.failed("put", name, err)
	}
	return nil
}

func (d *Directory) write(ctx context.Context, path string, content io.ReaderAt, size int64) error {
	f, err := d.fs.Create(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	buf := make([]byte, min(copyBuffer, size))
	n, err := io.CopyBuffer(writerOnly{f}, &contextReader{ctx, io.NewSectionReader(content, 0, size)}, buf)
	if err == nil && n != size {
		err = fmt.Errorf("expected %d bytes, found %d: %w", size, n, io.ErrUnexpectedEOF)
	}
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// writerOnly hides other methods, so that the buffer is used.
type writerOnly struct{ io.Writer }

// contextReader ends when its context does.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (r *contextReader) Read(p []byte) (int, error) {
	if r.ctx.Err() != nil {
		return 0, context.Cause(r.ctx)
	}
	return r.r.Read(p)
}

// Get is that of [Store].
func (d *Directory) Get(ctx context.Context, name string, offset int64) (io.ReadCloser, error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	f, err := d.fs.Open(d.path(name))
	if errors.Is(err, fs.ErrNotExist) {
		if err = d.there(); err == nil {
			err = ErrNotFound
		}
	}
	if err != nil {
		return nil, d.failed("get", name, err)
	}
	info, err := f.Stat()
	if err != nil {
		return nil, errors.Join(d.failed("get", name, err), f.Close())
	}
	section := io.NewSectionReader(f, offset, max(0, info.Size()-offset))
	return struct {
		io.Reader
		io.Closer
	}{&contextReader{ctx, section}, f}, nil
}

// List is that of [Store].
func (d *Directory) List(ctx context.Context, prefix string, fn func(Info) error) error {
	if err := checkPrefix(prefix); err != nil {
		return err
	}
	if err := d.there(); err != nil {
		return d.failed("list", prefix, err)
	}
	return d.list(ctx, prefix, fn)
}

// there is an error if the directory is gone: a disk that is not mounted any more is no store without objects.
func (d *Directory) there() error {
	if _, err := d.fs.Stat(d.fs.PathJoin(d.root, unfinished)); err != nil {
		return fmt.Errorf("the directory of the store is gone, or what was mounted there: %w", err)
	}
	return nil
}

func (d *Directory) list(ctx context.Context, prefix string, fn func(Info) error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	names, err := d.fs.List(d.path(strings.TrimSuffix(prefix, "/")))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return d.failed("list", prefix, err)
	}
	for _, name := range names {
		if prefix == "" && name == unfinished {
			continue
		}
		info, err := d.fs.Stat(d.path(prefix + name))
		switch {
		case errors.Is(err, os.ErrNotExist):
			continue // it was deleted meanwhile
		case err != nil:
			return d.failed("list", prefix+name, err)
		case info.IsDir():
			err = d.list(ctx, prefix+name+"/", fn)
		default:
			err = fn(Info{Name: prefix + name, Size: info.Size(), Modified: info.ModTime()})
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// Delete is that of [Store].
func (d *Directory) Delete(_ context.Context, name string) error {
	if err := checkName(name); err != nil {
		return err
	}
	if err := d.fs.Remove(d.path(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return d.failed("delete", name, err)
	}
	return nil
}
