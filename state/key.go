package state

import "encoding/binary"

// Space is the second part of every key: what kind of thing the key names.
type Space uint8

// The spaces, in the order of their keys. Their values are part of the format.
const (
	SpaceMeta   Space = 1 // by name
	SpaceSchema Space = 2 // definitions, by hash
	SpaceJoined Space = 3 // joined schemas, by table
	SpacePart   Space = 4 // slices of records that are not complete yet, by host and index
	SpaceTimer  Space = 5 // by expiry, then by what expires
	SpaceRows   Space = 6 // what is known of a table's partitions
	SpacePurge  Space = 7 // by the time to look, then by what may have become void
)

// Kind is what a key of [SpaceRows] names within its partition.
type Kind uint8

// The kinds, in the order of their keys. Their values are part of the format.
const (
	KindHeader Kind = 0 // of the partition: one key
	KindStatic Kind = 1 // the static row: one key
	KindRange  Kind = 2 // a range tombstone, by one of its bounds
	KindRow    Kind = 3 // a row, by its clustering
)

// StoreGroup is the group of keys that belong to the store itself. No raw partition has this number.
const StoreGroup = 0xffff

const (
	groupLen = 2
	spaceAt  = groupLen
	// rowsAt is where the table's id starts in a key of [SpaceRows].
	rowsAt   = groupLen + 1
	tableLen = 16
	tokenAt  = rowsAt + tableLen
	// partitionAt is where the escaped partition key starts.
	partitionAt = tokenAt + 8
	// timerRowAt is where the rest of the row's key starts in a key of [SpaceTimer] or [SpacePurge].
	timerRowAt = groupLen + 1 + 8

	signBit = 1 << 63
)

// A zero byte within a partition key is followed by escapedZero, and the zero byte of the terminator by
// terminatorEnd, which is smaller: so a key sorts before those it is a prefix of.
const (
	terminatorEnd = 0x01
	escapedZero   = 0xff
)

func appendSpace(dst []byte, group uint16, space Space) []byte {
	return append(dst, byte(group>>8), byte(group), byte(space))
}

// Partition appends what all keys of a partition start with. Key is the canonical, order-preserving form of the
// partition key.
func Partition(dst []byte, group uint16, table [16]byte, token int64, key []byte) []byte {
	dst = appendSpace(dst, group, SpaceRows)
	dst = append(dst, table[:]...)
	dst = binary.BigEndian.AppendUint64(dst, uint64(token)^signBit)
	for _, c := range key {
		dst = append(dst, c)
		if c == 0 {
			dst = append(dst, escapedZero)
		}
	}
	return append(dst, 0, terminatorEnd)
}

// Header appends the key of a partition's header.
func Header(dst []byte, group uint16, table [16]byte, token int64, partition []byte) []byte {
	return append(Partition(dst, group, table, token, partition), byte(KindHeader))
}

// Static appends the key of a partition's static row.
func Static(dst []byte, group uint16, table [16]byte, token int64, partition []byte) []byte {
	return append(Partition(dst, group, table, token, partition), byte(KindStatic))
}

// Range appends the key of a range tombstone; bound is the canonical form of one of its bounds. Which one is the fold's
// choice: by their ends, those that are not before a clustering follow it in a scan.
func Range(dst []byte, group uint16, table [16]byte, token int64, partition, bound []byte) []byte {
	dst = append(Partition(dst, group, table, token, partition), byte(KindRange))
	return append(dst, bound...)
}

// Row appends the key of a row; clustering is the canonical form of its clustering, empty if the table has none.
func Row(dst []byte, group uint16, table [16]byte, token int64, partition, clustering []byte) []byte {
	dst = append(Partition(dst, group, table, token, partition), byte(KindRow))
	return append(dst, clustering...)
}

// Timer appends the key of the timer that fires for rowKey, a key of [SpaceRows] of the same group, when the time is
// past expiry, in seconds since 1970.
func Timer(dst []byte, group uint16, expiry int64, rowKey []byte) []byte {
	dst = appendSpace(dst, group, SpaceTimer)
	dst = binary.BigEndian.AppendUint64(dst, uint64(expiry)^signBit)
	return append(dst, rowKey[min(groupLen, len(rowKey)):]...)
}

// Purge appends the key of the reminder to look, when the time is past at, in seconds since 1970, whether key, one of
// [SpaceRows] of the same group, can go.
func Purge(dst []byte, group uint16, at int64, key []byte) []byte {
	dst = appendSpace(dst, group, SpacePurge)
	dst = binary.BigEndian.AppendUint64(dst, uint64(at)^signBit)
	return append(dst, key[min(groupLen, len(key)):]...)
}

// TimerRow takes the key of a timer of [SpaceTimer] or [SpacePurge] apart: it appends the key that it is for to dst. It
// returns false if key is not one of a timer.
func TimerRow(dst, key []byte) (rowKey []byte, at int64, ok bool) {
	if len(key) < timerRowAt || Space(key[spaceAt]) != SpaceTimer && Space(key[spaceAt]) != SpacePurge {
		return dst, 0, false
	}
	dst = append(dst, key[:groupLen]...)
	dst = append(dst, key[timerRowAt:]...)
	return dst, int64(binary.BigEndian.Uint64(key[spaceAt+1:]) ^ signBit), true
}

// Schema appends the key of the table definition with this hash.
func Schema(dst []byte, group uint16, hash [16]byte) []byte {
	return append(appendSpace(dst, group, SpaceSchema), hash[:]...)
}

// Joined appends the key of a table's joined schema.
func Joined(dst []byte, group uint16, table [16]byte) []byte {
	return append(appendSpace(dst, group, SpaceJoined), table[:]...)
}

// Part appends the key of the slice number index of the record that host is sending in parts.
func Part(dst []byte, group uint16, host [16]byte, index uint32) []byte {
	dst = append(appendSpace(dst, group, SpacePart), host[:]...)
	return binary.BigEndian.AppendUint32(dst, index)
}

// Meta appends the key of a value of its own, by name. The names "position" and "identity" are the store's.
func Meta(dst []byte, group uint16, name string) []byte {
	return append(appendSpace(dst, group, SpaceMeta), name...)
}

// KindOf returns the kind of a key of [SpaceRows]; false if key is not one.
func KindOf(key []byte) (Kind, bool) {
	at, ok := kindAt(key)
	if !ok {
		return 0, false
	}
	return Kind(key[at]), Kind(key[at]) <= KindRow
}

// Clustering returns the last part of a key of [SpaceRows]: the clustering of a row, the bound of a range tombstone.
// It is a slice of key; nil if key is of another space.
func Clustering(key []byte) []byte {
	at, ok := kindAt(key)
	if !ok {
		return nil
	}
	return key[at+1:]
}

// kindAt finds the byte behind the terminator of the partition key.
func kindAt(key []byte) (int, bool) {
	if len(key) <= partitionAt || Space(key[spaceAt]) != SpaceRows {
		return 0, false
	}
	for i := partitionAt; i+2 < len(key); i++ {
		if key[i] != 0 {
			continue
		}
		if i++; key[i] == terminatorEnd {
			return i + 1, true
		}
	}
	return 0, false
}
