package dedup

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/zap"

	"cassdelta/internal/rawtopic"
	"cassdelta/state"
)

func (w *rig) recovery(files vfs.FS) RecoverConfig {
	c := RecoverConfig{
		ClientOpts: w.opts, RawTopic: w.topic, Group: groupName, CleanTopics: []string{cleanName, "not-there"}, DeadLetterTopic: letterName,
		Log: zap.NewNop(),
	}
	if files != nil {
		c.StateDirectories, c.files = []string{stateDirectory}, files
	}
	return c
}

// TestOffsetsAndDiskLost: events that are there are not written again unless that is told.
func TestOffsetsAndDiskLost(t *testing.T) {
	w := newRig(t)
	w.write(0, 5)
	if err := w.start("a", vfs.NewCrashableMem()).settledEnd(); err != nil {
		t.Fatal(err)
	}
	if _, err := w.adm.DeleteGroup(w.ctx, groupName); err != nil {
		t.Fatal(err)
	}
	w.write(0, 2)
	disk := vfs.NewCrashableMem()
	if err := w.start("b", disk).wait(); err == nil || !strings.Contains(err.Error(), "the topic "+cleanName+" has events") {
		t.Fatalf("error %v, expected that it refuses to begin at the start", err)
	}
	if _, err := RecoverOffsets(w.ctx, w.recovery(nil)); err != nil {
		t.Fatal(err)
	}
	if err := w.start("b", disk).settledEnd(); err != nil {
		t.Fatal(err)
	}
	w.finished()
}

// Events of transactions that were aborted are none: the first worker of a group may die within its first transaction.
func TestFirstTransactionAborted(t *testing.T) {
	w := newRig(t)
	w.write(0, 50)
	e := &ending{stage: beforeEnd, after: 1, crash: true, disk: func() *vfs.MemFS { return vfs.NewCrashableMem() }}
	if err := w.startEnding("a", vfs.NewCrashableMem(), e).wait(); !isCrash(err) {
		t.Fatal(err)
	}
	if err := w.start("b", vfs.NewCrashableMem()).settledEnd(); err != nil {
		t.Fatal(err)
	}
	w.finished()
}

// TestRecoverOffsets deletes the group of a worker that died within a record of many transactions, and recovers its positions: with the
// state at hand, and without.
func TestRecoverOffsets(t *testing.T) {
	for name, kept := range map[string]bool{"with the state": true, "without": false} {
		t.Run(name, func(t *testing.T) {
			w := newRig(t)
			w.write(0, 2, 3000, 5)
			w.write(1, 7, 0, 0)
			w.write(2, 0, 0, -1, 0)
			disk := vfs.NewCrashableMem()
			crash := &ending{stage: afterEnd, after: 8, crash: true, disk: crashClone(disk, 100, rand.New(rand.NewPCG(1, 0)))}
			if err := w.start("a", disk, crash.arm(w)).wait(); !isCrash(err) {
				t.Fatalf("error %v, expected a crash", err)
			}
			disk = crash.copy
			before, err := w.positions()
			if err != nil {
				t.Fatal(err)
			}
			if c := before[0]; c.Offset != 2 || c.Done == 0 {
				t.Fatalf("the group is at %v, expected to be within the record at offset 2", c)
			}
			if _, err := RecoverOffsets(w.ctx, w.recovery(disk)); err == nil || !strings.Contains(err.Error(), "stop all workers") {
				t.Errorf("while a member is not missed: error %v", err)
			}
			if _, err := w.adm.LeaveGroup(w.ctx, kadm.LeaveGroup(groupName).InstanceIDs(sessionOf("a"))); err != nil {
				t.Fatal(err)
			}
			if _, err := w.adm.DeleteGroups(w.ctx, groupName); err != nil {
				t.Fatal(err)
			}
			files := vfs.FS(nil)
			if kept {
				files = disk
			} else {
				disk = vfs.NewCrashableMem()
			}
			found, err := RecoverOffsets(w.ctx, w.recovery(files))
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range found {
				t.Logf("partition %d: %v, from %s", r.Partition, r.Position, r.From)
			}
			after, err := w.positions()
			if err != nil {
				t.Fatal(err)
			}
			if len(after) != rawParts || after[0].Position != before[0].Position {
				t.Errorf("the group was at %v, and is at %v", before, after)
			}
			if found, err := RecoverOffsets(w.ctx, w.recovery(files)); err != nil || len(found) > 0 {
				t.Errorf("nothing is lost any more, and %v are found, error %v", found, err)
			}
			r := w.start("a", disk)
			w.settle()
			if err := r.end(); err != nil {
				t.Fatal(err)
			}
			w.finished()
			letters, err := readToEnd(w.ctx, w.writer, w.opts, letterName)
			if err != nil || len(letters) != 1 {
				t.Errorf("%d dead letters, expected one, error %v", len(letters), err)
			}
		})
	}
}

