package segment

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"cassdelta/commitlog"
)

// both are the two commands.
var both = map[string]func(context.Context, Options) error{"info": Info, "dump": Dump}

// TestPaths: a segment is read once, however often it is named, and the index files that a shell's * names with the segments
// are none.
func TestPaths(t *testing.T) {
	dir, schemaFile := unpack(t, "demo", "node3")
	names, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(names) != 6 {
		t.Fatal(err, names)
	}
	link := filepath.Join(t.TempDir(), filepath.Base(names[0]))
	if err := os.Link(names[0], link); err != nil {
		t.Fatal(err)
	}
	for name, run := range both {
		var want bytes.Buffer
		if err := run(t.Context(), Options{Paths: []string{dir}, Schema: schemaFile, Out: &want, Notes: &bytes.Buffer{}}); err != nil {
			t.Fatal(err)
		}
		for _, paths := range [][]string{names, {dir, dir + "/"}, {names[0], dir, names[2]}, {dir, link}} {
			var out bytes.Buffer
			err := run(t.Context(), Options{Paths: paths, Schema: schemaFile, Out: &out, Notes: &bytes.Buffer{}})
			if err != nil || out.String() != want.String() {
				t.Errorf("%s of %q: %v, %d bytes, expected %d", name, paths, err, out.Len(), want.Len())
			}
		}
	}
}

// TestMisuse: what can only be meant otherwise is refused before anything is printed.
func TestMisuse(t *testing.T) {
	dir, schemaFile := unpack(t, "demo", "node1")
	index, err := filepath.Glob(filepath.Join(dir, "*.idx"))
	if err != nil || len(index) != 1 {
		t.Fatal(err, index)
	}
	fifo := filepath.Join(t.TempDir(), "CommitLog-7-1.log")
	if err := syscall.Mkfifo(fifo, 0o644); err != nil {
		t.Fatal(err)
	}
	at := func(offset int64) commitlog.Position {
		return commitlog.Position{Segment: 1795488838341, Offset: offset}
	}
	for _, c := range []struct {
		name     string
		o        Options
		want     string
		dumpOnly bool
	}{
		{"an index file", Options{Paths: index}, "is the index of a segment: name the segment", false},
		{"standard input", Options{Paths: []string{"-"}}, "segments are not read from standard input", false},
		{"a pipe", Options{Paths: []string{fifo}}, "expected a segment or a directory", false},
		{"a keyspace that is not in the schema", Options{Keyspace: "shops", Schema: schemaFile}, "keyspace shops: expected one with tables in", false},
		{"a keyspace without a schema", Options{Keyspace: "shop"}, "keyspace shop: no names of its tables are known", false},
		{"positions", Options{Schema: schemaFile, Filter: Filter{From: at(9), To: at(8)}}, "--from 1795488838341:9 is behind --to 1795488838341:8", true},
		{"times", Options{Schema: schemaFile, Filter: Filter{Since: time.UnixMicro(2), Until: time.UnixMicro(1)}},
			"--since 1970-01-01T00:00:00.000002Z is after --until 1970-01-01T00:00:00.000001Z", true},
	} {
		for name, run := range both {
			if name == "info" && c.dumpOnly {
				continue
			}
			var out bytes.Buffer
			c.o.Out, c.o.Notes = &out, &out
			if c.o.Paths == nil {
				c.o.Paths = []string{dir}
			}
			if err := run(t.Context(), c.o); err == nil || !strings.Contains(err.Error(), c.want) || out.Len() > 0 {
				t.Errorf("%s of %s: %v, expected %q\n%s", name, c.name, err, c.want, out.String())
			}
		}
	}
}

