package main

import (
	"fmt"
	"io"
	"text/tabwriter"

	"cassdelta/internal/local"
)

// printSummary prints what went through, in a way that lets the reader add it up. It is an error if it does not.
func printSummary(out io.Writer, nodes []string, s local.Summary) error {
	var records, events int64
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	for i, n := range s.Nodes {
		records += n
		fmt.Fprintf(w, "raw records of %s\t%d\t\n", nodes[i], n)
	}
	for _, n := range s.Events {
		events += n
	}
	fmt.Fprintf(w, "raw records\t%d\t\n", records)
	folded := int64(0)
	for _, result := range []struct{ name, text string }{
		{"changed", "changed rows"},
		{"copy", "copies collapsed"},
		{"shadowed", "older than what was known"},
		{"silent", "without effect on a row's values"},
		{"unsupported", "of tables not supported"},
	} {
		if n := s.Folded[result.name]; n > 0 {
			folded += n
			fmt.Fprintf(w, "%s\t%d\t\n", result.text, n)
		}
	}
	if s.DeadLetters > 0 {
		fmt.Fprintf(w, "put aside as dead letters\t%d\t\n", s.DeadLetters)
	}
	fmt.Fprintf(w, "distinct changes\t%d\t\n", s.Changes)
	fmt.Fprintf(w, "events\t%d\t(%d created, %d updated, %d deleted)\n", events, s.Events["c"]+s.Events["r"], s.Events["u"], s.Events["d"])
	if err := w.Flush(); err != nil {
		return err
	}
	if events != s.Changes || s.DeadLetters == 0 && folded != records {
		return fmt.Errorf("the summary does not add up: %d raw records were written and %d folded; %d changes made %d events", records, folded, s.Changes, events)
	}
	return nil
}
