package recorder

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	gocql "github.com/apache/cassandra-gocql-driver/v2"
	"golang.org/x/sync/errgroup"

	"cassdelta/internal/recording"
	"cassdelta/internal/testparts"
)

// segmentName matches CommitLog-<version>-<id>.log.
var segmentName = regexp.MustCompile(`^CommitLog-(\d+)-\d+\.log$`)

// moment copies the cdc_raw folders of all nodes, also of those that are down.
func (r *recorder) moment(name, about string) error {
	if name == "" {
		return errors.New("the moment has no name")
	}
	for _, n := range r.cluster.Nodes {
		dir := filepath.Join(r.out, n.Name, name)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		// The index files first: they may be behind their segments, never ahead.
		for _, pattern := range []string{"*_cdc.idx", "*.log"} {
			files, err := filepath.Glob(filepath.Join(n.CDCRawDir(), pattern))
			if err != nil {
				return err
			}
			for _, file := range files {
				if err := r.capture(file, dir); err != nil {
					return fmt.Errorf("moment %s of %s: %w", name, n.Name, err)
				}
			}
		}
	}
	r.rec.Moments = append(r.rec.Moments, recording.Moment{Name: name, About: about})
	return nil
}

// capture copies an index as it is and a segment compressed.
func (r *recorder) capture(file, dir string) error {
	content, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		// Cassandra removes a segment without changes of cdc tables when it is flushed.
		return nil
	}
	if err != nil {
		return err
	}
	name := filepath.Base(file)
	if m := segmentName.FindStringSubmatch(name); m != nil {
		if r.rec.SegmentVersion, err = strconv.Atoi(m[1]); err != nil {
			return err
		}
		var packed bytes.Buffer
		gz, err := gzip.NewWriterLevel(&packed, gzip.BestCompression)
		if err != nil {
			return err
		}
		if _, err := gz.Write(content); err != nil {
			return err
		}
		if err := gz.Close(); err != nil {
			return err
		}
		content, name = packed.Bytes(), name+".gz"
	}
	return os.WriteFile(filepath.Join(dir, name), content, 0o644)
}

// finish reads what the workload has led to, drains the nodes and copies the last moment.
func (r *recorder) finish(ctx context.Context) error {
	s, err := r.session(r.coordinator)
	if err != nil {
		return err
	}
	if err := s.Query("SELECT release_version FROM system.local").ScanContext(ctx, &r.rec.Cassandra); err != nil {
		return err
	}
	keyspaces, err := userKeyspaces(ctx, s)
	if err != nil {
		return err
	}
	var schema strings.Builder
	for _, keyspace := range keyspaces {
		if err := describe(ctx, s, keyspace, &schema); err != nil {
			return fmt.Errorf("describe keyspace %s: %w", keyspace, err)
		}
		if err := r.finalRows(ctx, s, keyspace); err != nil {
			return fmt.Errorf("rows of keyspace %s: %w", keyspace, err)
		}
	}
	r.closeSessions()
	var g errgroup.Group
	for _, n := range r.cluster.Nodes {
		g.Go(func() error { return n.Drain(ctx) })
	}
	if err := g.Wait(); err != nil {
		return err
	}
	if err := r.moment(recording.FinalMoment, "all nodes are drained"); err != nil {
		return err
	}
	if err := r.trim(); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(r.out, "schema.cql"), []byte(schema.String()), 0o644); err != nil {
		return err
	}
	text, err := json.MarshalIndent(&r.rec, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(r.out, "recording.json"), append(text, '\n'), 0o644)
}

