package recorder

import (
	"fmt"
	"strings"
)

// step is one statement or one directive of a workload.
type step struct {
	line int
	// cql is a statement without its semicolon; empty for a directive.
	cql string
	// verb and args are those of a directive: "-- @verb arg arg".
	verb string
	args []string
}

// parseWorkload splits a workload into steps. Statements end with a semicolon at the end of a line; a batch ends with
// APPLY BATCH. A line that begins with "-- @" is a directive. Other lines that begin with "--" are comments.
func parseWorkload(text string) ([]step, error) {
	var steps []step
	var statement []string
	begin := 0
	for i, line := range strings.Split(text, "\n") {
		trimmed := strings.TrimSpace(line)
		switch {
		case len(statement) == 0 && strings.HasPrefix(trimmed, "-- @"):
			f := strings.Fields(trimmed[len("-- @"):])
			if len(f) == 0 {
				return nil, fmt.Errorf("line %d: a directive without a name", i+1)
			}
			steps = append(steps, step{line: i + 1, verb: f[0], args: f[1:]})
			continue
		case trimmed == "" || strings.HasPrefix(trimmed, "--"):
			continue
		}
		if len(statement) == 0 {
			begin = i + 1
		}
		statement = append(statement, trimmed)
		if !strings.HasSuffix(trimmed, ";") || inBatch(statement) {
			continue
		}
		steps = append(steps, step{line: begin, cql: strings.TrimSuffix(strings.Join(statement, "\n"), ";")})
		statement = nil
	}
	if len(statement) > 0 {
		return nil, fmt.Errorf("line %d: the statement does not end with a semicolon", begin)
	}
	return steps, nil
}

func inBatch(statement []string) bool {
	return strings.HasPrefix(strings.ToUpper(statement[0]), "BEGIN ") &&
		!strings.HasPrefix(strings.ToUpper(statement[len(statement)-1]), "APPLY BATCH")
}
