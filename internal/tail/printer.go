// Package tail shows the clean topics to people, and as JSON to their scripts.
//
// # Lines for people
//
// One change a line, here with two:
//
//	2026-02-01 09:30:00.123 c shop.orders customer=1 number=1001 item: "kettle", price: 29.90, status: "new"
//	2026-02-01 09:31:07.001 u shop.orders customer=1 number=1001 status: "new" -> "paid"
//
// The time is the write time of the change, in UTC. Then come the operation, the table, the primary key, and of a row
// that is new or gone its values that are not null, of another what changed. At the end, in parentheses, is what is
// out of the ordinary: a reason other than a write (ttl, truncate, drop), that a snapshot saw the row, that a row is
// deleted of which nothing was seen before. Text is quoted; collections, tuples and user types are as in JSON; other values
// are not quoted.
//
// # JSON lines
//
// One event a line, with the fields of the envelope, and before them topic and key. Values of columns are as SELECT JSON
// prints them:
//
//	{"topic":"cassdelta.shop.orders","key":{"customer":1,"number":1001},"before":null,
//	 "after":{"customer":1,"number":1001,"item":"kettle","price":29.90},"source":{...},"op":"c","ts_ms":1769938200200}
package tail

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/fatih/color"

	"cassdelta/internal/obs"
	"cassdelta/internal/sink"
	"cassdelta/schema"
)

// valueWidth is how many characters of a value are printed for people.
const valueWidth = 48

// Printer prints changes.
type Printer struct {
	out    io.Writer
	json   bool
	colors map[string]*color.Color // by operation
	line   bytes.Buffer
}

// NewPrinter makes a printer. With asJSON it prints for programs. Otherwise it prints for people: in colours if out is a
// terminal, unless the environment has NO_COLOR or says that the terminal is a dumb one.
func NewPrinter(out io.Writer, asJSON bool) *Printer {
	colored := obs.IsTerminal(out) && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
	return newPrinter(out, asJSON, colored)
}

func newPrinter(out io.Writer, asJSON, colored bool) *Printer {
	p := &Printer{out: out, json: asJSON, colors: map[string]*color.Color{
		"c": color.New(color.FgGreen), "r": color.New(color.FgGreen), "u": color.New(color.FgYellow), "d": color.New(color.FgRed),
	}}
	for _, c := range p.colors {
		if colored {
			c.EnableColor()
		} else {
			c.DisableColor()
		}
	}
	return p
}

// Print prints a line.
func (p *Printer) Print(c *sink.Change) error {
	p.line.Reset()
	if p.json {
		text, err := c.MarshalJSON()
		if err != nil {
			return err
		}
		p.line.Write(text)
	} else {
		p.describe(c)
	}
	p.line.WriteByte('\n')
	_, err := p.out.Write(p.line.Bytes())
	return err
}

// describe writes the line for people.
func (p *Printer) describe(c *sink.Change) {
	op := clean(c.Op)
	if paint := p.colors[c.Op]; paint != nil {
		op = paint.Sprint(op)
	}
	fmt.Fprintf(&p.line, "%s %s %s.%s", time.UnixMicro(c.Source.Micros).UTC().Format("2006-01-02 15:04:05.000"),
		op, clean(c.Source.Keyspace), clean(c.Source.Table))
	for _, f := range c.Key {
		if f.Value != nil {
			fmt.Fprintf(&p.line, " %s=%s", clean(f.Name), valueText(f))
		}
	}
	if c.Static() {
		p.line.WriteString(" static")
	}
	var notes []string
	before, after := beside(c.Key, c.Before), beside(c.Key, c.After)
	switch {
	case c.Before == nil:
		p.values(after)
	case c.After == nil:
		p.values(before)
	default:
		if p.differences(before, after) == 0 {
			notes = append(notes, "same values")
		}
	}
	if c.Source.Reason != "" && c.Source.Reason != "mutation" {
		notes = append(notes, clean(c.Source.Reason))
	}
	if c.Op == "r" {
		notes = append(notes, "snapshot")
	}
	if c.After == nil && !c.Source.Complete && blank(before) {
		notes = append(notes, "not seen before")
	}
	if len(notes) > 0 {
		p.line.WriteString(" (" + strings.Join(notes, ", ") + ")")
	}
}

// blank reports whether all values are null.
func blank(fields []sink.Field) bool {
	return !slices.ContainsFunc(fields, func(f sink.Field) bool { return f.Value != nil })
}

// beside gives the columns of an image that are not of the key.
func beside(key, image []sink.Field) []sink.Field { return image[min(len(key), len(image)):] }

// values lists the values that are not null.
func (p *Printer) values(fields []sink.Field) {
	separator := " "
	for _, f := range fields {
		if f.Value != nil {
			p.line.WriteString(separator + clean(f.Name) + ": " + valueText(f))
			separator = ", "
		}
	}
}

// differences lists the values that differ and gives their number.
func (p *Printer) differences(before, after []sink.Field) int {
	n := 0
	separator := " "
	for i := range min(len(before), len(after)) {
		b, a := before[i], after[i]
		if (b.Value == nil) != (a.Value == nil) || !bytes.Equal(b.Value, a.Value) {
			p.line.WriteString(separator + clean(a.Name) + ": " + valueText(b) + " -> " + valueText(a))
			separator = ", "
			n++
		}
	}
	return n
}

// valueText is a value for people: as in JSON, but without quotes where it is no text.
func valueText(f sink.Field) string {
	if f.Value != nil && f.JSON == "null" {
		return notFinite(f.Value)
	}
	text, quoted := strings.CutPrefix(f.JSON, `"`)
	text = strings.TrimSuffix(text, `"`)
	text = shorten(text)
	if quoted && (f.Type.Kind == schema.KindText || f.Type.Kind == schema.KindASCII) {
		text = `"` + text + `"`
	}
	return clean(text)
}

// notFinite is a float or double that JSON cannot have.
func notFinite(value []byte) string {
	switch len(value) {
	case 4:
		return strconv.FormatFloat(float64(math.Float32frombits(binary.BigEndian.Uint32(value))), 'g', -1, 32)
	case 8:
		return strconv.FormatFloat(math.Float64frombits(binary.BigEndian.Uint64(value)), 'g', -1, 64)
	}
	return "null"
}

// shorten keeps the begin of a text that has more than valueWidth characters.
func shorten(s string) string {
	if len(s) <= valueWidth {
		return s
	}
	n := 0
	for i := range s {
		if n == valueWidth {
			return s[:i] + "…"
		}
		n++
	}
	return s
}

// clean writes what a terminal would not print but obey as JSON does.
func clean(s string) string {
	if strings.IndexFunc(s, unprintable) < 0 {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		if unprintable(r) {
			fmt.Fprintf(&b, `\u%04X`, r)
		} else {
			b.WriteRune(r)
		}
	}
	return b.String()
}

func unprintable(r rune) bool { return !unicode.IsPrint(r) }
