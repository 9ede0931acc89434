package rawtopic

// MaxValue is the greatest length in bytes of a raw record's Kafka value. A broker takes 1 MiB unless told otherwise,
// batch overhead included.
const MaxValue = 900_000

// partOverhead is more than the encoding of a Part has beside its bytes: header, branch, origin, index, count, length.
const partOverhead = headerLen + 1 + (16 + 10 + 10 + 5) + 5 + 5 + 5

// Split cuts the encoding of a data record into parts, none of which is longer than max when encoded; max must be at
// least 1000. The parts point into encoded. An encoding that is no longer than max needs no parts, and gives nil.
func Split(encoded []byte, origin Origin, max int) []Part {
	if len(encoded) <= max {
		return nil
	}
	size := max - partOverhead
	count := (len(encoded) + size - 1) / size
	parts := make([]Part, count)
	for i := range parts {
		end := min((i+1)*size, len(encoded))
		parts[i] = Part{Origin: origin, Index: int32(i), Count: int32(count), Bytes: encoded[i*size : end : end]}
	}
	return parts
}

// Assembly is the reassembly of the parts that one host sent to one raw partition. The zero value is none. It is a
// value: what a part does to it depends on nothing else, so that a fold can store it with the bytes.
//
// A host sends the parts of a record one after the other, and has at most one set unfinished: after a crash it begins
// the set again with part 0, or another one if it was told to read from elsewhere. So part 0 always begins a set, and
// whatever was unfinished before is void.
type Assembly struct {
	Origin Origin
	// Count is the number of parts, Next the index of the part expected; the set is complete when they are equal.
	Count, Next int32
}

// Step says what to do with a part.
type Step int

const (
	// StepBegin: forget the bytes collected for this host, keep those of the part.
	StepBegin Step = iota + 1
	// StepAppend: append the bytes of the part.
	StepAppend
	// StepComplete: append the bytes of the part; together they are the record.
	StepComplete
	// StepRepeat: drop the part, it was seen before.
	StepRepeat
	// StepStray: drop the part and report it. A part before it is missing, so its record cannot be put together.
	StepStray
)

// Add says what p does, and returns the assembly behind it. The caller keeps an assembly for each host.
func (a Assembly) Add(p *Part) (Assembly, Step) {
	if p.Index == 0 {
		return Assembly{Origin: p.Origin, Count: p.Count, Next: 1}, StepBegin
	}
	if a.Count != p.Count || a.Origin != p.Origin {
		return a, StepStray
	}
	switch {
	case p.Index < a.Next:
		return a, StepRepeat
	case p.Index > a.Next:
		return a, StepStray
	}
	a.Next++
	if a.Next == a.Count {
		return a, StepComplete
	}
	return a, StepAppend
}
