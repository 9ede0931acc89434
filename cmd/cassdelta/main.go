// Cassdelta turns Apache Cassandra's CDC commit log into exactly one event per row change, with the complete row before
// and after it.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"syscall"

	"github.com/alecthomas/kong"

	"cassdelta/internal/obs"
)

// Exit codes. A process ended by a second signal exits with 128 + the signal's number.
const (
	exitOK     = 0
	exitFailed = 1 // it could not start, or could not go on
	exitUsage  = 2 // flags, environment or configuration file are wrong
	// exitPipe: nobody reads standard output any more, as behind | head.
	exitPipe = 128 + int(syscall.SIGPIPE)
)

// cli is the command line: one field a verb, one file a verb.
type cli struct {
	Version kong.VersionFlag `env:"-" help:"Print the version."`
	Log     obs.LogConfig    `embed:"" prefix:"log-"`

	Demo           demoCmd           `cmd:"" help:"Show it working: recorded segments of a three-node cluster in, events out. Needs nothing else."`
	Dev            devCmd            `cmd:"" help:"Show the changes of a Cassandra on this machine, from its cdc_raw directories."`
	Agent          agentCmd          `cmd:"" help:"Publish the changes of one node to the raw topic. Runs beside the node."`
	Dedup          dedupCmd          `cmd:"" help:"Turn the raw topic into clean topics: one event per change."`
	Group          groupCmd          `cmd:"" help:"Look at the consumer group of dedup: where it is, which tables are parked; release them."`
	State          stateCmd          `cmd:"" help:"Look into the state of dedup; checkpoints and savepoints."`
	RecoverOffsets recoverOffsetsCmd `cmd:"" help:"Find the positions that a group has lost, and commit them. No worker may run."`
	Tail           tailCmd           `cmd:"" help:"Print the clean topics."`
	Segment        segmentCmd        `cmd:"" help:"Look into commit log segments."`
}

func main() {
	ctx, stop := onSignals(os.Exit)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// version is what the build knows of it.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "" {
		return "unknown"
	}
	return info.Main.Version
}

// newParser makes the parser of the command line, which fills c.
func newParser(c *cli, options ...kong.Option) (*kong.Kong, error) {
	return kong.New(c, append(options,
		kong.Name("cassdelta"),
		kong.Description("Every row change of an Apache Cassandra cluster, exactly once, with the row before and after."),
		kong.DefaultEnvars("CASSDELTA"),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, NoExpandSubcommands: true}),
		kong.Vars{"version": "cassdelta " + version()},
	)...)
}

// run is main with everything given.
func run(ctx context.Context, args []string, stdout io.Writer, stderr *os.File) int {
	var c cli
	code := -1
	parser, err := newParser(&c, kong.Writers(stdout, stderr), kong.Exit(func(c int) { code = c })) // by --help and --version
	if err != nil {
		fmt.Fprintln(stderr, "cassdelta:", err)
		return exitFailed
	}
	if len(args) == 0 {
		args = []string{"--help"}
	}
	kctx, err := parser.Parse(args)
	if code >= 0 {
		return code
	}
	if err != nil {
		name := "cassdelta"
		if pe := (*kong.ParseError)(nil); errors.As(err, &pe) && pe.Context.Selected() != nil {
			name = pe.Context.Selected().FullPath()
		}
		fmt.Fprintf(stderr, "cassdelta: %v\nTry: %s --help\n", err, name)
		return exitUsage
	}
	log, err := obs.NewLogger(c.Log, stderr)
	if err != nil {
		fmt.Fprintln(stderr, "cassdelta:", err)
		return exitUsage
	}
	kctx.BindTo(ctx, (*context.Context)(nil))
	kctx.BindTo(stdout, (*io.Writer)(nil))
	err = kctx.Run(log)
	switch {
	case err == nil, ctx.Err() != nil && errors.Is(err, context.Canceled):
		return exitOK
	case errors.Is(err, syscall.EPIPE):
		return exitPipe
	}
	fmt.Fprintf(stderr, "%s: %v\n", kctx.Selected().FullPath(), err)
	return exitFailed
}
