package checkpoint

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"regexp"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"golang.org/x/sync/errgroup"

	"cassdelta/state"
)

// Writer makes checkpoints of one partition. It is for one goroutine at a time.
type Writer struct {
	repo      *Repository
	partition int32
	name      string
	cluster   string
	fs        vfs.FS
	now       func() time.Time

	// sums are of the tables of the store that were read; a store does not use the number of a table twice while it is open.
	sums map[string]sum
	// put are the objects of uploads that were not finished, with the time before they were put.
	put map[sum]leftover
}

type sum struct {
	sha256 [sha256.Size]byte
	size   int64
}

type leftover struct {
	object string
	at     time.Time
}

// NewWriter makes a writer for the store of a partition, for as long as that store is open. Name is that of the worker and cluster that of
// the Cassandra cluster; both are for people.
func (r *Repository) NewWriter(partition int32, name, cluster string, fs vfs.FS) *Writer {
	return &Writer{
		repo: r, partition: partition, name: name, cluster: cluster, fs: fs, now: time.Now,
		sums: map[string]sum{}, put: map[sum]leftover{},
	}
}

// Result is what came of an upload.
type Result struct {
	// Name is that of the checkpoint, and Position its position.
	Name     string
	Position state.Position
	// Files and Bytes are all of the checkpoint, NewFiles and NewBytes those that were uploaded for it.
	Files, NewFiles int
	Bytes, NewBytes int64
	// Unchanged says that a checkpoint of this position was there, so that none was made.
	Unchanged bool
}

// ErrEmpty is returned for a store without a position: nothing was committed yet, or nothing of it is on disk.
var ErrEmpty = errors.New("the store is at no position yet")

// storeFile matches the files of a Pebble store that make it; others are a lock, and what a crash left.
var storeFile = regexp.MustCompile(`^((MANIFEST|OPTIONS)-\d+|marker\..*|\d+\.(sst|blob))$`)

// tableFile matches files that are never altered.
var tableFile = regexp.MustCompile(`\.(sst|blob)$`)

// Upload makes a checkpoint of the store in dir, which nobody writes to: see [state.Store.Link]. After an error there is none,
// and what was uploaded is used by the next attempt, or removed after the grace period.
func (w *Writer) Upload(ctx context.Context, dir string) (Result, error) {
	started := w.now()
	ctx, cancel := context.WithTimeout(ctx, MaxUpload)
	defer cancel()
	m, err := w.describe(dir)
	if err != nil {
		return Result{}, err
	}
	c, err := w.repo.list(ctx, w.partition)
	if err != nil {
		return Result{}, err
	}
	base, err := w.repo.newest(ctx, c)
	if err != nil {
		return Result{}, err
	}
	result := Result{Position: m.Position()}
	if base != nil && base.Position == m.Position() && base.Manifest.Epoch == m.Epoch && w.repo.check(base.Manifest, w.partition) == nil {
		result.Name, result.Unchanged = base.Name, true
		result.Files, result.Bytes = len(base.Manifest.Files), base.Manifest.Bytes()
		return result, nil
	}
	if err := w.files(ctx, dir, m, base, &result); err != nil {
		return Result{}, err
	}
	m.Created = w.now().UTC().Truncate(time.Millisecond)
	encoded, err := m.encode()
	if err != nil {
		return Result{}, err
	}
	if err := w.late(started); err != nil {
		return Result{}, err
	}
	result.Name = checkpointName(m.Position(), newID())
	if err := w.repo.put(ctx, w.repo.partition(w.partition)+checkpointsFolder+result.Name+manifestSuffix, encoded); err != nil {
		return Result{}, err
	}
	clear(w.put)
	return result, w.late(started)
}

// late is an error if the upload that began then is over its time. If its manifest is there nevertheless it may be of use, or not:
// whoever lists it sees that.
func (w *Writer) late(started time.Time) error {
	if took := w.now().Sub(started); took > MaxUpload {
		return fmt.Errorf("%v: the checkpoint of raw partition %d took %v, which is more than %v: files that it refers to may be gone; the next one is made anew",
			w.repo, w.partition, took, MaxUpload)
	}
	return nil
}

// describe reads what the store is.
func (w *Writer) describe(dir string) (*Manifest, error) {
	r, err := state.OpenReader(dir, state.Options{FS: w.fs})
	if err != nil {
		return nil, err
	}
	id := r.Identity()
	at, ok := r.Position()
	epoch := r.Epoch()
	if err := r.Close(); err != nil {
		return nil, err
	}
	if !ok {
		return nil, ErrEmpty
	}
	of := w.repo.of
	if id.Topic != of.Topic || id.TopicID != of.TopicID || id.Partition != w.partition || id.Partitions != of.Partitions {
		return nil, fmt.Errorf("%s holds the state of topic %s (id %x), partition %d of %d, expected %s (id %x), %d of %d",
			dir, id.Topic, id.TopicID, id.Partition, id.Partitions, of.Topic, of.TopicID, w.partition, of.Partitions)
	}
	return &Manifest{
		Format: formatVersion, Cluster: w.cluster, Group: of.Group, Topic: id.Topic, TopicID: hex.EncodeToString(id.TopicID[:]),
		Partition: id.Partition, Partitions: id.Partitions, Offset: at.Offset, Done: at.Done,
		Epoch: epoch, StateFormat: state.FormatVersion, Writer: w.name,
	}, nil
}

