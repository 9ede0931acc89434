package recorder

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"cassdelta/internal/testparts"
)

// Examples are text files of CQL with the events that it leads to, which stand indented below the statements and are no
// business of the recorder. Behind each statement that may write something, the workload has a mark: an INSERT into the
// table examples.marks of the file's name and the number of the step, from 0 on, by which its mutations are found.

// exampleWorkload is the workload of all examples in a folder of the repository.
func exampleWorkload(folder string) (string, error) {
	recordings, err := testparts.RecordingsDir()
	if err != nil {
		return "", err
	}
	files, err := filepath.Glob(filepath.Join(recordings, "..", "..", filepath.FromSlash(folder), "*.txt"))
	if err != nil {
		return "", err
	}
	var out strings.Builder
	out.WriteString("CREATE KEYSPACE examples WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 1};\n" +
		"CREATE TABLE examples.marks (file text, step int, PRIMARY KEY (file, step)) WITH cdc = true;\n")
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return "", err
		}
		steps, err := ParseExample(string(text))
		if err != nil {
			return "", fmt.Errorf("%s: %w", file, err)
		}
		for i, s := range steps {
			if s.CQL == "" {
				continue
			}
			fmt.Fprintf(&out, "%s;\n", s.CQL)
			if s.Writes() {
				fmt.Fprintf(&out, "INSERT INTO examples.marks (file, step) VALUES ('%s', %d);\n", strings.TrimSuffix(filepath.Base(file), ".txt"), i)
			}
		}
	}
	return out.String(), nil
}

// ExampleStep is a statement of an example, or a line "tick N".
type ExampleStep struct {
	// Line and LastLine are those of the file, counted from 1.
	Line, LastLine int
	// CQL is a statement without its semicolon, empty for a tick.
	CQL string
	// Tick is N.
	Tick int64
}

// Writes reports whether the step is a statement that may write something.
func (s *ExampleStep) Writes() bool { return s.CQL != "" && !strings.HasPrefix(s.CQL, "CREATE ") }

// ParseExample splits an example into steps.
func ParseExample(text string) ([]ExampleStep, error) {
	lines := strings.Split(text, "\n")
	var steps []ExampleStep
	for i, line := range lines {
		// Events are no statements.
		if strings.HasPrefix(line, " ") {
			lines[i] = ""
		}
		if n := int64(0); strings.HasPrefix(line, "tick ") {
			if _, err := fmt.Sscanf(line, "tick %d", &n); err != nil {
				return nil, fmt.Errorf("line %d: %q: %w", i+1, line, err)
			}
			steps = append(steps, ExampleStep{Line: i + 1, LastLine: i + 1, Tick: n})
			lines[i] = ""
		}
	}
	statements, err := parseWorkload(strings.Join(lines, "\n"))
	if err != nil {
		return nil, err
	}
	for _, s := range statements {
		steps = append(steps, ExampleStep{Line: s.line, LastLine: s.line + strings.Count(s.cql, "\n"), CQL: s.cql})
	}
	slices.SortFunc(steps, func(a, b ExampleStep) int { return a.Line - b.Line })
	return steps, nil
}
