package build

import (
	"archive/tar"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/brigd/brig/internal/errs"
	"github.com/brigd/brig/internal/tarfs"
)

// unpack extracts a source that is an archive, compressed or not, into the directory at the destination. done is false if it is none.
func (s *stage) unpack(ctx context.Context, c copying, src copySource, d drop) (done bool, err error) {
	fd, err := unix.Open(filepath.Join(src.from.dir, filepath.FromSlash(src.rel)), unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return false, errs.Wrap(err, "open %s", src.rel)
	}
	f := os.NewFile(uintptr(fd), src.rel)
	defer f.Close()
	if fi, err := f.Stat(); err != nil || !fi.Mode().IsRegular() {
		return false, err
	}
	if !s.isArchive(ctx, f) {
		return false, nil
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return true, err
	}
	r, err := s.c.Archives.Decompress(ctx, f, "")
	if err != nil {
		return true, err
	}
	defer r.Close()
	to, err := resolve(d.root, d.dest)
	if err != nil {
		return true, err
	}
	list, err := drop{root: d.root}.missing(to)
	if err == nil {
		err = writeDirs(d.root, list)
	}
	if err != nil {
		return true, err
	}
	if c.chown == "" && d.chmod == nil {
		_, err = tarfs.Extract(ctx, d.root, r, tarfs.Options{Sub: to})
		return true, err
	}
	err = (&place{}).stream(func(w io.Writer) error { return rewrite(w, r, d.edit) }, func(r io.Reader) error {
		_, err := tarfs.Extract(ctx, d.root, r, tarfs.Options{Sub: to})
		return err
	})
	return true, err
}

// isArchive reports whether a file begins as a tar does, compressed or not.
func (s *stage) isArchive(ctx context.Context, f io.Reader) bool {
	r, err := s.c.Archives.Decompress(ctx, f, "")
	if err != nil {
		return false
	}
	defer r.Close()
	_, err = tar.NewReader(r).Next()
	return err == nil || errors.Is(err, tar.ErrInsecurePath)
}

// rewrite copies an archive with its entries' headers edited.
func rewrite(w io.Writer, r io.Reader, edit func(*tar.Header)) error {
	tr, tw := tar.NewReader(r), tar.NewWriter(w)
	for {
		h, err := tr.Next()
		if err == io.EOF {
			return tw.Close()
		}
		if err != nil && !errors.Is(err, tar.ErrInsecurePath) {
			return err
		}
		h.Format = tar.FormatPAX
		edit(h)
		if err := tw.WriteHeader(h); err != nil {
			return err
		}
		if _, err := io.Copy(tw, tr); err != nil {
			return err
		}
	}
}
