package dedup

import (
	"hash/maphash"
	"slices"

	"cassdelta/commitlog"
	"cassdelta/internal/rawtopic"
)

// copies are the contents of records that were folded lately, as hashes. Two of three records say byte for byte what one before
// them said; to know them spares decoding and merging them.
//
// That must not be seen in what the fold does, whatever of it is forgotten and when, so a content is in copies only while
// folding it once more would do nothing: the state has all of it or what beat it since, and the merge is idempotent. For that it
// is of data that is alive (no deletions, no TTL, no counters) and of which nothing was beaten, of a table that was neither
// truncated nor dropped, and all is forgotten when
//
//   - a control record comes: time, schemas and truncations change what counts;
//   - a record has something that died so long ago that it reads as absent, or a shadowable deletion: what it deletes is gone,
//     and the deletion may be, too;
//   - a record deletes a partition or a range: a row that has nothing alive is left as it is then, and what comes for it later,
//     a copy too, would write down which deletion covers it;
//   - a transaction was discarded.
//
// Two contents have the same hash, of 128 bits with a seed of the process's own, once in 10^19 years of a million records a second.
type copies struct {
	table []copyBucket // nil until the first is remembered
	added int          // to this table
	// age is a part of all hashes: with another one all that was remembered is forgotten.
	age  uint64
	some bool // were remembered at this age
}

// copyBucket has the last hashes that belong into it, the latest first.
type copyBucket [4]copyHash

type copyHash [2]uint64

// How many buckets there are at first, and at most: 32768 contents in half a megabyte. Both are powers of two.
const (
	fewCopyBuckets = 64
	copyBuckets    = 8192
)

var copySeeds = [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()}

func (c *copies) hash(content []byte) copyHash {
	return copyHash{maphash.Bytes(copySeeds[0], content) + c.age, maphash.Bytes(copySeeds[1], content)}
}

func (c *copies) has(hash copyHash) bool {
	b := &c.table[hash[0]&uint64(len(c.table)-1)]
	return b[0] == hash || b[1] == hash || b[2] == hash || b[3] == hash
}

func (c *copies) add(hash copyHash) {
	if n := len(c.table); n == 0 || n < copyBuckets && c.added > n*len(copyBucket{}) {
		// What was remembered is forgotten, which happens a few times only.
		c.table, c.added = make([]copyBucket, max(fewCopyBuckets, 4*n)), 0
	}
	b := &c.table[hash[0]&uint64(len(c.table)-1)]
	b[0], b[1], b[2], b[3] = hash, b[0], b[1], b[2]
	c.added++
	c.some = true
}

func (c *copies) forget() {
	if c.some {
		c.age, c.some = c.age+0x9e3779b97f4a7c15, false // an odd number: so soon there is no age again
	}
}

// Copy reports whether a raw record, of which nothing is folded, says what one did that was folded before it: folding it would do
// nothing. It counts it as a copy then.
func (f *Fold) Copy(value []byte) bool {
	if !f.copies.some || !f.loaded {
		return false
	}
	content, host, ok := rawtopic.Content(value)
	if !ok || host != f.host && !slices.Contains(f.hosts, host) || !f.copies.has(f.copies.hash(content)) {
		return false
	}
	f.stats.Copies++
	return true
}

// remember takes note of a data record that was folded.
func (f *Fold) remember(d *rawtopic.Data) {
	t := f.work.table
	switch alive, passing := f.lives(d); {
	case passing:
		f.copies.forget()
	case alive && !f.work.beaten && d.Content != nil && t.past.untouched() && !t.counters:
		f.copies.add(f.copies.hash(d.Content))
	}
}

// lives reports whether all of a record is alive and stays so, and whether it deletes in a way after which a copy may do
// something: with what reads as absent or is shadowable, or of a partition or a range.
func (f *Fold) lives(d *rawtopic.Data) (alive, passing bool) {
	w := &f.work
	alive = d.Deletion.IsLive() && len(d.Ranges) == 0
	passing = !alive
	row := func(r *commitlog.Row) {
		alive = alive && r.Deletion.IsLive() && r.Liveness.TTL == 0 && len(r.ComplexDeletions) == 0
		passing = passing || r.Shadowable || w.absent(r.Deletion) || r.Liveness.TTL != 0 && r.Liveness.ExpiresAt <= w.horizon
		for i := range r.ComplexDeletions {
			passing = passing || w.absent(r.ComplexDeletions[i].Deletion)
		}
		for i := range r.Cells {
			if c := &r.Cells[i]; c.Deleted || c.TTL != 0 {
				alive = false
				passing = passing || c.LocalTime <= w.horizon
			}
		}
	}
	if d.Static != nil {
		row(d.Static)
	}
	for i := range d.Rows {
		row(&d.Rows[i])
	}
	return alive, passing
}
