package logline

import (
	"bytes"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// keep is how large a buffer a Writer keeps between writes, in bytes.
const keep = 64 << 10

// Options say how a Writer keeps its log. The zero value is one file that grows.
type Options struct {
	MaxSize  int64  // bytes at which a file is full and the next begins; 0: never
	MaxFiles int    // how many files there are at most, the current one included; less than 2: a full file is thrown away
	Compress bool   // full files are compressed in the background
	Attrs    string // JSON object that each line carries; "": none
}

// A Writer appends to a log file; it is for several goroutines, each with a Splitter of its own. A nil Writer drops everything.
//
// When the file is full it gets a number behind its name, one higher than any before, and a new file takes its place. Nothing is
// written to a file that has a number, and numbers are never used again while a numbered file is left: that is what readers rely on.
type Writer struct {
	path string
	o    Options

	mu    sync.Mutex
	f     *os.File
	buf   []byte
	size  int64
	retry int64 // a rotation that failed is tried again at this size
	torn  bool  // the last write ended within a line
	last  int   // the highest number

	packer  sync.Mutex // held to change the set of numbered files
	pending []int      // files to compress, guarded by packer
	packing bool       // guarded by packer
	halted  atomic.Bool
	packs   sync.WaitGroup
}

// Open opens the log at path to append, and creates it with mode 0640. A last line that a crash left torn is ended first, so that the
// next line is not lost to it; what a crash left uncompressed is compressed.
func Open(path string, o Options) (*Writer, error) {
	w := &Writer{path: path, o: o}
	left, err := w.tidy()
	if err != nil {
		return nil, err
	}
	if w.f, err = os.OpenFile(path, os.O_RDWR|os.O_APPEND|os.O_CREATE, 0o640); err != nil {
		return nil, err
	}
	if w.size, err = mend(w.f); err != nil {
		w.f.Close()
		return nil, err
	}
	w.pack(left...)
	return w, nil
}

// Write logs what p completes of s's stream. All lines of one call are one write(2), unless the file is full between them, so a reader
// never sees them torn but at a crash.
func (w *Writer) Write(s *Splitter, p []byte) error {
	if w == nil {
		return nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.put(s.append(w.buf[:0], p, w.o.Attrs, time.Now()))
}

// Flush logs what is left at the stream's end.
func (w *Writer) Flush(s *Splitter) error {
	if w == nil {
		return nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.put(s.flush(w.buf[:0], w.o.Attrs, time.Now()))
}

// Halt ends the compression of full files, now and for the future, and returns when it has. A file that it was at stays as it is.
func (w *Writer) Halt() {
	if w == nil {
		return
	}
	w.halted.Store(true)
	w.packer.Lock()
	w.pending = nil
	w.packer.Unlock()
	w.packs.Wait()
}

// Close halts and closes the file.
func (w *Writer) Close() error {
	if w == nil {
		return nil
	}
	w.Halt()
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.f.Close()
}

func (w *Writer) put(lines []byte) error {
	if w.buf = lines[:0]; cap(lines) > keep {
		w.buf = nil
	}
	var failed error
	for len(lines) > 0 {
		w.makeRoom()
		n := w.fits(lines)
		if err := w.append(lines[:n]); err != nil && failed == nil {
			failed = err
		}
		lines = lines[n:]
	}
	return failed
}

// makeRoom begins a new file if this one is full.
func (w *Writer) makeRoom() {
	if w.o.MaxSize <= 0 || w.size < max(w.o.MaxSize, w.retry) {
		return
	}
	if w.rotate() != nil {
		w.retry = w.size + w.o.MaxSize // rather too long a file than a lost line
	}
}

// fits returns how much of lines goes into this file: the line that fills it is its last.
func (w *Writer) fits(lines []byte) int {
	if w.o.MaxSize <= 0 {
		return len(lines)
	}
	room := max(w.o.MaxSize, w.retry) - w.size
	if room >= int64(len(lines)) {
		return len(lines)
	}
	from := max(0, int(room)-1)
	return from + bytes.IndexByte(lines[from:], '\n') + 1
}

// append writes whole lines.
func (w *Writer) append(lines []byte) error {
	if w.torn {
		n, err := w.f.Write([]byte{'\n'})
		if w.size += int64(n); err != nil {
			return err
		}
		w.torn = false
	}
	n, err := w.f.Write(lines)
	w.size += int64(n)
	w.torn = n > 0 && lines[n-1] != '\n'
	return err
}

// mend ends a torn last line, and returns the file's size.
func mend(f *os.File) (int64, error) {
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil || size == 0 {
		return size, err
	}
	var last [1]byte
	if _, err = f.ReadAt(last[:], size-1); err != nil || last[0] == '\n' {
		return size, err
	}
	_, err = f.Write([]byte{'\n'})
	return size + 1, err
}
