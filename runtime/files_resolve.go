package runtime

import (
	"bufio"
	"bytes"
	"compress/bzip2"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/brigd/brig/internal/errs"
)

// maxSymlinks bounds the links followed for one path, as the kernel does.
const maxSymlinks = 40

// place is a file system, or a file, that a container sees at one path.
type place struct {
	at     string // clean absolute path in the container
	host   string // on the host; "" if it has no place there (tmpfs)
	rw     bool
	volume bool // a mount of the request's, not the root file system
}

// spot is where a container's path lies on the host.
type spot struct {
	virtual string // clean path in the container, symlinks resolved
	place   place
	base    string // directory on the host that contains it
	rel     string // clean path beneath base without symlinks, "." for base itself
	exists  bool
	info    fs.FileInfo // of the file itself, not of what it points to
}

// path joins base and rel. Only for trees that nothing changes meanwhile.
func (s *spot) path() string { return filepath.Join(s.base, s.rel) }

// open opens the file for reading, never leaving base.
func (s *spot) open() (*os.File, error) {
	r, err := os.OpenRoot(s.base)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return r.Open(s.rel)
}

// under reports whether p is dir or beneath it.
func under(p, dir string) bool {
	return dir == "/" || p == dir || strings.HasPrefix(p, dir+"/")
}

// locate finds the deepest place that holds the clean path p; later ones lie over earlier ones.
func locate(places []place, p string) spot {
	var best place
	for _, pl := range places {
		if under(p, pl.at) && len(pl.at) >= len(best.at) {
			best = pl
		}
	}
	rel := strings.TrimPrefix(strings.TrimPrefix(p, best.at), "/")
	s := spot{virtual: p, place: best, base: best.host, rel: path.Join(".", rel)}
	if st, err := os.Stat(best.host); err == nil && !st.IsDir() && rel == "" { // a file mounted over a file
		s.base, s.rel = filepath.Dir(best.host), filepath.Base(best.host)
	}
	return s
}

// unreachable says why nothing is to be had from p.
func unreachable(p string) error {
	return errs.New(errs.NotImplemented, "%s lies in a tmpfs, which only the container's own processes can reach", p)
}

// look fills in what is there. Every access goes through os.Root: a container that swaps directories for links meanwhile can't
// lead it out of base.
func (s *spot) look() (link string, err error) {
	if s.base == "" {
		return "", unreachable(s.virtual)
	}
	r, err := os.OpenRoot(s.base)
	if err != nil {
		return "", err
	}
	defer r.Close()
	if s.info, err = r.Lstat(s.rel); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return "", nil
		}
		return "", err
	}
	s.exists = true
	if s.info.Mode()&fs.ModeSymlink != 0 {
		return r.Readlink(s.rel)
	}
	return "", nil
}

// resolve walks p as the kernel would in a chroot into the container. With follow a link at the end is followed too. The last
// component need not exist; an earlier one that doesn't gives fs.ErrNotExist.
func resolve(places []place, p string, follow bool) (spot, error) {
	todo := strings.Split(path.Clean("/"+p), "/")[1:]
	s := locate(places, "/")
	if _, err := s.look(); err != nil {
		return s, err
	}
	links := 0
	for len(todo) > 0 {
		name := todo[0]
		todo = todo[1:]
		if name == "" || name == "." {
			continue
		}
		at := path.Join(s.virtual, name) // also resolves ..
		if at != "/" && !s.exists {
			return s, &fs.PathError{Op: "open", Path: s.virtual, Err: fs.ErrNotExist}
		}
		if s.info != nil && !s.info.IsDir() {
			return s, errs.New(errs.Invalid, "%s: %w", s.virtual, syscall.ENOTDIR)
		}
		next := locate(places, at)
		link, err := next.look()
		if err != nil {
			return next, err
		}
		if link == "" || (len(todo) == 0 && !follow) {
			s = next
			continue
		}
		if links++; links > maxSymlinks {
			return next, errs.New(errs.Invalid, "%s: %w", p, syscall.ELOOP)
		}
		from := "/"
		if !path.IsAbs(link) {
			from = s.virtual
		}
		todo = append(strings.Split(link, "/"), todo...)
		s = locate(places, from)
		if _, err := s.look(); err != nil {
			return s, err
		}
	}
	if strings.HasSuffix(p, "/") && s.exists && !s.info.IsDir() {
		return s, errs.New(errs.Invalid, "%s: %w", p, syscall.ENOTDIR)
	}
	return s, nil
}

// decompress recognises gzip, zstd and bzip2 by their first bytes.
func decompress(r io.Reader) (io.ReadCloser, error) {
	b := bufio.NewReader(r)
	head, err := b.Peek(6)
	if err != nil && err != io.EOF {
		return nil, errs.Wrap(err, "read archive")
	}
	switch {
	case bytes.HasPrefix(head, []byte{0x1f, 0x8b}):
		z, err := gzip.NewReader(b)
		return z, errs.As(errs.Invalid, err)
	case bytes.HasPrefix(head, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		z, err := zstd.NewReader(b, zstd.WithDecoderConcurrency(1))
		if err != nil {
			return nil, errs.As(errs.Invalid, err)
		}
		return z.IOReadCloser(), nil
	case bytes.HasPrefix(head, []byte("BZh")):
		return io.NopCloser(bzip2.NewReader(b)), nil
	case bytes.HasPrefix(head, []byte("\xfd7zXZ\x00")):
		return nil, errs.New(errs.NotImplemented, "brig does not read xz archives here; send it uncompressed, or as gzip or zstd")
	}
	return io.NopCloser(b), nil
}
