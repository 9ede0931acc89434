package dedup

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"cassdelta/internal/eventcheck"
	"cassdelta/internal/foldmodel"
	"cassdelta/internal/rawtopic"
	"cassdelta/schema"
	"cassdelta/state"
)

// check holds what is in the topics and on the disks to the log.
func (s *simulation) check(result *simResult) {
	partitions := make([]eventcheck.Partition, s.partitions)
	undefined := schema.Hash{9}
	for i := range partitions {
		partitions[i] = eventcheck.Partition{Number: int32(i), Unchained: s.input.world.unchained()}
	}
	for _, r := range s.raw {
		rec := eventcheck.Record{Offset: r.Offset, Refused: true}
		if s.nevers {
			rec.Never = func(index int64) bool { return s.never(r.Partition, r.Offset, index) }
		}
		var decoded rawtopic.Record
		if err := new(rawtopic.Decoder).Decode(r.Value, &decoded); err == nil {
			rec.Record = &decoded
			rec.Refused = decoded.Kind == rawtopic.KindData && decoded.Data.Schema == undefined
		}
		partitions[r.Partition].Log = append(partitions[r.Partition].Log, rec)
		result.records++
	}
	for _, topic := range s.cleanTopics() {
		for _, r := range s.read(topic) {
			e, err := eventcheck.Decode(r.Value)
			if err != nil {
				s.fail("%v", err)
				return
			}
			partitions[e.Partition].Events = append(partitions[e.Partition].Events, e)
			result.events++
		}
	}
	if s.parking != nil {
		s.merge(partitions)
		result.parked = s.countParked()
	}
	for _, r := range s.read(letterName) {
		var partition, offset int64
		ofEvent := false
		for _, h := range r.Headers {
			switch h.Key {
			case HeaderRawPartition:
				partition, _ = strconv.ParseInt(string(h.Value), 10, 32)
			case HeaderRawOffset:
				offset, _ = strconv.ParseInt(string(h.Value), 10, 64)
			case HeaderError:
				ofEvent = strings.HasPrefix(string(h.Value), "event ")
			}
		}
		if s.parking != nil && ofEvent && slices.Contains(partitions[partition].Letters, offset) {
			continue // one of the fold, and one of a release
		}
		partitions[partition].Letters = append(partitions[partition].Letters, offset)
		result.letters++
	}
	for i := range partitions {
		p := &partitions[i]
		faults, model := p.Check()
		for _, f := range faults {
			s.fail("%s", f)
		}
		s.checkSequence(p, model)
	}
}

// checkSequence holds the events, one by one, and the states to what the fold makes of the log in one go.
func (s *simulation) checkSequence(p *eventcheck.Partition, model *foldmodel.Model) {
	h := newHarnessOf(s.t, p.Number, s.partitions)
	defer h.store.Close()
	expected := simFold(s.t, h, p.Log)
	found := p.Events
	for _, e := range expected {
		if s.never(e.Partition, e.Offset, e.Index) {
			continue
		}
		if len(found) == 0 || found[0].Text() != e.Text() {
			s.fail("partition %d: in one go comes event\n  %s\nfound are\n  %v", p.Number, e.Text(), textOf(found))
			return
		}
		found = found[1:]
	}
	if len(found) > 0 {
		s.fail("partition %d: in one go nothing comes after\n  %s", p.Number, textOf(found))
	}
	rows := map[string]string{}
	for _, row := range model.Rows() {
		rows[row.Name()] = row.Image.String()
	}
	s.checkStates(p, h, rows)
}

func textOf(events []*eventcheck.Event) string {
	if len(events) == 0 {
		return "none"
	}
	return events[0].Text()
}

