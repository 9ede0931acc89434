package testparts

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"cassdelta/internal/recording"
)

// OpenRecording opens a recording of this repository by name, from any folder of it.
func OpenRecording(name string) (*recording.Recording, error) {
	dir, err := RecordingsDir()
	if err != nil {
		return nil, err
	}
	dir = filepath.Join(dir, name)
	if !isDir(dir) {
		return nil, fmt.Errorf("there is no recording in %s: make it by 'go run ./cmd/testparts record %s'", dir, name)
	}
	return recording.Open(os.DirFS(dir))
}

// RecordingsDir is the folder of the repository that holds the recordings. The working folder must be in the
// repository, as it is for tests.
func RecordingsDir() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return filepath.Join(dir, "testdata", "recordings"), nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", errors.New("the working folder is not in the repository: there is no go.mod above it")
		}
		dir = parent
	}
}
