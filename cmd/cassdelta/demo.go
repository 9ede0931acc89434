package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"go.uber.org/zap"

	"cassdelta/internal/local"
	"cassdelta/internal/recording"
	"cassdelta/internal/tail"
	"cassdelta/schema"
	"cassdelta/testdata/recordings"
)

type demoCmd struct {
	JSON bool `name:"json" help:"One event a line as JSON, for programs: the fields of the envelope, values as SELECT JSON prints them, and topic and key. Without a summary."`
}

// Run plays the recording.
func (c *demoCmd) Run(ctx context.Context, log *zap.Logger, stdout io.Writer) error {
	dir, err := os.MkdirTemp("", "cassdelta-demo-")
	if err != nil {
		return err
	}
	return errors.Join(c.play(ctx, dir, quiet(log), stdout), os.RemoveAll(dir))
}

func (c *demoCmd) play(ctx context.Context, dir string, log *zap.Logger, stdout io.Writer) error {
	r, err := recording.Open(recordings.Demo())
	if err != nil {
		return err
	}
	nodes, err := unpackNodes(r, dir)
	if err != nil {
		return err
	}
	cql, err := r.Schema()
	if err != nil {
		return err
	}
	tables, err := schema.ParseCQL("schema.cql", cql)
	if err != nil {
		return err
	}
	if !c.JSON {
		fmt.Fprintf(stdout, "Commit log segments of %d real nodes of Cassandra %s, recorded: %s.\nThree agents, one broker, one dedup, all in this process. Each line is one change:\n\n",
			len(r.Nodes), r.Cassandra, r.About)
	}
	printer := tail.NewPrinter(stdout, c.JSON)
	summary, err := local.Run(ctx, local.Config{
		Nodes: nodes, Copy: true, UntilEnd: true, Cluster: r.Name, Prefix: "demo",
		Source: local.FixedSource{Catalog: tables.Catalog()}, Static: true,
		Print: printer.Print, Log: log,
	})
	if err != nil || ctx.Err() != nil || c.JSON {
		return err
	}
	names := make([]string, len(r.Nodes))
	for i, n := range r.Nodes {
		names[i] = n.Name
	}
	return printSummary(stdout, names, summary)
}

func unpackNodes(r *recording.Recording, dir string) ([]local.Node, error) {
	var nodes []local.Node
	for _, n := range r.Nodes {
		host, err := schema.ParseUUID(n.HostID)
		if err != nil {
			return nil, err
		}
		node := local.Node{Host: host, Directory: filepath.Join(dir, n.Name)}
		if err := r.Unpack(n.Name, recording.FinalMoment, node.Directory); err != nil {
			return nil, err
		}
		nodes = append(nodes, node)
	}
	return nodes, nil
}

// quiet leaves out what is of no interest where the output is events: a log at its default level then has warnings and
// errors only.
func quiet(log *zap.Logger) *zap.Logger {
	if log.Level() != zap.InfoLevel {
		return log
	}
	return log.WithOptions(zap.IncreaseLevel(zap.WarnLevel))
}
