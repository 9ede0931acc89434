package checkpoint

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"golang.org/x/sync/errgroup"

	"cassdelta/state/files"
)

// Filling says how the files of a checkpoint are brought into a directory.
type Filling struct {
	// Checked has the files that need not be read to know what they hold. Nil: there are none.
	Checked *Checked
	// Parallel is how many files are fetched at once. 0 is 4.
	Parallel int
	// Before is called before a file is read or fetched, and may wait. An error ends all. Nil does nothing.
	Before func(context.Context) error
	// Room is called with the bytes that are going to be fetched. An error ends all. Nil does nothing.
	Room func(bytes int64) error
	// Done may be nil.
	Done *Progress
}

func (f *Filling) before(ctx context.Context) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if f.Before == nil {
		return nil
	}
	return f.Before(ctx)
}

// Checked remembers which files were compared with their checksum, so that they are not read again while their size and the time of
// their last change stay the same. The zero value remembers none. Its methods may be called from any goroutine, and do nothing on nil.
type Checked struct {
	mu    sync.Mutex
	files map[string]checkedFile // by name
}

type checkedFile struct {
	size    int64
	changed time.Time
	sha256  string
}

func (c *Checked) has(name string, f checkedFile) bool {
	if c == nil {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	known, ok := c.files[name]
	return ok && known.size == f.size && known.sha256 == f.sha256 && known.changed.Equal(f.changed)
}

func (c *Checked) add(name string, f checkedFile) {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.files == nil {
		c.files = map[string]checkedFile{}
	}
	c.files[name] = f
}

// only forgets all files but those of a checkpoint.
func (c *Checked) only(m *Manifest) {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	kept := make(map[string]checkedFile, len(m.Files))
	for i := range m.Files {
		if f, ok := c.files[m.Files[i].Name]; ok {
			kept[m.Files[i].Name] = f
		}
	}
	c.files = kept
}

// fill makes the directory dir, which exists, hold the files of a checkpoint and nothing else. Of what is there, tables stay that are the
// checkpoint's; whatever else Pebble may write to again, so it is made anew.
func (r *Repository) fill(ctx context.Context, e *Entry, dir string, disk vfs.FS, f *Filling) error {
	if e.Err != nil {
		return fmt.Errorf("%v: %w", e, e.Err)
	}
	names, err := disk.List(dir)
	if err != nil {
		return err
	}
	there := make(map[string]bool, len(names))
	for _, name := range names {
		there[name] = true
	}
	var missing []*File
	var room int64
	for i := range e.Manifest.Files {
		file := &e.Manifest.Files[i]
		if there[file.Name] && tableFile.MatchString(file.Name) {
			if err := f.before(ctx); err != nil {
				return err
			}
			same, err := f.same(disk.PathJoin(dir, file.Name), file, disk)
			if err != nil {
				return err
			}
			if same {
				delete(there, file.Name)
				f.Done.keep(file.Size)
				continue
			}
		}
		missing = append(missing, file)
		room += file.Size
	}
	for _, name := range names {
		if there[name] {
			if err := disk.RemoveAll(disk.PathJoin(dir, name)); err != nil {
				return err
			}
		}
	}
	if f.Room != nil {
		if err := f.Room(room); err != nil {
			return err
		}
	}
	if err := r.fetch(ctx, e.Partition, missing, dir, disk, f); err != nil {
		return err
	}
	f.Checked.only(e.Manifest)
	return files.SyncDirectory(dir, disk)
}

// same reports whether a file is that of the manifest. If so it is on disk.
func (f *Filling) same(path string, of *File, disk vfs.FS) (bool, error) {
	file, err := disk.Open(path)
	if err != nil {
		return false, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil || info.Size() != of.Size {
		return false, err
	}
	is := checkedFile{of.Size, info.ModTime(), of.SHA256}
	if f.Checked.has(of.Name, is) {
		return true, nil
	}
	sum := sha256.New()
	n, err := io.CopyBuffer(sum, io.NewSectionReader(file, 0, of.Size), make([]byte, copyBuffer))
	if err != nil || n != of.Size || hex.EncodeToString(sum.Sum(nil)) != of.SHA256 {
		return false, nil // what cannot be read is fetched
	}
	if err := file.Sync(); err != nil {
		return false, err
	}
	f.Checked.add(of.Name, is)
	return true, nil
}

// fetch brings files that are not there.
func (r *Repository) fetch(ctx context.Context, partition int32, missing []*File, dir string, disk vfs.FS, f *Filling) error {
	group, ctx := errgroup.WithContext(ctx)
	limit := f.Parallel
	if limit == 0 {
		limit = parallel
	}
	group.SetLimit(limit)
	for _, of := range missing {
		group.Go(func() error {
			if err := f.before(ctx); err != nil {
				return err
			}
			file, err := disk.Create(disk.PathJoin(dir, of.Name), vfs.WriteCategoryUnspecified)
			if err != nil {
				return err
			}
			err = r.read(ctx, partition, of, file, f.Done)
			if err == nil {
				err = file.Sync()
			}
			if err == nil {
				err = f.fetched(of, file)
			}
			return errors.Join(err, file.Close())
		})
	}
	return group.Wait()
}

// fetched remembers what a table holds.
func (f *Filling) fetched(of *File, file vfs.File) error {
	if f.Checked == nil || !tableFile.MatchString(of.Name) {
		return nil
	}
	info, err := file.Stat()
	if err == nil {
		f.Checked.add(of.Name, checkedFile{of.Size, info.ModTime(), of.SHA256})
	}
	return err
}
