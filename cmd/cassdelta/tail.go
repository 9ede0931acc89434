package main

import (
	"context"
	"io"
	"os"

	"cassdelta/internal/config"
	"cassdelta/internal/tail"
)

type tailCmd struct {
	config.File

	Tables []string `arg:"" optional:"" name:"table" help:"Only these: KEYSPACE.TABLE, or KEYSPACE for all of its tables."`

	Kafka         kafkaFlags    `embed:"" prefix:"kafka-"`
	TopicPrefix   string        `default:"cassdelta" placeholder:"NAME" help:"Clean topics are PREFIX.KEYSPACE.TABLE. Default: ${default}."`
	Registry      registryFlags `embed:"" prefix:"registry-"`
	FromBeginning bool          `help:"Begin with the oldest events that the topics have, not with those to come."`
	UntilEnd      bool          `help:"Print what the topics have from the oldest event to the newest, then stop. Fails if a record cannot be read."`
	JSON          bool          `name:"json" help:"One event a line as JSON, for programs: the fields of the envelope, values as SELECT JSON prints them, and topic and key."`
}

// Run prints until ctx ends.
func (c *tailCmd) Run(ctx context.Context, stdout io.Writer) error {
	registry, err := c.Registry.client(ctx)
	if err != nil {
		return err
	}
	return tail.Follow(ctx, tail.Config{
		ClientOpts: c.Kafka.Opts(),
		Prefix:     c.TopicPrefix,
		Tables:     c.Tables,
		FromStart:  c.FromBeginning,
		UntilEnd:   c.UntilEnd,
		Registry:   registry,
		JSON:       c.JSON,
		Out:        stdout,
		Notes:      os.Stderr,
	})
}
