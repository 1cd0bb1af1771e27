package tarfs

import (
	"archive/tar"
	"fmt"
	"maps"
	"math"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// schily is the prefix of PAX records that hold extended attributes (star(5)).
const schily = "SCHILY.xattr."

func timespec(h *tar.Header) unix.Timespec {
	ts, err := unix.TimeToTimespec(h.ModTime)
	if err != nil {
		return unix.Timespec{}
	}
	return ts
}

// utimes sets both times of name in fd and follows no symlink.
func utimes(fd int, name string, ts unix.Timespec) error {
	return unix.UtimesNanoAt(fd, name, []unix.Timespec{ts, ts}, unix.AT_SYMLINK_NOFOLLOW)
}

// attrs sets all attributes of a file that was just made. chown(2) clears set-id bits and capabilities, so it comes first.
func (x *extractor) attrs(n node, at string, h *tar.Header) error {
	if err := x.ownerModeXattr(n, at, h); err != nil {
		return err
	}
	return x.fail("set time of", at, utimes(n.dir, n.name, timespec(h)))
}

// ownerModeXattr is safe for concurrent use. One fstat(2), which changes nothing, often saves two calls that do.
func (x *extractor) ownerModeXattr(n node, at string, h *tar.Header) error {
	have := info{uid: math.MaxUint32, gid: math.MaxUint32, mode: math.MaxUint32}
	if n.fd >= 0 {
		var err error
		if have, err = fstat(n.fd); err != nil {
			return x.fail("stat", at, err)
		}
	}
	chowned, err := x.chown(n, h, &have)
	if err != nil {
		return x.fail("chown", at, err)
	}
	mode := uint32(h.Mode) & 0o7777
	switch {
	case h.Typeflag == tar.TypeSymlink:
	case n.fd < 0:
		err = chmodat(n.dir, n.name, mode)
	case have.mode&0o7777 != mode || (chowned && mode&0o6000 != 0):
		err = unix.Fchmod(n.fd, mode)
	}
	if err != nil {
		return x.fail("chmod", at, err)
	}
	return x.setXattrs(n, at, h)
}

func (x *extractor) setXattrs(n node, at string, h *tar.Header) error {
	if len(h.PAXRecords) == 0 {
		return nil
	}
	for _, key := range slices.Sorted(maps.Keys(h.PAXRecords)) {
		name, ok := strings.CutPrefix(key, schily)
		if !ok || name == "" || private(name) {
			continue
		}
		if err := setXattr(n, name, h.PAXRecords[key]); err != nil {
			if !unkept(err) {
				return x.fail("set attribute "+name+" of", at, err)
			}
			x.unkept.Add(1)
		}
	}
	return nil
}

// chown gives n its owner if have isn't it yet.
func (x *extractor) chown(n node, h *tar.Header, have *info) (done bool, err error) {
	uid, gid := h.Uid, h.Gid
	if x.o.Owner != nil {
		uid, gid = x.o.Owner.UID, x.o.Owner.GID
	}
	if (uid == -1 || uid == int(have.uid)) && (gid == -1 || gid == int(have.gid)) {
		return false, nil
	}
	if n.fd >= 0 {
		return true, unix.Fchown(n.fd, uid, gid)
	}
	return true, unix.Fchownat(n.dir, n.name, uid, gid, unix.AT_SYMLINK_NOFOLLOW)
}

// special makes symlinks, devices and fifos.
func (x *extractor) special(parent *dir, base string, h *tar.Header) error {
	at := join(parent.path, base)
	var kind uint32
	switch h.Typeflag {
	case tar.TypeSymlink:
		if h.Linkname == "" {
			return invalid("archive entry %q: a symbolic link to nothing", h.Name)
		}
	case tar.TypeChar:
		kind = unix.S_IFCHR
	case tar.TypeBlock:
		kind = unix.S_IFBLK
	case tar.TypeFifo:
		kind = unix.S_IFIFO
	default:
		return invalid("archive entry %q has the unknown type %q", h.Name, h.Typeflag)
	}
	if h.Devmajor < 0 || h.Devminor < 0 || h.Devmajor > 1<<32-1 || h.Devminor > 1<<32-1 {
		return invalid("archive entry %q: device %d:%d is out of range", h.Name, h.Devmajor, h.Devminor)
	}
	err := x.create(parent, base, false, func() error {
		if kind == 0 {
			return unix.Symlinkat(h.Linkname, parent.fd, base)
		}
		return mknodat(parent.fd, base, kind|0o600, uint32(h.Devmajor), uint32(h.Devminor))
	})
	if err != nil {
		return err
	}
	x.note(at)
	return x.attrs(node{parent.fd, base, -1}, at, h)
}

// hardlink links to an earlier file beneath the root; linkat(2) does not follow a symlink as target.
func (x *extractor) hardlink(parent *dir, base string, h *tar.Header) error {
	name, err := x.clean(h.Linkname)
	if err != nil {
		return invalid("hard link %q: its target %q leaves the root", h.Name, h.Linkname)
	}
	if name == "." {
		return invalid("hard link %q: its target is a directory", h.Name)
	}
	up, tbase := split(name)
	if x.o.Sub != "" {
		up = path.Join(x.o.Sub, up)
	}
	tdir, err := x.dir(up, false)
	if err != nil {
		return err
	}
	if tdir == nil {
		return invalid("hard link %q: no target %q", h.Name, h.Linkname)
	}
	target, at := join(tdir.path, tbase), join(parent.path, base)
	if tdir.mount != parent.mount || x.dirs.over(target) != nil {
		return fmt.Errorf("link /%s /%s: %w", target, at, unix.EXDEV)
	}
	x.settle(target)
	st, err := lstat(tdir.fd, tbase)
	if err == unix.ENOENT {
		st, err = x.copyUp(tdir, tbase)
	}
	if err == unix.ENOENT || (err == nil && (st.isDir() || (x.o.Whiteouts == Overlay && st.isWhiteout()))) {
		return invalid("hard link %q: its target %q is missing or a directory", h.Name, h.Linkname)
	}
	if err != nil {
		return x.fail("stat", target, err)
	}
	if target == at {
		return nil
	}
	if strings.HasPrefix(target, at+"/") {
		return invalid("hard link %q would replace a parent of its target %q", h.Name, h.Linkname)
	}
	err = x.create(parent, base, false, func() error { return unix.Linkat(tdir.fd, tbase, parent.fd, base, 0) })
	x.note(at)
	return err
}

// copyUp brings a file that a hard link names from the lower layers into this one. ENOENT: there is none.
func (x *extractor) copyUp(parent *dir, base string) (info, error) {
	low, ok, err := x.lowerAt(join(parent.path, base))
	if err != nil {
		return info{}, err
	}
	if !ok {
		return info{}, unix.ENOENT
	}
	defer unix.Close(low.dir)
	if st, err := lstat(low.dir, low.name); err != nil || st.isDir() {
		return info{}, unix.ENOENT
	}
	parent.plain = false
	c := copier{links: map[inode]string{}}
	if err := c.file(parent.fd, low.dir, base, base); err != nil {
		return info{}, err
	}
	return lstat(parent.fd, base)
}
