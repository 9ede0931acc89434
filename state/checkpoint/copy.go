package checkpoint

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"

	"cassdelta/state/files"
)

// Ends of the names of directories that are there for a moment, or that a crash left.
const (
	// copying is that of a copy that may not be complete, and replaced of what it took the place of.
	copying  = ".copying"
	replaced = ".replaced"
)

// Copy is a checkpoint on disk beside the directory that it is to take the place of. It is for one goroutine.
type Copy struct {
	dir string
	// beside is what the names of its own directories begin with. No two copies have the same, since one may still be given up when another is made.
	beside string
	disk   vfs.FS
	// unsynced says that a crash may bring back the directory that was replaced, so it has to stay whole.
	unsynced bool
}

// Copy copies a checkpoint to where it can be put in the place of the directory dir, which need not exist, and which others may open, alter and
// remove meanwhile. Tables that dir has too are linked, or copied where there are no hard links; the rest is fetched. Each is
// compared with its checksum. After an error there is no copy.
func (r *Repository) Copy(ctx context.Context, e *Entry, dir string, disk vfs.FS, f Filling) (*Copy, error) {
	c := &Copy{dir: dir, beside: fmt.Sprintf("%s.%d", dir, r.copies.Add(1)), disk: disk}
	err := c.clear()
	if err == nil {
		err = files.MakeDirectory(c.beside+copying, disk)
	}
	if err == nil {
		err = c.link(ctx, e, &f)
	}
	if err == nil {
		err = r.fill(ctx, e, c.beside+copying, disk, &f)
	}
	if err != nil {
		return nil, fmt.Errorf("copy %v from %v: %w", e, r, errors.Join(err, c.clear()))
	}
	return c, nil
}

// link takes over tables of the directory. What they hold is looked at afterwards: by then each is a file of the copy, whatever
// becomes of the directory.
func (c *Copy) link(ctx context.Context, e *Entry, f *Filling) error {
	if e.Err != nil {
		return nil // fill says so
	}
	for i := range e.Manifest.Files {
		of := &e.Manifest.Files[i]
		from := c.disk.PathJoin(c.dir, of.Name)
		if info, err := c.disk.Stat(from); err != nil || info.Size() != of.Size || !tableFile.MatchString(of.Name) {
			continue
		}
		if err := f.before(ctx); err != nil {
			return err
		}
		if err := vfs.LinkOrCopy(c.disk, from, c.disk.PathJoin(c.beside+copying, of.Name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// Swap puts the copy in the place of the directory, which nobody has open. A crash leaves the one, or the other, or neither. What was
// there is removed by Close.
func (c *Copy) Swap() error {
	err := c.disk.Rename(c.dir, c.beside+replaced)
	hadOne := err == nil
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := c.disk.Rename(c.beside+copying, c.dir); err != nil {
		if hadOne {
			err = errors.Join(err, c.disk.Rename(c.beside+replaced, c.dir))
		}
		return err
	}
	err = files.SyncDirectory(c.disk.PathDir(c.dir), c.disk)
	c.unsynced = err != nil
	return err
}

// Close removes what is left: the copy, unless it was put in its place, and what it replaced.
func (c *Copy) Close() error {
	if c.unsynced {
		return nil
	}
	return c.clear()
}

func (c *Copy) clear() error {
	return errors.Join(c.disk.RemoveAll(c.beside+copying), c.disk.RemoveAll(c.beside+replaced))
}

// RemoveLeftovers removes what crashes left of restores and copies of the directories in parent, which need not exist.
func RemoveLeftovers(parent string, disk vfs.FS) error {
	names, err := disk.List(parent)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, name := range names {
		for _, end := range []string{restoring, copying, replaced} {
			if strings.HasSuffix(name, end) {
				err = errors.Join(err, disk.RemoveAll(disk.PathJoin(parent, name)))
			}
		}
	}
	return err
}
