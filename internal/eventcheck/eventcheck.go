// Package eventcheck holds clean topics to the contract: what is in them, given what is in the raw topic. It is for tests, and
// shares nothing with package dedup: which events a record makes it takes from package foldmodel, which merges nothing.
//
// The events are those of a read_committed reader. Checked is, for each raw partition,
//
//   - unique: no event, and no dead letter, is there twice;
//   - order: the events of a partition come in the order of its log, numbered from 0 in each record, without a gap;
//   - chain: the before of an event is the after of the one before it of the same row;
//   - complete: each record made the events that it makes, with their images, times and reasons, and a dead letter if it is one;
//   - nothing else: there is no event of anything that is not in the log.
package eventcheck

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"cassdelta/internal/foldmodel"
	"cassdelta/internal/rawtopic"
)

// Place says which event it is: of a raw partition, of the record at an offset, which one.
type Place struct {
	Partition     int32
	Offset, Index int64
}

// String is the place as people read it.
func (p Place) String() string { return fmt.Sprintf("%d/%d+%d", p.Partition, p.Offset, p.Index) }

// Event is one event of a clean topic.
type Event struct {
	Place
	foldmodel.Event
}

// Text is all that the event says.
func (e *Event) Text() string { return e.Place.String() + " " + e.Event.String() }

// Encode and Decode are a form of events for tests that need no other: they are their JSON, with the values as bytes.
func (e *Event) Encode() ([]byte, error) {
	w := wireEvent{Event: *e, Before: bytesOf(e.Before), After: bytesOf(e.After)}
	w.Event.Before, w.Event.After = nil, nil
	return json.Marshal(&w)
}

// Decode is the opposite of Encode.
func Decode(value []byte) (*Event, error) {
	var w wireEvent
	if err := json.Unmarshal(value, &w); err != nil {
		return nil, fmt.Errorf("eventcheck: %w", err)
	}
	e := w.Event
	e.Event.Before, e.Event.After = imageOf(w.Before), imageOf(w.After)
	return &e, nil
}

// wireEvent is the JSON of an event. Values are no texts, so they are not in the maps of strings.
type wireEvent struct {
	Event         Event
	Before, After map[string][]byte
}

func bytesOf(i foldmodel.Image) map[string][]byte {
	if i == nil {
		return nil
	}
	m := map[string][]byte{}
	for name, v := range i {
		m[name] = []byte(v)
	}
	return m
}

func imageOf(m map[string][]byte) foldmodel.Image {
	if m == nil {
		return nil
	}
	i := foldmodel.Image{}
	for name, v := range m {
		i[name] = string(v)
	}
	return i
}

// Record is one of a raw partition.
type Record struct {
	Offset int64
	// Record is nil if it cannot be read.
	Record *rawtopic.Record
	// Refused says that it cannot be folded: it makes a dead letter and no event.
	Refused bool
	// Never says which of its events can be written in no way, by their index: there is a dead letter if there are any.
	Never func(index int64) bool
}

// Partition holds what was found of one raw partition to its log.
type Partition struct {
	Number int32
	Log    []Record
	// Events are in the order of the clean topic; Letters are offsets, in any order.
	Events  []*Event
	Letters []int64
	// Unchained are tables, by keyspace.table, in which images may change without an event: such as have columns dropped.
	Unchained map[string]bool
}

// maxFaults is how many faults are told.
const maxFaults = 10

// Check returns what is wrong, and the model of the partition at the end of the log.
func (p *Partition) Check() (faults []string, model *foldmodel.Model) {
	fault := func(format string, args ...any) {
		if len(faults) < maxFaults {
			faults = append(faults, fmt.Sprintf("partition %d: ", p.Number)+fmt.Sprintf(format, args...))
		}
	}
	p.unique(fault)
	p.order(fault)
	if !slices.ContainsFunc(p.Log, func(r Record) bool { return r.Never != nil }) {
		p.chain(fault) // an event that cannot be written is a gap
	}
	return faults, p.complete(fault)
}

