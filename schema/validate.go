package schema

import (
	"errors"
	"fmt"
)

// Validate checks that Cassandra would accept value as a value of this type: its length, what its bytes must be, and so
// of all values in it. A nil value is null and fine, but within a collection or a vector. The empty value is fine for all
// types but date, duration, smallint, time, tinyint, list and vector; of sets and maps Cassandra 5.0 refuses it, 4.0 and
// 4.1 do not. A counter is a counter cell's context or 8 bytes. Of custom types everything is
// fine, but of LexicalUUIDType what is of no UUID.
// Source: TypeSerializer.validate of each type.
//
// A few values that Cassandra accepts mean nothing: see [Type.AppendJSON] for what is made of them.
func (t *Type) Validate(value []byte) error { return t.validate(value, 0) }

// validate is Validate for a value within depth others.
func (t *Type) validate(value []byte, depth int) error {
	switch {
	case value == nil:
		return nil
	case t.Kind == KindCustom:
		if n := len(value); t.lexicalUUID() && n != 0 && n != 16 {
			return t.badLength(value, "16")
		}
		return nil
	case t.Kind == KindCounter:
		if len(value) == 0 {
			return nil
		}
		_, err := CounterTotal(value)
		return err
	case !t.Native():
		return t.validateParts(value, depth)
	}
	if len(value) == 0 {
		switch t.Kind {
		case KindDate, KindDuration, KindSmallint, KindTime, KindTinyint:
			return fmt.Errorf("a %s is empty, which values of that type cannot be", t.CQL())
		}
		return nil
	}
	if err := t.checkLength(value); err != nil {
		return err
	}
	switch t.Kind {
	case KindASCII:
		for i, b := range value {
			if b >= 0x80 {
				return fmt.Errorf("an ascii has the byte %#02x at offset %d, expected bytes below 0x80", b, i)
			}
		}
	case KindText:
		if i := textError(value); i >= 0 {
			return fmt.Errorf("a text has the byte %#02x at offset %d, where its UTF-8 goes wrong", value[i], i)
		}
	case KindTimeuuid:
		if version := value[6] >> 4; version != 1 {
			return fmt.Errorf("a timeuuid has version %d, expected 1", version)
		}
	case KindDuration:
		_, err := parseDuration(value)
		return err
	}
	return nil
}

// validateParts checks a value of a type that others are nested in.
func (t *Type) validateParts(value []byte, depth int) error {
	if depth == maxValueDepth {
		return errTooDeep
	}
	if len(value) == 0 && (t.Kind == KindSet || t.Kind == KindMap) {
		return nil
	}
	p, err := t.parts(value)
	if err != nil {
		return err
	}
	for {
		typ, part, err := p.next()
		if err != nil || typ == nil {
			return err
		}
		if part == nil && t.Kind != KindTuple && t.Kind != KindUDT {
			return p.within(errors.New("it is null"))
		}
		if err := typ.validate(part, depth+1); err != nil {
			return p.within(err)
		}
	}
}

// checkLength checks that a value which is not empty has a length that its native type can have.
func (t *Type) checkLength(value []byte) error {
	n := len(value)
	switch t.Kind {
	case KindEmpty:
		return t.badLength(value, "none")
	case KindBoolean, KindTinyint:
		if n != 1 {
			return t.badLength(value, "1")
		}
	case KindSmallint:
		if n != 2 {
			return t.badLength(value, "2")
		}
	case KindDate, KindFloat, KindInt:
		if n != 4 {
			return t.badLength(value, "4")
		}
	case KindBigint, KindDouble, KindTime, KindTimestamp:
		if n != 8 {
			return t.badLength(value, "8")
		}
	case KindTimeuuid, KindUUID:
		if n != 16 {
			return t.badLength(value, "16")
		}
	case KindInet:
		if n != 4 && n != 16 {
			return t.badLength(value, "4 or 16")
		}
	case KindDecimal:
		if n < 4 {
			return t.badLength(value, "at least 4")
		}
	case KindDuration:
		if n < 3 {
			return t.badLength(value, "at least 3")
		}
	}
	return nil
}

func (t *Type) badLength(value []byte, want string) error {
	return fmt.Errorf("a %s has %d bytes, expected %s", t.CQL(), len(value), want)
}

// textError finds the offset at which text is no longer what Cassandra takes for UTF-8, or gives -1. Cassandra is not
// strict: it takes c0 80, UTF-16 surrogates, code points above 10ffff, and, behind e0 and f0, some bytes that continue
// nothing. Source: UTF8Serializer.UTF8Validator.
func textError(text []byte) int {
	for i := 0; i < len(text); {
		lead := text[i]
		start := i
		i++
		if lead < 0x80 {
			continue
		}
		var more int            // how many bytes follow
		first := isContinuation // what the first of them is
		switch {
		case lead == 0xc0:
			more, first = 1, func(b byte) bool { return b == 0x80 }
		case lead >= 0xc2 && lead <= 0xdf:
			more = 1
		case lead == 0xe0:
			more, first = 2, func(b byte) bool { return b&0xe0 != 0x80 }
		case lead >= 0xe1 && lead <= 0xef:
			more = 2
		case lead == 0xf0:
			more, first = 3, func(b byte) bool { return b&0x30 != 0 }
		case lead >= 0xf1 && lead <= 0xf7:
			more = 3
		default:
			return start
		}
		for k := range more {
			if i == len(text) {
				return start
			}
			if k == 0 && !first(text[i]) || k > 0 && !isContinuation(text[i]) {
				return i
			}
			i++
		}
	}
	return -1
}

func isContinuation(b byte) bool { return b&0xc0 == 0x80 }
