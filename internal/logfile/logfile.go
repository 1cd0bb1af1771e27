// Package logfile reads containers' logs in Docker's json-file format: the last lines, a span of time, and what is still to come.
// The writing half is its package logline, which the shims carry.
package logfile

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"time"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
)

const (
	block   = 64 << 10 // bytes read at once
	maxLine = 1 << 20  // longer lines are no log lines: the longest piece, fully escaped, has a tenth
)

// errDone ends a reading early: the rest is later than asked for.
var errDone = errors.New("done")

// Read calls each for every entry of the log at path that o asks for, oldest first, and returns each's error at once. Tail counts
// entries of both streams before they are filtered, as dockerd's does. With Follow it goes on until ended closes and all that was
// written before has been read, or until ctx ends, which is ctx's error. A log that is not there yet is empty. A torn line, as a crash
// leaves it, is left out; no other line is lost or given twice.
func Read(ctx context.Context, path string, o brig.LogOptions, ended <-chan struct{}, each func(brig.LogEntry) error) error {
	if !o.Follow {
		f, err := os.Open(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		} else if err != nil {
			return errs.Wrap(err, "open log")
		}
		defer f.Close()
		return finish((&reader{f: f, o: o, each: each}).all(ctx))
	}
	// O_CREATE, so that there is something to watch before the container's first line.
	f, err := os.OpenFile(path, os.O_RDONLY|os.O_CREATE, 0o640)
	if err != nil {
		return errs.Wrap(err, "open log")
	}
	defer f.Close()
	w, err := watch(path)
	if err != nil {
		return errs.Wrap(err, "watch log")
	}
	defer w.close()
	return finish((&reader{f: f, o: o, each: each}).follow(ctx, w.changed, ended))
}

func finish(err error) error {
	if err == errDone {
		return nil
	}
	return err
}

// A reader reads one log forward.
type reader struct {
	f    *os.File
	o    brig.LogOptions
	each func(brig.LogEntry) error

	began bool   // Tail has been sought
	rest  []byte // of a line whose end has not been read yet
	skip  bool   // rest was too long: drop up to the next newline
}

// follow reads what is there and then what comes.
func (r *reader) follow(ctx context.Context, changed <-chan struct{}, ended <-chan struct{}) error {
	for last := false; ; {
		if err := r.all(ctx); err != nil || last {
			return err
		}
		var until <-chan time.Time
		var timer *time.Timer
		if r.o.Until != 0 {
			timer = time.NewTimer(time.Until(time.Unix(0, r.o.Until)))
			until = timer.C
		}
		select {
		case <-changed:
		case <-ended:
			last = true
		case <-until:
			last = true
		case <-ctx.Done():
			return ctx.Err()
		}
		if timer != nil {
			timer.Stop()
		}
	}
}

// all reads to the end of the file as it is now.
func (r *reader) all(ctx context.Context) error {
	if !r.began {
		r.began = true
		if r.o.Tail >= 0 {
			at, err := tailOffset(r.f, r.o.Tail)
			if err != nil {
				return errs.Wrap(err, "read log")
			}
			if _, err = r.f.Seek(at, io.SeekStart); err != nil {
				return err
			}
		}
	}
	buf := make([]byte, block)
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := r.f.Read(buf)
		if lerr := r.lines(buf[:n]); lerr != nil {
			return lerr
		}
		if err == io.EOF {
			return nil
		} else if err != nil {
			return errs.Wrap(err, "read log")
		}
	}
}

// lines gives each whole line of p, after what was left of the last one.
func (r *reader) lines(p []byte) error {
	for len(p) > 0 {
		i := bytes.IndexByte(p, '\n')
		if i < 0 {
			if r.rest = append(r.rest, p...); len(r.rest) > maxLine {
				r.rest, r.skip = r.rest[:0], true
			}
			return nil
		}
		line := p[:i]
		if len(r.rest) > 0 {
			r.rest = append(r.rest, line...)
			line = r.rest
		}
		p = p[i+1:]
		skip := r.skip
		r.rest, r.skip = r.rest[:0], false
		if skip {
			continue
		}
		if err := r.entry(line); err != nil {
			return err
		}
	}
	return nil
}

// entry gives one line if it is asked for.
func (r *reader) entry(line []byte) error {
	var l struct {
		Log    string    `json:"log"`
		Stream string    `json:"stream"`
		Time   time.Time `json:"time"`
	}
	if json.Unmarshal(line, &l) != nil {
		return nil // torn by a crash
	}
	at := l.Time.UnixNano()
	switch {
	case r.o.Since != 0 && at < r.o.Since:
		return nil
	case r.o.Until != 0 && at > r.o.Until:
		return errDone
	case l.Stream == "stdout" && !r.o.Stdout, l.Stream == "stderr" && !r.o.Stderr:
		return nil
	}
	return r.each(brig.LogEntry{Stream: l.Stream, Time: at, Line: []byte(l.Log)})
}

// tailOffset returns where the last n whole lines begin, reading backwards from the end.
func tailOffset(f *os.File, n int) (int64, error) {
	end, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return 0, err
	}
	buf := make([]byte, block)
	seen := 0 // newlines; the one that ends the last of the n lines is the first
	for at := end; at > 0; {
		size := min(int64(block), at)
		at -= size
		b := buf[:size]
		if _, err := f.ReadAt(b, at); err != nil {
			return 0, err
		}
		for i := len(b) - 1; i >= 0; i-- {
			if b[i] != '\n' {
				continue
			}
			if seen == n {
				return at + int64(i) + 1, nil
			}
			seen++
		}
	}
	return 0, nil
}
