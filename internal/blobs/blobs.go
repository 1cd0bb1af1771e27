// Package blobs is a content store: each blob is a file <dir>/sha256/<hex> that holds exactly the bytes its name says.
//
// A blob appears whole or not at all: bytes go to <dir>/tmp, or to <dir>/parts if a download of them may be gone on with, are hashed as they
// come, and renamed into place. A blob is durable once its caller has synced the file system of <dir>; before that nothing durable may name it.
// What a crash leaves in tmp is removed by Open, so one directory must have one Store at a time (brigd's lock sees to that).
// All methods may be used from several goroutines. Errors: NotFound for a blob that isn't there, Invalid for a bad digest and
// for bytes that don't match their digest or size.
package blobs

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
)

// maxGet bounds what Get reads into memory, in bytes: configs and manifests are far smaller.
const maxGet = 16 << 20

// A Store is a directory of blobs.
type Store struct {
	dir, sums, tmp, parts string

	mu      sync.Mutex
	writing map[string]bool // parts that a Writer has open, by their digits
}

// An Entry is one blob that List found.
type Entry struct {
	Digest brig.Digest
	Size   int64 // bytes
}

// Open makes dir if it is missing and removes unfinished blobs.
func Open(dir string) (*Store, error) {
	s := &Store{dir: dir, sums: filepath.Join(dir, "sha256"), tmp: filepath.Join(dir, "tmp"), parts: filepath.Join(dir, "parts"), writing: map[string]bool{}}
	if err := os.RemoveAll(s.tmp); err != nil {
		return nil, err
	}
	for _, d := range []string{s.sums, s.tmp, s.parts} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// Dir is the directory that a caller syncs to make blobs durable.
func (s *Store) Dir() string { return s.dir }

// Put reads r to its end and keeps its bytes. want "" accepts any digest, size -1 any length (bytes); more bytes than size are not read.
// It returns what it stored; on error nothing is stored. It stops between reads when ctx ends.
func (s *Store) Put(ctx context.Context, r io.Reader, want brig.Digest, size int64) (brig.Descriptor, error) {
	w, err := s.Create(ctx, want, size)
	if err != nil {
		return brig.Descriptor{}, err
	}
	defer w.Abort()
	buf := make([]byte, 128<<10)
	for {
		if err := ctx.Err(); err != nil {
			return brig.Descriptor{}, err
		}
		n, rerr := r.Read(buf)
		if _, err := w.Write(buf[:n]); err != nil {
			return brig.Descriptor{}, err
		}
		if rerr == io.EOF {
			return w.Commit()
		}
		if rerr != nil {
			return brig.Descriptor{}, rerr
		}
	}
}

// PutBytes keeps b and returns its digest. It is a no-op for a blob that is there.
func (s *Store) PutBytes(ctx context.Context, b []byte) (brig.Digest, error) {
	d := brig.DigestOf(b)
	if s.Has(d) {
		return d, nil
	}
	w, err := s.Create(ctx, d, int64(len(b)))
	if err != nil {
		return "", err
	}
	defer w.Abort()
	if _, err := w.Write(b); err != nil {
		return "", err
	}
	_, err = w.Commit()
	return d, err
}

// Open returns a reader of the blob, which the caller closes, and its size in bytes. It is an io.ReaderAt and io.Seeker too.
// The bytes stay readable even if the blob is removed meanwhile.
func (s *Store) Open(d brig.Digest) (*os.File, int64, error) {
	path, err := s.path(d)
	if err != nil {
		return nil, 0, err
	}
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, 0, errs.New(errs.NotFound, "blob %s: not in the store", d)
	}
	if err != nil {
		return nil, 0, err
	}
	st, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, 0, err
	}
	return f, st.Size(), nil
}

// Get returns a small blob's bytes (a config or a manifest, at most 16 MiB), verified against its digest.
func (s *Store) Get(d brig.Digest) ([]byte, error) {
	f, size, err := s.Open(d)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if size > maxGet {
		return nil, errs.New(errs.Invalid, "blob %s: %d bytes are too many for a document", d, size)
	}
	b, err := io.ReadAll(f)
	if err != nil {
		return nil, errs.Wrap(err, "read blob %s", d)
	}
	if brig.DigestOf(b) != d {
		return nil, errs.New(errs.Internal, "blob %s: its bytes have changed on disk", d)
	}
	return b, nil
}

// Has reports whether the blob is there.
func (s *Store) Has(d brig.Digest) bool {
	path, err := s.path(d)
	if err != nil {
		return false
	}
	st, err := os.Lstat(path)
	return err == nil && st.Mode().IsRegular()
}

// Remove deletes a blob; one that is not there is removed already.
func (s *Store) Remove(d brig.Digest) error {
	path, err := s.path(d)
	if err != nil {
		return err
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// List returns all blobs, sorted by digest. Files with other names are not blobs and not listed.
func (s *Store) List() ([]Entry, error) {
	files, err := os.ReadDir(s.sums)
	if err != nil {
		return nil, err
	}
	var out []Entry
	for _, f := range files {
		d, err := brig.ParseDigest("sha256:" + f.Name())
		if err != nil {
			continue
		}
		st, err := f.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		out = append(out, Entry{d, st.Size()})
	}
	return out, nil
}

// Sweep takes away every blob that keep refuses, and returns how many. It goes on after a failure and joins the errors. A large one may be a
// layer of a pull that was killed before the image's record was made, so it becomes an unfinished download: DropPartials removes it in time.
// Blobs that were committed but that no record names yet would go too: the caller sees to it that there are none.
func (s *Store) Sweep(keep func(brig.Digest) bool) (removed int, err error) {
	entries, err := s.List()
	for _, e := range entries {
		if keep(e.Digest) {
			continue
		}
		if rerr := s.setAside(e); rerr != nil {
			err = errors.Join(err, rerr)
			continue
		}
		removed++
	}
	return removed, err
}

// path is where d's file is; a digest is checked here, so that it is one safe path component.
func (s *Store) path(d brig.Digest) (string, error) {
	if _, err := brig.ParseDigest(string(d)); err != nil {
		return "", err
	}
	return filepath.Join(s.sums, d.Hex()), nil
}
