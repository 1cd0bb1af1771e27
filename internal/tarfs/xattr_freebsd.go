package tarfs

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// FreeBSD's attributes (extattr(2)) have two namespaces. user is Linux's user. Into system, where the kernel keeps access control lists and
// brig's jails can't reach, nothing of an archive goes by its own name. Linux's other namespaces have no counterpart, but the capabilities
// of files are kept in a form of our own, for where the files may go to. The file systems: UFS and ZFS keep both, tmpfs of 13.2 none.

// errNoXattr is for attributes that this system has no room for. Symlinks and special files have none: extattr(2) reaches them by path
// only, which can't be kept beneath a directory, and Linux allows them no attributes of users either.
var errNoXattr = errors.New("no attributes for this kind of file")

const (
	capability = "security.capability"
	// sealed has the seal of the file, and then the value of capability.
	sealed = "system.brig.capability"
)

// seal is a hash of a regular file's owner and content. Linux takes a file's capabilities away when it is written to or gets another owner.
// FreeBSD doesn't, so a seal that no longer fits says that they are gone.
func seal(fd int) ([]byte, error) {
	st, err := fstat(fd)
	if err != nil {
		return nil, err
	}
	if st.kind() != unix.S_IFREG {
		return nil, errNoXattr
	}
	h := sha256.New()
	fmt.Fprintf(h, "%d:%d:%d:", st.uid, st.gid, st.size)
	if _, err := io.Copy(h, io.NewSectionReader(pread(fd), 0, st.size)); err != nil {
		return nil, err
	}
	return h.Sum(nil), nil
}

// pread reads from a descriptor and leaves its position alone.
type pread int

func (fd pread) ReadAt(p []byte, off int64) (int, error) {
	for done := 0; done < len(p); {
		n, err := unix.Pread(int(fd), p[done:], off+int64(done))
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return done, err
		case n == 0:
			return done, io.EOF
		}
		done += n
	}
	return len(p), nil
}

// isCapability reports whether Linux would take value (struct vfs_cap_data of linux/capability.h, revision 2, or 3 with a user's ID).
func isCapability(value string) bool {
	if len(value) < 4 {
		return false
	}
	revision := binary.LittleEndian.Uint32([]byte(value)) >> 24
	return revision == 2 && len(value) == 20 || revision == 3 && len(value) == 24
}

func setXattr(n node, name, value string) error {
	switch {
	case n.fd < 0:
		return errNoXattr
	case name == capability:
		if !isCapability(value) {
			return unix.EINVAL
		}
		s, err := seal(n.fd)
		if err != nil {
			return err
		}
		return unix.Fsetxattr(n.fd, sealed, append(s, value...), 0)
	case !strings.HasPrefix(name, "user."):
		return errNoXattr
	}
	err := unix.Fsetxattr(n.fd, name, []byte(value), 0)
	if err == unix.EINVAL && (strings.Contains(name, "/") || strings.HasPrefix(name, "user.freebsd:")) {
		return errNoXattr // ZFS keeps no attributes of such names
	}
	return err
}

func removeXattr(n node, name string) error {
	switch {
	case n.fd >= 0 && name == capability:
		return unix.Fremovexattr(n.fd, sealed)
	case n.fd >= 0 && strings.HasPrefix(name, "user."):
		return unix.Fremovexattr(n.fd, name)
	}
	return errNoXattr
}

func getXattr(n node, name string) (string, error) {
	switch {
	case n.fd >= 0 && name == capability:
		return getCapability(n.fd)
	case n.fd >= 0 && strings.HasPrefix(name, "user."):
		b, err := whole(func(b []byte) (int, error) { return unix.Fgetxattr(n.fd, name, b) })
		return string(b), err
	}
	return "", errNoXattr
}

func getCapability(fd int) (string, error) {
	b, err := whole(func(b []byte) (int, error) { return unix.Fgetxattr(fd, sealed, b) })
	if err != nil {
		return "", err
	}
	s, err := seal(fd)
	if err != nil {
		return "", err
	}
	value, fits := strings.CutPrefix(string(b), string(s))
	if !fits || !isCapability(value) {
		return "", unix.ENOATTR
	}
	return value, nil
}

func listXattr(n node) ([]string, error) {
	if n.fd < 0 {
		return nil, errNoXattr
	}
	list, err := listNamespace(n.fd, unix.EXTATTR_NAMESPACE_USER, "user.")
	if err != nil {
		return nil, err
	}
	system, err := listNamespace(n.fd, unix.EXTATTR_NAMESPACE_SYSTEM, "system.")
	switch {
	case err == nil && slices.Contains(system, sealed):
		list = append(list, capability)
	case err != nil && !unkept(err): // EPERM: only root may look
		return nil, err
	}
	return list, nil
}

// listNamespace lists a namespace's attributes, each with prefix. The kernel gives a byte with the length before each name.
func listNamespace(fd, namespace int, prefix string) (list []string, err error) {
	b, err := whole(func(b []byte) (int, error) { return unix.FlistxattrNS(fd, namespace, b) })
	for err == nil && len(b) > 0 {
		n := 1 + int(b[0])
		if n > len(b) {
			return nil, errors.New("list of attributes ends within a name")
		}
		list = append(list, prefix+string(b[1:n]))
		b = b[n:]
	}
	return list, err
}

// whole calls get with growing buffers until one isn't filled: what doesn't fit is cut off without an error.
func whole(get func([]byte) (int, error)) ([]byte, error) {
	for n := 256; ; n *= 4 {
		b := make([]byte, n)
		got, err := get(b)
		if err != nil {
			return nil, err
		}
		if got < n {
			return b[:got], nil
		}
	}
}
