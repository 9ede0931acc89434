package state

import (
	"fmt"
	"regexp"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

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
