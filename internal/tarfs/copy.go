package tarfs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// Copy copies the contents and attributes of the directory src to dst, which must exist; names in dst must not be in src. It keeps
// owners, modes, times, attributes, hard links, holes and special files (but sockets), and shares blocks where the file system can.
func Copy(ctx context.Context, dst, src string) error {
	s, err := openRoot(src)
	if err != nil {
		return err
	}
	defer unix.Close(s)
	d, err := openRoot(dst)
	if err != nil {
		return err
	}
	defer unix.Close(d)
	c := copier{ctx: ctx, top: d, links: map[inode]string{}}
	if err := c.tree(d, s, ""); err != nil {
		return fmt.Errorf("copy %s to %s: %w", src, dst, err)
	}
	return nil
}

// copyAttrs gives dst the owner, mode and attributes of src, whose info is st.
func copyAttrs(dst, src node, st *info) error {
	var err error
	if dst.fd >= 0 {
		err = unix.Fchown(dst.fd, int(st.uid), int(st.gid))
	} else {
		err = unix.Fchownat(dst.dir, dst.name, int(st.uid), int(st.gid), unix.AT_SYMLINK_NOFOLLOW)
	}
	if err != nil {
		return err
	}
	if dst.fd >= 0 {
		err = unix.Fchmod(dst.fd, st.mode&0o7777)
	} else if !st.isLink() {
		err = chmodat(dst.dir, dst.name, st.mode&0o7777)
	}
	if err != nil {
		return err
	}
	attrs, err := xattrs(src)
	if err != nil {
		return err
	}
	for name, v := range attrs {
		if err := setXattr(dst, name, v); err != nil && !unkept(err) {
			return err
		}
	}
	return nil
}

// copier copies trees; ctx may be nil for a single file.
type copier struct {
	ctx   context.Context
	top   int // root of the copy
	links map[inode]string
	// Sharing blocks is not tried again once the file system has refused it.
	noClone bool
}

// tree copies the contents and the attributes of directory src to dst; rel is its path.
func (c *copier) tree(dst, src int, rel string) error {
	if err := c.ctx.Err(); err != nil {
		return err
	}
	st, err := fstat(src)
	if err != nil {
		return err
	}
	list, err := names(src)
	if err != nil {
		return err
	}
	for _, n := range list {
		at := n
		if rel != "" {
			at = rel + "/" + n
		}
		if err := c.file(dst, src, n, at); err != nil {
			return fmt.Errorf("%s: %w", at, err)
		}
	}
	if err := copyAttrs(node{fd: dst}, node{fd: src}, &st); err != nil {
		return err
	}
	return unix.UtimesNanoAt(dst, ".", []unix.Timespec{st.atime, st.mtime}, unix.AT_SYMLINK_NOFOLLOW)
}

// file copies name from directory src to dst, whatever it is; at is its path in the tree.
func (c *copier) file(dst, src int, name, at string) error {
	st, err := lstat(src, name)
	if err != nil {
		return err
	}
	if st.isDir() {
		return c.dir(dst, src, name, at)
	}
	if st.nlink > 1 {
		key := inode{st.dev, st.ino}
		if first, ok := c.links[key]; ok {
			return c.link(dst, name, first)
		}
		c.links[key] = at
	}
	d, s := node{dst, name, -1}, node{src, name, -1}
	switch st.kind() {
	case unix.S_IFSOCK:
		return nil
	case unix.S_IFREG:
		return c.regular(dst, src, name)
	case unix.S_IFLNK:
		var target string
		if target, err = readlink(src, name); err == nil {
			err = unix.Symlinkat(target, dst, name)
		}
	default:
		err = mknodat(dst, name, st.kind()|0o600, unix.Major(st.rdev), unix.Minor(st.rdev))
	}
	if err == nil {
		err = copyAttrs(d, s, &st)
	}
	if err != nil {
		return err
	}
	return unix.UtimesNanoAt(dst, name, []unix.Timespec{st.atime, st.mtime}, unix.AT_SYMLINK_NOFOLLOW)
}

// link makes name in dst a further link to the file at first, a path of the copy.
func (c *copier) link(dst int, name, first string) error {
	up, base := split(first)
	fd, err := descend(c.top, up)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.Linkat(fd, base, dst, name, 0)
}

func (c *copier) dir(dst, src int, name, at string) error {
	s, err := openDir(src, name)
	if err != nil {
		return err
	}
	defer unix.Close(s)
	if err := unix.Mkdirat(dst, name, 0o700); err != nil {
		return err
	}
	d, err := openDir(dst, name)
	if err != nil {
		return err
	}
	defer unix.Close(d)
	return c.tree(d, s, at)
}

func (c *copier) regular(dst, src int, name string) error {
	sfd, err := openat(src, name, unix.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	s := os.NewFile(uintptr(sfd), name)
	defer s.Close()
	st, err := fstat(sfd)
	if err != nil {
		return err
	}
	dfd, err := openat(dst, name, unix.O_CREAT|unix.O_EXCL|unix.O_RDWR, 0o600) // as createFile does
	if err != nil {
		return err
	}
	d := os.NewFile(uintptr(dfd), name)
	defer d.Close()
	if err := c.content(d, s, &st); err != nil {
		return err
	}
	if err := copyAttrs(node{dst, name, dfd}, node{src, name, sfd}, &st); err != nil {
		return err
	}
	if err := unix.UtimesNanoAt(dst, name, []unix.Timespec{st.atime, st.mtime}, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	return d.Close()
}

func (c *copier) content(d, s *os.File, st *info) error {
	if st.size == 0 {
		return nil
	}
	if !c.noClone {
		if reflink(d, s) == nil {
			return nil
		}
		c.noClone = true
	}
	if !st.sparseHint {
		_, err := io.Copy(d, s)
		return err
	}
	if err := d.Truncate(st.size); err != nil {
		return err
	}
	return copyData(d, s)
}

// copyData copies the parts of s that hold data (lseek(2), SEEK_DATA and SEEK_HOLE).
func copyData(d, s *os.File) error {
	for end := int64(0); ; {
		start, err := s.Seek(end, seekData)
		if errors.Is(err, unix.ENXIO) {
			return nil // only a hole is left
		}
		if err != nil {
			return err
		}
		if end, err = s.Seek(start, seekHole); err != nil {
			return err
		}
		if _, err = s.Seek(start, io.SeekStart); err != nil {
			return err
		}
		if _, err = d.Seek(start, io.SeekStart); err != nil {
			return err
		}
		if _, err = io.CopyN(d, s, end-start); err != nil && err != io.EOF {
			return err
		}
	}
}

// CopyAttrs gives the directory dst the owner, mode, attributes and time of the directory src.
func CopyAttrs(dst, src string) error {
	s, err := openRoot(src)
	if err != nil {
		return err
	}
	defer unix.Close(s)
	d, err := openRoot(dst)
	if err != nil {
		return err
	}
	defer unix.Close(d)
	st, err := fstat(s)
	if err == nil {
		err = copyAttrs(node{fd: d}, node{fd: s}, &st)
	}
	if err == nil {
		err = utimes(d, ".", st.mtime)
	}
	if err != nil {
		return fmt.Errorf("copy attributes of %s to %s: %w", src, dst, err)
	}
	return nil
}
