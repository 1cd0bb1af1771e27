package blobs

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"hash"
	"os"
	"path/filepath"
	"sync"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
	"github.com/brigd/brig/internal/fault"
)

// ErrAborted is what followers of an aborted blob read.
var ErrAborted = errors.New("the blob's transfer was given up")

// A Writer is a blob in the making: Write or WriteAt any number of times, then Commit or Abort.
// Others may follow the bytes meanwhile:
//
//	w, err := store.Create(ctx, digest, size)
//	defer w.Abort()                // no-op after Commit
//	go apply(w.Follow(ctx))        // sees bytes as they come; EOF only once the digest has been verified
//	io.Copy(w, body)               // on a broken connection: fetch again from w.Size() and copy on
//	desc, err := w.Commit()
//
// A follower that acts on bytes before EOF acts on unverified bytes: it must be ready to undo.
// Several goroutines may call WriteAt for different ranges; everything is hashed, and shown to followers, in order all the same.
type Writer struct {
	store *Store
	want  brig.Digest // "": any
	limit int64       // -1: any
	file  *os.File
	part  *ledger // of a partial download; nil: what is given up is removed

	hash hash.Hash // of the one goroutine that has set hashing

	mu      sync.Mutex
	path    string        // where the bytes are: in tmp or parts, then in place
	have    spans         // what is in the file
	size    int64         // the bytes from the first on that are hashed: what followers see
	hashing bool          // someone hashes on from size
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

// Write appends p to what is there from the first byte on. See WriteAt.
func (w *Writer) Write(p []byte) (int, error) { return w.WriteAt(p, w.Size()) }

// WriteAt writes p at an offset in bytes. Bytes beyond the announced size are refused with Invalid and end the blob, as a failed write to
// disk does.
func (w *Writer) WriteAt(p []byte, off int64) (int, error) {
	if w.ended() {
		return 0, os.ErrClosed
	}
	if w.limit >= 0 && off+int64(len(p)) > w.limit {
		err := errs.New(errs.Invalid, "blob %s: more than the announced %d bytes came", w.want, w.limit)
		w.fail(err)
		return 0, err
	}
	n, err := w.file.WriteAt(p, off)
	w.mu.Lock()
	w.have = w.have.add(off, off+int64(n))
	if err == nil {
		err = w.part.note(w.have)
	}
	from := w.size
	mine := !w.hashing && off <= from && from < off+int64(n)
	if mine {
		w.hashing = true
	}
	w.mu.Unlock()
	if err == nil && mine {
		err = w.hashOn(context.Background(), p[from-off:n])
	}
	if err != nil {
		w.fail(err)
	}
	return n, err
}

// hashOn hashes p, the bytes from size on, and then what of the file follows it. The caller has set hashing.
func (w *Writer) hashOn(ctx context.Context, p []byte) (err error) {
	var buf []byte
	for {
		w.hash.Write(p)
		w.mu.Lock()
		w.size += int64(len(p))
		w.wake()
		from, left := w.size, w.have.prefix()-w.size
		if left <= 0 || err != nil || ctx.Err() != nil {
			w.hashing = false
			w.mu.Unlock()
			return errors.Join(err, ctx.Err())
		}
		w.mu.Unlock()
		if buf == nil {
			buf = make([]byte, 256<<10)
		}
		var n int
		n, err = w.file.ReadAt(buf[:min(left, int64(len(buf)))], from)
		p = buf[:n]
	}
}

// Size returns how many bytes from the first on have been written and hashed.
func (w *Writer) Size() int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.size
}

// Have returns how many bytes have been written, wherever.
func (w *Writer) Have() int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.have.total()
}

// Missing lists the ranges that have not been written, each of at most length bytes, in order. The blob's size must have been announced.
func (w *Writer) Missing(length int64) (ranges [][2]int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.have.gaps(w.limit, length)
}

// Commit verifies size and digest, lets followers read to EOF, and puts the blob in place; a sync of the store's directory makes it
// durable. No Write may be under way. On error nothing is kept, and followers that have not read all get the error.
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
		w.remove()
		return brig.Descriptor{}, errs.Wrap(err, "store blob %s", got)
	}
	return brig.Descriptor{Digest: got, Size: w.size}, nil
}

// Abort gives the blob up: followers get ErrAborted, and its bytes are removed, or stay for the next Resume. After Commit or Abort it
// does nothing.
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

// place renames the file.
func (w *Writer) place(d brig.Digest) error {
	if err := w.file.Close(); err != nil {
		return err
	}
	fault.Point("blob.whole")
	to := filepath.Join(w.store.sums, d.Hex())
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := os.Rename(w.path, to); err != nil {
		return err
	}
	fault.Point("blob.placed")
	w.path = to
	w.part.end(true)
	fault.Point("blob.alone")
	return nil
}

func (w *Writer) ended() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.done
}

// fail ends the blob with err, unless it has ended already. Its bytes are removed but where they are a partial download that was given up.
func (w *Writer) fail(err error) {
	w.mu.Lock()
	if w.done {
		w.mu.Unlock()
		return
	}
	keep := w.part != nil && !errs.Is(err, errs.Invalid) && w.have.total() >= keepFrom
	w.mu.Unlock()
	w.finish(err)
	w.file.Close()
	if keep {
		w.part.end(false)
		return
	}
	w.remove()
}

func (w *Writer) remove() {
	os.Remove(w.file.Name())
	w.part.end(true)
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
