package agent

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"cassdelta/schema"
)

const (
	positionFile    = "position.json"
	lockFile        = "lock"
	positionVersion = 1
)

// stored is the content of the position file; the package comment describes it.
type stored struct {
	Version  int     `json:"version"`
	HostID   string  `json:"host_id"`
	Segment  int64   `json:"segment"`
	Offset   int64   `json:"offset"`
	Finished []int64 `json:"finished,omitempty"`
	Damaged  []int64 `json:"damaged,omitempty"`
}

// state is a locked state directory.
type state struct {
	dir  string
	host schema.UUID
	lock *os.File
	// stored is what the position file held when it was opened.
	stored stored
}

// openState locks the directory, which it creates if it is not there, and reads the position file.
func openState(dir string, host schema.UUID) (*state, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("state-directory: %w", err)
	}
	lock, err := os.OpenFile(filepath.Join(dir, lockFile), os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, fmt.Errorf("state-directory: %w", err)
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		lock.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("another agent is running with the state directory %s: stop it, or give each agent a state-directory of its own", dir)
		}
		return nil, fmt.Errorf("lock %s: %w", filepath.Join(dir, lockFile), err)
	}
	s := &state{dir: dir, host: host, lock: lock}
	if s.stored, err = s.load(); err != nil {
		lock.Close()
		return nil, err
	}
	return s, nil
}

// load reads the position file; one that is not there is the position before everything.
func (s *state) load() (stored, error) {
	path := filepath.Join(s.dir, positionFile)
	text, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return stored{Version: positionVersion, HostID: s.host.String()}, nil
	}
	if err != nil {
		return stored{}, fmt.Errorf("position file: %w", err)
	}
	const again = "then everything in cdc_raw is read again, and repeats do no harm"
	var p stored
	if err := json.Unmarshal(text, &p); err != nil {
		return stored{}, fmt.Errorf("%s is not a position file (%w): restore it, or remove it; %s", path, err, again)
	}
	if p.Version != positionVersion {
		return stored{}, fmt.Errorf("%s: expected version %d, found %d: use the version of this program that wrote it, or remove it; %s",
			path, positionVersion, p.Version, again)
	}
	if p.HostID != s.host.String() {
		return stored{}, fmt.Errorf("%s is the position of the node with host id %s, and this node is %s: each node's agent needs a state-directory of its own; "+
			"if this node has replaced the other, remove the file; %s", path, p.HostID, s.host, again)
	}
	if p.Segment < 0 || p.Offset < 0 || p.Segment == 0 && p.Offset != 0 {
		return stored{}, fmt.Errorf("%s: segment %d, offset %d is no position: restore it, or remove it; %s", path, p.Segment, p.Offset, again)
	}
	return p, nil
}

// store replaces the position file. When it returns nil the new one survives a power failure.
func (s *state) store(p stored) error {
	var text bytes.Buffer
	enc := json.NewEncoder(&text)
	if err := enc.Encode(p); err != nil {
		return fmt.Errorf("position file: %w", err)
	}
	path := filepath.Join(s.dir, positionFile)
	if err := replaceFile(path, text.Bytes()); err != nil {
		return fmt.Errorf("position file: %w; the agent needs a state-directory that it can write to", err)
	}
	return nil
}

func replaceFile(path string, content []byte) error {
	f, err := os.Create(path + ".new")
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err == nil {
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := os.Rename(path+".new", path); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}

// close gives the directory back.
func (s *state) close() { s.lock.Close() }
