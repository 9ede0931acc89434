package commitlog

import (
	"encoding/hex"
	"flag"
	"os"
	"strings"
	"testing"
)

// rewrite replaces the expected output in text files by what was found; the difference is to be reviewed like code.
var rewrite = flag.Bool("rewrite", false, "write the output found into the text files under testdata")

// textCase is one case of a text file: a command with its arguments, input lines, a line of four dashes, and the
// output expected, up to an empty line.
type textCase struct {
	line    int
	command string
	args    map[string]string
	input   []string
}

// runTextFile runs every case of a text file and compares outputs. "#" begins a comment.
func runTextFile(t *testing.T, file string, run func(t *testing.T, c textCase) string) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	lines := strings.Split(strings.TrimSuffix(string(b), "\n"), "\n")
	for i := 0; i < len(lines); {
		line := lines[i]
		if s, _, _ := strings.Cut(line, "#"); strings.TrimSpace(s) == "" {
			out.WriteString(line + "\n")
			i++
			continue
		}
		c := textCase{line: i + 1, args: map[string]string{}}
		head, _, _ := strings.Cut(line, "#")
		for n, word := range strings.Fields(head) {
			if n == 0 {
				c.command = word
			} else {
				k, v, _ := strings.Cut(word, "=")
				c.args[k] = v
			}
		}
		out.WriteString(line + "\n")
		for i++; i < len(lines) && lines[i] != "----"; i++ {
			s, _, _ := strings.Cut(lines[i], "#")
			if s = strings.TrimSpace(s); s != "" {
				c.input = append(c.input, s)
			}
			out.WriteString(lines[i] + "\n")
		}
		var want strings.Builder
		for i++; i < len(lines) && lines[i] != ""; i++ {
			want.WriteString(lines[i] + "\n")
		}
		found := run(t, c)
		if !strings.HasSuffix(found, "\n") {
			found += "\n"
		}
		out.WriteString("----\n" + found)
		if found != want.String() && !*rewrite {
			t.Errorf("%s:%d: %s: expected\n%s\nfound\n%s", file, c.line, line, want.String(), found)
		}
	}
	if *rewrite {
		if err := os.WriteFile(file, []byte(out.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// hexInput is the input of a case as bytes; white space between digits is for the reader.
func hexInput(t *testing.T, c textCase) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.Join(strings.Fields(strings.Join(c.input, " ")), ""))
	if err != nil {
		t.Fatalf("line %d: %v", c.line, err)
	}
	return b
}
