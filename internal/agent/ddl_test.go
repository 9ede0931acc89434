package agent

import (
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"cassdelta/commitlog"
	"cassdelta/internal/rawtopic"
	"cassdelta/schema"
)

// systemTables are the tables of Cassandra's own in which an agent finds what happens to others.
func systemTables(t testing.TB) (tables, local *schema.Table) {
	t.Helper()
	parsed, err := schema.ParseCQL("system.cql", `
		CREATE TABLE system_schema.tables (keyspace_name text, table_name text, cdc boolean, id uuid, PRIMARY KEY (keyspace_name, table_name))
			WITH ID = afddfb9d-bc1e-3068-8056-eed6c302ba09;
		CREATE TABLE system.local (key text PRIMARY KEY, truncated_at map<uuid, blob>) WITH ID = 7ad54392-bcdd-35a6-8417-4e047860b377`)
	if err != nil {
		t.Fatal(err)
	}
	return parsed.Tables[0], parsed.Tables[1]
}

// systemUpdate begins the payload of a mutation of one partition of one table.
func systemUpdate(table *schema.Table, key string, columns ...string) []byte {
	b := append(appendUvint(nil, 1), table.ID[:]...)
	b = append(appendText(b, key), 0, 0, 0, 0)
	b = appendUvint(b, uint64(len(columns)))
	for _, c := range columns {
		b = appendText(b, c)
	}
	return b
}

const epoch = 1442880000 // seconds, of what a mutation's times are counted from

func delta(micros int64) uint64 { return uint64(micros - epoch*1_000_000) }

// createdTable is what CREATE and ALTER TABLE write to system_schema.tables: the row as a whole, and the deletion of what it
// was a microsecond before.
func createdTable(tables, t *schema.Table, at int64, cdc bool) []byte {
	b := systemUpdate(tables, t.Keyspace, "cdc", "id")
	b = append(b, 0x04|0x10|0x20, 0)
	b = appendUvint(appendText(b, t.Name), delta(at))
	b = appendUvint(appendUvint(b, delta(at-1)), 5)
	on := byte(0)
	if cdc {
		on = 1
	}
	b = append(b, 0x08, on, 0x08)
	return append(append(b, t.ID[:]...), 0x01)
}

// droppedTable is what DROP TABLE writes there.
func droppedTable(tables, t *schema.Table, at int64) []byte {
	b := systemUpdate(tables, t.Keyspace)
	b = append(b, 0x10|0x20, 0)
	b = appendUvint(appendText(b, t.Name), delta(at))
	return append(appendUvint(b, 5), 0x01)
}

// truncatedTable is what TRUNCATE writes to system.local.
func truncatedTable(local, t *schema.Table, effect commitlog.Position, at int64) []byte {
	b := systemUpdate(local, "local", "truncated_at")
	b = append(b, 0x20)
	b = appendUvint(b, 1)
	b = appendUvint(append(b, 0x00), delta(at))
	b = appendText(b, string(t.ID[:]))
	return append(appendText(b, string(truncationValue(effect, at))), 0x01)
}

func truncationValue(effect commitlog.Position, at int64) []byte {
	value := binary.BigEndian.AppendUint64(nil, uint64(effect.Segment))
	value = binary.BigEndian.AppendUint32(value, uint32(effect.Offset))
	return binary.BigEndian.AppendUint64(value, uint64(at/1000))
}

// story is what a partition of the raw topic tells, a line for each record behind the first.
func (r *rig) story(partition int32) (lines []string) {
	r.Helper()
	tables := map[schema.Hash]*schema.Table{}
	names := map[schema.UUID]string{}
	var decoder rawtopic.Decoder
	for _, kr := range r.kafka.records(rawTopic)[partition] {
		var rec rawtopic.Record
		if err := decoder.Decode(kr.Value, &rec); err != nil {
			r.Fatal(err)
		}
		switch rec.Kind {
		case rawtopic.KindInit:
		case rawtopic.KindSchema:
			table, err := schema.ParseDefinition(rec.Schema.Definition)
			if err != nil {
				r.Fatal(err)
			}
			tables[rec.Schema.Hash], names[table.ID] = table, fmt.Sprintf("%s/%d", table.Name, table.ID[15])
			line := "schema " + names[table.ID]
			if !table.CDC {
				line += " off"
			}
			if rec.Schema.Created {
				line += " created"
			}
			lines = append(lines, line)
		case rawtopic.KindData:
			lines = append(lines, fmt.Sprintf("%s %s", names[tables[rec.Data.Schema].ID], rec.Data.Rows[0].Cells[0].Value))
		case rawtopic.KindTruncate:
			lines = append(lines, fmt.Sprintf("truncate %d at %d", rec.Truncate.Table[15], rec.Truncate.Origin.Position.Offset))
		case rawtopic.KindDrop:
			lines = append(lines, fmt.Sprintf("drop %d", rec.Drop.Table[15]))
		default:
			r.Errorf("kind %d", rec.Kind)
		}
	}
	return lines
}

