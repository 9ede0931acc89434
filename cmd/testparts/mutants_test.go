package main

import (
	"os"
	"testing"
)

// TestMutantsFitTheCode: the text that each mutant replaces is in its file, once. Otherwise the lists are of no use the next time they are wanted.
func TestMutantsFitTheCode(t *testing.T) {
	t.Chdir("../..")
	for _, path := range []string{"dedup/testdata/mutants.txt", protocolList} {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		list, err := parseMutants(string(text))
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		c := mutantsCmd{Package: "dedup"}
		if _, err := c.overlay(list, t.TempDir()); err != nil {
			t.Errorf("%s: %v", path, err)
		}
	}
}
