package schema

import (
	"os"
	"path/filepath"
	"testing"
)

func TestParseCQLReadsRecordedSchemas(t *testing.T) {
	files, err := filepath.Glob("../testdata/recordings/*/schema.cql")
	if err != nil || len(files) == 0 {
		t.Fatalf("no recorded schema: %v", err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		s, err := ParseCQL(file, string(text))
		if err != nil {
			t.Errorf("%v", err)
			continue
		}
		if err := s.MissingIDs(); err != nil || len(s.Tables) == 0 {
			t.Errorf("%s: %d tables, %v", file, len(s.Tables), err)
		}
	}
}
