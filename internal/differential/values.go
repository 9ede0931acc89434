package differential

import (
	"encoding/binary"
	"math"
	"unicode/utf8"

	"cassdelta/schema"
)

// value draws a value of a type in the form that Cassandra stores: never null, now and then empty where it takes that.
func (g *generator) value(t *schema.Type) []byte {
	if g.chance(0.03) && t.Native() && t.Validate([]byte{}) == nil {
		return []byte{}
	}
	return g.filled(t)
}

// filled is value for what is within another one, where Cassandra takes empty values for null at times, and fails.
func (g *generator) filled(t *schema.Type) []byte {
	if g.few == 0 {
		return g.fresh(t)
	}
	if g.pool == nil {
		g.pool = map[string][][]byte{}
	}
	name := t.CQL()
	if len(g.pool[name]) < g.few {
		g.pool[name] = append(g.pool[name], g.fresh(t))
	}
	return pick(g, g.pool[name])
}

// fresh is filled with no memory of other values.
func (g *generator) fresh(t *schema.Type) []byte {
	switch t.Kind {
	case schema.KindList, schema.KindSet:
		n := g.small()
		b := binary.BigEndian.AppendUint32(nil, uint32(n))
		for range n {
			b = appendSized(b, g.filled(t.Elems[0]))
		}
		return b
	case schema.KindMap:
		n := g.small()
		b := binary.BigEndian.AppendUint32(nil, uint32(n))
		for range n {
			b = appendSized(b, g.filled(t.Elems[0]))
			b = appendSized(b, g.filled(t.Elems[1]))
		}
		return b
	case schema.KindTuple, schema.KindUDT:
		// Fields at the end may be missing; others may be null.
		n := len(t.Elems)
		if g.chance(0.1) {
			n = 1 + g.rng.IntN(n)
		}
		var b []byte
		for _, e := range t.Elems[:n] {
			if g.chance(0.15) {
				b = appendSized(b, nil)
			} else {
				b = appendSized(b, g.filled(e))
			}
		}
		return b
	case schema.KindVector:
		b := []byte{}
		for range t.Dimension {
			b = g.appendElement(b, t.Elems[0])
		}
		return b
	case schema.KindCustom:
		return g.customValue(t.Name)
	}
	return g.nativeValue(t.Kind)
}

// customValue draws a value of one of customs. A composite is, for each component, a length of two bytes, the component, and a
// byte 0; a dynamic one has the letter of each component's type, with 0x80 before it, in front.
func (g *generator) customValue(class string) []byte {
	switch class {
	case customs[0]:
		return g.bytes(16)
	case customs[1]:
		b := appendComponent(nil, g.nativeValue(schema.KindText))
		if g.chance(0.8) { // components at the end may be missing
			b = appendComponent(b, g.integer(4))
		}
		return b
	}
	var b []byte
	for range 1 + g.rng.IntN(3) {
		b = appendComponent(append(b, 0x80, 'a'), g.bytes(g.rng.IntN(20)))
	}
	return b
}

func appendComponent(b, v []byte) []byte {
	b = append(binary.BigEndian.AppendUint16(b, uint16(len(v))), v...)
	return append(b, 0)
}

// appendElement appends an element of a vector: bare if its type has a fixed length.
func (g *generator) appendElement(b []byte, t *schema.Type) []byte {
	fixed := t.FixedLength()
	for {
		v := g.filled(t)
		if fixed < 0 {
			return append(appendUvint(b, uint64(len(v))), v...)
		}
		if len(v) == fixed {
			return append(b, v...)
		}
	}
}

// appendSized appends a value with its length before it, nil as null.
func appendSized(b, v []byte) []byte {
	if v == nil {
		return binary.BigEndian.AppendUint32(b, math.MaxUint32)
	}
	return append(binary.BigEndian.AppendUint32(b, uint32(len(v))), v...)
}

// appendUvint appends Cassandra's unsigned variable-length integer in the shortest form, which is the only one that it
// takes in vectors and compares durations in.
func appendUvint(b []byte, n uint64) []byte {
	extra := 0
	for extra < 8 && n >= 1<<(7*(extra+1)) {
		extra++
	}
	if extra == 8 {
		return binary.BigEndian.AppendUint64(append(b, 0xff), n)
	}
	first := len(b)
	for i := extra; i >= 0; i-- {
		b = append(b, byte(n>>(8*i)))
	}
	b[first] |= ^byte(0xff >> extra)
	return b
}

