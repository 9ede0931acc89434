package state

import (
	"errors"
	"fmt"
	"hash/maphash"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"cassdelta/state/files"
)

// ErrBroken is returned once a commit or a flush failed: what the store holds in memory is then unknown. Close it and
// open it again; it is at the position it reached on disk.
var ErrBroken = errors.New("state: the store is broken by an earlier error; close it and open it again")

// ErrClosed is returned for what is done to a store that was closed.
var ErrClosed = errors.New("state: the store is closed")

// flushPhases is over how many parts of the flush interval the stores of a process are spread: the disk has less to do at a time, and
// after a crash there is a store of which little is to be folded again.
const flushPhases = 8

// retainBatch is up to which size the buffer of a commit is used again.
const retainBatch = 8 << 20

// Store is the state of one raw partition. Transactions, flushes and Close are for one goroutine; Position and Metrics
// may be called from any.
type Store struct {
	dir  string
	id   Identity
	opts Options
	db   *pebble.DB
	lock *pebble.Lock

	positionKey []byte
	epoch       string
	owner       *owner // of entries of the row cache; nil without
	warm        []byte // up to which key it was warmed; nil once that has ended
	warmed      bool   // it was, to the last row

	txn     *Txn
	overlay *overlay      // of the open transaction
	batch   *pebble.Batch // of a commit, used again
	counts  counts
	missing missing

	dirty     bool            // something was committed since the last flush began
	flushed   time.Time       // when the last flush began
	looked    time.Time       // when it was last looked what the memtables have
	flushDone <-chan struct{} // of the last flush begun by FlushIfDue; nil if it was seen to end

	replaced atomic.Bool    // a flush or a compaction has ended since a transaction pinned the tables
	closing  sync.WaitGroup // iterators of transactions that have ended

	ending atomic.Bool  // Close was called
	life   sync.RWMutex // held while the database must not be closed
	closed bool

	mu        sync.Mutex // guards what follows
	position  Position
	known     bool
	broken    error
	published counts

	failed chan struct{} // closed with broken set
	// manifest says that Pebble has written one since the store was opened.
	manifest atomic.Bool
	stalls   atomic.Int64
}

// Open opens the store in dir, and makes it if the directory is empty or does not exist. It returns an error if the
// directory holds anything else, if another process has it open, or if it is the store of another identity.
func Open(dir string, id Identity, opts Options) (*Store, error) {
	if err := id.validate(); err != nil {
		return nil, err
	}
	opts.setDefaults()
	if err := files.MakeDirectory(dir, opts.FS); err != nil {
		return nil, fmt.Errorf("state: making the directory %s: %w", dir, err)
	}
	if err := checkDirectory(dir, opts.FS); err != nil {
		return nil, err
	}
	lock, err := pebble.LockDirectory(dir, opts.FS)
	if err != nil {
		return nil, fmt.Errorf("state: %s cannot be locked: %w; another process, or this one, has it open: "+
			"stop it, or give each its own state directory", dir, err)
	}
	s := &Store{
		dir: dir, id: id, opts: opts, lock: lock,
		positionKey: Meta(nil, uint16(id.Partition), "position"),
		flushed:     opts.now().Add(-opts.FlushInterval / flushPhases * time.Duration(id.Partition%flushPhases)),
		failed:      make(chan struct{}),
	}
	seed := maphash.MakeSeed()
	if opts.Rows != nil {
		seed = opts.Rows.seed
		s.forgetRows()
	}
	s.overlay = newOverlay(seed)
	if err := s.open(); err != nil {
		return nil, errors.Join(err, s.release())
	}
	return s, nil
}

func (o *Options) setDefaults() {
	if o.FS == nil {
		o.FS = vfs.Default
	}
	if o.MemTableBytes == 0 {
		o.MemTableBytes = defaultMemTable
	}
	if o.FlushInterval == 0 {
		o.FlushInterval = defaultFlushInterval
	}
	if o.now == nil {
		o.now = time.Now
	}
}

