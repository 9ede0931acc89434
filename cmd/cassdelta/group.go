package main

import (
	"context"
	"io"
	"time"

	"cassdelta/internal/config"
	"cassdelta/internal/group"
)

type groupCmd struct {
	Show    groupShowCmd    `cmd:"" help:"Print where the group is in each raw partition, and which tables are parked."`
	Release groupReleaseCmd `cmd:"" help:"Ask the workers to try parked tables again, once the cause is removed."`
}

// groupFlags say which group.
type groupFlags struct {
	config.File

	Kafka    kafkaFlags `embed:"" prefix:"kafka-"`
	RawTopic string     `default:"cassdelta.raw" placeholder:"NAME" help:"Topic between agents and dedup. Default: ${default}."`
	Group    string     `default:"cassdelta-dedup" placeholder:"NAME" help:"Consumer group of the workers. Default: ${default}."`
}

func (f *groupFlags) config(out io.Writer) group.Config {
	return group.Config{ClientOpts: f.Kafka.Opts(), RawTopic: f.RawTopic, Group: f.Group, Out: out}
}

type groupShowCmd struct {
	groupFlags `embed:""`
}

// Run prints.
func (c *groupShowCmd) Run(ctx context.Context, stdout io.Writer) error {
	return group.Show(ctx, c.config(stdout))
}

type groupReleaseCmd struct {
	groupFlags `embed:""`
	Wait       time.Duration `default:"1m" placeholder:"DURATION" help:"How long to wait until nothing is parked any more. Default: ${default}."`
}

// Run asks, and waits.
func (c *groupReleaseCmd) Run(ctx context.Context, stdout io.Writer) error {
	return group.Release(ctx, c.config(stdout), c.Wait)
}
