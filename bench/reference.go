package bench

import (
	"encoding/binary"
	"hash/fnv"
)

// This file has the forms in which programs of any kind can be compared on these mutations: of a copy and of an event as
// bytes, and the sum of them. Integers are big-endian.
//
//	copy   i64 pk | i32 ck | u8 1 INSERT, 2 UPDATE | i64 write time | u8 replica | u8 mask | u8 0 |
//	       for each column of the mask: i64 write time, value
//	event  u8 1 create, 2 update, 3 delete | i64 pk | i32 ck | i64 write time | image before | image after
//	image  u8 1 if the row exists, else 0 and nothing more | u8 mask of the columns that have a value | values
//	value  of a text: u16 length, bytes; else 8 bytes
//
// The sum of a sequence is that of the FNV-1a hashes, 64 bits, of each, modulo 2^64: it does not depend on the order.

// Image is the values of a row's columns in CQL's binary form, nil is none. A nil image is no row.
type Image [][]byte

// Event is a change of a row.
type Event struct {
	PK            int64
	CK            int32
	Timestamp     int64 // the write time in microseconds
	Before, After Image
}

// FlinkPartitions is how many partitions the topics have that the Flink job reads and writes.
const FlinkPartitions = 8

// FlinkPartition is the partition that the copies and events of a row of the job are in.
func FlinkPartition(pk int64) int32 { return int32(mix64(uint64(pk)) >> 61) }

// AppendEvent appends the form of an event.
func AppendEvent(dst []byte, e *Event) []byte {
	op := byte(2)
	switch {
	case e.Before == nil:
		op = 1
	case e.After == nil:
		op = 3
	}
	dst = append(dst, op)
	dst = binary.BigEndian.AppendUint64(dst, uint64(e.PK))
	dst = binary.BigEndian.AppendUint32(dst, uint32(e.CK))
	dst = binary.BigEndian.AppendUint64(dst, uint64(e.Timestamp))
	return appendImage(appendImage(dst, e.Before), e.After)
}

func appendImage(dst []byte, image Image) []byte {
	if image == nil {
		return append(dst, 0)
	}
	mask := byte(0)
	for i, v := range image {
		if v != nil {
			mask |= 1 << i
		}
	}
	dst = append(dst, 1, mask)
	for i, v := range image {
		if v != nil {
			dst = appendValue(dst, i, v)
		}
	}
	return dst
}

// AppendCopy appends the form of a copy of a mutation.
func AppendCopy(dst []byte, m *Mutation, replica int) []byte {
	pk, ck := Key(m.Row)
	dst = binary.BigEndian.AppendUint64(dst, uint64(pk))
	dst = binary.BigEndian.AppendUint32(dst, uint32(ck))
	op := byte(2)
	if m.Insert {
		op = 1
	}
	dst = append(dst, op)
	dst = binary.BigEndian.AppendUint64(dst, uint64(m.Timestamp))
	dst = append(dst, byte(replica), byte(m.Mask), 0)
	for i := range Columns {
		if m.Mask>>i&1 == 1 {
			dst = appendValue(binary.BigEndian.AppendUint64(dst, uint64(m.Timestamp)), i, m.Values[i])
		}
	}
	return dst
}

func appendValue(dst []byte, column int, v []byte) []byte {
	if column < textColumns {
		dst = binary.BigEndian.AppendUint16(dst, uint16(len(v)))
	}
	return append(dst, v...)
}

// Sum is the sum of a sequence of forms.
type Sum struct {
	N, Bytes int
	Sum      uint64
}

// Add adds a form.
func (s *Sum) Add(form []byte) {
	h := fnv.New64a()
	h.Write(form)
	s.N, s.Bytes, s.Sum = s.N+1, s.Bytes+len(form), s.Sum+h.Sum64()
}
