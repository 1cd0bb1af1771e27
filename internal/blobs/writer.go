package blobs

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"hash"
	"io"
	"os"
	"path/filepath"
	"sync"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
	"github.com/brigd/brig/internal/fault"
)

// ErrAborted is what followers of an aborted blob read.
var ErrAborted = errors.New("the blob's transfer was given up")

// A Writer is a blob in the making. One goroutine writes: Write any number of times, then Commit or Abort.
// Others may follow the bytes meanwhile:
//
//	w, err := store.Create(ctx, digest, size)
//	defer w.Abort()                // no-op after Commit
//	go apply(w.Follow(ctx))        // sees bytes as they come; EOF only once the digest has been verified
//	io.Copy(w, body)               // on a broken connection: fetch again from w.Size() and copy on
//	desc, err := w.Commit()
//
// A follower that acts on bytes before EOF acts on unverified bytes: it must be ready to undo.
type Writer struct {
	store *Store
	want  brig.Digest // "": any
	limit int64       // -1: any

	hash hash.Hash // the writing goroutine's own
	file *os.File

	mu      sync.Mutex
	path    string        // where the bytes are: in tmp, then in place
	size    int64         // bytes written
	done    bool          // no byte will follow
	err     error         // set with done: what followers get instead of EOF
	changed chan struct{} // closed at the next change; nil while nobody waits
}

// Create starts a blob. want "" accepts any digest; size is its length in bytes, or -1. The caller must Commit or Abort.
func (s *Store) Create(ctx context.Context, want brig.Digest, size int64) (*Writer, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if want != "" {
		if _, err := brig.ParseDigest(string(want)); err != nil {
			return nil, err
		}
	}
	f, err := os.CreateTemp(s.tmp, "blob-")
	if err != nil {
		return nil, err
	}
	return &Writer{store: s, want: want, limit: size, hash: sha256.New(), file: f, path: f.Name()}, nil
}

// Write appends p. Bytes beyond the announced size are refused with Invalid and end the blob, as a failed write to disk does.
func (w *Writer) Write(p []byte) (int, error) {
	if w.ended() {
		return 0, os.ErrClosed
	}
	if w.limit >= 0 && w.Size()+int64(len(p)) > w.limit {
		err := errs.New(errs.Invalid, "blob %s: more than the announced %d bytes came", w.want, w.limit)
		w.fail(err)
		return 0, err
	}
	n, err := w.file.Write(p)
	w.hash.Write(p[:n])
	w.mu.Lock()
	w.size += int64(n)
	w.wake()
	w.mu.Unlock()
	if err != nil {
		w.fail(err)
	}
	return n, err
}

// Size returns how many bytes have been written.
func (w *Writer) Size() int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.size
}

// Commit verifies size and digest, lets followers read to EOF, and puts the blob in place durably.
// On error nothing is kept, and followers that have not read all get the error.
func (w *Writer) Commit() (brig.Descriptor, error) {
	if w.ended() {
		return brig.Descriptor{}, os.ErrClosed
	}
	got := brig.Digest("sha256:" + hex.EncodeToString(w.hash.Sum(nil)))
	if err := w.verify(got); err != nil {
		w.fail(err)
		return brig.Descriptor{}, err
	}
	w.finish(nil)
	if err := w.place(got); err != nil {
		os.Remove(w.file.Name())
		return brig.Descriptor{}, errs.Wrap(err, "store blob %s", got)
	}
	return brig.Descriptor{Digest: got, Size: w.size}, nil
}

// Abort gives the blob up: its bytes are removed and followers get ErrAborted. After Commit or Abort it does nothing.
func (w *Writer) Abort() { w.fail(ErrAborted) }

func (w *Writer) verify(got brig.Digest) error {
	if w.limit >= 0 && w.size != w.limit {
		return errs.New(errs.Invalid, "blob %s: %d bytes came, %d were announced", w.want, w.size, w.limit)
	}
	if w.want != "" && got != w.want {
		return errs.New(errs.Invalid, "blob %s: its bytes have the digest %s", w.want, got)
	}
	return nil
}

// place syncs the file and renames it; the directory is synced too, else the name could be lost with the power.
func (w *Writer) place(d brig.Digest) error {
	if err := errors.Join(w.file.Sync(), w.file.Close()); err != nil {
		return err
	}
	fault.Point("blob.synced")
	to := filepath.Join(w.store.sums, d.Hex())
	w.mu.Lock()
	err := os.Rename(w.path, to)
	if err == nil {
		w.path = to
	}
	w.mu.Unlock()
	if err != nil {
		return err
	}
	fault.Point("blob.placed")
	dir, err := os.Open(w.store.sums)
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}

func (w *Writer) ended() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.done
}

// fail ends the blob with err and removes its bytes, unless it has ended already.
func (w *Writer) fail(err error) {
	if w.ended() {
		return
	}
	w.finish(err)
	w.file.Close()
	os.Remove(w.file.Name())
}

func (w *Writer) finish(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.done, w.err = true, err
	w.wake()
}

// wake tells waiting followers that something has changed. mu is held.
func (w *Writer) wake() {
	if w.changed != nil {
		close(w.changed)
		w.changed = nil
	}
}

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
