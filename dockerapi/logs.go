package dockerapi

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
	"github.com/brigd/brig/internal/logopts"
)

// logTime is RFC 3339 with all nine digits, so that lines stay aligned.
const logTime = "2006-01-02T15:04:05.000000000Z07:00"

func (s *Server) containerLogs(ctx context.Context, r *request) (response, error) {
	o, err := logOptions(r)
	if err != nil {
		return nil, err
	}
	c, err := s.Containers.Get(ctx, r.ref())
	if err != nil {
		return nil, err
	}
	if !logopts.Readable(c.Spec.Log) {
		return nil, notYet("configured logging driver does not support reading")
	}
	return func(a *answer) error {
		framed := !c.Spec.TTY
		out := &logWriter{
			w: bufio.NewWriterSize(&lateWriter{a: a, contentType: streamType(r.version, framed)}, 32<<10), framed: framed,
			timestamps: r.flag("timestamps"), details: r.flag("details"),
		}
		if o.Follow {
			a.Header().Set("Content-Type", streamType(r.version, framed))
			a.Flush() // the client shall know that it follows, also while there is nothing to read
			out.flush = a.Flush
		}
		err := s.Terminals.Logs(ctx, string(c.ID), o, out.entry)
		if err != nil && ctx.Err() == nil && (a.begun() || out.w.Buffered() > 0) && !errors.Is(err, out.err) {
			out.write("stderr", fmt.Appendf(nil, "Error grabbing logs: %v\n", err))
			err = nil
		}
		return errors.Join(err, out.w.Flush())
	}, nil
}

func logOptions(r *request) (o brig.LogOptions, err error) {
	o = brig.LogOptions{Stdout: r.flag("stdout"), Stderr: r.flag("stderr"), Follow: r.flag("follow"), Tail: -1}
	if !o.Stdout && !o.Stderr {
		return o, invalid("Bad parameters: you must choose at least one stream")
	}
	if n, err := strconv.Atoi(r.query.Get("tail")); err == nil { // anything else is "all"
		o.Tail = n
	}
	if o.Since, err = unixNano("since", r.query.Get("since")); err != nil {
		return o, err
	}
	o.Until, err = unixNano("until", r.query.Get("until"))
	return o, err
}

// unixNano reads a time as Unix nanoseconds; none is 0.
func unixNano(name, s string) (int64, error) {
	t, err := parseTime(s, time.Now())
	if err != nil || t.IsZero() {
		return 0, errs.Wrap(err, "invalid value for %q", name)
	}
	return t.UnixNano(), nil
}

// logWriter writes log entries as the client wants them.
type logWriter struct {
	w                           *bufio.Writer
	framed, timestamps, details bool
	flush                       func() // nil: at the end
	line                        []byte
	err                         error // of the client's connection
}

func (l *logWriter) entry(e brig.LogEntry) error {
	line := l.line[:0]
	if l.timestamps {
		line = time.Unix(0, e.Time).UTC().AppendFormat(line, logTime)
		line = append(line, ' ')
	}
	if l.details {
		line = append(appendAttrs(line, e.Attrs), ' ')
	}
	l.line = append(line, e.Line...)
	if err := l.write(e.Stream, l.line); err != nil {
		return err
	}
	if l.flush == nil {
		return nil
	}
	if l.err = l.w.Flush(); l.err != nil {
		return l.err
	}
	l.flush()
	return nil
}

// appendAttrs appends key=value,… in the order of the keys, each escaped as in a URL's query.
func appendAttrs(dst []byte, attrs map[string]string) []byte {
	for i, k := range slices.Sorted(maps.Keys(attrs)) {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(append(append(dst, url.QueryEscape(k)...), '='), url.QueryEscape(attrs[k])...)
	}
	return dst
}

func (l *logWriter) write(stream string, b []byte) error {
	var err error
	switch {
	case !l.framed:
		_, err = l.w.Write(b)
	case stream == "stderr":
		_, err = writeFrame(l.w, streamStderr, b)
	default:
		_, err = writeFrame(l.w, streamStdout, b)
	}
	l.err = errs.As(errs.Canceled, err)
	return l.err
}
