package dedup

import (
	"bytes"
	"math"
	"strings"
	"testing"

	"cassdelta/commitlog"
	"cassdelta/internal/rawtopic"
	"cassdelta/schema"
	"cassdelta/state"
)

// partsOf is a record of many rows, cut.
func partsOf(t *testing.T, table *schema.Table, host byte, offset int64, timestamp int64) []*rawtopic.Record {
	d := newData(table, intValue(1))
	d.Origin.Host[0] = host
	d.Origin.Position = commitlog.Position{Segment: 1, Offset: offset}
	for c := range 40 {
		row := newRow(intValue(c))
		rowBuilder{table, &row}.cell("v", timestamp, bytes.Repeat([]byte{'v'}, 100))
		d.Rows = append(d.Rows, row)
	}
	encoded := rawtopic.Append(nil, dataRecord(d))
	parts := rawtopic.Split(encoded, d.Origin, 1000)
	if len(parts) < 4 {
		t.Fatalf("%d bytes make %d parts", len(encoded), len(parts))
	}
	var records []*rawtopic.Record
	for i := range parts {
		records = append(records, &rawtopic.Record{Kind: rawtopic.KindPart, Part: &parts[i]})
	}
	return records
}

func partsHarness(t *testing.T) (*harness, *schema.Table) {
	h := newHarness(t)
	table := mustTable(t, "t", "k int partition_key", "c int clustering", "v text regular")
	h.apply(initRecord())
	h.apply(schemaRecord(table))
	return h, table
}

// storedParts counts the parts that the state keeps.
func (h *harness) storedParts() (n int) {
	from, to := state.SpaceSpan(nil, nil, 0, state.SpacePart)
	if err := h.tx.Scan(from, to, func(_, _ []byte) (bool, error) { n++; return true, nil }); err != nil {
		h.t.Fatal(err)
	}
	return n
}

// TestParts: the parts of three hosts come among each other; the first to be complete makes the events, at the offset of
// its last part, and nothing stays behind.
func TestParts(t *testing.T) {
	h, table := partsHarness(t)
	hosts := [][]*rawtopic.Record{partsOf(t, table, 1, 7, 10), partsOf(t, table, 2, 8, 10), partsOf(t, table, 3, 9, 10)}
	for i := range hosts[0] {
		for _, parts := range hosts {
			h.apply(parts[i])
		}
		if i < len(hosts[0])-1 {
			if n := h.storedParts(); n != 3*(i+1) || len(h.events) > 0 {
				t.Fatalf("after part %d of each: %d are kept, the events are %v", i, n, h.events)
			}
		}
	}
	if n := h.storedParts(); n > 0 {
		t.Errorf("%d parts are left", n)
	}
	if len(h.events) != 40 || h.places[0] != "17+0" || h.places[39] != "17+39" {
		t.Errorf("the events are at %v", h.places)
	}
	if s := h.fold.Stats(); s.Changed != 1 || s.Copies != 2 {
		t.Errorf("found %+v", s)
	}
	// A part that is sent again after the record is complete is dropped.
	h.take()
	h.apply(hosts[1][len(hosts[1])-1])
	if s := h.fold.Stats(); s.RepeatedParts != 1 || len(h.take()) > 0 {
		t.Errorf("found %+v", s)
	}
}

// TestPartsAgain: a host that crashed begins its record again, or another one; one that is cut stays so.
func TestPartsAgain(t *testing.T) {
	h, table := partsHarness(t)
	parts := partsOf(t, table, 1, 7, 10)
	other := partsOf(t, table, 1, 99, 20)
	for _, rec := range []*rawtopic.Record{parts[0], parts[1], parts[1], parts[0], parts[1], parts[2], other[0]} {
		h.apply(rec)
	}
	if n := h.storedParts(); n != 1 {
		t.Errorf("%d parts are kept, expected the first of the second record", n)
	}
	if reason := h.refused(parts[3]); !strings.Contains(reason, "a part before it is missing") {
		t.Errorf("refused because %s", reason)
	}
	if reason := h.refused(other[2]); !strings.Contains(reason, "a part before it is missing") {
		t.Errorf("refused because %s", reason)
	}
	for _, rec := range other[1:] {
		h.apply(rec)
	}
	if events := h.take(); len(events) != 40 {
		t.Errorf("found %d events", len(events))
	}
}

// TestPartsInPieces: the record is cut into transactions although it came in parts.
func TestPartsInPieces(t *testing.T) {
	h, table := partsHarness(t)
	parts := partsOf(t, table, 1, 7, 10)
	for _, rec := range parts[:len(parts)-1] {
		h.apply(rec)
	}
	h.commit(state.Position{Offset: h.offset})
	last := parts[len(parts)-1]
	done := int64(0)
	for calls := 0; ; calls++ {
		n, finished, err := h.fold.Apply(h.tx, h.offset, last, done, 7, h.emit)
		if err != nil {
			t.Fatal(err)
		}
		if done += n; finished {
			break
		}
		if h.storedParts() != len(parts)-1 {
			t.Fatal("the parts are gone before the record is folded")
		}
		h.commit(state.Position{Offset: h.offset, Done: done})
		if calls%2 == 0 {
			h.fold = NewFold(0)
		}
	}
	if len(h.take()) != 40 || h.storedParts() != 0 {
		t.Errorf("%d events, %d parts left", done, h.storedParts())
	}
}

// TestPartsRefused: what the parts make together may be no good.
func TestPartsRefused(t *testing.T) {
	h, table := partsHarness(t)
	origin := rawtopic.Origin{Host: schema.UUID{1}}
	send := func(whole []byte) string {
		parts := []rawtopic.Part{
			{Origin: origin, Index: 0, Count: 2, Bytes: whole[:5]},
			{Origin: origin, Index: 1, Count: 2, Bytes: whole[5:]},
		}
		h.apply(&rawtopic.Record{Kind: rawtopic.KindPart, Part: &parts[0]})
		return h.refused(&rawtopic.Record{Kind: rawtopic.KindPart, Part: &parts[1]})
	}
	if reason := send([]byte("no record")); !strings.Contains(reason, "put together from 2 parts: raw record: expected the header") {
		t.Errorf("refused because %s", reason)
	}
	if reason := send(rawtopic.Append(nil, tickRecord(5))); !strings.Contains(reason, "is a Tick, expected Data") {
		t.Errorf("refused because %s", reason)
	}
	d := newData(table, intValue(1))
	d.Schema[0]++
	if reason := send(rawtopic.Append(nil, dataRecord(d))); !strings.Contains(reason, "expected the definition") {
		t.Errorf("refused because %s", reason)
	}
	// A record that is longer than any: the parts before it are not forgotten, and the next record of the host takes
	// their place.
	huge := assembly{Assembly: rawtopic.Assembly{Origin: origin, Count: math.MaxInt32, Next: 1}, bytes: maxAssembled}
	key := state.Meta(nil, 0, "parts/"+origin.Host.String())
	if err := h.tx.Set(key, appendAssembly(nil, &huge)); err != nil {
		t.Fatal(err)
	}
	part := rawtopic.Part{Origin: origin, Index: 1, Count: math.MaxInt32, Bytes: []byte("x")}
	if reason := h.refused(&rawtopic.Record{Kind: rawtopic.KindPart, Part: &part}); !strings.Contains(reason, "has more than") {
		t.Errorf("refused because %s", reason)
	}
	for _, rec := range partsOf(t, table, 1, 7, 10) {
		h.apply(rec)
	}
	if events := h.take(); len(events) != 40 || h.storedParts() != 0 {
		t.Errorf("%d events, %d parts left", len(events), h.storedParts())
	}
}
