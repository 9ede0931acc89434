package state

import "bytes"

// keySpan is the keys at or after from and before to.
type keySpan struct{ from, to []byte }

func (s *keySpan) holds(key []byte) bool {
	return bytes.Compare(key, s.from) >= 0 && bytes.Compare(key, s.to) < 0
}

// DeleteRange removes each key with from <= key < to, however many there are: it costs as much as the transaction holds,
// not as much as the range does. Both are copied.
func (t *Txn) DeleteRange(from, to []byte) error {
	if err := t.writable(from, to); err != nil {
		return err
	}
	if bytes.Compare(from, to) >= 0 {
		return nil
	}
	span := keySpan{bytes.Clone(from), bytes.Clone(to)}
	t.ranges = append(t.ranges, span)
	for i := range t.o.entries {
		if e := &t.o.entries[i]; span.holds(t.o.keyOf(e)) {
			e.present, e.absentBelow = false, true
		}
	}
	return nil
}

// deleted returns the range in which a key of the store was removed, nil if there is none.
func (t *Txn) deleted(key []byte) *keySpan {
	for i := range t.ranges {
		if t.ranges[i].holds(key) {
			return &t.ranges[i]
		}
	}
	return nil
}
