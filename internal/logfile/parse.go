package logfile

import (
	"bytes"
	"encoding/json"
	"time"

	"github.com/brigd/brig/internal/brig"
)

// A parser reads log lines. It knows how brig writes them, and leaves all others to encoding/json, which takes ten times as long.
type parser struct {
	text  []byte            // of the last entry
	raw   string            // the last attributes
	attrs map[string]string // and what they say
}

// entry reads one line without its newline; what it returns is valid until the next call. false: it is no log line.
func (p *parser) entry(line []byte) (brig.LogEntry, bool) {
	if e, ok := p.quick(line); ok {
		return e, true
	}
	var l struct {
		Log    string            `json:"log"`
		Stream string            `json:"stream"`
		Attrs  map[string]string `json:"attrs"`
		Time   time.Time         `json:"time"`
	}
	if json.Unmarshal(line, &l) != nil {
		return brig.LogEntry{}, false
	}
	return brig.LogEntry{Stream: l.Stream, Time: l.Time.UnixNano(), Line: []byte(l.Log), Attrs: l.Attrs}, true
}

// quick reads a line as brig writes it: {"log":"…","stream":"…"[,"attrs":{…}],"time":"…"}.
func (p *parser) quick(line []byte) (e brig.LogEntry, ok bool) {
	line, ok = bytes.CutPrefix(line, []byte(`{"log":"`))
	if !ok {
		return e, false
	}
	if line, ok = p.unquote(line); !ok {
		return e, false
	}
	e.Line = p.text
	if rest, is := bytes.CutPrefix(line, []byte(`,"stream":"stdout",`)); is {
		e.Stream, line = "stdout", rest
	} else if rest, is := bytes.CutPrefix(line, []byte(`,"stream":"stderr",`)); is {
		e.Stream, line = "stderr", rest
	} else {
		return e, false
	}
	i := bytes.LastIndex(line, []byte(`"time":"`))
	if i < 0 || len(line) < i+10 || string(line[len(line)-2:]) != `"}` {
		return e, false
	}
	at, err := time.Parse(time.RFC3339Nano, string(line[i+8:len(line)-2]))
	if err != nil {
		return e, false
	}
	e.Time = at.UnixNano()
	if i == 0 {
		return e, true
	}
	raw, ok := bytes.CutPrefix(line[:i], []byte(`"attrs":`))
	raw, comma := bytes.CutSuffix(raw, []byte{','})
	if !ok || !comma {
		return e, false
	}
	if p.raw != string(raw) {
		p.raw, p.attrs = string(raw), nil
		if json.Unmarshal(raw, &p.attrs) != nil {
			p.raw = ""
			return e, false
		}
	}
	e.Attrs = p.attrs
	return e, true
}

// unquote reads a JSON string up to its closing quote into text, and returns what comes after it.
func (p *parser) unquote(b []byte) (rest []byte, ok bool) {
	p.text = p.text[:0]
	for {
		i := bytes.IndexByte(b, '"')
		if i < 0 {
			return nil, false
		}
		j := bytes.IndexByte(b[:i], '\\')
		if j < 0 {
			p.text = append(p.text, b[:i]...)
			return b[i+1:], true
		}
		p.text = append(p.text, b[:j]...)
		if j+1 >= len(b) {
			return nil, false
		}
		n := 2
		switch c := b[j+1]; c {
		case '"', '\\':
			p.text = append(p.text, c)
		case 'n':
			p.text = append(p.text, '\n')
		case 'r':
			p.text = append(p.text, '\r')
		case 'u':
			if len(b) < j+6 || string(b[j+2:j+4]) != "00" {
				return nil, false
			}
			hi, lo := unhex(b[j+4]), unhex(b[j+5])
			if hi < 0 || hi > 7 || lo < 0 {
				return nil, false
			}
			p.text = append(p.text, byte(hi<<4|lo))
			n = 6
		default:
			return nil, false
		}
		b = b[j+n:]
	}
}

func unhex(c byte) int {
	switch {
	case '0' <= c && c <= '9':
		return int(c - '0')
	case 'a' <= c && c <= 'f':
		return int(c-'a') + 10
	}
	return -1
}
