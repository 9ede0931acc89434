package cassdelta_test

import (
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "cassdelta"

// layers says which packages of this module a package may import, beside its own subpackages. A package stands for
// its subpackages unless they have a line of their own. docs/architecture.md has the reasons.
var layers = map[string][]string{
	"schema":              {},
	"state":               {},
	"commitlog":           {"schema"},
	"internal/topic":      {},
	"internal/rawtopic":   {"internal/topic", "commitlog", "schema"},
	"dedup":               {"state", "internal/rawtopic", "internal/topic", "commitlog", "schema"},
	"bench/checkpoint":    {"state"},
	"bench":               {"commitlog", "schema"},
	"bench/dedup":         {"bench", "commitlog", "internal/rawtopic", "internal/sink", "internal/testparts", "schema"},
	"internal/config":     {},
	"internal/obs":        {},
	"internal/recording":  {},
	"internal/segment":    {"commitlog", "schema", "internal/obs"},
	"internal/agent":      {"internal/rawtopic", "commitlog", "schema", "internal/obs"},
	"internal/sink":       {"dedup", "internal/rawtopic", "internal/topic", "commitlog", "schema", "internal/obs"},
	"internal/tail":       {"internal/sink", "schema", "internal/obs"},
	"internal/group":      {"dedup", "internal/rawtopic", "schema"},
	"internal/local":      {"dedup", "internal/agent", "internal/sink", "internal/tail", "internal/rawtopic", "commitlog", "schema"},
	"internal/testparts":  {"internal/recording"},
	"internal/inspect":    {"dedup", "state", "internal/rawtopic", "commitlog", "schema"},
	"internal/reemit":     {"internal/inspect", "dedup", "state", "schema"},
	"internal/eventcheck": {"internal/foldmodel", "internal/rawtopic"},
	"internal/foldmodel":  {"internal/rawtopic", "commitlog", "schema"},
	"internal/differential": {
		"dedup", "state", "internal/agent", "internal/rawtopic", "commitlog", "internal/segment", "schema", "internal/testparts", "internal/recording",
		"internal/foldmodel",
	},
	"testdata/recordings": {},
	"cmd/testparts":       {"internal/testparts", "internal/recording", "internal/differential"},
	"cmd/cassdelta":       {"*"},
}

// testOnly may be imported by tests of any package.
var testOnly = []string{"bench", "internal/eventcheck", "internal/foldmodel", "internal/testparts", "internal/recording", "testdata/recordings"}

func TestImportsPointOneWay(t *testing.T) {
	checked := 0
	err := filepath.WalkDir(".", func(file string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if name := entry.Name(); entry.IsDir() && (name == "testdata" || len(name) > 1 && name[0] == '.') {
			return filepath.SkipDir
		}
		if entry.IsDir() || !strings.HasSuffix(file, ".go") {
			return nil
		}
		isTest := strings.HasSuffix(file, "_test.go")
		from := path.Dir(filepath.ToSlash(file))
		if isTest && (from == "." || from == "e2e" || strings.HasPrefix(from, "bench")) {
			return nil
		}
		layer := layerOf(from)
		if layer == "" {
			t.Errorf("%s: package %s has no line in the table of layers", file, from)
			return nil
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		for _, spec := range parsed.Imports {
			imported, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
			}
			to, ours := strings.CutPrefix(imported, module+"/")
			if !ours {
				continue
			}
			checked++
			if isTest && slices.Contains(testOnly, layerOf(to)) {
				continue
			}
			if !mayImport(layer, to) {
				t.Errorf("%s: %s must not import %s", file, from, to)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if checked == 0 {
		t.Fatal("no import within the module was found: the test looks in the wrong place")
	}
}

func mayImport(layer, to string) bool {
	target := layerOf(to)
	if target == layer {
		return true
	}
	allowed := layers[layer]
	return slices.Contains(allowed, target) || slices.Contains(allowed, "*") && !strings.HasPrefix(to, "cmd/")
}

// layerOf is the longest line of the table that the package falls under.
func layerOf(pkg string) string {
	for p := pkg; p != "."; p = path.Dir(p) {
		if _, ok := layers[p]; ok {
			return p
		}
	}
	return ""
}

func TestImportRuleRefuses(t *testing.T) {
	for _, bad := range [][2]string{
		{"schema", "commitlog"}, {"state", "schema"}, {"commitlog", "internal/rawtopic"},
		{"internal/rawtopic", "dedup"}, {"dedup", "internal/sink"}, {"internal/agent", "dedup"}, {"cmd/cassdelta", "cmd/testparts"},
	} {
		if mayImport(bad[0], bad[1]) {
			t.Errorf("%s may import %s", bad[0], bad[1])
		}
	}
}
