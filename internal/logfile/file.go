package logfile

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"io/fs"
	"os"
	"time"

	"github.com/brigd/brig/internal/logfile/logline"
)

// A file is one of a log's, open. It is the same file whatever becomes of its name.
type file struct {
	*os.File
	number  int
	current bool         // it may grow: it had no number when somebody looked last
	zip     *gzip.Reader // nil: it is not compressed
	skip    int          // lines to leave out at its begin
}

// openFile opens the log's file number *n, or the next one if that has been removed, and sets *n to the number after it.
// nil: it is the current file, and not there yet.
func openFile(path string, n *int) (*file, error) {
	for {
		plain, packed := logline.Numbered(path, *n)
		for _, name := range []string{plain, packed} { // in this order, for a file is compressed but never the reverse
			f, err := os.Open(name)
			if errors.Is(err, fs.ErrNotExist) {
				continue
			} else if err != nil {
				return nil, err
			}
			out := &file{File: f, number: *n}
			if name == packed {
				if out.zip, err = gzip.NewReader(f); err != nil {
					f.Close()
					return nil, err
				}
			}
			*n++
			return out, nil
		}
		f, err := os.Open(path)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		// Is what was opened still the current file, and was it number *n?
		numbers, nerr := logline.Numbers(path)
		if nerr == nil && (len(numbers) == 0 || numbers[len(numbers)-1] < *n) {
			if err != nil {
				return nil, nil
			}
			*n++
			return &file{File: f, number: *n - 1, current: true}, nil
		}
		if err == nil {
			f.Close()
		}
		if nerr != nil {
			return nil, nerr
		}
		*n = max(*n, numbers[0]) // what is older has been removed
	}
}

// look finds out whether the file is still the log's current one. When it is no more, nothing is written to it any more.
func (f *file) look(path string) {
	if !f.current {
		return
	}
	now, err := os.Stat(path)
	if err != nil {
		f.current = false
		return
	}
	mine, err := f.Stat()
	f.current = err == nil && os.SameFile(now, mine)
}

// Read implements io.Reader: what it gives is not compressed.
func (f *file) Read(p []byte) (int, error) {
	if f.zip != nil {
		return f.zip.Read(p)
	}
	return f.File.Read(p)
}

// size is how many bytes there are from where it is read, at most: -1 if that is not known.
func (f *file) size() int64 {
	st, err := f.Stat()
	if err != nil {
		return -1
	}
	at, err := f.Seek(0, io.SeekCurrent)
	if err != nil {
		return -1
	}
	return max(0, st.Size()-at)
}

// before reports whether all of the file was written before the time, in Unix nanoseconds. The kernel's clock is a little coarse.
func (f *file) before(since int64) bool {
	st, err := f.Stat()
	return err == nil && st.ModTime().Add(time.Second).UnixNano() < since
}

// tail moves to the last n lines, and returns how many there are from there.
func (f *file) tail(n int) (int, error) {
	if f.zip == nil {
		at, seen, err := tailOffset(f.File, n)
		if err == nil {
			_, err = f.Seek(at, io.SeekStart)
		}
		return seen, err
	}
	lines, buf := 0, make([]byte, block)
	for {
		k, err := f.zip.Read(buf)
		lines += bytes.Count(buf[:k], []byte{'\n'})
		if err == io.EOF {
			break
		} else if err != nil {
			return 0, err
		}
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return 0, err
	}
	f.skip = max(0, lines-n)
	return lines - f.skip, f.zip.Reset(f.File)
}

// tailOffset returns where the last n whole lines begin, reading backwards from the end, and how many there are.
func tailOffset(f *os.File, n int) (at int64, lines int, err error) {
	end, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return 0, 0, err
	}
	buf := make([]byte, block)
	seen := 0 // newlines; the one that ends the last of the n lines is the first
	for at := end; at > 0; {
		size := min(int64(block), at)
		at -= size
		b := buf[:size]
		if _, err := f.ReadAt(b, at); err != nil {
			return 0, 0, err
		}
		for i := len(b) - 1; i >= 0; i-- {
			if b[i] != '\n' {
				continue
			}
			if seen == n {
				return at + int64(i) + 1, n, nil
			}
			seen++
		}
	}
	return 0, seen, nil
}
