package dedup

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"cassdelta/internal/rawtopic"
	"cassdelta/schema"
	"cassdelta/state/checkpoint"
)

// SetBack sets the positions of a group to those of checkpoints, one of each raw partition. The workers of the group must not run; when they
// start, they take the checkpoints, whatever is on their disks, and write the events after them again. Tables that are parked stay so, from the
// same place of the parked topic on: what was parked before the checkpoint is nowhere else. It refuses checkpoints that the raw topic has no
// records after, those beyond what the group has ever written, those of another topic or fold version, a group with members, and one that has
// lost the position that said what is parked.
func SetBack(ctx context.Context, opts []kgo.Opt, of checkpoint.Scope, all []*checkpoint.Entry) error {
	cl, err := kgo.NewClient(opts...)
	if err != nil {
		return fmt.Errorf("kafka client: %w", err)
	}
	defer cl.Close()
	if err := connect(ctx, cl, connectTimeout); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	adm := kadm.NewClient(cl)
	topic, err := describeRawTopic(ctx, cl, opts, of.Topic)
	if err != nil {
		return err
	}
	if topic.ID != schema.UUID(of.TopicID) || topic.Partitions != of.Partitions {
		return fmt.Errorf("the raw topic %s has the id %v and %d partitions, and the checkpoints are of one with the id %v and %d: it was made again, and they are of no use",
			of.Topic, topic.ID, topic.Partitions, schema.UUID(of.TopicID), of.Partitions)
	}
	groups, err := adm.DescribeGroups(ctx, of.Group)
	if err == nil {
		err = groups.Error()
	}
	if err != nil && !errors.Is(err, kerr.GroupIDNotFound) {
		return fmt.Errorf("describe the group %s: %w", of.Group, err)
	}
	if members := len(groups[of.Group].Members); members > 0 {
		return fmt.Errorf("the group %s has %d members; stop all of its workers first (one that was killed is a member for 10 s more)", of.Group, members)
	}
	log, err := logBounds(ctx, adm, of.Topic)
	if err != nil {
		return err
	}
	now, err := fetchCommitted(ctx, cl, of.Group, topic, partitionsOf(all)...)
	if err != nil && !errors.Is(err, kerr.GroupIDNotFound) {
		return err
	}
	offsets := kadm.Offsets{}
	for _, e := range all {
		was, known := now[e.Partition]
		if !known {
			if err := nothingParked(ctx, adm, of.Topic, e.Partition); err != nil {
				return err
			}
		}
		in, err := parseEpoch(e.Manifest.Epoch)
		if err == nil {
			err = epochs{in}.foldable()
		}
		if err != nil {
			return fmt.Errorf("the %v: %w", e, err)
		}
		// What the group was in after the checkpoint is of the life that ends.
		all := was.knownEpochs().upTo(e.Position.Offset)
		if i := slices.Index(all, in); i >= 0 {
			all = all[:i+1]
		} else {
			all = epochs{in}
		}
		b := log[e.Partition]
		if e.Position.Offset < b.start || e.Position.Offset > b.end {
			return fmt.Errorf("the %v is at %v, and the raw topic has the records from %d to %d: those after it cannot be folded", e, e.Position, b.start, b.end)
		}
		if known && e.Position.Compare(was.Position) > 0 && e.Position.Offset > was.restored {
			return fmt.Errorf("the %v is at %v, and the group has written the events up to %v only: those between would never be written; start the workers without it, and take a "+
				"savepoint when they are there", e, e.Position, was.Position)
		}
		furthest := max(was.Offset+1, was.restored) // it may be within the record
		if !known {
			furthest = b.end
		}
		c := committed{Position: e.Position, topic: topic.ID, epochs: all.text(), restored: furthest, parked: was.parked}
		offsets.Add(kadm.Offset{Topic: of.Topic, Partition: e.Partition, At: c.Offset, LeaderEpoch: -1, Metadata: c.metadata()})
	}
	if err := adm.CommitAllOffsets(ctx, of.Group, offsets); err != nil {
		return fmt.Errorf("set the positions of the group %s: %w", of.Group, err)
	}
	return nil
}

func partitionsOf(all []*checkpoint.Entry) (partitions []int32) {
	for _, e := range all {
		partitions = append(partitions, e.Partition)
	}
	return partitions
}

// nothingParked is an error if something may be parked of a raw partition, and no position says what.
func nothingParked(ctx context.Context, adm *kadm.Client, rawTopic string, partition int32) error {
	topic := rawtopic.ParkedTopic(rawTopic)
	starts, err := adm.ListStartOffsets(ctx, topic)
	if err == nil {
		err = starts.Error()
	}
	if errors.Is(err, kerr.UnknownTopicOrPartition) {
		return nil
	}
	var end int64
	if err == nil {
		end, err = partitionEnd(ctx, adm, topic, partition)
	}
	if err != nil {
		return fmt.Errorf("look for parked events: %w", err)
	}
	if start, _ := starts.Lookup(topic, partition); start.Offset == end {
		return nil
	}
	return fmt.Errorf("the group has no position in raw partition %d, which would say what of the topic %s is not released yet; "+
		"recover the position first, with cassdelta recover-offsets", partition, topic)
}
