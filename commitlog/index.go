package commitlog

import (
	"bytes"
	"errors"
	"io"
	"os"
	"strconv"
)

// Index is the content of a CDC index file, CommitLog-<version>-<id>_cdc.idx:
//
//	<decimal logical offset>
//	<decimal logical offset>\nCOMPLETED
//
// without a newline at the end. Cassandra writes it by truncating and writing, so an empty or cut file is a normal
// sight that means "ask again". Source: CommitLogSegment.writeCDCIndexFile.
type Index struct {
	// Offset is the logical end of the last flushed section. It means nothing once Completed is set: a crash replay
	// puts the length of the file there, which in a preallocated segment is more and in a compressed one less than
	// the logical end.
	Offset int64
	// Completed says that the segment is closed; it then holds all it ever will.
	Completed bool
}

// ParseIndex reads an index file; ok is false if it is empty or half written. While Completed is not set the number
// can be cut as well, in theory: a reader that follows the file ignores an Offset below one that it has seen.
func ParseIndex(b []byte) (x Index, ok bool) {
	line, rest, more := bytes.Cut(b, []byte{'\n'})
	if more {
		if string(rest) != "COMPLETED" {
			return Index{}, false
		}
		x.Completed = true
	}
	if len(line) == 0 || len(line) > 19 {
		return Index{}, false
	}
	for _, c := range line {
		if c < '0' || c > '9' {
			return Index{}, false
		}
	}
	n, err := strconv.ParseInt(string(line), 10, 64)
	if err != nil {
		return Index{}, false
	}
	x.Offset = n
	return x, true
}

// maxIndexLen is more than an index file can have: 19 digits and COMPLETED.
const maxIndexLen = 64

// ReadIndex reads an index file; ok is as in [ParseIndex].
func ReadIndex(file string) (x Index, ok bool, err error) {
	f, err := os.Open(file)
	if err != nil {
		return Index{}, false, err
	}
	defer f.Close()
	var b [maxIndexLen]byte
	n, err := io.ReadFull(f, b[:])
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return Index{}, false, err
	}
	x, ok = ParseIndex(b[:n])
	return x, ok, nil
}