func (g *generator) nativeValue(kind schema.Kind) []byte {
	switch kind {
	case schema.KindASCII:
		b := g.bytes(g.length())
		for i := range b {
			b[i] &= 0x7f
		}
		return b
	case schema.KindText:
		b := []byte{}
		for range g.length() {
			b = utf8.AppendRune(b, pick(g, []rune{'a', 'b', 'Z', 'é', 'ß', '漢', '🚲', 0, '\n', '"', '\'', rune(g.rng.IntN(0xd800))}))
		}
		return b
	case schema.KindBlob:
		return g.bytes(g.length())
	case schema.KindBoolean:
		return []byte{byte(g.rng.IntN(2))}
	case schema.KindTinyint:
		return g.bytes(1)
	case schema.KindSmallint:
		return g.integer(2)
	case schema.KindInt, schema.KindDate:
		return g.integer(4)
	case schema.KindFloat:
		return pick(g, [][]byte{g.bytes(4), {0, 0, 0, 0}, {0x80, 0, 0, 0}, {0x7f, 0xc0, 0, 0}, {0x7f, 0x80, 0, 0}})
	case schema.KindDouble:
		return pick(g, [][]byte{g.bytes(8), {7: 0}, {0x80, 7: 0}, {0x7f, 0xf8, 7: 0}, {0xff, 0xf0, 7: 0}})
	case schema.KindBigint, schema.KindTimestamp:
		return g.integer(8)
	case schema.KindTime:
		return binary.BigEndian.AppendUint64(nil, g.rng.Uint64N(86400e9))
	case schema.KindUUID:
		return g.bytes(16)
	case schema.KindTimeuuid:
		b := g.bytes(16)
		b[6] = b[6]&0x0f | 0x10
		b[8] = b[8]&0x3f | 0x80
		return b
	case schema.KindInet:
		return g.bytes(pick(g, []int{4, 16}))
	case schema.KindVarint:
		return g.varint()
	case schema.KindDecimal:
		scale := g.rng.IntN(100) - 50
		return append(binary.BigEndian.AppendUint32(nil, uint32(scale)), g.varint()...)
	case schema.KindDuration:
		return g.duration()
	}
	panic("no values of this kind are made")
}

// varint draws an integer of up to 20 bytes, not always in the shortest form.
func (g *generator) varint() []byte {
	if g.chance(0.1) {
		return pick(g, [][]byte{{0}, {0xff, 0xff, 0xff}, {0, 0, 1}, {0x80}, {0x7f}})
	}
	return g.bytes(1 + g.rng.IntN(pick(g, []int{2, 4, 20})))
}

// duration draws months, days and nanoseconds, which must all have one sign.
func (g *generator) duration() []byte {
	months, days, nanos := g.rng.Int64N(1<<31), g.rng.Int64N(1<<31), g.rng.Int64()
	if g.chance(0.7) {
		months, days, nanos = months%12, days%31, nanos%1e6
	}
	if g.chance(0.5) {
		months, days, nanos = -months, -days, -nanos
	}
	var b []byte
	for _, v := range []int64{months, days, nanos} {
		b = appendUvint(b, uint64(v)<<1^uint64(v>>63)) // zigzag
	}
	return b
}

// integer draws a number of size bytes: small, extreme or any.
func (g *generator) integer(size int) []byte {
	var b [8]byte
	n := g.rng.Int64()
	switch g.rng.IntN(4) {
	case 0:
		n = int64(g.rng.IntN(21) - 10)
	case 1:
		n = pick(g, []int64{math.MinInt64, math.MaxInt64}) >> (64 - 8*size)
	}
	binary.BigEndian.PutUint64(b[:], uint64(n))
	return append([]byte{}, b[8-size:]...)
}

func (g *generator) bytes(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(g.rng.Uint32())
	}
	return b
}

// length draws the length of a text: mostly short, at times beyond what one byte of a length can say, or two.
func (g *generator) length() int {
	switch p := g.rng.Float64(); {
	case p < 0.0005:
		return 1<<14 + g.rng.IntN(400)
	case p < 0.02:
		return 100 + g.rng.IntN(400)
	}
	return g.rng.IntN(12)
}

// small draws the number of elements of a collection.
func (g *generator) small() int {
	if g.chance(0.02) {
		return 10 + g.rng.IntN(60)
	}
	return g.rng.IntN(4)
}
