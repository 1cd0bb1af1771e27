package tarfs

import (
	"archive/tar"
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// Mount is a file system, or a file, that lies over a path of the tree that an archive is extracted to. The package doesn't mount
// it: what an entry's name leads to is looked up in it instead.
type Mount struct {
	At       string // its path in the tree, clean, relative to the root and without symlinks
	Dir      string // the directory that shows there, whose path is the caller's; "" for a file, which no entry can replace
	ReadOnly bool
	Err      error // why nothing can be reached there; nil: it can
}

func (m *Mount) readOnly() bool { return m != nil && m.ReadOnly }

// refuses is what the kernel says to a change of a read-only mount.
func (m *Mount) refuses(what, at string) error {
	return fmt.Errorf("%s /%s: %w", what, at, unix.EROFS)
}

// busy is what the kernel says to the removal of a mount's place.
func busy(at string) error { return fmt.Errorf("unlinkat /%s: %w", at, unix.EBUSY) }

// over returns the mount that lies right at a real path.
func (d *dirs) over(at string) *Mount {
	for i := len(d.mounts) - 1; i >= 0; i-- {
		if d.mounts[i].At == at {
			return &d.mounts[i]
		}
	}
	return nil
}

// under returns the mount that a real path lies in.
func (d *dirs) under(at string) (in *Mount) {
	for i := range d.mounts {
		m := &d.mounts[i]
		if m.At != "." && at != m.At && !strings.HasPrefix(at, m.At+"/") {
			continue
		}
		if in == nil || in.At == "." || m.At != "." && len(m.At) >= len(in.At) {
			in = m
		}
	}
	return in
}

// holdsMounts reports whether mounts lie beneath a real path.
func (d *dirs) holdsMounts(at string) bool {
	for i := range d.mounts {
		if strings.HasPrefix(d.mounts[i].At, at+"/") {
			return true
		}
	}
	return false
}

// open opens the directory at in the directory parent, or what is mounted over it. Errors are openDir's, or a mount's own.
func (d *dirs) open(parent int, at string) (int, error) {
	m := d.over(at)
	if m == nil {
		_, base := split(at)
		return openDir(parent, base)
	}
	return m.open()
}

func (m *Mount) open() (int, error) {
	switch {
	case m.Err != nil:
		return -1, m.Err
	case m.Dir == "":
		return -1, invalid("%s: a parent directory is not a directory", m.At)
	}
	fd, err := openRoot(m.Dir)
	if pe := new(os.PathError); errors.As(err, &pe) {
		err = fmt.Errorf("open what is mounted at /%s: %w", m.At, pe.Err) // without the host's path
	}
	return fd, err
}

// mounted does what is special about an entry base of parent where there are mounts: one at a mount's own place, which only a
// directory can have, and one in a read-only mount. done: there is nothing more to do for it.
func (x *extractor) mounted(parent *dir, base string, h *tar.Header) (done bool, err error) {
	at := join(parent.path, base)
	m := x.dirs.over(at)
	switch {
	case m == nil && parent.mount.readOnly():
		return false, parent.mount.refuses(change(h), at)
	case m == nil:
		return false, nil
	case m.Err != nil:
		return false, m.Err
	}
	isDir := h.Typeflag == tar.TypeDir
	switch {
	case x.o.NoOverwriteDirNonDir && isDir != (m.Dir != ""):
		return false, overwrites(at, base, m.Dir != "")
	case !isDir || m.Dir == "":
		return false, busy(at)
	case m.ReadOnly:
		return false, m.refuses("lchown", at)
	}
	fd, err := m.open()
	if err != nil {
		return false, err
	}
	return true, x.dirAttrs(x.dirs.keep(fd, at), h, true)
}

// change is the call that fails first for an entry in a read-only place.
func change(h *tar.Header) string {
	switch h.Typeflag {
	case tar.TypeDir:
		return "mkdir"
	case tar.TypeLink:
		return "link"
	case tar.TypeSymlink:
		return "symlink"
	case tar.TypeChar, tar.TypeBlock, tar.TypeFifo:
		return "mknod"
	}
	return "open"
}