// TestRecoverOffsetsOfTwoDisks has the state of half of the partitions in one directory, and that of the others in another, each behind records
// that made no event.
func TestRecoverOffsetsOfTwoDisks(t *testing.T) {
	w := newRig(t)
	for p := range int32(rawParts) {
		w.write(p, 3, 0, 0)
	}
	disk := vfs.NewMem()
	before := w.foldAll(disk)
	if _, err := w.adm.DeleteGroups(w.ctx, groupName); err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{"1", "3"} {
		if err := disk.MkdirAll("other/"+rawName, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := disk.Rename(disk.PathJoin(stateDirectory, rawName, p), disk.PathJoin("other", rawName, p)); err != nil {
			t.Fatal(err)
		}
	}
	c := w.recovery(disk)
	c.StateDirectories = append(c.StateDirectories, "other")
	found, err := RecoverOffsets(w.ctx, c)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range found {
		in := stateDirectory
		if r.Partition%2 == 1 {
			in = "other"
		}
		if r.Position != before[r.Partition].Position || r.From != "the state in "+in {
			t.Errorf("partition %d is at %v, from %s, expected %v from the state in %s", r.Partition, r.Position, r.From, before[r.Partition].Position, in)
		}
	}
}

// TestRecoverOffsetsOfCheckpoints has lost the positions and the disk, and the first raw records are gone. The checkpoints are behind records that made no
// event, so they tell more than the events, and are of use only if they are asked.
func TestRecoverOffsetsOfCheckpoints(t *testing.T) {
	w := newRig(t)
	store := objectStore(t)
	w.write(0, 3, 0, 0)
	w.write(1, 0, 0)
	w.write(2, 150, 2)
	w.write(3, 0)
	r := w.started(store, atEnd)
	if err := r.settledEnd(); err != nil {
		t.Fatal(err)
	}
	before, err := w.positions()
	if err != nil {
		t.Fatal(err)
	}
	for p := range int32(rawParts) {
		w.cutTopic(rawName, p, 1)
	}
	if _, err := w.adm.DeleteGroups(w.ctx, groupName); err != nil {
		t.Fatal(err)
	}
	w.writeAll(2)
	c := w.recovery(nil)
	c.Checkpoints = r.checkpoints.repo
	if _, err := RecoverOffsets(w.ctx, c); err != nil {
		t.Fatal(err)
	}
	after, err := w.positions()
	if err != nil {
		t.Fatal(err)
	}
	for p, c := range before {
		if after[p].Position != c.Position {
			t.Errorf("partition %d was at %v, and is at %v", p, c, after[p])
		}
	}
	r = w.started(store, atEnd)
	if err := r.settledEnd(); err != nil {
		t.Fatal(err)
	}
	w.finished()
}

// TestRecoverOffsetsAndStateAhead recovers positions while nobody knows of a disk, whose state is behind records that made no event. It is replaced when its worker
// starts: by a checkpoint that is not.
func TestRecoverOffsetsAndStateAhead(t *testing.T) {
	w := newRig(t)
	store := objectStore(t)
	disk := vfs.NewCrashableMem()
	w.writeAll(3)
	if err := w.start("a", disk, withCheckpoints(store, atEnd)).settledEnd(); err != nil {
		t.Fatal(err)
	}
	w.writeAll(3, 0, 0)
	if err := w.start("a", disk, withCheckpoints(store, atEnd)).settledEnd(); err != nil {
		t.Fatal(err)
	}
	if _, err := w.adm.DeleteGroups(w.ctx, groupName); err != nil {
		t.Fatal(err)
	}
	if _, err := RecoverOffsets(w.ctx, w.recovery(nil)); err != nil {
		t.Fatal(err)
	}
	w.writeAll(2)
	if err := w.start("a", disk, withCheckpoints(store, atEnd)).settledEnd(); err != nil {
		t.Fatal(err)
	}
	w.finished()
}

// TestRecoverOffsetsRefuses has events whose records are gone, and a partition of which none is left to tell.
func TestRecoverOffsetsRefuses(t *testing.T) {
	w := newRig(t)
	w.write(0, 3)
	w.write(1, 3)
	r := w.start("a", vfs.NewCrashableMem())
	w.settle()
	if err := r.end(); err != nil {
		t.Fatal(err)
	}
	if _, err := w.adm.DeleteGroups(w.ctx, groupName); err != nil {
		t.Fatal(err)
	}
	w.cutTopic(cleanName, 1, -1) // that of raw partitions 1 and 3
	_, err := RecoverOffsets(w.ctx, w.recovery(nil))
	if err == nil || !strings.Contains(err.Error(), "nothing tells where the group was") {
		t.Errorf("error %v", err)
	}
	if group, err := w.positions(); err == nil && len(group) > 0 {
		t.Errorf("the group is at %v, error %v", group, err)
	}
}

// TestRecoverOffsetsOfCutTopic has a topic that keeps its records for less long than another: the last event that is left may not be the last that was.
func TestRecoverOffsetsOfCutTopic(t *testing.T) {
	const short = "short"
	w := newRig(t)
	if _, err := w.adm.CreateTopics(w.ctx, cleanParts, 1, map[string]*string{"retention.ms": kadm.StringPtr("3600000")}, short); err != nil {
		t.Fatal(err)
	}
	behind, disk := vfs.NewMem(), vfs.NewMem()
	w.writeAll(3)
	if err := w.start("b", behind).settledEnd(); err != nil {
		t.Fatal(err)
	}
	w.writeAll(4)
	if err := w.start("a", disk).settledEnd(); err != nil {
		t.Fatal(err)
	}
	if _, err := w.adm.DeleteGroups(w.ctx, groupName); err != nil {
		t.Fatal(err)
	}
	event := func(partition, offset int, at time.Time) {
		t.Helper()
		rec := &kgo.Record{Topic: short, Partition: int32(partition % cleanParts), Timestamp: at}
		for key, value := range map[string]int{HeaderRawPartition: partition, HeaderRawOffset: offset, HeaderIndex: 0} {
			rec.Headers = append(rec.Headers, kgo.RecordHeader{Key: key, Value: fmt.Append(nil, value)})
		}
		if err := w.writer.ProduceSync(w.ctx, rec).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	recover := func(files vfs.FS) error {
		c := w.recovery(files)
		c.CleanTopics = append(c.CleanTopics, short)
		if _, err := RecoverOffsets(w.ctx, c); err != nil {
			return err
		}
		_, err := w.adm.DeleteGroups(w.ctx, groupName)
		return err
	}
	now := time.Now()
	event(0, 9, now.Add(time.Hour)) // by another clock; it is to be later than those of the worker
	event(2, 1, now.Add(2*time.Hour))
	w.cutTopic(short, 0, 1)
	if err := recover(nil); err == nil || !strings.Contains(err.Error(), "first records of topic "+short+" are gone") {
		t.Errorf("a later record is left: error %v", err)
	}
	if err := recover(behind); err == nil || !strings.Contains(err.Error(), "first records of topic "+short+" are gone") {
		t.Errorf("with a state that is behind the last event, and tells nothing of later ones: error %v", err)
	}
	if err := recover(disk); err != nil {
		t.Errorf("with the state: %v", err)
	}
	w.cutTopic(short, 0, -1)
	if err := recover(nil); err != nil {
		t.Errorf("what is gone is older than the topic keeps it, and the last event is not: %v", err)
	}
	if _, err := w.adm.AlterTopicConfigs(w.ctx, []kadm.AlterConfig{{Name: "retention.ms", Value: kadm.StringPtr("1")}}, short); err != nil {
		t.Fatal(err)
	}
	if err := recover(nil); err == nil || !strings.Contains(err.Error(), "first records of topic "+short+" are gone") {
		t.Errorf("nothing is left: error %v", err)
	}
	event(2, 2, now.Add(-time.Hour))
	if err := recover(nil); err != nil {
		t.Errorf("what is gone is older than the last event: %v", err)
	}
}

// TestRecoverOffsetsBeforeTheLog has a partition whose last event is of a record that the raw topic does not keep any more. Nobody could go on from there, and
// a position that is given to the group is not looked for again: so the state has to tell.
func TestRecoverOffsetsBeforeTheLog(t *testing.T) {
	w := newRig(t)
	w.write(0, 3, 0, 0, 0)
	w.write(1, 2)
	disk := vfs.NewMem()
	before := w.foldAll(disk)
	w.cut(0, before[0].Offset-1)
	if _, err := w.adm.DeleteGroups(w.ctx, groupName); err != nil {
		t.Fatal(err)
	}
	if _, err := RecoverOffsets(w.ctx, w.recovery(nil)); err == nil || !strings.Contains(err.Error(), "give the state directory that has the partition, or the checkpoint-store") {
		t.Errorf("the records after the last event are gone: error %v", err)
	}
	if _, err := RecoverOffsets(w.ctx, w.recovery(disk)); err != nil {
		t.Fatal(err)
	}
	after, err := w.positions()
	if err != nil {
		t.Fatal(err)
	}
	if after[0].Position != before[0].Position {
		t.Errorf("partition 0 was at %v, and is at %v", before[0], after[0])
	}
	if err := w.start("a", disk).settledEnd(); err != nil {
		t.Fatal(err)
	}
	w.finished()
}

// TestRecoverOffsetsOfOneGroup has a dead letter of another group, which is further, in the topic that both write to unless told otherwise.
func TestRecoverOffsetsOfOneGroup(t *testing.T) {
	w := newRig(t)
	w.write(0, 3)
	if err := w.start("a", vfs.NewCrashableMem()).settledEnd(); err != nil {
		t.Fatal(err)
	}
	before, err := w.positions()
	if err != nil {
		t.Fatal(err)
	}
	w.write(0, 2, -1)
	var letter kgo.Record
	deadLetter(&letter, letterName, "another", &kgo.Record{Topic: rawName, Offset: before[0].Offset + 1}, -1, errors.New("the other group could not fold it"))
	if err := w.writer.ProduceSync(w.ctx, &letter).FirstErr(); err != nil {
		t.Fatal(err)
	}
	if _, err := w.adm.DeleteGroups(w.ctx, groupName); err != nil {
		t.Fatal(err)
	}
	if _, err := RecoverOffsets(w.ctx, w.recovery(nil)); err != nil {
		t.Fatal(err)
	}
	after, err := w.positions()
	if err != nil || after[0].Compare(before[0].Position) > 0 {
		t.Errorf("the group was at %v, and is at %v (%v): the events between are written by nobody", before[0], after[0], err)
	}
}

// TestLettersOfParkedEvents holds that a dead letter is the end of a parked event if it is of that event, and not of another one of its record.
func TestLettersOfParkedEvents(t *testing.T) {
	const table = "ks.other"
	raw := &kgo.Record{Topic: rawName, Partition: 1, Offset: 5}
	for _, test := range []struct {
		parked, letter int64 // indices
		left           bool
	}{{0, -1, true}, {0, 0, false}, {1, 0, true}, {1, 1, false}, {1, -1, true}} {
		r := recovery{
			cfg: RecoverConfig{Group: groupName, RawTopic: RawTopic{Name: rawName, Partitions: rawParts}}, places: map[int32]lastPlace{}, parked: map[parkedTable]state.Position{},
		}
		parkedEvent := &kgo.Record{Topic: rawtopic.ParkedTopic(rawName), Key: []byte(table)}
		for key, value := range map[string]any{HeaderGroup: groupName, HeaderRawPartition: 1, HeaderRawOffset: 5, HeaderIndex: test.parked} {
			parkedEvent.Headers = append(parkedEvent.Headers, kgo.RecordHeader{Key: key, Value: fmt.Append(nil, value)})
		}
		var letter kgo.Record
		deadLetter(&letter, letterName, groupName, raw, test.letter, errors.New("too odd"))
		for _, rec := range []*kgo.Record{parkedEvent, &letter} {
			if err := r.take(rec); err != nil {
				t.Fatal(err)
			}
		}
		if _, left := r.parked[parkedTable{1, table}]; left != test.left {
			t.Errorf("event %d is parked, and there is a dead letter of %d: parked still %v, expected %v", test.parked, test.letter, left, test.left)
		}
	}
}

// BenchmarkRecoverTake reads an event where the first records of many topics are gone, as is usual: each of all events is read.
func BenchmarkRecoverTake(b *testing.B) {
	for _, topics := range []int{0, 100} {
		b.Run(fmt.Sprintf("%d topics", topics), func(b *testing.B) {
			r := &recovery{places: map[int32]lastPlace{}, parked: map[parkedTable]state.Position{}}
			r.cfg.RawTopic.Partitions = 32
			for n := range topics {
				var cuts []*cutPartition
				left := map[int32]int64{}
				for p := range int32(32) {
					cuts, left[p] = append(cuts, &cutPartition{topic: fmt.Sprintf("cassdelta.shop.t%03d", n), partition: p, of: 32}), 1
				}
				r.noteCuts(b.Context(), cuts, left)
			}
			rec := &kgo.Record{Topic: "cassdelta.shop.t099", Timestamp: time.Now()}
			for _, name := range []string{HeaderRawPartition, HeaderRawOffset, HeaderIndex} {
				rec.Headers = append(rec.Headers, kgo.RecordHeader{Key: name, Value: []byte("3")})
			}
			for b.Loop() {
				if err := r.take(rec); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// foldAll has a worker fold what there is, and returns the group's positions.
func (w *rig) foldAll(disk vfs.FS) map[int32]committed {
	w.t.Helper()
	if err := w.start("a", disk).settledEnd(); err != nil {
		w.t.Fatal(err)
	}
	at, err := w.positions()
	if err != nil {
		w.t.Fatal(err)
	}
	return at
}
