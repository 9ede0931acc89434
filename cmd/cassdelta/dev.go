package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"go.uber.org/zap"

	"cassdelta/commitlog"
	"cassdelta/internal/local"
	"cassdelta/internal/obs"
	"cassdelta/internal/tail"
	"cassdelta/schema"
)

type devCmd struct {
	Directories []string `arg:"" name:"dir" help:"cdc_raw directories, one of each node. They are only read: nothing in them is removed."`

	Schema    string         `placeholder:"FILE" help:"CQL file with the tables, as cqlsh's DESCRIBE KEYSPACE ... WITH INTERNALS prints it. Without it a running node is asked for them."`
	Cassandra cassandraFlags `embed:"" prefix:"cassandra-"`
	UntilEnd  bool           `help:"Stop when the directories hold nothing more. With --schema they are taken as copies that no node writes to."`
	JSON      bool           `name:"json" help:"One event a line as JSON, for programs: the fields of the envelope, values as SELECT JSON prints them, and topic and key. Without a summary."`
}

// Run shows the changes in the directories.
func (c *devCmd) Run(ctx context.Context, log *zap.Logger, stdout io.Writer) error {
	cfg := local.Config{
		Prefix: "dev", Mode: commitlog.Live, UntilEnd: c.UntilEnd, Copy: c.UntilEnd && c.Schema != "",
		Print: tail.NewPrinter(stdout, c.JSON).Print, Log: quiet(log),
	}
	for _, dir := range c.Directories {
		if err := checkDirectory(dir); err != nil {
			return err
		}
		abs, err := filepath.Abs(dir)
		if err != nil {
			return err
		}
		// Nothing in a directory says whose it is, so its path stands for the host.
		sum := sha256.Sum256([]byte(abs))
		cfg.Nodes = append(cfg.Nodes, local.Node{Host: schema.UUID(sum[:16]), Directory: abs})
	}
	if c.Schema != "" {
		catalog, err := readCatalog(c.Schema)
		if err != nil {
			return err
		}
		cfg.Source, cfg.Static, cfg.Cluster = local.FixedSource{Catalog: catalog}, true, "dev"
	} else {
		source, err := c.Cassandra.source(log)
		if err != nil {
			return err
		}
		defer source.Close()
		n, err := findNode(ctx, &c.Cassandra, log)
		if off := (*cdcOffError)(nil); err != nil && !errors.As(err, &off) {
			err = fmt.Errorf("%w; or give the tables by --schema FILE", err)
		}
		if err != nil {
			return err
		}
		if len(cfg.Nodes) == 1 {
			cfg.Nodes[0].Host = n.host
		}
		cfg.Source, cfg.Cluster = source, n.cluster
	}
	if !c.UntilEnd && !c.JSON && obs.IsTerminal(stdout) {
		fmt.Fprintf(stdout, "Waiting for changes of tables with cdc = true in %d directories; Ctrl-C ends.\n", len(cfg.Nodes))
	}
	summary, err := local.Run(ctx, cfg)
	if err != nil || c.JSON {
		return err
	}
	return printSummary(stdout, c.Directories, summary)
}

// checkDirectory says what is expected if there is no directory that can be read.
func checkDirectory(dir string) error {
	_, err := os.ReadDir(dir)
	if fault := (*fs.PathError)(nil); errors.As(err, &fault) {
		err = fmt.Errorf("the directory %s cannot be read (%w): give the cdc_raw_directory that is set in a node's cassandra.yaml; "+
			"the node makes it when it starts with cdc_enabled: true", dir, fault.Err)
	}
	return err
}

// readCatalog reads the tables of a CQL file, of which one must have CDC data.
func readCatalog(path string) (*schema.Catalog, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("schema: %w", err)
	}
	tables, err := schema.ParseCQL(path, string(text))
	if err != nil {
		return nil, err
	}
	if err := tables.MissingIDs(); err != nil {
		return nil, err
	}
	if !slices.ContainsFunc(tables.Tables, func(t *schema.Table) bool { return t.CDC }) {
		return nil, fmt.Errorf("%s: no table has cdc = true, so there are no changes to show: ALTER TABLE ... WITH cdc = true, and give the tables as they are then", path)
	}
	return tables.Catalog(), nil
}