type faultFunc func(format string, args ...any)

func (p *Partition) unique(fault faultFunc) {
	seen := map[Place]bool{}
	for _, e := range p.Events {
		if e.Partition != p.Number {
			fault("event %s is of another partition", e.Place)
		}
		if seen[e.Place] {
			fault("event %s is there twice: %s", e.Place, &e.Event)
		}
		seen[e.Place] = true
	}
	letters := map[int64]bool{}
	for _, offset := range p.Letters {
		if letters[offset] {
			fault("there are two dead letters of offset %d", offset)
		}
		letters[offset] = true
	}
}

func (p *Partition) order(fault faultFunc) {
	for i, e := range p.Events {
		if i == 0 {
			continue
		}
		last := p.Events[i-1].Place
		if e.Offset < last.Offset || e.Offset == last.Offset && e.Index <= last.Index {
			fault("event %s comes after event %s", e.Place, last)
		}
	}
}

func (p *Partition) chain(fault faultFunc) {
	chain := map[string]foldmodel.Image{}
	for _, e := range p.Events {
		if p.Unchained[e.Table] {
			continue
		}
		row := e.Row()
		last, seen := chain[row]
		unseen := !seen && e.Op == 'd' && e.Before != nil && len(e.Before) == 0
		if !unseen && ((e.Before == nil) != (last == nil) || !maps.Equal(e.Before, last)) {
			fault("event %s: the event before it left %s: %s", e.Place, last, &e.Event)
		}
		chain[row] = e.After
	}
}

// complete compares the events of each record with those that the model makes of it.
func (p *Partition) complete(fault faultFunc) *foldmodel.Model {
	model := foldmodel.New()
	found := map[int64][]*Event{}
	for _, e := range p.Events {
		found[e.Offset] = append(found[e.Offset], e)
	}
	letters := map[int64]bool{}
	for _, offset := range p.Letters {
		letters[offset] = true
	}
	for _, rec := range p.Log {
		events := found[rec.Offset]
		delete(found, rec.Offset)
		letter := letters[rec.Offset]
		delete(letters, rec.Offset)
		if rec.Refused {
			if len(events) > 0 {
				fault("offset %d: %d events of a record that cannot be folded", rec.Offset, len(events))
			}
			if !letter {
				fault("offset %d: there is no dead letter", rec.Offset)
			}
			continue
		}
		expected, err := model.Apply(rec.Record)
		if err != nil {
			fault("offset %d: %v", rec.Offset, err)
			continue
		}
		p.record(rec, events, expected, letter, fault)
	}
	for offset, events := range found {
		fault("offset %d: there is no such record, and %d events of it", offset, len(events))
	}
	for offset := range letters {
		fault("offset %d: there is no such record, and a dead letter", offset)
	}
	return model
}

func (p *Partition) record(rec Record, events []*Event, expected []*foldmodel.Event, letter bool, fault faultFunc) {
	never := 0
	var next int64 // the index of the next event
	skip := func() {
		for rec.Never != nil && next < int64(len(expected)) && rec.Never(next) {
			next++
			never++
		}
	}
	var plain []*foldmodel.Event
	for _, e := range events {
		skip()
		if e.Index != next {
			fault("offset %d: expected event %d, found event %d", rec.Offset, next, e.Index)
			next = e.Index
		}
		next++
		plain = append(plain, &e.Event)
	}
	skip()
	if letter != (never > 0) {
		fault("offset %d: there is a dead letter: %v, and of its %d events %d cannot be written", rec.Offset, letter, len(expected), never)
	}
	if never > 0 {
		if len(plain)+never != len(expected) {
			fault("offset %d: expected %d events and %d that cannot be written, found %d", rec.Offset, len(expected)-never, never, len(plain))
		}
		return
	}
	if wrong := foldmodel.Same(plain, expected, rec.Record.Kind == rawtopic.KindTick); wrong != "" {
		fault("offset %d: %s", rec.Offset, wrong)
	}
}
