package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"cassdelta/commitlog"
	"cassdelta/schema"
)

// history is what an agent knows of the tables that have or had cdc = true, beyond what the schema of the moment says.
// It is the file tables.json in the state directory, replaced as a whole:
//
//	version   1
//	host_id   the node's host id
//	since     since when all that the node writes to captured tables is read, in microseconds since 1970
//	tables    of each table: its last definition with the time of the DDL, whether its creation was captured and nothing is
//	          missing since, whether cdc is off, or was by CQL alone, or it was dropped, and where its last truncation is
//
// With it an agent that was away decodes what was written to a table that was dropped meanwhile, and tells of the drop at
// its place in the log.
type history struct {
	dir   string
	host  schema.UUID
	since int64
	// fresh says that there was no file.
	fresh bool
	dirty bool
	known map[schema.UUID]*knownTable
	order []schema.UUID // in which they became known
}

// knownTable is what is known of a table.
type knownTable struct {
	table *schema.Table
	// created: all that the node ever wrote to it is read; missing: it is known that this is not so.
	created, missing bool
	// off: cdc was set to false, at the place in the log that was read; dropped likewise.
	off, dropped bool
	// offShown: CQL has shown cdc = false, and neither the log nor a later look has shown what became of it.
	offShown  bool
	truncated commitlog.Position
}

const (
	historyFile    = "tables.json"
	historyVersion = 1
	// keptTables bounds how many tables are remembered that were dropped.
	keptTables = 1024
)

type historyText struct {
	Version int         `json:"version"`
	HostID  string      `json:"host_id"`
	Since   int64       `json:"since"`
	Tables  []knownText `json:"tables"`
}

type knownText struct {
	Definition string `json:"definition"`
	AlteredAt  int64  `json:"altered_at"`
	Created    bool   `json:"created,omitempty"`
	Missing    bool   `json:"missing,omitempty"`
	Off        bool   `json:"off,omitempty"`
	OffShown   bool   `json:"off_shown,omitempty"`
	Dropped    bool   `json:"dropped,omitempty"`
	Segment    int64  `json:"truncated_segment,omitempty"`
	Offset     int64  `json:"truncated_offset,omitempty"`
}

// openHistory reads the file; one that is not there begins now.
func openHistory(dir string, host schema.UUID) (*history, error) {
	h := &history{dir: dir, host: host, known: map[schema.UUID]*knownTable{}}
	path := filepath.Join(dir, historyFile)
	text, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		h.since, h.fresh, h.dirty = time.Now().UnixMicro(), true, true
		return h, nil
	}
	const again = "; restore it, or remove it: then the past of all tables counts as unknown"
	if err != nil {
		return nil, fmt.Errorf("table file: %w", err)
	}
	var all historyText
	if err := json.Unmarshal(text, &all); err != nil {
		return nil, fmt.Errorf("%s is not a table file (%w)%s", path, err, again)
	}
	if all.Version != historyVersion || all.HostID != host.String() {
		return nil, fmt.Errorf("%s: expected version %d of the node with host id %s, found version %d of %s%s",
			path, historyVersion, host, all.Version, all.HostID, again)
	}
	h.since = all.Since
	for _, k := range all.Tables {
		table, err := schema.ParseDefinition([]byte(k.Definition))
		if err != nil {
			return nil, fmt.Errorf("%s: %w%s", path, err, again)
		}
		table.AlteredAt = k.AlteredAt
		h.add(&knownTable{table: table, created: k.Created, missing: k.Missing, off: k.Off, offShown: k.OffShown, dropped: k.Dropped,
			truncated: commitlog.Position{Segment: k.Segment, Offset: k.Offset}})
	}
	return h, nil
}

// store replaces the file if something has changed.
func (h *history) store() error {
	if !h.dirty {
		return nil
	}
	all := historyText{Version: historyVersion, HostID: h.host.String(), Since: h.since}
	for _, id := range h.order {
		k := h.known[id]
		all.Tables = append(all.Tables, knownText{Definition: string(k.table.Definition()), AlteredAt: k.table.AlteredAt,
			Created: k.created, Missing: k.missing, Off: k.off, OffShown: k.offShown, Dropped: k.dropped, Segment: k.truncated.Segment, Offset: k.truncated.Offset})
	}
	text, err := json.MarshalIndent(all, "", " ")
	if err != nil {
		return fmt.Errorf("table file: %w", err)
	}
	if err := replaceFile(filepath.Join(h.dir, historyFile), append(text, '\n')); err != nil {
		return fmt.Errorf("table file: %w; the agent needs a state-directory that it can write to", err)
	}
	h.dirty = false
	return nil
}

func (h *history) add(k *knownTable) {
	h.known[k.table.ID] = k
	h.order = append(h.order, k.table.ID)
	for i := 0; len(h.order) > keptTables && i < len(h.order); i++ {
		if id := h.order[i]; h.known[id].dropped {
			delete(h.known, id)
			h.order = append(h.order[:i], h.order[i+1:]...)
			i--
		}
	}
}

// tables are the tables that are known.
func (h *history) tables() (all []*schema.Table) {
	for _, id := range h.order {
		all = append(all, h.known[id].table)
	}
	return all
}

// clockSkew bounds how far the clocks of the nodes and of the agents are apart, and how long the execution of a DDL takes.
const clockSkew = 60_000_000

// creationTime bounds how long after it gave a table its id a node writes the creation: it does both in one step, by one clock.
// Source: DefaultSchemaUpdateHandler.apply of 4.1 and 5.0; 4.0 takes the time first, and has the id when its turn comes.
const creationTime = 1_000_000

// near reports whether a DDL of a time can be the one that created a table with that time in its id, rather than a later one.
func near(written, born int64) bool { return written > born-clockSkew && written < born+creationTime }

// definedAt is the time of the table's definition, as far as it is known, in microseconds.
func (k *knownTable) definedAt() int64 {
	born, _ := k.table.ID.Time()
	return max(born, k.table.AlteredAt)
}

// note takes note of a definition of a captured table.
func (h *history) note(t *schema.Table) {
	k := h.known[t.ID]
	defer func() {
		// What is written to it meanwhile is left out.
		if t.Unsupported() != "" && !k.missing {
			k.missing, h.dirty = true, true
		}
	}()
	if k == nil {
		k = &knownTable{table: t}
		// It was not there when the agent began, and has not been altered since: so its creation was captured.
		if born, ok := t.ID.Time(); ok && t.CDC && near(t.AlteredAt, born) && born > h.since+clockSkew {
			k.created = true
		}
		h.add(k)
		h.dirty = true
		return
	}
	if k.table.Hash() != t.Hash() || k.table.AlteredAt != t.AlteredAt {
		k.dropped = k.dropped && t.AlteredAt <= k.table.AlteredAt // or it was created again with the same id
		k.table, h.dirty = t, true
	}
}

// complete reports whether all that the node ever wrote to a table is read.
func (h *history) complete(id schema.UUID) bool {
	k := h.known[id]
	return k != nil && k.created && !k.missing
}
