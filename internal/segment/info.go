package segment

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"cassdelta/commitlog"
	"cassdelta/schema"
)

// Info says of each segment what it holds and how it ends. Without a schema it counts mutations by the table of their
// first update. Its error names what could not be read; everything else is printed all the same.
func Info(ctx context.Context, o Options) error {
	paths, err := expand(o.Paths)
	if err != nil {
		return err
	}
	tables, err := loadTables(ctx, &o)
	if err != nil {
		return err
	}
	if err := tables.check(o.Keyspace, nil); err != nil {
		return err
	}
	out := bufio.NewWriter(o.Out)
	o.Out = out
	var failed []error
	var reader commitlog.Reader
	for i, p := range paths {
		if i > 0 {
			fmt.Fprintln(out)
		}
		err := infoFile(ctx, o, tables, &reader, p)
		if err := out.Flush(); err != nil {
			return err
		}
		if ctx.Err() != nil {
			failed = append(failed, errInterrupted)
			break
		}
		if err != nil {
			failed = append(failed, err)
		}
	}
	return errors.Join(failed...)
}

// census counts what is in a segment.
type census struct {
	tables   *tables
	decoder  *commitlog.Decoder
	version  commitlog.Version
	mutation commitlog.Mutation

	entries, bytes, damaged, undecoded int
	// damage says where the first damaged entry is, reason why the first undecoded mutation is one.
	damage  string
	reason  error
	byTable map[string]*tableCensus
}

// tableCensus counts what is in a segment of one table.
type tableCensus struct {
	name, keyspace string
	updates, bytes int
	first, last    int64 // write times; first > last if there is none
}

func infoFile(ctx context.Context, o Options, tables *tables, reader *commitlog.Reader, fl file) error {
	s, err := open(fl, reader, o.Keys)
	if err != nil {
		return err
	}
	defer s.close()
	fmt.Fprintln(o.Out, filepath.Base(fl.path))
	d, err := s.header()
	if err != nil && !unreadable(err) {
		fmt.Fprintf(o.Out, "  %v\n", err)
		return err
	}
	form := ""
	if d.Compression != "" {
		form += ", compressed by " + d.Compression
	}
	if d.Cipher != "" {
		form += fmt.Sprintf(", encrypted by %s with the key %q", d.Cipher, d.KeyAlias)
	}
	if d.ID != 0 {
		fmt.Fprintf(o.Out, "  version %d, id %d, %d bytes%s\n", d.Version, d.ID, s.size, form)
	}
	c := &census{tables: tables, version: d.Version, byTable: map[string]*tableCensus{}}
	if tables.catalog != nil {
		c.decoder = commitlog.NewDecoder(tables.catalog, nil)
	}
	end, err := s.each(func(payload []byte, pos commitlog.Position, err error) error {
		c.entry(payload, pos, err)
		return ctx.Err()
	})
	if err != nil {
		return err
	}
	first, last := int64(math.MaxInt64), int64(math.MinInt64)
	for _, t := range c.byTable {
		first, last = min(first, t.first), max(last, t.last)
	}
	fmt.Fprintf(o.Out, "  %d sync sections, %d entries, %d bytes of mutations\n", s.reader.Sections(), c.entries, c.bytes)
	if first <= last {
		fmt.Fprintf(o.Out, "  written %s to %s\n", micros(first), micros(last))
	}
	if c.damaged > 0 {
		fmt.Fprintf(o.Out, "  %s\n", c.damageText())
	}
	if c.undecoded > 0 {
		fmt.Fprintf(o.Out, "  %d mutations could not be decoded by this schema, the first: %v\n", c.undecoded, c.reason)
	}
	fmt.Fprintf(o.Out, "  %s\n", end.text)
	c.print(o)
	if end.err != nil {
		return end.err
	}
	if c.damaged > 0 {
		return fmt.Errorf("%s: %s", fl.path, c.damageText())
	}
	return nil
}

// damageText says how many entries are damaged, and where that begins.
func (c *census) damageText() string {
	return fmt.Sprintf("%d entries do not match their checksum, the first at %s", c.damaged, c.damage)
}

