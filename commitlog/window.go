package commitlog

import (
	"fmt"
	"io"
)

// readAhead is how much a window reads at least, as far as it may.
const readAhead = 256 << 10

// window gives views of a file through one buffer, which grows to the largest view asked for. Files are read, not
// mapped: a mapped file that somebody truncates kills the process with SIGBUS, and a segment belongs to Cassandra, not
// to us. The copy out of the page cache costs a small part of what the checksums cost.
type window struct {
	r     io.ReaderAt // nil: buf is the whole input
	buf   []byte      // the bytes from start on
	start int64
	store []byte // what buf is cut from
}

// held gives the n bytes at off as view does if they were read already, else nil.
func (w *window) held(off int64, n int) []byte {
	if i := off - w.start; i >= 0 && i+int64(n) <= int64(len(w.buf)) {
		return w.buf[i : i+int64(n)]
	}
	return nil
}

// view gives the n bytes at off, valid until the next call. It reads ahead, but never beyond limit, so that bytes
// which may still change are not kept. The caller has checked n against what the file should hold; if the file is
// shorter the error is io.ErrUnexpectedEOF.
func (w *window) view(off int64, n int, limit int64) ([]byte, error) {
	if i := off - w.start; i >= 0 && i+int64(n) <= int64(len(w.buf)) {
		return w.buf[i : i+int64(n) : i+int64(n)], nil
	}
	if w.r == nil {
		return nil, io.ErrUnexpectedEOF
	}
	want := int64(n)
	if want < readAhead {
		want = min(readAhead, max(want, limit-off))
	}
	if int64(cap(w.store)) < want {
		w.buf, w.store = nil, nil // for the collector, before the new memory is asked for
		w.store = make([]byte, roundUp(want))
	}
	got, err := w.r.ReadAt(w.store[:want], off)
	w.start, w.buf = off, w.store[:got]
	if got >= n {
		return w.buf[:n:n], nil
	}
	if err == nil || err == io.EOF {
		return nil, io.ErrUnexpectedEOF
	}
	return nil, fmt.Errorf("read %d bytes at offset %d: %w", n, off, err)
}

// roundUp is the capacity to take for n bytes. Sections of full segments differ by a few bytes in length; so the next one
// that is a little longer needs no new memory. What is short, as a header is, stays short.
func roundUp(n int64) int64 {
	if n < readAhead {
		return n
	}
	return (n + readAhead - 1) / readAhead * readAhead
}

// forget drops what was read from a file: it may have changed.
func (w *window) forget() {
	if w.r != nil {
		w.buf = nil
	}
}
