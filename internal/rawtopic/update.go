package rawtopic

import (
	"fmt"

	"cassdelta/commitlog"
)

// MarkerError says that the range tombstone markers of an update do not pair up.
type MarkerError struct {
	Origin Origin
	// Table is keyspace.table.
	Table string
	// Index is that of the marker in Update.Unfiltereds, or their number if one is missing at the end.
	Index int
	// Reason says what was expected and found.
	Reason string
}

func (e *MarkerError) Error() string {
	return fmt.Sprintf("segment %d, position %d, update %d of table %s: range tombstone marker %d: %s",
		e.Origin.Position.Segment, e.Origin.Position.Offset, e.Origin.Update, e.Table, e.Index, e.Reason)
}

// FromUpdate makes d the data record of u, with ranges in place of markers. It uses the slices of d again, and what d
// then holds points into u. The error is a [*MarkerError]; d then means nothing.
func FromUpdate(u *commitlog.Update, origin Origin, d *Data) error {
	d.Origin = origin
	d.Schema = u.Table.Hash()
	d.Key = u.Key
	d.Deletion = u.Deletion
	d.Static = u.Static
	d.Rows, d.Ranges = d.Rows[:0], d.Ranges[:0]

	fail := func(i int, format string, args ...any) error {
		return &MarkerError{Origin: origin, Table: u.Table.FullName(), Index: i, Reason: fmt.Sprintf(format, args...)}
	}
	var open bool  // within a range
	var from Range // the open range, without its end
	for i := range u.Unfiltereds {
		if row := u.Unfiltereds[i].Row; row != nil {
			d.Rows = append(d.Rows, *row)
			continue
		}
		m := u.Unfiltereds[i].Marker
		closes, opens, endInclusive, startInclusive := sides(m.Kind)
		if !closes && !opens {
			return fail(i, "expected the kind of a bound or a boundary, found %d", m.Kind)
		}
		if closes {
			if !open {
				return fail(i, "expected the start of a range, found an end")
			}
			if m.End != from.Deletion {
				return fail(i, "expected the end of the deletion %v, found that of %v", from.Deletion, m.End)
			}
			from.End = Bound{Prefix: m.Prefix, Inclusive: endInclusive}
			d.Ranges = append(d.Ranges, from)
			open = false
		}
		if opens {
			if open {
				return fail(i, "expected the end of a range, found a start")
			}
			if m.Start.IsLive() {
				return fail(i, "expected a deletion, found a range without")
			}
			from = Range{Start: Bound{Prefix: m.Prefix, Inclusive: startInclusive}, Deletion: m.Start}
			open = true
		}
	}
	if open {
		return fail(len(u.Unfiltereds), "expected the end of a range, found the end of the update")
	}
	return nil
}

// sides says whether a marker ends a range, starts one, or both, and on which of them its bound is inclusive.
func sides(k commitlog.BoundKind) (closes, opens, endInclusive, startInclusive bool) {
	switch k {
	case commitlog.ExclEndBound:
		return true, false, false, false
	case commitlog.InclEndBound:
		return true, false, true, false
	case commitlog.InclStartBound:
		return false, true, false, true
	case commitlog.ExclStartBound:
		return false, true, false, false
	case commitlog.ExclEndInclStartBoundary:
		return true, true, false, true
	case commitlog.InclEndExclStartBoundary:
		return true, true, true, false
	}
	return false, false, false, false
}
