package dedup

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strconv"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/zap"

	"cassdelta/internal/rawtopic"
	"cassdelta/state"
	"cassdelta/state/checkpoint"
)

// RecoverConfig says of which group positions are recovered, and from what.
type RecoverConfig struct {
	ClientOpts []kgo.Opt
	RawTopic   RawTopic
	Group      string
	// CleanTopics and DeadLetterTopic are all that workers of the group have written to. One that does not exist has nothing.
	CleanTopics     []string
	DeadLetterTopic string
	// StateDirectories are those of workers that do not run.
	StateDirectories []string
	// Checkpoints are those of the group. Nil: there are none.
	Checkpoints *checkpoint.Repository
	Log         *zap.Logger

	files vfs.FS // of the tests
}

// Recovered is the position of a raw partition that was found.
type Recovered struct {
	Partition int32
	state.Position
	// From says what tells it.
	From string
}

// RecoverOffsets gives the group positions that it has lost: for each raw partition without one, behind the last event or dead letter that
// is committed, or where the state or its furthest checkpoint is if that is further. Records behind that made no event, so folding them again makes none. State that
// is further than what was found is replaced by a checkpoint when its worker starts. It returns what it committed, and an error, with nothing committed, if workers run or if for a partition nothing tells where the group was.
func RecoverOffsets(ctx context.Context, cfg RecoverConfig) ([]Recovered, error) {
	if cfg.files == nil {
		cfg.files = vfs.Default
	}
	cl, err := kgo.NewClient(cfg.ClientOpts...)
	if err != nil {
		return nil, fmt.Errorf("kafka client: %w", err)
	}
	defer cl.Close()
	r := &recovery{cfg: cfg, cl: cl, adm: kadm.NewClient(cl), places: map[int32]lastPlace{}, parked: map[parkedTable]state.Position{}}
	lost, err := r.lost(ctx)
	if err != nil || len(lost) == 0 {
		return nil, err
	}
	// What is parked is read before the events, among which it is once it is released.
	for _, topic := range slices.Concat([]string{rawtopic.ParkedTopic(cfg.RawTopic.Name)}, cfg.CleanTopics, []string{cfg.DeadLetterTopic}) {
		if err := r.read(ctx, topic); err != nil {
			return nil, err
		}
	}
	bounds, err := logBounds(ctx, r.adm, cfg.RawTopic.Name)
	if err != nil {
		return nil, err
	}
	var found []Recovered
	offsets := kadm.Offsets{}
	for _, p := range lost {
		c, from, err := r.position(ctx, p, bounds[p])
		if err != nil {
			return nil, &PositionError{Topic: cfg.RawTopic.Name, Partition: p, Reason: err.Error()}
		}
		offsets.Add(kadm.Offset{Topic: cfg.RawTopic.Name, TopicID: kadm.TopicID(cfg.RawTopic.ID), Partition: p, At: c.Offset, LeaderEpoch: -1, Metadata: c.metadata()})
		found = append(found, Recovered{Partition: p, Position: c.Position, From: from})
	}
	if err := r.adm.CommitAllOffsets(ctx, cfg.Group, offsets); err != nil {
		return nil, fmt.Errorf("commit the positions of group %s: %w", cfg.Group, err)
	}
	return found, nil
}

// lastPlace is the last that is out of a raw partition.
type lastPlace struct {
	state.Position
	lettered bool
	topic    string
	written  time.Time
}

// cutPartition is a partition of a clean topic whose first records are gone.
type cutPartition struct {
	topic         string
	partition, of int32
	// before is when the last of those were written, at the latest; zero if it is not known.
	before time.Time
}

// parkedTable is a table of which a raw partition had events parked.
type parkedTable struct {
	partition int32
	table     string
}

// recovery is one call of RecoverOffsets.
type recovery struct {
	cfg    RecoverConfig
	cl     *kgo.Client
	adm    *kadm.Client
	places map[int32]lastPlace
	// parked has the last event of each table that was parked, until it is found among those that are released.
	parked map[parkedTable]state.Position
	cut    string // a topic whose first records are gone
	cuts   []*cutPartition
	// unseen are those of the topic that is read, by the partition, of which no record was read yet.
	unseen map[int32]*cutPartition
}

// lost lists the partitions without a position.
func (r *recovery) lost(ctx context.Context) (lost []int32, err error) {
	groups, err := r.adm.DescribeGroups(ctx, r.cfg.Group)
	if err == nil {
		err = groups.Error()
	}
	if err != nil && !errors.Is(err, kerr.GroupIDNotFound) {
		return nil, fmt.Errorf("describe group %s: %w", r.cfg.Group, err)
	}
	if n := len(groups[r.cfg.Group].Members); n > 0 {
		return nil, fmt.Errorf("group %s has %d members: stop all workers, and wait until the brokers miss those that were killed", r.cfg.Group, n)
	}
	all := make([]int32, r.cfg.RawTopic.Partitions)
	for p := range all {
		all[p] = int32(p)
	}
	group, err := fetchCommitted(ctx, r.cl, r.cfg.Group, r.cfg.RawTopic, all...)
	if err != nil && !errors.Is(err, kerr.GroupIDNotFound) {
		return nil, err
	}
	return slices.DeleteFunc(all, func(p int32) bool { _, known := group[p]; return known }), nil
}

