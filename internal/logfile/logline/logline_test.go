package logline

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
)

func TestAppendLine(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 6000, time.FixedZone("", 3600))
	for _, c := range []struct{ in, want string }{
		{"hello\n", `{"log":"hello\n","stream":"stdout","time":"2026-01-02T02:04:05.000006Z"}`},
		{"a\"b\\c\td\r\n", `{"log":"a\"b\\c\u0009d\r\n","stream":"stdout","time":"2026-01-02T02:04:05.000006Z"}`},
		{"<&>\x00\xff\u2028é", `{"log":"\u003c\u0026\u003e\u0000\ufffd\u2028é","stream":"stdout","time":"2026-01-02T02:04:05.000006Z"}`},
	} {
		got := string(AppendLine(nil, "stdout", []byte(c.in), at))
		if got != c.want+"\n" {
			t.Errorf("%q:\n got %s\nwant %s", c.in, got, c.want)
		}
		if !json.Valid([]byte(got)) {
			t.Errorf("%q gives no JSON", c.in)
		}
	}
}

func TestSplitter(t *testing.T) {
	long := strings.Repeat("x", MaxPiece)
	for _, c := range []struct {
		name   string
		chunks []string
		want   []string
	}{
		{"lines", []string{"a\nb\n"}, []string{"a\n", "b\n"}},
		{"across chunks", []string{"a", "b\nc", "\n"}, []string{"ab\n", "c\n"}},
		{"no newline at the end", []string{"a\nrest"}, []string{"a\n", "rest"}},
		{"exactly one piece", []string{long + "\n"}, []string{long, "\n"}},
		{"long", []string{long[:100], long, "tail\nnext\n"}, []string{long, long[:100] + "tail\n", "next\n"}},
		{"just short", []string{long[1:] + "\n"}, []string{long[1:] + "\n"}},
		{"empty lines", []string{"\n\n"}, []string{"\n", "\n"}},
	} {
		s := NewSplitter("stderr")
		var b []byte
		for i, chunk := range c.chunks {
			b = s.Append(b, []byte(chunk), time.Unix(int64(i), 0))
		}
		b = s.Flush(b, time.Unix(99, 0))
		var got []string
		for line := range strings.Lines(string(b)) {
			var l struct{ Log, Stream string }
			if err := json.Unmarshal([]byte(line), &l); err != nil || l.Stream != "stderr" {
				t.Errorf("%s: %v %q", c.name, err, line)
			}
			got = append(got, l.Log)
		}
		if strings.Join(got, "|") != strings.Join(c.want, "|") {
			t.Errorf("%s: %d lines, want %d", c.name, len(got), len(c.want))
		}
	}
}

func TestLinesOfOneReadHaveTheirOwnTimes(t *testing.T) {
	b := NewSplitter("stdout").Append(nil, []byte("a\nb\nc\n"), time.Unix(7, 0))
	for i, line := range strings.Split(strings.TrimSpace(string(b)), "\n") {
		var l struct{ Time time.Time }
		if err := json.Unmarshal([]byte(line), &l); err != nil || l.Time.UnixNano() != 7e9+int64(i) {
			t.Errorf("line %d: %v, %v", i, l.Time, err)
		}
	}
}
