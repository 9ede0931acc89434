package dedup

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"sort"

	"cassdelta/commitlog"
	"cassdelta/state"
)

// This file keeps the deletions of partitions and of ranges, of tables with clustering.
//
// The header of a partition is there once it was deleted or a range of it was:
//
//	format    1 byte: 1
//	flags     1 byte: 0x01 a deletion of the partition follows, 0x02 there are range tombstones
//	deletion  varint, time stamp in microseconds; varint, local deletion time in seconds
//
// The range tombstones of a partition do not overlap, and of two that adjoin the deletions differ. A range is the
// clusterings whose comparable form is at or after its start and before its end. Its key ends with the *end*: so the
// one range that can hold a clustering is the first one behind it. Its value is
//
//	format    1 byte: 1
//	deletion  varint, time stamp; varint, local deletion time
//	start     the rest

const (
	headerFormat   = 1
	headerDeletion = 0x01
	headerRanges   = 0x02
	rangeFormat    = 1
)

// header is what is deleted of a partition.
type header struct {
	deletion commitlog.Deletion
	ranges   bool
}

func appendHeader(dst []byte, h *header) []byte {
	var flags byte
	if !h.deletion.IsLive() {
		flags |= headerDeletion
	}
	if h.ranges {
		flags |= headerRanges
	}
	dst = append(dst, headerFormat, flags)
	if !h.deletion.IsLive() {
		dst = appendDeletion(dst, h.deletion)
	}
	return dst
}

func decodeHeader(value []byte) (header, error) {
	h := header{deletion: commitlog.LiveDeletion}
	in := decoder{b: value}
	in.format(headerFormat)
	flags := in.byte("flags")
	if flags&^(headerDeletion|headerRanges) != 0 {
		in.fail(fmt.Sprintf("flags: found %#02x", flags))
	}
	h.ranges = flags&headerRanges != 0
	if flags&headerDeletion != 0 {
		h.deletion = in.deletion()
	}
	return h, in.end("partition header")
}

func appendDeletion(dst []byte, d commitlog.Deletion) []byte {
	return binary.AppendVarint(binary.AppendVarint(dst, d.Timestamp), d.LocalTime)
}

func (in *decoder) deletion() commitlog.Deletion {
	return commitlog.Deletion{Timestamp: in.varint("deletion"), LocalTime: in.varint("deletion")}
}

func appendRange(dst []byte, d commitlog.Deletion, start []byte) []byte {
	return append(appendDeletion(append(dst, rangeFormat), d), start...)
}

// decodeRange returns a start that points into value.
func decodeRange(value []byte) (d commitlog.Deletion, start []byte, err error) {
	in := decoder{b: value}
	in.format(rangeFormat)
	d = in.deletion()
	start, in.b = in.b, nil
	return d, start, in.end("range tombstone")
}

// readHeader makes work.header that of the partition.
func (f *Fold) readHeader() error {
	w := &f.work
	w.header = header{deletion: commitlog.LiveDeletion}
	if !w.table.headers {
		return nil
	}
	w.key1 = append(append(w.key1[:0], w.prefix...), byte(state.KindHeader))
	value, err := f.call.tx.Get(w.key1)
	if value == nil || err != nil {
		return err
	}
	if w.header, err = decodeHeader(value); err != nil {
		return f.stored(w.key1, err)
	}
	if w.absent(w.header.deletion) {
		w.header.deletion = commitlog.LiveDeletion
	}
	return nil
}

// rangeOver returns the deletion of the stored range tombstone over a clustering.
func (f *Fold) rangeOver(clustering []byte) (commitlog.Deletion, error) {
	w := &f.work
	found := commitlog.LiveDeletion
	if !w.header.ranges {
		return found, nil
	}
	// The smallest end after the clustering.
	w.from = append(append(append(append(w.from[:0], w.prefix...), byte(state.KindRange)), clustering...), 0)
	w.to = append(append(w.to[:0], w.prefix...), byte(state.KindRange)+1)
	err := f.call.tx.Scan(w.from, w.to, func(key, value []byte) (bool, error) {
		d, start, err := decodeRange(value)
		if err != nil {
			return false, f.stored(key, err)
		}
		if bytes.Compare(start, clustering) <= 0 && !w.absent(d) {
			found = d
		}
		return false, nil
	})
	return found, err
}

// rangeOver returns the deletion of the record's range over a clustering.
func (w *work) rangeOver(clustering []byte) commitlog.Deletion {
	i := sort.Search(len(w.ranges), func(i int) bool { return bytes.Compare(w.bytes(w.ranges[i].to), clustering) > 0 })
	if i < len(w.ranges) && bytes.Compare(w.bytes(w.ranges[i].from), clustering) <= 0 {
		return w.ranges[i].deletion
	}
	return commitlog.LiveDeletion
}
