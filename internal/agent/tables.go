package agent

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"cassdelta/commitlog"
	"cassdelta/schema"
)

// schemaBounds bounds what is waited for when the schema has to be read again.
type schemaBounds struct {
	// read is the most time that one reading takes.
	read time.Duration
	// backoff is the time before the second reading; it doubles from one to the next, up to 8 s.
	backoff time.Duration
	// slack is how long the log may take to show what CQL does: the time from one sync to the next, and some more. look is the
	// time from one look for changes to the next when the log has nothing new.
	slack, look time.Duration
	// patience is how long readings that fail are repeated before the log is read on with what is known, and how long
	// what was not found is taken for unknown without another reading.
	patience time.Duration
}

// lookups is the number of readings that must agree that a table or column is unknown: a contact point can be behind
// the node whose log this is.
const lookups = 3

// maxUnknown bounds what is remembered about unknown tables and columns.
const maxUnknown = 1024

// tables is the schema as the agent knows it. It is for the reader's goroutine.
//
// It is read again
//
//   - before the first mutation behind those of system_schema: every DDL writes such to the log of every node, ahead of
//     what is written by the new definition;
//   - at the start of each segment, since Cassandra does not hand over segments without CDC data, and a DDL may have
//     been in one of those;
//   - when a mutation names a table or a column that is unknown.
//
// A table that is not there any more stays known: its changes may still be ahead in the log.
type tables struct {
	source  Source
	static  bool
	bounds  schemaBounds
	metrics *metrics
	log     *zap.Logger

	host    schema.UUID
	history *history
	// born has the tables whose creation was read in the log, and that are not in the history yet; uncaptured those that the
	// log had with cdc = false, as far as they are remembered.
	born, uncaptured map[schema.UUID]bool
	unseen           unseen

	catalog *schema.Catalog
	decoder *commitlog.Decoder
	// system decodes mutations of Cassandra's own tables.
	system *commitlog.Decoder
	// captured has the keyspaces with a table that has cdc = true. All updates of a mutation are of one keyspace.
	captured map[string]bool
	infos    map[schema.UUID]*tableInfo
	// complained has the tables about which the log has a line.
	complained map[string]bool

	// stale says that the schema may have changed, changed that the log says so.
	stale, changed bool
	// failing says that the last reading failed, notBefore when the next one is worth it.
	failing   bool
	notBefore time.Time
	// unknown has what was not found, and until when it is not looked for again.
	unknown map[string]time.Time
	// counters count the mutations with a table that is unknown, by its id.
	counters map[schema.UUID]prometheus.Counter
}

// tableInfo is what the agent keeps about a table with cdc = true.
type tableInfo struct {
	unsupported string
	published   prometheus.Counter
	left        prometheus.Counter // updates left out
}

func newTables(source Source, static bool, host schema.UUID, h *history, bounds schemaBounds, m *metrics, log *zap.Logger) *tables {
	return &tables{
		source: source, static: static, bounds: bounds, metrics: m, log: log,
		host: host, history: h, born: map[schema.UUID]bool{}, uncaptured: map[schema.UUID]bool{}, unseen: newUnseen(),
		complained: map[string]bool{}, unknown: map[string]time.Time{}, counters: map[schema.UUID]prometheus.Counter{},
	}
}

// refresh reads the schema once; changed is false if nothing is new.
func (t *tables) refresh(ctx context.Context) (changed bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, t.bounds.read)
	defer cancel()
	at := time.Now()
	fresh, err := t.source.Read(ctx)
	if err != nil {
		t.metrics.schemaFailures.Inc()
		return false, err
	}
	if err := t.readTruncations(ctx, at); err != nil {
		t.metrics.schemaFailures.Inc()
		return false, err
	}
	t.stale, t.changed, t.failing = false, false, false
	first := t.catalog == nil
	if first {
		t.catalog = schema.NewCatalog(t.history.tables())
	}
	held, err := t.hold(fresh, at)
	if err != nil {
		return false, err
	}
	merged, changed := merge(t.catalog, held)
	if !changed && !first {
		return false, nil
	}
	t.use(merged)
	return true, nil
}

