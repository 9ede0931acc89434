package testparts

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
)

// Nodetool runs Cassandra's nodetool against the node and returns what it printed.
func (n *Node) Nodetool(ctx context.Context, args ...string) (string, error) {
	cp, err := classpath(n.partDir)
	if err != nil {
		return "", err
	}
	conf := filepath.Join(n.Dir, "conf")
	argv := append(slices.Clone(openModules),
		"-Xmx128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData", "-Xshare:auto",
		"-Dcassandra.storagedir="+n.Dir,
		"-Dlogback.configurationFile=file://"+filepath.Join(conf, "logback-tools.xml"),
		// Older versions build an URL that newer parsers refuse.
		"-Dcom.sun.jndi.rmiURLParsing=legacy",
		// nodetool keeps a history in the home folder.
		"-Duser.home="+conf,
		"-cp", conf+string(os.PathListSeparator)+cp,
		"org.apache.cassandra.tools.NodeTool", "-h", "127.0.0.1", "-p", strconv.Itoa(n.JMXPort))
	cmd := exec.CommandContext(ctx, n.java, append(argv, args...)...)
	cmd.Dir = n.Dir
	cmd.SysProcAttr = childAttributes()
	out, err := cmd.CombinedOutput()
	if err != nil {
		err = fmt.Errorf("nodetool %v on %s: %w\n%s", args, n.Name, err, lastLines(out, 15))
		if n.proc != nil {
			err = n.proc.explain(err)
		}
		return string(out), err
	}
	return string(out), nil
}

// Drain makes the node flush everything, complete its commit log segments and take no more writes.
func (n *Node) Drain(ctx context.Context) error {
	_, err := n.Nodetool(ctx, "drain")
	return err
}

// Flush writes the memtables of a keyspace to disk, of all keyspaces when it is empty.
func (n *Node) Flush(ctx context.Context, keyspace string) error {
	args := []string{"flush"}
	if keyspace != "" {
		args = append(args, keyspace)
	}
	_, err := n.Nodetool(ctx, args...)
	return err
}

// Repair runs a full repair of a keyspace over all ranges that the node holds.
func (n *Node) Repair(ctx context.Context, keyspace string) error {
	_, err := n.Nodetool(ctx, "repair", "--full", keyspace)
	return err
}
