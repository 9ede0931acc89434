package rawtopic

import (
	"fmt"
	"strings"
	"testing"

	"cassdelta/commitlog"
	"cassdelta/schema"
)

// TestFromUpdatePairsMarkers writes markers as: kind, prefix, deletion that ends / deletion that starts. A range comes
// out as [start end] with round brackets where a bound is exclusive, and its deletion.
func TestFromUpdatePairsMarkers(t *testing.T) {
	del := func(ts int64) commitlog.Deletion {
		if ts == 0 {
			return commitlog.LiveDeletion
		}
		return commitlog.Deletion{Timestamp: ts, LocalTime: 50}
	}
	marker := func(kind commitlog.BoundKind, prefix string, end, start int64) commitlog.Unfiltered {
		m := &commitlog.Marker{Kind: kind, End: del(end), Start: del(start)}
		for _, v := range strings.Fields(prefix) {
			m.Prefix = append(m.Prefix, []byte(v))
		}
		return commitlog.Unfiltered{Marker: m}
	}
	row := commitlog.Unfiltered{Row: &commitlog.Row{Clustering: [][]byte{[]byte("r")}}}
	type list = []commitlog.Unfiltered
	for _, c := range []struct {
		name string
		in   list
		want string // the ranges, or the error
	}{
		{"nothing", nil, ""},
		{"rows alone", list{row, row}, ""},
		{"one range", list{marker(commitlog.InclStartBound, "a", 0, 7), marker(commitlog.InclEndBound, "c", 7, 0)}, "[a c] 7"},
		{"exclusive", list{marker(commitlog.ExclStartBound, "a b", 0, 7), row, marker(commitlog.ExclEndBound, "a d", 7, 0)}, "(a b a d) 7"},
		{"open ends", list{marker(commitlog.InclStartBound, "", 0, 7), marker(commitlog.InclEndBound, "", 7, 0)}, "[ ] 7"},
		{"boundaries", list{
			marker(commitlog.InclStartBound, "a", 0, 1),
			marker(commitlog.ExclEndInclStartBoundary, "b", 1, 2),
			marker(commitlog.InclEndExclStartBoundary, "c", 2, 3),
			marker(commitlog.ExclEndBound, "d", 3, 0)}, "[a b) 1, [b c] 2, (c d) 3"},
		{"end without start", list{marker(commitlog.InclEndBound, "c", 7, 0)}, "marker 0: expected the start of a range, found an end"},
		{"boundary without start", list{row, marker(commitlog.ExclEndInclStartBoundary, "c", 7, 8)}, "marker 1: expected the start of a range, found an end"},
		{"start within a range", list{marker(commitlog.InclStartBound, "a", 0, 7), marker(commitlog.InclStartBound, "b", 0, 7)}, "marker 1: expected the end of a range, found a start"},
		{"never closed", list{marker(commitlog.InclStartBound, "a", 0, 7), row}, "marker 2: expected the end of a range, found the end of the update"},
		{"end of another deletion", list{marker(commitlog.InclStartBound, "a", 0, 7), marker(commitlog.InclEndBound, "b", 8, 0)}, "marker 1: expected the end of the deletion {7 50}, found that of {8 50}"},
		{"no deletion", list{marker(commitlog.InclStartBound, "a", 0, 0), marker(commitlog.InclEndBound, "b", 0, 0)}, "marker 0: expected a deletion, found a range without"},
		{"unknown kind", list{marker(3, "a", 0, 7)}, "marker 0: expected the kind of a bound or a boundary, found 3"},
	} {
		t.Run(c.name, func(t *testing.T) {
			u := &commitlog.Update{Table: &schema.Table{Keyspace: "k", Name: "t"}, Unfiltereds: c.in}
			d := Data{Rows: make([]commitlog.Row, 9), Ranges: make([]Range, 9)} // left from the update before
			err := FromUpdate(u, Origin{}, &d)
			if err != nil {
				if c.want == "" || !strings.HasSuffix(err.Error(), c.want) {
					t.Errorf("expected %q, found the error %v", c.want, err)
				}
				return
			}
			var ranges []string
			for _, g := range d.Ranges {
				open, end := "(", ")"
				if g.Start.Inclusive {
					open = "["
				}
				if g.End.Inclusive {
					end = "]"
				}
				join := func(p [][]byte) string {
					var s []string
					for _, v := range p {
						s = append(s, string(v))
					}
					return strings.Join(s, " ")
				}
				ranges = append(ranges, fmt.Sprintf("%s%s %s%s %d", open, join(g.Start.Prefix), join(g.End.Prefix), end, g.Deletion.Timestamp))
			}
			if got := strings.Join(ranges, ", "); got != c.want {
				t.Errorf("expected %q, found %q", c.want, got)
			}
			rows := 0
			for _, f := range c.in {
				if f.Row != nil {
					rows++
				}
			}
			if len(d.Rows) != rows {
				t.Errorf("expected %d rows, found %d", rows, len(d.Rows))
			}
		})
	}
}
