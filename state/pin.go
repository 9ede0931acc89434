package state

import "github.com/cockroachdb/pebble/v2"

// pin keeps the tables of the version that the store is at, which the transaction reads, until it ends.
//
// Pebble removes the tables that a compaction has replaced once nobody reads them any more, and leaves it to the last who does: the Get or
// the Close of an iterator that a compaction came to an end during takes all blocks of those tables out of the cache, a few at a time, and
// lets other goroutines go first after each. With two cores and a checkpoint under way the stream stood still for a tenth of a second then.
// So something that is not the stream is the last: an iterator that nobody moves, which [Txn.unpin] closes.
func (t *Txn) pin() error {
	if t.s.db == nil || t.pinned != nil && !t.s.replaced.Load() {
		return nil
	}
	t.s.replaced.Store(false)
	pinned, err := t.s.db.NewIter(nil)
	if err != nil {
		return err
	}
	if t.pinned != nil {
		t.unpin(t.pinned)
	}
	t.pinned = pinned
	return nil
}

// unpin closes iterators, which may be nil, beside the stream. An error of one was returned by the read that met it.
func (t *Txn) unpin(iters ...*pebble.Iterator) {
	all := func() {
		for _, iter := range iters {
			if iter != nil {
				iter.Close()
			}
		}
	}
	if t.s.db == nil {
		all()
		return
	}
	t.s.closing.Go(all)
}