// entry counts one entry.
func (c *census) entry(payload []byte, pos commitlog.Position, damage error) {
	c.entries++
	c.bytes += len(payload)
	if damage != nil {
		c.damaged++
		if bad := (*commitlog.DamagedError)(nil); c.damage == "" && errors.As(damage, &bad) {
			c.damage = fmt.Sprintf("byte %d, position %d", bad.Offset, pos.Offset)
		}
		return
	}
	p, err := commitlog.ParsePreview(payload)
	if err != nil {
		c.failed(fmt.Errorf("position %d: %w", pos.Offset, err))
		return
	}
	c.table(p.Table).bytes += len(payload)
	if c.decoder == nil || c.tables.catalog.ByID(p.Table) == nil {
		c.table(p.Table).count(p.LeastTimestamp)
		return
	}
	if err := c.decoder.Decode(c.version, payload, pos, &c.mutation); err != nil {
		c.failed(err)
	}
	for i := range c.mutation.Updates {
		u := &c.mutation.Updates[i]
		t := c.table(u.Table.ID)
		t.count(commitlog.NoTimestamp)
		eachTimestamp(u, t.time)
	}
}

// failed counts a mutation that cannot be decoded.
func (c *census) failed(err error) {
	if c.undecoded++; c.reason == nil {
		c.reason = err
	}
}

func (c *census) table(id schema.UUID) *tableCensus {
	name := c.tables.name(id)
	t := c.byTable[name]
	if t == nil {
		keyspace, _, _ := strings.Cut(name, ".")
		t = &tableCensus{name: name, keyspace: keyspace, first: math.MaxInt64, last: math.MinInt64}
		c.byTable[name] = t
	}
	return t
}

// count counts one update; timestamp is one of its write times, or NoTimestamp.
func (t *tableCensus) count(timestamp int64) {
	t.updates++
	t.time(timestamp)
}

func (t *tableCensus) time(timestamp int64) {
	if timestamp != commitlog.NoTimestamp {
		t.first, t.last = min(t.first, timestamp), max(t.last, timestamp)
	}
}

// eachTimestamp calls f with every write time in an update.
func eachTimestamp(u *commitlog.Update, f func(int64)) {
	row := func(r *commitlog.Row) {
		f(r.Liveness.Timestamp)
		f(r.Deletion.Timestamp)
		for i := range r.Cells {
			f(r.Cells[i].Timestamp)
		}
		for i := range r.ComplexDeletions {
			f(r.ComplexDeletions[i].Timestamp)
		}
	}
	f(u.Deletion.Timestamp)
	if u.Static != nil {
		row(u.Static)
	}
	for _, x := range u.Unfiltereds {
		if x.Row != nil {
			row(x.Row)
		} else {
			f(x.Marker.End.Timestamp)
			f(x.Marker.Start.Timestamp)
		}
	}
}

func (c *census) print(o Options) {
	var all []*tableCensus
	for _, t := range c.byTable {
		if o.Keyspace == "" || t.keyspace == o.Keyspace {
			all = append(all, t)
		}
	}
	if len(all) == 0 {
		return
	}
	slices.SortFunc(all, func(a, b *tableCensus) int { return cmp.Or(cmp.Compare(b.bytes, a.bytes), cmp.Compare(a.name, b.name)) })
	w := tabwriter.NewWriter(o.Out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "  TABLE\tUPDATES\tBYTES\tFIRST WRITE\tLAST WRITE")
	for _, t := range all {
		first, last := "-", "-"
		if t.first <= t.last {
			first, last = micros(t.first), micros(t.last)
		}
		fmt.Fprintf(w, "  %s\t%d\t%d\t%s\t%s\n", t.name, t.updates, t.bytes, first, last)
	}
	w.Flush()
}

// micros is a time stamp for people; one that is no time of any calendar is a number.
func micros(t int64) string {
	s := time.UnixMicro(t).UTC()
	if y := s.Year(); y < 1 || y > 9999 {
		return fmt.Sprint(t)
	}
	return s.Format("2006-01-02T15:04:05.000000Z")
}
