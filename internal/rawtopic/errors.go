package rawtopic

import "fmt"

// FingerprintError says that a value is not written with the schema of this package.
type FingerprintError struct {
	// Header is what stands where the header C3 01 and the fingerprint should: up to 10 bytes.
	Header []byte
}

func (e *FingerprintError) Error() string {
	return fmt.Sprintf("raw record: expected the header c301 and the fingerprint %016x (little-endian), found %x; "+
		"the topic is no raw topic, or written by another version of this program", Fingerprint, e.Header)
}

// FormatError says that a value has the right header and is not what the schema demands.
type FormatError struct {
	// Offset is the place in the value, in bytes.
	Offset int
	// Field is what was read there, as record.field.
	Field string
	// Reason says what was expected and found.
	Reason string
}

func (e *FormatError) Error() string {
	return fmt.Sprintf("raw record: byte %d, %s: %s", e.Offset, e.Field, e.Reason)
}
