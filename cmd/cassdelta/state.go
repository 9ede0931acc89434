package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"cassdelta/dedup"
	"cassdelta/internal/config"
	"cassdelta/internal/inspect"
	"cassdelta/state/checkpoint"
	"cassdelta/state/objects"
)

type stateCmd struct {
	Tables      stateTablesCmd      `cmd:"" help:"What each table takes in the state."`
	Get         stateGetCmd         `cmd:"" help:"What the state knows of a partition or a row: each cell with its write time and expiry."`
	Scan        stateScanCmd        `cmd:"" help:"All that the state knows of a table."`
	Verify      stateVerifyCmd      `cmd:"" help:"Read the whole state and hold it to what it should be."`
	Checkpoints stateCheckpointsCmd `cmd:"" help:"List, verify and delete checkpoints and savepoints."`
	Savepoint   stateSavepointCmd   `cmd:"" help:"Keep the newest checkpoint of each raw partition under a name."`
	Restore     stateRestoreCmd     `cmd:"" help:"Set a group that does not run back to a savepoint."`
	Emit        stateEmitCmd        `cmd:"" help:"Write all rows of a table into a topic, as events of op r: what a new reader begins with."`
}

// stateSource says which state is looked into.
type stateSource struct {
	config.File

	StateDirectory string   `placeholder:"DIR" help:"The state directory of a worker that does not run; it is only read."`
	Workers        []string `placeholder:"HOST:PORT" help:"Running workers, by the addresses at which they serve their metrics: what they have committed."`
	repository     `embed:""`
	Savepoint      string `placeholder:"NAME" help:"Of the store of checkpoints, this savepoint. Empty: the newest checkpoint of each raw partition."`
}

// repository says which checkpoints are meant.
type repository struct {
	Checkpoint storeFlags `embed:"" prefix:"checkpoint-"`
	Group      string     `default:"cassdelta-dedup" placeholder:"NAME" help:"Consumer group of the checkpoints. Default: ${default}."`
	RawTopic   string     `placeholder:"NAME" help:"Raw topic of the checkpoints, if the group has some of several."`
}

// open finds the checkpoints; nil if no store is given.
func (f *repository) open(ctx context.Context) (*checkpoint.Repository, error) {
	store, err := f.Checkpoint.open(true)
	if err != nil || store == nil {
		return nil, err
	}
	scopes, err := checkpoint.Scopes(ctx, store)
	if err != nil {
		return nil, err
	}
	return choose(store, scopes, f.Group, f.RawTopic)
}

func choose(store objects.Store, scopes []checkpoint.Scope, group, topic string) (*checkpoint.Repository, error) {
	var found []checkpoint.Scope
	names := ""
	for _, s := range scopes {
		names += fmt.Sprintf("\n  group %s, raw topic %s (id %x)", s.Group, s.Topic, s.TopicID)
		if s.Group == group && (topic == "" || s.Topic == topic || topic == fmt.Sprintf("%s-%x", s.Topic, s.TopicID)) {
			found = append(found, s)
		}
	}
	if len(scopes) == 0 {
		return nil, fmt.Errorf("%v has no checkpoints: expected those of group %s; check --checkpoint-store, which is to be that of the workers", store, group)
	}
	if len(found) != 1 {
		return nil, fmt.Errorf("%v: expected the checkpoints of group %s for one raw topic, found %d; give --group and --raw-topic, as NAME or NAME-ID; there are those of%s",
			store, group, len(found), names)
	}
	return checkpoint.NewRepository(store, found[0]), nil
}

// required is open, and an error if no store is given.
func (f *repository) required(ctx context.Context) (*checkpoint.Repository, error) {
	repo, err := f.open(ctx)
	if err == nil && repo == nil {
		err = errors.New("--checkpoint-store is missing")
	}
	return repo, err
}

// run answers a query.
func (f *stateSource) run(ctx context.Context, q inspect.Query, out io.Writer) error {
	given := 0
	for _, is := range []bool{f.StateDirectory != "", len(f.Workers) > 0, f.Checkpoint.Store != ""} {
		if is {
			given++
		}
	}
	if given != 1 {
		return fmt.Errorf("expected one of --state-directory, --workers and --checkpoint-store, found %d", given)
	}
	switch {
	case f.StateDirectory != "":
		return inspect.Run(ctx, inspect.Directory{Path: f.StateDirectory}, q, out)
	case len(f.Workers) > 0:
		return inspect.Ask(ctx, f.Workers, q, out)
	}
	repo, err := f.required(ctx)
	if err != nil {
		return err
	}
	return inspect.Run(ctx, inspect.Checkpoint{Repo: repo, Savepoint: f.Savepoint}, q, out)
}

