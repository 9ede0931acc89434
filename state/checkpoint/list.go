package checkpoint

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"cassdelta/state"
	"cassdelta/state/objects"
)

// Entry is a checkpoint or a savepoint of a partition.
type Entry struct {
	Partition int32
	// Name is that of the checkpoint. It is empty of a savepoint that was not read.
	Name string
	// Savepoint is the name of the savepoint, empty if it is none.
	Savepoint string
	// Modified is when it was put, by the store's clock.
	Modified time.Time

	object string
	// Position is S.
	Position state.Position
	// Manifest is nil if Err is set: why the checkpoint is of no use.
	Manifest *Manifest
	Err      error
}

func (e *Entry) String() string {
	if e.Savepoint != "" {
		return fmt.Sprintf("savepoint %s of raw partition %d", e.Savepoint, e.Partition)
	}
	return fmt.Sprintf("checkpoint %s of raw partition %d", e.Name, e.Partition)
}

// Folders of a partition.
const (
	filesFolder       = "files/"
	checkpointsFolder = "checkpoints/"
	savepointsFolder  = "savepoints/"
	manifestSuffix    = ".json"
)

// contents is what the store has of a partition.
type contents struct {
	partition int32
	files     map[string]objects.Info // by the name within files/
	// entries are the checkpoints, from the greatest position to the least, and then the savepoints.
	entries []*Entry
	// now is a time that has come, by the store's clock: when the newest object was put.
	now time.Time
}

// list lists a partition: files first, manifests after, so that what a manifest refers to was put before the listing of
// files, or is still of an age at which nothing is removed. Manifests are not read.
func (r *Repository) list(ctx context.Context, partition int32) (*contents, error) {
	c := &contents{partition: partition, files: map[string]objects.Info{}}
	prefix := r.partition(partition)
	see := func(i objects.Info) {
		if i.Modified.After(c.now) {
			c.now = i.Modified
		}
	}
	err := r.store.List(ctx, prefix+filesFolder, func(i objects.Info) error {
		see(i)
		c.files[strings.TrimPrefix(i.Name, prefix+filesFolder)] = i
		return nil
	})
	for _, folder := range []string{checkpointsFolder, savepointsFolder} {
		if err != nil {
			return nil, err
		}
		err = r.store.List(ctx, prefix+folder, func(i objects.Info) error {
			name, ok := strings.CutSuffix(strings.TrimPrefix(i.Name, prefix+folder), manifestSuffix)
			e := &Entry{Partition: partition, Name: name, Modified: i.Modified, object: i.Name}
			if folder == savepointsFolder {
				e.Name, e.Savepoint = "", name
				ok = ok && savepointPattern.MatchString(name)
			} else if ok {
				e.Position, ok = parseName(name)
			}
			if !ok {
				return fmt.Errorf("%v: %s is not an object that this program puts there; nothing is done until it is gone", r.store, i.Name)
			}
			see(i)
			c.entries = append(c.entries, e)
			return nil
		})
	}
	if err != nil {
		return nil, err
	}
	slices.SortFunc(c.entries, func(a, b *Entry) int {
		if (a.Savepoint == "") != (b.Savepoint == "") {
			return cmp.Compare(a.Savepoint, b.Savepoint) // a checkpoint's is empty
		}
		return cmp.Or(-a.Position.Compare(b.Position), cmp.Compare(b.Name, a.Name), cmp.Compare(a.Savepoint, b.Savepoint))
	})
	return c, nil
}

// load reads the manifest of an entry, and looks whether its files are there. What is wrong with the checkpoint is in e.Err; an error
// is one of the store.
func (r *Repository) load(ctx context.Context, c *contents, e *Entry) error {
	if e.Manifest != nil || e.Err != nil {
		return nil
	}
	stored, err := objects.ReadAll(ctx, r.store, e.object, maxManifest)
	if errors.Is(err, objects.ErrNotFound) {
		e.Err = fmt.Errorf("%w: it was removed meanwhile", ErrUnusable)
		return nil
	}
	if err != nil {
		return err
	}
	m, err := decodeManifest(stored)
	if err == nil && e.Savepoint == "" && m.Position() != e.Position {
		err = fmt.Errorf("%w: the manifest is of position %v", ErrUnusable, m.Position())
	}
	if err != nil {
		e.Err = err
		return nil
	}
	e.Position = m.Position()
	for i := range m.Files {
		f := &m.Files[i]
		if f.Object == "" {
			continue
		}
		if found, ok := c.files[f.Object]; !ok || found.Size != f.Size {
			e.Err = fmt.Errorf("%w: %s has %d bytes, expected %d", ErrUnusable, filesFolder+f.Object, found.Size, f.Size)
			if !ok {
				e.Err = fmt.Errorf("%w: %s is gone", ErrUnusable, filesFolder+f.Object)
			}
			// It is kept, so that the files that are there are not taken for those of nobody.
			e.Manifest = m
			return nil
		}
	}
	e.Manifest = m
	return nil
}

