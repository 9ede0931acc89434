package state

// Spans are what [Txn.Scan] takes: from <= key < to. Each function appends the two ends to two slices, which the caller
// may use again.

// PartitionSpan holds all keys of a partition.
func PartitionSpan(from, to []byte, group uint16, table [16]byte, token int64, partition []byte) (f, t []byte) {
	start := len(from)
	from = Partition(from, group, table, token, partition)
	return from, appendAfter(to, from[start:])
}

// RowsSpan holds the rows of a partition: not the static row.
func RowsSpan(from, to []byte, group uint16, table [16]byte, token int64, partition []byte) (f, t []byte) {
	return kindSpan(from, to, group, table, token, partition, KindRow)
}

// RangesSpan holds the range tombstones of a partition.
func RangesSpan(from, to []byte, group uint16, table [16]byte, token int64, partition []byte) (f, t []byte) {
	return kindSpan(from, to, group, table, token, partition, KindRange)
}

func kindSpan(from, to []byte, group uint16, table [16]byte, token int64, partition []byte, kind Kind) (f, t []byte) {
	start := len(from)
	from = append(Partition(from, group, table, token, partition), byte(kind))
	return from, appendAfter(to, from[start:])
}

// TableSpan holds the keys of all partitions of a table. Its timers and its schemas are not in it.
func TableSpan(from, to []byte, group uint16, table [16]byte) (f, t []byte) {
	start := len(from)
	from = append(appendSpace(from, group, SpaceRows), table[:]...)
	return from, appendAfter(to, from[start:])
}

// TimersSpan holds the timers with an expiry up to and with last, in seconds since 1970.
func TimersSpan(from, to []byte, group uint16, last int64) (f, t []byte) {
	start := len(to)
	to = Timer(to, group, last, nil)
	return appendSpace(from, group, SpaceTimer), successor(to, start)
}

// PurgesSpan holds the reminders of [SpacePurge] up to and with last, in seconds since 1970.
func PurgesSpan(from, to []byte, group uint16, last int64) (f, t []byte) {
	start := len(to)
	to = Purge(to, group, last, nil)
	return appendSpace(from, group, SpacePurge), successor(to, start)
}

// PartsSpan holds the slices of the record that host is sending.
func PartsSpan(from, to []byte, group uint16, host [16]byte) (f, t []byte) {
	start := len(from)
	from = append(appendSpace(from, group, SpacePart), host[:]...)
	return from, appendAfter(to, from[start:])
}

// SpaceSpan holds all keys of a space.
func SpaceSpan(from, to []byte, group uint16, space Space) (f, t []byte) {
	start := len(from)
	from = appendSpace(from, group, space)
	return from, appendAfter(to, from[start:])
}

// appendAfter appends the smallest key that is greater than all with this prefix.
func appendAfter(dst, prefix []byte) []byte {
	return successor(append(dst, prefix...), len(dst))
}

// successor makes the prefix at dst[start:] the smallest key greater than all with that prefix. There is one, since the
// space of a key is never 0xff.
func successor(dst []byte, start int) []byte {
	for i := len(dst) - 1; i >= start; i-- {
		if dst[i] != 0xff {
			dst[i]++
			return dst[:i+1]
		}
	}
	return dst
}
