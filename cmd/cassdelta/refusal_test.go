package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"cassdelta/schema"
	"cassdelta/state/objects"
)

// TestRefusals holds that what makes a start pointless is said in one sentence, with what to do about it.
func TestRefusals(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	missing, empty, store := filepath.Join(dir, "missing"), t.TempDir(), t.TempDir()
	if _, err := objects.Open(objects.Config{URL: store}); err != nil {
		t.Fatal(err)
	}
	table := "CREATE TABLE shop.a (id int PRIMARY KEY) WITH ID = 52bc67b0-e7b2-11f1-bcc4-336fe8c091c7"
	notCaptured, withoutIDs := write("off.cql", table+";"), write("ids.cql", "\nCREATE TABLE shop.a (id int PRIMARY KEY) WITH cdc = true;")
	on := startNode(t, schema.UUID{1}, demoTables(t)...)
	off := startNode(t, schema.UUID{1}, demoTables(t)...)
	off.cdcEnabled = "false"
	kafka := startKafka(t)
	agent := func(args string) string {
		return "agent --state-directory " + t.TempDir() + " --kafka-brokers " + kafka + " " + args
	}
	config := func(text string) string {
		return "dedup --config " + write(fmt.Sprintf("%d.yaml", strings.Count(text, "")), text)
	}
	last := func(args string) string { return args[strings.LastIndexByte(args, ' ')+1:] }

	for _, c := range []struct {
		name, args string
		code       int
		says       string // ARG stands for the last argument
	}{
		{
			"agent, no cdc_raw", agent("--cassandra-contact-points " + on.addr() + " --cdc-raw-directory " + missing), exitFailed,
			"cassdelta agent: the cdc_raw directory ARG does not exist: set cdc_enabled: true in the node's cassandra.yaml and restart it, " +
				"or correct cdc-raw-directory to the cdc_raw_directory that is set there",
		},
		{
			"recover-offsets, no such topic", "recover-offsets --kafka-brokers " + kafka + " --raw-topic mistyped", exitFailed,
			"cassdelta recover-offsets: there is no raw topic ARG; name the raw-topic that the agents have",
		},
		{
			"group show, no such topic", "group show --kafka-brokers " + kafka + " --raw-topic mistyped", exitFailed,
			"cassdelta group show: there is no raw topic ARG; name the raw-topic that the agents have",
		},
		{
			"state, no checkpoints", "state tables --checkpoint-store " + store, exitFailed,
			"cassdelta state tables: ARG has no checkpoints: expected those of group cassdelta-dedup; check --checkpoint-store, which is to be that of the workers",
		},
		{
			"state, an empty directory", "state tables --checkpoint-store " + t.TempDir(), exitFailed,
			"cassdelta state tables: checkpoint-store: expected the directory of a store: ARG is empty: maybe what belongs there is not mounted; give the one that the workers have",
		},
		{
			"state, no store of checkpoints", "state tables --checkpoint-store " + missing, exitFailed,
			"cassdelta state tables: checkpoint-store: expected the directory of a store: stat ARG: no such file or directory; give the one that the workers have",
		},
		{
			"dev, no cdc_raw", "dev --until-end " + missing, exitFailed,
			"cassdelta dev: the directory ARG cannot be read (no such file or directory): give the cdc_raw_directory that is set in a node's cassandra.yaml; " +
				"the node makes it when it starts with cdc_enabled: true",
		},
		{
			"dev, a file as cdc_raw", "dev --until-end " + notCaptured, exitFailed,
			"cassdelta dev: the directory ARG cannot be read (not a directory): give the cdc_raw_directory that is set in a node's cassandra.yaml; " +
				"the node makes it when it starts with cdc_enabled: true",
		},
		{
			"agent, CDC is off", agent("--cdc-raw-directory " + empty + " --cassandra-contact-points " + off.addr()), exitFailed,
			"cassdelta agent: CDC is off on the node ARG: set cdc_enabled: true in its cassandra.yaml and restart it",
		},
		{
			"dev, CDC is off", "dev " + empty + " --cassandra-contact-points " + off.addr(), exitFailed,
			"cassdelta dev: CDC is off on the node ARG: set cdc_enabled: true in its cassandra.yaml and restart it",
		},
		{
			"dev, no table with CDC", "dev " + empty + " --schema " + notCaptured, exitFailed,
			"cassdelta dev: ARG: no table has cdc = true, so there are no changes to show: ALTER TABLE ... WITH cdc = true, and give the tables as they are then",
		},
		{
			"dev, tables without ids", "dev " + empty + " --schema " + withoutIDs, exitFailed,
			"cassdelta dev: ARG:2: table shop.a: expected WITH ID = ..., found none: take the file from DESCRIBE KEYSPACE shop WITH INTERNALS",
		},
		{
			"dev, no schema file", "dev " + empty + " --schema " + missing, exitFailed,
			"cassdelta dev: schema: open ARG: no such file or directory",
		},
		{
			"dedup, standby without checkpoints", "dedup --standby --state-directory " + empty + " --kafka-brokers " + kafka, exitFailed,
			"cassdelta dedup: standby: copies of checkpoints are kept, and there are none; say where they are, by checkpoint-store",
		},
		{
			"unknown key", config("state-directory: x\nkafka:\n  broker: [a]\n"), exitUsage,
			"cassdelta: ARG:3: unknown key kafka.broker; did you mean kafka-brokers?\nTry: cassdelta dedup --help",
		},
		{
			"wrong type", config("state-directory: x\nkafka:\n  brokers: [a]\nclean-partitions: many\n"), exitUsage,
			"cassdelta: ARG:4: clean-partitions: expected a valid 32 bit int but got \"many\"\nTry: cassdelta dedup --help",
		},
		{
			"wrong duration", config("state-directory: x\nkafka:\n  brokers: [a]\n# soon\ncommit-interval: soon\n"), exitUsage,
			"cassdelta: ARG:5: commit-interval: expected duration but got \"soon\": time: invalid duration \"soon\"\nTry: cassdelta dedup --help",
		},
		{
			"missing keys", config("group: x\n"), exitUsage,
			"cassdelta: missing flags: --kafka-brokers=HOST:PORT,..., --state-directory=DIR\nTry: cassdelta dedup --help",
		},
		{
			"no configuration file", "dedup --config " + missing, exitUsage,
			"cassdelta: configuration file: open ARG: no such file or directory\nTry: cassdelta dedup --help",
		},
		{
			"missing flags", "agent", exitUsage,
			"cassdelta: missing flags: --cdc-raw-directory=DIR, --kafka-brokers=HOST:PORT,..., --state-directory=DIR\nTry: cassdelta agent --help",
		},
		{"unknown flag", "tail --form-beginning", exitUsage, "cassdelta: unknown flag --form-beginning, did you mean \"--from-beginning\"?\nTry: cassdelta tail --help"},
		{"wrong flag", "agent --raw-partitions=many", exitUsage, "cassdelta: --raw-partitions: expected a valid 32 bit int but got \"many\"\nTry: cassdelta agent --help"},
		{"unknown verb", "tial", exitUsage, "cassdelta: unexpected argument tial, did you mean \"tail\"?\nTry: cassdelta --help"},
		{"half a verb", "segment", exitUsage, "cassdelta: expected one of \"info\", \"dump\"\nTry: cassdelta segment --help"},
		{"dev without a directory", "dev", exitUsage, "cassdelta: expected \"<dir> ...\"\nTry: cassdelta dev --help"},
	} {
		t.Run(c.name, func(t *testing.T) {
			code, stdout, stderr := program(t, strings.Fields(c.args)...)
			if want := strings.ReplaceAll(c.says, "ARG", last(c.args)); code != c.code || stdout != "" || said(stderr) != want {
				t.Errorf("exit code %d, found\n%s\nexpected %d and\n%s", code, said(stderr), c.code, want)
			}
		})
	}
}
