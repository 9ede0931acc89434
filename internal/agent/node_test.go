package agent

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math/bits"
	"os"
	"path/filepath"
	"testing"

	"cassdelta/commitlog"
	"cassdelta/internal/rawtopic"
	"cassdelta/schema"
)

// node writes commit log segments of version 7 as a node does: preallocated, section by section, with an index file that
// follows. It remembers what it wrote to captured tables.
type node struct {
	t    testing.TB
	dir  string
	size int // of a segment, in bytes

	id      int64
	f       *os.File
	b       []byte // of the open segment, up to the open section's end
	marker  int    // offset of the marker of the open section
	written []change
}

// change is one update that must be published.
type change struct {
	position commitlog.Position
	update   int
	table    *schema.Table
	key      string
	value    string
}

const segmentVersion = commitlog.Version(7)

func newNode(t testing.TB, size int) *node {
	n := &node{t: t, dir: t.TempDir(), size: size, id: 1795488838000}
	n.open()
	t.Cleanup(func() { n.f.Close() })
	return n
}

func (n *node) path() string {
	return filepath.Join(n.dir, commitlog.SegmentName(segmentVersion, n.id))
}
func (n *node) index() string { return filepath.Join(n.dir, commitlog.IndexName(segmentVersion, n.id)) }

func (n *node) check(err error) {
	n.t.Helper()
	if err != nil {
		n.t.Fatal(err)
	}
}

// open begins the next segment.
func (n *node) open() {
	n.t.Helper()
	n.id++
	f, err := os.Create(n.path())
	n.check(err)
	n.f = f
	n.check(f.Truncate(int64(n.size)))
	const params = "{}"
	n.b = binary.BigEndian.AppendUint32(nil, uint32(segmentVersion))
	n.b = binary.BigEndian.AppendUint64(n.b, uint64(n.id))
	n.b = binary.BigEndian.AppendUint16(n.b, uint16(len(params)))
	n.b = append(n.b, params...)
	n.b = binary.BigEndian.AppendUint32(n.b, checksum(uint32(segmentVersion), uint32(n.id), uint32(n.id>>32), uint32(len(params)), params))
	_, err = f.WriteAt(n.b, 0)
	n.check(err)
	n.marker = len(n.b)
	n.b = append(n.b, make([]byte, 8)...)
}

// checksum is the CRC-32 of numbers, then of a text.
func checksum(a, b, c, d uint32, text string) uint32 {
	var raw []byte
	for _, v := range []uint32{a, b, c, d} {
		raw = binary.BigEndian.AppendUint32(raw, v)
	}
	return crc32.Update(crc32.ChecksumIEEE(raw), crc32.IEEETable, []byte(text))
}

// append writes an entry, to the next segment if this one is full, and gives its position. It is not in the file yet.
func (n *node) append(payload []byte) commitlog.Position {
	n.t.Helper()
	if len(n.b)+len(payload)+12+8 > n.size {
		n.rotate()
	}
	start := len(n.b)
	n.b = binary.BigEndian.AppendUint32(n.b, uint32(len(payload)))
	crc := crc32.ChecksumIEEE(n.b[start:])
	n.b = binary.BigEndian.AppendUint32(n.b, crc)
	n.b = append(n.b, payload...)
	n.b = binary.BigEndian.AppendUint32(n.b, crc32.Update(crc, crc32.IEEETable, payload))
	return commitlog.Position{Segment: n.id, Offset: int64(len(n.b))}
}

// write appends a mutation, and remembers its updates of captured tables.
func (n *node) write(updates ...update) commitlog.Position {
	n.t.Helper()
	p := n.append(mutation(updates...))
	for i, u := range updates {
		if u.table != nil && u.table.CDC {
			n.written = append(n.written, change{p, i, u.table, u.key, u.value})
		}
	}
	return p
}

