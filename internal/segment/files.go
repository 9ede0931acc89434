package segment

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"cassdelta/commitlog"
)

// file is a segment to read.
type file struct {
	path string
	id   int64 // from the name; 0 if the name is not a segment's
	info os.FileInfo
}

// expand lists the segments that the paths stand for, by id, each once. Index files among the paths, as a shell's * gives
// them, stand for nothing.
func expand(paths []string) ([]file, error) {
	var all []file
	for _, p := range paths {
		info, err := os.Stat(p)
		if p == "-" && err != nil {
			return nil, errors.New("-: segments are not read from standard input: name the file, or a directory with some")
		}
		if err != nil {
			return nil, err
		}
		if !info.IsDir() {
			if _, _, ok := commitlog.ParseIndexName(filepath.Base(p)); ok {
				continue
			}
			if !info.Mode().IsRegular() {
				return nil, fmt.Errorf("%s: expected a segment or a directory, found a file of another kind (%s)", p, info.Mode())
			}
			_, id, _ := commitlog.ParseSegmentName(filepath.Base(p))
			all = append(all, file{p, id, info})
			continue
		}
		entries, err := os.ReadDir(p)
		if err != nil {
			return nil, err
		}
		n := len(all)
		for _, e := range entries {
			_, id, ok := commitlog.ParseSegmentName(e.Name())
			if !ok {
				continue
			}
			path := filepath.Join(p, e.Name())
			if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() {
				all = append(all, file{path, id, info})
			} else if err != nil && !errors.Is(err, os.ErrNotExist) { // the node may delete it meanwhile
				return nil, err
			}
		}
		if len(all) == n {
			return nil, fmt.Errorf("%s: no commit log segment (CommitLog-<version>-<id>.log) is in this directory", p)
		}
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("%s: is the index of a segment: name the segment, or its directory", paths[0])
	}
	slices.SortStableFunc(all, func(a, b file) int { return cmp.Compare(a.id, b.id) })
	return slices.CompactFunc(all, func(a, b file) bool { return os.SameFile(a.info, b.info) }), nil
}

// ending says how a segment ends.
type ending struct {
	// offset is the logical offset up to which it was read.
	offset int64
	// text says it in words.
	text string
	// err is not nil if the rest of the segment cannot be read.
	err error
}

// segment is an open segment.
type segment struct {
	file
	f      *os.File
	reader *commitlog.Reader
	size   int64
	index  commitlog.Index
	// indexed says that there is an index file that can be read.
	indexed bool
}

// open opens a segment to be read as far as it goes: to its clean end, or to its last sync marker if its node may
// still write to it. keys are those of encrypted segments. reader is used for it, with the memory that it has from the segment
// before.
func open(fl file, reader *commitlog.Reader, keys commitlog.Keys) (*segment, error) {
	s := &segment{file: fl}
	if v, id, ok := commitlog.ParseSegmentName(filepath.Base(fl.path)); ok {
		x, ok, err := commitlog.ReadIndex(filepath.Join(filepath.Dir(fl.path), commitlog.IndexName(v, id)))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, err
		}
		s.index, s.indexed = x, ok
	}
	f, err := os.Open(fl.path)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, err
	}
	s.f, s.size = f, info.Size()
	s.reader = reader
	s.reader.Reset(fl.path, f, s.size)
	s.reader.SetKeys(keys)
	limit := commitlog.Limit{Final: true}
	switch {
	case s.indexed && s.index.Completed:
		if s.index.Offset != s.size { // the length of the file is what a crash replay writes
			limit.Offset = s.index.Offset
		}
	case s.mayGrow():
		limit = commitlog.Limit{Offset: commitlog.NoOffset}
	}
	s.reader.Extend(s.size, limit)
	return s, nil
}

// mayGrow reports whether nothing says that the segment is closed.
func (s *segment) mayGrow() bool {
	v, _, ok := commitlog.ParseSegmentName(filepath.Base(s.path))
	return ok && v != commitlog.Version30 && !s.index.Completed
}

func (s *segment) close() { s.f.Close() }

// header reads the header, and says what is wrong if there is none, whether its node still writes it or not.
func (s *segment) header() (commitlog.Descriptor, error) {
	d, err := s.reader.Header()
	if err != commitlog.ErrMore {
		return d, err
	}
	s.reader.Extend(s.size, commitlog.Limit{Final: true})
	if _, err = s.reader.Header(); err != nil {
		return d, fmt.Errorf("%s: has no header yet, if its node begins to write it now; else: %w", s.path, err)
	}
	return d, fmt.Errorf("%s: had no header yet: look again", s.path)
}

// each calls entry for every entry that can be read, with the error of one that is damaged, and says how the segment
// ends. An error of entry, or of reading the file, stops it.
func (s *segment) each(entry func(payload []byte, pos commitlog.Position, err error) error) (ending, error) {
	for {
		payload, pos, err := s.reader.Next()
		var damaged *commitlog.DamagedError
		switch {
		case err == nil:
			if err := entry(payload, pos, nil); err != nil {
				return ending{}, err
			}
		case errors.As(err, &damaged) && damaged.Resumable:
			if err := entry(payload, pos, err); err != nil {
				return ending{}, err
			}
		case errors.As(err, &damaged), unreadable(err):
			return ending{s.reader.Offset(), err.Error(), err}, nil
		case err == commitlog.ErrFinished:
			return ending{s.reader.Offset(), fmt.Sprintf("finished at %d", s.reader.Offset()), nil}, nil
		case err == commitlog.ErrMore:
			return s.openEnding()
		default:
			return ending{}, err
		}
	}
}

// unreadable reports whether the error is that of a segment that is intact, as far as can be told, and has a form that is
// not read, or a key that is not there.
func unreadable(err error) bool {
	return errors.As(err, new(*commitlog.UnsupportedError)) || errors.As(err, new(*commitlog.KeyError))
}

// openEnding tells the last sync marker of a segment that may be written to from damage behind it.
func (s *segment) openEnding() (ending, error) {
	e := ending{offset: s.reader.Offset()}
	s.reader.Extend(s.size, commitlog.Limit{Final: true})
	_, _, err := s.reader.Next()
	var damaged *commitlog.DamagedError
	switch {
	case errors.As(err, &damaged):
		e.err = err
		e.text = fmt.Sprintf("%v (or its node was writing there at this moment: look again)", err)
	case err == nil || err == commitlog.ErrFinished:
		e.text = fmt.Sprintf("open: synced up to %d", e.offset)
		if s.indexed {
			e.text += fmt.Sprintf(", flushed up to %d; its node writes to it, or a crash left it behind", s.index.Offset)
		} else {
			e.text += "; no index file, so no flushed change of a cdc table"
		}
	default:
		return ending{}, err
	}
	return e, nil
}
