// Package logfile reads containers' logs in Docker's json-file format: the last lines, a span of time, and what is still to come,
// across the files that a log with a size limit consists of.
// The writing half is its package logline, which the shims carry.
package logfile

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"path/filepath"
	"time"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
	"github.com/brigd/brig/internal/logfile/logline"
)

const (
	block   = 64 << 10 // bytes read at once
	maxLine = 1 << 20  // longer lines are no log lines: the longest piece, fully escaped, has a tenth
	ahead   = 16       // files that a slow reader holds open, so that they can be read though they are removed meanwhile
	stride  = 32       // blocks between two looks for files to hold
)

// errDone ends a reading early: the rest is later than asked for.
var errDone = errors.New("done")

// Read calls each for every entry of the log at path that o asks for, oldest first, and returns each's error at once. Tail counts
// entries of both streams before they are filtered, as dockerd's does. With Follow it goes on until ended closes and all that was
// written before has been read, or until ctx ends, which is ctx's error. A log that is not there yet is empty. A torn line, as a crash
// leaves it, is left out; no other line is given twice, and none is lost but with a file that was removed before it could be opened.
func Read(ctx context.Context, path string, o brig.LogOptions, ended <-chan struct{}, each func(brig.LogEntry) error) error {
	r := &reader{path: path, o: o, each: each}
	defer r.close()
	if !o.Follow {
		return finish(r.all(ctx))
	}
	w, err := watch(filepath.Dir(path))
	if errors.Is(err, fs.ErrNotExist) {
		return nil // its container has never run
	} else if err != nil {
		return errs.Wrap(err, "watch log")
	}
	defer w.close()
	return finish(r.follow(ctx, w.changed, ended))
}

func finish(err error) error {
	if err == errDone {
		return nil
	}
	return err
}

// A reader reads one log forward.
type reader struct {
	path string
	o    brig.LogOptions
	each func(brig.LogEntry) error

	began bool    // Tail has been sought
	open  []*file // what is read, and what comes after it as far as it is held
	next  int     // number of the file after those
	end   int     // without Follow: number of the last file
	parse parser

	rest []byte // of a line whose end has not been read yet
	skip bool   // rest was too long: drop up to the next newline
}

func (r *reader) close() {
	for _, f := range r.open {
		f.Close()
	}
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

// all reads to the end of the log as it is now.
func (r *reader) all(ctx context.Context) error {
	if !r.began {
		if err := r.begin(); err != nil {
			return errs.Wrap(err, "read log")
		}
		r.began = true
	}
	for {
		if len(r.open) == 0 {
			f, err := openFile(r.path, &r.next)
			if err != nil {
				return errs.Wrap(err, "read log")
			}
			if f == nil {
				return nil
			}
			r.open = append(r.open, f)
		}
		f := r.open[0]
		f.look(r.path) // before the reading, so that the end that is read after it is the file's
		if err := r.drain(ctx, f); err != nil {
			return err
		}
		if f.current {
			return nil
		}
		if !r.o.Follow && f.number >= r.end {
			return errDone
		}
		f.Close()
		r.open, r.rest, r.skip = r.open[1:], r.rest[:0], false
	}
}

// begin finds the first file and, with Tail, the place in it.
func (r *reader) begin() error {
	numbers, err := logline.Numbers(r.path)
	if err != nil {
		return err
	}
	r.next, r.end = 1, 1
	if len(numbers) > 0 {
		r.next, r.end = numbers[0], numbers[len(numbers)-1]+1
	}
	if r.o.Tail < 0 {
		return nil
	}
	first := r.next
	r.next = r.end
	for n, left := r.end, r.o.Tail; ; n-- {
		at := n
		f, err := openFile(r.path, &at)
		if err != nil {
			return err
		}
		if f != nil && at != n+1 { // n went away meanwhile
			f.Close()
			return nil
		}
		if f != nil {
			r.open = append([]*file{f}, r.open...)
			r.next = max(r.next, at)
			seen, err := f.tail(left)
			if err != nil {
				return err
			}
			left -= seen
		}
		if left <= 0 || n <= first {
			return nil
		}
	}
}

// drain reads f to its end as it is now.
func (r *reader) drain(ctx context.Context, f *file) error {
	if !f.current && r.o.Since != 0 && f.before(r.o.Since) {
		return nil
	}
	buf := make([]byte, block)
	limit := int64(-1)
	if f.current && !r.o.Follow {
		limit = f.size() // or a busy container's log would have no end
	}
	for i := 1; ; i++ {
		if err := ctx.Err(); err != nil {
			return err
		}
		if i%stride == 0 {
			r.hold()
		}
		n, err := f.Read(buf)
		if limit >= 0 {
			n = int(min(int64(n), limit))
			if limit -= int64(n); limit == 0 && err == nil {
				err = io.EOF
			}
		}
		if lerr := r.lines(f, buf[:n]); lerr != nil {
			return lerr
		}
		if err == io.EOF {
			return nil
		} else if err != nil {
			return errs.Wrap(err, "read log")
		}
	}
}

// hold opens the files that have come after those that are open.
func (r *reader) hold() {
	for len(r.open) < ahead {
		if f := r.open[len(r.open)-1]; f.current {
			if f.look(r.path); f.current {
				return
			}
		}
		f, err := openFile(r.path, &r.next)
		if err != nil || f == nil {
			return // it comes to light again when its turn has come
		}
		r.open = append(r.open, f)
	}
}

// lines gives each whole line of p, after what was left of the last one.
func (r *reader) lines(f *file, p []byte) error {
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
		if f.skip > 0 {
			f.skip--
			continue
		}
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
	e, ok := r.parse.entry(line)
	if !ok {
		return nil // torn by a crash
	}
	switch {
	case r.o.Since != 0 && e.Time < r.o.Since:
		return nil
	case r.o.Until != 0 && e.Time > r.o.Until:
		return errDone
	case e.Stream == "stdout" && !r.o.Stdout, e.Stream == "stderr" && !r.o.Stderr:
		return nil
	}
	return r.each(e)
}
