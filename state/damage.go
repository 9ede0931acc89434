package state

import (
	"errors"
	"fmt"
	"syscall"

	"github.com/cockroachdb/pebble/v2"
)

// explained is an error of Pebble for who reads it: of a damaged file the path, and not the name of what carries it; of a full disk what to do.
func explained(err error) error {
	if info := pebble.ExtractDataCorruptionInfo(err); info != nil {
		return &damage{info.Path, info.Details, err}
	}
	if errors.Is(err, syscall.ENOSPC) {
		return fmt.Errorf("%w; make room there, and start again", err)
	}
	return err
}

// damage is of a file that the disk has damaged.
type damage struct {
	path    string
	details error
	err     error
}

func (d *damage) Error() string { return fmt.Sprintf("%s is damaged: %v", d.path, d.details) }

func (d *damage) Unwrap() error { return d.err }
