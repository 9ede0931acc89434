package dedup

import (
	"errors"
	"strings"
	"testing"

	"cassdelta/schema"
	"cassdelta/state"
)

func TestCommittedIsReadBack(t *testing.T) {
	for _, c := range []committed{
		{Position: state.Position{Offset: 7}, epoch: 3, topic: schema.UUID{0xab, 15: 1}, epochs: "1@0;fold=1;retention=5,2@7;fold=2;retention=6"},
		{Position: state.Position{Offset: 1 << 60, Done: 1 << 40}, epoch: -1, lettered: true},
	} {
		got, err := parseCommitted(c.Offset, c.epoch, c.metadata())
		if err != nil || got != c {
			t.Errorf("%q: found %+v (error %v), expected %+v", c.metadata(), got, err, c)
		}
	}
	if got, err := parseCommitted(5, 2, ""); err != nil || got != (committed{Position: state.Position{Offset: 5}, epoch: 2}) {
		t.Errorf("without metadata: found %+v, error %v", got, err)
	}
}

func TestCommittedOfOthersIsRefused(t *testing.T) {
	topic := strings.Repeat("0", 32)
	for _, metadata := range []string{
		"a-0-member", "cassdelta/2 done=1 topic=" + topic, "cassdelta/1", "cassdelta/1 done=1",
		"cassdelta/1 done=-1 topic=" + topic, "cassdelta/1 done=x topic=" + topic,
		"cassdelta/1 done=1 epochs=1@0;fold=99999999999;retention=1 topic=" + topic, "cassdelta/1 done=1 topic=00", " ",
	} {
		if got, err := parseCommitted(1, 0, metadata); err == nil || !strings.Contains(err.Error(), "a group of its own") {
			t.Errorf("%q: found %+v, error %v", metadata, got, err)
		}
	}
}

func FuzzParseCommitted(f *testing.F) {
	f.Add(int64(5), committed{Position: state.Position{Offset: 5, Done: 2}, epochs: firstEpoch.text()}.metadata())
	f.Add(int64(0), "")
	f.Add(int64(-1), "cassdelta/1 done= epochs= topic=")
	f.Fuzz(func(t *testing.T, offset int64, metadata string) {
		c, err := parseCommitted(offset, 1, metadata)
		if err != nil || metadata == "" {
			return
		}
		again, err := parseCommitted(offset, 1, c.metadata())
		if err != nil || again != c {
			t.Errorf("%q is %+v, and written again %+v (error %v)", metadata, c, again, err)
		}
	})
}