// read looks through a topic for the last of each raw partition.
func (r *recovery) read(ctx context.Context, topic string) error {
	left, err := r.ends(ctx, topic)
	if err != nil || len(left) == 0 {
		return err
	}
	r.cfg.Log.Info("reading what was written", zap.String("topic", topic))
	return readCommitted(ctx, r.cfg.ClientOpts, topic, left, r.take)
}

// ends waits until no transaction is open in a topic, and returns the ends of the partitions that have records.
func (r *recovery) ends(ctx context.Context, topic string) (map[int32]int64, error) {
	ctx, cancel := context.WithTimeout(ctx, committedTimeout)
	defer cancel()
	var wait backoff
	for {
		ends, err := r.adm.ListEndOffsets(ctx, topic)
		var stable, starts kadm.ListedOffsets
		if err == nil {
			stable, err = r.adm.ListCommittedOffsets(ctx, topic)
		}
		if err == nil {
			starts, err = r.adm.ListStartOffsets(ctx, topic)
		}
		if err == nil {
			err = errors.Join(ends.Error(), stable.Error(), starts.Error())
		}
		if errors.Is(err, kerr.UnknownTopicOrPartition) {
			return nil, nil
		}
		if err != nil {
			return nil, fmt.Errorf("list the offsets of topic %s: %w", topic, err)
		}
		left, open := map[int32]int64{}, false
		var cuts []*cutPartition
		ends.Each(func(end kadm.ListedOffset) {
			start, _ := starts.Lookup(topic, end.Partition)
			last, _ := stable.Lookup(topic, end.Partition)
			open = open || last.Offset != end.Offset
			if start.Offset > 0 {
				r.cut = topic
				cuts = append(cuts, &cutPartition{topic: topic, partition: end.Partition, of: int32(len(ends[topic]))})
			}
			if end.Offset > start.Offset {
				left[end.Partition] = end.Offset
			}
		})
		if !open {
			r.unseen = nil
			if slices.Contains(r.cfg.CleanTopics, topic) {
				r.noteCuts(ctx, cuts, left)
			}
			return left, nil
		}
		if wait.wait(ctx); ctx.Err() != nil {
			return nil, fmt.Errorf("topic %s has a transaction that is open: somebody writes to it; stop all workers", topic)
		}
	}
}

// noteCuts takes note of partitions of a clean topic whose first records are gone. Where records are left, the first of them tells when the others were
// written at the latest; where none is, they are older than the topic keeps them.
func (r *recovery) noteCuts(ctx context.Context, cuts []*cutPartition, left map[int32]int64) {
	r.unseen = map[int32]*cutPartition{}
	for _, c := range cuts {
		if r.unseen[c.partition] = c; left[c.partition] == 0 {
			if keeps, err := topicRetention(ctx, r.adm, c.topic); err == nil && keeps >= 0 {
				c.before = time.Now().Add(-keeps)
			}
		}
		r.cuts = append(r.cuts, c)
	}
}

// laterGone returns a partition of a clean topic that may have had later events of a raw partition than the last that is found.
func (r *recovery) laterGone(p int32, last lastPlace) *cutPartition {
	for _, c := range r.cuts {
		if p%c.of == c.partition && (c.before.IsZero() || last.written.Before(c.before)) {
			return c
		}
	}
	return nil
}

// take takes note of a record, if it is an event or a dead letter about the raw topic.
func (r *recovery) take(rec *kgo.Record) error {
	if c := r.unseen[rec.Partition]; c != nil {
		c.before = rec.Timestamp
		delete(r.unseen, rec.Partition)
	}
	numbers := map[string]int64{}
	letter, group := false, ""
	for _, h := range rec.Headers {
		switch h.Key {
		case HeaderRawPartition, HeaderRawOffset, HeaderIndex:
			n, err := strconv.ParseInt(string(h.Value), 10, 64)
			if err != nil || n < 0 {
				return fmt.Errorf("expected a number in the header %s, found %q", h.Key, h.Value)
			}
			numbers[h.Key] = n
		case HeaderGroup:
			group = string(h.Value)
		case HeaderRawTopic:
			if letter = true; string(h.Value) != r.cfg.RawTopic.Name {
				return nil
			}
		}
	}
	partition, ok := numbers[HeaderRawPartition]
	offset, known := numbers[HeaderRawOffset]
	index, event := numbers[HeaderIndex]
	if !ok || !known || !event && !letter || partition >= int64(r.cfg.RawTopic.Partitions) {
		return nil // it is of something else
	}
	if letter && group != "" && group != r.cfg.Group {
		return nil // another group's, which may be further
	}
	// A dead letter without an index is of a record: what of it is parked is so still.
	if event && r.park(rec, int32(partition), state.Position{Offset: offset, Done: index + 1}, group) {
		return nil // another group parked it
	}
	at := lastPlace{Position: state.Position{Offset: offset}, lettered: letter, topic: rec.Topic, written: rec.Timestamp}
	if event {
		at.Done = index + 1
	}
	last, ok := r.places[int32(partition)]
	switch {
	case !ok || at.Offset > last.Offset:
		r.places[int32(partition)] = at
	case at.Offset == last.Offset:
		last.lettered = last.lettered || at.lettered
		if at.Done > last.Done {
			last.Done, last.topic, last.written = at.Done, at.topic, at.written
		}
		r.places[int32(partition)] = last
	}
	return nil
}