type stateTablesCmd struct{ stateSource }

// Run prints a line a table.
func (c *stateTablesCmd) Run(ctx context.Context, stdout io.Writer) error {
	return c.run(ctx, inspect.Query{}, stdout)
}

type stateGetCmd struct {
	stateSource

	Table string `arg:"" help:"KEYSPACE.TABLE."`
	Key   string `arg:"" help:"The partition key: a value, JSON as [1,\"a\"] or {\"k1\":1,\"k2\":\"a\"}, or its bytes as 0x00000001."`
	Row   string `arg:"" optional:"" help:"The clustering of a row, likewise. Without it: all of the partition."`
}

// Run prints a line a row, and a deletion.
func (c *stateGetCmd) Run(ctx context.Context, stdout io.Writer) error {
	return c.run(ctx, inspect.Query{Table: c.Table, Key: c.Key, Row: c.Row}, stdout)
}

type stateScanCmd struct {
	stateSource

	Table string `arg:"" help:"KEYSPACE.TABLE."`
}

// Run prints a line a row, and a deletion.
func (c *stateScanCmd) Run(ctx context.Context, stdout io.Writer) error {
	return c.run(ctx, inspect.Query{Table: c.Table, All: true}, stdout)
}

type stateVerifyCmd struct{ stateSource }

// Run prints a line a raw partition.
func (c *stateVerifyCmd) Run(ctx context.Context, stdout io.Writer) error {
	return c.run(ctx, inspect.Query{Verify: true}, stdout)
}

type stateCheckpointsCmd struct {
	List   checkpointsListCmd   `cmd:"" help:"List checkpoints and savepoints."`
	Verify checkpointsVerifyCmd `cmd:"" help:"Read all files of checkpoints and compare them with their checksums."`
	Delete checkpointsDeleteCmd `cmd:"" help:"Delete a savepoint, or a checkpoint of a raw partition."`
}

type checkpointsListCmd struct {
	config.File
	repository
}

// checkpointLine is what is printed of a checkpoint.
type checkpointLine struct {
	RawPartition int32     `json:"raw_partition"`
	Checkpoint   string    `json:"checkpoint,omitempty"`
	Savepoint    string    `json:"savepoint,omitempty"`
	Position     string    `json:"position"`
	Put          time.Time `json:"put"`
	Bytes        int64     `json:"bytes"`
	Files        int       `json:"files"`
	Epoch        string    `json:"epoch,omitempty"`
	Writer       string    `json:"writer,omitempty"`
	Usable       bool      `json:"usable"`
	Reason       string    `json:"reason,omitempty"`
}

func lineOf(e *checkpoint.Entry) checkpointLine {
	l := checkpointLine{RawPartition: e.Partition, Checkpoint: e.Name, Savepoint: e.Savepoint, Position: e.Position.String(), Put: e.Modified, Usable: e.Err == nil}
	if e.Err != nil {
		l.Reason = e.Err.Error()
	}
	if m := e.Manifest; m != nil {
		l.Bytes, l.Files, l.Epoch, l.Writer = m.Bytes(), len(m.Files), m.Epoch, m.Writer
	}
	return l
}

// Run prints a line each.
func (c *checkpointsListCmd) Run(ctx context.Context, stdout io.Writer) error {
	return c.each(ctx, everyEntry, func(_ *checkpoint.Repository, e *checkpoint.Entry) error { return printJSON(stdout, lineOf(e)) })
}

func everyEntry(all []*checkpoint.Entry) []*checkpoint.Entry { return all }

// each calls fn for those of the checkpoints and savepoints of each raw partition that are wanted.
func (f *repository) each(ctx context.Context, wanted func([]*checkpoint.Entry) []*checkpoint.Entry, fn func(*checkpoint.Repository, *checkpoint.Entry) error) error {
	repo, err := f.required(ctx)
	if err != nil {
		return err
	}
	for p := range repo.Scope().Partitions {
		all, err := repo.List(ctx, p)
		if err != nil {
			return err
		}
		for _, e := range wanted(all) {
			if err := fn(repo, e); err != nil {
				return err
			}
		}
	}
	return nil
}