// hold is the schema with tables kept captured whose cdc was set to false further on in the log. It takes note of what the
// log has not shown yet.
func (t *tables) hold(fresh *schema.Catalog, at time.Time) (*schema.Catalog, error) {
	if t.static {
		return fresh, nil
	}
	held := false
	all := fresh.Tables()
	for _, id := range t.history.order {
		k := t.history.known[id]
		table := fresh.ByID(id)
		if table != nil {
			delete(t.unseen.gone, id)
		}
		switch {
		case k.dropped:
		case table == nil:
			if _, ok := t.unseen.gone[id]; !ok {
				t.unseen.gone[id] = at
			}
		case table.CDC:
			if k.offShown { // and the log may never show it
				k.offShown, k.missing, t.history.dirty = false, true, true
			}
			k.off = false
			delete(t.unseen.off, id)
		case !k.off:
			if !k.offShown {
				k.offShown, t.history.dirty = true, true
			}
			if _, ok := t.unseen.off[id]; !ok {
				t.unseen.off[id] = at
			}
			spec := *table
			spec.CDC, spec.AlteredAt = true, k.table.AlteredAt
			on, err := schema.NewTable(spec)
			if err != nil {
				return nil, err
			}
			if !held {
				held, all = true, append([]*schema.Table(nil), all...)
			}
			all = append(all, on)
		}
	}
	if !held {
		return fresh, nil
	}
	return schema.NewCatalog(all), nil
}

// readTruncations takes note of the node's truncations that the log has not shown yet. Those of before the agent's time
// are none of its business.
func (t *tables) readTruncations(ctx context.Context, at time.Time) error {
	source, ok := t.source.(truncatedSource)
	if !ok || t.static {
		return nil
	}
	found, err := source.Truncated(ctx, t.host)
	if err != nil {
		return err
	}
	for id, value := range found {
		k := t.history.known[id]
		truncation, err := commitlog.ParseTruncation(value)
		if err != nil || k == nil || truncation.Time < t.history.since || truncation.Position.Compare(k.truncated) <= 0 {
			continue
		}
		if t.unseen.truncated[id] != truncation {
			t.unseen.truncated[id], t.unseen.at[id] = truncation, at
		}
	}
	return nil
}

// release takes a table, with this definition, out of those that are captured.
func (t *tables) release(table *schema.Table) {
	t.use(schema.NewCatalog(append(append([]*schema.Table(nil), t.catalog.Tables()...), table)))
}

// use makes a catalog the one that is known.
func (t *tables) use(merged *schema.Catalog) {
	t.catalog = merged
	t.decoder = commitlog.NewDecoder(merged, func(table *schema.Table) bool { return table.CDC })
	t.system = commitlog.NewDecoder(merged, wantedOfSystem)
	t.captured, t.infos = map[string]bool{}, map[schema.UUID]*tableInfo{}
	for _, table := range merged.Tables() {
		t.noteTable(table)
		if !table.CDC {
			continue
		}
		t.captured[table.Keyspace] = true
		info := &tableInfo{unsupported: table.Unsupported(), published: t.metrics.updates.WithLabelValues(table.FullName())}
		if info.unsupported != "" {
			info.left = t.metrics.unsupported.WithLabelValues(table.FullName())
			if t.complain(table.ID.String() + info.unsupported) {
				t.log.Error("changes of this table are not published: "+info.unsupported, zap.String("table", table.FullName()))
			}
		}
		t.infos[table.ID] = info
	}
}

// noteTable puts a captured table into the history.
func (t *tables) noteTable(table *schema.Table) {
	if !table.CDC && t.history.known[table.ID] == nil {
		return
	}
	t.history.note(table)
	if t.born[table.ID] {
		delete(t.born, table.ID)
		k := t.history.known[table.ID]
		k.created, t.history.dirty = true, true
	}
	if t.uncaptured[table.ID] {
		delete(t.uncaptured, table.ID)
		k := t.history.known[table.ID]
		k.missing, t.history.dirty = true, true
	}
}

// merge puts what is new over what is known; changed is false if there is no difference.
func merge(known, fresh *schema.Catalog) (merged *schema.Catalog, changed bool) {
	if known == nil {
		return fresh, true
	}
	for _, table := range fresh.Tables() {
		k := known.ByID(table.ID)
		if k == nil || k.Hash() != table.Hash() || k.AlteredAt != table.AlteredAt {
			changed = true
		}
	}
	if !changed {
		return known, false
	}
	all := append([]*schema.Table(nil), known.Tables()...)
	return schema.NewCatalog(append(all, fresh.Tables()...)), true
}

// check warns if there is nothing to publish.
func (t *tables) check() {
	if len(t.captured) > 0 {
		return
	}
	t.log.Warn("no table has cdc = true, so there is nothing to publish yet: ALTER TABLE ... WITH cdc = true")
}

// complain reports whether the log should have a line about something: once, and for so many things only.
func (t *tables) complain(about string) bool {
	if t.complained[about] || len(t.complained) >= maxUnknown {
		return false
	}
	t.complained[about] = true
	return true
}

// isDDL reports whether a mutation that begins with this table changes the schema, and takes note of it.
func (t *tables) isDDL(id schema.UUID) bool {
	table := t.catalog.ByID(id)
	if table == nil || table.Keyspace != "system_schema" {
		return false
	}
	t.stale, t.changed = true, true
	return true
}

