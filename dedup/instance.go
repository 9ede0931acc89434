package dedup

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"regexp"
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// Files of a state directory, beside one directory per raw topic.
const (
	lockFile     = "LOCK"
	instanceFile = "instance"
)

var instancePattern = regexp.MustCompile(`^[A-Z2-7]{26}$`)

// openInstance locks the state directory, which it makes if there is none, and returns the directory's id: a random one
// that is stored in it. Transactional ids and group members are named after it, so that whoever goes on with the state
// ends what its predecessor left open in Kafka, and is given the same partitions.
func openInstance(files vfs.FS, dir string) (id string, lock io.Closer, err error) {
	if err := files.MkdirAll(dir, 0o755); err != nil {
		return "", nil, fmt.Errorf("state-directory: %w", err)
	}
	lock, err = files.Lock(files.PathJoin(dir, lockFile))
	if err != nil {
		return "", nil, fmt.Errorf("state-directory %s cannot be locked: %w; another process uses it: stop that, or give each a directory of its own", dir, err)
	}
	id, err = readInstance(files, dir)
	if errors.Is(err, fs.ErrNotExist) {
		id = rand.Text()
		err = writeInstance(files, dir, id)
	}
	if err != nil {
		return "", nil, errors.Join(fmt.Errorf("state-directory %s: %w", dir, err), lock.Close())
	}
	return id, lock, nil
}

func readInstance(files vfs.FS, dir string) (string, error) {
	f, err := files.Open(files.PathJoin(dir, instanceFile))
	if err != nil {
		return "", err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, 100))
	if err != nil {
		return "", err
	}
	id := strings.TrimSpace(string(text))
	if !instancePattern.MatchString(id) {
		return "", fmt.Errorf("the file %s holds %q, expected 26 letters and digits; remove the file: a new id is made, and the state stays of use", instanceFile, id)
	}
	return id, nil
}

// writeInstance stores the id of a directory: the file is complete under its name or not there.
func writeInstance(files vfs.FS, dir, id string) error {
	temporary := files.PathJoin(dir, instanceFile+".new")
	f, err := files.Create(temporary, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	_, err = f.Write([]byte(id + "\n"))
	if err == nil {
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := files.Rename(temporary, files.PathJoin(dir, instanceFile)); err != nil {
		return err
	}
	d, err := files.OpenDir(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
