// Package files does with directories what a crash must not undo.
package files

import (
	"errors"
	"io/fs"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// MakeDirectory makes a directory and what is missing above it, so that a crash does not lose them.
func MakeDirectory(dir string, disk vfs.FS) error {
	var parents []string
	for path := dir; ; path = parents[len(parents)-1] {
		if _, err := disk.Stat(path); err == nil {
			break
		} else if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		parent := disk.PathDir(path)
		if parent == path {
			break
		}
		parents = append(parents, parent)
	}
	if len(parents) == 0 {
		return nil
	}
	if err := disk.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for _, parent := range parents {
		if err := SyncDirectory(parent, disk); err != nil {
			return err
		}
	}
	return nil
}

// SyncDirectory puts the names in a directory on disk.
func SyncDirectory(dir string, disk vfs.FS) error {
	d, err := disk.OpenDir(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
