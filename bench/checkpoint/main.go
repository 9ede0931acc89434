// Command checkpoint measures checkpoints of a large state: what is uploaded, how long the stream of commits is held up by it, and how
// long it takes to restore one. It is one raw partition, without Kafka; see bench/README.md.
package main

import (
	"context"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"cassdelta/state"
	"cassdelta/state/checkpoint"
	"cassdelta/state/objects"
)

var (
	gigabytes = flag.Float64("gb", 5, "size of the state, in GB")
	rate      = flag.Int("rate", 10_000, "rows per second that change while checkpoints are made")
	interval  = flag.Duration("interval", 20*time.Second, "time between two checkpoints")
	count     = flag.Int("count", 3, "how many checkpoints are made of the stream")
	storeURL  = flag.String("store", "", "where they are: s3://BUCKET/PREFIX or a directory; empty is one beside the state")
	endpoint  = flag.String("endpoint", "", "of the S3-compatible store; credentials as AWS's tools take them")
	directory = flag.String("dir", os.TempDir(), "where the state is")
)

const (
	rowBytes  = 200
	loadBatch = 5_000
	// commitEvery is the time between two transactions.
	commitEvery = 100 * time.Millisecond
	sayEvery    = 5 * time.Second
)

func main() {
	flag.Parse()
	if err := run(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, "checkpoint:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) (err error) {
	dir, err := os.MkdirTemp(*directory, "cassdelta-checkpoint-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if *storeURL == "" {
		*storeURL = filepath.Join(dir, "objects")
	}
	store, err := objects.Open(objects.Config{URL: *storeURL, S3: objects.S3Config{Endpoint: *endpoint}})
	if err != nil {
		return err
	}
	cache := state.NewCache(256<<20, 256<<20)
	defer cache.Close()
	id := state.Identity{Topic: "bench", TopicID: [16]byte{1}, Partitions: 1}
	s, err := state.Open(filepath.Join(dir, "state"), id, state.Options{Cache: cache})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()

	b := &stream{store: s, r: rand.New(rand.NewPCG(1, 1)), rows: int(*gigabytes * 1e9 / rowBytes)}
	started := time.Now()
	if err := b.load(); err != nil {
		return err
	}
	fmt.Printf("state: %d rows of %d bytes, %.2f GB on disk, loaded in %v\n", b.rows, rowBytes, float64(s.Metrics().DiskBytes)/1e9, time.Since(started).Round(time.Second))

	if err := b.run(*interval, nil); err != nil {
		return err
	}
	b.report("without checkpoints")

	repo := checkpoint.NewRepository(store, checkpoint.Scope{Group: "bench", Topic: "bench", TopicID: id.TopicID, Partitions: 1})
	w := repo.NewWriter(0, "bench", "", vfs.Default)
	for n := range *count + 1 {
		link := filepath.Join(dir, fmt.Sprintf("link-%d", n))
		var result checkpoint.Result
		var took, linked time.Duration
		err := b.run(*interval, func() error {
			started := time.Now()
			if err := s.Link(link); err != nil {
				return err
			}
			linked = time.Since(started)
			var err error
			result, err = w.Upload(ctx, link)
			took = time.Since(started)
			return errors.Join(err, os.RemoveAll(link))
		})
		if err != nil {
			return err
		}
		fmt.Printf("checkpoint %d: %.2f GB in %d files, uploaded %.1f MB in %d files, in %v; linked in %v\n", n, float64(result.Bytes)/1e9, result.Files,
			float64(result.NewBytes)/1e6, result.NewFiles, took.Round(time.Millisecond), linked.Round(100*time.Microsecond))
		b.report("meanwhile")
	}

	all, err := repo.List(ctx, 0)
	if err != nil {
		return err
	}
	started = time.Now()
	total := float64(all[0].Manifest.Bytes())
	var done checkpoint.Progress
	restored := make(chan error, 1)
	go func() { restored <- repo.Restore(ctx, all[0], filepath.Join(dir, "restored"), vfs.Default, &done) }()
	for tick := time.Tick(sayEvery); ; {
		select {
		case <-tick:
			fmt.Printf("restored %.2f of %.2f GB\n", float64(done.Fetched())/1e9, total/1e9)
			continue
		case err = <-restored:
		}
		break
	}
	if err != nil {
		return err
	}
	took := time.Since(started)
	fmt.Printf("restored %.2f GB in %v: %.0f MB/s, each file compared with its SHA-256\n", total/1e9, took.Round(time.Millisecond), total/1e6/took.Seconds())
	return nil
}

// stream changes rows of a store, a transaction at a time.
type stream struct {
	store *state.Store
	r     *rand.Rand
	rows  int
	at    int64
	known bool // there are all rows: each is read before it is written

	key, value []byte
	// lasted is how long each transaction took, from its begin until it was in the store.
	lasted []time.Duration
	// stood is the longest that the stream stood still: for one row, or for one commit.
	stood time.Duration
}

// set gives a row a new value. Rows are in the order of their tokens.
func (b *stream) set(tx *state.Txn, row int) error {
	token := math.MinInt64 + int64(uint64(row)*(math.MaxUint64/uint64(b.rows)))
	var partition [8]byte
	binary.BigEndian.PutUint64(partition[:], uint64(row))
	b.key = state.Row(b.key[:0], 0, [16]byte{1}, token, partition[:], nil)
	if b.known {
		if _, err := tx.Get(b.key); err != nil {
			return err
		}
	}
	b.value = b.value[:0]
	for len(b.value) < rowBytes-len(b.key) {
		b.value = binary.BigEndian.AppendUint64(b.value, b.r.Uint64())
	}
	return tx.Set(b.key, b.value)
}

func (b *stream) commit(rows func(n int) int, count int) error {
	tx := b.store.Begin()
	at := time.Now()
	step := func() {
		now := time.Now()
		at, b.stood = now, max(b.stood, now.Sub(at))
	}
	for n := range count {
		if err := b.set(tx, rows(n)); err != nil {
			return err
		}
		step()
	}
	b.at += int64(count)
	if err := tx.Commit(state.Position{Offset: b.at}); err != nil {
		return err
	}
	step()
	err := b.store.FlushIfDue()
	step()
	return err
}

// load makes the rows, in order, which compactions have little to do with.
func (b *stream) load() error {
	said := time.Now()
	for from := 0; from < b.rows; from += loadBatch {
		if err := b.commit(func(n int) int { return from + n }, min(loadBatch, b.rows-from)); err != nil {
			return err
		}
		if now := time.Now(); now.Sub(said) > sayEvery {
			said = now
			fmt.Printf("%d of %d rows are there\n", from+loadBatch, b.rows)
		}
	}
	b.known = true
	return b.store.Flush()
}

// run changes rows at the rate for a time, and longer if what is done beside it takes longer.
func (b *stream) run(d time.Duration, beside func() error) error {
	b.lasted, b.stood = b.lasted[:0], 0
	var group sync.WaitGroup
	var err error
	done := make(chan struct{})
	if beside != nil {
		group.Go(func() { defer close(done); err = beside() })
	} else {
		close(done)
	}
	tick := time.NewTicker(commitEvery)
	defer tick.Stop()
	for end := time.Now().Add(d); ; {
		select {
		case <-done:
			if time.Now().After(end) {
				group.Wait()
				return err
			}
		default:
		}
		<-tick.C
		started := time.Now()
		if err := b.commit(func(int) int { return b.r.IntN(b.rows) }, *rate/int(time.Second/commitEvery)); err != nil {
			group.Wait()
			return err
		}
		b.lasted = append(b.lasted, time.Since(started))
	}
}

func (b *stream) report(when string) {
	slices.Sort(b.lasted)
	at := func(q float64) time.Duration {
		return b.lasted[int(q*float64(len(b.lasted)-1))].Round(100 * time.Microsecond)
	}
	fmt.Printf("  %s: %d transactions of %d rows took %v (median), %v (99 %%), %v (longest); the stream stood still for %v at most\n",
		when, len(b.lasted), *rate/int(time.Second/commitEvery), at(0.5), at(0.99), at(1), b.stood.Round(100*time.Microsecond))
}
