package main

import (
	"fmt"
	"io"
	"strings"

	"cassdelta/internal/local"
)

// printSummary prints what went through, each number with the parts that it is the sum of:
//
//	226  raw records: the log of each node has its own copy of a write
//	     76  from node1
//	     ...
//
//	226  raw records, by what they did
//	     63  changed rows
//	     92  copies of what was known
//	     ...
//
//	 64  events: one for each row that the 63 records changed
//	     25  rows created
//	     ...
//
// It is an error if something does not add up.
func printSummary(out io.Writer, nodes []string, s local.Summary) error {
	var raw, folded, events int64
	var from, did, what []part
	for i, n := range s.Nodes {
		raw += n
		from = append(from, part{n, "from " + nodes[i]})
	}
	for _, result := range []struct{ name, text string }{
		{"changed", "changed rows"},
		{"copy", "were copies of what was known"},
		{"shadowed", "were older than what was known"},
		{"silent", "changed no value of a row"},
		{"unsupported", "are of tables that are not supported"},
	} {
		folded += s.Folded[result.name]
		did = append(did, part{s.Folded[result.name], result.text})
	}
	unfolded := s.Unfolded()
	did = append(did, part{s.Refused, "could not be read, and were put aside"}, part{unfolded, "were not looked at before the end"})
	for _, op := range []struct{ name, text string }{{"c", "rows created"}, {"r", "rows seen for the first time"}, {"u", "rows updated"}, {"d", "rows deleted"}} {
		events += s.Events[op.name]
		what = append(what, part{s.Events[op.name], op.text})
	}
	width := len(fmt.Sprint(max(raw, events)))
	var b strings.Builder
	section(&b, width, part{raw, "raw records: the log of each node has its own copy of a write"}, from)
	section(&b, width, part{raw, "raw records, by what they did"}, did)
	section(&b, width, part{events, fmt.Sprintf("events: one for each row that the %d records changed", s.Folded["changed"])}, what)
	for _, p := range []part{
		{s.Unsupported, "writes to tables that are not supported were left out; the log names the tables"},
		{s.Undecoded, "places in segments could not be read, and were left out; the log has the reasons"},
	} {
		if p.n > 0 {
			section(&b, width, p, nil)
		}
	}
	if _, err := io.WriteString(out, b.String()); err != nil {
		return err
	}
	if events != s.Changes || unfolded < 0 || unfolded > 0 && !s.Stopped {
		return fmt.Errorf("the summary does not add up: %d raw records were written, %d folded and %d put aside; %d changes made %d events",
			raw, folded, s.Refused, s.Changes, events)
	}
	return nil
}

// part is a number of a summary with its meaning.
type part struct {
	n    int64
	text string
}

// section writes a sum, and below it the parts that are not 0.
func section(b *strings.Builder, width int, sum part, parts []part) {
	fmt.Fprintf(b, "\n%*d  %s\n", width, sum.n, sum.text)
	for _, p := range parts {
		if p.n != 0 {
			fmt.Fprintf(b, "%*s  %*d  %s\n", width, "", width, p.n, p.text)
		}
	}
}
