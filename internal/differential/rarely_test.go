package differential

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"hash/crc32"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"cassdelta/commitlog"
	"cassdelta/internal/recording"
	"cassdelta/internal/segment"
	"cassdelta/internal/testparts"
)

// header is that of a segment with these parameters.
func header(v commitlog.Version, id int64, parameters []byte) []byte {
	b := binary.BigEndian.AppendUint32(nil, uint32(v))
	b = binary.BigEndian.AppendUint64(b, uint64(id))
	b = binary.BigEndian.AppendUint16(b, uint16(len(parameters)))
	sum := binary.BigEndian.AppendUint32(nil, uint32(v))
	for _, word := range []uint32{uint32(id), uint32(id >> 32), uint32(len(parameters))} {
		sum = binary.BigEndian.AppendUint32(sum, word)
	}
	b = append(b, parameters...)
	return binary.BigEndian.AppendUint32(b, crc32.ChecksumIEEE(append(sum, parameters...)))
}

// TestVersion6 has both readers read segments of version 6, which Cassandra 3.11 writes and these versions read. They are
// recorded ones of version 7 with another header: the two differ in nothing else.
func TestVersion6(t *testing.T) {
	for _, c := range []struct{ name, part string }{{"types-4.0", "cassandra-4.1"}, {"forms-4.0", "cassandra-5.0"}} {
		t.Run(c.name, func(t *testing.T) {
			rec, err := testparts.OpenRecording(c.name)
			if err != nil {
				t.Fatal(err)
			}
			comparison, err := compareRecording(t, rec, recording.FinalMoment, c.part, func(dir string) error {
				paths, err := filepath.Glob(filepath.Join(dir, "CommitLog-7-*"))
				for _, path := range paths {
					if err == nil && strings.HasSuffix(path, ".log") {
						err = asVersion6(path)
					}
					if err == nil {
						err = os.Remove(path) // 3.11 has no index files
					}
				}
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("%d mutations, %d lines, %d differences", comparison.Mutations, comparison.Lines, comparison.Differences)
			report(t, comparison)
		})
	}
}

// asVersion6 writes a segment of version 7 as one of version 6, beside it.
func asVersion6(path string) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	d, err := commitlog.ParseDescriptor(path, b)
	if err != nil {
		return err
	}
	b = append(header(commitlog.Version30, d.ID, b[14:d.Length-4]), b[d.Length:]...)
	return os.WriteFile(filepath.Join(filepath.Dir(path), commitlog.SegmentName(commitlog.Version30, d.ID)), b, 0o644)
}

// TestShadowableDeletions has both readers read what views of Cassandra 3 wrote and no version since writes: row deletions that
// a newer liveness makes void. Cassandra's own classes build and serialize them.
func TestShadowableDeletions(t *testing.T) {
	const table = "CREATE TABLE shadows.t (p int, c int, v int, PRIMARY KEY (p, c)) WITH ID = 5a1c395e-b41f-11e5-9f22-ba0be0483c18"
	dir := keptDir(t)
	s := segments{dir: filepath.Join(dir, "cdc_raw"), schema: filepath.Join(dir, "schema.cql"), keyspace: "shadows", config: filepath.Join(dir, "cassandra.yaml")}
	if err := os.Mkdir(s.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	keyspace := "CREATE KEYSPACE shadows WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 1};\n"
	tableFile := filepath.Join(dir, "table.cql")
	for file, text := range map[string]string{s.schema: keyspace + table + ";\n", tableFile: table} {
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := writeToolConfig(s.config, dir, nil); err != nil {
		t.Fatal(err)
	}
	const part = "cassandra-5.0"
	program, err := testparts.CompileJava(t.Context(), part, os.DirFS("shadowable"))
	if err != nil {
		t.Fatal(err)
	}
	cmd := program.Command(t.Context(), "ShadowableDeletion", []string{"cassandra.config=file://" + s.config}, tableFile)
	var complaints bytes.Buffer
	cmd.Stderr = &complaints
	printed, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, complaints.Bytes())
	}
	const id = 1795414250152
	b := header(commitlog.Version40, id, []byte("{}"))
	marker := len(b)
	b = append(b, make([]byte, 8)...)
	mutations := 0
	for line := range strings.Lines(string(printed)) {
		payload, err := hex.DecodeString(strings.TrimSpace(line))
		if err != nil {
			continue // a line of a log
		}
		mutations++
		size := binary.BigEndian.AppendUint32(nil, uint32(len(payload)))
		b = append(b, size...)
		b = binary.BigEndian.AppendUint32(b, crc32.ChecksumIEEE(size))
		b = append(b, payload...)
		b = binary.BigEndian.AppendUint32(b, crc32.ChecksumIEEE(append(size, payload...)))
	}
	var sum []byte
	for _, word := range []uint32{uint32(id & 0xffffffff), uint32(id >> 32), uint32(marker)} {
		sum = binary.BigEndian.AppendUint32(sum, word)
	}
	binary.BigEndian.PutUint32(b[marker:], uint32(len(b)))
	binary.BigEndian.PutUint32(b[marker+4:], crc32.ChecksumIEEE(sum))
	if err := os.WriteFile(filepath.Join(s.dir, commitlog.SegmentName(commitlog.Version40, id)), append(b, make([]byte, 8)...), 0o644); err != nil {
		t.Fatal(err)
	}
	comparison, err := compareReaders(t.Context(), part, s)
	if err != nil {
		t.Fatal(err)
	}
	report(t, comparison)
	if comparison.Mutations != mutations || comparison.Shadowable != 3 || mutations != 4 {
		t.Errorf("of %d mutations %d are read, %d with a shadowable deletion; expected 4, 4 and 3", mutations, comparison.Mutations, comparison.Shadowable)
	}
	var out bytes.Buffer
	if err := segment.Dump(t.Context(), segment.Options{Paths: []string{s.dir}, Schema: s.schema, JSON: true, Out: &out, Notes: &out}); err != nil {
		t.Fatal(err)
	}
	const deletion = `{"ck":["00000001"],"del":{"ts":100,"ldt":1700000000,"shadowable":1},"cells":`
	for _, want := range []string{deletion + "[]}", deletion + `[{"c":"v","ts":101,"v":"00000007"}]}`, `{"ck":["00000001"],"live":{"ts":101},"cells"`} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("expected %s in\n%s", want, out.String())
		}
	}
}
