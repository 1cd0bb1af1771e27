// Package logline encodes a process's output as lines of Docker's json-file log. It depends on nothing of ours and little of
// the standard library, because each container's shim carries it.
package logline

import (
	"bytes"
	"time"
	"unicode/utf8"
)

// MaxPiece is the number of bytes after which a line without a newline is written in pieces, as dockerd does.
const MaxPiece = 16 << 10

// A Splitter turns one stream's bytes into log lines. It is for one goroutine.
type Splitter struct {
	stream string
	rest   []byte    // of the line that has not ended yet
	since  time.Time // of the first piece of a line in pieces; zero outside one
}

// NewSplitter returns the Splitter of a stream, stdout or stderr.
func NewSplitter(stream string) *Splitter { return &Splitter{stream: stream} }

// Append appends to dst the log lines that p completes, with the time now, and returns it. Further lines are each a nanosecond
// later, so that their times tell them apart for docker logs --since and --until.
func (s *Splitter) Append(dst, p []byte, now time.Time) []byte { return s.append(dst, p, "", now) }

func (s *Splitter) append(dst, p []byte, attrs string, now time.Time) []byte {
	for len(p) > 0 {
		room := MaxPiece - len(s.rest)
		i := bytes.IndexByte(p, '\n')
		switch {
		case i >= 0 && i < room:
			dst = s.emit(dst, p[:i+1], attrs, now)
			s.since = time.Time{}
			p = p[i+1:]
			now = now.Add(time.Nanosecond)
		case len(p) >= room:
			if s.since.IsZero() {
				s.since = now
			}
			dst = s.emit(dst, p[:room], attrs, now)
			p = p[room:]
		default:
			s.rest = append(s.rest, p...)
			return dst
		}
	}
	return dst
}

// Flush appends what is left at the stream's end: a last line without a newline.
func (s *Splitter) Flush(dst []byte, now time.Time) []byte { return s.flush(dst, "", now) }

func (s *Splitter) flush(dst []byte, attrs string, now time.Time) []byte {
	if len(s.rest) == 0 {
		return dst
	}
	return s.emit(dst, nil, attrs, now)
}

func (s *Splitter) emit(dst, p []byte, attrs string, now time.Time) []byte {
	if !s.since.IsZero() {
		now = s.since
	}
	if len(s.rest) == 0 {
		return appendLine(dst, s.stream, p, attrs, now)
	}
	s.rest = append(s.rest, p...)
	dst = appendLine(dst, s.stream, s.rest, attrs, now)
	s.rest = s.rest[:0]
	return dst
}

// AppendLine appends one log line: {"log":…,"stream":…,"time":…} and a newline.
func AppendLine(dst []byte, stream string, line []byte, at time.Time) []byte {
	return appendLine(dst, stream, line, "", at)
}

// appendLine puts the JSON object attrs, if there is one, where dockerd has it.
func appendLine(dst []byte, stream string, line []byte, attrs string, at time.Time) []byte {
	dst = append(dst, `{"log":`...)
	dst = AppendString(dst, line)
	dst = append(dst, `,"stream":"`...)
	dst = append(dst, stream...)
	if attrs != "" {
		dst = append(dst, `","attrs":`...)
		dst = append(dst, attrs...)
		dst = append(dst, `,"time":"`...)
	} else {
		dst = append(dst, `","time":"`...)
	}
	dst = at.UTC().AppendFormat(dst, time.RFC3339Nano)
	return append(dst, "\"}\n"...)
}

const hexDigits = "0123456789abcdef"

// AppendString appends b as a JSON string the way dockerd writes it: control characters other than newline and carriage return,
// and <, > and &, as \u00xx; bytes that are no UTF-8 as \ufffd; the line separators U+2028 and U+2029 escaped.
func AppendString(dst, b []byte) []byte {
	dst = append(dst, '"')
	start := 0
	for i := 0; i < len(b); {
		c := b[i]
		if c < utf8.RuneSelf {
			if c >= 0x20 && c != '"' && c != '\\' && c != '<' && c != '>' && c != '&' {
				i++
				continue
			}
			dst = appendEscaped(append(dst, b[start:i]...), c)
			i++
			start = i
			continue
		}
		r, n := utf8.DecodeRune(b[i:])
		if r == utf8.RuneError && n == 1 {
			dst = append(append(dst, b[start:i]...), `\ufffd`...)
			start = i + n
		} else if r == '\u2028' || r == '\u2029' {
			dst = append(append(dst, b[start:i]...), `\u202`...)
			dst = append(dst, hexDigits[r&0xf])
			start = i + n
		}
		i += n
	}
	return append(append(dst, b[start:]...), '"')
}

func appendEscaped(dst []byte, c byte) []byte {
	switch c {
	case '"', '\\':
		return append(dst, '\\', c)
	case '\n':
		return append(dst, '\\', 'n')
	case '\r':
		return append(dst, '\\', 'r')
	}
	return append(dst, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&0xf])
}
