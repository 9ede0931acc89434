package segment

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"cassdelta/commitlog"
	"cassdelta/schema"
)

// Filter says which updates are dumped: those that all of it lets through. The zero value lets everything through.
type Filter struct {
	// Tables are full names, keyspace.table without quotes, or ids.
	Tables []string
	// Key is a partition key, nil for any.
	Key *Key
	// From and To bound the position of the mutation, both included; a zero To is no bound.
	From, To commitlog.Position
	// Since and Until bound the write times, both included: at least one in the update is to be within. A zero time is no
	// bound.
	Since, Until time.Time
}

// check refuses bounds that nothing is between.
func (f *Filter) check() error {
	if f.behind(f.From) {
		return fmt.Errorf("--from %d:%d is behind --to %d:%d", f.From.Segment, f.From.Offset, f.To.Segment, f.To.Offset)
	}
	if !f.Until.IsZero() && f.Since.After(f.Until) {
		return fmt.Errorf("--since %s is after --until %s", micros(f.Since.UnixMicro()), micros(f.Until.UnixMicro()))
	}
	return nil
}

// needsSchema names what of the filter cannot be told without definitions, "" if nothing is there.
func (f *Filter) needsSchema() string {
	switch {
	case f.Key != nil && f.Key.raw == nil:
		return "a key that is not in hexadecimal digits"
	case !f.Since.IsZero() || !f.Until.IsZero():
		return "a range of write times"
	}
	return ""
}

// table reports whether updates of a table are dumped.
func (f *Filter) table(name string, id schema.UUID) bool {
	return len(f.Tables) == 0 || slices.Contains(f.Tables, name) || slices.Contains(f.Tables, id.String())
}

// segment reports whether positions within the bounds can be in a segment. Of id 0 nothing is known.
func (f *Filter) segment(id int64) bool {
	return id == 0 || id >= f.From.Segment && (f.To == commitlog.Position{} || id <= f.To.Segment)
}

// behind reports whether the position is behind the last one that is dumped.
func (f *Filter) behind(p commitlog.Position) bool {
	return f.To != commitlog.Position{} && p.Compare(f.To) > 0
}

// update reports whether an update of a table that is dumped is itself.
func (f *Filter) update(u *commitlog.Update) bool {
	return (f.Key == nil || f.Key.matches(u.Table, u.Key)) && f.written(u)
}

// written reports whether a write time of the update is within the bounds.
func (f *Filter) written(u *commitlog.Update) bool {
	since, until := int64(math.MinInt64), int64(math.MaxInt64)
	if !f.Since.IsZero() {
		since = f.Since.UnixMicro()
	}
	if !f.Until.IsZero() {
		until = f.Until.UnixMicro()
	}
	if since == math.MinInt64 && until == math.MaxInt64 {
		return true
	}
	found := false
	eachTimestamp(u, func(t int64) {
		found = found || t != commitlog.NoTimestamp && t >= since && t <= until
	})
	return found
}

// position is a flag with a position: SEGMENT or SEGMENT:OFFSET, as dump prints them. Without an offset it is the start of
// the segment.
type position struct {
	commitlog.Position
	hasOffset bool
}

// UnmarshalText implements [encoding.TextUnmarshaler].
func (p *position) UnmarshalText(text []byte) error {
	segment, offset, hasOffset := strings.Cut(string(text), ":")
	var err error
	if p.Segment, err = strconv.ParseInt(segment, 10, 64); err == nil && hasOffset {
		p.Offset, err = strconv.ParseInt(offset, 10, 64)
	}
	if err != nil || p.Segment <= 0 || p.Offset < 0 {
		return fmt.Errorf("expected SEGMENT or SEGMENT:OFFSET, such as 1795414250152:4711, found %q", text)
	}
	p.hasOffset = hasOffset
	return nil
}

// writeTime is a flag with a write time: a time, in UTC if it does not say, or microseconds since 1970.
type writeTime struct{ time.Time }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (w *writeTime) UnmarshalText(text []byte) error {
	if n, err := strconv.ParseInt(string(text), 10, 64); err == nil {
		w.Time = time.UnixMicro(n)
		return nil
	}
	for _, layout := range []string{time.RFC3339, "2006-01-02T15:04:05", "2006-01-02 15:04:05Z07:00", "2006-01-02 15:04:05", "2006-01-02"} {
		if t, err := time.Parse(layout, string(text)); err == nil {
			w.Time = t
			return nil
		}
	}
	return errors.New(`expected a time such as 2024-02-29T12:34:56Z or "2024-02-29 12:34:56.789", or microseconds since 1970`)
}
