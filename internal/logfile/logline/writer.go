package logline

import (
	"io"
	"os"
	"sync"
	"time"
)

// keep is how large a buffer a Writer keeps between writes, in bytes.
const keep = 64 << 10

// A Writer appends to a log file; it is for several goroutines, each with a Splitter of its own. A nil Writer drops everything.
type Writer struct {
	mu  sync.Mutex
	f   *os.File
	buf []byte
}

// Open opens the log at path to append, and creates it with mode 0640. A last line that a crash left torn is ended first, so that the
// next line is not lost to it.
func Open(path string) (*Writer, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_APPEND|os.O_CREATE, 0o640)
	if err != nil {
		return nil, err
	}
	if err = mend(f); err != nil {
		f.Close()
		return nil, err
	}
	return &Writer{f: f}, nil
}

// Write logs what p completes of s's stream. All lines of one call are one write(2), so a reader never sees them torn but at a crash.
func (w *Writer) Write(s *Splitter, p []byte) error {
	if w == nil {
		return nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.put(s.Append(w.buf[:0], p, time.Now()))
}

// Flush logs what is left at the stream's end.
func (w *Writer) Flush(s *Splitter) error {
	if w == nil {
		return nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.put(s.Flush(w.buf[:0], time.Now()))
}

// Close closes the file.
func (w *Writer) Close() error {
	if w == nil {
		return nil
	}
	return w.f.Close()
}

func (w *Writer) put(lines []byte) error {
	if w.buf = lines[:0]; cap(lines) > keep {
		w.buf = nil
	}
	if len(lines) == 0 {
		return nil
	}
	_, err := w.f.Write(lines)
	return err
}

// mend ends a torn last line.
func mend(f *os.File) error {
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil || size == 0 {
		return err
	}
	var last [1]byte
	if _, err = f.ReadAt(last[:], size-1); err != nil || last[0] == '\n' {
		return err
	}
	_, err = f.Write([]byte{'\n'})
	return err
}
