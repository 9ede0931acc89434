package differential

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"cassdelta/commitlog"
)

// watchEvery is the time between two looks at a node's segments.
const watchEvery = 20 * time.Millisecond

// anewEvery is the number of looks for each that begins anew, which reads all of a segment again.
const anewEvery = 10

// Watched is what reading segments while their node wrote them has shown.
type Watched struct {
	// Looks counts the times that a segment was read, Segments those that were compared at their end, and Mutations what was
	// read of them before that.
	Looks, Segments, Mutations int
}

// watcher reads the segments of a node while it writes them, up to the last valid sync marker: each by a reader that goes on
// where it ended, and by one that begins anew. Whatever they find must be the beginning of what the finished segment holds.
type watcher struct {
	dir      string
	keys     commitlog.Keys
	seed     maphash.Seed
	segments map[string]*watchedSegment
	looks    int
}

// watchedSegment is one file.
type watchedSegment struct {
	path   string
	file   *os.File
	reader *commitlog.Reader // goes on where it ended
	looks  int
	// goesOn is what the reader found so far, longest the most that was ever found.
	goesOn, longest []seenMutation
	// completed says that the index said so before the last look.
	completed bool
}

// seenMutation stands for a mutation.
type seenMutation struct {
	offset int64
	hash   uint64
}

func newWatcher(dir string, keys commitlog.Keys) *watcher {
	return &watcher{dir: dir, keys: keys, seed: maphash.MakeSeed(), segments: map[string]*watchedSegment{}}
}

// run looks until the context is done. Its error is what no reader of a segment should ever find.
func (w *watcher) run(ctx context.Context) error {
	ticker := time.NewTicker(watchEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
			if err := w.look(); err != nil {
				return fmt.Errorf("while the node wrote: %w", err)
			}
		}
	}
}

// look reads each segment that is not known to be completed.
func (w *watcher) look() error {
	paths, err := filepath.Glob(filepath.Join(w.dir, "CommitLog-*.log"))
	if err != nil {
		return err
	}
	for _, path := range paths {
		s := w.segments[path]
		if s == nil {
			file, err := os.Open(path)
			if errors.Is(err, fs.ErrNotExist) {
				continue // the node had no use for it
			}
			if err != nil {
				return err
			}
			s = &watchedSegment{path: path, file: file}
			w.segments[path] = s
		}
		if s.completed {
			continue
		}
		index, ok, err := commitlog.ReadIndex(strings.TrimSuffix(path, ".log") + "_cdc.idx")
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		s.completed = ok && index.Completed
		w.looks++
		s.looks++
		if s.reader == nil {
			s.reader = w.newReader(s)
		}
		if s.goesOn, err = w.read(s, s.reader, s.goesOn); err != nil {
			return err
		}
		var anew []seenMutation
		if s.completed || s.looks%anewEvery == 0 {
			if anew, err = w.read(s, w.newReader(s), nil); err != nil {
				return err
			}
		}
		for _, found := range [][]seenMutation{s.goesOn, anew} {
			if err := beginsWith(found, s.longest); err != nil {
				return fmt.Errorf("%s: what was read now and what was read before: %w", path, err)
			}
			s.longest = append(s.longest, found[min(len(s.longest), len(found)):]...)
		}
	}
	return nil
}

func (w *watcher) newReader(s *watchedSegment) *commitlog.Reader {
	r := commitlog.NewReader(s.path, s.file, 0)
	if w.keys != nil {
		r.SetKeys(w.keys)
	}
	return r
}

// read appends what there is to found, and answers an error if it ends in anything but "nothing more yet".
func (w *watcher) read(s *watchedSegment, r *commitlog.Reader, found []seenMutation) ([]seenMutation, error) {
	info, err := s.file.Stat()
	if err != nil {
		return found, err
	}
	r.Extend(info.Size(), commitlog.Limit{Offset: commitlog.NoOffset})
	return w.all(r, found, commitlog.ErrMore)
}

// all reads to the ending that is expected.
func (w *watcher) all(r *commitlog.Reader, found []seenMutation, ending error) ([]seenMutation, error) {
	for {
		payload, pos, err := r.Next()
		if err == ending {
			return found, nil
		}
		if err != nil {
			return found, err
		}
		found = append(found, seenMutation{pos.Offset, maphash.Bytes(w.seed, payload)})
	}
}

// beginsWith checks that the two agree as far as both go.
func beginsWith(a, b []seenMutation) error {
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return fmt.Errorf("mutation %d differs: at position %d and at %d", i, a[i].offset, b[i].offset)
		}
	}
	return nil
}

// finish compares what was seen with the segments as their node left them. It closes the files.
func (w *watcher) finish() (Watched, error) {
	result := Watched{Looks: w.looks}
	var wrong []error
	for path, s := range w.segments {
		defer s.file.Close()
		info, err := s.file.Stat()
		if err != nil {
			return result, err
		}
		r := w.newReader(s)
		r.Extend(info.Size(), commitlog.Limit{Final: true})
		all, err := w.all(r, nil, commitlog.ErrFinished)
		switch {
		case err != nil:
			wrong = append(wrong, err)
		case len(all) < len(s.longest):
			wrong = append(wrong, fmt.Errorf("%s: %d mutations were read while it was written, and it has %d", path, len(s.longest), len(all)))
		default:
			if err := beginsWith(all, s.longest); err != nil {
				wrong = append(wrong, fmt.Errorf("%s: the finished segment and what was read of it before: %w", path, err))
			}
		}
		result.Segments++
		result.Mutations += len(s.longest)
	}
	return result, errors.Join(wrong...)
}
