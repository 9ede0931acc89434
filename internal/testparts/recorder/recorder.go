// Package recorder makes recordings of real Cassandra nodes, in the form that package recording reads: it starts a
// cluster, runs a workload on it and copies cdc_raw at chosen moments.
//
// # Workloads
//
// A workload is a CQL file. Statements run one after the other, by default at QUORUM with node1 as coordinator.
// Lines that begin with "-- @" are directives:
//
//	-- @consistency LEVEL         for the statements that follow
//	-- @coordinator NODE          for the statements that follow
//	-- @stop NODE                 stop a node; the others have noticed when the next step runs
//	-- @kill NODE                 end a node by SIGKILL
//	-- @start NODE                start it again; all nodes see each other when the next step runs
//	-- @configure NODE JSON       change keys of its cassandra.yaml for the next start; null removes one
//	-- @hints NODE                wait until the others have delivered their hints to it; an error if they had none
//	-- @nodetool NODE COMMAND...  run a command of nodetool
//	-- @repair KEYSPACE           run a full repair of all ranges
//	-- @schema NAME               copy the rows of system_schema
//	-- @moment NAME WORDS...      copy cdc_raw of all nodes; the words tell what is special about the moment
//	-- @synced NODE               wait until an index file of the node has moved since the previous step
//	-- @repeat N                  run the next statement for ${i} from 1 to N, at most once each
//	-- @burst N kill NODE K       the same from many writers at once, and kill the node when K of them are acknowledged;
//	                              errors of the others are expected
//
// In @configure, ${keystore} is the path of the recording's keystore.
//
// At the end the rows of all tables are read at ALL, all nodes are drained, and the moment "final" is copied.
package recorder

import (
	"context"
	"embed"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	gocql "github.com/apache/cassandra-gocql-driver/v2"

	"cassdelta/internal/recording"
	"cassdelta/internal/testparts"
)

//go:embed workloads
var workloads embed.FS

// Spec says how a recording is made.
type Spec struct {
	Name  string
	About string
	// Files are names in the folder workloads; the workload is all of them, one after the other.
	Files []string
	// Examples is a folder of the repository with examples, which are added to the workload: see [ExampleStatements].
	Examples string
	// Forms are those that the commit log takes one after the other, each from a restart on. FormFiles are added to the
	// workload for each of them, with ${form} in the place of its name.
	Forms     []form
	FormFiles []string
	// Keystore gives the recording a copy of the keystore in the folder workloads.
	Keystore bool
	Cluster  testparts.CassandraOptions
}

// keystoreName is the name of the keystore in the folder workloads, and in recordings.
const keystoreName = "keystore.jceks"

// workload is the text of the workload.
func (s *Spec) workload() (string, error) {
	var text strings.Builder
	add := func(files []string, form string) error {
		for _, name := range files {
			part, err := workloads.ReadFile("workloads/" + name)
			if err != nil {
				return err
			}
			text.WriteString(strings.ReplaceAll(string(part), "${form}", form))
		}
		return nil
	}
	if err := add(s.Files, ""); err != nil {
		return "", err
	}
	if s.Examples != "" {
		examples, err := exampleWorkload(s.Examples)
		if err != nil {
			return "", err
		}
		text.WriteString(examples)
	}
	for _, form := range s.Forms {
		fmt.Fprintf(&text, "\n-- @stop node1\n-- @configure node1 %s\n-- @start node1\n", form.yaml)
		if err := add(s.FormFiles, form.name); err != nil {
			return "", err
		}
	}
	return text.String(), nil
}

// recorder is the state of one run.
type recorder struct {
	spec     Spec
	out      string
	progress io.Writer
	cluster  *testparts.Cassandra
	// sessions is by node name; a node that is down has none.
	sessions    map[string]*gocql.Session
	coordinator string
	consistency gocql.Consistency
	// repeat is what the directive before the next statement asked for.
	repeat *repetition
	// hintFiles counts, by node name, the files of hints that had been delivered when the node was last started.
	hintFiles map[string]int
	rec       recording.Recording
}

// Record makes a recording in the folder out, replacing what was there. It reports its steps to progress.
func Record(ctx context.Context, spec Spec, out string, progress io.Writer) error {
	if err := record(ctx, spec, out, progress); err != nil {
		return fmt.Errorf("record %s: %w", spec.Name, err)
	}
	return nil
}

func record(ctx context.Context, spec Spec, out string, progress io.Writer) error {
	text, err := spec.workload()
	if err != nil {
		return err
	}
	steps, err := parseWorkload(text)
	if err != nil {
		return err
	}
	work, err := os.MkdirTemp("", "cassdelta-record-")
	if err != nil {
		return err
	}
	spec.Cluster.Dir = filepath.Join(work, "cluster")
	spec.Cluster.CDC = true
	r := &recorder{
		spec:        spec,
		out:         filepath.Join(work, "recording"),
		progress:    progress,
		sessions:    map[string]*gocql.Session{},
		coordinator: "node1",
		consistency: gocql.Quorum,
		hintFiles:   map[string]int{},
		rec:         recording.Recording{Name: spec.Name, About: spec.About},
	}
	if err := os.Mkdir(r.out, 0o755); err != nil {
		return err
	}
	if spec.Keystore {
		content, err := workloads.ReadFile("workloads/" + keystoreName)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(r.out, keystoreName), content, 0o644); err != nil {
			return err
		}
	}
	if err := r.run(ctx, steps); err != nil {
		return fmt.Errorf("%w\nthe folder of the cluster is kept: %s", err, work)
	}
	if err := os.WriteFile(filepath.Join(r.out, "workload.cql"), []byte(text), 0o644); err != nil {
		return err
	}
	if err := os.RemoveAll(out); err != nil {
		return err
	}
	if err := os.CopyFS(out, os.DirFS(r.out)); err != nil {
		return err
	}
	return os.RemoveAll(work)
}