// ended waits until no transaction is open. One of a worker that is dead may have begun a moment ago, by a request that came
// late; the brokers abort it after the time that the worker said.
func (s *simulation) ended() {
	adm := kadm.NewClient(s.client)
	for waited := time.Duration(0); ; waited += time.Second {
		open := ""
		written := append(s.cleanTopics(), letterName)
		ends, err := adm.ListEndOffsets(s.ctx, written...)
		var stable kadm.ListedOffsets
		if err == nil {
			stable, err = adm.ListCommittedOffsets(s.ctx, written...)
		}
		if err != nil {
			s.fail("%v", err)
			return
		}
		ends.Each(func(end kadm.ListedOffset) {
			if last, _ := stable.Lookup(end.Topic, end.Partition); last.Offset != end.Offset {
				open = fmt.Sprintf("topic %s, partition %d: a transaction is open at offset %d, the end is %d", end.Topic, end.Partition, last.Offset, end.Offset)
			}
		})
		if open == "" {
			return
		}
		if waited > transactionTimeout+10*time.Second {
			s.fail("%s", open)
			return
		}
		time.Sleep(time.Second)
	}
}

// read reads a topic to its end.
func (s *simulation) read(topic string) []*kgo.Record {
	records, err := readToEnd(s.ctx, s.client, s.opts, topic)
	if err != nil {
		s.fail("%v", err)
	}
	return records
}

// checkStates holds the states on the disks to the fold, which h has of the whole log, and that to the rows of the model.
func (s *simulation) checkStates(p *eventcheck.Partition, h *harness, rows map[string]string) {
	if found := h.rows(); !maps.Equal(found, rows) {
		s.fail("partition %d: the rows of the fold are\n%v\nthe model's are\n%v", p.Number, found, rows)
	}
	end := state.Position{Offset: p.Log[len(p.Log)-1].Offset + 1}
	whole := h.dump()
	prefixes := map[state.Position]string{end: whole}
	prefix := func(at state.Position) string {
		if _, ok := prefixes[at]; !ok {
			prefixes[at] = s.prefix(p, at)
		}
		return prefixes[at]
	}
	current := 0
	for _, host := range s.hosts {
		dir := "state/" + rawName + "/" + strconv.Itoa(int(p.Number))
		if _, err := host.disk.mem.Stat(dir); err != nil {
			continue
		}
		at, found, err := s.stateIn(dir, p.Number, host.disk.mem)
		if err != nil {
			s.fail("%s: %v", host.name, err)
			continue
		}
		if at == end {
			current++
		}
		if expected := prefix(at); found != expected {
			s.fail("partition %d, %s: the state at %v is\n%s\nexpected\n%s", p.Number, host.name, at, found, expected)
		}
	}
	if current == 0 {
		s.fail("partition %d: no disk has its state", p.Number)
	}
	if s.store != nil {
		s.checkCheckpoints(p.Number, prefix)
	}
}

// stateIn is the state in a directory.
func (s *simulation) stateIn(dir string, partition int32, disk vfs.FS) (at state.Position, found string, err error) {
	id := state.Identity{Topic: rawName, TopicID: s.topic.ID, Partition: partition, Partitions: s.partitions}
	store, err := state.Open(dir, id, state.Options{FS: disk, MemTableBytes: 1 << 20})
	if err != nil {
		return at, "", err
	}
	at, _ = store.Position()
	tx := store.Begin()
	found = dump(s.t, tx, uint16(partition))
	tx.Discard()
	return at, found, store.Close()
}

// prefix is the state at a position.
func (s *simulation) prefix(p *eventcheck.Partition, at state.Position) string {
	h := newHarnessOf(s.t, p.Number, s.partitions)
	defer h.store.Close()
	for _, rec := range p.Log {
		limit := int64(math.MaxInt64)
		if rec.Offset == at.Offset {
			limit = at.Done
		}
		if rec.Offset > at.Offset || limit == 0 {
			break
		}
		if rec.Record == nil || rec.Refused {
			continue
		}
		if _, _, err := applyUnpaused(h.fold, h.tx, rec.Offset, rec.Record, 0, limit, func(*Event) error { return nil }); err != nil {
			s.fail("%v", err)
		}
	}
	return h.dump()
}
