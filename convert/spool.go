package convert

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"hash"
	"io"
	"os"
	"path"
	"path/filepath"
	"strconv"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
)

const (
	// ownFile is the size in bytes from which an entry is spooled to a file of its own, which can then become a blob without a copy.
	ownFile = 64 << 10
	// copyBuffer is the size in bytes of what is read, hashed and written at once.
	copyBuffer = 1 << 20
)

// archive is a tar whose entries were spooled to files.
type archive struct {
	dir     string           // of the files; this archive's own
	small   *os.File         // the entries that have no file of their own, one after another
	want    []brig.Platform  // of an image that is there for several, the best first
	entries map[string]entry // by cleaned path without a leading slash
}

type entry struct {
	file         string // its own; "" if it is in small
	offset, size int64
	digest       brig.Digest
	link         string // cleaned path that the entry stands for; "" if it is a file
}

// spoolTar reads a tar to its end. The bytes cross once: they are hashed and written as they come.
func spoolTar(ctx context.Context, r io.Reader, spool string) (_ *archive, err error) {
	a := &archive{entries: map[string]entry{}}
	if a.dir, err = os.MkdirTemp(spool, "archive-"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			a.close()
		}
	}()
	if a.small, err = os.OpenFile(filepath.Join(a.dir, "small"), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600); err != nil {
		return nil, err
	}
	in := &noted{r: contextReader{ctx, r}}
	s := &spooler{archive: a, tar: tar.NewReader(in), hash: sha256.New(), buf: make([]byte, copyBuffer)}
	if err := s.all(); err != nil {
		if in.err != nil {
			return nil, errs.Wrap(in.err, "read archive")
		}
		return nil, err
	}
	// What follows the tar's end is padding; a decompressor finds there whether it was all.
	if _, err := io.CopyBuffer(io.Discard, in, s.buf); err != nil {
		return nil, errs.Wrap(err, "read archive")
	}
	return a, nil
}

// noted remembers its reader's error, to tell it from one of the tar's form.
type noted struct {
	r   io.Reader
	err error // not io.EOF
}

// Read implements io.Reader.
func (s *noted) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	if err != nil && err != io.EOF {
		s.err = err
	}
	return n, err
}

// spooler is the state of spoolTar.
type spooler struct {
	*archive
	tar   *tar.Reader
	hash  hash.Hash
	buf   []byte
	files int
	at    int64 // the end of small
}

func (s *spooler) all() error {
	for n := 0; ; n++ {
		h, err := s.tar.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return errs.New(errs.Invalid, "read archive: %w", err)
		}
		if n == maxEntries {
			return errs.New(errs.Invalid, "read archive: more than %d entries", maxEntries)
		}
		name := cleanName(h.Name)
		switch h.Typeflag {
		case tar.TypeReg:
			if isSparse(h) {
				return errs.New(errs.Invalid, "read archive: %s is a sparse entry, which archives of images don't have", h.Name)
			}
			if s.entries[name], err = s.file(h.Size); err != nil {
				return err
			}
		case tar.TypeSymlink: // old archives have one layer.tar for several images
			s.entries[name] = entry{link: cleanName(path.Join(path.Dir("/"+name), h.Linkname))}
		case tar.TypeLink:
			s.entries[name] = entry{link: cleanName(h.Linkname)}
		}
	}
}

// file spools the bytes of the entry that the tar stands at.
func (s *spooler) file(size int64) (entry, error) {
	e := entry{offset: s.at, size: size}
	to := s.small
	if size >= ownFile {
		e.file, e.offset = filepath.Join(s.dir, strconv.Itoa(s.files)), 0
		s.files++
		f, err := os.OpenFile(e.file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return e, err
		}
		defer f.Close()
		to = f
	}
	if err := s.copy(to); err != nil {
		return e, err
	}
	if e.file == "" {
		s.at += size
	}
	e.digest = brig.Digest("sha256:" + hex.EncodeToString(s.hash.Sum(nil)))
	return e, nil
}

// copy writes and hashes what is left of the tar's entry.
func (s *spooler) copy(to *os.File) error {
	s.hash.Reset()
	for {
		n, err := s.tar.Read(s.buf)
		s.hash.Write(s.buf[:n])
		if _, werr := to.Write(s.buf[:n]); werr != nil {
			return errs.Wrap(werr, "spool archive")
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return errs.New(errs.Invalid, "read archive: %w", err)
		}
	}
}

// close removes the archive's files.
func (a *archive) close() error {
	if a.small != nil {
		a.small.Close() // its bytes are of no use any more
	}
	return os.RemoveAll(a.dir)
}

// find returns the entry of a name, through links.
func (a *archive) find(name string) (entry, error) {
	at := cleanName(name)
	for range maxLinks {
		e, ok := a.entries[at]
		if !ok {
			return e, errs.New(errs.Invalid, "invalid archive: it has no %s", name)
		}
		if e.link == "" {
			return e, nil
		}
		at = e.link
	}
	return entry{}, errs.New(errs.Invalid, "invalid archive: %s is a loop of links", name)
}

// open reads an entry's bytes.
func (a *archive) open(e entry) (io.ReadCloser, error) {
	if e.file != "" {
		return os.Open(e.file)
	}
	return io.NopCloser(io.NewSectionReader(a.small, e.offset, e.size)), nil
}
