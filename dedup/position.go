package dedup

import (
	"context"
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"cassdelta/state"
)

// PositionError says that the state of a raw partition, the position of the group and the log do not fit together, so
// that nothing can be folded without losing or repeating events. Nothing was changed.
type PositionError struct {
	Topic     string
	Partition int32
	// Reason says what was expected and found, and what to do.
	Reason string
}

func (e *PositionError) Error() string {
	return fmt.Sprintf("raw topic %s, partition %d: %s", e.Topic, e.Partition, e.Reason)
}

// resumption is what is known when a partition is opened.
type resumption struct {
	topic     RawTopic
	partition int32
	directory string

	// state is S; hasState is false for a new store.
	state    state.Position
	hasState bool
	// group is C; hasGroup is false if the group has committed nothing.
	group    committed
	hasGroup bool
	// epochs are those from the state's on.
	epochs epochs
	log    bounds
	// written is a clean topic with events, if there is neither state nor a position of any partition.
	written string
	// withoutState allows to begin at the start of a log whose first records have expired, or of which there are events.
	withoutState bool
}

// plan says how to bring the state to the group's position: the records of [from, to) are folded without emitting, and then
// from is to.
func (r *resumption) plan() (from state.Position, to committed, err error) {
	s, c := r.state, r.group
	refuse := func(format string, args ...any) (state.Position, committed, error) {
		return state.Position{}, committed{}, &PositionError{Topic: r.topic.Name, Partition: r.partition, Reason: fmt.Sprintf(format, args...)}
	}
	const startOver = "to start over, stop all workers, remove their state directories, delete the group and its checkpoints, and start them with --without-state: " +
		"folding then begins at the first record of the raw topic, and events are written again"
	switch {
	case !r.hasGroup && r.hasState:
		return refuse("the state in %s is at %v and the group has no committed position: its offsets were deleted or have expired, or this is another group; "+
			"recover them with cassdelta recover-offsets, which is to be given the state directories of all workers, and the checkpoint-store if there is one; or use the group that the state belongs to; %s", r.directory, s, startOver)
	case !r.hasGroup && r.log.start > 0 && !r.withoutState:
		return refuse("there is no state in %s, the group has no committed position, and the log begins at %d only: what was before is not known, so rows would be reported as not "+
			"complete, and events may have been written by another group; restore a checkpoint, or give --without-state to begin here all the same", r.directory, r.log.start)
	case !r.hasGroup && r.written != "" && !r.withoutState:
		return refuse("there is no state in %s, the group has no committed position, and the topic %s has events: the group's offsets were deleted or have expired, or another group "+
			"writes to these topics; recover the offsets with cassdelta recover-offsets, the state is then built again; or use another group or topic-prefix; "+
			"or give --without-state to begin at the first record of the raw topic, and write the events again", r.directory, r.written)
	case !r.hasGroup:
		start := committed{Position: state.Position{Offset: r.log.start}, epoch: -1, topic: r.topic.ID, epochs: r.epochs.text()}
		return start.Position, start, nil
	case !c.topic.IsZero() && c.topic != r.topic.ID:
		return refuse("the group's position %v is one in a topic of this name with the id %v, and the topic now has the id %v: it was deleted and made again; %s",
			c, c.topic, r.topic.ID, startOver)
	case c.Offset > r.log.end || c.Done > 0 && c.Offset == r.log.end:
		return refuse("the group's position %v is past the end of the log, %d: the log was cut, or the topic was made again; %s", c, r.log.end, startOver)
	case c.Offset < r.log.start:
		return refuse("the records from the group's position %v to the start of the log, %d, were deleted before they were folded, and the changes in them are lost; "+
			"raise the topic's retention; %s", c, r.log.start, startOver)
	case r.hasState && s.Compare(c.Position) > 0:
		return refuse("the state in %s is at %v, ahead of the group's position %v: it is from another life of the group, whose offsets were set back since, or the directory was not at hand when they were recovered; "+
			"remove that directory, the state is then built again from the raw topic up to the group's position; or set the group's offsets as they were",
			r.directory, s, c)
	case r.hasState && s != c.Position && s.Offset < r.log.start:
		return refuse("the state in %s is at %v, the group at %v, and the log begins at %d only: the records between cannot be folded again; "+
			"there is no checkpoint between; restore a later copy of that directory if there is one; %s", r.directory, s, c, r.log.start, startOver)
	case !r.hasState && c.Offset > 0 && r.log.start > 0:
		return refuse("there is no state in %s, and no checkpoint of it, the group is at %v, and the log begins at %d only: the state cannot be built again; "+
			"restore that directory, or run this where it is; %s", r.directory, c, r.log.start, startOver)
	}
	if err := r.epochs.foldable(); err != nil {
		return refuse("the state in %s is at %v, the group at %v: %v", r.directory, s, c, err)
	}
	return s, c, nil
}

