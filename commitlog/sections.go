package commitlog

import "fmt"

// sectionDecoder undoes what a segment's form does to the bodies of sections, one after the other.
type sectionDecoder interface {
	// begin starts with a section, of which body is everything between its marker and the next one. It checks all that the
	// section says of itself, gives the length of its entries, at most most, and appends the first of them to dst: all of
	// them, or those that more goes on behind. The error is a [*sectionError], a [*KeyError], or that of a read.
	begin(dst []byte, body sectionBody, most int64) (out []byte, length int64, err error)
	// more appends entries that come next to dst. dst ends with all that came before, or with its last keptHistory bytes at
	// least, and has room for decodePiece bytes or the rest of the entries. It is not called behind the last entry. The error is
	// as that of begin.
	more(dst []byte) ([]byte, error)
}

const (
	// keptHistory is how far matches of LZ4 and of what Snappy makes reach back, and a byte.
	keptHistory = 64 << 10
	// decodePiece is how much is decoded at once: it is still in the processor's cache when it is read.
	decodePiece = 256 << 10
)

// sectionBody is what a section has in the file, read from its start to its end.
type sectionBody struct {
	w        *window
	off, end int64 // in the file
}

func (b *sectionBody) left() int64 { return b.end - b.off }

// next gives the n bytes that follow, which is at most left, and goes on behind them. They are valid until the next call.
// If they are few, others are read with them.
func (b *sectionBody) next(n int64) ([]byte, error) {
	limit := b.off + n
	if n <= readAhead/4 {
		limit = b.end
	}
	v, err := b.w.view(b.off, int(n), limit)
	b.off += n
	return v, err
}

// ahead gives the bytes that follow, as many as are in memory, and at least one. It is for left > 0; they are valid until the
// next call.
func (b *sectionBody) ahead() ([]byte, error) {
	if _, err := b.w.view(b.off, 1, b.end); err != nil {
		return nil, err
	}
	i := b.off - b.w.start
	return b.w.buf[i:min(int64(len(b.w.buf)), b.end-b.w.start)], nil
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
		encrypted, err := newEncryptedSections(file, d, keys)
		if err != nil {
			return nil, err
		}
		return encrypted, nil
	case d.Compression != "":
		if decoder := newCompressedSections(d.Compression); decoder != nil {
			return decoder, nil
		}
		return nil, &UnsupportedError{File: file, What: "commit log compression (" + d.Compression + ")"}
	}
	return nil, nil
}
