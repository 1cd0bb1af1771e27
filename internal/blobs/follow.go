package blobs

import (
	"context"
	"io"
	"os"
)

// Follow returns a reader of the blob from its first byte. Its Read blocks until there are further bytes; it returns EOF after a
// Commit has verified them, the failure or ErrAborted where the blob failed, and ctx's error when ctx ends.
// Any number may follow, each used by one goroutine and closed by it.
func (w *Writer) Follow(ctx context.Context) io.ReadCloser { return &follower{w: w, ctx: ctx} }

type follower struct {
	w    *Writer
	ctx  context.Context
	file *os.File
	off  int64
}

// Read implements io.Reader.
func (f *follower) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	n, err := f.wait()
	if err != nil {
		return 0, err
	}
	p = p[:min(int64(len(p)), n)]
	m, err := f.file.ReadAt(p, f.off)
	f.off += int64(m)
	if err == io.EOF && m == len(p) {
		err = nil
	}
	return m, err
}

// wait returns how many bytes can be read now, at least one, with the file open.
func (f *follower) wait() (int64, error) {
	for {
		if err := f.ctx.Err(); err != nil {
			return 0, err
		}
		n, changed, err := f.look()
		if n > 0 || err != nil {
			return n, err
		}
		select {
		case <-changed:
		case <-f.ctx.Done():
		}
	}
}

// look returns the number of unread bytes, or an error that ends the reading, or what to wait for.
func (f *follower) look() (int64, <-chan struct{}, error) {
	w := f.w
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.done && w.err != nil:
		return 0, nil, w.err
	case f.off < w.size:
		if f.file == nil {
			file, err := os.Open(w.path)
			if err != nil {
				return 0, nil, err
			}
			f.file = file
		}
		return w.size - f.off, nil, nil
	case w.done:
		return 0, nil, io.EOF
	}
	if w.changed == nil {
		w.changed = make(chan struct{})
	}
	return 0, w.changed, nil
}

// Close implements io.Closer.
func (f *follower) Close() error {
	if f.file == nil {
		return nil
	}
	return f.file.Close()
}
