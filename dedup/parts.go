package dedup

import (
	"encoding/binary"
	"fmt"
	"math"

	"cassdelta/internal/rawtopic"
	"cassdelta/state"
)

// A record that comes in parts is folded when its last part comes, as the record at that part's offset. Until then its
// parts are kept in the state, by the host that sends them and their index. The assembly of a host is the value of its
// own "parts/" and the host id:
//
//	format    1 byte: 1
//	origin    16 bytes host; varints segment, position, update
//	count     uvarint, the number of parts
//	next      uvarint, the index of the part expected; count if the record is complete
//	bytes     uvarint, the length of the parts that are stored
//
// The parts stored are those before next, and none if the record is complete.

const assemblyFormat = 1

// maxAssembled is the greatest length in bytes of a record in parts. Cassandra takes no mutation larger than half a
// segment, 16 MiB unless told otherwise.
const maxAssembled = 256 << 20

// parts is the record that is put together, while it is folded: it points into whole and into the decoder.
type parts struct {
	decoder rawtopic.Decoder
	record  rawtopic.Record
	whole   []byte
}

// assembly is the assembly of a host's parts, with the length of those stored.
type assembly struct {
	rawtopic.Assembly
	bytes uint64
}

// stored is the number of parts in the state.
func (a *assembly) stored() int32 {
	if a.Next == a.Count {
		return 0
	}
	return a.Next
}

func appendAssembly(dst []byte, a *assembly) []byte {
	dst = append(dst, assemblyFormat)
	dst = append(dst, a.Origin.Host[:]...)
	dst = binary.AppendVarint(dst, a.Origin.Position.Segment)
	dst = binary.AppendVarint(dst, a.Origin.Position.Offset)
	dst = binary.AppendVarint(dst, int64(a.Origin.Update))
	dst = binary.AppendUvarint(dst, uint64(a.Count))
	dst = binary.AppendUvarint(dst, uint64(a.Next))
	return binary.AppendUvarint(dst, a.bytes)
}

func decodeAssembly(value []byte) (a assembly, err error) {
	in := decoder{b: value}
	in.format(assemblyFormat)
	copy(a.Origin.Host[:], in.bytes(uint64(len(a.Origin.Host)), "host"))
	a.Origin.Position.Segment, a.Origin.Position.Offset = in.varint("segment"), in.varint("position")
	update, count, next := in.varint("update"), in.uvarint("count"), in.uvarint("next")
	if update < math.MinInt32 || update > math.MaxInt32 || count > math.MaxInt32 || next > count {
		in.fail(fmt.Sprintf("found update %d, part %d of %d", update, next, count))
	}
	a.Origin.Update, a.Count, a.Next = int32(update), int32(count), int32(next)
	a.bytes = in.uvarint("bytes")
	return a, in.end("assembly")
}

// applyPart keeps a part, or folds the record that it completes.
func (f *Fold) applyPart(p *rawtopic.Part) error {
	metaKey := state.Meta(nil, f.group, "parts/"+p.Origin.Host.String())
	value, err := f.call.tx.Get(metaKey)
	if err != nil {
		return err
	}
	var before assembly
	if value != nil {
		if before, err = decodeAssembly(value); err != nil {
			return f.stored(metaKey, err)
		}
	}
	after := before
	var step rawtopic.Step
	after.Assembly, step = before.Add(p)
	switch step {
	case rawtopic.StepRepeat:
		f.stats.RepeatedParts++
		return nil
	case rawtopic.StepStray:
		return f.refuse("", "part %d of %d of the update at segment %d, position %d of host %v: a part before it is missing",
			p.Index, p.Count, p.Origin.Position.Segment, p.Origin.Position.Offset, p.Origin.Host)
	case rawtopic.StepBegin:
		after.bytes = 0
	}
	if after.bytes += uint64(len(p.Bytes)); after.bytes > maxAssembled {
		return f.refuse("", "the update at segment %d, position %d of host %v has more than %d bytes, which no mutation of Cassandra has",
			p.Origin.Position.Segment, p.Origin.Position.Offset, p.Origin.Host, maxAssembled)
	}
	if step == rawtopic.StepComplete {
		if err := f.applyWhole(p, &before); err != nil {
			return err
		}
		after.bytes = 0
	}
	// What is void now, or folded, goes; what is not yet complete stays.
	if step != rawtopic.StepAppend {
		for i := range before.stored() {
			if err := f.call.tx.Delete(state.Part(nil, f.group, p.Origin.Host, uint32(i))); err != nil {
				return err
			}
		}
	}
	if step != rawtopic.StepComplete {
		if err := f.call.tx.Set(state.Part(nil, f.group, p.Origin.Host, uint32(p.Index)), p.Bytes); err != nil {
			return err
		}
	}
	return f.call.tx.Set(metaKey, appendAssembly(nil, &after))
}

// applyWhole folds the record of the parts stored and last. Records in parts are few and large: no memory is kept for
// the next.
func (f *Fold) applyWhole(last *rawtopic.Part, a *assembly) error {
	if !f.cursor.valid {
		if err := f.assemble(last, a); err != nil {
			return err
		}
	}
	err := f.applyData(f.parts.record.Data)
	if err != errFull && err != errPause {
		f.parts = parts{}
	}
	return err
}

// assemble makes parts.record the record of the parts stored and last.
func (f *Fold) assemble(last *rawtopic.Part, a *assembly) error {
	f.parts = parts{whole: make([]byte, 0, int(a.bytes)+len(last.Bytes))}
	for i := range a.stored() {
		key := state.Part(nil, f.group, last.Origin.Host, uint32(i))
		value, err := f.call.tx.Get(key)
		if err != nil {
			return err
		}
		if value == nil {
			return f.stored(key, fmt.Errorf("part %d of %d is missing", i, a.Count))
		}
		f.parts.whole = append(f.parts.whole, value...)
	}
	f.parts.whole = append(f.parts.whole, last.Bytes...)
	rec := &f.parts.record
	if err := f.parts.decoder.Decode(f.parts.whole, rec); err != nil {
		return f.refuse("", "the record put together from %d parts: %v", a.Count, err)
	}
	if rec.Kind != rawtopic.KindData {
		return f.refuse("", "the record put together from %d parts is a %s, expected Data", a.Count, kindName(rec.Kind))
	}
	return nil
}
