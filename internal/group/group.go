// Package group looks at the consumer group of dedup from outside, and asks its workers for things.
package group

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"cassdelta/dedup"
)

// Config says which group.
type Config struct {
	ClientOpts []kgo.Opt
	RawTopic   string
	Group      string
	// Out takes what is said.
	Out io.Writer
}

// group is a group and its raw topic, once they are found.
type group struct {
	Config
	client *kgo.Client
	topic  dedup.RawTopic
}

// open connects. The caller closes the client.
func open(ctx context.Context, c Config) (*group, error) {
	client, err := kgo.NewClient(c.ClientOpts...)
	if err != nil {
		return nil, fmt.Errorf("kafka client: %w", err)
	}
	topic, err := dedup.LookUpRawTopic(ctx, client, c.ClientOpts, c.RawTopic)
	if err != nil {
		client.Close()
		return nil, err
	}
	return &group{Config: c, client: client, topic: topic}, nil
}

func (g *group) partitions(ctx context.Context) ([]dedup.GroupPartition, error) {
	return dedup.DescribeGroup(ctx, g.client, g.Group, g.topic)
}

// Show prints where the group is in each raw partition, and which tables are parked.
func Show(ctx context.Context, c Config) error {
	g, err := open(ctx, c)
	if err != nil {
		return err
	}
	defer g.client.Close()
	partitions, err := g.partitions(ctx)
	if err != nil {
		return err
	}
	w := tabwriter.NewWriter(c.Out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(w, "raw partition\tlog from\tto\tposition\tbehind\tparked tables\t\n")
	for _, p := range partitions {
		position, behind := "none", "-"
		if p.HasPosition {
			position, behind = p.Position.String(), fmt.Sprint(p.End-p.Position.Offset)
		}
		fmt.Fprintf(w, "%d\t%d\t%d\t%s\t%s\t%d\t\n", p.Partition, p.Start, p.End, position, behind, len(p.Parked))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for _, table := range parkedTables(partitions) {
		fmt.Fprintf(c.Out, "%s is parked in raw partitions %s\n", table.name, table.partitions())
	}
	return nil
}

// table is a table that is parked.
type table struct {
	name string
	in   []int32 // raw partitions
}

func (t *table) partitions() string {
	var b strings.Builder
	for i, p := range t.in {
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprint(&b, p)
	}
	return b.String()
}

func parkedTables(partitions []dedup.GroupPartition) []table {
	in := map[string][]int32{}
	for _, p := range partitions {
		for name := range p.Parked {
			in[name] = append(in[name], p.Partition)
		}
	}
	var tables []table
	for _, name := range slices.Sorted(maps.Keys(in)) {
		tables = append(tables, table{name, in[name]})
	}
	return tables
}

// lookEvery is the time between two looks whether tables are still parked.
const lookEvery = time.Second

// Release asks the workers to try the parked tables again, and waits, as long as the time given, until none is parked. It is
// an error if one still is then.
func Release(ctx context.Context, c Config, wait time.Duration) error {
	g, err := open(ctx, c)
	if err != nil {
		return err
	}
	defer g.client.Close()
	partitions, err := g.partitions(ctx)
	if err != nil {
		return err
	}
	var concerned []int32
	for _, p := range partitions {
		if len(p.Parked) > 0 {
			concerned = append(concerned, p.Partition)
		}
	}
	if len(concerned) == 0 {
		fmt.Fprintln(c.Out, "no table is parked")
		return nil
	}
	for _, t := range parkedTables(partitions) {
		fmt.Fprintf(c.Out, "%s is tried again in raw partitions %s\n", t.name, t.partitions())
	}
	if err := dedup.RequestRelease(ctx, g.client, g.Group, g.RawTopic, concerned...); err != nil {
		return err
	}
	deadline := time.NewTimer(wait)
	defer deadline.Stop()
	for {
		left, err := g.partitions(ctx)
		if err != nil {
			return err
		}
		tables := parkedTables(left)
		if len(tables) == 0 {
			fmt.Fprintln(c.Out, "no table is parked any more")
			return nil
		}
		select {
		case <-time.After(lookEvery):
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-deadline.C:
			var names []string
			for _, t := range tables {
				names = append(names, t.name)
			}
			return fmt.Errorf("after %v these tables are still parked: %s; the log of the workers says whether their cause is still there, "+
				"cassdelta_dedup_released_events_total whether they are on the way", wait, strings.Join(names, ", "))
		}
	}
}