// TestOutputOverInput: a dump does not write over what it reads.
func TestOutputOverInput(t *testing.T) {
	dir, schemaFile := unpack(t, "demo", "node1")
	own := filepath.Join(t.TempDir(), "schema.cql")
	content, err := os.ReadFile(schemaFile)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(own, content, 0o644); err != nil {
		t.Fatal(err)
	}
	segments, err := filepath.Glob(filepath.Join(dir, "*.log"))
	if err != nil || len(segments) != 1 {
		t.Fatal(err, segments)
	}
	for _, path := range []string{segments[0], own} {
		before, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		c := DumpCmd{files: files{Paths: []string{dir}, Schema: own}, Output: path}
		if err := c.Run(t.Context(), &bytes.Buffer{}); err == nil || !strings.Contains(err.Error(), "is read itself: name another file") {
			t.Errorf("%v", err)
		}
		if after, err := os.ReadFile(path); err != nil || !bytes.Equal(before, after) {
			t.Errorf("%s: %v, %d bytes, before %d", path, err, len(after), len(before))
		}
	}
}

// cancelling is a writer that cancels a context once it was written to so often.
type cancelling struct {
	bytes.Buffer
	left   int
	cancel func()
}

func (c *cancelling) Write(b []byte) (int, error) {
	if c.left--; c.left == 0 {
		c.cancel()
	}
	return c.Buffer.Write(b)
}

// TestInterrupted: what was interrupted is no success, and whole lines of it are there.
func TestInterrupted(t *testing.T) {
	dir, schemaFile := unpack(t, "types-4.0", "node1")
	for name, run := range both {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		var out bytes.Buffer
		err := run(ctx, Options{Paths: []string{dir}, Schema: schemaFile, Out: &out, Notes: &out})
		if err == nil || errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "interrupted") {
			t.Errorf("%s: %v", name, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	out := &cancelling{left: 1, cancel: cancel}
	err := Dump(ctx, Options{Paths: []string{dir}, JSON: true, Out: out, Notes: &bytes.Buffer{}})
	if err == nil || !strings.Contains(err.Error(), "interrupted") || out.Len() == 0 || out.Bytes()[out.Len()-1] != '\n' {
		t.Errorf("%v, %d bytes, the last: %q", err, out.Len(), out.Bytes()[max(0, out.Len()-20):])
	}
}

// TestInfoCannotWrite: nobody takes a part for the whole.
func TestInfoCannotWrite(t *testing.T) {
	dir, _ := unpack(t, "demo", "node1")
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer full.Close()
	if err := Info(t.Context(), Options{Paths: []string{dir}, Out: full, Notes: &bytes.Buffer{}}); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("%v", err)
	}
}

// TestInfoOfDamage: info says where damage begins, and why mutations could not be decoded.
func TestInfoOfDamage(t *testing.T) {
	dir, schemaFile := unpack(t, "demo", "node1")
	path := filepath.Join(dir, "CommitLog-7-1795488838341.log")
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	// In the payloads of the entries that end at 76348 and 80270, of 69 and 112 bytes.
	b[76348-10] ^= 1
	b[80270-10] ^= 1
	if err := os.WriteFile(path, b, 0o644); err != nil {
		t.Fatal(err)
	}
	const where = "2 entries do not match their checksum, the first at byte 76267, position 76348"
	var out bytes.Buffer
	err = Info(t.Context(), Options{Paths: []string{dir}, Schema: schemaFile, Out: &out, Notes: &out})
	if err == nil || !strings.Contains(err.Error(), where) || !strings.Contains(out.String(), where) {
		t.Errorf("%v\n%s", err, out.String())
	}

	content, err := os.ReadFile(schemaFile)
	if err != nil {
		t.Fatal(err)
	}
	other := filepath.Join(t.TempDir(), "schema.cql")
	if err := os.WriteFile(other, bytes.Replace(content, []byte("    email text,\n"), nil, 1), 0o644); err != nil {
		t.Fatal(err)
	}
	out.Reset()
	_ = Info(t.Context(), Options{Paths: []string{dir}, Schema: other, Out: &out, Notes: &out})
	if want := `mutations could not be decoded by this schema, the first: segment 1795488838341, position 79285, update 0: table shop.customers has no column "email"`; !strings.Contains(out.String(), want) {
		t.Errorf("expected %q, found\n%s", want, out.String())
	}
}