func (r *recorder) run(ctx context.Context, steps []step) error {
	var err error
	if r.cluster, err = testparts.StartCassandra(ctx, r.spec.Cluster); err != nil {
		return err
	}
	defer r.cluster.Close()
	defer r.closeSessions()
	for _, n := range r.cluster.Nodes {
		id, err := n.HostID(ctx)
		if err != nil {
			return err
		}
		r.rec.Nodes = append(r.rec.Nodes, recording.Node{Name: n.Name, HostID: id, Address: n.Addr})
	}
	for _, s := range steps {
		if err := r.step(ctx, s); err != nil {
			return fmt.Errorf("workload line %d: %w", s.line, err)
		}
	}
	return r.finish(ctx)
}

func (r *recorder) closeSessions() {
	for _, s := range r.sessions {
		s.Close()
	}
}

func (r *recorder) log(format string, args ...any) {
	fmt.Fprintf(r.progress, "%s: %s\n", r.spec.Name, fmt.Sprintf(format, args...))
}

// node finds a node of the cluster by name.
func (r *recorder) node(name string) (*testparts.Node, error) {
	i := slices.IndexFunc(r.cluster.Nodes, func(n *testparts.Node) bool { return n.Name == name })
	if i < 0 {
		return nil, fmt.Errorf("there is no %q in a cluster of %d", name, len(r.cluster.Nodes))
	}
	return r.cluster.Nodes[i], nil
}

func (r *recorder) hostID(n *testparts.Node) string {
	i := slices.IndexFunc(r.rec.Nodes, func(rn recording.Node) bool { return rn.Name == n.Name })
	return r.rec.Nodes[i].HostID
}

func (r *recorder) session(name string) (*gocql.Session, error) {
	if s := r.sessions[name]; s != nil {
		return s, nil
	}
	n, err := r.node(name)
	if err != nil {
		return nil, err
	}
	s, err := n.Session()
	if err != nil {
		return nil, err
	}
	r.sessions[name] = s
	return s, nil
}

func (r *recorder) dropSession(name string) {
	if s := r.sessions[name]; s != nil {
		s.Close()
		delete(r.sessions, name)
	}
}

func (r *recorder) step(ctx context.Context, s step) error {
	if s.verb == "" {
		return r.statement(ctx, s.cql)
	}
	r.log("%s %s", s.verb, strings.Join(s.args, " "))
	arg := func(i int) string {
		if i < len(s.args) {
			return s.args[i]
		}
		return ""
	}
	switch s.verb {
	case "consistency":
		return r.consistency.UnmarshalText([]byte(arg(0)))
	case "coordinator":
		_, err := r.node(arg(0))
		r.coordinator = arg(0)
		return err
	case "schema":
		return r.schemaRows(ctx, arg(0))
	case "moment":
		return r.moment(arg(0), strings.Join(s.args[min(1, len(s.args)):], " "))
	case "repair":
		return r.cluster.Nodes[0].Repair(ctx, arg(0))
	case "repeat", "burst":
		var err error
		r.repeat, err = parseRepetition(s.verb, s.args)
		return err
	}
	n, err := r.node(arg(0))
	if err != nil {
		return err
	}
	switch s.verb {
	case "stop":
		r.dropSession(n.Name)
		if err := n.Stop(ctx); err != nil {
			return err
		}
		return r.cluster.AwaitDown(ctx, n)
	case "kill":
		r.dropSession(n.Name)
		n.Kill()
		return nil
	case "start":
		return r.start(ctx, n)
	case "configure":
		text := strings.ReplaceAll(strings.Join(s.args[1:], " "), "${keystore}", filepath.Join(r.out, keystoreName))
		var keys map[string]any
		if err := json.Unmarshal([]byte(text), &keys); err != nil {
			return fmt.Errorf("@configure: %w", err)
		}
		return n.Configure(keys)
	case "hints":
		return r.awaitHints(ctx, n)
	case "nodetool":
		_, err := n.Nodetool(ctx, s.args[1:]...)
		return err
	case "synced":
		return r.awaitSync(ctx, n)
	default:
		return fmt.Errorf("the directive @%s is unknown", s.verb)
	}
}

func (r *recorder) statement(ctx context.Context, cql string) error {
	s, err := r.session(r.coordinator)
	if err != nil {
		return err
	}
	rep := r.repeat
	r.repeat = nil
	switch {
	case rep == nil:
		err = r.exec(ctx, s, cql)
	case rep.kill == "":
		for i := 1; i <= rep.n && err == nil; i++ {
			err = r.exec(ctx, s, strings.ReplaceAll(cql, "${i}", strconv.Itoa(i)))
		}
	default:
		err = r.burst(ctx, s, cql, *rep)
	}
	return err
}

func (r *recorder) exec(ctx context.Context, s *gocql.Session, cql string) error {
	if err := s.Query(cql).Consistency(r.consistency).ExecContext(ctx); err != nil {
		return fmt.Errorf("%s: %w", cql, err)
	}
	if isSchemaChange(cql) {
		return r.awaitSchemaAgreement(ctx)
	}
	return nil
}

func isSchemaChange(cql string) bool {
	verb, _, _ := strings.Cut(strings.ToUpper(cql), " ")
	return verb == "CREATE" || verb == "ALTER" || verb == "DROP"
}
