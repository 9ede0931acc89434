// Package segment looks into commit log segments: cassdelta segment info and cassdelta segment dump. It reads with the
// same code as the agent, and changes nothing.
//
// # JSON lines
//
// dump --json prints one object a line for each partition update, by segment id, position and index. Keys stand in this
// order and are left out where there is nothing; integers are exact, time stamps in microseconds, ldt and exp in
// seconds since 1970, bytes in lower-case hexadecimal digits:
//
//	{"seg":1795414250152,"pos":4711,"size":88,"i":0,"n":1,     segment, logical position behind the entry, payload size,
//	                                                          update i of the n in this mutation
//	 "ks":"shop","table":"orders","id":"<uuid>","pk":"<hex>", partition key as serialized (composites included)
//	 "del":{"ts":1,"ldt":1700000000},                         partition deletion
//	 "static":{"cells":[...],"cdel":[...]},                   static row
//	 "rows":[ ... ]}                                          rows and markers in order; always there
//	row     {"ck":["<hex>",null,""],                          clustering: null is null, "" an empty value
//	         "live":{"ts":1,"ttl":60,"exp":1700000060},       primary key liveness; ttl and exp if it expires
//	         "del":{"ts":1,"ldt":1,"shadowable":1},           row deletion
//	         "cells":[...],"cdel":[{"c":"m","ts":1,"ldt":1}]} cells always; deletions of multi-cell columns
//	cell    {"c":"v","p":"<hex>","ts":1,"ttl":60,"ldt":1700000060,"v":"<hex>"}   p: path in a multi-cell column; ttl, ldt
//	                                                          if it expires
//	        {"c":"v","p":"<hex>","ts":1,"ldt":1700000000,"x":1}                  tombstone: no v
//	marker  {"rt":"INCL_START_BOUND","ck":["<hex>"],"del":{...}}                 bound: ck may be a prefix or []
//	        {"rt":"EXCL_END_INCL_START_BOUNDARY","ck":[...],"end":{...},"start":{...}}   boundary: the deletion that ends,
//	                                                          the one that starts
package segment

import (
	"context"
	"io"
	"os"

	"cassdelta/commitlog"
)

// Cmd is the command line of cassdelta segment.
type Cmd struct {
	Info InfoCmd `cmd:"" help:"Say what segments hold: versions, sections, tables, sizes, times, how they end."`
	Dump DumpCmd `cmd:"" help:"Print the mutations in segments."`
}

// files are the arguments of both commands.
type files struct {
	Paths    []string `arg:"" name:"path" help:"Segments (CommitLog-<version>-<id>.log), or directories that hold some."`
	Schema   string   `placeholder:"FILE" help:"CQL file with the tables, as cqlsh's DESCRIBE KEYSPACE ... WITH INTERNALS prints it."`
	Keyspace string   `placeholder:"NAME" help:"Only tables of this keyspace."`
	KeystoreFlags
}

// options are what the arguments say.
func (f *files) options(out io.Writer) (Options, error) {
	keys, err := f.Keys()
	return Options{Paths: f.Paths, Schema: f.Schema, Keyspace: f.Keyspace, Keys: keys, Out: out, Notes: os.Stderr}, err
}

// InfoCmd is the command line of cassdelta segment info.
type InfoCmd struct {
	files
}

// Run prints to stdout.
func (c *InfoCmd) Run(ctx context.Context, stdout io.Writer) error {
	o, err := c.options(stdout)
	if err != nil {
		return err
	}
	return Info(ctx, o)
}

// DumpCmd is the command line of cassdelta segment dump.
type DumpCmd struct {
	files
	JSON bool `name:"json" help:"One JSON object a line for each partition update, values in hex."`
}

// Run prints to stdout, remarks to stderr.
func (c *DumpCmd) Run(ctx context.Context, stdout io.Writer) error {
	o, err := c.options(stdout)
	if err != nil {
		return err
	}
	o.JSON = c.JSON
	return Dump(ctx, o)
}

// Options say what [Info] and [Dump] read and print.
type Options struct {
	// Paths are segments, or directories that hold some.
	Paths []string
	// Schema is the path of a CQL file; "" for none.
	Schema string
	// Keyspace limits the tables to those of one keyspace; "" takes all.
	Keyspace string
	// Keys are those of encrypted segments; nil for none.
	Keys commitlog.Keys
	// JSON asks Dump for JSON lines.
	JSON bool
	// Out takes the output, Notes remarks about it.
	Out, Notes io.Writer
}