func (r *rig) checkStory(expected ...string) {
	r.Helper()
	for p := range int32(partitions) {
		want := slices.Clone(expected)
		if p != partitionOf("k") {
			want = slices.DeleteFunc(want, func(line string) bool { return strings.Contains(strings.Fields(line)[0], "/") })
		}
		if got := r.story(p); !slices.Equal(got, want) {
			r.Errorf("partition %d tells\n%s\nexpected\n%s", p, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
}

// bornAt makes a table with a timeuuid of a time.
func bornAt(t testing.TB, name string, number byte, at time.Time, edit ...func(*schema.Table)) *schema.Table {
	return newTable(t, "shop", name, number, append(edit, func(s *schema.Table) {
		ticks := uint64(at.UnixMicro()*10 + 122192928000000000)
		binary.BigEndian.PutUint32(s.ID[0:], uint32(ticks))
		binary.BigEndian.PutUint16(s.ID[4:], uint16(ticks>>32))
		binary.BigEndian.PutUint16(s.ID[6:], uint16(ticks>>48)&0x0fff|0x1000)
		if s.AlteredAt == 0 {
			s.AlteredAt = at.UnixMicro()
		}
	})...)
}

// TestRemovalsAtTheirPlace: truncations and drops come where the log has them, though the schema is ahead of it; what was
// written between the effect of a truncation and its record comes again behind it.
func TestRemovalsAtTheirPlace(t *testing.T) {
	tables, local := systemTables(t)
	now := time.Now()
	old := bornAt(t, "a", 1, now.Add(-time.Hour))
	again := bornAt(t, "a", 2, now.Add(-time.Minute))
	n := newNode(t, 4096)
	n.write(update{table: old, key: "k", value: "1"})
	effect := n.write(update{table: old, key: "k", value: "2"})
	n.write(update{table: old, key: "k", value: "3"})
	n.append(truncatedTable(local, old, effect, now.UnixMicro()))
	n.write(update{table: old, key: "k", value: "4"})
	effect2 := n.write(update{table: old, key: "k", value: "5"})
	n.append(truncatedTable(local, old, effect2, now.UnixMicro()))
	n.write(update{table: old, key: "k", value: "6"})
	n.append(droppedTable(tables, old, now.Add(-2*time.Minute).UnixMicro()))
	n.append(createdTable(tables, again, now.Add(-time.Minute).UnixMicro(), true))
	n.write(update{table: again, key: "k", value: "7"})
	n.finish()
	r := newRig(t, n, startKafka(t), old, tables, local)
	r.config.KeepSegments = true
	r.source.onRead = func(read int) {
		if read > 1 { // the first is that of the start; the log has not been read yet, and the schema is that of its end
			r.source.tables = []*schema.Table{again, tables, local}
		}
	}
	r.run()
	expected := []string{
		"schema a/1", "a/1 1", "a/1 2", "a/1 3", fmt.Sprintf("truncate 1 at %d", effect.Offset), "a/1 3", "a/1 4", "a/1 5",
		fmt.Sprintf("truncate 1 at %d", effect2.Offset), "a/1 6", "drop 1", "schema a/2", "a/2 7",
	}
	r.checkStory(expected...)

	// An agent that has lost its position reads all again, and knows the table that was dropped.
	if err := os.Remove(filepath.Join(r.config.StateDirectory, positionFile)); err != nil {
		t.Fatal(err)
	}
	r.kafka = startKafka(t)
	r.config.ClientOpts = r.kafka.opts
	r.run()
	// It was told that the table was dropped, and does not tell it once more; the newer table of the name says the same.
	r.checkStory(slices.DeleteFunc(expected, func(line string) bool { return line == "drop 1" })...)
}

// TestCreationIsCaptured: an agent says that it knows all of a table that was created in its time, until cdc is off, or
// something of the log is lost; not of one that was there before.
func TestCreationIsCaptured(t *testing.T) {
	tables, local := systemTables(t)
	now := time.Now()
	before, after := bornAt(t, "before", 1, now.Add(-time.Hour)), bornAt(t, "after", 2, now.Add(time.Second))
	off := bornAt(t, "after", 2, now.Add(time.Second), notCaptured, func(s *schema.Table) { s.AlteredAt = now.Add(time.Minute).UnixMicro() })
	on := bornAt(t, "after", 2, now.Add(time.Second), func(s *schema.Table) {
		s.AlteredAt, s.GCGraceSeconds = now.Add(2*time.Minute).UnixMicro(), 1
	})
	n := newNode(t, 4096)
	n.write(update{table: before, key: "k", value: "1"})
	n.append(createdTable(tables, after, now.Add(time.Second).UnixMicro(), true))
	n.write(update{table: after, key: "k", value: "2"})
	n.append(createdTable(tables, after, off.AlteredAt, false))
	n.append(createdTable(tables, after, on.AlteredAt, true))
	n.write(update{table: on, key: "k", value: "3"})
	n.finish()
	r := newRig(t, n, startKafka(t), before, tables, local)
	r.source.onRead = func(read int) {
		switch {
		case read == 3:
			r.source.tables = []*schema.Table{before, after, tables, local}
		case read > 3:
			r.source.tables = []*schema.Table{before, on, tables, local}
		}
	}
	r.run()
	r.checkStory("schema before/1", "before/1 1", "schema after/2 created", "after/2 2", "schema after/2 off", "schema after/2", "after/2 3")
}

// TestOffThatTheLogDoesNotShow: CQL shows that a table has cdc = false, and soon after that it has it again; neither is in a segment that
// Cassandra has handed over. Of what was written in between nothing is known, also if the agent starts again meanwhile.
func TestOffThatTheLogDoesNotShow(t *testing.T) {
	tables, local := systemTables(t)
	for _, restarted := range []bool{false, true} {
		t.Run(fmt.Sprint("restarted ", restarted), func(t *testing.T) {
			born := time.Now().Add(time.Second)
			altered := func(after time.Duration) func(*schema.Table) {
				return func(s *schema.Table) { s.AlteredAt = born.Add(after).UnixMicro() }
			}
			other, captured := bornAt(t, "other", 1, born.Add(-time.Hour)), bornAt(t, "captured", 2, born)
			off := bornAt(t, "captured", 2, born, notCaptured, altered(time.Second))
			on := bornAt(t, "captured", 2, born, altered(2*time.Second))
			n := newNode(t, 4096)
			n.append(createdTable(tables, captured, born.UnixMicro(), true))
			n.write(update{table: captured, key: "k", value: "1"})
			n.rotate()
			n.write(update{table: other, key: "k", value: "2"})
			if !restarted {
				n.rotate()
				n.write(update{table: on, key: "k", value: "3"})
			}
			n.finish()
			r := newRig(t, n, startKafka(t), other, tables, local)
			r.source.onRead = func(read int) {
				now := []*schema.Table{nil, captured, off, on}[min(read-1, 3)]
				if r.source.tables = []*schema.Table{other, tables, local}; now != nil {
					r.source.tables = append(r.source.tables, now)
				}
			}
			r.run()
			if restarted {
				n.open()
				n.write(update{table: on, key: "k", value: "3"})
				n.finish()
				r.run()
			}
			r.checkStory("schema captured/2 created", "captured/2 1", "schema other/1", "other/1 2", "schema captured/2", "captured/2 3")
		})
	}
}

// TestCapturedAfterCreation: of a table that was created without capture, and captured soon after, nobody has read what was written in
// between. The log shows that, or the time of the DDL does where the creation was in a segment that Cassandra did not hand over.
func TestCapturedAfterCreation(t *testing.T) {
	tables, local := systemTables(t)
	for _, c := range []struct {
		after time.Duration // the creation
		shown bool          // the creation is in the log
	}{{500 * time.Millisecond, true}, {20 * time.Second, true}, {20 * time.Second, false}} {
		t.Run(fmt.Sprint(c.after, " ", c.shown), func(t *testing.T) {
			born := time.Now().Add(2 * time.Minute)
			off := bornAt(t, "soon", 1, born, notCaptured)
			on := bornAt(t, "soon", 1, born, func(s *schema.Table) { s.AlteredAt = born.Add(c.after).UnixMicro() })
			n := newNode(t, 4096)
			if c.shown {
				n.append(createdTable(tables, off, born.UnixMicro(), false))
			}
			n.append(createdTable(tables, on, on.AlteredAt, true))
			n.write(update{table: on, key: "k", value: "1"})
			n.finish()
			r := newRig(t, n, startKafka(t), tables, local)
			r.source.onRead = func(read int) {
				if read > 2 {
					r.source.tables = []*schema.Table{on, tables, local}
				}
			}
			r.run()
			r.checkStory("schema soon/1", "soon/1 1")
		})
	}
}

// TestCreatedWithCompactStorage: what was written to a table while no events could be made of it is missing for good.
func TestCreatedWithCompactStorage(t *testing.T) {
	tables, local := systemTables(t)
	born := time.Now().Add(time.Second)
	compact := bornAt(t, "compact", 1, born, func(s *schema.Table) { s.Flags = nil })
	plain := bornAt(t, "compact", 1, born, func(s *schema.Table) { s.AlteredAt = born.Add(time.Minute).UnixMicro() })
	n := newNode(t, 4096)
	n.append(createdTable(tables, compact, born.UnixMicro(), true))
	n.write(update{table: compact, key: "k", value: "1"})
	n.append(createdTable(tables, plain, plain.AlteredAt, true))
	n.write(update{table: plain, key: "k", value: "2"})
	n.finish()
	r := newRig(t, n, startKafka(t), compact, tables, local)
	r.source.onRead = func(read int) {
		if read > 2 {
			r.source.tables = []*schema.Table{plain, tables, local}
		}
	}
	r.run()
	r.checkStory("schema compact/1", "compact/1 2")
}

// shown is a source that shows truncations, too.
type shown struct {
	*source
	truncated map[schema.UUID][]byte
}

func (s *shown) Truncated(context.Context, schema.UUID) (map[schema.UUID][]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.truncated, nil
}

// TestRemovalsThatTheLogDoesNotShow: Cassandra hands no segment over in which there is nothing of a captured table. What was
// in such a one is told when CQL has shown it and the log has not.
func TestRemovalsThatTheLogDoesNotShow(t *testing.T) {
	tables, local := systemTables(t)
	now := time.Now()
	emptied, gone, off := bornAt(t, "emptied", 1, now.Add(-time.Hour)), bornAt(t, "gone", 2, now.Add(-time.Hour)), bornAt(t, "off", 3, now.Add(-time.Hour))
	n := newNode(t, 4096)
	for _, table := range []*schema.Table{emptied, gone, off} {
		n.write(update{table: table, key: "k", value: "1"})
	}
	n.finish()
	r := newRig(t, n, startKafka(t), emptied, gone, off, tables, local)
	r.bounds.schema.slack = 20 * time.Millisecond
	r.bounds.schema.look = time.Millisecond
	source := &shown{source: r.source}
	r.config.Source = source
	stop := r.start()
	r.await("the raw topic", func() bool { return r.logged("reading") == 1 })
	r.await("the first updates", func() bool { return len(r.story(partitionOf("k"))) == 6 })

	// All of it is in a segment that the agent never sees, and then a segment that it does.
	hidden := n.id + 1
	n.id++
	source.mu.Lock()
	source.truncated = map[schema.UUID][]byte{emptied.ID: truncationValue(commitlog.Position{Segment: hidden, Offset: 100}, time.Now().UnixMicro())}
	source.mu.Unlock()
	n.open()
	n.write(update{table: emptied, key: "k", value: "2"})
	n.sync()
	r.await("the truncation, before what was written after it", func() bool {
		story := r.story(partitionOf("k"))
		return len(story) == 8 && story[6] == "truncate 1 at 100" && story[7] == "emptied/1 2"
	})
	source.mu.Lock()
	source.tables = []*schema.Table{emptied, bornAt(t, "off", 3, now.Add(-time.Hour), notCaptured, func(s *schema.Table) { s.AlteredAt = now.UnixMicro() }), tables, local}
	source.mu.Unlock()
	r.await("the drop, and that cdc is off", func() bool {
		story := r.story(partitionOf("k"))
		return slices.Contains(story, "drop 2") && slices.Contains(story, "schema off/3 off")
	})
	if err := stop(); err != nil {
		t.Fatal(err)
	}
}