// passes reports whether a mutation that begins with this table can be passed over without decoding it.
func (t *tables) passes(id schema.UUID) bool {
	table := t.catalog.ByID(id)
	return table != nil && !t.captured[table.Keyspace]
}

// expire says that the schema may have changed.
func (t *tables) expire() { t.stale = true }

// freshen reads the schema again if it may have changed. Where that fails, and the log says that it did change, the
// reading is repeated for a while. An error is that of ctx.
func (t *tables) freshen(ctx context.Context) error {
	if !t.stale || t.static {
		return nil
	}
	if !t.changed && t.failing && time.Now().Before(t.notBefore) {
		return nil
	}
	deadline := time.Now().Add(t.bounds.patience)
	for wait := t.bounds.backoff; ; wait = min(2*wait, 8*time.Second) {
		_, err := t.refresh(ctx)
		if err == nil || ctx.Err() != nil {
			return context.Cause(ctx)
		}
		t.failed(err)
		if !t.changed {
			return nil
		}
		if time.Now().After(deadline) {
			t.changed = false
			t.log.Error("the schema has changed and cannot be read; reading on, and changes of tables that have just got cdc = true are missed", zap.Error(err))
			return nil
		}
		if err := pause(ctx, wait); err != nil {
			return err
		}
	}
}

// failed takes note of a reading that failed, and logs the first of several.
func (t *tables) failed(err error) {
	if !t.failing {
		t.log.Warn("the schema cannot be read; the definitions known are used as long as nothing else is needed", zap.Error(err))
	}
	t.failing, t.notBefore = true, time.Now().Add(t.bounds.patience/6)
}

// learn reads the schema again until found, or until it is certain enough that there is nothing to find. about names
// what is looked for. The error is that of ctx.
func (t *tables) learn(ctx context.Context, about string, found func() bool) (bool, error) {
	if t.static {
		return false, nil
	}
	if until, ok := t.unknown[about]; ok && time.Now().Before(until) {
		return false, nil
	}
	deadline := time.Now().Add(t.bounds.patience)
	wait := t.bounds.backoff
	for answers := 0; answers < lookups; wait = min(2*wait, 8*time.Second) {
		if _, err := t.refresh(ctx); err == nil {
			answers++
		} else if ctx.Err() != nil {
			return false, context.Cause(ctx)
		} else if t.failed(err); time.Now().After(deadline) {
			break
		}
		if found() {
			delete(t.unknown, about)
			return true, nil
		}
		if answers < lookups {
			if err := pause(ctx, wait); err != nil {
				return false, err
			}
		}
	}
	if len(t.unknown) >= maxUnknown {
		clear(t.unknown)
	}
	t.unknown[about] = time.Now().Add(t.bounds.patience)
	return false, nil
}

// decode decodes a payload, and reads the schema again where it names something unknown. The error is that of the
// decoder, or that of ctx.
func (t *tables) decode(ctx context.Context, v commitlog.Version, payload []byte, pos commitlog.Position, m *commitlog.Mutation) error {
	for {
		err := t.decoder.Decode(v, payload, pos, m)
		var table *commitlog.UnknownTableError
		var column *commitlog.UnknownColumnError
		var learned bool
		var stop error
		switch {
		case err == nil:
			return nil
		case errors.As(err, &table):
			learned, stop = t.learn(ctx, table.ID.String(), func() bool { return t.catalog.ByID(table.ID) != nil })
		case errors.As(err, &column):
			learned, stop = t.learn(ctx, fmt.Sprintf("%s.%s", column.Table, column.Column), func() bool { return t.hasColumn(column) })
		}
		if stop != nil {
			return stop
		}
		if !learned {
			return err
		}
		// Each turn knows one table or column more that the payload names.
	}
}

// countUnknown counts a mutation with a table that is unknown.
func (t *tables) countUnknown(id schema.UUID) {
	c := t.counters[id]
	switch {
	case c != nil:
	case len(t.counters) < maxUnknown:
		c = t.metrics.unknown.WithLabelValues(id.String())
		t.counters[id] = c
	default:
		c = t.metrics.unknown.WithLabelValues("other")
	}
	c.Inc()
}

func (t *tables) hasColumn(e *commitlog.UnknownColumnError) bool {
	keyspace, name, _ := strings.Cut(e.Table, ".")
	for _, table := range t.catalog.Tables() {
		if table.Keyspace != keyspace || table.Name != name {
			continue
		}
		_, live := table.ColumnIndex(e.Column)
		_, dropped := table.DroppedIndex(e.Column)
		if live || dropped {
			return true
		}
	}
	return false
}

// pause waits; its error is that of ctx.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return nil
	}
}