// park takes note of an event that was parked, or released. It reports whether it is another group's.
func (r *recovery) park(rec *kgo.Record, partition int32, at state.Position, group string) (others bool) {
	if rec.Topic == rawtopic.ParkedTopic(r.cfg.RawTopic.Name) {
		if group == r.cfg.Group {
			r.parked[parkedTable{partition, string(rec.Key)}] = at
		}
		return group != r.cfg.Group
	}
	maps.DeleteFunc(r.parked, func(t parkedTable, last state.Position) bool { return t.partition == partition && last == at })
	return false
}

// position is where the group was, as far as it matters.
func (r *recovery) position(ctx context.Context, p int32, log bounds) (c committed, from string, err error) {
	// State that is ahead, in a directory that is not here, is behind records that made no event: a checkpoint takes its place.
	c = committed{epoch: -1, topic: r.cfg.RawTopic.ID, restored: log.end}
	for t := range r.parked {
		if t.partition == p {
			return c, "", fmt.Errorf("events of table %s are parked, and which of them are released was with the lost position; "+
				"give the group's position as it was, or start over", t.table)
		}
	}
	place, ofRecord := r.places[p]
	if ofRecord {
		c.Position, c.lettered, from = place.Position, place.lettered, "the last record in topic "+place.topic
	}
	further := func(at state.Position, where string) {
		if from == "" || at.Compare(c.Position) > 0 {
			c.lettered = c.lettered && c.Offset == at.Offset
			c.Position, from, ofRecord = at, where, false
		}
	}
	for _, directory := range r.cfg.StateDirectories {
		at, known, err := r.stateOf(directory, p)
		if err != nil {
			return c, "", err
		}
		if known {
			further(at, "the state in "+directory)
		}
	}
	if r.cfg.Checkpoints != nil {
		// One that is not whole tells it too: it was made of a state.
		all, err := r.cfg.Checkpoints.Positions(ctx, p)
		if err != nil {
			return c, "", err
		}
		for _, at := range all {
			further(at, "a checkpoint")
		}
	}
	switch {
	case from == "" && (r.cut != "" || log.start > 0):
		return c, "", fmt.Errorf("nothing tells where the group was: there is no event of it, and the first records of topic %s are gone; "+
			"recover where its state is, or start over", cmp.Or(r.cut, r.cfg.RawTopic.Name))
	case from == "":
		from = "nothing was ever written of it"
	case ofRecord && r.laterGone(p, place) != nil:
		return c, "", fmt.Errorf("the last event of it that is found is that at %v, in topic %s, of %v, no state is further, and first records of topic %s are gone that may be of later ones: "+
			"give the state directory that has the partition, or the checkpoint-store; or start over", c.Position, place.topic, place.written.UTC(), r.laterGone(p, place).topic)
	case c.Offset < log.start:
		// The worker would refuse it, and what the group has is not looked for again.
		return c, "", fmt.Errorf("the furthest that is found is the position %v, of %s, and the raw topic begins at %d only, so nobody can go on from there: "+
			"give the state directory that has the partition, or the checkpoint-store; or start over", c, from, log.start)
	case c.Offset >= log.end && c.Done > 0, c.Offset > log.end:
		return c, "", fmt.Errorf("the position %v, of %s, is past the end of the log, %d: that is of another topic of this name; start over", c, from, log.end)
	}
	return c, from, nil
}

// stateOf is the position of the state of a partition in a state directory, if it is there.
func (r *recovery) stateOf(directory string, p int32) (at state.Position, ok bool, err error) {
	dir := r.cfg.files.PathJoin(directory, path.Join(r.cfg.RawTopic.Name, strconv.Itoa(int(p))))
	if _, err := r.cfg.files.Stat(dir); err != nil {
		return at, false, nil
	}
	reader, err := state.OpenReader(dir, state.Options{FS: r.cfg.files})
	if err != nil {
		return at, false, err
	}
	defer reader.Close()
	if id := reader.Identity(); id.TopicID != r.cfg.RawTopic.ID {
		return at, false, fmt.Errorf("the state in %s is of another topic of this name; move it away", dir)
	}
	at, ok = reader.Position()
	return at, ok, nil
}
