package state

import (
	"errors"
	"fmt"
	"os"
	"regexp"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// makeDirectory makes a directory and what is missing above it, so that a crash does not lose it.
func makeDirectory(dir string, fs vfs.FS) error {
	var parents []string
	for path := dir; ; path = parents[len(parents)-1] {
		if _, err := fs.Stat(path); err == nil {
			break
		} else if !errors.Is(err, os.ErrNotExist) {
			return err
		}
		parent := fs.PathDir(path)
		if parent == path {
			break
		}
		parents = append(parents, parent)
	}
	if err := fs.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for _, parent := range parents {
		d, err := fs.OpenDir(parent)
		if err != nil {
			return err
		}
		if err := errors.Join(d.Sync(), d.Close()); err != nil {
			return err
		}
	}
	return nil
}

// pebbleFile matches what Pebble leaves in a directory before there is a store in it.
var pebbleFile = regexp.MustCompile(`^(LOCK|(MANIFEST|OPTIONS)-\d+|marker\..*|temporary\..*|\d+\.(log|sst|blob))$`)

// checkDirectory refuses a directory that holds no store but other files.
func checkDirectory(dir string, fs vfs.FS) error {
	store, err := pebble.Peek(dir, fs)
	if err != nil {
		return fmt.Errorf("state: looking at %s: %w", dir, err)
	}
	if store.Exists {
		return nil
	}
	names, err := fs.List(dir)
	if err != nil {
		return fmt.Errorf("state: looking at %s: %w", dir, err)
	}
	for _, name := range names {
		if !pebbleFile.MatchString(name) {
			return fmt.Errorf("state: %s holds no store, but %q: expected an empty directory, or none; "+
				"give the state a directory of its own", dir, name)
		}
	}
	return nil
}