// open opens the database and reads what it is and where it stands.
func (s *Store) open() error {
	po := s.opts.pebbleOptions()
	po.Lock = s.lock
	po.EventListener = s.listener()
	db, err := pebble.Open(s.dir, po)
	if err != nil {
		if c, ok := po.Experimental.CompactionScheduler.(*compactions); ok {
			c.Unregister() // Pebble does so in Close only
		}
		return fmt.Errorf("state: opening the store in %s: %w; if files are damaged or missing, move the directory "+
			"away: the state is then built again from the raw topic", s.dir, explained(err))
	}
	s.db = db
	s.batch = db.NewBatch(pebble.WithMaxRetainedSizeBytes(retainBatch))
	if err := s.identify(); err != nil {
		return err
	}
	if value, closer, err := db.Get(epochKey); err == nil {
		s.epoch = string(value)
		if err := closer.Close(); err != nil {
			return fmt.Errorf("state: %s: reading the epoch: %w", s.dir, explained(err))
		}
	} else if !errors.Is(err, pebble.ErrNotFound) {
		return fmt.Errorf("state: %s: reading the epoch: %w", s.dir, explained(err))
	}
	value, closer, err := db.Get(s.positionKey)
	if errors.Is(err, pebble.ErrNotFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("state: %s: reading the position: %w", s.dir, explained(err))
	}
	defer closer.Close()
	p, err := decodePosition(value)
	if err != nil {
		return fmt.Errorf("state: %s: %w", s.dir, err)
	}
	s.position, s.known = p, true
	return nil
}

// identify compares the identity with the stored one; in an empty store it stores it.
func (s *Store) identify() error {
	key := Meta(nil, StoreGroup, "identity")
	value, closer, err := s.db.Get(key)
	if err == nil {
		defer closer.Close()
		return s.id.check(s.dir, value)
	}
	if !errors.Is(err, pebble.ErrNotFound) {
		return fmt.Errorf("state: %s: reading the identity: %w", s.dir, explained(err))
	}
	it, err := s.db.NewIter(nil)
	if err != nil {
		return fmt.Errorf("state: %s: %w", s.dir, err)
	}
	empty := !it.First()
	if err := it.Close(); err != nil {
		return fmt.Errorf("state: %s: %w", s.dir, err)
	}
	if !empty {
		return fmt.Errorf("state: %s holds a Pebble store of something else: it has keys and no identity; "+
			"give the state a directory of its own", s.dir)
	}
	encoded, err := s.id.encode()
	if err != nil {
		return fmt.Errorf("state: %w", err)
	}
	if err := s.db.Set(key, encoded, pebble.NoSync); err != nil {
		return fmt.Errorf("state: %s: storing the identity: %w", s.dir, err)
	}
	if err := s.db.Flush(); err != nil {
		return fmt.Errorf("state: %s: storing the identity: %w", s.dir, err)
	}
	return nil
}

// Position returns the position of the last commit, or what the store held when it was opened. Not ok: nothing was
// ever committed, the log is to be folded from its start.
func (s *Store) Position() (p Position, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.position, s.known
}

// epochKey is where the epoch is.
var epochKey = Meta(nil, StoreGroup, "epoch")

// Epoch says by which rules the state is derived at its position: what [Txn.SetEpoch] set last, empty if it never did. It means nothing to this
// package. It is for the goroutine of the transactions.
func (s *Store) Epoch() string { return s.epoch }

// usable returns why the store cannot be used.
func (s *Store) usable() error {
	if s.closed {
		return fmt.Errorf("%w: %s", ErrClosed, s.dir)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.broken
}

// breakWith makes the store unusable, and returns the error.
func (s *Store) breakWith(doing string, err error) error {
	err = fmt.Errorf("state: %s: %s: %w", s.dir, doing, explained(err))
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.broken == nil {
		s.broken = fmt.Errorf("%w: %w", ErrBroken, err)
		close(s.failed)
	}
	return err
}

// committed notes that a batch of size bytes is in the store.
func (s *Store) committed(p Position, size int) {
	s.dirty = true
	s.counts.commits++
	s.counts.committedBytes += int64(size)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.position, s.known = p, true
}

// Close writes to disk what was committed and closes the store. A transaction that is open is discarded.
func (s *Store) Close() error {
	if s.closed {
		return nil
	}
	if s.txn != nil {
		s.txn.Discard()
	}
	var err error
	if s.usable() == nil {
		err = s.Flush()
	}
	s.ending.Store(true)
	s.life.Lock()
	s.closed = true
	s.life.Unlock()
	return errors.Join(err, s.release())
}

// release closes the database and gives up the lock.
func (s *Store) release() error {
	if s.owner != nil {
		s.opts.Rows.forget(s.owner)
	}
	var errs [3]error
	if s.db != nil {
		s.closing.Wait()
		errs[0] = s.batch.Close()
		errs[1] = s.db.Close()
	}
	errs[2] = s.lock.Close()
	if s.opts.Cache != nil {
		s.opts.Cache.take(s, 0)
	}
	if err := errors.Join(errs[:]...); err != nil {
		return fmt.Errorf("state: closing the store in %s: %w", s.dir, err)
	}
	return nil
}

func (s *Store) log(message string) {
	if s.opts.Log != nil {
		s.opts.Log(message)
	}
}