func printJSON(out io.Writer, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	_, err = out.Write(append(b, '\n'))
	return err
}

type checkpointsVerifyCmd struct {
	config.File
	repository
	All bool `help:"All checkpoints, not the newest of each raw partition and the savepoints only."`
}

// Run prints a line each, and fails if one is damaged.
func (c *checkpointsVerifyCmd) Run(ctx context.Context, stdout io.Writer) error {
	damaged, wanted := 0, checkpoint.Current
	if c.All {
		wanted = everyEntry
	}
	err := c.each(ctx, wanted, func(repo *checkpoint.Repository, e *checkpoint.Entry) error {
		err := repo.Verify(ctx, e, nil)
		if err != nil && !errors.Is(err, checkpoint.ErrUnusable) && !errors.Is(err, objects.ErrNotFound) {
			return err
		}
		if err != nil {
			damaged++
			e.Err = err
		}
		return printJSON(stdout, lineOf(e))
	})
	if err == nil && damaged > 0 {
		err = fmt.Errorf("%d of the checkpoints cannot be restored", damaged)
	}
	return err
}

type checkpointsDeleteCmd struct {
	config.File
	repository
	Name         string `arg:"" help:"Name of a savepoint, or of a checkpoint."`
	RawPartition *int32 `placeholder:"NUMBER" help:"The raw partition of a checkpoint. Without it a savepoint is meant."`
}

// Run deletes.
func (c *checkpointsDeleteCmd) Run(ctx context.Context) error {
	repo, err := c.required(ctx)
	if err != nil {
		return err
	}
	if c.RawPartition != nil {
		return repo.Delete(ctx, *c.RawPartition, c.Name)
	}
	found := false
	for p := range repo.Scope().Partitions {
		was, err := repo.Forget(ctx, p, c.Name)
		if err != nil {
			return err
		}
		found = found || was // one that broke off may have deleted some
	}
	if !found {
		return fmt.Errorf("%v has no savepoint %s: cassdelta state checkpoints list shows those that there are; give --raw-partition to delete a checkpoint", repo, c.Name)
	}
	return nil
}

type stateSavepointCmd struct {
	config.File
	repository
	Name string `arg:"" help:"Letters, digits and . _ -"`
}

// Run prints a line a raw partition.
func (c *stateSavepointCmd) Run(ctx context.Context, stdout io.Writer) error {
	repo, err := c.required(ctx)
	if err != nil {
		return err
	}
	made := false
	for p := range repo.Scope().Partitions {
		e, was, err := repo.Save(ctx, p, c.Name)
		if err != nil {
			return err
		}
		made = made || !was // one that broke off may have made some
		if err := printJSON(stdout, lineOf(e)); err != nil {
			return err
		}
	}
	if !made {
		return fmt.Errorf("%v had the savepoint %s, and nothing is altered: it is of the positions above; give another name, or delete it first", repo, c.Name)
	}
	return nil
}

type stateRestoreCmd struct {
	config.File
	repository
	Kafka kafkaFlags `embed:"" prefix:"kafka-"`
	Name  string     `arg:"" help:"Name of the savepoint."`
}

// Run sets the positions of the group. The workers fetch the state when they start.
func (c *stateRestoreCmd) Run(ctx context.Context, stdout io.Writer) error {
	repo, err := c.required(ctx)
	if err != nil {
		return err
	}
	var all []*checkpoint.Entry
	for p := range repo.Scope().Partitions {
		e, err := inspect.Checkpoint{Repo: repo, Savepoint: c.Name}.Find(ctx, p)
		if err != nil {
			return err
		}
		all = append(all, e)
	}
	if err := dedup.SetBack(ctx, c.Kafka.Opts(), repo.Scope(), all); err != nil {
		return err
	}
	for _, e := range all {
		if err := printJSON(stdout, lineOf(e)); err != nil {
			return err
		}
	}
	fmt.Fprintln(os.Stderr, "The group is at the savepoint. Its workers, once they start, fetch the state, and write the events after it again.")
	return nil
}
