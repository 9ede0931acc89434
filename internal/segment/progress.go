package segment

import (
	"io"
	"path/filepath"
	"time"

	"github.com/schollz/progressbar/v3"

	"cassdelta/internal/obs"
)

const (
	// longFiles is the number of bytes from which on segments take long enough for a progress bar.
	longFiles = 16 << 20
	// progressStep is the number of bytes after which the bar is told.
	progressStep = 256 << 10
)

// progress shows how many of the bytes of all segments were read. A nil one shows nothing.
type progress struct {
	bar *progressbar.ProgressBar
	// before is the size of the segments that are done, told what the bar was told last.
	before, told int64
}

// newProgress makes a bar on notes: nil if it is no terminal, if the output goes to a terminal too, where the bar would
// be in its midst, or if there is not much to read.
func newProgress(notes, out io.Writer, total int64) *progress {
	if total < longFiles || !obs.IsTerminal(notes) || obs.IsTerminal(out) {
		return nil
	}
	return &progress{bar: newBar(notes, total)}
}

func newBar(w io.Writer, total int64) *progressbar.ProgressBar {
	return progressbar.NewOptions64(total,
		progressbar.OptionSetWriter(w),
		progressbar.OptionShowBytes(true),
		progressbar.OptionThrottle(100*time.Millisecond),
		progressbar.OptionSetWidth(20),
		progressbar.OptionClearOnFinish(),
	)
}

// begin says which segment is read.
func (p *progress) begin(path string) {
	if p != nil {
		p.bar.Describe(filepath.Base(path))
	}
}

// at says how far the segment is read, in bytes of its file.
func (p *progress) at(offset int64) {
	if p == nil || p.before+offset < p.told+progressStep {
		return
	}
	p.told = p.before + offset
	_ = p.bar.Set64(p.told) // that the terminal cannot be written to is no failure of the dump
}

// done says that a segment of this size was read as far as it is to be.
func (p *progress) done(size int64) {
	if p != nil {
		p.before += size
		p.at(0)
	}
}

// clear removes the bar until it is drawn again, so that something else can be written.
func (p *progress) clear() {
	if p != nil {
		_ = p.bar.Clear()
	}
}
