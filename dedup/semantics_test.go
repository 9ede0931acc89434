package dedup

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var exampleLink = regexp.MustCompile(`\]\(\.\./(dedup/testdata/[a-z/-]+\.txt)\)`)

// TestSemanticsIsOfExamples holds docs/semantics.md to the example files: the lines of each block stand, in this order and each with
// all events below it, in one of the files that were linked last before it.
func TestSemanticsIsOfExamples(t *testing.T) {
	const page = "../docs/semantics.md"
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	var files [][]string // with events, those that were linked last
	var block []string
	first, blocks, events, linked := 0, 0, 0, false
	lines := append(strings.Split(string(text), "\n"), "")
	for i, line := range lines {
		if code, ok := strings.CutPrefix(line, "    "); ok && (files != nil || linked) {
			if block == nil {
				first = i + 1
			}
			block = append(block, code)
			if strings.HasPrefix(code, " ") {
				events++
			}
			continue
		}
		if block != nil {
			blocks++
			if !slices.ContainsFunc(files, func(file []string) bool { return inOrder(withEvents(block), file) }) {
				t.Errorf("%s:%d: the block is not in the example that is linked before it", page, first)
			}
			block = nil
		}
		if names := exampleLink.FindAllStringSubmatch(line, -1); names != nil {
			if !linked {
				files = nil
			}
			for _, name := range names {
				content, err := os.ReadFile(filepath.Join("..", name[1]))
				if err != nil {
					t.Fatalf("%s:%d: %v", page, i+1, err)
				}
				files = append(files, withEvents(strings.Split(string(content), "\n")))
			}
			linked = true
		} else {
			linked = false
		}
	}
	if blocks < 15 || events < 40 {
		t.Errorf("only %d blocks with %d events were found", blocks, events)
	}
}

// withEvents puts the indented lines behind a line to that line.
func withEvents(lines []string) (joined []string) {
	for _, line := range lines {
		if n := len(joined); n > 0 && strings.HasPrefix(line, " ") {
			joined[n-1] += "\n" + line
		} else {
			joined = append(joined, line)
		}
	}
	return joined
}

// inOrder reports whether all lines are in a file, in their order.
func inOrder(lines, file []string) bool {
	for _, line := range lines {
		at := slices.Index(file, line)
		if at < 0 {
			return false
		}
		file = file[at+1:]
	}
	return true
}
