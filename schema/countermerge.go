package schema

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
)

// counterContext reads a context from shard to shard.
type counterContext struct {
	entries []byte // of the header that are left
	shards  []byte // that are left
	index   int    // of the first of them
	// local and global say what the first shard is: at most one is set, and neither for a remote one.
	local, global bool
	// cleared says that local shards are taken as remote ones, as Cassandra takes them when it reads a context whose
	// header says so.
	cleared bool
}

// readCounter begins to read a context, which ValidateCounter has nothing against.
func readCounter(context []byte) counterContext {
	entries := int(int16(binary.BigEndian.Uint16(context)))
	c := counterContext{cleared: entries < 0}
	header := counterSize + max(entries, -entries)*counterEntry
	c.entries, c.shards = context[counterSize:header], context[header:]
	c.look()
	return c
}

// look finds out what the first shard is. Source: CounterContext.ContextState.updateIsGlobalOrLocal.
func (c *counterContext) look() {
	c.local, c.global = false, false
	if len(c.entries) == 0 {
		return
	}
	switch entry := int(int16(binary.BigEndian.Uint16(c.entries))); entry {
	case c.index:
		c.local = !c.cleared
	case c.index + math.MinInt16:
		c.global = true
	default:
		return
	}
	c.entries = c.entries[counterEntry:]
}

func (c *counterContext) id() []byte   { return c.shards[:16] }
func (c *counterContext) clock() int64 { return int64(binary.BigEndian.Uint64(c.shards[16:])) }
func (c *counterContext) count() int64 {
	return int64(binary.BigEndian.Uint64(c.shards[counterBefore:]))
}

// next goes to the next shard.
func (c *counterContext) next() {
	c.shards = c.shards[counterShard:]
	c.index++
	c.look()
}

// ValidateCounter checks that a value is the context of a counter's cell, with the shards in the order of their ids.
func ValidateCounter(context []byte) error {
	if len(context) < counterSize || len(context) == 8 {
		return fmt.Errorf("a counter has %d bytes, expected a context", len(context))
	}
	if _, err := CounterTotal(context); err != nil {
		return err
	}
	c := readCounter(context)
	for last := []byte(nil); len(c.shards) > 0; c.next() {
		if last != nil && bytes.Compare(last, c.id()) >= 0 {
			return fmt.Errorf("a counter's context has the shard %x behind the shard %x, expected them in the order of their ids", c.id(), last)
		}
		last = c.id()
	}
	return nil
}

// AppendMergedCounter appends the merge of two contexts, which ValidateCounter has nothing against, to dst: of each counter
// id the shard that wins. A global shard wins against others, a local one against a remote one; of two of a kind the one
// with the greater clock, then the one with the greater count. It reports whether a shard of b lost against another one.
// Source: CounterContext.merge.
//
// It departs from Cassandra where both shards are local, which only a node before 2.1 wrote: there their clocks and
// counts would be added up, and a second copy of one of them would count again.
func AppendMergedCounter(dst, a, b []byte) (out []byte, beaten bool) {
	left, right := readCounter(a), readCounter(b)
	// The header is written when its length is known; there is room for the longest, and then the shards are moved.
	start := len(dst)
	shards := len(left.shards)/counterShard + len(right.shards)/counterShard
	body := start + counterSize + shards*counterEntry
	for len(dst) < body {
		dst = append(dst, 0)
	}
	entries := 0
	keep := func(c *counterContext) {
		index := (len(dst) - body) / counterShard
		if index == math.MaxInt16 { // the header cannot number more, and no cluster has so many nodes
			c.next()
			return
		}
		if c.local || c.global {
			if c.global {
				index += math.MinInt16
			}
			binary.BigEndian.PutUint16(dst[start+counterSize+entries*counterEntry:], uint16(index))
			entries++
		}
		dst = append(dst, c.shards[:counterShard]...)
		c.next()
	}
	for len(left.shards) > 0 || len(right.shards) > 0 {
		order := 0
		switch {
		case len(left.shards) == 0:
			order = 1
		case len(right.shards) == 0:
			order = -1
		default:
			order = bytes.Compare(left.id(), right.id())
		}
		switch {
		case order < 0:
			keep(&left)
		case order > 0:
			keep(&right)
		case shardWins(&left, &right):
			beaten = beaten || shardDiffers(&left, &right)
			right.next()
			keep(&left)
		default:
			left.next()
			keep(&right)
		}
	}
	binary.BigEndian.PutUint16(dst[start:], uint16(entries))
	header := start + counterSize + entries*counterEntry
	return dst[:header+copy(dst[header:], dst[body:])], beaten
}

func shardDiffers(a, b *counterContext) bool {
	return a.clock() != b.clock() || a.count() != b.count() || a.global != b.global || a.local != b.local
}

// shardWins reports whether the shard of a wins against that of b with the same id, or is the same. Source:
// CounterContext.compare.
func shardWins(a, b *counterContext) bool {
	switch {
	case a.global != b.global:
		return a.global
	case a.local != b.local:
		return a.local
	case a.clock() == b.clock():
		return a.count() >= b.count()
	case a.global || a.local || a.clock() >= 0 && b.clock() >= 0:
		return a.clock() > b.clock()
	}
	// Of remote shards from before 1.1 a negative clock wins against a positive one, and the lesser of two.
	return a.clock() < b.clock()
}
