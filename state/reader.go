package state

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/maphash"
	"io/fs"
	"syscall"

	"github.com/cockroachdb/pebble/v2"
)

// Reader reads a store that nobody writes to: a checkpoint, or the directory of a worker that has ended. It is for any
// number of goroutines, but for Close.
type Reader struct {
	from     pebble.Reader
	close    func() error
	name     string // for errors
	id       Identity
	position Position
	epoch    string
	known    bool
	store    *Store // of a snapshot
}

// ErrLocked is returned, wrapped, for a store that someone has open.
var ErrLocked = errors.New("it is open elsewhere")

var errNoIdentity = errors.New("the store has no identity: it is one of something else, or was only just being made")

// ifDamaged is what to do about a store that cannot be read.
const ifDamaged = "if files are damaged or missing, move the directory away: the worker then takes a checkpoint, or builds the state again from the raw topic"

// readerMemTable is the memtable of a store that is only read: nothing comes into it.
const readerMemTable = 256 << 10

// OpenReader opens the store in dir to be read. Of opts the cache, the file system and the log are used. It returns an error
// if there is no store, if a process has it open, or if it is in a form that this version does not know.
func OpenReader(dir string, opts Options) (*Reader, error) {
	opts.MemTableBytes = readerMemTable
	opts.setDefaults()
	store, err := pebble.Peek(dir, opts.FS)
	if err != nil {
		return nil, fmt.Errorf("state: looking at %s: %w; %s", dir, err, ifDamaged)
	}
	if !store.Exists {
		return nil, fmt.Errorf("state: %s holds no store; a state directory has one per raw partition, in TOPIC/PARTITION; %s", dir, ifDamaged)
	}
	lock, err := pebble.LockDirectory(dir, opts.FS)
	if errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.EROFS) {
		return nil, fmt.Errorf("state: %s cannot be locked: %w; who reads it has to write the file LOCK in it: be the user that the worker is, or read a copy of the directory", dir, err)
	}
	if err != nil {
		return nil, fmt.Errorf("state: %s cannot be locked: %w: %w; a running worker has it open: ask the worker, or read a checkpoint", dir, ErrLocked, err)
	}
	po := opts.pebbleOptions()
	po.ReadOnly, po.Lock = true, lock
	// Without this Pebble ends the process; who only reads gets the error, and can do without what is damaged.
	po.EventListener = &pebble.EventListener{DataCorruption: func(pebble.DataCorruptionInfo) {}}
	db, err := pebble.Open(dir, po)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("state: opening the store in %s: %w; %s", dir, explained(err), ifDamaged), lock.Close())
	}
	r := &Reader{from: db, name: dir, close: func() error { return errors.Join(db.Close(), lock.Close()) }}
	if err := r.load(); err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return r, nil
}

// PositionOf returns the position and the epoch of the store in dir, which nobody has open; not ok if there is no store, or nothing was ever
// committed.
func PositionOf(dir string, opts Options) (p Position, epoch string, ok bool, err error) {
	opts.setDefaults()
	store, err := pebble.Peek(dir, opts.FS)
	if err != nil || !store.Exists {
		if errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
		return Position{}, "", false, err
	}
	r, err := OpenReader(dir, Options{FS: opts.FS, Log: opts.Log})
	if errors.Is(err, errNoIdentity) {
		return Position{}, "", false, nil
	}
	if err != nil {
		return Position{}, "", false, err
	}
	p, ok = r.Position()
	return p, r.Epoch(), ok, r.Close()
}

// Snapshot reads the store as it is now, and as it stays meanwhile: what is committed and nothing else. It may be called from
// any goroutine. Close of the store waits until the reader is closed, and ends its scan with [ErrClosed].
func (s *Store) Snapshot() (*Reader, error) {
	s.life.RLock()
	if s.closed {
		s.life.RUnlock()
		return nil, fmt.Errorf("%w: %s", ErrClosed, s.dir)
	}
	snapshot := s.db.NewSnapshot()
	r := &Reader{from: snapshot, name: s.dir, store: s, close: func() error {
		defer s.life.RUnlock()
		return snapshot.Close()
	}}
	if err := r.load(); err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return r, nil
}

