package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

type mutantsCmd struct {
	List    string   `help:"The list of mutants." default:"dedup/testdata/mutants.txt"`
	Package string   `help:"The package that they are of." default:"dedup"`
	Tests   string   `help:"The tests that are to fail." default:"^Test(Examples|CellOrder|LivenessOrder|Second|Counter.*|Removals|MergeLaws|Element.*|Stats.*|Refused|Large.*|ManyRanges|Joined.*|Dropped.*|Row.*|Parts.*|UserTypes.*|Properties|Cuts|Cop.*|ExpiryOff)$"`
	Only    []string `help:"Names of mutants. Default: all."`

	Protocol bool `help:"Instead break each rule by which events are written exactly once, and print the seed of the simulation, or the test, that fails."`
	Seeds    int  `help:"With --protocol: up to how many seeds are tried." default:"200"`
}

// mutant is one break of the code: old is replaced by new.
type mutant struct {
	name, file string
	// statement says that old and new are statements, otherwise they are expressions of one type.
	statement bool
	old, new  string
}

// Run breaks the package in each of the ways of the list, one at a time, and prints which test sees it. All mutants are
// compiled into one test program, each behind a condition, and an environment variable chooses one.
func (c *mutantsCmd) Run(ctx context.Context) error {
	if c.Protocol {
		return c.runProtocol(ctx)
	}
	text, err := os.ReadFile(c.List)
	if err != nil {
		return err
	}
	list, err := parseMutants(string(text))
	if err != nil {
		return fmt.Errorf("%s: %w", c.List, err)
	}
	dir, err := os.MkdirTemp("", "cassdelta-mutants-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	program, err := c.build(ctx, list, dir)
	if err != nil {
		return err
	}
	if failed, out, err := c.test(ctx, program, ""); err != nil || failed != "" {
		return fmt.Errorf("without a mutant %s fails: %w\n%s", failed, err, out)
	}
	start := time.Now()
	tried, survived := 0, 0
	for _, m := range list {
		if len(c.Only) > 0 && !slices.Contains(c.Only, m.name) {
			continue
		}
		failed, _, err := c.test(ctx, program, m.name)
		if err != nil {
			return err
		}
		if failed == "" {
			survived++
			failed = "SURVIVED"
		}
		tried++
		fmt.Printf("%-34s %-16s %s\n", m.name, m.file, failed)
	}
	fmt.Printf("%d mutants, %d survived, %.0f s\n", tried, survived, time.Since(start).Seconds())
	if survived > 0 || tried == 0 {
		return fmt.Errorf("%d of %d mutants survived", survived, tried)
	}
	return nil
}

// parseMutants reads a list: a line "expression NAME FILE" or "statement NAME FILE", and lines with - and + before what
// is replaced and by what. Lines with # are comments.
func parseMutants(text string) ([]*mutant, error) {
	var list []*mutant
	for i, line := range strings.Split(text, "\n") {
		words := strings.Fields(line)
		switch {
		case len(words) == 0 || words[0] == "#":
		case len(words) == 3 && (words[0] == "expression" || words[0] == "statement"):
			list = append(list, &mutant{name: words[1], file: words[2], statement: words[0] == "statement"})
		case len(list) > 0 && strings.HasPrefix(line, "- "):
			m := list[len(list)-1]
			m.old = strings.TrimPrefix(m.old+"\n"+line[2:], "\n")
		case len(list) > 0 && strings.HasPrefix(line, "+"):
			m := list[len(list)-1]
			m.new = strings.TrimPrefix(m.new+"\n"+strings.TrimPrefix(line[1:], " "), "\n")
		default:
			return nil, fmt.Errorf("line %d: expected a mutant, found %q", i+1, line)
		}
	}
	for i, m := range list {
		if m.old == "" {
			return nil, fmt.Errorf("mutant %s says nothing of what is replaced", m.name)
		}
		if slices.ContainsFunc(list[:i], func(n *mutant) bool { return n.name == m.name }) {
			return nil, fmt.Errorf("two mutants are named %s", m.name)
		}
	}
	return list, nil
}

const mutantSwitch = `package %s

import "os"

var activeMutant = os.Getenv("MUTANT")

func mutant[T any](name string, right, wrong T) T {
	if activeMutant == name {
		return wrong
	}
	return right
}
`

// build compiles the tests of the package with all mutants in it.
func (c *mutantsCmd) build(ctx context.Context, list []*mutant, dir string) (program string, err error) {
	files, err := c.overlay(list, dir)
	if err != nil {
		return "", err
	}
	text, err := json.Marshal(map[string]any{"Replace": files})
	if err != nil {
		return "", err
	}
	overlayFile := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(overlayFile, text, 0o644); err != nil {
		return "", err
	}
	program = filepath.Join(dir, "mutants.test")
	out, err := exec.CommandContext(ctx, "go", "test", "-c", "-vet=off", "-overlay", overlayFile, "-o", program, "./"+filepath.ToSlash(c.Package)).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("compile the mutants: %w\n%s", err, out)
	}
	return program, nil
}

