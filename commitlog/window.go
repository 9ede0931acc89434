package commitlog

import (
	"fmt"
	"io"
)

// readAhead is how much a window reads at least, as far as it may.
const readAhead = 256 << 10

// window gives views of a file, or of the entries of a section that is decoded, through one buffer, which grows to the largest
// view asked for. Files are read, not mapped: a mapped file that somebody truncates kills the process with SIGBUS, and a
// segment belongs to Cassandra, not to us. The copy out of the page cache costs a small part of what the checksums cost.
type window struct {
	r       io.ReaderAt    // of a file
	decoder sectionDecoder // of a section; both are nil if buf is the whole input
	length  int64          // of a section
	buf     []byte         // the bytes from start on
	start   int64
	store   []byte // what buf is cut from
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
	if w.decoder != nil {
		return w.decode(off, n)
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

// decode gives the n bytes at off of a section, and lets go of what is before them and before the history. The caller has
// checked that the section has them. Memory grows with what is decoded, and not with n.
func (w *window) decode(off int64, n int) ([]byte, error) {
	for w.start+int64(len(w.buf)) < off+int64(n) {
		piece := int(min(decodePiece, w.length-w.start-int64(len(w.buf))))
		if drop := min(off-w.start, int64(len(w.buf)-keptHistory)); drop > 0 && cap(w.buf)-len(w.buf) < piece {
			w.start += drop
			w.buf = w.buf[:copy(w.buf, w.buf[drop:])]
		}
		if need := int64(len(w.buf) + piece); int64(cap(w.buf)) < need {
			most := int64(n) + keptHistory + decodePiece
			w.store = make([]byte, roundUp(max(need, min(most, 2*int64(cap(w.buf))))))
			w.buf = w.store[:copy(w.store, w.buf)]
		}
		var err error
		if w.buf, err = w.decoder.more(w.buf); err != nil {
			return nil, err
		}
	}
	i := off - w.start
	return w.buf[i : i+int64(n) : i+int64(n)], nil
}

// begin makes the window one of the section that d begins with, and gives the length of its entries.
func (w *window) begin(d sectionDecoder, body sectionBody, most int64) (length int64, err error) {
	w.decoder, w.start = d, 0
	if w.buf, length, err = d.begin(w.store[:0], body, most); err != nil {
		return 0, err
	}
	w.store, w.length = w.buf[:cap(w.buf)], length // the store may be another one now
	return length, nil
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
