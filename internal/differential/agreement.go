package differential

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"cassdelta/commitlog"
	"cassdelta/dedup"
	"cassdelta/internal/foldmodel"
	"cassdelta/internal/rawtopic"
	"cassdelta/schema"
	"cassdelta/state"
)

// Agreement is how far the events that were made, the state, the model and Cassandra agree.
type Agreement struct {
	// RawRecords is the number of updates, Ticks that of ticks between them, Events what the fold made of both.
	RawRecords, Ticks, Events int
	// Vanished are those of the events that tell of a row that was truncated, or dropped with its table.
	Vanished int
	// Rows and Cells are what was compared: rows and static rows, and cells with their write times and expiry. Unknown are
	// those rows of them that are in partitions which were written to while cdc was off.
	Rows, Cells, Unknown int
	Differences          int
	// First are the first differences, as text.
	First []string
}

func (a *Agreement) differ(format string, args ...any) {
	a.Differences++
	if len(a.First) < mostDifferences {
		a.First = append(a.First, fmt.Sprintf(format, args...))
	}
}

// folding is the fold and the model side by side.
type folding struct {
	Agreement
	store *state.Store
	tx    *state.Txn
	fold  *dedup.Fold
	model *foldmodel.Model
	// images are what the events have left of each row, by the row's name, and tables the table of each image.
	images map[string]foldmodel.Image
	tables map[string]schema.UUID
	// dropped are the columns of tables that were dropped once: what they had leaves the images without an event.
	dropped map[schema.UUID]map[string]bool
	offset  int64
	rng     *rand.Rand
	ticked  int64
	// told, if not nil, is told each event.
	told func(*dedup.Event)
}

// newFolding keeps its state in a folder.
func newFolding(dir string) (*folding, error) {
	id := state.Identity{Topic: workloadRawTopic, Partitions: 1}
	store, err := state.Open(filepath.Join(dir, "state"), id, state.Options{})
	if err != nil {
		return nil, err
	}
	return &folding{
		store: store, tx: store.Begin(), fold: dedup.NewFold(0), model: foldmodel.New(), images: map[string]foldmodel.Image{},
		tables: map[string]schema.UUID{}, dropped: map[schema.UUID]map[string]bool{},
		rng: rand.New(rand.NewPCG(1, 1)),
	}, nil
}

func (f *folding) close() { f.store.Close() }

// compare folds the raw topic, and holds every event to the model and to the event before it of its row, and the rows at
// the end to what Cassandra answered.
func (f *follow) compare(ctx context.Context, s *selection) (Agreement, error) {
	fo, err := newFolding(f.dir)
	if err != nil {
		return Agreement{}, err
	}
	defer fo.close()
	if err := readRaw(ctx, f.kafka(), workloadRawTopic, workloadDeadLetters, fo.record); err != nil {
		return fo.Agreement, err
	}
	if err := fo.tick(s.began.UnixMicro()); err != nil {
		return fo.Agreement, err
	}
	return fo.Agreement, fo.compareRows(s)
}

// readRaw calls each with all records of a raw topic, and the times at which they came. A dead letter is an error.
func readRaw(ctx context.Context, kafka []kgo.Opt, topic, deadLetters string, each func(*rawtopic.Record, time.Time) error) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Minute)
	defer cancel()
	client, err := kgo.NewClient(append(kafka[:len(kafka):len(kafka)], kgo.ConsumeTopics(topic, deadLetters))...)
	if err != nil {
		return err
	}
	defer client.Close()
	var decoder rawtopic.Decoder
	var rec rawtopic.Record
	for {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err0(); err != nil {
			return err
		}
		end := false
		for iter := fetches.RecordIter(); !iter.Done(); {
			r := iter.Next()
			if r.Topic == deadLetters {
				return fmt.Errorf("an agent could not read a mutation: %v", r.Headers)
			}
			if err := decoder.Decode(r.Value, &rec); err != nil {
				return err
			}
			if err := each(&rec, r.Timestamp); err != nil {
				return fmt.Errorf("raw record %d: %w", r.Offset, err)
			}
		}
		fetches.EachPartition(func(p kgo.FetchTopicPartition) {
			if n := len(p.Records); p.Topic == topic && n > 0 {
				end = p.Records[n-1].Offset+1 >= p.HighWatermark
			}
		})
		if end {
			return nil
		}
	}
}