// overlay writes the files with all mutants in them into dir, and returns which file each replaces.
func (c *mutantsCmd) overlay(list []*mutant, dir string) (map[string]string, error) {
	files := map[string]string{}
	add := func(path, text string) error {
		replaced := filepath.Join(dir, fmt.Sprintf("%d-%s", len(files), filepath.Base(path)))
		files[path] = replaced
		return os.WriteFile(replaced, []byte(text), 0o644)
	}
	byFile := map[string][]*mutant{}
	for _, m := range list {
		path, err := filepath.Abs(filepath.Join(c.Package, m.file))
		if err != nil {
			return nil, err
		}
		byFile[path] = append(byFile[path], m)
	}
	for path, mutants := range byFile {
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		mutated, err := apply(string(text), mutants)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		if err := add(path, mutated); err != nil {
			return nil, err
		}
		folder := filepath.Dir(path)
		if choice := filepath.Join(folder, "mutant_switch.go"); files[choice] == "" {
			if err := add(choice, fmt.Sprintf(mutantSwitch, filepath.Base(folder))); err != nil {
				return nil, err
			}
		}
	}
	return files, nil
}

// apply puts the mutants of a file into it, each behind its condition. Of one text there may be several.
func apply(text string, mutants []*mutant) (string, error) {
	type place struct {
		from, to int
		text     string
	}
	var places []*place
	for _, m := range mutants {
		from := strings.Index(text, m.old)
		if n := strings.Count(text, m.old); n != 1 {
			return "", fmt.Errorf("mutant %s: expected its text once, found it %d times:\n%s", m.name, n, m.old)
		}
		i := slices.IndexFunc(places, func(p *place) bool { return p.from == from && p.to == from+len(m.old) })
		if i < 0 {
			i = len(places)
			places = append(places, &place{from, from + len(m.old), m.old})
		}
		p := places[i]
		if m.statement {
			p.text = fmt.Sprintf("if activeMutant == %q {\n%s\n} else {\n%s\n}", m.name, m.new, p.text)
		} else {
			p.text = fmt.Sprintf("mutant(%q, %s, %s)", m.name, p.text, m.new)
		}
	}
	slices.SortFunc(places, func(a, b *place) int { return b.from - a.from })
	for i, p := range places {
		if i > 0 && p.to > places[i-1].from {
			return "", fmt.Errorf("two mutants overlap, and are not of the same text: %q", p.text)
		}
		text = text[:p.from] + p.text + text[p.to:]
	}
	return text, nil
}

var failedTest = regexp.MustCompile(`(?m)^ *--- FAIL: (\S+)|^panic: (.*)`)

// begunTest is what a test says when it begins, or goes on.
var begunTest = regexp.MustCompile(`(?m)^=== (?:RUN|CONT|NAME) +(\S+)`)

