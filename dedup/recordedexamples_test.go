package dedup

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"cassdelta/internal/rawtopic"
	"cassdelta/internal/testparts"
	"cassdelta/internal/testparts/recorder"
	"cassdelta/schema"
)

// TestRecordedExamples shows, in testdata/recorded/*.txt, what statements of CQL lead to. They ran on a real node, whose
// log is in the recording examples-5.0; what it wrote for a statement is folded, and the events stand indented below it.
//
// With -update they are written into the files. After a change of a statement the recording has to be made again, by
// "go run ./cmd/testparts record examples-5.0".
func TestRecordedExamples(t *testing.T) {
	rec, err := testparts.OpenRecording("examples-5.0")
	if err != nil {
		t.Fatal(err)
	}
	text, err := rec.Schema()
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := schema.ParseCQL("schema.cql", text)
	if err != nil {
		t.Fatal(err)
	}
	workload, err := rec.Workload()
	if err != nil {
		t.Fatal(err)
	}
	updates := recordedUpdates(t, rec, rec.Nodes[0], parsed.Catalog())
	written := markedUpdates(t, parsed, updates)
	files, err := filepath.Glob("testdata/recorded/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no examples: %v", err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".txt")
		t.Run(name, func(t *testing.T) {
			content, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			steps, err := recorder.ParseExample(string(content))
			if err != nil {
				t.Fatal(err)
			}
			events := map[int][]string{} // by the line that they stand below
			h := newHarness(t)
			h.apply(initRecord())
			for _, table := range parsed.Tables {
				h.apply(schemaRecord(table))
			}
			last := int64(0) // when the last statement was run
			for i, s := range steps {
				switch {
				case s.CQL == "":
					h.apply(tickRecord(last/microseconds + s.Tick))
				case !strings.Contains(workload, s.CQL+";\n"):
					t.Fatalf("%s:%d: the recording does not have this statement: make it again, by 'go run ./cmd/testparts record examples-5.0'", file, s.Line)
				case s.Writes():
					w := written[mark{name, i}]
					if w == nil {
						t.Fatalf("%s:%d: the recording has no mark of this statement: make it again, by 'go run ./cmd/testparts record examples-5.0'", file, s.Line)
					}
					for _, rec := range w.records {
						h.apply(rec)
					}
					last = w.at
				}
				events[s.LastLine] = h.take()
			}
			var out strings.Builder
			for i, line := range strings.SplitAfter(string(content), "\n") {
				if !strings.HasPrefix(line, " ") {
					out.WriteString(line)
				}
				for _, e := range events[i+1] {
					fmt.Fprintf(&out, "    %s\n", e)
				}
			}
			compareExample(t, file, out.String(), string(content))
		})
	}
}

// mark names a statement.
type mark struct {
	file string
	step int
}

// marked is what a statement wrote, and when it was run, in microseconds.
type marked struct {
	records []*rawtopic.Record
	at      int64
}

// markedUpdates finds what each statement wrote: what stands in the log before its mark, and behind the one before.
func markedUpdates(t *testing.T, parsed *schema.CQLSchema, updates [][]byte) map[mark]*marked {
	t.Helper()
	var marks *schema.Table
	for _, table := range parsed.Tables {
		if table.Name == "marks" {
			marks = table
		}
	}
	written := map[mark]*marked{}
	next := &marked{}
	for _, u := range updates {
		var rec rawtopic.Record
		var decoder rawtopic.Decoder
		if err := decoder.Decode(u, &rec); err != nil {
			t.Fatal(err)
		}
		if rec.Data.Schema != marks.Hash() {
			next.records = append(next.records, &rec)
			continue
		}
		row := &rec.Data.Rows[0]
		step := row.Clustering[0]
		next.at = row.Liveness.Timestamp
		written[mark{string(rec.Data.Key), int(step[2])<<8 | int(step[3])}] = next
		next = &marked{}
	}
	return written
}
