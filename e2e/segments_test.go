package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// unread lists what in a cdc_raw directory an agent still has to read or to remove: finished segments, and index files
// that have no segment any more. If drained is set the node has ended writing, and a segment with an index that does not
// say that it is finished is listed too.
//
// Segments without an index are the node's own: nothing of a cdc table is in them.
func unread(dir string, drained bool) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	files := map[string]bool{}
	for _, e := range entries {
		files[e.Name()] = true
	}
	var list []string
	for name := range files {
		segment, isIndex := strings.CutSuffix(name, "_cdc.idx")
		if !isIndex {
			continue
		}
		content, err := os.ReadFile(filepath.Join(dir, name))
		if os.IsNotExist(err) {
			continue // it was removed just now
		}
		if err != nil {
			return nil, err
		}
		switch finished := strings.HasSuffix(string(content), "\nCOMPLETED"); {
		case finished:
			list = append(list, name+" is COMPLETED")
		case !files[segment+".log"]:
			list = append(list, name+" has no segment")
		case drained:
			list = append(list, fmt.Sprintf("%s is %q though the node is drained", name, content))
		}
	}
	return list, nil
}

func TestUnread(t *testing.T) {
	dir := t.TempDir()
	write := func(name, content string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	check := func(drained bool, want int) {
		t.Helper()
		if list, err := unread(dir, drained); err != nil || len(list) != want {
			t.Errorf("%q, %v; expected %d", list, err, want)
		}
	}
	write("CommitLog-7-1.log", "")
	check(true, 0)
	write("CommitLog-7-1_cdc.idx", "100")
	check(false, 0)
	check(true, 1)
	write("CommitLog-7-1_cdc.idx", "100\nCOMPLETED")
	check(false, 1)
	write("CommitLog-7-2_cdc.idx", "100")
	check(false, 2)
}