// sync closes the open section, and tells so in the index file.
func (n *node) sync() {
	n.t.Helper()
	end := len(n.b)
	if end > n.marker+8 {
		_, err := n.f.WriteAt(n.b[n.marker+8:], int64(n.marker+8))
		n.check(err)
		var m [12]byte
		binary.BigEndian.PutUint32(m[0:], uint32(n.id))
		binary.BigEndian.PutUint32(m[4:], uint32(n.id>>32))
		binary.BigEndian.PutUint32(m[8:], uint32(n.marker))
		section := binary.BigEndian.AppendUint32(nil, uint32(end))
		section = binary.BigEndian.AppendUint32(section, crc32.ChecksumIEEE(m[:]))
		_, err = n.f.WriteAt(section, int64(n.marker))
		n.check(err)
		n.marker = end
		n.b = append(n.b, make([]byte, 8)...)
	}
	n.check(os.WriteFile(n.index(), fmt.Append(nil, n.marker), 0o644))
}

// finish closes the segment, and rotate opens the next.
func (n *node) finish() {
	n.t.Helper()
	n.sync()
	n.check(os.WriteFile(n.index(), fmt.Appendf(nil, "%d\nCOMPLETED", n.marker), 0o644))
	n.check(n.f.Close())
}

func (n *node) rotate() {
	n.t.Helper()
	n.finish()
	n.open()
}

// update is an INSERT of one row: key text, clustering int, value blob.
type update struct {
	table *schema.Table
	id    schema.UUID // used if table is nil
	key   string
	ck    int32
	value string
	// column is the name of the regular column, v unless set.
	column string
}

// mutation is the payload of an entry. Source: Mutation.MutationSerializer.
func mutation(updates ...update) []byte {
	b := appendUvint(nil, uint64(len(updates)))
	for _, u := range updates {
		id := u.id
		if u.table != nil {
			id = u.table.ID
		}
		if u.column == "" {
			u.column = "v"
		}
		b = append(b, id[:]...)
		b = appendText(b, u.key)
		b = append(b, 0)       // no flags of the update
		b = append(b, 0, 0, 0) // the minima are the epochs
		b = append(b, 1)       // one column
		b = appendText(b, u.column)
		b = append(b, 0x04|0x20) // a row with a timestamp and all columns
		b = append(b, 0)         // its clustering has no empty value
		b = binary.BigEndian.AppendUint32(b, uint32(u.ck))
		b = appendUvint(b, 5)
		b = append(b, 0x08) // a cell with the row's timestamp
		b = appendText(b, u.value)
		b = append(b, 0x01) // the end
	}
	return b
}

func appendText(b []byte, s string) []byte { return append(appendUvint(b, uint64(len(s))), s...) }

func appendUvint(b []byte, v uint64) []byte {
	n := (bits.Len64(v|1) - 1) / 7 // bytes after the first
	if n >= 8 {
		return binary.BigEndian.AppendUint64(append(b, 0xff), v)
	}
	b = append(b, byte(v>>(8*n))|^byte(0xff>>n))
	for i := n - 1; i >= 0; i-- {
		b = append(b, byte(v>>(8*i)))
	}
	return b
}

// newTable makes a table (k text, c int, v blob) with an id that depends on the number only.
func newTable(t testing.TB, keyspace, name string, number byte, edit ...func(*schema.Table)) *schema.Table {
	t.Helper()
	spec := schema.Table{
		Keyspace: keyspace, Name: name, ID: schema.UUID{0: 0x52, 6: 0x11, 15: number}, CDC: true, Flags: []string{"compound"},
		Columns: []schema.Column{
			{Name: "k", Kind: schema.PartitionKey, Type: newType(t, "text")},
			{Name: "c", Kind: schema.Clustering, Type: newType(t, "int")},
			{Name: "v", Kind: schema.Regular, Type: newType(t, "blob")},
		},
	}
	for _, e := range edit {
		e(&spec)
	}
	table, err := schema.NewTable(spec)
	if err != nil {
		t.Fatal(err)
	}
	return table
}

func newType(t testing.TB, cql string) *schema.Type {
	t.Helper()
	typ, err := schema.ParseType(cql, nil)
	if err != nil {
		t.Fatal(err)
	}
	return typ
}

func notCaptured(s *schema.Table) { s.CDC = false }

func partitionOf(key string) int32 {
	return rawtopic.Partition(schema.Token([]byte(key)), partitions)
}