// record folds a record that came at a time. Now and then time comes up to some seconds before it.
func (f *folding) record(rec *rawtopic.Record, at time.Time) error {
	if rec.Kind == rawtopic.KindTick {
		return nil
	}
	if err := f.apply(rec); err != nil {
		return err
	}
	if rec.Kind == rawtopic.KindData {
		f.RawRecords++
		if f.rng.IntN(2000) == 0 {
			return f.tick(at.UnixMicro() - f.rng.Int64N(12e6))
		}
	}
	return nil
}

func (f *folding) tick(watermark int64) error {
	if watermark <= f.ticked {
		return nil
	}
	f.ticked = watermark
	f.Ticks++
	return f.apply(&rawtopic.Record{Kind: rawtopic.KindTick, Tick: &rawtopic.Tick{Watermark: watermark}})
}

// apply folds a record, in the model too.
func (f *folding) apply(rec *rawtopic.Record) error {
	var found []*foldmodel.Event
	var tables []*schema.Table // of the events
	emit := func(e *dedup.Event) error {
		if f.told != nil {
			f.told(e)
		}
		if e.Reason == dedup.ReasonTruncate || e.Reason == dedup.ReasonDrop {
			f.Vanished++
		}
		tables = append(tables, e.Table)
		found = append(found, &foldmodel.Event{
			Table: e.Table.FullName(), Key: bytes.Clone(e.Key), Static: e.Static, Clustering: foldmodel.Clone(e.Clustering), Op: byte(e.Op),
			Before: foldmodel.ImageOf(e.Table, e.Before), After: foldmodel.ImageOf(e.Table, e.After), Changed: foldmodel.Names(e.Table, e.Changed),
			Timestamp: e.Timestamp, Reason: string(e.Reason), Complete: e.Complete,
		})
		return nil
	}
	_, finished, err := f.fold.Apply(f.tx, f.offset, rec, 0, math.MaxInt64, emit)
	if err == nil && !finished {
		return fmt.Errorf("record %d goes through more rows than the fold takes in one call", f.offset)
	}
	var refused *dedup.RecordError
	if errors.As(err, &refused) {
		f.differ("%v", err)
	} else if err != nil {
		return err
	}
	f.offset++
	if f.tx.Bytes() > 16<<20 {
		if err := f.tx.Commit(state.Position{Offset: f.offset}); err != nil {
			return err
		}
		f.tx = f.store.Begin()
	}
	expected, err := f.model.Apply(rec)
	if err != nil {
		return err
	}
	if rec.Kind == rawtopic.KindSchema {
		t, err := schema.ParseDefinition(rec.Schema.Definition)
		if err != nil {
			return err
		}
		for _, column := range t.Dropped {
			if f.dropped[t.ID] == nil {
				f.dropped[t.ID] = map[string]bool{}
			}
			f.dropped[t.ID][column.Name] = true
		}
	}
	f.Events += len(found)
	if wrong := foldmodel.Same(found, expected, rec.Kind == rawtopic.KindTick); wrong != "" {
		f.differ("offset %d: the events of the fold are not those of the model: %s", f.offset-1, wrong)
	}
	for i, e := range found {
		last, seen := f.images[e.Row()]
		// A deletion of a row of which nothing is known, as of any of an incomplete table after a truncation, says so each time.
		unseen := (!seen || !e.Complete) && last == nil && e.Op == 'd' && len(e.Before) == 0
		left, before := f.kept(f.kept(last, tables[i].ID), f.tables[e.Row()]), f.kept(f.kept(e.Before, tables[i].ID), f.tables[e.Row()])
		vanished := len(last) > 0 && e.Before == nil && len(left) == 0
		if !unseen && !vanished && ((last == nil) != (e.Before == nil) || !sameImages(tables[i], left, before)) {
			f.differ("the chain is broken: %s: the event before it left %s", e, last)
		}
		f.images[e.Row()], f.tables[e.Row()] = e.After, tables[i].ID
	}
	return nil
}

// sameImages reports whether two images of a table are the same, but for fields that a user type has got.
func sameImages(t *schema.Table, a, b foldmodel.Image) bool {
	if len(a) != len(b) {
		return false
	}
	for name, v := range a {
		w, also := b[name]
		i, ok := t.ColumnIndex(name)
		if !ok || !also || !sameValue(t.Columns[i].Type, []byte(v), []byte(w)) {
			return false
		}
	}
	return true
}

// without is an image with those columns only that the other has too: a column that was dropped is in older ones alone.
func without(image, other foldmodel.Image) foldmodel.Image {
	common := foldmodel.Image{}
	for name, v := range image {
		if _, ok := other[name]; ok {
			common[name] = v
		}
	}
	return common
}

