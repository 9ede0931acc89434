package dedup

// Stats counts what a [Fold] did since it was made. Records that are folded again after a discarded transaction count
// again.
type Stats struct {
	// Creates, Updates and Deletes count events by kind; Unseen counts among Deletes the deletions of rows that did not exist for all
	// that was known, but may have been there before the capture, Expired the events of either kind that the end of a TTL made.
	Creates, Updates, Deletes, Unseen, Expired int64

	// Every data record that was folded is one of these four. Others are among Truncated, Dropped and Unsupported.

	// Changed records made events.
	Changed int64
	// Silent records altered the state but no row's live view: tombstones, mostly.
	Silent int64
	// Shadowed records altered nothing, because what was known is newer.
	Shadowed int64
	// Copies altered nothing, because all that they say was known.
	Copies int64

	// Truncated counts data records of which nothing counts because they are of before a truncation of their table, Dropped
	// those of tables that were dropped.
	Truncated, Dropped int64
	// RepeatedRemovals counts truncations and drops that their host had told before.
	RepeatedRemovals int64

	// Late counts cells and livenesses that were past their expiry when they came.
	Late int64
	// DroppedColumn counts cells of columns that were dropped since.
	DroppedColumn int64
	// RepeatedParts counts parts of records that were seen before.
	RepeatedParts int64
	// Unsupported counts the data records of tables that no events can be made of.
	Unsupported int64
	// UnsupportedTables are these tables, in the order in which they were met.
	UnsupportedTables []UnsupportedTable
}

// UnsupportedTable is a table of which no events can be made.
type UnsupportedTable struct {
	// Table is keyspace.table.
	Table string
	// Reason says why, see schema.Table.Unsupported.
	Reason string
	// Records is the number of its data records.
	Records int64
}
