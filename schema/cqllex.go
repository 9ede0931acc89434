package schema

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// cqlKind is what a token of CQL is.
type cqlKind uint8

const (
	cqlEnd    cqlKind = iota
	cqlWord           // a name or keyword without quotes, or a number
	cqlQuoted         // a name in double quotes
	cqlString         // a string in single quotes or between $$
	cqlUUID
	cqlSign // one character of any other kind
)

// cqlToken is a token of CQL.
type cqlToken struct {
	kind cqlKind
	// text is the token's value: a word and a UUID in lower case, a quoted name or a string without its quotes.
	text string
	// raw is the token as it stands in the file.
	raw  string
	line int
}

// is reports whether the token is this keyword (in lower case) or sign.
func (t cqlToken) is(text string) bool {
	return (t.kind == cqlWord || t.kind == cqlSign) && t.text == text
}

// String is the token for error messages.
func (t cqlToken) String() string {
	const most = 40
	if t.kind == cqlEnd {
		return "the end of the file"
	}
	if len(t.raw) > most {
		cut := most
		for cut > 0 && !utf8.RuneStart(t.raw[cut]) {
			cut--
		}
		return fmt.Sprintf("%q...", t.raw[:cut])
	}
	return fmt.Sprintf("%q", t.raw)
}

// lexCQL cuts a CQL file into tokens. The last one is the end.
func lexCQL(name, text string) ([]cqlToken, error) {
	l := cqlLexer{name: name, text: strings.TrimPrefix(text, "\ufeff"), line: 1}
	var tokens []cqlToken
	for {
		t, err := l.next()
		if err != nil {
			return nil, err
		}
		tokens = append(tokens, t)
		if t.kind == cqlEnd {
			return tokens, nil
		}
	}
}

type cqlLexer struct {
	name, text string
	at, line   int
	// inWarning says that the lexer is in a comment that it reads: see warningComment.
	inWarning bool
}

// warningComment is the beginning of the comment into which DESCRIBE puts a table with COMPACT STORAGE. From CREATE
// TABLE on it is read, since such a table has mutations like any other. Source: DescribeStatement,
// TableMetadata.appendCqlTo.
const warningComment = "/*\nWarning: Table "

// pass steps over n bytes.
func (l *cqlLexer) pass(n int) {
	l.line += strings.Count(l.text[l.at:l.at+n], "\n")
	l.at += n
}

// skip steps over white space and comments, but not what is read of a comment.
func (l *cqlLexer) skip() error {
	for l.at < len(l.text) {
		rest := l.text[l.at:]
		switch {
		case strings.IndexByte(" \t\r\n\f", rest[0]) >= 0:
			l.pass(1)
		case strings.HasPrefix(rest, "--"), strings.HasPrefix(rest, "//"):
			n := strings.IndexByte(rest, '\n')
			if n < 0 {
				n = len(rest)
			}
			l.pass(n)
		case l.inWarning && strings.HasPrefix(rest, "*/"):
			l.inWarning = false
			l.pass(2)
		case strings.HasPrefix(rest, "/*"):
			n := strings.Index(rest[2:], "*/")
			if n >= 0 && strings.HasPrefix(rest, warningComment) {
				if begin := strings.Index(rest[:n+2], "\nCREATE TABLE "); begin >= 0 {
					l.inWarning = true
					l.pass(begin)
					continue
				}
			}
			if n < 0 {
				return fmt.Errorf("%s:%d: the comment that begins here has no end: expected */", l.name, l.line)
			}
			l.pass(n + 4)
		default:
			return nil
		}
	}
	return nil
}

func (l *cqlLexer) next() (cqlToken, error) {
	if err := l.skip(); err != nil {
		return cqlToken{}, err
	}
	t := cqlToken{line: l.line}
	rest := l.text[l.at:]
	n := 0
	switch {
	case rest == "":
		return t, nil
	case rest[0] == '\'' || rest[0] == '"':
		if t.text, n = unquoteCQL(rest); n == 0 {
			return t, fmt.Errorf("%s:%d: the text that begins here with %c has no end", l.name, l.line, rest[0])
		}
		t.kind = cqlString
		if rest[0] == '"' {
			t.kind = cqlQuoted
		}
	case strings.HasPrefix(rest, "$$"):
		end := strings.Index(rest[2:], "$$")
		if end < 0 {
			return t, fmt.Errorf("%s:%d: the text that begins here with $$ has no end", l.name, l.line)
		}
		t.kind, t.text, n = cqlString, rest[2:2+end], end+4
	case len(rest) >= 36 && isCQLUUID(rest[:36]) && (len(rest) == 36 || !isCQLWordByte(rest[36])):
		t.kind, t.text, n = cqlUUID, strings.ToLower(rest[:36]), 36
	case isCQLWordByte(rest[0]):
		for n < len(rest) && (isCQLWordByte(rest[n]) || isCQLNumberByte(rest, n)) {
			n++
		}
		t.kind, t.text = cqlWord, strings.ToLower(rest[:n])
	default:
		_, n = utf8.DecodeRuneInString(rest)
		t.kind, t.text = cqlSign, rest[:n]
	}
	t.raw = rest[:n]
	l.pass(n)
	return t, nil
}

// unquoteCQL reads the quoted text that s begins with; a quote within it stands twice. n is its length in s, 0 if it
// has no end.
func unquoteCQL(s string) (text string, n int) {
	quote := s[0]
	var b strings.Builder
	for i := 1; i < len(s); {
		end := strings.IndexByte(s[i:], quote)
		if end < 0 {
			return "", 0
		}
		b.WriteString(s[i : i+end])
		i += end + 1
		if i == len(s) || s[i] != quote {
			return b.String(), i
		}
		b.WriteByte(quote)
		i++
	}
	return "", 0
}

func isCQLWordByte(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_'
}

// isCQLNumberByte reports whether s[n], not a word's byte, belongs to the number that s begins with: 0.01, 1.5e-7.
func isCQLNumberByte(s string, n int) bool {
	if n == 0 || s[0] < '0' || s[0] > '9' || n+1 == len(s) || s[n+1] < '0' || s[n+1] > '9' {
		return false
	}
	return s[n] == '.' || (s[n] == '-' || s[n] == '+') && (s[n-1] == 'e' || s[n-1] == 'E')
}

func isCQLUUID(s string) bool {
	if s[8] != '-' { // most words end here
		return false
	}
	_, err := ParseUUID(s)
	return err == nil
}
