package differential

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
)

// mostDifferences bounds the differences that are quoted.
const mostDifferences = 5

// quotedBytes bounds what is quoted of a line, around the first byte that differs.
const quotedBytes = 600

// Comparison is what two readers made of the same segments, in lines of "cassdelta segment dump --json".
type Comparison struct {
	// Mutations and Lines are those of Cassandra's reader; a line is one update.
	Mutations, Lines int
	// Bytes is the sum of the mutations' sizes.
	Bytes int64
	// Shadowable counts the lines of Cassandra's reader with a shadowable deletion.
	Shadowable int
	// Differences counts the lines that differ or that one of the two does not have.
	Differences int
	// First quotes the first differences.
	First []string
}

// place is that of a line: which update of which mutation it shows.
type linePlace struct {
	segment, position int64
	size              int64
	update            int
}

// compare goes through the lines of both in step. Both are in the order of the log, so a line that one of them lacks
// does not disturb those behind it.
func compare(ours, theirs io.Reader) (Comparison, error) {
	var c Comparison
	a, b := newLines(ours), newLines(theirs)
	a.next()
	b.next()
	var last linePlace
	for a.line != nil || b.line != nil {
		var order int
		switch {
		case a.line == nil:
			order = 1
		case b.line == nil:
			order = -1
		default:
			order = a.place.compare(b.place)
		}
		if order >= 0 {
			c.Lines++
			if bytes.Contains(b.line, []byte(`,"shadowable":1}`)) {
				c.Shadowable++
			}
			if b.place.segment != last.segment || b.place.position != last.position {
				c.Mutations++
				c.Bytes += b.place.size
			}
			last = b.place
		}
		switch {
		case order < 0:
			c.differ("only cassdelta has\n  %s", cut(a.line, 0))
		case order > 0:
			c.differ("only Cassandra has\n  %s", cut(b.line, 0))
		case !bytes.Equal(a.line, b.line):
			at := firstDifference(a.line, b.line)
			c.differ("from byte %d on\n  cassdelta: %s\n  Cassandra: %s", at, cut(a.line, at), cut(b.line, at))
		}
		if order <= 0 {
			a.next()
		}
		if order >= 0 {
			b.next()
		}
	}
	return c, errors.Join(a.err, b.err)
}

func (c *Comparison) differ(format string, args ...any) {
	c.Differences++
	if len(c.First) < mostDifferences {
		c.First = append(c.First, fmt.Sprintf(format, args...))
	}
}

func (p linePlace) compare(q linePlace) int {
	for _, d := range []int64{p.segment - q.segment, p.position - q.position, int64(p.update - q.update)} {
		if d != 0 {
			return int(max(-1, min(1, d)))
		}
	}
	return 0
}

// lines reads lines; line is nil behind the last one.
type lines struct {
	r     *bufio.Reader
	line  []byte
	place linePlace
	err   error
}

func newLines(r io.Reader) *lines { return &lines{r: bufio.NewReaderSize(r, 1<<20)} }

func (l *lines) next() {
	l.line = l.line[:0]
	for {
		part, err := l.r.ReadSlice('\n')
		l.line = append(l.line, part...)
		if err == bufio.ErrBufferFull {
			continue
		}
		if err == io.EOF && len(l.line) == 0 {
			l.line = nil
			return
		}
		if err == nil {
			_, err = fmt.Sscanf(string(l.line[:min(len(l.line), 120)]), `{"seg":%d,"pos":%d,"size":%d,"i":%d,`,
				&l.place.segment, &l.place.position, &l.place.size, &l.place.update)
		}
		if err != nil {
			l.err = fmt.Errorf("line %q: %w", cut(l.line, 0), err)
			l.line = nil
			_, _ = io.Copy(io.Discard, l.r) // so that who writes it can end
		}
		return
	}
}

func firstDifference(a, b []byte) int {
	n := min(len(a), len(b))
	for i := range n {
		if a[i] != b[i] {
			return i
		}
	}
	return n
}

// cut shortens a line to its start and what is around the byte at.
func cut(line []byte, at int) string {
	line = bytes.TrimSuffix(line, []byte("\n"))
	if len(line) <= quotedBytes {
		return string(line)
	}
	const head = 200
	from := max(head, at-quotedBytes/2)
	if from == head {
		return fmt.Sprintf("%s ... (%d bytes)", line[:quotedBytes], len(line))
	}
	return fmt.Sprintf("%s ... %s ... (%d bytes)", line[:head], line[from:min(len(line), from+quotedBytes)], len(line))
}
