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
// partition has a savepoint of this name that is returned, and nothing is altered.
func (r *Repository) Save(ctx context.Context, partition int32, name string) (*Entry, error) {
	if !savepointPattern.MatchString(name) {
		return nil, fmt.Errorf("the savepoint %q: expected up to 100 letters, digits and . _ -, of which the first is a letter or a digit", name)
	}
	started := time.Now()
	ctx, cancel := context.WithTimeout(ctx, MaxUpload)
	defer cancel()
	c, err := r.list(ctx, partition)
	if err != nil {
		return nil, err
	}
	object := r.partition(partition) + savepointsFolder + name + manifestSuffix
	for _, e := range c.entries {
		if e.Savepoint == name {
			return e, r.load(ctx, c, e)
		}
	}
	newest, err := r.newest(ctx, c)
	if err != nil {
		return nil, err
	}
	if newest == nil {
		return nil, fmt.Errorf("%v: raw partition %d: %w", r, partition, ErrNoCheckpoint)
	}
	encoded, err := newest.Manifest.encode()
	if err != nil {
		return nil, err
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
	return &saved, err
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