// test runs the tests with a mutant, and returns the first that failed.
func (c *mutantsCmd) test(ctx context.Context, program, mutant string) (failed string, out []byte, err error) {
	return runMutant(ctx, program, c.Package, c.Tests, mutant)
}

// runMutant runs tests of a package with a mutant, and returns the first that failed.
func runMutant(ctx context.Context, program, dir, tests, mutant string) (failed string, out []byte, err error) {
	cmd := exec.CommandContext(ctx, program, "-test.run", tests, "-test.v", "-test.failfast", "-test.timeout", "5m", "-test.short")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "MUTANT="+mutant)
	out, err = cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return "", out, err
	}
	if err == nil {
		return "", out, nil
	}
	// Subtests come behind the test that they are of.
	var names []string
	for _, m := range failedTest.FindAllSubmatch(out, -1) {
		names = append(names, string(bytes.TrimSpace(append(m[1], m[2]...))))
	}
	if begun := begunTest.FindAllSubmatch(out, -1); len(names) == 0 && len(begun) > 0 {
		return string(begun[len(begun)-1][1]) + " ended the process", out, nil
	}
	if len(names) == 0 {
		return "", out, fmt.Errorf("the tests ended without a word: %w\n%s", exit, out)
	}
	return names[len(names)-1], out, nil
}

// Where the mutants of the protocol are, and the tests that see what the simulation does not: it has no one who sets back the
// group's positions, or loses them.
const (
	protocolList  = "dedup/testdata/protocol.txt"
	protocolTests = "^Test(PositionsThatDoNotFit|PositionsOfAnotherGenerationAreNotCommitted|PositionInOpenTransaction|CommitThatLooksAborted|" +
		"Zombie|PartitionThatCameBackIsOpenedAnew|Crashes|AbandonedTransaction|OneDeadLetterOfARecord|EpochWithinARecord|Epochs|SetBack|Cuts|Properties|" +
		"Standby.*|DiskLost|CrashesWithCheckpoints|StoreDown|Rescale|Park.*|Release.*)$"
)

// runProtocol simulates with each of the mutants until a seed fails, and runs the tests if none does.
func (c *mutantsCmd) runProtocol(ctx context.Context) error {
	text, err := os.ReadFile(protocolList)
	if err != nil {
		return err
	}
	list, err := parseMutants(string(text))
	if err != nil {
		return fmt.Errorf("%s: %w", protocolList, err)
	}
	dir, err := os.MkdirTemp("", "cassdelta-mutants-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	files, err := c.overlay(list, dir)
	if err != nil {
		return err
	}
	program := filepath.Join(dir, "protocol.test")
	if err := buildSimulation(ctx, dir, program, true, files); err != nil {
		return err
	}
	start := time.Now()
	tried, survived := 0, 0
	for _, m := range list {
		if len(c.Only) > 0 && !slices.Contains(c.Only, m.name) {
			continue
		}
		caught, err := c.simulateMutant(ctx, program, m.name)
		if err != nil {
			return err
		}
		if caught == "" {
			survived++
			caught = "SURVIVED"
		}
		tried++
		fmt.Printf("%-38s %-18s %s\n", m.name, filepath.Base(m.file), caught)
	}
	fmt.Printf("%d mutants, %d survived, %.0f s\n", tried, survived, time.Since(start).Seconds())
	if survived > 0 || tried == 0 {
		return fmt.Errorf("%d of %d mutants survived", survived, tried)
	}
	return nil
}

// simulateMutant returns what catches a mutant.
func (c *mutantsCmd) simulateMutant(ctx context.Context, program, name string) (string, error) {
	s := &simulations{program: program, exact: true, mutant: name}
	err := s.runAll(ctx, 1, c.Seeds, 1, false)
	var failure *simFailure
	if errors.As(err, &failure) {
		return fmt.Sprintf("seed %d: %s", failure.seed, failure.first()), nil
	}
	if err != nil {
		return "", err
	}
	failed, _, err := runMutant(ctx, program, c.Package, protocolTests, name)
	return failed, err
}