func TestPlan(t *testing.T) {
	topic := RawTopic{Name: "raw", ID: schema.UUID{1}, Partitions: 4}
	at := func(offset, done int64) state.Position { return state.Position{Offset: offset, Done: done} }
	group := func(offset, done int64) committed {
		return committed{Position: at(offset, done), epoch: 2, topic: topic.ID, epochs: firstEpoch.text()}
	}
	another := epoch{number: 1, settings: Settings{Fold: FoldVersion + 1}}.text()
	of := func(c committed, change func(*committed)) committed { change(&c); return c }
	for _, test := range []struct {
		name     string
		hasState bool
		state    state.Position
		hasGroup bool
		group    committed
		log      bounds
		without  bool
		written  string
		from, to state.Position
		refused  string
	}{
		{name: "all is new", log: bounds{0, 10}},
		{name: "all is new, the log has begun to expire", without: true, log: bounds{4, 10}, from: at(4, 0), to: at(4, 0)},
		{name: "all is new, the log is empty", without: true, log: bounds{7, 7}, from: at(7, 0), to: at(7, 0)},
		{name: "the state is at the position", hasState: true, state: at(5, 2), hasGroup: true, group: group(5, 2), log: bounds{0, 10}, from: at(5, 2), to: at(5, 2)},
		{name: "the state is at the position, which is the end", hasState: true, state: at(10, 0), hasGroup: true, group: group(10, 0), log: bounds{0, 10}, from: at(10, 0), to: at(10, 0)},
		{name: "the state is at the position, which is the start", hasState: true, state: at(5, 0), hasGroup: true, group: group(5, 0), log: bounds{5, 10}, from: at(5, 0), to: at(5, 0)},
		{name: "the state is behind", hasState: true, state: at(3, 1), hasGroup: true, group: group(5, 2), log: bounds{3, 10}, from: at(3, 1), to: at(5, 2)},
		{name: "the state is behind within a record", hasState: true, state: at(5, 1), hasGroup: true, group: group(5, 2), log: bounds{0, 10}, from: at(5, 1), to: at(5, 2)},
		{name: "the state is lost", hasGroup: true, group: group(5, 2), log: bounds{0, 10}, to: at(5, 2)},
		{name: "the position was set to the start by a tool", hasGroup: true, group: committed{epoch: -1}, log: bounds{0, 10}},

		{name: "all is new, the log has begun to expire, and it was not told", log: bounds{4, 10}, refused: "--without-state"},
		{name: "the group lost its position", hasState: true, state: at(3, 0), log: bounds{0, 10}, refused: "no committed position"},
		{name: "the state is ahead", hasState: true, state: at(5, 0), hasGroup: true, group: group(4, 9), log: bounds{0, 10}, refused: "ahead of the group's position 4+9"},
		{name: "the state is ahead within a record", hasState: true, state: at(4, 10), hasGroup: true, group: group(4, 9), log: bounds{0, 10}, refused: "ahead of the group's position 4+9"},
		{name: "there are events", written: "clean", log: bounds{0, 10}, refused: "the topic clean has events"},
		{name: "there are events, and that is told", written: "clean", without: true, log: bounds{0, 10}, from: at(0, 0), to: at(0, 0)},
		{name: "the state is behind the log", hasState: true, state: at(2, 0), hasGroup: true, group: group(5, 0), log: bounds{3, 10}, refused: "cannot be folded again"},
		{name: "the state is lost and the log has expired", hasGroup: true, group: group(5, 0), log: bounds{3, 10}, refused: "cannot be built again"},
		{name: "the state is lost and all that was folded has expired", hasGroup: true, group: group(5, 0), log: bounds{5, 10}, refused: "cannot be built again"},
		{name: "records expired before they were folded", hasState: true, state: at(2, 0), hasGroup: true, group: group(2, 0), log: bounds{3, 10}, refused: "deleted before they were folded"},
		{name: "the log was cut", hasState: true, state: at(5, 0), hasGroup: true, group: group(5, 0), log: bounds{0, 4}, refused: "past the end of the log, 4"},
		{name: "the record was cut of which events are out", hasState: true, state: at(5, 1), hasGroup: true, group: group(5, 1), log: bounds{0, 5}, refused: "past the end of the log, 5"},
		{name: "the topic was made again", hasGroup: true, group: of(group(5, 0), func(c *committed) { c.topic = schema.UUID{2} }), log: bounds{0, 10}, refused: "deleted and made again"},
		{name: "another fold made the events", hasGroup: true, group: of(group(5, 1), func(c *committed) { c.epochs = another }), log: bounds{0, 10}, refused: "run the program that has that version"},
		{name: "another fold is next", hasState: true, state: at(5, 0), hasGroup: true, group: of(group(5, 0), func(c *committed) { c.epochs = another }), log: bounds{0, 10}, refused: "run the program that has that version"},
	} {
		r := resumption{topic: topic, partition: 3, directory: "state/raw/3", state: test.state, hasState: test.hasState, group: test.group, hasGroup: test.hasGroup, log: test.log, withoutState: test.without, written: test.written}
		if r.epochs = r.group.knownEpochs(); len(r.epochs) == 0 {
			r.epochs = epochs{firstEpoch}
		}
		from, to, err := r.plan()
		if test.refused != "" {
			var position *PositionError
			if !errors.As(err, &position) || position.Partition != 3 || !strings.Contains(err.Error(), test.refused) {
				t.Errorf("%s: error %v, expected one with %q", test.name, err, test.refused)
			}
			continue
		}
		if err != nil || from != test.from || to.Position != test.to {
			t.Errorf("%s: from %v to %v (error %v), expected from %v to %v", test.name, from, to, err, test.from, test.to)
		}
	}
}
