package segment

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"strings"

	"cassdelta/commitlog"
)

// Dump prints every mutation in segments: with the definitions of a schema its updates, else its bytes. Mutations of
// tables that are not in the schema are left out and counted in a remark. Its error names what could not be read;
// everything else is printed all the same.
func Dump(ctx context.Context, o Options) error {
	paths, err := expand(o.Paths)
	if err != nil {
		return err
	}
	tables, err := loadTables(o.Schema)
	if err != nil {
		return err
	}
	out := bufio.NewWriterSize(o.Out, 64<<10)
	d := &dumper{Options: o, tables: tables, out: out}
	if tables.catalog != nil {
		d.decoder = commitlog.NewDecoder(tables.catalog, nil)
	}
	var failed []error
	for _, p := range paths {
		if err := d.file(ctx, p); err != nil {
			if d.fatal != nil || ctx.Err() != nil {
				return err
			}
			failed = append(failed, err)
		}
	}
	if err := out.Flush(); err != nil {
		return err
	}
	if d.left > 0 {
		fmt.Fprintf(o.Notes, "%d mutations are of tables that are not in %s\n", d.left, o.Schema)
	}
	return errors.Join(failed...)
}

// dumper prints segments.
type dumper struct {
	Options
	tables   *tables
	decoder  *commitlog.Decoder // nil without a schema
	mutation commitlog.Mutation
	out      *bufio.Writer
	line     []byte

	// left counts the mutations of unknown tables. fatal is an error of writing.
	left  int
	fatal error
}

func (d *dumper) file(ctx context.Context, fl file) error {
	s, err := open(fl, d.Keys)
	if err != nil {
		return err
	}
	defer s.close()
	desc, err := s.reader.Header()
	if err == commitlog.ErrMore {
		return fmt.Errorf("%s: has no header yet", fl.path)
	}
	if err != nil {
		return err
	}
	if !d.JSON {
		d.print("segment %d, version %d\n", desc.ID, desc.Version)
	}
	// Each failure is told when it is met; the count and the last of them make the error.
	failures := 0
	var last error
	fail := func(err error) {
		failures, last = failures+1, err
		fmt.Fprintln(d.Notes, err)
	}
	end, err := s.each(func(payload []byte, pos commitlog.Position, damage error) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		if damage == nil {
			damage = d.entry(desc.Version, payload, pos)
		}
		if damage != nil {
			fail(damage)
		}
		return d.fatal
	})
	switch {
	case err != nil:
		return err
	case end.err != nil:
		failures, last = failures+1, end.err
	case !d.JSON:
		d.print("%s\n", end.text)
	}
	if failures > 1 {
		return fmt.Errorf("%s: %d mutations could not be read, the last: %w", fl.path, failures, last)
	}
	return last
}

// entry prints one mutation; its error is that of a mutation that cannot be decoded.
func (d *dumper) entry(v commitlog.Version, payload []byte, pos commitlog.Position) error {
	preview, err := commitlog.ParsePreview(payload)
	if err != nil {
		return fmt.Errorf("segment %d, position %d: %w", pos.Segment, pos.Offset, err)
	}
	if d.decoder == nil {
		if keyspace, _, _ := strings.Cut(d.tables.name(preview.Table), "."); d.Keyspace == "" || d.Keyspace == keyspace {
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
		if d.Keyspace != "" && d.Keyspace != u.Table.Keyspace {
			continue
		}
		if d.JSON {
			d.line = appendUpdate(d.line[:0], m, u)
			d.write(d.line)
		} else {
			d.line = appendUpdateText(d.line[:0], m, u)
			d.write(d.line)
		}
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
