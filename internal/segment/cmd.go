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
//
// Without a schema a line is a mutation, with the table id and partition key of its first update:
//
//	{"seg":1795414250152,"pos":4711,"size":88,"n":1,"id":"<uuid>","pk":"<hex>","raw":"<hex>"}
//
// With --values text, keys and values are what SELECT JSON prints for them:
//
//	pk     {"id":1,"day":"2024-02-29"}    the columns of the partition key
//	ck     {"at":5}                       the columns of the clustering, or of its prefix; {} without any
//	p      "6f96...", 42, "street"        the timeuuid of a list, the element of a set, the key of a map, the field of a
//	                                      user type
//	v      [1, 2]                         the value; of an element of a set always ""
//
// Bytes that are no value of their type, and cells of a dropped user type, are {"hex":"<hex>"}. A float that is not
// finite is null, as it is in SELECT JSON. A counter is the sum of what the node knew of it.
package segment

import (
	"context"
	"errors"
	"io"
	"math"
	"os"

	"cassdelta/commitlog"
	"cassdelta/schema/cqlsource"
)

// Cmd is the command line of cassdelta segment.
type Cmd struct {
	Info InfoCmd `cmd:"" help:"Say what segments hold: versions, sections, tables, sizes, times, how they end."`
	Dump DumpCmd `cmd:"" help:"Print the mutations in segments."`
}

// files are the arguments of both commands.
type files struct {
	Paths    []string `arg:"" name:"path" help:"Segments (CommitLog-<version>-<id>.log), or directories that hold some."`
	Schema   string   `placeholder:"FILE" help:"The tables: CQL as cqlsh's DESCRIBE KEYSPACE ... WITH INTERNALS prints it, or the rows of system_schema.tables, views, columns, types and dropped_columns as SELECT JSON prints them, in one file."`
	Keyspace string   `placeholder:"NAME" help:"Only tables of this keyspace."`

	Cassandra CassandraFlags `embed:"" prefix:"cassandra-"`
	KeystoreFlags
}

// options are what the arguments say.
func (f *files) options(out io.Writer) (Options, error) {
	keys, err := f.Keys()
	if err != nil {
		return Options{}, err
	}
	cassandra, err := f.Cassandra.config()
	return Options{
		Paths: f.Paths, Schema: f.Schema, Cassandra: cassandra, Keyspace: f.Keyspace, Keys: keys, Out: out, Notes: os.Stderr,
	}, err
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
	JSON   bool   `name:"json" help:"One JSON object a line for each partition update, values in hex."`
	Values string `default:"hex" enum:"hex,text" help:"Values in the JSON lines: hex, or text as SELECT JSON prints them, which includes --json."`
	Output string `short:"o" type:"path" placeholder:"FILE" help:"File to write to instead of standard output; compressed by gzip if its name ends with .gz."`

	Table []string   `placeholder:"KEYSPACE.TABLE" help:"Only these tables."`
	Key   string     `placeholder:"KEY" help:"Only this partition key: a value such as 42 or cat, [1, \"cat\"] or {\"id\": 1, \"day\": 2} for several columns, or 0x and its bytes in hex."`
	From  *position  `placeholder:"SEGMENT:OFFSET" help:"Only mutations at this position or behind it."`
	To    *position  `placeholder:"SEGMENT:OFFSET" help:"Only mutations up to this position. Without an offset: to the end of the segment."`
	Since *writeTime `placeholder:"TIME" help:"Only updates with a write time at this one or after it: 2024-02-29T12:34:56Z, or microseconds since 1970."`
	Until *writeTime `placeholder:"TIME" help:"Only updates with a write time at this one or before it."`
}

// Run prints to stdout or the file, remarks to stderr.
func (c *DumpCmd) Run(ctx context.Context, stdout io.Writer) (err error) {
	o, err := c.options(stdout)
	if err != nil {
		return err
	}
	if o.Filter, err = c.filter(); err != nil {
		return err
	}
	o.JSON = c.JSON
	if c.Values == "text" {
		o.Values = TextValues
	}
	if c.Output != "" {
		if err := notRead(c.Output, o); err != nil {
			return err
		}
		out, err := createOutput(c.Output)
		if err != nil {
			return err
		}
		o.Out = out
		err = Dump(ctx, o)
		if closing := out.Close(); !errors.Is(err, closing) { // the buffers give an error of writing again
			err = errors.Join(err, closing)
		}
		return err
	}
	return Dump(ctx, o)
}

// filter is what the flags let through.
func (c *DumpCmd) filter() (f Filter, err error) {
	f.Tables = c.Table
	if c.Key != "" {
		if f.Key, err = ParseKey(c.Key); err != nil {
			return f, err
		}
	}
	if c.From != nil {
		f.From = c.From.Position
	}
	if c.To != nil {
		f.To = c.To.Position
		if !c.To.hasOffset {
			f.To.Offset = math.MaxInt64
		}
	}
	if c.Since != nil {
		f.Since = c.Since.Time
	}
	if c.Until != nil {
		f.Until = c.Until.Time
	}
	return f, nil
}

// Options say what [Info] and [Dump] read and print.
type Options struct {
	// Paths are segments, or directories that hold some.
	Paths []string
	// Schema is the path of a file with the tables, of CQL or rows of system_schema; "" for none.
	Schema string
	// Cassandra is where to ask for the tables if Schema is ""; without contact points nowhere.
	Cassandra cqlsource.Config
	// Keyspace limits the tables to those of one keyspace; "" takes all.
	Keyspace string
	// Keys are those of encrypted segments; nil for none.
	Keys commitlog.Keys
	// Filter limits what Dump prints.
	Filter Filter
	// JSON asks Dump for JSON lines.
	JSON bool
	// Values is the form of values in JSON lines. Those of text are JSON lines in any case.
	Values ValueForm
	// Out takes the output, Notes remarks about it.
	Out, Notes io.Writer
}
