package segment

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"cassdelta/commitlog"
	"cassdelta/schema"
)

// errInterrupted says that the context ended before everything was read. It is no context.Canceled: what was printed is not
// what was asked for.
var errInterrupted = errors.New("interrupted: not everything was read")

// errBehind ends a segment whose other mutations are behind the last one that is dumped.
var errBehind = errors.New("behind the last position")

// Dump prints the mutations in segments that the filter lets through: with the definitions of a schema their updates,
// else their bytes. Mutations of tables that are not in the schema are left out and counted in a remark. Its error names
// what could not be read; everything else is printed all the same.
func Dump(ctx context.Context, o Options) error {
	if err := o.Filter.check(); err != nil {
		return err
	}
	paths, err := expand(o.Paths)
	if err != nil {
		return err
	}
	paths = slices.DeleteFunc(paths, func(f file) bool { return !o.Filter.segment(f.id) })
	tables, err := loadTables(ctx, &o)
	if err != nil {
		return err
	}
	if what := o.needsSchema(); what != "" && tables.catalog == nil {
		return fmt.Errorf("expected the tables for %s: name a --schema, or a node by --cassandra-contact-points", what)
	}
	if err := tables.check(o.Keyspace, o.Filter.Tables); err != nil {
		return err
	}
	d := &dumper{Options: o, tables: tables, out: bufio.NewWriterSize(o.Out, 64<<10)}
	if tables.catalog != nil {
		d.decoder = commitlog.NewDecoder(tables.catalog, func(t *schema.Table) bool { return d.wants(t.Keyspace, t.FullName(), t.ID) })
	}
	if o.Values == TextValues {
		d.JSON = true
	}
	d.progress = newProgress(o.Notes, o.Out, totalSize(paths))
	defer d.progress.clear()
	var failed []error
	for _, p := range paths {
		if err := d.file(ctx, p); err != nil {
			if d.fatal != nil {
				return err
			}
			if ctx.Err() != nil {
				failed = append(failed, errInterrupted)
				break
			}
			failed = append(failed, err)
		}
	}
	if err := d.out.Flush(); err != nil {
		return err
	}
	if d.left > 0 && len(o.Filter.Tables) == 0 {
		d.note("%d mutations are of tables that are not in %s\n", d.left, tables.from)
	}
	return errors.Join(failed...)
}

// needsSchema names what cannot be printed or told without definitions, "" if nothing is there.
func (o *Options) needsSchema() string {
	if o.Values == TextValues {
		return "values as text"
	}
	return o.Filter.needsSchema()
}

// totalSize is the size of all segments.
func totalSize(files []file) int64 {
	total := int64(0)
	for _, f := range files {
		total += f.info.Size()
	}
	return total
}

// dumper prints segments.
type dumper struct {
	Options
	tables   *tables
	reader   commitlog.Reader
	decoder  *commitlog.Decoder // nil without a schema
	mutation commitlog.Mutation
	out      *bufio.Writer
	line     []byte
	progress *progress

	// left counts the mutations of unknown tables. fatal is an error of writing.
	left  int
	fatal error
}

// wants reports whether updates of a table are dumped.
func (d *dumper) wants(keyspace, name string, id schema.UUID) bool {
	return (d.Keyspace == "" || d.Keyspace == keyspace) && d.Filter.table(name, id)
}

func (d *dumper) file(ctx context.Context, fl file) error {
	s, err := open(fl, &d.reader, d.Keys)
	if err != nil {
		return err
	}
	defer s.close()
	d.progress.begin(fl.path)
	defer d.progress.done(s.size)
	desc, err := s.header()
	if err != nil {
		return err
	}
	if !d.Filter.segment(desc.ID) {
		return nil
	}
	if d.Filter.From.Segment == desc.ID {
		s.reader.SkipTo(d.Filter.From.Offset - 1)
	}
	if !d.JSON {
		d.print("segment %d, version %d\n", desc.ID, desc.Version)
	}
	// Each failure is told when it is met; the count and the last of them make the error.
	failures := 0
	var last error
	fail := func(err error) {
		failures, last = failures+1, err
		d.note("%v\n", err)
	}
	end, err := s.each(func(payload []byte, pos commitlog.Position, damage error) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		if d.Filter.behind(pos) {
			return errBehind
		}
		d.progress.at(s.reader.FileOffset())
		if damage == nil {
			damage = d.entry(desc.Version, payload, pos)
		}
		if damage != nil {
			fail(damage)
		}
		return d.fatal
	})
	switch {
	case err == errBehind:
	case err != nil:
		return err
	case end.err != nil:
		failures, last = failures+1, end.err
	case !d.JSON:
		d.print("%s\n", end.text)
	}
	if failures > 1 {
		return fmt.Errorf("%s: could not be read at %d places, the last: %w", fl.path, failures, last)
	}
	return last
}

// entry prints one mutation; its error is that of a mutation that cannot be decoded.
func (d *dumper) entry(v commitlog.Version, payload []byte, pos commitlog.Position) error {
	preview, err := commitlog.ParsePreview(payload)
	if err != nil {
		return fmt.Errorf("segment %d, position %d: %w", pos.Segment, pos.Offset, err)
	}
	if k := d.Filter.Key; k != nil && k.raw != nil && !bytes.Equal(k.raw, preview.Key) {
		return nil
	}
	if d.decoder == nil {
		name := d.tables.name(preview.Table)
		if keyspace, _, _ := strings.Cut(name, "."); d.wants(keyspace, name, preview.Table) {
			d.raw(payload, pos, preview)
		}
		return nil
	}
	m := &d.mutation
	err = d.decoder.Decode(v, payload, pos, m)
	if unknown := (*commitlog.UnknownTableError)(nil); errors.As(err, &unknown) {
		d.left++
		// What stands behind the update of the unknown table is found by its own table's id.
		d.decoder.Resync(v, payload, unknown.Offset, m)
		err = nil
	}
	for i := range m.Updates {
		u := &m.Updates[i]
		if !d.Filter.update(u) {
			continue
		}
		if d.JSON {
			d.line = d.Values.appendUpdate(d.line[:0], m, u)
		} else {
			d.line = appendUpdateText(d.line[:0], m, u)
		}
		d.write(d.line)
	}
	return err
}

// raw prints a mutation of which no definition is known.
func (d *dumper) raw(payload []byte, pos commitlog.Position, p commitlog.Preview) {
	if d.JSON {
		d.line = appendRaw(d.line[:0], payload, pos, p)
		d.write(d.line)
		return
	}
	d.print("%10d  %s  key 0x%x  %d updates, %d bytes: %x\n", pos.Offset, d.tables.name(p.Table), p.Key, p.Count, len(payload), payload)
}

func (d *dumper) print(format string, args ...any) {
	if _, err := fmt.Fprintf(d.out, format, args...); err != nil {
		d.fatal = err
	}
}

func (d *dumper) write(line []byte) {
	if _, err := d.out.Write(line); err != nil {
		d.fatal = err
	}
}

// note prints a remark.
func (d *dumper) note(format string, args ...any) {
	d.progress.clear()
	fmt.Fprintf(d.Notes, format, args...)
}