// List returns all checkpoints of a partition, from the greatest position to the least, and then all savepoints. Those that
// are of no use have an Err.
func (r *Repository) List(ctx context.Context, partition int32) ([]*Entry, error) {
	c, err := r.list(ctx, partition)
	if err != nil {
		return nil, err
	}
	for _, e := range c.entries {
		if err := r.load(ctx, c, e); err != nil {
			return nil, err
		}
	}
	return c.entries, nil
}

// Bounds are the positions that a checkpoint may have to be gone on from.
type Bounds struct {
	// From is the offset at which the log begins, and To the position of the group.
	From int64
	To   state.Position
	// Fits is asked for each whether it can be gone on from; nil takes all.
	Fits func(*Manifest) error
	// Skip is asked for those that are not wanted; nil wants all.
	Skip func(*Entry) bool
}

func (b *Bounds) hold(p state.Position) bool {
	return p.Offset >= b.From && p.Compare(b.To) <= 0
}

// Find returns the checkpoint or savepoint with the greatest position within the bounds that is of use; nil if there is none. Those that it
// passed over, because they are of no use, are told to skipped.
func (r *Repository) Find(ctx context.Context, partition int32, within Bounds, skipped func(*Entry)) (*Entry, error) {
	c, err := r.list(ctx, partition)
	if err != nil {
		return nil, err
	}
	var best *Entry
	for _, e := range c.entries {
		if e.Savepoint == "" && (!within.hold(e.Position) || best != nil) || within.Skip != nil && within.Skip(e) {
			continue
		}
		if err := r.load(ctx, c, e); err != nil {
			return nil, err
		}
		if e.Err == nil {
			e.Err = r.check(e.Manifest, partition)
		}
		if e.Err == nil && within.Fits != nil {
			if err := within.Fits(e.Manifest); err != nil {
				e.Err = fmt.Errorf("%w: %w", ErrUnusable, err)
			}
		}
		switch {
		case e.Err != nil:
			skipped(e)
		case within.hold(e.Position) && (best == nil || e.Position.Compare(best.Position) > 0):
			best = e
		}
	}
	return best, nil
}

// Positions returns the positions of the checkpoints of a partition, in no order, without looking whether they are whole.
func (r *Repository) Positions(ctx context.Context, partition int32) (positions []state.Position, err error) {
	prefix := r.partition(partition) + checkpointsFolder
	err = r.store.List(ctx, prefix, func(i objects.Info) error {
		if p, ok := parseName(strings.TrimSuffix(strings.TrimPrefix(i.Name, prefix), manifestSuffix)); ok {
			positions = append(positions, p)
		}
		return nil
	})
	return positions, err
}

// newest returns the checkpoint that was put last and is whole, nil if there is none. Of several put at the same time it is the one with the
// greatest position.
func (r *Repository) newest(ctx context.Context, c *contents) (*Entry, error) {
	for _, e := range lastFirst(c.entries) {
		if err := r.load(ctx, c, e); err != nil {
			return nil, err
		}
		if e.Err == nil {
			return e, nil
		}
	}
	return nil, nil
}

// lastFirst returns the checkpoints among entries, from the one that was put last to the one that was put first.
func lastFirst(entries []*Entry) []*Entry {
	all := slices.DeleteFunc(slices.Clone(entries), func(e *Entry) bool { return e.Savepoint != "" })
	slices.SortStableFunc(all, func(a, b *Entry) int { return b.Modified.Compare(a.Modified) })
	return all
}

// Newest returns of what [Repository.List] returned the checkpoint that was put last and is whole, nil if there is none. It need not have the
// greatest position: a group may have been set back.
func Newest(entries []*Entry) *Entry {
	for _, e := range lastFirst(entries) {
		if e.Err == nil {
			return e
		}
	}
	return nil
}

// Current returns of what [Repository.List] returned what somebody may come to need: the newest checkpoint, those that were put after it, which are of no
// use, and the savepoints.
func Current(entries []*Entry) []*Entry {
	newest := Newest(entries)
	return slices.DeleteFunc(slices.Clone(entries), func(e *Entry) bool {
		return newest != nil && e != newest && e.Savepoint == "" && (e.Err == nil || e.Modified.Before(newest.Modified))
	})
}

// put puts a manifest. One that is there already with the same bytes was put by an attempt whose answer was lost.
func (r *Repository) put(ctx context.Context, name string, encoded []byte) error {
	err := r.store.Put(ctx, name, bytes.NewReader(encoded), int64(len(encoded)))
	if !errors.Is(err, objects.ErrExists) {
		return err
	}
	there, readErr := objects.ReadAll(ctx, r.store, name, maxManifest)
	if readErr != nil {
		return readErr
	}
	if bytes.Equal(there, encoded) {
		return nil
	}
	return err
}
