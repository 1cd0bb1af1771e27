package logfile

import (
	"encoding/json"
	"maps"
	"path/filepath"
	"testing"
	"time"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/logfile/logline"
)

type plainEntry struct {
	Log, Stream string
	Attrs       map[string]string
	Time        time.Time
}

func TestAttributes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	w := openLog(t, path, logline.Options{Attrs: `{"a":"b","c":"\"time\":\""}`})
	w.Write(logline.NewSplitter("stderr"), []byte("x\n"))
	n := 0
	err := Read(t.Context(), path, wholeLog, nil, func(e brig.LogEntry) error {
		n++
		if string(e.Line) != "x\n" || e.Stream != "stderr" || !maps.Equal(e.Attrs, map[string]string{"a": "b", "c": `"time":"`}) {
			t.Errorf("%+v", e)
		}
		return nil
	})
	if err != nil || n != 1 {
		t.Error(n, err)
	}
}

// FuzzEntry: whatever a container prints, and whatever lies in the file, the quick way and encoding/json agree.
func FuzzEntry(f *testing.F) {
	for _, s := range []string{"hello\n", "a\"b\\c\td\r\n", "<&>\x00\xff\u2028é", `","stream":"stderr","time":"`, "", "\x7f\x80", `\u0041`} {
		f.Add([]byte(s), []byte(s))
	}
	f.Add([]byte("x"), []byte(`{"log":"x","stream":"stdout","attrs":{"a":"b"},"time":"2026-01-02T03:04:05.6Z"}`))
	f.Add([]byte("x"), []byte(`{"log":"x","stream":"stdout","stream":"stderr","time":"2026-01-02T03:04:05.6Z"}`))
	f.Add([]byte("x"), []byte(`{"log":"\u0041\/","stream":"stdout","time":"2026-01-02T03:04:05.6+01:00"}`))
	f.Fuzz(func(t *testing.T, text, raw []byte) {
		line := logline.AppendLine(nil, "stdout", text, time.Unix(1, 2))
		line = line[:len(line)-1]
		var p parser
		if _, ok := p.quick(line); !ok {
			var l plainEntry
			if json.Unmarshal(line, &l) != nil {
				t.Fatalf("our own line %q is none", line)
			}
		}
		for _, b := range [][]byte{line, raw} {
			e, ok := p.quick(b)
			if !ok {
				continue
			}
			var l plainEntry
			if err := json.Unmarshal(b, &l); err != nil {
				continue // it is no JSON, and what it says is as good as nothing
			}
			if l.Log != string(e.Line) || l.Stream != e.Stream || l.Time.UnixNano() != e.Time || !maps.Equal(l.Attrs, e.Attrs) {
				t.Errorf("%q:\nquick %+v %q\njson  %+v", b, e, e.Line, l)
			}
		}
	})
}
