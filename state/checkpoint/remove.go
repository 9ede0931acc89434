package checkpoint

import (
	"context"
	"fmt"
	"time"
)

// Removed is what a sweep removed.
type Removed struct {
	Checkpoints, Files int
	Bytes              int64
}

// Sweep removes the checkpoints of a partition than which keep others are newer, and the files that no checkpoint has: both after the grace
// period. Nothing is removed while there is a manifest that cannot be read.
func (r *Repository) Sweep(ctx context.Context, partition int32, keep int) (Removed, error) {
	var done Removed
	c, err := r.list(ctx, partition)
	if err != nil {
		return done, err
	}
	needed := map[string]bool{}
	newer := newerOnes{}
	for _, e := range c.entries {
		if err := r.load(ctx, c, e); err != nil {
			return done, err
		}
		if e.Manifest == nil {
			return done, fmt.Errorf("%v: %v: %w; nothing is removed until it is: if it is not wanted, delete the object %s", r, e, e.Err, e.object)
		}
		if e.Savepoint == "" && newer.than(e).removable(keep, c.now) {
			if err := r.store.Delete(ctx, e.object); err != nil {
				return done, err
			}
			done.Checkpoints++
			continue
		}
		newer.add(e)
		for i := range e.Manifest.Files {
			needed[e.Manifest.Files[i].Object] = true
		}
	}
	for name, info := range c.files {
		if needed[name] || c.now.Sub(info.Modified) <= grace {
			continue
		}
		if err := r.store.Delete(ctx, info.Name); err != nil {
			return done, err
		}
		done.Files++
		done.Bytes += info.Size
	}
	return done, nil
}

// newerOnes is when the whole checkpoints were put that have greater positions than the next.
type newerOnes []time.Time

func (n *newerOnes) add(e *Entry) {
	if e.Err == nil && e.Savepoint == "" {
		*n = append(*n, e.Modified)
	}
}

// than is what is newer than the next checkpoint: what was put before it is not, though its position is greater. The group was set back between
// the two, and what it made before is of no use until it comes there again, if it does then.
func (n newerOnes) than(e *Entry) (newer newerThan) {
	for _, put := range n {
		if put.Before(e.Modified) {
			continue
		}
		if newer.whole++; newer.whole == 1 || put.Before(newer.oldest) {
			newer.oldest = put
		}
	}
	return newer
}

// newerThan is what is newer than a checkpoint.
type newerThan struct {
	whole int
	// oldest is when the first of those was put.
	oldest time.Time
}

// removable reports whether so many are newer, and no upload under way can take files of the checkpoint.
func (n newerThan) removable(keep int, now time.Time) bool {
	return n.whole >= max(keep, 1) && now.Sub(n.oldest) > grace
}

// Delete removes a checkpoint by hand. It refuses the newest, and one that an upload under way may take files of.
func (r *Repository) Delete(ctx context.Context, partition int32, name string) error {
	c, err := r.list(ctx, partition)
	if err != nil {
		return err
	}
	var newer newerOnes
	for _, e := range c.entries {
		if e.Savepoint != "" {
			break
		}
		if e.Name != name {
			if err := r.load(ctx, c, e); err != nil {
				return err
			}
			newer.add(e)
			continue
		}
		newer := newer.than(e)
		switch {
		case newer.whole == 0:
			return fmt.Errorf("%v is the newest of its partition and is not deleted: none was put after it with a position as great, and the next may be built on its files", e)
		case !newer.removable(1, c.now):
			return fmt.Errorf("%v is not deleted yet: an upload that is under way may build on its files; it can be %v after the one that followed it, so in %v",
				e, grace, (grace - c.now.Sub(newer.oldest)).Round(time.Minute))
		}
		return r.store.Delete(ctx, e.object)
	}
	return fmt.Errorf("%v: there is no checkpoint %s of raw partition %d", r, name, partition)
}
