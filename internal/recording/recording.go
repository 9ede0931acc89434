// Package recording reads recordings of real Cassandra nodes: the commit log segments of cdc_raw as they stood at
// chosen moments while a workload ran, with the schema and the rows that were there at the end. Command testparts
// makes them.
//
// # Files
//
// A recording is a folder:
//
//	recording.json                      what it is: versions, nodes, moments, tables (type Recording)
//	workload.cql                        the statements that ran, in order; lines "-- @..." say what else was done
//	schema.cql                          DESCRIBE ... WITH INTERNALS at the end, hence with table ids and dropped columns
//	schema-<name>.jsonl                 rows of system_schema as SELECT JSON prints them, at a time that the workload names
//	keystore.jceks                      the keys of encrypted segments, if there are any; the passwords are in workload.cql
//	final/<keyspace>.<table>.jsonl      SELECT JSON * at ALL at the end, one row a line, lines in byte order
//	<node>/<moment>/CommitLog-<v>-<id>.log.gz     a segment, compressed by gzip
//	<node>/<moment>/CommitLog-<v>-<id>_cdc.idx    its index file, if there was one at that moment
//
// At each moment the index files were copied before the segments, so that no index is ahead of its segment. Segments
// that never got an index hold no change of a cdc table and are left out. At the moment "final" every node was drained.
package recording

import (
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// FinalMoment is the moment at the end, which every recording has.
const FinalMoment = "final"

// maxSegmentBytes bounds what one segment is allowed to unpack to; recordings are made with small segments.
const maxSegmentBytes = 64 << 20

// Recording describes a recording; its exported fields are the contents of recording.json.
type Recording struct {
	Name  string `json:"name"`
	About string `json:"about"`
	// Cassandra is the version of the nodes, such as 5.0.6.
	Cassandra string `json:"cassandra"`
	// SegmentVersion is the commit log's version: 7 or 8.
	SegmentVersion int      `json:"segment_version"`
	Nodes          []Node   `json:"nodes"`
	Moments        []Moment `json:"moments"`
	// Tables are all tables of the workload's keyspaces, by keyspace and name.
	Tables []Table `json:"tables"`

	fsys fs.FS
}

// Node is one node of the recorded cluster.
type Node struct {
	Name string `json:"name"`
	// HostID is the node's identity, as a UUID.
	HostID string `json:"host_id"`
	// Address is the node's address in the recorded cluster; nothing answers there now.
	Address string `json:"address"`
}

// Moment is a point in the workload at which the segments were copied.
type Moment struct {
	Name  string `json:"name"`
	About string `json:"about,omitempty"`
}

// Table is a table of the recorded keyspaces.
type Table struct {
	Keyspace string `json:"keyspace"`
	Name     string `json:"name"`
	CDC      bool   `json:"cdc"`
	// Rows is the number of rows at the end.
	Rows int `json:"rows"`
}

// Open reads the description of the recording that is the root of fsys.
func Open(fsys fs.FS) (*Recording, error) {
	text, err := fs.ReadFile(fsys, "recording.json")
	if err != nil {
		return nil, fmt.Errorf("open recording: %w", err)
	}
	r := &Recording{fsys: fsys}
	if err := json.Unmarshal(text, r); err != nil {
		return nil, fmt.Errorf("recording.json: %w", err)
	}
	return r, nil
}

// Schema is the CQL of all keyspaces as they were at the end.
func (r *Recording) Schema() (string, error) {
	text, err := fs.ReadFile(r.fsys, "schema.cql")
	return string(text), err
}

// SchemaRowsFile is the path of the rows of system_schema at a time that the workload names.
func SchemaRowsFile(name string) string { return "schema-" + name + ".jsonl" }

// SchemaRows are the rows of system_schema at a time that the workload names.
func (r *Recording) SchemaRows(name string) (string, error) {
	text, err := fs.ReadFile(r.fsys, SchemaRowsFile(name))
	return string(text), err
}

// Workload is the CQL that ran.
func (r *Recording) Workload() (string, error) {
	text, err := fs.ReadFile(r.fsys, "workload.cql")
	return string(text), err
}

// FinalRows are the rows of a table at the end, each one JSON object as Cassandra's SELECT JSON prints it.
func (r *Recording) FinalRows(keyspace, table string) ([]string, error) {
	text, err := fs.ReadFile(r.fsys, FinalFile(keyspace, table))
	if err != nil {
		return nil, fmt.Errorf("recording %s: %w", r.Name, err)
	}
	if len(text) == 0 {
		return nil, nil
	}
	return strings.Split(strings.TrimSuffix(string(text), "\n"), "\n"), nil
}

// FinalFile is the path of a table's rows at the end.
func FinalFile(keyspace, table string) string {
	return path.Join("final", keyspace+"."+table+".jsonl")
}

// Unpack writes the segments and index files of a node at a moment into dir, which it creates, under the names and with
// the bytes that they had in cdc_raw. Files that are there already are overwritten; others are left alone.
func (r *Recording) Unpack(node, moment, dir string) error {
	if err := r.unpack(node, moment, dir); err != nil {
		return fmt.Errorf("unpack recording %s, node %s at moment %s: %w", r.Name, node, moment, err)
	}
	return nil
}

func (r *Recording) unpack(node, moment, dir string) error {
	if !slices.ContainsFunc(r.Nodes, func(n Node) bool { return n.Name == node }) {
		return fmt.Errorf("there is no such node")
	}
	if !slices.ContainsFunc(r.Moments, func(m Moment) bool { return m.Name == moment }) {
		return fmt.Errorf("there is no such moment")
	}
	entries, err := fs.ReadDir(r.fsys, path.Join(node, moment))
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	// Segments first, as a directory that Cassandra writes never has an index without its segment.
	slices.SortStableFunc(entries, func(a, b fs.DirEntry) int {
		return strings.Compare(path.Ext(b.Name()), path.Ext(a.Name()))
	})
	for _, e := range entries {
		if err := r.unpackFile(path.Join(node, moment, e.Name()), dir); err != nil {
			return fmt.Errorf("%s: %w", e.Name(), err)
		}
	}
	return nil
}

func (r *Recording) unpackFile(name, dir string) error {
	in, err := r.fsys.Open(name)
	if err != nil {
		return err
	}
	defer in.Close()
	var src io.Reader = in
	base, packed := strings.CutSuffix(path.Base(name), ".gz")
	if packed {
		if src, err = gzip.NewReader(in); err != nil {
			return err
		}
	}
	out, err := os.Create(filepath.Join(dir, base))
	if err != nil {
		return err
	}
	n, err := io.Copy(out, io.LimitReader(src, maxSegmentBytes+1))
	if err == nil && n > maxSegmentBytes {
		err = fmt.Errorf("it unpacks to more than %d bytes", maxSegmentBytes)
	}
	if err != nil {
		out.Close()
		return err
	}
	return out.Close()
}
