package tarfs

import (
	"archive/tar"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// The names of layer.md in the OCI image spec, and aufs's own bookkeeping, which says nothing to others.
const (
	whPrefix = ".wh."
	whMeta   = ".wh..wh."
	whOpaque = ".wh..wh..opq"
)

// opaqueXattr marks an overlayfs directory that hides the lower ones of its name.
const opaqueXattr = "trusted.overlay.opaque"

// whiteout handles an entry that hides something; done says that the entry was one.
func (x *extractor) whiteout(name string, h *tar.Header) (done bool, err error) {
	up, base := split(name)
	for _, c := range strings.Split(up, "/") {
		if strings.HasPrefix(c, whMeta) {
			return true, nil
		}
		if strings.HasPrefix(c, whPrefix) {
			return true, invalid("archive entry %q lies in a whiteout", h.Name)
		}
	}
	if x.o.Sub != "" {
		up = path.Join(x.o.Sub, up)
	}
	switch {
	case base == whOpaque:
		return true, x.opaqueEntry(up)
	case strings.HasPrefix(base, whMeta):
		return true, nil
	case strings.HasPrefix(base, whPrefix):
		base = base[len(whPrefix):]
		if base == "" || base == "." || base == ".." {
			return true, invalid("archive entry %q is a whiteout of nothing", h.Name)
		}
		return true, x.hide(up, base)
	case h.Typeflag == tar.TypeChar && h.Devmajor == 0 && h.Devminor == 0:
		return true, x.hide(up, base) // overlayfs's own form, from a layer that was made of an upper directory
	}
	return false, nil
}

// hide makes up/base of the lower layers disappear; what this layer brought stays.
func (x *extractor) hide(up, base string) error {
	parent, err := x.dir(up, false)
	if err != nil || parent == nil {
		return err
	}
	at := join(parent.path, base)
	x.settle(at)
	parent.plain = false
	if x.o.Whiteouts == Apply {
		x.settleAll()
		_, err := x.clear(parent.fd, base, at)
		return err
	}
	_, inLower, err := x.lowerHas(at)
	if err != nil || !inLower {
		return err
	}
	st, err := lstat(parent.fd, base)
	switch {
	case err == unix.ENOENT:
		return x.fail("make whiteout", at, mknodat(parent.fd, base, unix.S_IFCHR, 0, 0))
	case err != nil:
		return x.fail("stat", at, err)
	case !st.isDir():
		return nil
	}
	k, err := x.dir(at, false)
	if err != nil || k == nil {
		return err
	}
	return x.setOpaque(k)
}

func (x *extractor) lowerHas(at string) (st info, ok bool, err error) {
	low, ok, err := x.lowerAt(at)
	if err != nil || !ok {
		return info{}, false, err
	}
	defer unix.Close(low.dir)
	st, err = lstat(low.dir, low.name)
	return st, err == nil, x.fail("stat in the lower layers", at, err)
}

// opaqueEntry handles .wh..wh..opq in the directory up.
func (x *extractor) opaqueEntry(up string) error {
	k, err := x.dir(up, false)
	if err != nil || k == nil {
		return err
	}
	if x.o.Whiteouts == Overlay {
		if k.path == "." {
			x.opaque["."] = true
			return nil
		}
		st, ok, err := x.lowerHas(k.path)
		if err != nil || !ok || !st.isDir() {
			return err
		}
		return x.setOpaque(k)
	}
	x.settleAll()
	return x.clearChildren(k.fd, k.path)
}

// clear removes name in fd as far as this layer did not bring it; gone says that nothing is left.
func (x *extractor) clear(fd int, name, at string) (gone bool, err error) {
	st, err := lstat(fd, name)
	if err == unix.ENOENT {
		return true, nil
	}
	if err != nil {
		return false, x.fail("stat", at, err)
	}
	if !st.isDir() {
		if x.made.has(at) {
			return false, nil
		}
		x.dirs.stale = true
		return true, x.fail("remove", at, removeAt(fd, name))
	}
	sub, err := openDir(fd, name)
	if err != nil {
		return false, x.fail("open directory", at, err)
	}
	defer unix.Close(sub)
	if err := x.clearChildren(sub, at); err != nil {
		return false, err
	}
	if x.made.has(at) {
		return false, nil
	}
	x.dirs.stale = true
	switch err := unix.Unlinkat(fd, name, unix.AT_REMOVEDIR); err {
	case nil:
		x.forgetTime(at)
		return true, nil
	case unix.ENOTEMPTY, unix.EEXIST:
		return false, nil
	default:
		return false, x.fail("remove directory", at, err)
	}
}

func (x *extractor) clearChildren(fd int, at string) error {
	list, err := names(fd)
	if err != nil {
		return x.fail("list", at, err)
	}
	for _, n := range list {
		if _, err := x.clear(fd, n, join(at, n)); err != nil {
			return err
		}
	}
	return nil
}

// setOpaque makes k hide the lower layers' directory of its name, where there are lower layers; otherwise it does nothing.
func (x *extractor) setOpaque(k *dir) error {
	if x.o.Whiteouts != Overlay || x.o.Lower == nil || x.opaque[k.path] {
		return nil
	}
	if err := x.hold(k.path); err != nil {
		return err
	}
	x.opaque[k.path] = true
	x.settleAll()
	if err := setXattr(node{fd: k.fd}, opaqueXattr, "y"); err != nil {
		return x.fail("make opaque", k.path, err)
	}
	return x.dropWhiteouts(k.fd, k.path)
}

// dropWhiteouts removes whiteouts beneath an opaque directory: there is nothing for them to hide, and overlayfs would list them.
func (x *extractor) dropWhiteouts(fd int, at string) error {
	list, err := names(fd)
	if err != nil {
		return x.fail("list", at, err)
	}
	for _, n := range list {
		st, err := lstat(fd, n)
		switch {
		case err != nil:
			return x.fail("stat", join(at, n), err)
		case st.isWhiteout():
			err = unix.Unlinkat(fd, n, 0)
		case st.isDir():
			var sub int
			if sub, err = openDir(fd, n); err == nil {
				err = x.dropWhiteouts(sub, join(at, n))
				unix.Close(sub)
			}
		}
		if err != nil {
			return x.fail("remove whiteout", join(at, n), err)
		}
	}
	return nil
}

// hideRoot carries out an opaque root: overlayfs heeds no mark there, so each lower name that this layer has not gets a whiteout.
func (x *extractor) hideRoot() error {
	if x.o.Whiteouts != Overlay || !x.opaque["."] || x.o.Lower == nil {
		return nil
	}
	delete(x.opaque, ".")
	if err := x.openLower(); err != nil {
		return err
	}
	list, err := names(x.lower)
	if err != nil {
		return x.fail("list the lower layers", ".", err)
	}
	for _, n := range list {
		x.dirs.trim()
		if err := x.hide(".", n); err != nil {
			return err
		}
	}
	return nil
}
