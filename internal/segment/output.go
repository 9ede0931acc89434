package segment

import (
	"bufio"
	"compress/gzip"
	"errors"
	"io"
	"os"
	"strings"
)

// output is a file to write to, compressed if its name ends with .gz.
type output struct {
	file   *os.File
	gz     *gzip.Writer // nil if it is not compressed
	buffer *bufio.Writer
}

// createOutput creates the file, or empties it.
func createOutput(path string) (*output, error) {
	f, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	o := &output{file: f, buffer: bufio.NewWriterSize(f, 64<<10)}
	if strings.HasSuffix(path, ".gz") {
		o.gz = gzip.NewWriter(o.buffer)
	}
	return o, nil
}

// Write implements [io.Writer].
func (o *output) Write(b []byte) (int, error) {
	var w io.Writer = o.buffer
	if o.gz != nil {
		w = o.gz
	}
	return w.Write(b)
}

// Close writes what is left and closes the file.
func (o *output) Close() error {
	var gzErr error
	if o.gz != nil {
		gzErr = o.gz.Close()
	}
	return errors.Join(gzErr, o.buffer.Flush(), o.file.Close())
}
