package schema

import "fmt"

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
	}
	return nil
}

func (t *Type) badLength(value []byte, want string) error {
	return fmt.Errorf("a %s has %d bytes, expected %s", t.CQL(), len(value), want)
}