// compareRows holds the rows of the state, of the model and of the events to what was selected.
func (f *folding) compareRows(s *selection) error {
	stored := map[string]*foldmodel.Row{}
	tables := map[string]*schema.Table{}
	err := f.fold.Rows(f.tx, func(r *dedup.StoredRow) error {
		row := &foldmodel.Row{
			Table: r.Table.FullName(), Key: bytes.Clone(r.Key), Static: r.Static, Clustering: foldmodel.Clone(r.Clustering),
			Image: foldmodel.ImageOf(r.Table, r.Image), Liveness: r.Liveness,
		}
		for _, c := range r.Cells {
			column := r.Table.Columns[c.Column]
			c.Path, c.Value = bytes.Clone(c.Path), bytes.Clone(c.Value)
			row.Cells = append(row.Cells, foldmodel.Cell{Column: column.Name, Type: column.Type, Cell: c})
		}
		stored[row.Name()], tables[row.Name()] = row, r.Table
		return nil
	})
	if err != nil {
		return err
	}
	rows := map[string]*foldmodel.Row{}
	for _, r := range f.model.Rows() {
		rows[r.Name()] = r
		f.compareStored(r, stored[r.Name()])
		delete(stored, r.Name())
		image := f.images[r.Name()]
		if t := tables[r.Name()]; t != nil && !sameImages(t, without(image, r.Image), r.Image) {
			f.differ("the events leave of %s\n  %s\nthe model has\n  %s", r.Name(), image, r.Image)
		}
	}
	for name := range stored {
		f.differ("the state has a row that the model does not have: %s", name)
	}
	for name, image := range f.images {
		if rows[name] == nil && image != nil && len(s.tables) > 0 && (len(image) == 0 || len(f.kept(image, f.tables[name])) > 0) {
			f.differ("the events leave a row that the model does not have: %s %s", name, image)
		}
	}
	f.compareSelected(rows, s)
	return nil
}

// kept is an image without the columns of a table that were dropped.
func (f *folding) kept(image foldmodel.Image, table schema.UUID) foldmodel.Image {
	dropped := f.dropped[table]
	if len(dropped) == 0 {
		return image
	}
	image = maps.Clone(image)
	maps.DeleteFunc(image, func(column, _ string) bool { return dropped[column] })
	return image
}

// compareStored holds a row of the state to that of the model, to the last cell.
func (f *folding) compareStored(model, stored *foldmodel.Row) {
	if stored == nil {
		f.differ("the state does not have a row that the model has: %s", model.Name())
		return
	}
	order := func(r *foldmodel.Row) []foldmodel.Cell {
		return slices.SortedFunc(slices.Values(r.Cells), func(a, b foldmodel.Cell) int {
			if a.Column != b.Column {
				return bytes.Compare([]byte(a.Column), []byte(b.Column))
			}
			return bytes.Compare(a.Path, b.Path)
		})
	}
	same := func(a, b foldmodel.Cell) bool {
		return a.Column == b.Column && bytes.Equal(a.Path, b.Path) && bytes.Equal(a.Value, b.Value) && a.Timestamp == b.Timestamp &&
			a.TTL == b.TTL && a.LocalTime == b.LocalTime
	}
	if !maps.Equal(model.Image, stored.Image) || !slices.EqualFunc(order(model), order(stored), same) || !sameLiveness(model.Liveness, stored.Liveness) {
		f.differ("the state has of %s\n  %s %+v %+v\nthe model has\n  %s %+v %+v", model.Name(), stored.Image, stored.Liveness, stored.Cells,
			model.Image, model.Liveness, model.Cells)
	}
}

func sameLiveness(a, b commitlog.Liveness) bool {
	return a.Timestamp == b.Timestamp && (a.Timestamp == commitlog.NoTimestamp || a == b)
}

