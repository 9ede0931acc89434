package segment

import (
	"bufio"
	"cmp"
	"compress/gzip"
	"fmt"
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

// notRead refuses an output that is a segment or the schema that is to be read: it would be emptied first.
func notRead(output string, o Options) error {
	to, err := os.Stat(output)
	if err != nil {
		return nil // it is new, or creating it says what is wrong
	}
	inputs, err := expand(o.Paths)
	if err != nil {
		return err
	}
	if o.Schema != "" {
		if info, err := os.Stat(o.Schema); err == nil {
			inputs = append(inputs, file{path: o.Schema, info: info})
		}
	}
	for _, f := range inputs {
		if os.SameFile(f.info, to) {
			return fmt.Errorf("output %s: is read itself: name another file", output)
		}
	}
	return nil
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

// Close writes what is left and closes the file. Its error is the first one, that of an earlier Write too.
func (o *output) Close() error {
	var gzErr error
	if o.gz != nil {
		gzErr = o.gz.Close()
	}
	return cmp.Or(gzErr, o.buffer.Flush(), o.file.Close())
}