// committedTimeout bounds how long the group's positions may be unstable: longer than a transaction can be open.
const committedTimeout = 2 * transactionTimeout

// fetchCommitted asks for the group's positions; a partition without one is not in the result. It waits for
// transactions that are still open to end, as a position in one may yet become the group's.
func fetchCommitted(ctx context.Context, cl *kgo.Client, group string, topic RawTopic, partitions ...int32) (map[int32]committed, error) {
	ctx, cancel := context.WithTimeout(ctx, committedTimeout)
	defer cancel()
	var wait backoff
	for {
		positions, err := tryFetchCommitted(ctx, cl, group, topic, partitions)
		if !kerr.IsRetriable(err) {
			return positions, err
		}
		if wait.wait(ctx); ctx.Err() != nil {
			return nil, err
		}
	}
}

// stableVersion is the first version of OffsetFetch that waits for open transactions (Kafka 2.5).
const stableVersion = 7

// tryFetchCommitted names the partitions: asked for all there are, a broker does not mention one whose first position
// is still in an open transaction.
func tryFetchCommitted(ctx context.Context, cl *kgo.Client, group string, topic RawTopic, partitions []int32) (map[int32]committed, error) {
	req := kmsg.NewPtrOffsetFetchRequest()
	req.RequireStable = true
	g := kmsg.NewOffsetFetchRequestGroup()
	g.Group = group
	t := kmsg.NewOffsetFetchRequestGroupTopic()
	t.Topic, t.TopicID, t.Partitions = topic.Name, topic.ID, partitions
	g.Topics = append(g.Topics, t)
	req.Groups = append(req.Groups, g)
	fail := func(err error) error {
		return fmt.Errorf("fetch the positions of group %s in topic %s: %w", group, topic.Name, err)
	}
	resp, err := req.RequestWith(ctx, cl)
	if err != nil {
		return nil, fail(err)
	}
	if resp.Version < stableVersion {
		return nil, &stopError{fail(errors.New("the brokers are too old for exactly-once; Kafka 2.5 or newer is needed"))}
	}
	if err := kerr.ErrorForCode(resp.ErrorCode); err != nil {
		return nil, fail(err)
	}
	if len(resp.Groups) != 1 || len(resp.Groups[0].Topics) != 1 || len(resp.Groups[0].Topics[0].Partitions) != len(partitions) {
		return nil, fail(fmt.Errorf("expected an answer about %d partitions of one topic, found %+v", len(partitions), resp.Groups))
	}
	positions := map[int32]committed{}
	for _, p := range resp.Groups[0].Topics[0].Partitions {
		if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
			return nil, fail(fmt.Errorf("partition %d: %w", p.Partition, err))
		}
		if p.Offset < 0 {
			continue
		}
		metadata := ""
		if p.Metadata != nil {
			metadata = *p.Metadata
		}
		if positions[p.Partition], err = parseCommitted(p.Offset, p.LeaderEpoch, metadata); err != nil {
			return nil, &stopError{&PositionError{Topic: topic.Name, Partition: p.Partition, Reason: err.Error()}}
		}
	}
	return positions, nil
}