// load reads what the store is.
func (r *Reader) load() error {
	value, err := r.Get(Meta(nil, StoreGroup, "identity"))
	if err != nil {
		return err
	}
	if value == nil {
		return fmt.Errorf("state: %s: %w", r.name, errNoIdentity)
	}
	if r.id, err = decodeIdentity(value); err != nil {
		return fmt.Errorf("state: %s: %w", r.name, err)
	}
	if value, err = r.Get(epochKey); err != nil {
		return err
	}
	r.epoch = string(value)
	if value, err = r.Get(Meta(nil, uint16(r.id.Partition), "position")); err != nil || value == nil {
		return err
	}
	if r.position, err = decodePosition(value); err != nil {
		return fmt.Errorf("state: %s: %w", r.name, err)
	}
	r.known = true
	return nil
}

// Identity is what the store was made from.
func (r *Reader) Identity() Identity { return r.id }

// Position is that of the store; not ok if nothing was ever committed.
func (r *Reader) Position() (p Position, ok bool) { return r.position, r.known }

// Epoch is [Store.Epoch].
func (r *Reader) Epoch() string { return r.epoch }

// Begin begins a transaction that sees what the reader does, and can be written to, but not committed. There may be any number. The
// reader is to be closed after them.
func (r *Reader) Begin() *Txn {
	s := &Store{dir: r.name, broken: fmt.Errorf("state: %s is only read", r.name)}
	return &Txn{s: s, o: newOverlay(maphash.MakeSeed()), from: r.from}
}

// Get returns a copy of the value of key: nil if there is none, not nil if it is empty.
func (r *Reader) Get(key []byte) ([]byte, error) {
	value, closer, err := r.from.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("state: %s: reading: %w", r.name, explained(err))
	}
	defer closer.Close()
	return append([]byte{}, value...), nil
}

// Scan calls fn for each key with from <= key < to, in order, until it returns false or an error. Key and value are valid
// during the call only.
func (r *Reader) Scan(from, to []byte, fn func(key, value []byte) (more bool, err error)) (err error) {
	it, err := r.from.NewIter(&pebble.IterOptions{LowerBound: from, UpperBound: to})
	if err != nil {
		return fmt.Errorf("state: %s: scanning: %w", r.name, explained(err))
	}
	defer func() {
		if closed := it.Close(); err == nil && closed != nil {
			err = fmt.Errorf("state: %s: scanning: %w", r.name, explained(closed))
		}
	}()
	for ok := it.First(); ok; ok = it.Next() {
		if r.store != nil && r.store.ending.Load() {
			return fmt.Errorf("%w: %s", ErrClosed, r.name)
		}
		value, err := it.ValueAndErr()
		if err != nil {
			return fmt.Errorf("state: %s: scanning: %w", r.name, explained(err))
		}
		if more, err := fn(it.Key(), value); err != nil || !more {
			return err
		}
	}
	return nil
}

// Close gives up the reader.
func (r *Reader) Close() error {
	if err := r.close(); err != nil {
		return fmt.Errorf("state: closing %s: %w", r.name, err)
	}
	return nil
}

// decodeIdentity reads an identity of any topic.
func decodeIdentity(value []byte) (Identity, error) {
	var found storedIdentity
	if err := json.Unmarshal(value, &found); err != nil {
		return Identity{}, fmt.Errorf("the stored identity %q is not what a store writes: %w", value, err)
	}
	if found.Format != FormatVersion {
		return Identity{}, fmt.Errorf("the store has format %d, expected %d: read it with the version of the program that wrote it", found.Format, FormatVersion)
	}
	id := Identity{Topic: found.Topic, Partition: found.Partition, Partitions: found.Partitions}
	topicID, err := hex.DecodeString(found.TopicID)
	if err != nil || len(topicID) != len(id.TopicID) {
		return Identity{}, fmt.Errorf("the stored topic id %q is not one", found.TopicID)
	}
	copy(id.TopicID[:], topicID)
	return id, id.validate()
}

// Link makes a copy of what the store has on disk, in dir, which must not exist, without waiting for it to be written, unless nothing
// was since the store was opened: the tables are linked, so it takes little time and no space until the store replaces them. The copy is a store at an earlier
// commit, the last one at best, with that commit's position; it may have none yet. It may be called from any goroutine, and
// commits go on meanwhile.
func (s *Store) Link(dir string) error {
	s.life.RLock()
	defer s.life.RUnlock()
	if s.closed {
		return fmt.Errorf("%w: %s", ErrClosed, s.dir)
	}
	if err := s.writeManifest(); err != nil {
		return err
	}
	if err := s.db.Checkpoint(dir); err != nil {
		return fmt.Errorf("state: %s: linking the files into %s: %w", s.dir, dir, err)
	}
	return nil
}
