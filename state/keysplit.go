package state

import (
	"encoding/binary"
	"fmt"
)

// Key is a key taken apart, for people and for tests.
type Key struct {
	Group uint16
	Space Space

	// Of SpaceRows; also what a timer of SpaceTimer or SpacePurge is for. Table is that of SpaceJoined, too.
	Table      [16]byte
	Token      int64
	Partition  []byte // the canonical form
	Kind       Kind
	Clustering []byte // the canonical form; of a range tombstone, its bound

	Expiry int64    // of SpaceTimer and SpacePurge: its time, in seconds since 1970
	Hash   [16]byte // of SpaceSchema
	Host   [16]byte // of SpacePart
	Index  uint32   // of SpacePart
	Name   string   // of SpaceMeta
}

// SplitKey takes a key apart. It copies what it returns.
func SplitKey(key []byte) (Key, error) {
	if len(key) <= spaceAt {
		return Key{}, keyError(key, "expected a group and a space")
	}
	k := Key{Group: binary.BigEndian.Uint16(key), Space: Space(key[spaceAt])}
	rest := key[spaceAt+1:]
	ok := true
	switch k.Space {
	case SpaceMeta:
		k.Name = string(rest)
	case SpaceSchema:
		ok = copy(k.Hash[:], rest) == len(rest) && len(rest) == len(k.Hash)
	case SpaceJoined:
		ok = copy(k.Table[:], rest) == len(rest) && len(rest) == len(k.Table)
	case SpacePart:
		if ok = len(rest) == len(k.Host)+4; ok {
			k.Index = binary.BigEndian.Uint32(rest[copy(k.Host[:], rest):])
		}
	case SpaceTimer, SpacePurge:
		row, expiry, _ := TimerRow(nil, key)
		if ok = len(row) > spaceAt && Space(row[spaceAt]) == SpaceRows; ok {
			k.Expiry = expiry
			ok = k.splitRow(row)
		}
	case SpaceRows:
		ok = k.splitRow(key)
	default:
		return Key{}, keyError(key, "expected a known space, found %d", k.Space)
	}
	if !ok {
		return Key{}, keyError(key, "malformed in space %d", k.Space)
	}
	return k, nil
}

// splitRow takes a key of [SpaceRows] apart, and says whether it is well formed.
func (k *Key) splitRow(key []byte) bool {
	at, ok := kindAt(key)
	if !ok {
		return false
	}
	copy(k.Table[:], key[rowsAt:])
	k.Token = int64(binary.BigEndian.Uint64(key[tokenAt:]) ^ signBit)
	k.Partition = []byte{}
	escaped := key[partitionAt : at-2]
	for i := 0; i < len(escaped); i++ {
		k.Partition = append(k.Partition, escaped[i])
		if escaped[i] == 0 {
			if i++; i == len(escaped) || escaped[i] != escapedZero {
				return false
			}
		}
	}
	k.Kind = Kind(key[at])
	k.Clustering = append([]byte{}, key[at+1:]...)
	switch k.Kind {
	case KindHeader, KindStatic:
		return len(k.Clustering) == 0
	}
	return k.Kind <= KindRow
}

func keyError(key []byte, format string, args ...any) error {
	return fmt.Errorf("state: key %x: %s", key, fmt.Sprintf(format, args...))
}

func (k Key) String() string {
	row := func() string {
		name := [...]string{"header", "static", "range", "row"}[k.Kind&3]
		return fmt.Sprintf("%x/%d/%x/%s/%x", k.Table, k.Token, k.Partition, name, k.Clustering)
	}
	switch k.Space {
	case SpaceMeta:
		return fmt.Sprintf("%d/meta/%s", k.Group, k.Name)
	case SpaceSchema:
		return fmt.Sprintf("%d/schema/%x", k.Group, k.Hash)
	case SpaceJoined:
		return fmt.Sprintf("%d/joined/%x", k.Group, k.Table)
	case SpacePart:
		return fmt.Sprintf("%d/part/%x/%d", k.Group, k.Host, k.Index)
	case SpaceTimer:
		return fmt.Sprintf("%d/timer/%d/%s", k.Group, k.Expiry, row())
	case SpacePurge:
		return fmt.Sprintf("%d/purge/%d/%s", k.Group, k.Expiry, row())
	case SpaceRows:
		return fmt.Sprintf("%d/rows/%s", k.Group, row())
	}
	return fmt.Sprintf("%d/space %d", k.Group, k.Space)
}
