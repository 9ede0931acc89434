package dedup

import (
	"encoding/binary"
	"fmt"

	"cassdelta/schema"
)

// The value of a parked event holds all that an [Event] says, the definition of its table included, so that nothing else
// is needed to write it to its clean topic later:
//
//	format u8 (1) | definition | cluster | op u8 | reason | flags u8 | key | partition | clustering | before | after |
//	changed | timestamp | origin: host 16 bytes, segment, offset, update | raw partition | raw offset | index
//
// Numbers are varints. Bytes are a length (uvarint) and the bytes. A list is 0 if it is nil, or else 1 + its length (uvarint)
// and its values: each 0 if it is nil, or else 1 + its length and the bytes.

const parkedFormat = 1

// Flags of a parked event.
const (
	parkedComplete = 1 << iota
	parkedStatic
)

func appendParkedEvent(dst []byte, e *Event) []byte {
	dst = append(dst, parkedFormat)
	dst = appendText(dst, e.Table.Definition())
	dst = appendText(dst, e.Cluster)
	dst = append(dst, byte(e.Op))
	dst = appendText(dst, string(e.Reason))
	var flags byte
	if e.Complete {
		flags |= parkedComplete
	}
	if e.Static {
		flags |= parkedStatic
	}
	dst = append(dst, flags)
	dst = appendText(dst, e.Key)
	for _, list := range [][][]byte{e.Partition, e.Clustering, e.Before, e.After} {
		dst = appendList(dst, list)
	}
	dst = binary.AppendUvarint(dst, uint64(len(e.Changed)))
	for _, i := range e.Changed {
		dst = binary.AppendUvarint(dst, uint64(i))
	}
	dst = binary.AppendVarint(dst, e.Timestamp)
	dst = append(dst, e.Origin.Host[:]...)
	dst = binary.AppendVarint(dst, e.Origin.Position.Segment)
	dst = binary.AppendVarint(dst, e.Origin.Position.Offset)
	dst = binary.AppendVarint(dst, int64(e.Origin.Update))
	dst = binary.AppendVarint(dst, int64(e.RawPartition))
	dst = binary.AppendVarint(dst, e.RawOffset)
	return binary.AppendVarint(dst, e.Index)
}

func appendText[T string | []byte](dst []byte, text T) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(text))), text...)
}

func appendList(dst []byte, list [][]byte) []byte {
	if list == nil {
		return append(dst, 0)
	}
	dst = binary.AppendUvarint(dst, uint64(len(list))+1)
	for _, v := range list {
		if v == nil {
			dst = append(dst, 0)
			continue
		}
		dst = append(binary.AppendUvarint(dst, uint64(len(v))+1), v...)
	}
	return dst
}

// parkedDecoder decodes parked events. It makes each definition once.
type parkedDecoder struct{ tables map[string]*schema.Table }

// maxParkedTables bounds the definitions that a decoder keeps.
const maxParkedTables = 1 << 10

// decode makes e the event of a value, which e points into.
func (d *parkedDecoder) decode(value []byte, e *Event) error {
	in := decoder{b: value}
	in.format(parkedFormat)
	definition := in.text("definition")
	*e = Event{Cluster: string(in.text("cluster")), Op: Op(in.byte("op")), Reason: Reason(in.text("reason"))}
	flags := in.byte("flags")
	e.Complete, e.Static = flags&parkedComplete != 0, flags&parkedStatic != 0
	e.Key = in.text("key")
	for _, list := range []*[][]byte{&e.Partition, &e.Clustering, &e.Before, &e.After} {
		*list = in.list("values")
	}
	n := in.uvarint("changed")
	if n > uint64(len(in.b)) {
		in.fail("changed: expected as many columns as there are bytes at most")
		n = 0
	}
	for range n {
		e.Changed = append(e.Changed, int(in.uvarint("changed")))
	}
	e.Timestamp = in.varint("timestamp")
	copy(e.Origin.Host[:], in.bytes(uint64(len(e.Origin.Host)), "host"))
	e.Origin.Position.Segment = in.varint("segment")
	e.Origin.Position.Offset = in.varint("offset")
	e.Origin.Update = int32(in.varint("update"))
	e.RawPartition = int32(in.varint("raw partition"))
	e.RawOffset = in.varint("raw offset")
	e.Index = in.varint("index")
	if err := in.end("parked event"); err != nil {
		return err
	}
	var err error
	if e.Table, err = d.table(definition); err != nil {
		return err
	}
	return fits(e)
}

// fits checks what an emitter takes for granted.
func fits(e *Event) error {
	columns := len(e.Table.Columns)
	if e.Before != nil && len(e.Before) != columns || e.After != nil && len(e.After) != columns {
		return fmt.Errorf("stored parked event: expected images of %d columns, found %d and %d", columns, len(e.Before), len(e.After))
	}
	if n := len(e.Table.PartitionKeyColumns()); len(e.Partition) != n {
		return fmt.Errorf("stored parked event: expected a partition key of %d columns, found %d", n, len(e.Partition))
	}
	if n := len(e.Table.ClusteringColumns()); !e.Static && len(e.Clustering) != n {
		return fmt.Errorf("stored parked event: expected a clustering of %d columns, found %d", n, len(e.Clustering))
	}
	for _, i := range e.Changed {
		if i < 0 || i >= columns {
			return fmt.Errorf("stored parked event: expected columns below %d, found %d", columns, i)
		}
	}
	return nil
}

func (d *parkedDecoder) table(definition []byte) (*schema.Table, error) {
	if t := d.tables[string(definition)]; t != nil {
		return t, nil
	}
	t, err := schema.ParseDefinition(definition)
	if err != nil {
		return nil, err
	}
	if d.tables == nil || len(d.tables) >= maxParkedTables {
		d.tables = map[string]*schema.Table{}
	}
	d.tables[string(definition)] = t
	return t, nil
}

func (in *decoder) text(field string) []byte { return in.bytes(in.uvarint(field), field) }

func (in *decoder) list(field string) [][]byte {
	n := in.uvarint(field)
	if n == 0 || in.err != nil {
		return nil
	}
	if n-1 > uint64(len(in.b)) {
		in.fail(field + ": expected as many values as there are bytes at most")
		return nil
	}
	list := make([][]byte, 0, n-1)
	for range n - 1 {
		list = append(list, in.nullable(field))
	}
	return list
}