// compareSelected holds rows to those that Cassandra answered.
func (f *folding) compareSelected(rows map[string]*foldmodel.Row, s *selection) {
	byForm := map[string]*foldmodel.Row{}
	for _, r := range rows {
		byForm[s.form(r.Table, r.Key, r.Static, r.Clustering)] = r
	}
	for form, found := range s.rows {
		f.Rows++
		r := byForm[form]
		delete(byForm, form)
		if s.uncaptured.has(found.table.FullName(), found.key) {
			f.Unknown++
			for _, wrong := range f.compareUnknown(r, found, s) {
				f.differ("%s %x %x: %s\n%s", found.table.FullName(), found.key, found.clustering, wrong,
					f.model.History(found.table.FullName(), found.key, found.static, found.clustering))
			}
			continue
		}
		if r == nil {
			f.differ("Cassandra has a row that the fold does not have: %s %x %x\n%s", found.table.FullName(), found.key, found.clustering,
				f.model.History(found.table.FullName(), found.key, found.static, found.clustering))
			continue
		}
		for _, wrong := range f.compareRow(r, found, s) {
			f.differ("%s: %s\n%s", r.Name(), wrong, f.model.History(r.Table, r.Key, r.Static, r.Clustering))
		}
	}
	for _, r := range byForm {
		if s.table(r.Table) != nil && !s.uncaptured.has(r.Table, r.Key) { // there it may have been deleted
			f.differ("the fold has a row that Cassandra does not have: %s %s\n%s", r.Name(), r.Image, f.model.History(r.Table, r.Key, r.Static, r.Clustering))
		}
	}
}

// compareUnknown holds a row, nil if there is none, of which not all was captured to what Cassandra answered: what is another
// cell there was written while cdc was off.
func (f *folding) compareUnknown(r *foldmodel.Row, found *selectedRow, s *selection) (wrong []string) {
	for _, column := range found.columns {
		known := map[int64]bool{}
		if r != nil {
			for _, c := range r.Cells {
				known[c.Timestamp] = known[c.Timestamp] || c.Column == column.Name
			}
		}
		for _, t := range found.times[column.Name] {
			if at := integer(t); !known[at] && !s.uncaptured.when.holds(at) {
				wrong = append(wrong, fmt.Sprintf("column %s: Cassandra has a cell that was written at %d, while cdc was on", column.Name, at))
			}
		}
	}
	return wrong
}

// compareRow holds a row to what Cassandra answered, and returns what is wrong.
func (f *folding) compareRow(r *foldmodel.Row, found *selectedRow, s *selection) (wrong []string) {
	for _, column := range found.columns {
		value, ok := r.Image[column.Name]
		switch {
		case ok != (found.values[column.Name] != nil):
			wrong = append(wrong, fmt.Sprintf("column %s is %x (%v), Cassandra has %x", column.Name, value, ok, found.values[column.Name]))
			continue
		case !ok:
			continue
		case !sameValue(column.Type, []byte(value), found.values[column.Name]):
			wrong = append(wrong, fmt.Sprintf("column %s is %x, Cassandra has %x", column.Name, value, found.values[column.Name]))
		}
		if !found.timed[column.Name] {
			continue
		}
		var cells []foldmodel.Cell
		for _, c := range r.Cells {
			if c.Column == column.Name {
				cells = append(cells, c)
			}
		}
		slices.SortFunc(cells, func(a, b foldmodel.Cell) int { return column.Type.ComparePaths(a.Path, b.Path) })
		times, ttls := found.times[column.Name], found.ttls[column.Name]
		if len(times) != len(cells) || len(ttls) != len(cells) {
			wrong = append(wrong, fmt.Sprintf("column %s has %d cells, Cassandra has %d write times and %d TTLs", column.Name, len(cells), len(times), len(ttls)))
			continue
		}
		for i, c := range cells {
			f.Cells++
			if at := integer(times[i]); times[i] == nil || at != c.Timestamp {
				wrong = append(wrong, fmt.Sprintf("column %s[%x] was written at %d, Cassandra has %d", column.Name, c.Path, c.Timestamp, at))
			}
			left := integer(ttls[i])
			first, last := s.began.Unix()+left, s.ended.Unix()+left
			if (ttls[i] != nil) != (c.TTL != 0) || c.TTL != 0 && (c.LocalTime < first || c.LocalTime > last) {
				wrong = append(wrong, fmt.Sprintf("column %s[%x] has TTL %d and expires at %d, Cassandra has %d left, which is from %d to %d",
					column.Name, c.Path, c.TTL, c.LocalTime, left, first, last))
			}
		}
	}
	return wrong
}

// sameValue reports whether two values are the same. A user type that has got a field shows it as null, or not at all.
func sameValue(t *schema.Type, a, b []byte) bool {
	if bytes.Equal(a, b) {
		return true
	}
	x, errX := t.AppendJSON(nil, a)
	y, errY := t.AppendJSON(nil, b)
	return errX == nil && errY == nil && bytes.Equal(x, y)
}

func integer(b []byte) int64 {
	switch len(b) {
	case 4:
		return int64(int32(binary.BigEndian.Uint32(b)))
	case 8:
		return int64(binary.BigEndian.Uint64(b))
	}
	return 0
}