// trim removes, at all moments, the segments that have no index at the end.
func (r *recorder) trim() error {
	for _, n := range r.rec.Nodes {
		files, err := filepath.Glob(filepath.Join(r.out, n.Name, "*", "*.log.gz"))
		if err != nil {
			return err
		}
		for _, file := range files {
			segment := strings.TrimSuffix(filepath.Base(file), ".log.gz")
			_, err := os.Stat(filepath.Join(r.out, n.Name, recording.FinalMoment, segment+"_cdc.idx"))
			if errors.Is(err, fs.ErrNotExist) {
				err = os.Remove(file)
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

func userKeyspaces(ctx context.Context, s *gocql.Session) ([]string, error) {
	var names []string
	iter := s.Query("SELECT keyspace_name FROM system_schema.keyspaces").IterContext(ctx)
	for name := ""; iter.Scan(&name); {
		if name != "system" && !strings.HasPrefix(name, "system_") {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names, iter.Close()
}

// describe writes the statements that make a keyspace, each with the identity and the dropped columns of its table.
func describe(ctx context.Context, s *gocql.Session, keyspace string, out *strings.Builder) error {
	iter := s.Query(fmt.Sprintf("DESCRIBE KEYSPACE %q WITH INTERNALS", keyspace)).IterContext(ctx)
	var ks, kind, name, statement string
	for iter.Scan(&ks, &kind, &name, &statement) {
		fmt.Fprintf(out, "%s\n\n", strings.TrimSpace(statement))
	}
	return iter.Close()
}

// finalRows writes the rows of all tables of a keyspace.
func (r *recorder) finalRows(ctx context.Context, s *gocql.Session, keyspace string) error {
	iter := s.Query("SELECT table_name, cdc FROM system_schema.tables WHERE keyspace_name = ?", keyspace).IterContext(ctx)
	table := recording.Table{Keyspace: keyspace}
	var tables []recording.Table
	for iter.Scan(&table.Name, &table.CDC) {
		tables = append(tables, table)
	}
	if err := iter.Close(); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Join(r.out, "final"), 0o755); err != nil {
		return err
	}
	for _, table := range tables {
		var rows []string
		iter := s.Query(fmt.Sprintf("SELECT JSON * FROM %q.%q", keyspace, table.Name)).Consistency(gocql.All).IterContext(ctx)
		for row := ""; iter.Scan(&row); {
			rows = append(rows, row+"\n")
		}
		if err := iter.Close(); err != nil {
			return fmt.Errorf("%s: %w", table.Name, err)
		}
		slices.Sort(rows)
		path := filepath.Join(r.out, filepath.FromSlash(recording.FinalFile(keyspace, table.Name)))
		if err := os.WriteFile(path, []byte(strings.Join(rows, "")), 0o644); err != nil {
			return err
		}
		table.Rows = len(rows)
		r.rec.Tables = append(r.rec.Tables, table)
	}
	return nil
}

// schemaRows writes the rows of system_schema that make tables: those of the workload's, of system_schema itself and of
// system.local.
func (r *recorder) schemaRows(ctx context.Context, name string) error {
	s, err := r.session(r.coordinator)
	if err != nil {
		return err
	}
	keyspaces, err := userKeyspaces(ctx, s)
	if err != nil {
		return err
	}
	var rows []string
	read := func(table, where string, args ...any) error {
		iter := s.Query("SELECT JSON * FROM system_schema."+table+" WHERE "+where, args...).IterContext(ctx)
		for row := ""; iter.Scan(&row); {
			rows = append(rows, row+"\n")
		}
		return iter.Close()
	}
	for _, table := range []string{"tables", "columns", "dropped_columns", "types"} {
		for _, keyspace := range append(keyspaces, "system_schema") {
			if err := read(table, "keyspace_name = ?", keyspace); err != nil {
				return err
			}
		}
		if table == "types" {
			continue
		}
		if err := read(table, "keyspace_name = 'system' AND table_name = 'local'"); err != nil {
			return err
		}
	}
	return os.WriteFile(filepath.Join(r.out, recording.SchemaRowsFile(name)), []byte(strings.Join(rows, "")), 0o644)
}

// indexState is the names and contents of a node's index files.
func indexState(n *testparts.Node) (string, error) {
	files, err := filepath.Glob(filepath.Join(n.CDCRawDir(), "*_cdc.idx"))
	if err != nil {
		return "", err
	}
	var b strings.Builder
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			return "", err
		}
		fmt.Fprintf(&b, "%s %q\n", filepath.Base(file), content)
	}
	return b.String(), nil
}
