package differential

import (
	"bytes"
	"context"
	"embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"cassdelta/commitlog"
	"cassdelta/internal/segment"
	"cassdelta/internal/testparts"
)

//go:embed oracle
var oracleSources embed.FS

// segments are files to be read by both readers.
type segments struct {
	// dir holds them.
	dir string
	// schema is the path of a CQL file with the definitions of the keyspace.
	schema   string
	keyspace string
	// config is the path of the cassandra.yaml that they were written with.
	config string
	// keys are those of encrypted segments, for our reader; nil for none.
	keys commitlog.Keys
}

// compareReaders reads segments with Cassandra's reader, of the part given, and with ours. An error of ours does not
// stop it: what it did not read is counted as differences, and the error is quoted with them.
func compareReaders(ctx context.Context, part string, s segments) (Comparison, error) {
	sources, err := fs.Sub(oracleSources, "oracle")
	if err != nil {
		return Comparison{}, err
	}
	program, err := testparts.CompileJava(ctx, part, sources)
	if err != nil {
		return Comparison{}, err
	}
	files, err := filepath.Glob(filepath.Join(s.dir, "CommitLog-*.log"))
	if err != nil {
		return Comparison{}, err
	}
	if len(files) == 0 {
		return Comparison{}, fmt.Errorf("%s holds no segments", s.dir)
	}
	config, err := readingConfig(s.config)
	if err != nil {
		return Comparison{}, err
	}
	cmd := program.Command(ctx, "CommitLogDump", []string{"cassandra.config=file://" + config},
		append([]string{s.schema, s.keyspace}, files...)...)
	var complaints bytes.Buffer
	cmd.Stderr = &complaints
	theirs, err := cmd.StdoutPipe()
	if err != nil {
		return Comparison{}, err
	}
	if err := cmd.Start(); err != nil {
		return Comparison{}, err
	}
	ours, out := io.Pipe()
	dumped := make(chan error, 1)
	go func() {
		err := segment.Dump(ctx, segment.Options{
			Paths: []string{s.dir}, Schema: s.schema, Keyspace: s.keyspace, Keys: s.keys, JSON: true, Out: out, Notes: io.Discard,
		})
		out.Close()
		dumped <- err
	}()
	c, err := compare(ours, theirs)
	if waitErr := cmd.Wait(); waitErr != nil {
		err = errors.Join(fmt.Errorf("the reader of Cassandra: %w\n%s", waitErr, complaints.Bytes()), err)
	}
	if dumpErr := <-dumped; dumpErr != nil {
		c.differ("cassdelta's error: %v", dumpErr)
	}
	return c, err
}

// readingConfig writes a node's configuration without what a tool refuses, beside it, and returns its path: the disk
// access mode is compared with what the file system can do, which a tool does not find out.
func readingConfig(nodeConfig string) (string, error) {
	text, err := os.ReadFile(nodeConfig)
	if err != nil {
		return "", err
	}
	var kept []string
	for line := range strings.Lines(string(text)) {
		if !strings.HasPrefix(line, "commitlog_disk_access_mode:") {
			kept = append(kept, line)
		}
	}
	path := filepath.Join(filepath.Dir(nodeConfig), "cassandra-reading.yaml")
	return path, os.WriteFile(path, []byte(strings.Join(kept, "")), 0o644)
}
