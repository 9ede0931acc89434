package dedup

import (
	"maps"
	"math/rand/v2"
	"testing"

	"cassdelta/internal/foldmodel"
	"cassdelta/state"
)

// TestReads: the events of op r of a state are its rows, all of them and each once, and the same when they are asked for again.
func TestReads(t *testing.T) {
	w := newWorld(t)
	for seed := range uint64(40) {
		h := newHarness(t)
		for _, rec := range w.agingRun(rand.New(rand.NewPCG(seed, 5))) {
			h.apply(rec)
		}
		expected, written := h.rows(), map[string]int64{}
		err := h.fold.Rows(h.tx, func(r *StoredRow) error {
			e := foldmodel.Event{Table: r.Table.FullName(), Key: r.Key, Static: r.Static, Clustering: r.Clustering}
			newest := r.Liveness.Timestamp
			for _, c := range r.Cells {
				newest = max(newest, c.Timestamp)
			}
			written[e.Row()] = newest
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		h.commit(state.Position{Offset: h.offset, Done: 3})
		reader, err := h.store.Snapshot()
		if err != nil {
			t.Fatal(err)
		}
		i, err := Inspect(reader)
		if err != nil {
			t.Fatal(err)
		}
		tables, err := i.Tables()
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			found := map[string]string{}
			for _, table := range tables {
				index := int64(0)
				err := i.Reads(table, func(e *Event) error {
					checkChanged(t, e)
					named := foldmodel.Event{Table: e.Table.FullName(), Key: e.Key, Static: e.Static, Clustering: e.Clustering}
					if found[named.Row()] != "" || e.Op != Read || e.Before != nil || e.RawOffset != h.offset || e.Index != index || e.Timestamp != written[named.Row()] {
						t.Errorf("seed %d: %s at %d+%d, expected one, written at %d", seed, eventText(e), e.RawOffset, e.Index, written[named.Row()])
					}
					found[named.Row()] = foldmodel.ImageOf(e.Table, e.After).String()
					index++
					return nil
				})
				if err != nil {
					t.Fatal(err)
				}
			}
			if !maps.Equal(found, expected) {
				t.Fatalf("seed %d: the events have\n%v\nthe rows are\n%v", seed, found, expected)
			}
		}
		i.Close()
		if err := reader.Close(); err != nil {
			t.Fatal(err)
		}
		if len(expected) == 0 && seed == 0 {
			t.Error("there is no row")
		}
	}
}
