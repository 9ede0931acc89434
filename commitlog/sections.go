package commitlog

import "fmt"

// sectionDecoder undoes what a segment's form does to the body of a section.
type sectionDecoder interface {
	// decode appends the entries of a section to dst, at most so many bytes. body is that of the section in the file:
	// all from its marker to the next. The error is a [*sectionError], or a [*KeyError].
	decode(dst, body []byte, most int64) ([]byte, error)
}

// sectionError says what is wrong with a section.
type sectionError struct{ what, expected, found string }

func (e *sectionError) Error() string {
	return fmt.Sprintf("%s: expected %s, found %s", e.what, e.expected, e.found)
}

// newSectionDecoder makes the decoder of a segment with this header, nil if its sections are plain. Encryption is
// looked at first, as Cassandra's reader does: an encrypted segment may name a compressor too. The error says by name
// why the sections cannot be read.
func newSectionDecoder(file string, d Descriptor, keys *keyring) (sectionDecoder, error) {
	switch {
	case d.Cipher != "":
		return newEncryptedSections(file, d, keys)
	case d.Compression != "":
		decompress := newDecompress(d.Compression)
		if decompress == nil {
			return nil, &UnsupportedError{File: file, What: "commit log compression (" + d.Compression + ")"}
		}
		return &compressedSections{d.Compression, decompress}, nil
	}
	return nil, nil
}
