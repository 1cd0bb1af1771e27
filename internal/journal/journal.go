// Package journal keeps the newest events in files, so that they outlive brigd.
//
// There are two files, PATH and PATH.1, of JSON lines in the order of the events. What is new goes to the end of PATH with one write(2)
// and no sync: it survives kill -9 of brigd once Append has returned, and the loss of the machine only as far as the kernel has written
// it out. A full PATH takes the place of PATH.1 by one rename(2), so no event is ever in both.
package journal

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"time"

	"github.com/brigd/brig/internal/brig"
)

// maxBytes is the size at which a file is full, however few events it has.
const maxBytes = 4 << 20

// line is an event in a file.
type line struct {
	Time       time.Time         `json:"time"`
	Type       string            `json:"type"`
	Action     string            `json:"action"`
	Actor      string            `json:"actor"`
	Attributes map[string]string `json:"attributes,omitempty"`
}

// A Journal is an open pair of files. One goroutine at a time may use it.
type Journal struct {
	path  string
	keep  int // events that a file has when it is full
	log   *slog.Logger
	file  *os.File // nil if it could not be opened
	count int      // lines in file
	size  int64    // of file, in bytes
	torn  bool     // file doesn't end with a newline
	bad   bool     // the last Append failed, and that is in the log
}

// Open opens the files at path, makes them (mode 0600) if they are missing, and returns the newest keep events or more, oldest first.
// Lines that are damaged are passed over and counted in the log. The caller closes the Journal.
func Open(path string, keep int, log *slog.Logger) (*Journal, []brig.Event, error) {
	j := &Journal{path: path, keep: keep, log: log}
	older, _, err := j.read(path + ".1")
	if err != nil {
		return nil, nil, err
	}
	newer, lines, err := j.read(path)
	if err != nil {
		return nil, nil, err
	}
	if err := j.open(); err != nil {
		return nil, nil, err
	}
	j.count = lines
	return j, append(older, newer...), nil
}

// Close closes the file.
func (j *Journal) Close() error {
	if j.file == nil {
		return nil
	}
	return j.file.Close()
}

// open opens path for what comes.
func (j *Journal) open() error {
	f, err := os.OpenFile(j.path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("open the journal of events: %w", err)
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = errors.New("it is no regular file")
	}
	if err != nil {
		f.Close()
		return fmt.Errorf("open the journal of events %s: %w", j.path, err)
	}
	j.file, j.size, j.count, j.torn = f, info.Size(), 0, false
	if j.size > 0 {
		last := make([]byte, 1)
		_, err := f.ReadAt(last, j.size-1)
		j.torn = err != nil || last[0] != '\n'
	}
	return nil
}

// read returns the events of a file, and how many lines it has.
func (j *Journal) read(path string) (events []brig.Event, lines int, err error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, 0, nil
	}
	if err != nil {
		return nil, 0, fmt.Errorf("read the journal of events: %w", err)
	}
	defer f.Close()
	damaged := 0
	r := bufio.NewReader(io.LimitReader(f, 4*maxBytes)) // a file that brigd wrote is smaller
	for {
		b, err := r.ReadBytes('\n')
		if b = bytes.TrimSpace(b); len(b) > 0 {
			lines++
			var l line
			if json.Unmarshal(b, &l) != nil || l.Type == "" || l.Action == "" || l.Time.IsZero() {
				damaged++
			} else {
				events = append(events, brig.Event{Type: l.Type, Action: l.Action, ActorID: l.Actor, Attributes: l.Attributes, Time: l.Time})
			}
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, 0, fmt.Errorf("read the journal of events: %w", err)
		}
	}
	if damaged > 0 {
		j.log.Warn("the journal of events has damaged lines; they are passed over", "file", path, "damaged", damaged, "whole", len(events))
	}
	return events, lines, nil
}

// Append writes e. An error is logged once, until one succeeds again: an event that can't be kept is no reason to stop.
func (j *Journal) Append(e brig.Event) {
	err := j.append(e)
	if err != nil && !j.bad {
		j.log.Error("events can't be kept for after a restart of brigd", "file", j.path, "err", err)
	}
	j.bad = err != nil
}

func (j *Journal) append(e brig.Event) error {
	if j.file == nil || j.count >= j.keep || j.size >= maxBytes {
		if err := j.turn(); err != nil {
			return err
		}
	}
	b, err := json.Marshal(line{e.Time, e.Type, e.Action, e.ActorID, e.Attributes})
	if err != nil {
		return err
	}
	b = append(b, '\n')
	if j.torn {
		b = append([]byte{'\n'}, b...)
	}
	n, err := j.file.Write(b)
	j.size += int64(n)
	if err != nil {
		j.torn = j.torn || n > 0
		return err
	}
	j.count, j.torn = j.count+1, false
	return nil
}

// turn makes room: the file becomes the older one of the two.
func (j *Journal) turn() error {
	if j.file != nil {
		if err := os.Rename(j.path, j.path+".1"); err != nil {
			return err
		}
		j.file.Close()
		j.file = nil
	}
	return j.open()
}
