package checkpoint

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"cassdelta/state/objects"
)

// ErrNoCheckpoint is returned, wrapped, for a partition that has no checkpoint.
var ErrNoCheckpoint = errors.New("there is no checkpoint that is whole")

// Save keeps the newest checkpoint of a partition as the savepoint name, which is never removed but by [Repository.Forget]. If the
// partition has a savepoint of this name that is returned, and nothing is altered: was reports it.
func (r *Repository) Save(ctx context.Context, partition int32, name string) (e *Entry, was bool, err error) {
	if !savepointPattern.MatchString(name) {
		return nil, false, fmt.Errorf("the savepoint %q: expected up to 100 letters, digits and . _ -, of which the first is a letter or a digit", name)
	}
	started := time.Now()
	ctx, cancel := context.WithTimeout(ctx, MaxUpload)
	defer cancel()
	c, err := r.list(ctx, partition)
	if err != nil {
		return nil, false, err
	}
	object := r.partition(partition) + savepointsFolder + name + manifestSuffix
	for _, e := range c.entries {
		if e.Savepoint == name {
			return e, true, r.load(ctx, c, e)
		}
	}
	newest, err := r.newest(ctx, c)
	if err != nil {
		return nil, false, err
	}
	if newest == nil {
		return nil, false, fmt.Errorf("%v: raw partition %d: %w", r, partition, ErrNoCheckpoint)
	}
	encoded, err := newest.Manifest.encode()
	if err != nil {
		return nil, false, err
	}
	err = r.put(ctx, object, encoded)
	switch took := time.Since(started); {
	case errors.Is(err, objects.ErrExists):
		err = fmt.Errorf("another savepoint of that name was made meanwhile: %w", err)
	case err == nil && took > MaxUpload:
		err = fmt.Errorf("%v: the savepoint %s of raw partition %d took %v, so files of it may be gone: delete it, and make it again", r, name, partition, took)
	}
	saved := *newest
	saved.Savepoint = name
	return &saved, false, err
}

// Forget deletes the savepoint of a partition. It reports whether there was one.
func (r *Repository) Forget(ctx context.Context, partition int32, name string) (was bool, err error) {
	if !savepointPattern.MatchString(name) {
		return false, fmt.Errorf("%q is no name of a savepoint", name)
	}
	c, err := r.list(ctx, partition)
	if err != nil {
		return false, err
	}
	i := slices.IndexFunc(c.entries, func(e *Entry) bool { return e.Savepoint == name })
	if i < 0 {
		return false, nil
	}
	return true, r.store.Delete(ctx, c.entries[i].object)
}