// files uploads the files of dir that base, which may be nil, does not have, and puts all of them into the manifest.
func (w *Writer) files(ctx context.Context, dir string, m *Manifest, base *Entry, result *Result) error {
	known := map[sum]string{} // objects
	if base != nil {
		for i := range base.Manifest.Files {
			f := &base.Manifest.Files[i]
			key := sum{size: f.Size}
			if _, err := hex.Decode(key.sha256[:], []byte(f.SHA256)); err == nil && f.Object != "" {
				known[key] = f.Object
			}
		}
	}
	for key, l := range w.put {
		// What was put within the time of an upload is younger than the grace period at the end of this one.
		if w.now().Sub(l.at) < MaxUpload {
			known[key] = l.object
		} else {
			delete(w.put, key)
		}
	}
	names, err := w.fs.List(dir)
	if err != nil {
		return err
	}
	slices.Sort(names)
	id := newID()
	var (
		group errgroup.Group
		mu    sync.Mutex // guards m.Files, result and w.put
	)
	group.SetLimit(parallel)
	sums := make(map[string]sum, len(w.sums))
	for _, name := range names {
		if !storeFile.MatchString(name) {
			continue
		}
		file, err := w.read(w.fs.PathJoin(dir, name), name)
		if err != nil {
			return errors.Join(err, group.Wait())
		}
		if ctx.Err() != nil {
			return errors.Join(context.Cause(ctx), group.Wait())
		}
		if tableFile.MatchString(name) {
			sums[name] = file.sum
		}
		f := File{Name: name, Size: file.sum.size, SHA256: hex.EncodeToString(file.sum.sha256[:]), Content: file.content}
		if file.content == nil {
			f.Object = known[file.sum]
		}
		if file.content != nil || f.Object != "" {
			mu.Lock()
			m.Files = append(m.Files, f)
			mu.Unlock()
			continue
		}
		f.Object = f.SHA256 + "-" + id
		group.Go(func() error {
			at := w.now()
			if err := w.upload(ctx, w.fs.PathJoin(dir, name), &f); err != nil {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			m.Files = append(m.Files, f)
			w.put[file.sum] = leftover{f.Object, at}
			result.NewFiles++
			result.NewBytes += f.Size
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	w.sums = sums
	slices.SortFunc(m.Files, func(a, b File) int { return slices.Compare([]byte(a.Name), []byte(b.Name)) })
	result.Files, result.Bytes = len(m.Files), m.Bytes()
	return nil
}

// fileRead is what a file holds.
type fileRead struct {
	sum sum
	// content is not nil if the file goes into the manifest.
	content []byte
}

// read reads a file for its checksum, unless it is a table that was read before.
func (w *Writer) read(path, name string) (fileRead, error) {
	f, err := w.fs.Open(path)
	if err != nil {
		return fileRead{}, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return fileRead{}, err
	}
	size := info.Size()
	if size <= inlineBytes {
		content := make([]byte, size)
		if _, err := f.ReadAt(content, 0); err != nil && err != io.EOF {
			return fileRead{}, err
		}
		return fileRead{sum{sha256.Sum256(content), size}, content}, nil
	}
	if known, ok := w.sums[name]; ok && known.size == size && tableFile.MatchString(name) {
		return fileRead{sum: known}, nil
	}
	hash := sha256.New()
	n, err := io.CopyBuffer(hash, io.NewSectionReader(yielding{f}, 0, size), make([]byte, copyBuffer))
	if err == nil && n != size {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return fileRead{}, fmt.Errorf("read %s: %w", path, err)
	}
	read := fileRead{sum: sum{size: size}}
	hash.Sum(read.sum.sha256[:0])
	return read, nil
}

const copyBuffer = 256 << 10

func (w *Writer) upload(ctx context.Context, path string, f *File) error {
	file, err := w.fs.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	return w.repo.store.Put(ctx, w.repo.partition(w.partition)+filesFolder+f.Object, yielding{file}, f.Size)
}

// yielding lets other goroutines go first after each read. The stream has the same cores: without, it waits until the time slices, of 10 ms each,
// of all the files that are read are over.
type yielding struct{ file io.ReaderAt }

func (y yielding) ReadAt(p []byte, at int64) (int, error) {
	n, err := y.file.ReadAt(p, at)
	runtime.Gosched()
	return n, err
}

// newID is a new name for what one upload puts.
func newID() string {
	var id [8]byte
	rand.Read(id[:])
	return hex.EncodeToString(id[:])
}
