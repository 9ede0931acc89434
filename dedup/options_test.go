package dedup

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/zap"

	"cassdelta/internal/rawtopic"
	"cassdelta/state"
)

// textEncoder keeps what is encoded as texts.
type textEncoder struct{ events, places []string }

func (e *textEncoder) MaxBatchBytes(string) int32 { return 1 << 20 }

func (e *textEncoder) Encode(_ context.Context, ev *Event, dst *kgo.Record, buf []byte) ([]byte, error) {
	e.events = append(e.events, eventText(ev))
	e.places = append(e.places, fmt.Sprintf("%d+%d", ev.RawOffset, ev.Index))
	*dst = kgo.Record{}
	return buf, nil
}

// foldTask folds records in a task, with options, in transactions of few events.
func foldTask(t *testing.T, records []*rawtopic.Record, options map[string]TableOptions) (e *textEncoder, positions []state.Position, left int64) {
	t.Helper()
	e = &textEncoder{}
	w, err := NewWorker(WorkerConfig{RawTopic: rawName, Group: groupName, DeadLetterTopic: letterName, StateDirectory: "s", Emitter: e, Tables: options, Log: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	store, err := state.Open("s", state.Identity{Topic: rawName, Partitions: 1}, state.Options{FS: vfs.NewMem()})
	if err != nil {
		t.Fatal(err)
	}
	task := newTask(w, 0, store, func() {}, &slabPool{})
	defer task.close()
	for i, rec := range records {
		if err := task.take(&kgo.Record{Offset: int64(i), Value: rawtopic.Append(nil, rec)}); err != nil {
			t.Fatal(err)
		}
	}
	for task.waiting() > 0 {
		task.begin(t.Context(), func(*kgo.Record) {})
		if err := task.advance(allowance{events: 3, bytes: 1 << 20, deadline: time.Now().Add(time.Hour)}); err != nil {
			t.Fatal(err)
		}
		at := task.at()
		positions = append(positions, at)
		left += task.counts.left
		if err := task.apply(committed{Position: at}); err != nil {
			t.Fatal(err)
		}
	}
	return e, positions, left
}

// TestEmitChanges holds that the option leaves out the events with equal images and no other, and that nothing else
// depends on it: the numbers of events, where transactions end, the chain.
func TestEmitChanges(t *testing.T) {
	var total int64
	options := map[string]TableOptions{"ks.plain": {Emit: EmitChanges}, "ks.elements": {Emit: EmitChanges}, "ks.known": {Emit: EmitChanges}, "ks.single": {Emit: EmitAll}}
	for seed := range uint64(40) {
		records := newWorld(t).long(rand.New(rand.NewPCG(seed, 1)))
		all, allAt, none := foldTask(t, records, nil)
		if none != 0 {
			t.Errorf("seed %d: %d events are left out without an option", seed, none)
		}
		some, someAt, left := foldTask(t, records, options)
		total += left
		if !slices.Equal(allAt, someAt) {
			t.Errorf("seed %d: transactions end at %v, without the option at %v", seed, someAt, allAt)
		}
		var events, places []string
		for i, e := range all.events {
			before, after, _ := strings.Cut(e[strings.IndexAny(e, "{"):], " -> ")
			after, _, _ = strings.Cut(after, " @")
			if e[0] == 'u' && before == after && options["ks."+strings.Fields(e)[1]].Emit == EmitChanges {
				continue
			}
			events, places = append(events, e), append(places, all.places[i])
		}
		if !slices.Equal(some.events, events) || !slices.Equal(some.places, places) {
			t.Errorf("seed %d: found\n%s\nexpected\n%s", seed, strings.Join(some.events, "\n"), strings.Join(events, "\n"))
		}
		if n := int64(len(all.events) - len(some.events)); n != left {
			t.Errorf("seed %d: %d events are counted as left out, and %d are", seed, left, n)
		}
		chain := map[string]string{}
		for _, e := range some.events {
			if !strings.Contains(e, " drops ") { // columns that are dropped leave the images without an event
				checkChain(t, chain, e)
			}
		}
	}
	if total == 0 {
		t.Error("no event was left out")
	}
}

// TestExpiryOff holds the same for expiries, of one table: those that ticks make are left out, those of writes that come late are not.
func TestExpiryOff(t *testing.T) {
	off, total, late := false, int64(0), 0
	for seed := range uint64(20) {
		records := newWorld(t).long(rand.New(rand.NewPCG(seed, 1)))
		all, allAt, _ := foldTask(t, records, nil)
		some, someAt, left := foldTask(t, records, map[string]TableOptions{"ks.plain": {Expiry: &off}})
		total += left
		if !slices.Equal(allAt, someAt) {
			t.Errorf("seed %d: transactions end at %v, without the option at %v", seed, someAt, allAt)
		}
		var events, places []string
		for i, e := range all.events {
			var offset int
			if _, err := fmt.Sscanf(all.places[i], "%d+", &offset); err != nil {
				t.Fatal(err)
			}
			expiry, tick := strings.Contains(e, " ttl") && strings.Contains(e, " plain "), records[offset].Kind == rawtopic.KindTick
			if expiry && !tick {
				late++
			}
			if !expiry || !tick {
				events, places = append(events, e), append(places, all.places[i])
			}
		}
		if !slices.Equal(some.events, events) || !slices.Equal(some.places, places) {
			t.Errorf("seed %d: found\n%s\nexpected\n%s", seed, strings.Join(some.events, "\n"), strings.Join(events, "\n"))
		}
		if n := int64(len(all.events) - len(some.events)); n != left {
			t.Errorf("seed %d: %d events are counted as left out, and %d are", seed, left, n)
		}
	}
	if total == 0 || late == 0 {
		t.Errorf("%d events were left out, %d were of late writes", total, late)
	}
}

// checkChain holds an event's before to the after of the event before it of the same row.
func checkChain(t *testing.T, chain map[string]string, event string) {
	t.Helper()
	at := strings.IndexAny(event[2:], "{") + 2
	if none := strings.Index(event, " none -> "); none >= 0 && none < at {
		at = none + 1
	}
	row := event[2:at]
	before, rest, _ := strings.Cut(event[at:], " -> ")
	after, _, _ := strings.Cut(rest, " @")
	last, ok := chain[row]
	if !ok {
		last = "none"
	}
	if before != last && !(!ok && event[0] == 'd' && before == "{}") {
		t.Errorf("%s: the event before it left %s", event, last)
	}
	chain[row] = after
}
