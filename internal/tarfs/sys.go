package tarfs

import (
	"errors"
	"io"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// info is the part of stat(2) that the package uses, with the same types on every system.
type info struct {
	mode       uint32 // with the S_IFMT bits
	uid, gid   uint32
	size       int64
	dev, ino   uint64
	nlink      uint64
	rdev       uint64
	mtime      unix.Timespec
	atime      unix.Timespec
	fsBlocks   int64 // units of 512 bytes
	sparseHint bool  // fewer blocks than its size needs
}

func (i *info) kind() uint32     { return i.mode & unix.S_IFMT }
func (i *info) isDir() bool      { return i.kind() == unix.S_IFDIR }
func (i *info) isLink() bool     { return i.kind() == unix.S_IFLNK }
func (i *info) isWhiteout() bool { return i.kind() == unix.S_IFCHR && i.rdev == 0 }

func newInfo(st *unix.Stat_t) info {
	return info{
		mode: uint32(st.Mode), uid: st.Uid, gid: st.Gid, size: st.Size, dev: uint64(st.Dev), ino: uint64(st.Ino),
		nlink: uint64(st.Nlink), rdev: uint64(st.Rdev), mtime: st.Mtim, atime: st.Atim, fsBlocks: int64(st.Blocks),
		sparseHint: int64(st.Blocks)*512 < st.Size,
	}
}

func lstat(fd int, name string) (info, error) {
	var st unix.Stat_t
	if err := retry(func() error { return unix.Fstatat(fd, name, &st, unix.AT_SYMLINK_NOFOLLOW) }); err != nil {
		return info{}, err
	}
	return newInfo(&st), nil
}

func fstat(fd int) (info, error) {
	var st unix.Stat_t
	if err := retry(func() error { return unix.Fstat(fd, &st) }); err != nil {
		return info{}, err
	}
	return newInfo(&st), nil
}

// retry repeats f while a signal interrupts it.
func retry(f func() error) error {
	for {
		if err := f(); err != unix.EINTR {
			return err
		}
	}
}

func openat(fd int, name string, flags int, mode uint32) (int, error) {
	for {
		n, err := unix.Openat(fd, name, flags|unix.O_CLOEXEC|unix.O_NOFOLLOW, mode)
		if err != unix.EINTR {
			return n, err
		}
	}
}

// writeAll writes p at the descriptor's position, all of it.
func writeAll(fd int, p []byte) error {
	for len(p) > 0 {
		n, err := unix.Write(fd, p)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return err
		}
		p = p[n:]
	}
	return nil
}

// closeFile closes fd. After EINTR the descriptor is gone all the same (close(2)), and nothing was lost.
func closeFile(fd int) error {
	if err := unix.Close(fd); err != unix.EINTR {
		return err
	}
	return nil
}

// openDir opens the directory name in fd; what is not a directory gives an error for which notDir is true.
func openDir(fd int, name string) (int, error) {
	return openat(fd, name, unix.O_RDONLY|unix.O_DIRECTORY, 0)
}

// openRoot opens a directory by its path, which the caller vouches for: its symlinks are followed.
func openRoot(dir string) (int, error) {
	for {
		fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != unix.EINTR {
			if err != nil {
				return -1, &os.PathError{Op: "open", Path: dir, Err: err}
			}
			return fd, nil
		}
	}
}

// notDir reports whether openat with O_DIRECTORY and O_NOFOLLOW met a symlink (Linux: ELOOP or ENOTDIR, FreeBSD: EMLINK) or a file.
func notDir(err error) bool { return err == unix.ELOOP || err == unix.ENOTDIR || err == unix.EMLINK }

func readlink(fd int, name string) (string, error) {
	for n := 256; ; n *= 2 {
		b := make([]byte, n)
		got, err := unix.Readlinkat(fd, name, b)
		if err != nil {
			return "", err
		}
		if got < n {
			return string(b[:got]), nil
		}
	}
}

// names lists a directory, sorted; fd keeps its own position.
func names(fd int) ([]string, error) {
	d, err := openDir(fd, ".")
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(d), "directory")
	defer f.Close()
	list, err := f.Readdirnames(-1)
	if err != nil && err != io.EOF {
		return nil, err
	}
	slices.Sort(list)
	return list, nil
}

// removeAt removes name in fd, a directory with all that is in it. Nothing there is no error.
func removeAt(fd int, name string) error {
	err := unix.Unlinkat(fd, name, 0)
	if err == nil || err == unix.ENOENT {
		return nil
	}
	if err != unix.EISDIR && err != unix.EPERM { // Linux and POSIX (FreeBSD) for a directory
		return err
	}
	sub, derr := openDir(fd, name)
	if derr != nil {
		return err
	}
	defer unix.Close(sub)
	list, err := names(sub)
	if err != nil {
		return err
	}
	for _, n := range list {
		if err := removeAt(sub, n); err != nil {
			return err
		}
	}
	return unix.Unlinkat(fd, name, unix.AT_REMOVEDIR)
}

// node is a file by its directory and name, and by a descriptor of its own where it can have one (files and directories; else -1).
type node struct {
	dir  int
	name string
	fd   int
}

// unkept reports whether an attribute could not be set because the system, the file system or the kind of file has no room for it.
func unkept(err error) bool {
	return errors.Is(err, unix.ENOTSUP) || errors.Is(err, unix.EPERM) || errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, errNoXattr)
}

// private reports whether an attribute is the host's own business: overlayfs's marks, which an archive could forge, and
// labels that only this host's policy gives a meaning.
func private(name string) bool {
	for _, p := range []string{"trusted.overlay.", "user.overlay.", "security.selinux", "security.ima", "security.evm", "security.SMACK"} {
		if strings.HasPrefix(name, p) {
			return true
		}
	}
	return false
}

// xattrs reads all attributes that an archive or a copy shall have; a file system without attributes has none.
func xattrs(n node) (map[string]string, error) {
	list, err := listXattr(n)
	if err != nil {
		if unkept(err) {
			return nil, nil
		}
		return nil, err
	}
	var m map[string]string
	for _, name := range list {
		if name == "" || private(name) {
			continue
		}
		v, err := getXattr(n, name)
		if err != nil {
			continue // gone meanwhile, or unreadable on this file system
		}
		if m == nil {
			m = map[string]string{}
		}
		m[name] = v
	}
	return m, nil
}
